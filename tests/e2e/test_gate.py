"""A gate means something: the thresholds that pass a trained model refuse the untrained one."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest
import yaml

from components.params import Params
from components.registry import GateVerdict, judge
from tests.e2e.conftest import Checkout


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


@pytest.mark.system  # a whole training: minutes, and many of them on a busy machine
@pytest.mark.timeout(1800)
def test_trained_passes_and_untrained_is_refused_with_the_same_thresholds(
    repo: Path, make_checkout: Callable[..., Checkout]
) -> None:
    content = yaml.safe_load((repo / "params.yaml").read_text())
    content["source"].update(scenes=300)
    content["training"].update(checkpoint_every=240)
    params = Params.model_validate(content)  # the thresholds are the tiny profile's own
    assert all(threshold > 0 for threshold in params.gate.staging.values())
    checkout = make_checkout("gate", content)
    for stage in ("source", "generate"):
        assert checkout.run(stage, module="components.stages").returncode == 0
    untrained = verdict_after(checkout, params, steps=0)  # the tiny base as it ships
    assert not untrained.passed
    assert all(requirement.short_by > 0 for requirement in untrained.requirements)
    trained = verdict_after(checkout, params, steps=240)
    assert trained.passed, trained.lines
