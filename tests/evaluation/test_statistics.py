"""Intervals: against closed forms and against the clustering they must respect."""

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from components.evaluation.statistics import cluster_weights, ratio, sums_by_cluster


def test_interval_of_a_mean_matches_the_normal_approximation() -> None:
    outcomes = np.array([1.0] * 120 + [0.0] * 280)
    estimate = ratio(outcomes, np.ones(400), cluster_weights(400, resamples=4000, seed=1), confidence=0.95)
    half = 1.96 * np.sqrt(0.3 * 0.7 / 400)
    assert estimate.value == 0.3
    assert abs(estimate.low - (0.3 - half)) < 0.006
    assert abs(estimate.high - (0.3 + half)) < 0.006


def test_questions_of_one_image_do_not_narrow_the_interval() -> None:
    per_image = np.array([1.0] * 10 + [0.0] * 30)
    weights = cluster_weights(40, resamples=1000, seed=2)
    once = ratio(per_image, np.ones(40), weights, confidence=0.95)
    tenfold = ratio(per_image * 10, np.full(40, 10.0), weights, confidence=0.95)
    assert (once.low, once.high) == (tenfold.low, tenfold.high)


@settings(max_examples=30)
@given(st.lists(st.tuples(st.integers(0, 5), st.integers(1, 5)), min_size=2, max_size=30))
def test_an_interval_is_ordered_and_fixed_by_the_seed(counts: list[tuple[int, int]]) -> None:
    right = np.array([min(a, b) for a, b in counts], dtype=float)
    asked = np.array([b for _, b in counts], dtype=float)
    weights = cluster_weights(len(counts), resamples=300, seed=3)
    estimate = ratio(right, asked, weights, confidence=0.99)
    assert 0 <= estimate.low <= estimate.high <= 1
    assert estimate == ratio(
        right, asked, cluster_weights(len(counts), resamples=300, seed=3), confidence=0.99
    )


def test_nothing_asked_is_zero_of_zero() -> None:
    estimate = ratio(np.zeros(3), np.zeros(3), cluster_weights(3, resamples=100, seed=0), confidence=0.95)
    assert (estimate.value, estimate.n) == (0.0, 0)


def test_sums_by_cluster() -> None:
    index = {"a": 0, "b": 1}
    assert sums_by_cluster(["b", "a", "b"], [1, 2, 3], index).tolist() == [2, 4]
