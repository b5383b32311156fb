"""Bounds on what many rows have in common: each broken one is named, as an error or as a warning."""

from collections.abc import Callable
from pathlib import Path
from typing import Literal

import pytest
from pydantic import ValidationError

from components.params import Bound
from tests.validation.test_validate import BOUNDS, Tables, clean, of_split, planted

__all__ = ["clean"]


def bound(least: float | None, most: float | None, severity: Literal["error", "warning"] = "error") -> Bound:
    return Bound(least=least, most=most, severity=severity)


def few_refusals(tables: Tables) -> None:
    tables.turns[:] = [t for t in tables.turns if not t["task"].startswith("unanswerable")]


def no_c2v(tables: Tables) -> None:
    tables.turns[:] = [t for t in tables.turns if t["task"] != "c2v"]


def always_the_first(tables: Tables) -> None:
    """Each context set in the order in which its answers cite, so that `[1]` is always right."""
    tables.turns[:] = [t for t in tables.turns if t["citations"] == [1] or not t["citations"]]


def long_text(tables: Tables) -> None:
    of_split(tables.contexts, "train")["regions"][0]["text"] += " again" * 300


def tiny_box(tables: Tables) -> None:
    of_split(tables.scenes, "train")["regions"][0].update(x1=10, x2=12, y1=10, y2=12)


def scene_without_a_turn(tables: Tables) -> None:
    scene = of_split(tables.scenes, "train")["scene_id"]
    tables.turns[:] = [t for t in tables.turns if t["scene_id"] != scene]


@pytest.mark.parametrize(
    ("plant", "measure", "limits", "said"),
    [
        (few_refusals, "refusals_share", (0.1, 0.5), "turns-train-*.parquet (train): refusals_share=0.0"),
        (no_c2v, "task_share", (0.01, 0.5), "turns-train-*.parquet (train c2v): task_share=0.0"),
        (
            always_the_first,
            "first_citation",
            (0.2, 0.8),
            "turns-train-*.parquet (train): first_citation=0.0",
        ),
        (long_text, "text_words", (3, 100), "text_words=3"),
        (tiny_box, "box_area", (0.001, None), "box_area=4e-06"),
        (scene_without_a_turn, "turns_per_scene", (1, None), "turns_per_scene=0"),
    ],
)
def test_a_broken_bound_is_an_error_or_a_warning(
    plant: Callable[[Tables], object],
    measure: str,
    limits: tuple[float | None, float | None],
    said: str,
    clean: Path,
    tmp_path: Path,
) -> None:
    results = {}
    for severity in ("error", "warning"):
        bounds = BOUNDS.model_copy(
            update={measure: bound(*limits, "error" if severity == "error" else "warning")}
        )
        for name, plan in (("sound", lambda _: None), ("planted", plant)):
            out = tmp_path / f"{severity}-{name}"
            out.mkdir()
            results[severity, name] = planted(clean, out, plan, bounds)
    for severity in ("error", "warning"):
        sound = results[severity, "sound"]
        assert sound.success and not sound.warnings, (sound.failures, sound.warnings)
    (failure,) = results["error", "planted"].failures
    (warning,) = results["warning", "planted"].warnings
    assert failure == warning.replace("warning-", "error-")
    assert failure.startswith(f"{measure}_in_bounds: ")
    assert said in failure
    assert "\n  cure: " in failure
    assert results["warning", "planted"].success
    assert not results["error", "planted"].success


@pytest.mark.parametrize(("least", "most"), [(None, None), (0.5, 0.4)])
def test_a_bound_that_bounds_nothing_or_everything_is_refused(
    least: float | None, most: float | None
) -> None:
    with pytest.raises(ValidationError, match=r"bound nothing|larger than most"):
        bound(least, most)
