"""The curve and what stops training."""

import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from components.errors import TrainingError
from components.training.callbacks import Progress

FIGURES = {"questions_per_second": 80.0, "grad_norm": 1.0}


def state(step: int, *, first: bool = True) -> Any:
    return SimpleNamespace(global_step=step, max_steps=40, is_world_process_zero=first)


def log(progress: Progress, step: int, loss: float, *, first: bool = True, **figures: float) -> None:
    logs = {"loss": loss, **FIGURES, **figures}
    progress.on_log(None, state(step, first=first), None, logs=logs)


def points(curve: Path) -> list[dict[str, float]]:
    return [json.loads(line) for line in curve.read_text().splitlines()]


def test_a_resumed_curve_goes_on_behind_the_checkpoint(tmp_path: Path) -> None:
    curve = tmp_path / "curve.jsonl"
    curve.write_text("".join(json.dumps({"step": step, "loss": 1.0}) + "\n" for step in (10, 20, 30)))
    progress = Progress(curve, resumed=Path("checkpoint-20"))
    progress.on_train_begin(None, state(20), None)
    log(progress, 30, 0.5)
    assert [(point["step"], point["loss"]) for point in points(curve)] == [(10, 1.0), (20, 1.0), (30, 0.5)]


def test_progress_has_a_bar_the_speed_and_the_time_left(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    progress = Progress(tmp_path / "curve.jsonl", resumed=None)
    progress.on_train_begin(None, state(0), None)
    log(progress, 10, 0.25)
    said = capsys.readouterr().err
    assert said.startswith("[======                  ] 10/40  loss 0.2500  80 questions/s")
    assert said.rstrip().endswith(" left")


def test_a_spike_is_marked(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    progress = Progress(tmp_path / "curve.jsonl", resumed=None)
    progress.on_train_begin(None, state(0), None)
    for step in range(1, 12):
        log(progress, step, 1.0 + 0.01 * (step % 3))
    log(progress, 12, 1.5)
    assert [point["spike"] for point in points(progress.curve)] == [0.0] * 11 + [1.0]
    assert capsys.readouterr().err.count("(a spike)") == 1


@pytest.mark.parametrize("first", [True, False])
def test_a_gradient_that_is_no_number_stops_every_rank(tmp_path: Path, first: bool) -> None:
    progress = Progress(tmp_path / "curve.jsonl", resumed=None)
    progress.on_train_begin(None, state(0, first=first), None)
    with pytest.raises(TrainingError, match="gradient is nan at step 10"):
        log(progress, 10, 1.0, first=first, grad_norm=float("nan"))


def test_other_ranks_write_nothing(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    progress = Progress(tmp_path / "curve.jsonl", resumed=None)
    progress.on_train_begin(None, state(0, first=False), None)
    log(progress, 10, 1.0, first=False)
    assert not progress.curve.exists()
    assert capsys.readouterr().err == ""
