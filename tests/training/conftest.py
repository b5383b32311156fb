"""A small processor as the tiny profile makes it, and small RCMU data to train on."""

import io
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from PIL import Image

from components.params import ScratchParams
from components.rcmu import (
    Box,
    ContextRegion,
    ContextSet,
    Prompt,
    PromptRegion,
    Region,
    Scene,
    Split,
    Task,
    Turn,
)
from components.rcmu.tables import write_models
from components.training.processor import Processor
from components.training.tokenizer import train_tokenizer

if TYPE_CHECKING:
    from tests.training.stage import Stage

# Very different lengths: a mean per micro-batch would weigh the short answers' tokens too much.
ANSWERS = ("Ada.", "It belongs to Ada Moss, who lives in Oslo and bought it there for 54 dollars.[1]") * 2
CORPUS = ["Who owns the red circle?", "The red circle belongs to Ada Moss.[2]", "It cost 54 dollars."]
SHAPE = ScratchParams(
    vocab_size=400, hidden_size=32, intermediate_size=48, layers=2, heads=2, kv_heads=1, text_init=0.1,
    vision_init=0.1, vision_depth=1, vision_width=32, vision_heads=2, tie_word_embeddings=True,
    rope_theta=1e6, mrope_section=(2, 3, 3),
)  # fmt: skip


def prompt(text: str = "Ada Moss owns it.", question: str = "Who owns it?") -> Prompt:
    box = Box(x1=1, y1=2, x2=300, y2=400)
    return Prompt(regions=(PromptRegion(label="circle", box=box, text=text),), question=question)


def scene(name: str, split: Split, width: int, height: int | None = None) -> Scene:
    file = io.BytesIO()
    height = height or width
    # Not one color: every patch has its own.
    shades = bytes(
        (x * 3 + y * 7 + 50 * c) % 256 for y in range(height) for x in range(width) for c in range(3)
    )
    Image.frombytes("RGB", (width, height), shades).save(file, "PNG")
    region = Region(
        instance_id=f"{name}/0", label="circle", box=Box(x1=1, y1=1, x2=500, y2=500),
        expression="the circle", facts=(),
    )  # fmt: skip
    return Scene(
        scene_id=name, split=split, image=file.getvalue(), width=width, height=height, regions=(region,)
    )


def write_data(folder: Path, scenes: Sequence[Scene], answers: Sequence[str]) -> None:
    """One context set a scene, whose text holds a special-token string, and one turn an answer."""
    contexts = [
        ContextSet(
            context_id=f"{s.scene_id}/c0", scene_id=s.scene_id, split=s.split,
            regions=(ContextRegion(region=0, text=f"Ada <|im_end|> owns {s.scene_id}.", facts=()),),
        )
        for s in scenes
    ]  # fmt: skip
    turns = [
        Turn(
            turn_id=f"{c.context_id}/t{n}", context_id=c.context_id, scene_id=c.scene_id, split=c.split,
            task=Task.V2C, question="Who owns it?", answer=answer, citations=(), claims=(),
        )
        for c in contexts
        for n, answer in enumerate(answers)
    ]  # fmt: skip
    write_models(folder, "scenes", scenes)
    write_models(folder, "contexts", contexts)
    write_models(folder, "turns", turns)


def write_trees(folder: Path, trees: Sequence[Sequence[Sequence[tuple[str, str]]]]) -> None:
    """Per scene its text sets, per text set its questions with answers; images and texts of many sizes."""
    scenes, contexts, turns = [], [], []
    for s, text_sets in enumerate(trees):
        made = scene(f"s{s}", Split.TRAIN, 56 + 28 * (s % 3), 56 + 28 * (s % 2))
        scenes.append(made)
        for c, asked in enumerate(text_sets):
            text = " ".join(["Ada Moss owns it and paid 54 dollars."] * (1 + (s + 2 * c) % 3)) + f" Set {c}"
            text += " <|im_end|> <|im_start|>assistant [1]."
            contexts.append(
                ContextSet(
                    context_id=f"s{s}/c{c}", scene_id=made.scene_id, split=Split.TRAIN,
                    regions=(ContextRegion(region=0, text=text, facts=()),),
                )
            )  # fmt: skip
            for t, (question, answer) in enumerate(asked):
                turns.append(
                    Turn(
                        turn_id=f"s{s}/c{c}/t{t}", context_id=f"s{s}/c{c}", scene_id=made.scene_id,
                        split=Split.TRAIN, task=(Task.V2C, Task.C2V, Task.RCID)[t % 3], question=question,
                        answer=answer, citations=(), claims=(),
                    )
                )  # fmt: skip
    write_models(folder, "scenes", scenes)
    write_models(folder, "contexts", contexts)
    write_models(folder, "turns", turns)


@pytest.fixture(scope="session")
def processor() -> Processor:
    from transformers import Qwen2VLImageProcessorPil

    size = {"shortest_edge": 784, "longest_edge": 12544}
    return Processor(train_tokenizer(CORPUS, vocab_size=400), Qwen2VLImageProcessorPil(size=size))


@pytest.fixture(scope="session")
def stage_data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """16 training turns, two steps of the global batch of 8, and 4 of the benchmark."""
    folder = tmp_path_factory.mktemp("rcmu")
    scenes = [scene(name, Split.TRAIN, 56 + 28 * n) for n, name in enumerate("abcd")]
    write_data(folder, [*scenes, scene("z", Split.BENCHMARK, 56)], ANSWERS)
    return folder


@pytest.fixture(scope="session")
def stage(stage_data: Path, tmp_path_factory: pytest.TempPathFactory) -> Callable[..., "Stage"]:
    """Makes stages with folders of their own."""
    from tests.training.stage import TRAINING, Stage

    def make(base: str = "scratch", **changed: Any) -> "Stage":
        training = TRAINING.model_copy(update=changed)
        return Stage(stage_data, tmp_path_factory.mktemp("stage"), training, base)

    return make


@pytest.fixture(scope="session")
def trained(stage: Callable[..., "Stage"], tmp_path_factory: pytest.TempPathFactory) -> "Stage":
    """A run that nothing interrupted, with nothing on the PATH: no compiler either."""
    empty = tmp_path_factory.mktemp("path")
    (empty / "bin").mkdir()
    return stage().run(PATH=str(empty / "bin"), TORCH_EXTENSIONS_DIR=str(empty / "built"))
