"""Ten thousand scenes, 12 sets of texts and 7 questions each: the same bytes whoever makes them."""

import hashlib
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from flows.generate import dask_cluster
from tests.bench.data import source

pytestmark = [pytest.mark.long, pytest.mark.timeout(2400)]
MEMORY = 1.5  # gigabytes

GENERATE = """
import json, resource, sys
from pathlib import Path
from components.generation import write_turns
from tests.bench.data import GENERATION

scenes, folder, workers, dask = sys.argv[1:]
Path(folder).mkdir()
write_turns(Path(scenes), GENERATION, seed=1, folder=Path(folder), finished=Path(folder + "-shards"),
            workers=int(workers), dask_scheduler=dask or None)
peak = max(resource.getrusage(who).ru_maxrss for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))
print(json.dumps(peak / 1e6))
"""


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    folder = tmp_path_factory.mktemp("scale")
    source(folder, 10_000)
    yield folder
    shutil.rmtree(folder)


def made(root: Path, repo: Path, workers: int, dask: str = "") -> tuple[dict[str, str], float, int]:
    """The digest of every file, the memory of the largest process in gigabytes, and the number of turns."""
    folder = root / f"turns-{workers}{'-dask' if dask else ''}"
    command = [sys.executable, "-c", GENERATE, str(root / "scenes"), str(folder), str(workers), dask]
    environment = {**os.environ, "PYTHONPATH": str(repo)}
    done = subprocess.run(command, env=environment, check=True, stdout=subprocess.PIPE, text=True)
    digests = {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in folder.iterdir()}
    turns = json.loads((folder / "summary.json").read_text())["turns"]
    shutil.rmtree(folder)
    return digests, json.loads(done.stdout), sum(sum(counts.values()) for counts in turns.values())


def test_the_same_bytes_by_one_process_by_two_and_by_dask(root: Path, repo: Path) -> None:
    alone, memory, turns = made(root, repo, 1)
    assert turns > 700_000
    assert len(alone) == 2 * 10 + 1
    assert memory < MEMORY
    print(f"{turns:,} turns; one process: {memory:.2f} GB at most")
    beside, memory, _ = made(root, repo, 2)
    assert beside == alone
    assert memory < MEMORY
    with dask_cluster(2, root / "logs") as address:
        spread, memory, _ = made(root, repo, 2, address)
    assert spread == alone
    assert memory < MEMORY
