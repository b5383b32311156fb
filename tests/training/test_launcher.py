"""How a rank's end is told: killed while the model is written, or by an error of a class."""

import threading
import time
from collections.abc import Callable
from pathlib import Path

import psutil
import pytest
import torch

from components.errors import BugError, DataError, LostRankError, MemoryLimitError, PreemptedError, RcvitError
from components.params import ModelParams, TrainingParams, load_params
from components.rcmu import Split
from components.training import train_model
from components.training.rank import classed
from tests.training.conftest import SHAPE, scene, write_data
from tests.training.stage import Stage, alive


def kill_the_rank_that_exports(folder: Path, seen: list[int]) -> None:
    """`kill -9` as soon as the weights' file exists: the tokenizer and the checks come after it."""
    for _ in range(120_000):
        if (folder / "model.safetensors").exists():
            break
        time.sleep(0.001)
    for process in psutil.Process().children(recursive=True):
        command = process.cmdline()
        if "components.training.rank" in command and "torch.distributed.run" not in command:
            process.kill()
            seen.append(process.pid)


def test_a_rank_killed_during_the_export_is_a_lost_rank(repo: Path, tmp_path: Path) -> None:
    write_data(tmp_path, [scene("a", Split.TRAIN, 56)], ("Ada.",))
    model = ModelParams(base="scratch", revision=None, min_pixels=784, max_pixels=12544, scratch=SHAPE)
    once: TrainingParams = load_params(repo / "params.yaml").training.model_copy(
        update={"world_size": 1, "steps": 0}
    )
    folder, killed = tmp_path / "model", list[int]()
    folder.mkdir()
    killer = threading.Thread(target=kill_the_rank_that_exports, args=(folder, killed))
    killer.start()
    with pytest.raises(LostRankError, match="it was killed"):
        train_model(
            scenes=tmp_path, turns=tmp_path, model=model, training=once, seed=7,
            deepspeed_configs=repo / "infra/deepspeed", checkpoints=tmp_path / "checkpoints",
            curves=tmp_path / "curves", folder=folder,
        )  # fmt: skip
    killer.join()
    assert len(killed) == 1


@pytest.mark.parametrize("moment", ["start-up", "export"])
def test_asked_to_stop_while_no_step_is_under_way_it_is_preempted(
    stage: Callable[..., Stage], moment: str
) -> None:
    asked = stage(world_size=1, steps=0)
    process = asked.start()
    below: list[psutil.Process] = []
    while process.poll() is None:
        below = psutil.Process(process.pid).children(recursive=True)
        launched = any("torch.distributed.run" in child.cmdline() for child in below)
        if launched if moment == "start-up" else (asked.folder / "model.safetensors").exists():
            break
        time.sleep(0.01)
    time.sleep(0.2)  # until the handler of the launched process is set
    process.terminate()
    assert process.wait(timeout=120) == PreemptedError.exit_code, asked.log
    assert "run the same command again" in asked.log
    assert alive(below) == []


class _Broken(torch.utils.data.Dataset[int]):
    def __getitem__(self, number: int) -> int:
        raise DataError("the image of scene s1 does not decode", hint="run the validate stage")


def test_an_error_of_a_data_worker_keeps_its_class_and_its_cure() -> None:
    loader = torch.utils.data.DataLoader(_Broken(), sampler=[0], num_workers=1)
    with pytest.raises(DataError, match="scene s1") as caught:
        next(iter(loader))
    assert "run the validate stage" in caught.value.message


@pytest.mark.parametrize(
    ("error", "expected"),
    [
        (torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2 GiB"), MemoryLimitError),
        (RuntimeError("[enforce fail] DefaultCPUAllocator: can't allocate memory"), MemoryLimitError),
        (MemoryError(), MemoryLimitError),
        (torch.distributed.DistNetworkError("the client socket has failed to connect"), LostRankError),
        (RuntimeError("[gloo] Timed out waiting 1800000ms for recv operation to complete"), LostRankError),
        (RuntimeError("[gloo/transport/tcp/pair.cc:553] Connection closed by peer"), LostRankError),
        (RuntimeError("Read error: Connection reset by peer."), LostRankError),
        (ValueError("some mistake of ours"), BugError),
    ],
)
def test_an_error_of_a_rank_is_sorted_into_the_class_that_decides(
    error: Exception, expected: type[RcvitError]
) -> None:
    sorted_error = classed(error)
    assert type(sorted_error) is expected
    assert type(error).__name__ in sorted_error.message
    assert sorted_error.hint
