"""Results of other data or of another run are never taken for this run's."""

from pathlib import Path
from typing import Any

import pytest

from components.ablation import ablate, command
from components.errors import DataError
from components.settings import Settings
from components.workspace import Run


def run_in(folder: Path, digest: str) -> Run:
    return Run(
        checkout=folder,
        folder=folder,
        params_file=folder,
        commit="c",
        params_digest="p",
        digest=digest,
        dirty=True,
    )


def test_results_lie_by_run_and_data(repo: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[Path] = []

    def measured(*_: Any, folder: Path, **__: Any) -> list[Any]:
        asked.append(folder)
        raise DataError("stop here", hint="")

    monkeypatch.setattr(command, "measure", measured)
    (tmp_path / "params.yaml").write_bytes((repo / "params.yaml").read_bytes())
    for name in ("scenes/scenes", "turns/contexts", "turns/turns"):
        path = tmp_path / f"outs/{name}-train-00000.parquet"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"first")
    settings = Settings(home=tmp_path, tracking_uri=f"sqlite:///{tmp_path}/mlflow.db")
    calls = [("a", b"first"), ("a", b"first"), ("b", b"first"), ("a", b"second")]
    for digest, turns in calls:
        (tmp_path / "outs/turns/turns-train-00000.parquet").write_bytes(turns)
        with pytest.raises(DataError, match="stop here"):
            ablate(run_in(tmp_path, digest), settings)
    assert asked[0] == asked[1]
    assert len(set(asked)) == 3


def test_a_run_without_data_is_told_what_to_do(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="no data yet"):
        ablate(run_in(tmp_path, "a"), Settings(home=tmp_path, tracking_uri=f"sqlite:///{tmp_path}/mlflow.db"))
