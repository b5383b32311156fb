"""A gate means something: the thresholds that pass a trained model refuse the untrained one."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from components.params import Params
from components.registry import GateVerdict, judge
from tests.e2e.conftest import Checkout, small_params

PARTS = ("vision", "merger", "language")


def verdict_after(checkout: Checkout, params: Params, *, steps: int) -> GateVerdict:
    """Train and evaluate by the stages, then judge with the params' own thresholds."""
    content = params.model_dump()
    content["training"].update(steps=steps)
    checkout.write_params(content)
    for stage in ("train", "evaluate"):
        result = checkout.run(stage, module="components.stages")
        assert result.returncode == 0, result.stderr
    summary = json.loads((checkout.root / "outs/evaluation/metrics.json").read_text())
    return judge(summary["metrics"], params.gate.staging, dirty=False)


@pytest.mark.system  # two whole trainings
def test_trained_passes_and_untrained_is_refused_with_the_same_thresholds(
    repo: Path, make_checkout: Callable[..., Checkout]
) -> None:
    small = small_params(
        repo,
        source={"scenes": 48, "max_regions": 2, "benchmark_share": 0.2},
        generation={"context_sets": 3, "facts_per_text": 1},
        training={
            "world_size": 1,
            "gradient_accumulation": 2,
            "checkpoint_every": 200,
            "learning_rates": dict.fromkeys(PARTS, 0.004),
        },
        evaluation={"max_new_tokens": 40},
    )
    params = Params.model_validate(small)  # the thresholds are the tiny profile's own
    assert all(threshold > 0 for threshold in params.gate.staging.values())
    checkout = make_checkout("gate", small)
    for stage in ("source", "generate"):
        assert checkout.run(stage, module="components.stages").returncode == 0
    untrained = verdict_after(checkout, params, steps=0)
    assert not untrained.passed
    assert all(requirement.short_by > 0 for requirement in untrained.requirements)
    trained = verdict_after(checkout, params, steps=200)
    assert trained.passed, trained.lines
