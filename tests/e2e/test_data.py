"""`rcvit data`: made without a run, by processes or by Dask, and published as others load it."""

import json
from collections.abc import Callable
from pathlib import Path

import datasets

from tests.e2e.conftest import Checkout, small_params


def test_data_is_made_and_checked_and_nothing_else(
    repo: Path, make_checkout: Callable[..., Checkout], tmp_path: Path
) -> None:
    checkout = make_checkout("data", small_params(repo))
    early = checkout.run("data", "publish", str(tmp_path / "published"))
    assert early.returncode != 0
    assert "rcvit data generate" in early.stderr
    assert not (tmp_path / "published").exists()

    by_dask = checkout.run("data", "generate", "--dask", "2")
    assert by_dask.returncode == 0, by_dask.stderr
    said = by_dask.stdout + by_dask.stderr
    assert [f"stage {name} ran" in said for name in ("source", "generate", "validate")] == [True] * 3
    assert "stage train" not in said
    (workspace,) = (path.parent for path in checkout.root.glob(".rcvit/runs/*/dvc.lock"))
    turns = {path.name: path.read_bytes() for path in (workspace / "outs/turns").iterdir()}
    assert not (workspace / "outs/model").exists()
    assert checkout.versions() == []

    again = checkout.run("data", "generate")
    assert again.returncode == 0, again.stderr
    assert (again.stdout + again.stderr).count("skipped") >= 3
    assert {path.name: path.read_bytes() for path in (workspace / "outs/turns").iterdir()} == turns

    published = checkout.run("data", "publish", str(tmp_path / "published"))
    assert published.returncode == 0, published.stderr
    summary = json.loads((workspace / "outs/turns/summary.json").read_text())
    loaded = datasets.load_dataset(str(tmp_path / "published"), "turns", cache_dir=str(tmp_path / "cache"))
    assert {split: loaded[split].num_rows for split in loaded} == {
        split: sum(counts.values()) for split, counts in summary["turns"].items()
    }
