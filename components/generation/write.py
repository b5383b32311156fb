"""The generate stage: contexts.parquet, turns.parquet and summary.json from scenes."""

import json
import random
import sys
from collections import Counter, defaultdict
from pathlib import Path
from typing import Any

from tqdm import tqdm

from components.errors import DataError
from components.generation.facts import KINDS, Kind, draw_facts, kinds_of, state_facts
from components.generation.questions import VISUAL_QUESTIONS, Stranger, ask, strangers_of
from components.params import GenerationParams
from components.rcmu import UNANSWERABLE, ContextRegion, ContextSet, Scene, Split, Task, Turn
from components.rcmu.tables import CONTEXTS, TURNS, read_scenes, write_models


def write_turns(scenes_folder: Path, params: GenerationParams, *, seed: int, folder: Path) -> None:
    """Write contexts.parquet, turns.parquet and summary.json into `folder`, by the template route.

    Args:
        scenes_folder: holds scenes.parquet.
        params: how many texts and questions.
        seed: every scene and context set has its own stream of it.
        folder: an existing folder.

    Raises:
        DataError: when scenes.parquet is missing or a row of it is not a scene.
    """
    path = scenes_folder / "scenes.parquet"
    try:
        # The pictures are not needed here, and would fill the memory.
        scenes = [scene.model_copy(update={"image": b""}) for scene in read_scenes(path)]
    except (OSError, ValueError) as error:
        raise DataError(
            f"{path} cannot be read: {error}", hint="make it again with `dvc repro --force source`"
        ) from error
    contexts = {
        scene.scene_id: [
            write_context(scene, number, params, seed=seed) for number in range(params.context_sets)
        ]
        for scene in scenes
    }
    strangers: defaultdict[Split, list[Stranger]] = defaultdict(list)
    for scene in scenes:
        for context in contexts[scene.scene_id]:
            strangers[scene.split] += strangers_of(scene, context)
    turns: list[Turn] = []
    for scene in tqdm(scenes, desc="turns", unit="scene", mininterval=2):
        for context in contexts[scene.scene_id]:
            rng = _stream(seed, "turns", context.context_id)
            turns += ask(scene, context, strangers[scene.split], per_task=params.questions_per_task, rng=rng)
    write_models(
        folder / "contexts.parquet", CONTEXTS, (c for scene in scenes for c in contexts[scene.scene_id])
    )
    write_models(folder / "turns.parquet", TURNS, turns)
    summary = _summary(scenes, contexts, turns, params)
    text = json.dumps(summary, indent=1, sort_keys=True) + "\n"
    (folder / "summary.json").write_text(text, encoding="utf-8")
    wanting = sum(summary["wanting"].values())
    print(
        f"{len(turns)} turns about {len(scenes)} scenes; {wanting} asked for had no candidate",
        file=sys.stderr,
        flush=True,
    )


def write_context(scene: Scene, number: int, params: GenerationParams, *, seed: int) -> ContextSet:
    """Context set `number` of a scene: a text for each region, in random order (step 1).

    Texts about objects of one label state the same kinds of facts: else a question for a fact that one of
    them alone is told would be answered by the label, without a look at the box (own choice).
    """
    context_id = f"{scene.scene_id}/c{number}"
    rng = _stream(seed, "texts", context_id)
    order = rng.sample(range(len(scene.regions)), len(scene.regions))
    regions = []
    told: dict[str, tuple[Kind, ...]] = {}
    for region in order:
        label = scene.regions[region].label
        kinds = told.get(label, kinds_of(label))
        facts = draw_facts(kinds, params.facts_per_text, split=scene.split, rng=rng)
        told[label] = tuple(KINDS[fact.key] for fact in facts)
        text = state_facts(label, facts, split=scene.split, rng=rng)
        regions.append(ContextRegion(region=region, text=text, facts=facts))
    return ContextSet(
        context_id=context_id, scene_id=scene.scene_id, split=scene.split, regions=tuple(regions)
    )


def _stream(seed: int, purpose: str, name: str) -> random.Random:
    return random.Random(f"{seed}:{purpose}:{name}")  # noqa: S311 - makes data, not keys


def _summary(
    scenes: list[Scene],
    contexts: dict[str, list[ContextSet]],
    turns: list[Turn],
    params: GenerationParams,
) -> dict[str, Any]:
    per_task = Counter((turn.split, turn.task) for turn in turns)
    sets = Counter(context.split for group in contexts.values() for context in group)
    refusals = {split: sum(per_task[split, task] for task in UNANSWERABLE) for split in Split}
    totals = {split: sum(per_task[split, task] for task in Task) for split in Split}
    asked = {task: params.questions_per_task if task is not Task.RCID else 1 for task in Task}
    keys = Counter(fact.key for scene in scenes for region in scene.regions for fact in region.facts)
    return {
        "context_sets": {str(split): sets[split] for split in Split},
        "turns": {str(s): {str(task): per_task[s, task] for task in Task} for s in Split},
        "refusals_share": {str(s): round(refusals[s] / totals[s], 4) if totals[s] else 0.0 for s in Split},
        # Turns that a context set has no candidate for, such as a visual question without a visible fact.
        "wanting": {
            str(task): sets.total() * asked[task] - sum(per_task[s, task] for s in Split) for task in Task
        },
        "visible_facts_without_a_question": {
            key: count for key, count in keys.items() if key not in VISUAL_QUESTIONS
        },
    }
