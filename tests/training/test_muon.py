"""Muon: what it makes of a matrix, AdamW beside it against torch's own, and its state in a checkpoint."""

import copy

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from components.training.muon import Muon, orthogonalised

RATE, DECAY = 1e-2, 0.1


@settings(max_examples=40, deadline=None)
@given(
    rows=st.integers(2, 40),
    columns=st.integers(2, 40),
    seed=st.integers(0, 1000),
    scale=st.sampled_from([1e-4, 1.0, 1e4]),
)
def test_singular_values_come_near_one_and_singular_vectors_stay(
    rows: int, columns: int, seed: int, scale: float
) -> None:
    generator = torch.Generator().manual_seed(seed)
    left, _ = torch.linalg.qr(torch.randn(rows, rows, generator=generator))
    right, _ = torch.linalg.qr(torch.randn(columns, columns, generator=generator))
    rank = min(rows, columns)
    values = torch.rand(rank, generator=generator) + 0.5
    matrix = scale * (left[:, :rank] * values) @ right[:, :rank].T
    result = orthogonalised(matrix)
    assert result.shape == matrix.shape
    inner = left[:, :rank].T @ result @ right[:, :rank]
    assert torch.all((inner.diagonal() > 0.6) & (inner.diagonal() < 1.3))
    assert (inner - torch.diag(inner.diagonal())).abs().max() < 1e-3


def test_small_singular_values_are_lifted_too() -> None:
    generator = torch.Generator().manual_seed(1)
    left, _ = torch.linalg.qr(torch.randn(40, 40, generator=generator))
    matrix = left @ torch.diag(torch.linspace(0.1, 1.0, 40)) @ left.T
    values = torch.linalg.svdvals(orthogonalised(matrix))
    assert 0.6 < float(values.min()) <= float(values.max()) < 1.3


def gradients(shape: tuple[int, ...]) -> list[torch.Tensor]:
    generator = torch.Generator().manual_seed(1)
    return [torch.randn(shape, generator=generator) for _ in range(5)]


def test_what_is_no_matrix_gets_adamw_as_torch_has_it() -> None:
    start = torch.ones(7)
    ours, theirs = torch.nn.Parameter(start.clone()), torch.nn.Parameter(start.clone())
    muon = Muon([{"params": [ours], "lr": RATE, "weight_decay": DECAY, "orthogonal": False}])
    adamw = torch.optim.AdamW([theirs], lr=RATE, weight_decay=DECAY, betas=(0.9, 0.98))
    for gradient in gradients((7,)):
        for parameter, optimizer in ((ours, muon), (theirs, adamw)):
            parameter.grad = gradient.clone()
            optimizer.step()
    torch.testing.assert_close(ours.data, theirs.data)
    assert not torch.equal(ours.data, start)


def test_a_matrix_moves_by_about_as_much_as_under_adamw() -> None:
    ours, theirs = torch.nn.Parameter(torch.zeros(64, 128)), torch.nn.Parameter(torch.zeros(64, 128))
    muon = Muon([{"params": [ours], "lr": RATE, "orthogonal": True}])
    adamw = torch.optim.AdamW([theirs], lr=RATE, weight_decay=0.0)
    (gradient, *_) = gradients((64, 128))
    for parameter, optimizer in ((ours, muon), (theirs, adamw)):
        parameter.grad = gradient.clone()
        optimizer.step()
    moved = ours.data.square().mean().sqrt() / theirs.data.square().mean().sqrt()
    assert 0.1 < moved < 0.4  # Liu et al.: 0.2 to 0.4 of the rate


def test_decay_shrinks_what_has_no_gradient_to_speak_of() -> None:
    matrix = torch.nn.Parameter(torch.eye(4))
    matrix.grad = torch.zeros(4, 4)
    Muon([{"params": [matrix], "lr": RATE, "weight_decay": DECAY, "orthogonal": True}]).step()
    torch.testing.assert_close(matrix.data, torch.eye(4) * (1 - RATE * DECAY))


@pytest.mark.parametrize("orthogonal", [True, False])
def test_it_goes_on_from_a_saved_state(orthogonal: bool) -> None:
    def made(value: torch.Tensor) -> tuple[torch.nn.Parameter, Muon]:
        parameter = torch.nn.Parameter(value.clone())
        return parameter, Muon([{"params": [parameter], "lr": RATE, "orthogonal": orthogonal}])

    parameter, optimizer = made(torch.zeros(3, 5))
    middle: tuple[torch.Tensor, dict[str, object]] | None = None
    for step, gradient in enumerate(gradients((3, 5))):
        if step == 2:
            middle = parameter.data.clone(), copy.deepcopy(optimizer.state_dict())
        parameter.grad = gradient.clone()
        optimizer.step()
    assert middle is not None
    again, resumed = made(middle[0])
    resumed.load_state_dict(middle[1])
    for gradient in gradients((3, 5))[2:]:
        again.grad = gradient.clone()
        resumed.step()
    assert torch.equal(again.data, parameter.data)
