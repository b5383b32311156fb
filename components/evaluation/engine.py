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
    import torch

    batch = processor.batch_for_generation(requests)
    inputs = {name: tensor.to(model.device) for name, tensor in batch.items()}
    with torch.inference_mode():
        # transformers types `generate` for a protocol that its own classes do not declare.
        ids = model.generate(**inputs, max_new_tokens=max_new_tokens, do_sample=False)  # type: ignore[misc]
    return [processor.decode(row) for row in ids[:, inputs["input_ids"].shape[1] :]]
