"""The retrain flow through its command: retries, kill, Ctrl-C, one version, and what Prefect keeps.

The stages are trivial; git, DVC, the Prefect server and MLflow are the real ones.
"""

import os
import shutil
import signal
import sqlite3
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import psutil
import pytest

from components.errors import LostRankError

# The tests tell one story of one checkout: each run goes on from the one before.
pytestmark = pytest.mark.long

STAGES = ("source", "generate", "validate", "train", "evaluate")
OUTS = {"source": "scenes", "generate": "turns", "validate": "validation", "train": "model"}
# Leaves the marks that our stages leave. A file of its name in $CONTROL makes it sleep, or fail once.
STAGE = """
import json, os, sys, time
from pathlib import Path
from components.process import die_with_owner
die_with_owner(os.environ)
name, out, control = sys.argv[1], Path(sys.argv[2]), Path(os.environ["CONTROL"])
for folder in ("started", "failures"):
    Path(".rcvit", folder).mkdir(parents=True, exist_ok=True)
Path(".rcvit/started", name).touch()
with (control / "log").open("a") as log:
    log.write(name + "\\n")
wish = control / name
if wish.exists():
    order = wish.read_text()
    wish.unlink()
    if order == "sleep":
        (control / "asleep").write_text(str(os.getpid()))
        time.sleep(600)
    failure = {"exit_code": int(order), "message": f"planted {order}", "hint": "none needed"}
    Path(".rcvit/failures", name + ".json").write_text(json.dumps(failure))
    sys.exit(int(order))
out.mkdir(parents=True, exist_ok=True)
estimate = {"value": 0.9, "low": 0.8, "high": 1.0, "n": 40}
metrics = {"accuracy": estimate, "citation_f1": estimate}
summary = {"confidence": 0.95, "images": 9, "turns": 40, "metrics": metrics}
(out / "metrics.json").write_text(json.dumps(summary))
(out / "model.safetensors").write_text("weights")
(out / "report.html").write_text("<html></html>")
check = {"name": "x", "severity": "error", "success": True, "checked": 1, "unexpected": 0, "meaning": "y"}
(out / "result.json").write_text(json.dumps({"expectations": [check]}))
"""


class Miniature:
    """A checkout whose five stages take no time."""

    def __init__(self, repo: Path, root: Path) -> None:
        self.root, self.control = root / "checkout", root / "control"
        self.control.mkdir()
        shutil.copytree(repo / "components", self.root / "components", ignore=shutil.ignore_patterns("*.pyc"))
        (self.root / "stage.py").write_text(STAGE)
        (self.root / "params.yaml").write_text((repo / "params.yaml").read_text())
        (self.root / ".gitignore").write_text("/.rcvit/\n/outs/\n__pycache__/\n")
        before, lines = "stage.py", ["stages:"]
        for name in STAGES:
            out = f"outs/{OUTS.get(name, 'evaluation')}"
            lines += [f"  {name}:", f"    cmd: python stage.py {name} {out}"]
            lines += [f"    deps: [{before}]", f"    outs: [{out}]"]
            before = out
        (self.root / "dvc.yaml").write_text("\n".join(lines))
        kept = {k: v for k, v in os.environ.items() if not k.startswith(("RCVIT_", "PREFECT_", "GIT_"))}
        # The flow under test is this repository's, wherever the environment's own install points.
        kept["PYTHONPATH"] = str(repo)
        self.environment = {**kept, "HOME": str(root), "CONTROL": str(self.control)}
        self._call("git", "init", "--quiet")
        self._call(sys.executable, "-m", "dvc", "init", "--quiet")
        self._call("git", "add", "--all")
        self._call("git", "-c", "user.name=t", "-c", "user.email=t@localhost", "commit", "--quiet", "-m", "x")

    def _call(self, *command: str) -> None:
        subprocess.run(command, cwd=self.root, env=self.environment, check=True, capture_output=True)

    def run(self) -> "subprocess.CompletedProcess[str]":
        command = [sys.executable, "-m", "flows.cli", "run"]
        return subprocess.run(
            command, cwd=self.root, env=self.environment, capture_output=True, text=True, timeout=200
        )

    def start(self, log: Path) -> "subprocess.Popen[bytes]":
        with log.open("wb") as out:
            return subprocess.Popen(
                [sys.executable, "-m", "flows.cli", "run"],
                cwd=self.root,
                env=self.environment,
                stdout=out,
                stderr=subprocess.STDOUT,
                start_new_session=True,
                # A test run in the background has Ctrl-C ignored, and a child would inherit that.
                preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler),
            )

    def times_run(self) -> dict[str, int]:
        ran = (self.control / "log").read_text().split()
        return {name: ran.count(name) for name in STAGES}

    def prefect(self, query: str) -> list[tuple[Any, ...]]:
        """Rows of Prefect's own database."""
        with sqlite3.connect(self.root / ".rcvit/prefect/prefect.db") as database:
            return database.execute(query).fetchall()

    def versions(self) -> dict[str, list[str]]:
        """Version number: aliases."""
        from mlflow import MlflowClient

        client = MlflowClient(tracking_uri=f"sqlite:///{self.root}/.rcvit/mlflow.db")
        found = client.search_model_versions("name = 'rc-qwen2-vl'")
        numbers = [str(version.version) for version in found]
        return {n: sorted(client.get_model_version("rc-qwen2-vl", n).aliases) for n in numbers}

    def interrupt_in(self, stage: str, log: Path, number: signal.Signals) -> tuple[int, list[psutil.Process]]:
        """Start a run, signal its process inside a stage; its exit code, and all it had started."""
        (self.control / stage).write_text("sleep")
        process = self.start(log)
        asleep = self.control / "asleep"
        while not (asleep.exists() and asleep.read_text()):
            assert process.poll() is None, log.read_text()
            time.sleep(0.1)
        started = psutil.Process(process.pid).children(recursive=True)
        started += [psutil.Process(int(asleep.read_text()))]
        asleep.unlink()
        names = [" ".join(child.cmdline()) for child in started]
        assert any("prefect.server" in name for name in names), names
        assert any("dvc repro" in name for name in names), names
        process.send_signal(number)
        return process.wait(timeout=60), started


