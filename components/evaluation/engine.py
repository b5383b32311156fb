"""Greedy decoding of a batch of prompts, and of all turns of a benchmark."""

import io
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from tqdm import tqdm

from components.params import EvaluationParams
from components.rcmu import ContextSet, Prompt, Scene, Turn, prompt_of

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


def answer_turns(
    folder: Path,
    scenes: Mapping[str, Scene],
    contexts: Mapping[str, ContextSet],
    turns: Sequence[Turn],
    params: EvaluationParams,
) -> list[str]:
    """The answers of a model folder to turns, in their order; scenes and context sets by id."""
    import torch
    from PIL import Image

    from components.training import load_for_inference

    # As a training rank on a CPU: more threads are hardly faster on idle cores, many times slower on busy
    # ones, and they change the order of sums.
    torch.set_num_threads(1)
    model, processor = load_for_inference(folder)
    # A batch is decoded until its longest answer ends: answers of one length go together.
    order = sorted(range(len(turns)), key=lambda index: len(turns[index].answer))
    answers: dict[int, str] = {}
    with tqdm(total=len(turns), desc="benchmark", unit="question", mininterval=2) as progress:
        for start in range(0, len(turns), params.batch_size):
            batch = order[start : start + params.batch_size]
            requests = [
                (
                    prompt_of(scenes[turn.scene_id], contexts[turn.context_id], turn.question),
                    Image.open(io.BytesIO(scenes[turn.scene_id].image)).convert("RGB"),
                )
                for turn in (turns[index] for index in batch)
            ]
            answered = answer_batch(model, processor, requests, max_new_tokens=params.max_new_tokens)
            answers.update(zip(batch, answered, strict=True))
            progress.update(len(batch))
    return [answers[index] for index in range(len(turns))]
