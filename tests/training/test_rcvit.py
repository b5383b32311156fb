"""RCVIT by its launcher: torchrun and DeepSpeed ZeRO-2 on two ranks, whole, killed and resumed."""

import json
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import psutil
import pytest

from components.errors import LostRankError, ParamsError
from components.params import ModelParams, TrainingParams
from components.rcmu import Split
from components.training import load_for_inference, train_model
from tests.conftest import REPO
from tests.training.conftest import SHAPE, scene, write_data

# Very different lengths: a mean per micro-batch would weigh the short answers' tokens too much.
ANSWERS = ("Ada.", "It belongs to Ada Moss, who lives in Oslo and bought it there for 54 dollars.[1]") * 2
MODEL = ModelParams(
    base="scratch", revision=None, min_pixels=784, max_pixels=12544, max_length=320, scratch=SHAPE
)
TRAINING = TrainingParams(
    world_size=2, deepspeed="zero2", micro_batch_size=4, gradient_accumulation=1, steps=20,
    learning_rate=1e-3, warmup_steps=2, weight_decay=0.01, max_grad_norm=1.0, checkpoint_every=3,
    keep_checkpoints=2, bf16=False, gradient_checkpointing=False,
)  # fmt: skip
# What the train stage does, in a process of its own.
STAGE = """
import json, sys
from pathlib import Path
from components.errors import RcvitError
from components.params import ModelParams, TrainingParams
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

    @property
    def folder(self) -> Path:
        return self.home / "model"

    @property
    def log(self) -> str:
        """The output of the last start."""
        return (self.home / "log").read_text()

    def start(self, **environment: str) -> "subprocess.Popen[bytes]":
        job = {
            "model": MODEL.model_dump(),
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
            )

    def run(self, **environment: str) -> "Stage":
        assert self.start(**environment).wait(timeout=300) == 0, self.log
        return self

    def losses(self) -> dict[int, float]:
        lines = (self.home / "curves/curve.jsonl").read_text().splitlines()
        return {record["step"]: record["loss"] for record in map(json.loads, lines)}

    def weights(self) -> bytes:
        return (self.folder / "model.safetensors").read_bytes()


@pytest.fixture(scope="session")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """16 training turns, two steps of the global batch of 8, and 4 of the benchmark."""
    folder = tmp_path_factory.mktemp("rcmu")
    scenes = [scene(name, Split.TRAIN, 56 + 28 * n) for n, name in enumerate("abcd")]
    write_data(folder, [*scenes, scene("z", Split.BENCHMARK, 56)], ANSWERS)
    return folder


@pytest.fixture(scope="session")
def stage(data: Path, tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Stage]:
    """Makes stages with folders of their own."""

    def make(**changed: Any) -> Stage:
        return Stage(data, tmp_path_factory.mktemp("stage"), TRAINING.model_copy(update=changed))

    return make


@pytest.fixture(scope="session")
def trained(stage: Callable[..., Stage]) -> Stage:
    """A run that nothing interrupted."""
    return stage().run()


def tree_in_training(process: "subprocess.Popen[bytes]", home: Path) -> list[psutil.Process]:
    """The processes below the stage, once it has made one more complete checkpoint; both ranks run."""
    before = complete(home)
    for _ in range(6000):
        if complete(home) - before or process.poll() is not None:
            break
        time.sleep(0.02)
    below = psutil.Process(process.pid).children(recursive=True)
    assert len(ranks(below)) == 2, (home / "log").read_text()
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


def test_the_export_is_a_hugging_face_folder(trained: Stage) -> None:
    from transformers import AutoTokenizer, Qwen2VLForConditionalGeneration

    model, loading = Qwen2VLForConditionalGeneration.from_pretrained(trained.folder, output_loading_info=True)
    assert not any(loading.values())
    assert model.config.text_config.hidden_size == SHAPE.hidden_size
    tokenizer = AutoTokenizer.from_pretrained(trained.folder)
    chat = tokenizer.apply_chat_template([{"role": "user", "content": "Who?"}], tokenize=False)
    assert chat.endswith("<|im_start|>user\nWho?<|im_end|>\n")
    assert "preprocessor_config.json" in {path.name for path in trained.folder.iterdir()}
    counts = json.loads((trained.folder / "training.json").read_text())
    assert counts["samples"] == 16
    assert len(counts["special_token_strings"]) == 16


def test_nothing_of_the_export_is_pickled(trained: Stage) -> None:
    files = [path for path in trained.folder.rglob("*") if path.is_file()]
    assert {path.suffix for path in files} == {".json", ".jinja", ".safetensors"}


def test_the_loss_falls_and_the_model_answers(trained: Stage) -> None:
    losses = trained.losses()
    assert list(losses) == [10, 20]
    assert losses[20] < losses[10]
    model, processor = load_for_inference(trained.folder)
    assert not model.training
    assert model.get_input_embeddings().weight.shape[0] == len(processor.tokenizer)


def test_the_same_inputs_give_the_same_bytes_and_no_compiler_is_needed(
    trained: Stage, stage: Callable[..., Stage], tmp_path: Path
) -> None:
    (tmp_path / "bin").mkdir()
    again = stage().run(PATH=str(tmp_path / "bin"), TORCH_EXTENSIONS_DIR=str(tmp_path / "built"))
    assert not (tmp_path / "built").exists()
    for path in trained.folder.iterdir():
        assert (again.folder / path.name).read_bytes() == path.read_bytes(), path.name
    assert again.losses() == trained.losses()


def test_accumulation_gives_the_loss_of_the_whole_batch(trained: Stage, stage: Callable[..., Stage]) -> None:
    """Each answer token of the global batch counts the same, however the batch is cut."""
    cut = stage(micro_batch_size=2, gradient_accumulation=2).run()
    assert cut.losses() == pytest.approx(trained.losses(), abs=1e-4)


@pytest.mark.long  # tests/e2e/test_chain.py kills a whole run in every `make test`
def test_killed_it_leaves_nothing_and_resumes_to_the_same_weights(
    trained: Stage, stage: Callable[..., Stage]
) -> None:
    """`kill -9` of the stage, then of one rank of the resumed stage, then the whole way."""
    interrupted = stage()
    process = interrupted.start()
    below = tree_in_training(process, interrupted.home)
    process.kill()
    process.wait()
    assert alive(below) == []
    assert list(interrupted.folder.iterdir()) == []

    process = interrupted.start()
    below = tree_in_training(process, interrupted.home)
    assert "resuming from checkpoint-" in interrupted.log
    ranks(below)[1].kill()
    assert process.wait(timeout=120) == LostRankError.exit_code, interrupted.log
    assert "run the same command again" in interrupted.log
    assert alive(below) == []

    assert "resuming from checkpoint-" in interrupted.run().log
    assert interrupted.weights() == trained.weights()
    # Transformers starts a mean anew at a resume, so a point of the curve may lack the steps before it.
    assert list(interrupted.losses()) == list(trained.losses())


def test_an_unknown_deepspeed_config_is_named_with_the_known_ones(data: Path, tmp_path: Path) -> None:
    with pytest.raises(ParamsError, match="zero9") as caught:
        train_model(
            scenes=data, turns=data, model=MODEL, training=TRAINING.model_copy(update={"deepspeed": "zero9"}),
            seed=7, deepspeed_configs=REPO / "infra/deepspeed", checkpoints=tmp_path / "checkpoints",
            curves=tmp_path / "curves", folder=tmp_path / "model",
        )  # fmt: skip
    assert "zero2" in caught.value.hint
    assert not list(tmp_path.iterdir())
