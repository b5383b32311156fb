"""A small processor as the tiny profile makes it."""

import pytest

from components.rcmu import Box, Prompt, PromptRegion
from components.training.processor import Processor
from components.training.tokenizer import train_tokenizer

CORPUS = ["Who owns the red circle?", "The red circle belongs to Ada Moss.[2]", "It cost 54 dollars."]


def prompt(text: str = "Ada Moss owns it.", question: str = "Who owns it?") -> Prompt:
    box = Box(x1=1, y1=2, x2=300, y2=400)
    return Prompt(regions=(PromptRegion(label="circle", box=box, text=text),), question=question)


@pytest.fixture(scope="session")
def processor() -> Processor:
    from transformers import Qwen2VLImageProcessorPil

    size = {"shortest_edge": 784, "longest_edge": 12544}
    return Processor(train_tokenizer(CORPUS, vocab_size=400), Qwen2VLImageProcessorPil(size=size))
