"""A train stage in a process of its own, to be started, killed and started again."""

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import psutil

from components.params import LearningRates, ModelParams, TrainingParams
from tests.conftest import REPO
from tests.training.conftest import SHAPE

MODEL = ModelParams(base="scratch", revision=None, min_pixels=784, max_pixels=12544, scratch=SHAPE)
TRAINING = TrainingParams(
    world_size=2, deepspeed="zero2", sequence_tokens=200, micro_batch_size=2,
    gradient_accumulation=1, steps=20, optimizer="adamw", lora=None,
    learning_rates=LearningRates(vision=1e-3, merger=1e-3, language=1e-3), warmup_steps=2, decay_share=0.5,
    weight_decay=0.01, max_grad_norm=1.0, checkpoint_every=3, keep_checkpoints=2, bf16=False,
    gradient_checkpointing=False,
)  # fmt: skip
# What the train stage does, in a process of its own.
STAGE = """
import json, sys
from pathlib import Path
from components.errors import RcvitError
from components.params import LearningRates, ModelParams, TrainingParams
from components.training import train_model
job = json.loads(sys.argv[1])
try:
    train_model(
        model=ModelParams(**job["model"]), training=TrainingParams(**job["training"]), seed=7,
        **{name: Path(path) for name, path in job["paths"].items()},
    )
except RcvitError as error:
    print(error, file=sys.stderr)
    sys.exit(error.exit_code)
"""


class Stage(NamedTuple):
    """A train stage with its folders; it may be started again and again."""

    data: Path
    home: Path
    training: TrainingParams = TRAINING
    base: str = "scratch"

    @property
    def folder(self) -> Path:
        return self.home / "model"

    @property
    def log(self) -> str:
        """The output of the last start."""
        return (self.home / "log").read_text()

    def start(self, **environment: str) -> "subprocess.Popen[bytes]":
        job = {
            "model": MODEL.model_copy(update={"base": self.base}).model_dump(),
            "training": self.training.model_dump(),
            "paths": {
                "scenes": str(self.data),
                "turns": str(self.data),
                "deepspeed_configs": str(REPO / "infra/deepspeed"),
                "checkpoints": str(self.home / "checkpoints"),
                "curves": str(self.home / "curves"),
                "folder": str(self.folder),
            },
        }
        shutil.rmtree(self.folder, ignore_errors=True)  # as DVC does before a stage
        self.folder.mkdir(parents=True)
        with (self.home / "log").open("wb") as log:
            return subprocess.Popen(
                [sys.executable, "-c", STAGE, json.dumps(job)],
                cwd=REPO,
                env={**os.environ, "CUDA_VISIBLE_DEVICES": "", **environment},
                stdout=log,
                stderr=subprocess.STDOUT,
                # A test run in the background has Ctrl-C ignored, and a child would inherit that.
                preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler),
            )

    def run(self, **environment: str) -> "Stage":
        assert self.start(**environment).wait(timeout=300) == 0, self.log
        return self

    def losses(self) -> dict[int, float]:
        return self.curve("loss")

    def curve(self, name: str) -> dict[int, float]:
        """A measurement by step."""
        lines = (self.home / "curves/curve.jsonl").read_text().splitlines()
        return {record["step"]: record[name] for record in map(json.loads, lines)}

    def weights(self) -> bytes:
        return (self.folder / "model.safetensors").read_bytes()


def tree_in_training(
    process: "subprocess.Popen[bytes]", home: Path, *, until: Callable[[], bool] | None = None
) -> list[psutil.Process]:
    """The processes below the stage, once it has made one more complete checkpoint, or `until` holds."""
    before = complete(home)
    for _ in range(12_000):
        reached = until() if until else bool(complete(home) - before)
        if reached or process.poll() is not None:
            break
        time.sleep(0.01)
    below = psutil.Process(process.pid).children(recursive=True)
    assert len(ranks(below)) in (0, 2), (home / "log").read_text()
    return below


def complete(home: Path) -> set[Path]:
    return set(home.glob("checkpoints/*/checkpoint-*/COMPLETE"))


def ranks(processes: list[psutil.Process]) -> list[psutil.Process]:
    """The two ranks: their parent torchrun names the module too, after its own."""
    return [p for p in processes if p.cmdline()[-2:-1] and "torch.distributed.run" not in p.cmdline()]


def alive(processes: list[psutil.Process]) -> list[psutil.Process]:
    """Those that still live after a while; a zombie waits for init alone."""

    def lives(process: psutil.Process) -> bool:
        return process.is_running() and process.status() != psutil.STATUS_ZOMBIE

    for _ in range(400):
        if not any(lives(process) for process in processes):
            return []
        time.sleep(0.05)
    return [process for process in processes if lives(process)]
