"""The staging gate: the lower interval bound of each metric must reach its threshold (own choice)."""

from collections.abc import Mapping
from typing import Any

from pydantic import BaseModel, ConfigDict


class Requirement(BaseModel):
    """One metric before its threshold."""

    model_config = ConfigDict(frozen=True)

    metric: str
    needed: float
    low: float | None  # the interval's lower bound; none when the benchmark did not measure it

    @property
    def short_by(self) -> float:
        """How much is missing; 0 when the threshold is met."""
        return max(self.needed - (self.low if self.low is not None else 0.0), 0.0)

    @property
    def met(self) -> bool:
        """A metric that was not measured never meets its threshold."""
        return self.low is not None and self.low >= self.needed

    def __str__(self) -> str:
        if self.low is None:
            return f"{self.metric} was not measured; {self.needed:.3f} is needed"
        if self.met:
            return f"{self.metric} lower bound {self.low:.3f} reaches {self.needed:.3f}"
        return (
            f"{self.metric} lower bound {self.low:.3f} is short of {self.needed:.3f} by {self.short_by:.3f}"
        )


class GateVerdict(BaseModel):
    """Every requirement, and whatever else forbids the promotion."""

    model_config = ConfigDict(frozen=True)

    requirements: tuple[Requirement, ...]
    obstacles: tuple[str, ...] = ()

    @property
    def passed(self) -> bool:
        """Whether the version may leave `candidate`."""
        return not self.obstacles and all(requirement.met for requirement in self.requirements)

    @property
    def lines(self) -> tuple[str, ...]:
        """The reasons, one a line."""
        return (*self.obstacles, *(str(requirement) for requirement in self.requirements))


def judge(
    metrics: Mapping[str, Mapping[str, Any]], thresholds: Mapping[str, float], *, dirty: bool
) -> GateVerdict:
    """Hold metrics ({name: {"value", "low", "high", "n"}}) against thresholds ({name: lower bound}).

    A version of a dirty checkout has no commit that makes it again: it cannot leave `candidate`.
    """
    return GateVerdict(
        requirements=tuple(
            Requirement(metric=name, needed=needed, low=metrics[name]["low"] if name in metrics else None)
            for name, needed in sorted(thresholds.items())
        ),
        obstacles=("the version comes from a dirty checkout: commit and run again",) if dirty else (),
    )
