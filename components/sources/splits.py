"""Which scenes train and which are kept for the benchmark."""

import random
from collections.abc import Mapping, Sequence

from components.errors import DataError
from components.rcmu import Split


def assign_splits(
    instances: Mapping[str, Sequence[str]], *, benchmark_share: float, seed: int
) -> dict[str, Split]:
    """Shuffle scenes into the two splits, at least one in each.

    Args:
        instances: scene id -> ids of the objects in it. Scenes that share an object stay together.
        benchmark_share: the share of scenes that the benchmark gets, as near as whole groups allow.
        seed: of the shuffle.

    Raises:
        DataError: when the scenes cannot be parted.
    """
    groups = _linked(instances)
    if len(groups) < 2:
        raise DataError(
            f"{len(instances)} usable scene(s) cannot be parted: training and benchmark need one each, "
            "and share no object",
            hint="add images of other objects, or raise source.scenes in params.yaml",
        )
    random.Random(f"{seed}:split").shuffle(groups)  # noqa: S311 - makes data, not keys
    wanted = min(max(1, round(len(instances) * benchmark_share)), len(instances) - 1)
    benchmark: set[str] = set()
    for group in groups:
        if len(benchmark) + len(group) <= wanted:
            benchmark.update(group)
    if not benchmark:
        sizes = [len(group) for group in groups]
        benchmark.update(groups[sizes.index(min(sizes))])
    return {scene: Split.BENCHMARK if scene in benchmark else Split.TRAIN for scene in instances}


def _linked(instances: Mapping[str, Sequence[str]]) -> list[list[str]]:
    """Scenes in groups that share no object with each other, in the order of their first scene."""
    group_of: dict[str, list[str]] = {}  # instance id -> the scenes it ties together
    for scene, members in instances.items():
        merged = [scene]
        for instance in members:
            known = group_of.get(instance, [])
            if known and known is not merged:
                known.extend(merged)
                for other, group in group_of.items():
                    if group is merged:
                        group_of[other] = known
                merged = known
            group_of[instance] = merged
    unique = {id(group): group for group in group_of.values()}
    return list(unique.values())
