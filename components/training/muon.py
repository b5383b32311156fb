"""Muon for weight matrices, AdamW for the rest, in one optimizer (Jordan et al., "Muon", 2024).

Small models that must learn to look things up come over their plateau in a fraction of AdamW's steps. Not
torch's own: that one orthogonalises in bfloat16, which on a CPU takes several times as long as the rest of a
step, and it takes matrices alone, while DeepSpeed and the schedule want a single optimizer.
"""

from collections.abc import Callable
from typing import Any

import torch

_QUINTIC = (3.4445, -4.7750, 2.0315)  # coefficients of the published iteration
_ITERATIONS = 5
_MOMENTUM = 0.95
_BETAS, _EPSILON = (0.9, 0.98), 1e-8
# An orthogonal update of this share of sqrt(its longer side) has the size of AdamW's, so both take one rate
# (Liu et al., arXiv 2502.16982, section 2.2).
_AS_ADAMW = 0.2


class Muon(torch.optim.Optimizer):
    """Groups with `orthogonal` are matrices for Muon; each has its `lr` and a decoupled `weight_decay`."""

    def __init__(self, groups: list[dict[str, Any]]) -> None:
        super().__init__(groups, {"lr": 0.0, "weight_decay": 0.0, "orthogonal": False})

    @torch.no_grad()
    def step(self, closure: Callable[[], float] | None = None) -> float | None:  # type: ignore[override]
        """One step for every parameter that has a gradient."""
        loss = None if closure is None else closure()
        for group in self.param_groups:
            for parameter in group["params"]:
                if parameter.grad is not None:
                    parameter.mul_(1 - group["lr"] * group["weight_decay"])
                    update = self._muon if group["orthogonal"] else self._adam
                    parameter.add_(update(parameter, parameter.grad), alpha=-group["lr"])
        return loss

    def _muon(self, parameter: torch.Tensor, gradient: torch.Tensor) -> torch.Tensor:
        """The orthogonalised Nesterov momentum."""
        state = self.state[parameter]
        if not state:
            state["momentum"] = torch.zeros_like(parameter)
        state["momentum"].lerp_(gradient, 1 - _MOMENTUM)
        direction = gradient.lerp(state["momentum"], _MOMENTUM)
        return orthogonalised(direction).mul_(_AS_ADAMW * max(parameter.shape) ** 0.5)

    def _adam(self, parameter: torch.Tensor, gradient: torch.Tensor) -> torch.Tensor:
        """AdamW's update, without its decay."""
        state = self.state[parameter]
        if not state:
            state["step"] = torch.zeros(())
            state["mean"], state["square"] = torch.zeros_like(parameter), torch.zeros_like(parameter)
        state["step"] += 1
        for name, value, beta in (
            ("mean", gradient, _BETAS[0]),
            ("square", gradient.square(), _BETAS[1]),
        ):
            state[name].lerp_(value, 1 - beta)
        steps = float(state["step"])
        mean: torch.Tensor = state["mean"] / (1 - _BETAS[0] ** steps)
        square: torch.Tensor = state["square"] / (1 - _BETAS[1] ** steps)
        return mean.div_(square.sqrt_().add_(_EPSILON))


def orthogonalised(matrix: torch.Tensor) -> torch.Tensor:
    """About the nearest matrix with orthonormal rows or columns, by the published Newton-Schulz iteration.

    The singular values of the result lie between about 0.7 and 1.2 (speed before exactness), as long as those
    of `matrix`, of shape (m, n), are not tiny beside its norm.
    """
    a, b, c = _QUINTIC
    wide = matrix.T if matrix.shape[0] > matrix.shape[1] else matrix
    wide = wide / wide.norm().clamp(min=1e-7)
    for _ in range(_ITERATIONS):
        gram = wide @ wide.T
        wide = torch.addmm(wide, torch.addmm(gram, gram, gram, beta=b, alpha=c), wide, beta=a)
    return wide.T.contiguous() if matrix.shape[0] > matrix.shape[1] else wide
