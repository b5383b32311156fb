"""kill -9 of a whole run while it trains: nothing is left, and the next run goes on to the same weights."""

import subprocess
import time
from pathlib import Path

import psutil
import pytest

from tests.e2e.conftest import Checkout

Finished = tuple[Checkout, "subprocess.CompletedProcess[str]"]


def weights(checkout: Checkout) -> bytes:
    (path,) = checkout.root.glob(".rcvit/runs/*/outs/model/model.safetensors")
    return path.read_bytes()


def processes_of(root: Path) -> list[psutil.Process]:
    """Every process that works in a checkout, or names it on its command line."""
    found = []
    for process in psutil.process_iter():
        try:
            mentioned = str(root) in " ".join([process.cwd(), *process.cmdline()])
            # The Prefect server names no folder: its environment does.
            mentioned = mentioned or str(root) in process.environ().get("PREFECT_HOME", "")
        except psutil.Error:
            continue
        if mentioned and process.status() != psutil.STATUS_ZOMBIE:
            found.append(process)
    return found


def kill_in_training(checkout: Checkout, *, step: int, log: Path) -> None:
    """Start a run, `kill -9` it once a checkpoint of at least `step` is complete; nothing may be left."""
    run = checkout.start("run", log=log)
    pattern = ".rcvit/runs/*/.rcvit/checkpoints/*/checkpoint-*/COMPLETE"
    for _ in range(3000):
        steps = [int(path.parent.name.split("-")[1]) for path in checkout.root.glob(pattern)]
        if max(steps, default=0) >= step or run.poll() is not None:
            break
        time.sleep(0.05)
    assert run.poll() is None, log.read_text()
    names = [" ".join(process.cmdline()) for process in processes_of(checkout.root)]
    assert any("uvicorn" in name for name in names)
    assert any("components.training.rank" in name for name in names)
    run.kill()
    run.wait()
    _, alive = psutil.wait_procs(processes_of(checkout.root), timeout=20)
    assert alive == []
    assert not list(checkout.root.glob(".rcvit/runs/*/outs/model"))


def test_a_killed_run_leaves_nothing_and_resumes_to_the_same_weights(
    finished: Finished, copy_of_finished: Checkout, tmp_path: Path
) -> None:
    kill_in_training(copy_of_finished, step=2, log=tmp_path / "log")
    again = copy_of_finished.run("run")
    assert again.returncode == 0, again.stderr
    assert "resuming from checkpoint-" in again.stderr
    assert weights(copy_of_finished) == weights(finished[0])
    assert len(copy_of_finished.versions()) == 1


@pytest.mark.long
def test_killed_again_and_again_it_still_comes_to_the_same_weights(
    finished: Finished, copy_of_finished: Checkout, tmp_path: Path
) -> None:
    for number, step in enumerate((2, 6, 12, 18)):
        kill_in_training(copy_of_finished, step=step, log=tmp_path / f"log-{number}")
    again = copy_of_finished.run("run")
    assert again.returncode == 0, again.stderr
    assert weights(copy_of_finished) == weights(finished[0])
