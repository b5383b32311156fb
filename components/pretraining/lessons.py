"""What the lessons share that put a label on tokens instead of an answer behind them."""

import re
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

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
    query_key_decay: float | None = None,
) -> Report:
    """Train `parameters` on the loss that `judge` gives for the number of a step; the last reports' mean.

    No other parameter of the model gets a gradient meanwhile.

    Muon's steps are as long for a small gradient as for a large one. So queries and keys that do not know yet
    what to look for grow until one token has all the attention, and no gradient is left to find another by. A
    weight decay of their own keeps them short. (Kimi K2 bounds the scores instead: arXiv 2507.20534, 2.1.)
    """
    before = [parameter.requires_grad for parameter in model.parameters()]
    model.requires_grad_(False)
    for parameter in parameters:
        parameter.requires_grad_(True)
    names = {id(p): name for name, p in model.named_parameters()}
    asking, rest = list[torch.nn.Parameter](), list[torch.nn.Parameter]()
    for parameter in parameters:
        apart = query_key_decay is not None and re.search(r"\.[qk]_proj\.", names.get(id(parameter), ""))
        (asking if apart else rest).append(parameter)
    groups: list[dict[str, Any]] = [
        {"params": [p for p in rest if p.dim() == 2], "weight_decay": _WEIGHT_DECAY, "orthogonal": True},
        {"params": [p for p in asking if p.dim() == 2], "weight_decay": query_key_decay, "orthogonal": True},
        {"params": [p for p in rest if p.dim() != 2]},
        {"params": [p for p in asking if p.dim() != 2], "weight_decay": query_key_decay},
    ]
    optimizer = Muon([group for group in groups if group["params"]])
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
