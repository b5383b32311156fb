"""Every variant trained and judged, one after the other; what is measured stays, so a killed run goes on."""

import json
import shutil
import sys
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

from components.ablation.choice import choose
from components.ablation.variants import VARIANTS, Data, Variant
from components.evaluation import evaluate_model
from components.params import Params
from components.rcmu import Split, Task
from components.rcmu.models import Frozen
from components.rcmu.tables import (
    CONTEXTS,
    SCENES,
    TURNS,
    read_contexts,
    read_rows,
    read_scenes,
    read_turns,
    write_models,
)
from components.training import train_model

RESULT = "result.json"


class Answer(Frozen):
    """How one benchmark question fared in one training."""

    turn_id: str
    scene_id: str
    task: Task
    correct: bool  # by greedy decoding
    chosen: bool | None  # among its options, null where there are none
    chance: float | None  # of the variant's guesser
    options: int | None


class Result(Frozen):
    """One training of a variant, judged."""

    variant: str
    seed: int
    citation_f1: float
    answers: tuple[Answer, ...]


def measure(
    params: Params,
    *,
    scenes: Path,
    turns: Path,
    deepspeed_configs: Path,
    folder: Path,
    variants: Sequence[Variant] = VARIANTS,
    seeds: Mapping[str, int],
) -> list[Result]:
    """The results of `variants`, each with as many seeds as `seeds` says, else one.

    Args:
        params: of the run whose data it is; every training is its training, with seed, seed + 1, ...
        scenes: the run's scenes stage.
        turns: the run's generate stage.
        deepspeed_configs: as the trainer takes them.
        folder: results lie here by variant and seed; those that are there are taken as they are.
        variants: which to train and judge.
        seeds: variant -> number of trainings.
    """
    data = Data(
        scenes=tuple(read_scenes(scenes / "scenes.parquet")),
        contexts=tuple(read_contexts(turns / "contexts.parquet")),
        turns=tuple(read_turns(turns / "turns.parquet")),
    )
    todo = [(v, params.seed + i) for v in variants for i in range(seeds.get(v.name, 1))]
    results = []
    for number, (variant, seed) in enumerate(todo, start=1):
        own = folder / f"{variant.name}-{seed}"
        print(f"{number} of {len(todo)}: {variant.title}, seed {seed}", file=sys.stderr, flush=True)
        if not (own / RESULT).exists():
            _measure(variant, seed, data, params, own=own, deepspeed_configs=deepspeed_configs)
        results.append(Result.model_validate_json((own / RESULT).read_text(encoding="utf-8")))
    return results


def _measure(
    variant: Variant, seed: int, data: Data, params: Params, *, own: Path, deepspeed_configs: Path
) -> None:
    changed = variant.change(data, seed)
    files, model, evaluation = own / "data", own / "model", own / "evaluation"
    for path in (files, evaluation):
        shutil.rmtree(path, ignore_errors=True)
        path.mkdir(parents=True)
    write_models(files / "scenes.parquet", SCENES, changed.scenes)
    write_models(files / "contexts.parquet", CONTEXTS, changed.contexts)
    write_models(files / "turns.parquet", TURNS, changed.turns)
    training = params.training if variant.trains else params.training.model_copy(update={"steps": 0})
    if not (model / "config.json").exists():
        building = own / ".model"
        shutil.rmtree(building, ignore_errors=True)
        building.mkdir()
        train_model(
            scenes=files,
            turns=files,
            model=params.model,
            training=training,
            seed=seed,
            deepspeed_configs=deepspeed_configs,
            checkpoints=own / "checkpoints",
            curves=own / "curves",
            folder=building,
        )
        building.rename(model)
    evaluate_model(
        model=model, scenes=files, turns=files, params=params.evaluation, seed=params.seed, folder=evaluation
    )
    result = Result(
        variant=variant.name,
        seed=seed,
        citation_f1=_citation_f1(evaluation),
        answers=tuple(_answers(model, variant, changed, data, evaluation)),
    )
    unfinished = own / f".{RESULT}"
    unfinished.write_text(result.model_dump_json() + "\n", encoding="utf-8")
    unfinished.rename(own / RESULT)
    shutil.rmtree(own / "checkpoints", ignore_errors=True)
    shutil.rmtree(files)


def _citation_f1(evaluation: Path) -> float:
    metrics = json.loads((evaluation / "metrics.json").read_text(encoding="utf-8"))["metrics"]
    return float(metrics["citation_f1"]["value"])


def _answers(model: Path, variant: Variant, changed: Data, data: Data, evaluation: Path) -> Iterable[Answer]:
    scenes = {scene.scene_id: scene for scene in changed.scenes}
    contexts = {context.context_id: context for context in changed.contexts}
    turns = [turn for turn in changed.turns if turn.split is Split.BENCHMARK]
    linked = [turn for turn in turns if turn.task in (Task.V2C, Task.C2V)]
    choices = choose(model, scenes, contexts, linked)
    # Chance is a matter of the benchmark as it is.
    scenes = {scene.scene_id: scene for scene in data.scenes}
    contexts = {context.context_id: context for context in data.contexts}
    correct = {row["turn_id"]: row["correct"] for row in read_rows(evaluation / "predictions.parquet")}
    for turn in turns:
        choice = choices.get(turn.turn_id)
        yield Answer(
            turn_id=turn.turn_id,
            scene_id=turn.scene_id,
            task=turn.task,
            correct=correct[turn.turn_id],
            chosen=choice.right if choice else None,
            options=choice.options if choice else None,
            chance=variant.guesser.chance(turn, scenes[turn.scene_id], contexts[turn.context_id]),
        )
