"""A rank that is killed while the model is written must not pass for a success."""

import threading
import time
from pathlib import Path

import psutil
import pytest

from components.errors import LostRankError
from components.params import ModelParams, TrainingParams, load_params
from components.rcmu import Split
from components.training import train_model
from tests.training.conftest import SHAPE, scene, write_data


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
    model = ModelParams(
        base="scratch", revision=None, min_pixels=784, max_pixels=12544, max_length=320, scratch=SHAPE
    )
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
