"""`make bench`: what a run in which nothing changed costs, against DVC alone on the same workspace.

Both are timed in turn in one run and only their ratio is worth quoting. Needs a finished `make run`.
"""

import statistics
import subprocess
import sys
import time
from pathlib import Path

ROUNDS = 5


def seconds(command: list[str], folder: Path) -> float:
    start = time.perf_counter()
    subprocess.run(command, cwd=folder, check=True, capture_output=True)
    return time.perf_counter() - start


def main() -> None:
    checkout = Path.cwd()
    workspaces = sorted((checkout / ".rcvit/runs").glob("*/dvc.lock"))
    if not workspaces:
        sys.exit("no finished run under .rcvit/runs: `make run` first")
    rcvit = [sys.executable, "-m", "flows.cli", "run"]
    dvc = [sys.executable, "-m", "dvc", "status", "--quiet"]
    seconds(rcvit, checkout)  # the first one may have work to do
    ours, theirs = [], []
    for _ in range(ROUNDS):
        ours.append(seconds(rcvit, checkout))
        theirs.append(seconds(dvc, workspaces[-1].parent))
    ratio = statistics.median(ours) / statistics.median(theirs)
    print(f"rcvit run, nothing changed: median {statistics.median(ours):.1f} s of {ROUNDS}")
    print(f"dvc status alone:           median {statistics.median(theirs):.1f} s of {ROUNDS}")
    print(f"ratio {ratio:.2f}")


if __name__ == "__main__":
    main()
