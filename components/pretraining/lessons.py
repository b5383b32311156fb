"""What the lessons share that put a label on tokens instead of an answer behind them."""

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

import torch
from tqdm import trange

from components.training.muon import Muon
from components.training.processor import Processor

if TYPE_CHECKING:
    from transformers import Qwen2VLForConditionalGeneration

Report = dict[str, float]  # shares of right labels
# All constants are our own choice.
_WARMUP, _DECAY = 30, 0.5  # steps, share of the steps
_WEIGHT_DECAY, _MAX_GRAD_NORM = 0.01, 1.0
_RECENT = 20  # steps that what is reported is the mean of


def embeddings_of(
    model: "Qwen2VLForConditionalGeneration", processor: Processor, words: Sequence[str]
) -> torch.Tensor:
    """The embeddings that the words have now, shape (hidden, words): features times them are logits.

    A word is one token, unless the vocabulary is very small: then the mean of its tokens stands for it.
    """
    weights = model.get_input_embeddings().weight.detach()
    ids = [processor.tokenizer(word, add_special_tokens=False)["input_ids"] for word in words]
    return torch.stack([weights[tokens].mean(0) for tokens in ids], dim=1)


def learn(
    name: str,
    model: "Qwen2VLForConditionalGeneration",
    parameters: Sequence[torch.nn.Parameter],
    judge: Callable[[int], tuple[torch.Tensor, Report]],
    *,
    steps: int,
    learning_rate: float,
) -> Report:
    """Train `parameters` on the loss that `judge` gives for the number of a step; the last reports' mean.

    No other parameter of the model gets a gradient meanwhile.
    """
    before = [parameter.requires_grad for parameter in model.parameters()]
    model.requires_grad_(False)
    for parameter in parameters:
        parameter.requires_grad_(True)
    optimizer = Muon(
        [
            {
                "params": [p for p in parameters if p.dim() == 2],
                "weight_decay": _WEIGHT_DECAY,
                "orthogonal": True,
            },
            {"params": [p for p in parameters if p.dim() != 2]},
        ]
    )
    reports: list[Report] = []
    with trange(steps, desc=name, unit="step", mininterval=2) as progress:
        for step in progress:
            scale = min(1.0, (step + 1) / _WARMUP, (steps - step) / (_DECAY * steps))
            for group in optimizer.param_groups:
                group["lr"] = learning_rate * scale
            loss, report = judge(step)
            optimizer.zero_grad()
            torch.autograd.backward(loss)
            torch.nn.utils.clip_grad_norm_(parameters, _MAX_GRAD_NORM)
            optimizer.step()
            reports.append(report)
            recent = reports[-_RECENT:]
            right = {label: torch.tensor([r[label] for r in recent]).nanmean().item() for label in report}
            progress.set_postfix({label: f"{value:.0%}" for label, value in right.items()}, refresh=False)
    for parameter, requires_grad in zip(model.parameters(), before, strict=True):
        parameter.requires_grad_(requires_grad)
    return right


def share(right: torch.Tensor) -> float:
    """Of the true ones."""
    return right.float().mean().item()
