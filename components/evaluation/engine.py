"""Greedy decoding of a batch of prompts."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

from components.rcmu import Prompt

if TYPE_CHECKING:
    from PIL.Image import Image
    from transformers import Qwen2VLForConditionalGeneration

    from components.training.processor import Processor


def answer_batch(
    model: "Qwen2VLForConditionalGeneration",
    processor: "Processor",
    requests: Sequence[tuple[Prompt, "Image"]],
    *,
    max_new_tokens: int,
) -> list[str]:
    """The model's answers, one per (prompt, image), decoded greedily up to the end of the turn."""
    from components.training import generate_greedily

    batch = processor.batch_for_generation(requests)
    ids = generate_greedily(model, batch, max_new_tokens=max_new_tokens)
    return [processor.decode(row) for row in ids]
