"""DVC as the flow calls it: one command at a time in the run's workspace."""

import json
import os
import subprocess
import sys
from pathlib import Path

from components.errors import StageError, error_class
from components.process import OWNER, run_owned
from components.stages import FAILURES, STARTED
from components.workspace import Run


def repro(run: Run, stage: str) -> str:
    """Run one stage; "ran", or "skipped" when its inputs had not changed.

    Raises:
        RcvitError: of the class that the stage's own record names.
    """
    record, started = run.folder / FAILURES / f"{stage}.json", run.folder / STARTED / stage
    record.unlink(missing_ok=True)
    started.unlink(missing_ok=True)
    code = call(run, "repro", "--single-item", stage)
    if code == 0:
        return "ran" if started.exists() else "skipped"
    if record.exists():
        failure = json.loads(record.read_text(encoding="utf-8"))
        raise error_class(failure["exit_code"])(failure["message"], hint=failure["hint"])
    raise StageError(
        f"stage {stage} ended with code {code} and left no reason",
        hint=f"its output is above; try `dvc repro --single-item {stage}` in {run.folder}",
    )


def call(run: Run, *arguments: str) -> int:
    """`dvc ARGUMENTS` in the workspace; the exit code.

    Errors and the stages' own progress go to standard error, DVC's remarks to .rcvit/dvc.log.

    It runs in a session of its own and ends with this process; a stage that DVC leaves behind when it is
    killed ends by itself, because the environment names its owner.
    """
    log = run.folder / ".rcvit/dvc.log"
    log.parent.mkdir(exist_ok=True)
    with log.open("ab") as remarks:
        return run_owned(
            [sys.executable, "-m", "dvc", *arguments],
            cwd=run.folder,
            env=environment(run.folder),
            stdout=remarks,
            seconds=15.0,
        )


def unchanged(run: Run) -> bool:
    """Whether every stage has run and neither inputs nor outs have changed since.

    Imported data that no stage reads may be absent: one that is read is an input.
    """
    result = subprocess.run(
        [sys.executable, "-m", "dvc", "status", "--json"],
        cwd=run.folder,
        env=environment(run.folder),
        capture_output=True,
        text=True,
    )
    if result.returncode != 0:
        return False
    return all(name.endswith(".dvc") for name in json.loads(result.stdout or "{}"))


def environment(folder: Path) -> dict[str, str]:
    """The stages run with this Python and with the workspace's own code."""
    return {
        **os.environ,
        "PATH": os.pathsep.join([str(Path(sys.executable).parent), os.environ.get("PATH", "")]),
        "PYTHONPATH": str(folder),
        OWNER: str(os.getpid()),
    }
