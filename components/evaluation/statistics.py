"""Ratios with bootstrap intervals, resampled by image: the questions of one image are not independent.

Percentile bootstrap over clusters (Davison and Hinkley, Bootstrap Methods and their Application, 1997,
sections 2.4 and 3.8). A ratio that is 0 or 1 in every image gets an interval of width 0: the bootstrap
cannot see what did not happen.
"""

from collections.abc import Mapping, Sequence

import numpy as np
import numpy.typing as npt

from components.rcmu.models import Frozen

Numbers = npt.NDArray[np.float64]


class Estimate(Frozen):
    """A metric with its interval; `n` is what the ratio is taken over."""

    value: float
    low: float
    high: float
    n: int


def cluster_weights(clusters: int, *, resamples: int, seed: int) -> npt.NDArray[np.int64]:
    """How often each cluster is drawn in each resample: shape (resamples, clusters)."""
    return np.random.default_rng(seed).multinomial(clusters, np.full(clusters, 1 / clusters), size=resamples)


def ratio(
    numerators: Numbers, denominators: Numbers, weights: npt.NDArray[np.int64], *, confidence: float
) -> Estimate:
    """Sum of numerators over sum of denominators, each of shape (clusters,); 0/0 counts as 0."""
    total = float(denominators.sum())
    drawn = weights @ denominators
    with np.errstate(invalid="ignore", divide="ignore"):
        resampled = np.where(drawn > 0, (weights @ numerators) / drawn, np.nan)
    tail = (1 - confidence) / 2
    if total == 0:
        return Estimate(value=0.0, low=0.0, high=0.0, n=0)
    low, high = np.nanquantile(resampled, [tail, 1 - tail])
    return Estimate(
        value=round(float(numerators.sum()) / total, 6),
        low=round(float(low), 6),
        high=round(float(high), 6),
        n=int(total),
    )


def sums_by_cluster(clusters: Sequence[str], values: Sequence[float], index: Mapping[str, int]) -> Numbers:
    """Sum `values` per cluster: shape (len(index),), in the order of `index`."""
    sums = np.zeros(len(index))
    for cluster, value in zip(clusters, values, strict=True):
        sums[index[cluster]] += value
    return sums
