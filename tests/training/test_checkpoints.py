"""A checkpoint is whole or it is not there."""

from pathlib import Path

import pytest

from components.digests import inputs_digest
from components.errors import TrainingError
from components.training.checkpoints import COMPLETE, mark_complete, newest_complete


def checkpoint(folder: Path, step: int, *, complete: bool = True) -> Path:
    made = folder / f"checkpoint-{step}"
    (made / "global_step").mkdir(parents=True)
    (made / "model.safetensors").write_bytes(bytes(step))
    (made / "global_step/optimizer.pt").write_bytes(b"state")
    if complete:
        mark_complete(made, inputs="a" * 64, world_size=2)
    return made


def newest(folder: Path, *, inputs: str = "a" * 64, world_size: int = 2) -> Path | None:
    return newest_complete(folder, inputs=inputs, world_size=world_size)


def test_one_of_another_world_size_is_refused_with_what_to_do(tmp_path: Path) -> None:
    kept = checkpoint(tmp_path, 2)
    with pytest.raises(
        TrainingError, match=r"checkpoint-2 was written by 2 rank\(s\), this run has 4"
    ) as caught:
        newest(tmp_path, world_size=4)
    assert "training.world_size to 2" in caught.value.hint
    assert kept.exists()


def test_one_of_other_inputs_is_refused(tmp_path: Path) -> None:
    kept = checkpoint(tmp_path, 2)
    with pytest.raises(TrainingError, match="other params, data or code") as caught:
        newest(tmp_path, inputs="b" * 64)
    assert str(tmp_path) in caught.value.hint
    assert kept.exists()


def test_the_newest_by_steps_wins(tmp_path: Path) -> None:
    checkpoint(tmp_path, 90)
    last = checkpoint(tmp_path, 100)
    assert newest(tmp_path) == last


def test_nothing_there(tmp_path: Path) -> None:
    assert newest(tmp_path) is None


def test_an_unfinished_one_is_skipped_with_a_notice(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    whole, half = checkpoint(tmp_path, 2), checkpoint(tmp_path, 4, complete=False)
    assert newest(tmp_path) == whole
    assert not half.exists()
    assert "checkpoint-4 is not used: it was not written to the end" in capsys.readouterr().err


@pytest.mark.parametrize("damage", ["truncate", "delete", "list"])
def test_a_damaged_one_is_skipped(tmp_path: Path, damage: str) -> None:
    whole, damaged = checkpoint(tmp_path, 2), checkpoint(tmp_path, 4)
    if damage == "truncate":
        (damaged / "model.safetensors").write_bytes(b"")
    elif damage == "delete":
        (damaged / "global_step/optimizer.pt").unlink()
    else:
        (damaged / COMPLETE).write_text("{")
    assert newest(tmp_path) == whole


def test_the_digest_sees_settings_names_and_bytes(tmp_path: Path) -> None:
    first, second = tmp_path / "a", tmp_path / "b"
    first.write_bytes(b"1")
    second.write_bytes(b"2")
    digest = inputs_digest("{}", [first, second])
    assert digest == inputs_digest("{}", [second, first])
    assert digest != inputs_digest("{ }", [first, second])
    second.write_bytes(b"3")
    assert digest != inputs_digest("{}", [first, second])
