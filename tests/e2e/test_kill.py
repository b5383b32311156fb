"""kill -9 of a whole run while it trains: nothing is left, and the next run goes on to the same weights."""

import subprocess
import time
from pathlib import Path

import psutil

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


def test_a_killed_run_leaves_nothing_and_resumes_to_the_same_weights(
    finished: Finished, copy_of_finished: Checkout, tmp_path: Path
) -> None:
    checkout = copy_of_finished
    log = tmp_path / "first.log"
    first = checkout.start("run", log=log)
    for _ in range(1200):
        complete = list(checkout.root.glob(".rcvit/runs/*/.rcvit/checkpoints/*/checkpoint-*/COMPLETE"))
        if complete or first.poll() is not None:
            break
        time.sleep(0.1)
    assert first.poll() is None, log.read_text()
    assert complete
    names = [" ".join(process.cmdline()) for process in processes_of(checkout.root)]
    assert any("uvicorn" in name for name in names)
    assert any("components.training.rank" in name for name in names)
    first.kill()
    first.wait()
    _, alive = psutil.wait_procs(processes_of(checkout.root), timeout=20)
    assert alive == []
    assert not list(checkout.root.glob(".rcvit/runs/*/outs/model"))
    again = checkout.run("run")
    assert again.returncode == 0, again.stderr
    assert "resuming from checkpoint-" in again.stderr
    assert weights(checkout) == weights(finished[0])
    assert len(checkout.versions()) == 1
