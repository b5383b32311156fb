"""Shards: the same bytes whoever makes them, and nothing whole is made twice."""

import hashlib
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from components.errors import DataError, SettingsError
from components.generation import write_turns
from components.params import GenerationParams, SourceParams
from components.rcmu import Split, tables
from components.rcmu.tables import read_contexts, read_scenes, read_turns, shard_paths
from components.sources import write_scenes
from flows.generate import dask_cluster

SOURCE = SourceParams(
    kind="synthetic",
    annotations=None,
    skip_broken=False,
    scenes=24,
    benchmark_share=0.25,
    min_regions=2,
    max_regions=3,
    image_size=56,
    twins_share=0.5,
)
GENERATION = GenerationParams(context_sets=2, facts_per_text=2, questions_per_task=1)


@pytest.fixture(scope="module")
def scenes(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("scenes")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(tables, "SHARD_SCENES", 4)
        write_scenes(SOURCE, seed=3, workspace=folder, folder=folder)
    return folder


def made(folder: Path, scenes: Path, *, workers: int = 1, dask: str | None = None) -> dict[str, str]:
    """The digest of every file of the stage."""
    folder.mkdir(exist_ok=True)
    write_turns(
        scenes,
        GENERATION,
        seed=3,
        folder=folder,
        finished=finished_of(folder),
        workers=workers,
        dask_scheduler=dask,
    )
    return {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in folder.iterdir()}


def finished_of(folder: Path) -> Path:
    return folder.with_name(f"{folder.name}-shards")


@pytest.fixture(scope="module")
def alone(scenes: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("alone") / "turns"
    made(folder, scenes)
    return folder


def digests(folder: Path) -> dict[str, str]:
    return {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in folder.iterdir()}


def test_shards_are_of_one_split_and_of_like_sizes(scenes: Path) -> None:
    sizes = {path.name: sum(1 for _ in tables.read_rows(path)) for path in shard_paths(scenes, "scenes")}
    assert sizes == {
        **{f"scenes-benchmark-{number:05d}.parquet": 3 for number in range(2)},
        **{f"scenes-train-{number:05d}.parquet": size for number, size in enumerate((4, 4, 3, 4, 3))},
    }
    for split in Split:
        assert {scene.split for scene in read_scenes(scenes, split)} == {split}


def test_a_shard_of_turns_is_about_the_scenes_of_that_number(scenes: Path, alone: Path) -> None:
    for path in shard_paths(scenes, "scenes"):
        own = {row["scene_id"] for row in tables.read_rows(path)}
        for kind in ("contexts", "turns"):
            other = alone / path.name.replace("scenes", kind)
            assert {row["scene_id"] for row in tables.read_rows(other)} == own
    contexts = {context.context_id for context in read_contexts(alone)}
    assert {turn.context_id for turn in read_turns(alone)} == contexts


def test_two_processes_make_the_same_bytes(scenes: Path, alone: Path, tmp_path: Path) -> None:
    assert made(tmp_path / "turns", scenes, workers=2) == digests(alone)
    assert not finished_of(tmp_path / "turns").exists()


def test_a_dask_cluster_makes_the_same_bytes(scenes: Path, alone: Path, tmp_path: Path) -> None:
    with dask_cluster(2, tmp_path / "logs") as address:
        assert made(tmp_path / "turns", scenes, dask=address) == digests(alone)
        said = "".join(path.read_text() for path in (tmp_path / "logs").glob("worker-*.log"))
    assert said.count("Starting established connection") == 2


def test_a_scheduler_that_does_not_answer_is_named(
    scenes: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("components.executor.DASK_LIMIT", 1)
    with pytest.raises(SettingsError, match=r"RCVIT_DASK_SCHEDULER tcp://127\.0\.0\.1:9 does not answer"):
        made(tmp_path / "turns", scenes, dask="tcp://127.0.0.1:9")


KILLED = """
import sys, time
from pathlib import Path
from components.generation import shard, write
from tests.generation.test_shards import made

whole = shard.write_shard

def slow(job):
    time.sleep(0.3)
    return whole(job)

write.write_shard = slow
made(Path(sys.argv[1]), Path(sys.argv[2]))
"""


def test_a_killed_stage_goes_on_behind_its_last_whole_shard(
    scenes: Path, alone: Path, tmp_path: Path, repo: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    turns = tmp_path / "turns"
    process = subprocess.Popen(
        [sys.executable, "-c", KILLED, str(turns), str(scenes)],
        env={**os.environ, "PYTHONPATH": str(repo)},
        stderr=subprocess.DEVNULL,
    )
    while len(kept := list(finished_of(turns).rglob("*.json"))) < 3:
        assert process.poll() is None
        time.sleep(0.02)
    process.send_signal(signal.SIGKILL)
    process.wait()
    assert not list(turns.iterdir())
    kept = list(finished_of(turns).rglob("*.json"))
    before = {
        path.name: path.stat().st_mtime_ns
        for mark in kept
        for path in mark.parent.glob(f"*-{mark.stem}.parquet")
    }
    assert len(before) == 2 * len(kept)
    assert made(turns, scenes) == digests(alone)
    assert f"going on: {len(kept)} of 7 shards are there" in capfd.readouterr().err
    assert {name: (turns / name).stat().st_mtime_ns for name in before} == before


def test_other_params_begin_anew(scenes: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    turns = tmp_path / "turns"
    stale = finished_of(turns) / "0123456789abcdef"
    stale.mkdir(parents=True)
    (stale / "train-00000.json").write_text("from other params")
    made(turns, scenes)
    assert "going on" not in capfd.readouterr().err


@pytest.mark.parametrize("workers", [1, 2])
def test_a_broken_row_is_named_whoever_meets_it(scenes: Path, tmp_path: Path, workers: int) -> None:
    broken = tmp_path / "scenes"
    broken.mkdir()
    for path in shard_paths(scenes, "scenes"):
        rows = list(tables.read_rows(path))
        if path.name == "scenes-train-00001.parquet":
            rows[2]["regions"][0]["label"] = "a<|b"
        tables.write_rows(broken / path.name, tables.SCENES, rows)
    with pytest.raises(DataError, match=r"(?s)scenes-train-00001\.parquet: row 3: .*must not hold"):
        made(tmp_path / "turns", broken, workers=workers)
    assert not list((tmp_path / "turns").iterdir())


def test_without_scenes_it_says_what_to_do(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"has no scenes-\*\.parquet") as caught:
        made(tmp_path / "turns", tmp_path)
    assert "dvc repro source" in caught.value.hint
