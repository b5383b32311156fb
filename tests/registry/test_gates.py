"""The staging gate says yes exactly when every lower bound reaches its threshold, and otherwise why not."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from components.registry import judge

share = st.floats(min_value=0, max_value=1)
names = st.sampled_from(["accuracy", "citation_f1", "citation_recall"])


def measured(lows: dict[str, float]) -> dict[str, dict[str, float]]:
    return {name: {"value": low, "low": low, "high": 1.0, "n": 10} for name, low in lows.items()}


@given(st.dictionaries(names, share), st.dictionaries(names, share, min_size=1))
def test_it_passes_exactly_when_every_lower_bound_reaches_its_threshold(
    lows: dict[str, float], thresholds: dict[str, float]
) -> None:
    verdict = judge(measured(lows), thresholds, dirty=False)
    reached = {name: name in lows and lows[name] >= needed for name, needed in thresholds.items()}
    assert verdict.passed == all(reached.values())
    assert [requirement.metric for requirement in verdict.requirements] == sorted(thresholds)
    for requirement in verdict.requirements:
        assert requirement.met == reached[requirement.metric]
        if requirement.low is not None:
            assert requirement.low + requirement.short_by >= requirement.needed - 1e-12
            assert requirement.met == (requirement.short_by == 0)
    assert not judge(measured(lows), thresholds, dirty=True).passed


def test_a_metric_nobody_measured_refuses_and_says_so() -> None:
    verdict = judge(measured({"accuracy": 1.0}), {"accuracy": 0.5, "citation_f1": 0.0}, dirty=False)
    assert not verdict.passed
    assert "citation_f1 was not measured" in verdict.lines[1]
    assert verdict.requirements[1].low is None


def test_the_value_does_not_count_only_its_lower_bound() -> None:
    estimate = {"accuracy": {"value": 0.9, "low": 0.4, "high": 1.0, "n": 3}}
    verdict = judge(estimate, {"accuracy": 0.5}, dirty=False)
    assert not verdict.passed
    assert verdict.requirements[0].short_by == pytest.approx(0.1)
    assert verdict.lines == ("accuracy lower bound 0.400 is short of 0.500 by 0.100",)


def test_a_dirty_checkout_is_an_obstacle_with_a_cure() -> None:
    verdict = judge(measured({"accuracy": 1.0}), {"accuracy": 0.5}, dirty=True)
    assert "dirty" in verdict.lines[0]
    assert "commit" in verdict.lines[0]
    assert verdict.requirements[0].met
