"""Multiple choice by likelihood: what a model knows, whatever form it answers in.

The options of a question are its reference and the reference with the value exchanged for each other value
of the same kind in the scene (`Turn.other_values`). Chosen is the option with the largest
probability behind the prompt, summed over its tokens as in lm-evaluation-harness's `acc`; what follows the
value is the same in all. Citing and refusing are not asked for, so a base is not judged by its form.
"""

import io
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from tqdm import tqdm

from components.rcmu import ContextSet, Scene, Turn, prompt_of, without_citations
from components.rcmu.models import Frozen

if TYPE_CHECKING:
    from transformers import Qwen2VLForConditionalGeneration

    from components.training.processor import Processor

_ROWS = 64  # sequences of a batch


class Choice(Frozen):
    """How one question was answered among its options."""

    right: bool
    options: int


def options_of(turn: Turn) -> tuple[str, ...]:
    """The reference first, then a wrong option for each other value; one alone is no choice."""
    if len(turn.claims) != 1:
        return ()
    value = turn.claims[0].value
    reference = without_citations(turn.answer)
    head, found, tail = reference.rpartition(value)
    if not found:
        return ()
    return (reference, *(f"{head}{other}{tail}" for other in turn.other_values))


def choose(
    folder: Path,
    scenes: Mapping[str, Scene],
    contexts: Mapping[str, ContextSet],
    turns: Sequence[Turn],
) -> dict[str, Choice]:
    """The choice of a model folder for every turn with two options or more, by turn id."""
    import torch

    from components.training import load_for_inference

    torch.set_num_threads(1)  # as everywhere on a CPU: the order of sums must not depend on the machine
    model, processor = load_for_inference(folder)
    asked = [(turn, options) for turn in turns if len(options := options_of(turn)) > 1]
    rows = [(turn, option) for turn, options in asked for option in options]
    scored: list[float] = []
    with tqdm(total=len(rows), desc="options", unit="option", mininterval=2) as progress:
        for start in range(0, len(rows), _ROWS):
            batch = rows[start : start + _ROWS]
            scored += _log_likelihoods(model, processor, scenes, contexts, batch)
            progress.update(len(batch))
    chosen: dict[str, Choice] = {}
    at = 0
    for turn, options in asked:
        scores = scored[at : at + len(options)]
        at += len(options)
        chosen[turn.turn_id] = Choice(right=scores[0] > max(scores[1:]), options=len(options))
    return chosen


def _log_likelihoods(
    model: "Qwen2VLForConditionalGeneration",
    processor: "Processor",
    scenes: Mapping[str, Scene],
    contexts: Mapping[str, ContextSet],
    rows: Sequence[tuple[Turn, str]],
) -> list[float]:
    """The log-probability of each option behind its prompt."""
    import torch
    from PIL import Image

    requests, answers = [], []
    for turn, option in rows:
        scene = scenes[turn.scene_id]
        prompt = prompt_of(scene, contexts[turn.context_id], turn.question)
        requests.append((prompt, Image.open(io.BytesIO(scene.image)).convert("RGB")))
        answers.append(processor.answer_ids(option)[:-1])  # an option may go on: its end is not judged
    batch = processor.batch_for_scoring(requests, answers)
    inputs = {name: tensor.to(model.device) for name, tensor in batch.items()}
    with torch.inference_mode():
        logits = model(**inputs).logits.float().log_softmax(-1)
    scored = []
    for row, answer in enumerate(answers):
        predicted = logits[row, -len(answer) - 1 : -1]
        scored.append(float(predicted.gather(1, torch.tensor(answer, device=logits.device)[:, None]).sum()))
    return scored
