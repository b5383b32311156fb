"""The DVC stages: `python -m components.stages NAME`, run in the root of a workspace.

A stage knows files and params, not who runs it. Its out appears whole or not at all; it ends with the
exit code of its error's class and leaves a failure record that the flow reads.
"""

import json
import os
import shutil
import sys
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from components.errors import BUG_EXIT_CODE, RcvitError, ValidationError
from components.params import load_params
from components.process import die_with_owner

FAILURES = Path(".rcvit/failures")  # <stage>.json: exit_code, message, hint
STARTED = Path(".rcvit/started")  # <stage>: DVC did run the stage, it was not skipped
DATA_DOCS = Path(".rcvit/data_docs")  # Great Expectations' pages; they hold clocks
SHARDS = Path(".rcvit/shards")  # whole shards of a generate stage that has not ended
CHECKPOINTS = Path(".rcvit/checkpoints")
CURVES = Path(".rcvit/curves")  # the trainer's measurements; they hold clocks

SCENES = Path("outs/scenes")
TURNS = Path("outs/turns")
VALIDATION = Path("outs/validation")
MODEL = Path("outs/model")
EVALUATION = Path("outs/evaluation")


@contextmanager
def whole_folder(out: Path) -> Iterator[Path]:
    """A fresh folder beside `out` that takes its place when the block ends without an error."""
    building = out.with_name(f".{out.name}.building")
    shutil.rmtree(building, ignore_errors=True)
    building.mkdir(parents=True)
    try:
        yield building
    except BaseException:
        shutil.rmtree(building, ignore_errors=True)
        raise
    shutil.rmtree(out, ignore_errors=True)
    building.rename(out)


def source(workspace: Path) -> None:
    """Scenes from the configured source."""
    from components.sources import write_scenes

    params = load_params(workspace / "params.yaml")
    with whole_folder(workspace / SCENES) as folder:
        write_scenes(params.source, seed=params.seed, workspace=workspace, folder=folder)


def generate(workspace: Path) -> None:
    """Context sets and turns from the scenes."""
    from components.generation import write_turns
    from components.llm import endpoint_of
    from components.settings import load_settings

    params = load_params(workspace / "params.yaml")
    settings = load_settings(workspace)
    endpoint = endpoint_of(settings) if params.generation.route == "llm" else None
    with whole_folder(workspace / TURNS) as folder:
        write_turns(
            workspace / SCENES,
            params.generation,
            seed=params.seed,
            folder=folder,
            finished=workspace / SHARDS,
            workers=settings.workers,
            dask_scheduler=settings.dask_scheduler,
            llm=params.llm,
            endpoint=endpoint,
        )


def validate(workspace: Path) -> None:
    """The Great Expectations suite; the result is kept also when it fails."""
    from components.validation import validate_data

    params = load_params(workspace / "params.yaml")
    with whole_folder(workspace / VALIDATION) as folder:
        result = validate_data(
            workspace / SCENES,
            workspace / TURNS,
            params.validation,
            folder=folder,
            data_docs=workspace / DATA_DOCS,
        )
    for warning in result.warnings:
        print(f"warning: {warning}", file=sys.stderr, flush=True)
    if not result.success:
        raise ValidationError(
            f"the data breaks {len(result.failures)} expectation(s):\n" + "\n".join(result.failures),
            hint=f"open {workspace / DATA_DOCS}/index.html, repair the data and run again",
        )


def train(workspace: Path) -> None:
    """RCVIT: the model folder from turns and a base."""
    from components.training import train_model

    params = load_params(workspace / "params.yaml")
    with whole_folder(workspace / MODEL) as folder:
        train_model(
            scenes=workspace / SCENES,
            turns=workspace / TURNS,
            model=params.model,
            training=params.training,
            seed=params.seed,
            deepspeed_configs=workspace / "infra/deepspeed",
            checkpoints=workspace / CHECKPOINTS,
            curves=workspace / CURVES,
            folder=folder,
        )


def evaluate(workspace: Path) -> None:
    """RC&P-Bench: predictions, metrics and the report."""
    from components.evaluation import evaluate_model

    params = load_params(workspace / "params.yaml")
    with whole_folder(workspace / EVALUATION) as folder:
        evaluate_model(
            model=workspace / MODEL,
            scenes=workspace / SCENES,
            turns=workspace / TURNS,
            params=params.evaluation,
            seed=params.seed,
            folder=folder,
        )


STAGES: dict[str, Callable[[Path], None]] = {
    "source": source,
    "generate": generate,
    "validate": validate,
    "train": train,
    "evaluate": evaluate,
}


def run_stage(name: str, workspace: Path) -> int:
    """Run one stage and return its exit code; an error is printed and recorded."""
    record = workspace / FAILURES / f"{name}.json"
    record.unlink(missing_ok=True)
    (workspace / STARTED).mkdir(parents=True, exist_ok=True)
    (workspace / STARTED / name).touch()
    try:
        STAGES[name](workspace)
    except RcvitError as error:
        print(f"\nstage {name}: {error}", file=sys.stderr, flush=True)
        code, message, hint = error.exit_code, error.message, error.hint
    except Exception as error:  # noqa: BLE001  the stage's outer boundary: a bug is recorded, not hidden
        traceback.print_exc()
        code, message = BUG_EXIT_CODE, f"{type(error).__name__}: {error}"
        hint = "this is a bug in rcvit: report it with the traceback above"
    else:
        return 0
    record.parent.mkdir(parents=True, exist_ok=True)
    failure = {"exit_code": code, "hint": hint, "message": message}
    record.write_text(json.dumps(failure, indent=1), encoding="utf-8")
    return code


def main() -> None:
    """Entry point of every command in dvc.yaml."""
    if len(sys.argv) != 2 or sys.argv[1] not in STAGES:
        sys.exit(f"usage: python -m components.stages {{{','.join(STAGES)}}}")
    die_with_owner(os.environ)
    sys.exit(run_stage(sys.argv[1], Path.cwd()))


if __name__ == "__main__":
    main()
