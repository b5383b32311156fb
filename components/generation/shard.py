"""One shard: the context sets and turns of up to a thousand scenes of one split."""

import random
from collections import Counter
from pathlib import Path

from components.generation.facts import KINDS, Kind, draw_facts, kinds_of, state_facts
from components.generation.filters import Filtered, Sieve
from components.generation.questions import Stranger, ask, strangers_of
from components.generation.rich_questions import ask_richly, rich_strangers_of
from components.generation.rich_texts import write_rich_context
from components.params import GenerationParams
from components.rcmu import ContextRegion, ContextSet, Scene, Split, Task
from components.rcmu.models import Frozen
from components.rcmu.tables import ShardWriter, read_scene_shard, split_of_shard


class Shard(Frozen):
    """What to make of one shard of scenes, and where to put it."""

    scenes: Path  # a Parquet file
    params: GenerationParams
    seed: int
    contexts: Path  # the Parquet files to write
    turns: Path
    counts: Path  # Counts as JSON, written last

    def is_whole(self) -> bool:
        """Whether all that `write_shard` makes is there."""
        return all(path.exists() for path in (self.contexts, self.turns, self.counts))


class Counts(Frozen):
    """What a shard holds."""

    split: Split
    scenes: int
    context_sets: int
    turns: dict[Task, int]
    filtered: dict[str, Filtered]  # what each filter left out
    left_out: dict[Task, int]  # turns that a filter left out
    visible_facts: dict[str, int]  # key -> regions that have it
    dropped: dict[str, Filtered]  # by reason; the templates write nothing that must be dropped


def write_shard(shard: Shard) -> Counts:
    """Write contexts and turns of one shard of scenes, then its counts.

    Other instances' facts, for the refusals by text, come from the scenes of the same shard (own choice): so
    a shard needs no other, and is the same bytes whoever makes it.

    Raises:
        ValueError: for a row that is no scene, naming file and row.
    """
    # The pictures are not needed here, and would fill the memory.
    scenes = [scene.model_copy(update={"image": b""}) for scene in read_scene_shard(shard.scenes)]
    sets = {
        scene.scene_id: [
            write_context(scene, number, shard.params, seed=shard.seed)
            for number in range(shard.params.context_sets)
        ]
        for scene in scenes
    }
    rich = shard.params.route == "rich"
    offered, questions = (rich_strangers_of, ask_richly) if rich else (strangers_of, ask)
    strangers: list[Stranger] = [
        stranger
        for scene in scenes
        for context in sets[scene.scene_id]
        for stranger in offered(scene, context)
    ]
    per_task: Counter[Task] = Counter()
    sieve = Sieve()
    with ShardWriter(shard.contexts, "contexts") as contexts, ShardWriter(shard.turns, "turns") as turns:
        for scene in scenes:
            for context in sets[scene.scene_id]:
                contexts.write(context)
                rng = stream(shard.seed, "turns", context.context_id)
                asked = questions(
                    scene, context, strangers, per_task=shard.params.questions_per_task, rng=rng
                )
                for turn in sieve.passing(scene, context, asked):
                    turns.write(turn)
                    per_task[turn.task] += 1
    counts = Counts(
        split=split_of_shard(shard.scenes),
        scenes=len(scenes),
        context_sets=sum(len(group) for group in sets.values()),
        turns=per_task,
        filtered=sieve.found,
        left_out=sieve.left_out,
        visible_facts=Counter(f.key for scene in scenes for region in scene.regions for f in region.facts),
        dropped={},
    )
    keep_counts(shard, counts)
    return counts


def keep_counts(shard: Shard, counts: Counts) -> None:
    """Write the counts of a shard whose other files are there: it is whole then."""
    unfinished = shard.counts.with_name(f".{shard.counts.name}")
    unfinished.write_text(counts.model_dump_json(), encoding="utf-8")
    unfinished.rename(shard.counts)


def write_context(scene: Scene, number: int, params: GenerationParams, *, seed: int) -> ContextSet:
    """Context set `number` of a scene: a text for each region, in random order (step 1).

    Texts about objects of one label state the same kinds of facts: else a question for a fact that one of
    them alone is told would be answered by the label, without a look at the box (own choice).
    """
    context_id = f"{scene.scene_id}/c{number}"
    rng = stream(seed, "texts", context_id)
    if params.route == "rich":
        return write_rich_context(scene, context_id, params.facts_per_text, rng=rng)
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


def stream(seed: int, purpose: str, name: str) -> random.Random:
    """The draws for one purpose of one scene or context set: no other has a say in them."""
    return random.Random(f"{seed}:{purpose}:{name}")  # noqa: S311 - makes data, not keys
