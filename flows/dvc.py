"""DVC as the flow calls it: one command at a time in the run's workspace."""

import json
import os
import subprocess
import sys
from pathlib import Path

from components.errors import SettingsError, StageError, error_class
from components.params import load_params
from components.process import OWNER, run_owned
from components.settings import Settings
from components.stages import FAILURES, STARTED
from components.workspace import REMOTE, Run


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


def fetch_data(run: Run, settings: Settings) -> None:
    """Bring the imported data that the params name into the workspace, from the cache or else the remote.

    In a dirty checkout only what is absent: data that the user is working on stays as it is.
    """
    annotations = load_params(run.folder / "params.yaml").source.annotations
    pointers = sorted(run.folder.glob("data/*.dvc"))
    used = [path for path in pointers if annotations and path.with_suffix("").name in Path(annotations).parts]
    wanted = [path for path in used if not (run.dirty and path.with_suffix("").exists())]
    tracked = [str(path.relative_to(run.folder)) for path in wanted]
    remote = ["--remote", remote_of(settings)] if settings.dvc_remote else []
    if not tracked or call(run, "checkout", "--force", *tracked) == 0:
        return
    if call(run, "pull", "--force", *remote, *tracked):
        raise SettingsError(
            f"imported data is neither in the DVC cache nor in a remote: {', '.join(tracked)}",
            hint="set RCVIT_DVC_REMOTE to where it was pushed, or `rcvit data import` it again",
        )


def remote_of(settings: Settings) -> str:
    """The name of the remote that the settings give by name or URL."""
    given = settings.dvc_remote or ""
    return REMOTE if "://" in given else given


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
