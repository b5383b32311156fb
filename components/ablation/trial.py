"""One training of a variant, judged, in a process of its own: `python -m components.ablation.trial FILE`.

What is measured stays, so a killed one goes on from its last checkpoint.
"""

import json
import os
import shutil
import sys
from collections.abc import Iterable
from pathlib import Path

from components.ablation.choice import choose
from components.ablation.variants import VARIANTS, Data, Variant
from components.errors import RcvitError
from components.evaluation import evaluate_model
from components.params import Params
from components.process import die_with_owner
from components.rcmu import Split, Task
from components.rcmu.models import Frozen
from components.rcmu.tables import read_contexts, read_rows, read_scenes, read_turns, write_models
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


class Trial(Frozen):
    """What to train and to judge."""

    variant: str
    seed: int
    params: Params
    scenes: Path  # the run's scenes stage
    turns: Path  # the run's generate stage
    deepspeed_configs: Path  # as the trainer takes them
    folder: Path  # the result lies here
    log: Path | None  # where progress goes instead of standard error


def run_trial(trial: Trial) -> None:
    """Train and judge; result.json in the trial's folder is written last."""
    data = Data(
        scenes=tuple(read_scenes(trial.scenes)),
        contexts=tuple(read_contexts(trial.turns)),
        turns=tuple(read_turns(trial.turns)),
    )
    (variant,) = (variant for variant in VARIANTS if variant.name == trial.variant)
    own, params = trial.folder, trial.params
    changed = variant.change(data, trial.seed)
    files, model, evaluation = own / "data", own / "model", own / "evaluation"
    for path in (files, evaluation):
        shutil.rmtree(path, ignore_errors=True)
        path.mkdir(parents=True)
    write_models(files, "scenes", changed.scenes)
    write_models(files, "contexts", changed.contexts)
    write_models(files, "turns", changed.turns)
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
            seed=trial.seed,
            deepspeed_configs=trial.deepspeed_configs,
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
        seed=trial.seed,
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


def main() -> int:
    """Entry point of the process; its exit code is that of the error's class."""
    trial = Trial.model_validate_json(Path(sys.argv[1]).read_text(encoding="utf-8"))
    die_with_owner({})
    if trial.log:
        log = os.open(trial.log, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
        os.dup2(log, sys.stdout.fileno())
        os.dup2(log, sys.stderr.fileno())
    try:
        run_trial(trial)
    except RcvitError as error:
        print(f"\n{error}", file=sys.stderr, flush=True)
        return error.exit_code
    return 0


if __name__ == "__main__":
    sys.exit(main())