@pytest.fixture(scope="module")
def miniature(repo: Path, tmp_path_factory: pytest.TempPathFactory) -> Miniature:
    return Miniature(repo, tmp_path_factory.mktemp("retrain"))


@pytest.fixture(scope="module")
def interrupted(miniature: Miniature) -> tuple[int, list[psutil.Process], str]:
    """Ctrl-C in the stage `generate`: the exit code, the processes it had started, what it said."""
    log = miniature.control / "interrupted.txt"
    code, started = miniature.interrupt_in("generate", log, signal.SIGINT)
    return code, started, log.read_text()


@pytest.fixture(scope="module")
def killed(miniature: Miniature, interrupted: object) -> list[psutil.Process]:
    """The same run again, killed with -9 in the stage `train`; the processes it had started."""
    code, started = miniature.interrupt_in("train", miniature.control / "killed.txt", signal.SIGKILL)
    assert code == -signal.SIGKILL
    return started


@pytest.fixture(scope="module")
def finished(miniature: Miniature, killed: list[psutil.Process]) -> "subprocess.CompletedProcess[str]":
    """The same run once more, at once, in which `train` first loses a rank.

    Before it, DVC's two files are cut as a kill while DVC writes them cuts them: DVC alone would refuse
    the workspace for ever.
    """
    (workspace,) = (miniature.root / ".rcvit/runs").iterdir()
    (workspace / ".dvc/tmp/rwlock").write_text("")
    lock = workspace / "dvc.lock"
    lock.write_text(lock.read_text()[:60])
    (miniature.control / "log").unlink()
    (miniature.control / "train").write_text(str(LostRankError.exit_code))
    result = miniature.run()
    assert result.returncode == 0, result.stdout + result.stderr
    return result


def test_ctrl_c_ends_everything_and_is_no_traceback(
    interrupted: tuple[int, list[psutil.Process], str],
) -> None:
    code, started, said = interrupted
    assert code == 130, said
    _, alive = psutil.wait_procs(started, timeout=20)
    assert alive == []
    assert "Traceback" not in said


def test_nothing_outlives_a_killed_run(killed: list[psutil.Process]) -> None:
    _, alive = psutil.wait_procs(killed, timeout=20)
    assert alive == []


def test_only_a_failure_that_a_retry_can_help_is_tried_again(
    finished: "subprocess.CompletedProcess[str]", miniature: Miniature
) -> None:
    # What had ended before the kill is not run again; train is, once.
    assert miniature.times_run() == {"source": 0, "generate": 0, "validate": 0, "train": 2, "evaluate": 1}
    assert "stage source skipped" in finished.stderr
    assert "stage train is tried once more" in finished.stderr
    assert "stage train ran" in finished.stderr
    assert "Traceback" not in finished.stdout + finished.stderr


def test_one_version_passes_the_gate_and_the_recipe_is_committed(
    finished: "subprocess.CompletedProcess[str]", miniature: Miniature
) -> None:
    assert miniature.versions() == {"1": ["candidate", "staging"]}
    assert "staging gate: passed" in finished.stdout
    (workspace,) = (miniature.root / ".rcvit/runs").iterdir()
    committed = ["git", "show", "--stat", "--format=%an", f"runs/{workspace.name}"]
    shown = subprocess.run(committed, cwd=miniature.root, capture_output=True, text=True, check=True).stdout
    assert shown.startswith("rcvit")
    assert "dvc.lock" in shown


def test_prefect_keeps_the_tables_and_no_run_that_never_ends(
    finished: "subprocess.CompletedProcess[str]", miniature: Miniature
) -> None:
    states = miniature.prefect("select name, state_type from flow_run order by created")
    (workspace,) = (miniature.root / ".rcvit/runs").iterdir()
    assert [name for name, _ in states] == [workspace.name] * 3
    assert "RUNNING" not in [state for _, state in states]
    assert [state for _, state in states[1:]] == ["CRASHED", "COMPLETED"]
    artifacts = dict(miniature.prefect("select key, type from artifact where key is not null"))
    assert artifacts == {
        "stages": "table",
        "metrics": "table",
        "summary": "markdown",
        "validation": "table",
        "data-docs": "markdown",
    }
    (data_docs,) = miniature.prefect("select data from artifact where key = 'data-docs'")[0]
    assert f"{workspace.as_uri()}/.rcvit/data_docs/index.html" in data_docs


def test_again_with_nothing_changed_is_all_skipped_and_starts_no_server(
    finished: "subprocess.CompletedProcess[str]", miniature: Miniature
) -> None:
    before, flow_runs = miniature.times_run(), miniature.prefect("select count(*) from flow_run")
    again = miniature.run()
    assert again.returncode == 0, again.stderr
    assert [f"stage {name} skipped" in again.stderr for name in STAGES] == [True] * len(STAGES)
    assert "Prefect server" not in again.stderr
    assert miniature.times_run() == before
    assert miniature.prefect("select count(*) from flow_run") == flow_runs
    assert list(miniature.versions()) == ["1"]
