"""A small processor as the tiny profile makes it, and small RCMU data to train on."""

import io
from collections.abc import Sequence
from pathlib import Path

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
from components.rcmu.tables import CONTEXTS, SCENES, TURNS, write_models
from components.training.processor import Processor
from components.training.tokenizer import train_tokenizer

CORPUS = ["Who owns the red circle?", "The red circle belongs to Ada Moss.[2]", "It cost 54 dollars."]
SHAPE = ScratchParams(
    vocab_size=400, hidden_size=32, intermediate_size=48, layers=2, heads=2, kv_heads=1, text_init=0.1,
    vision_init=0.1, vision_depth=1, vision_width=32, vision_heads=2, tie_word_embeddings=True,
)  # fmt: skip


def prompt(text: str = "Ada Moss owns it.", question: str = "Who owns it?") -> Prompt:
    box = Box(x1=1, y1=2, x2=300, y2=400)
    return Prompt(regions=(PromptRegion(label="circle", box=box, text=text),), question=question)


def scene(name: str, split: Split, side: int) -> Scene:
    file = io.BytesIO()
    Image.new("RGB", (side, side), (side % 255, 10, 200)).save(file, "PNG")
    region = Region(
        instance_id=f"{name}/0", label="circle", box=Box(x1=1, y1=1, x2=500, y2=500),
        expression="the circle", facts=(),
    )  # fmt: skip
    return Scene(
        scene_id=name, split=split, image=file.getvalue(), width=side, height=side, regions=(region,)
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
    write_models(folder / "scenes.parquet", SCENES, scenes)
    write_models(folder / "contexts.parquet", CONTEXTS, contexts)
    write_models(folder / "turns.parquet", TURNS, turns)


@pytest.fixture(scope="session")
def processor() -> Processor:
    from transformers import Qwen2VLImageProcessorPil

    size = {"shortest_edge": 784, "longest_edge": 12544}
    return Processor(train_tokenizer(CORPUS, vocab_size=400), Qwen2VLImageProcessorPil(size=size))
