"""Bad input through the real commands: a clear error, a code that is not 0, nothing registered."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.e2e.conftest import Checkout, small_params


@pytest.fixture(scope="module")
def checkout(repo: Path, make_checkout: Callable[..., Checkout]) -> Checkout:
    return make_checkout("refusals", small_params(repo))


def annotation(content: dict[str, Any]) -> dict[str, Any]:
    """The first annotation that a scene is made of."""
    return next(a for a in content["annotations"] if a.get("phrase"))


def box_outside(content: dict[str, Any], images: Path) -> str:
    broken = annotation(content)
    broken["bbox"] = [0, 0, 5000, 10]
    return str(broken["id"])


def box_inverted(content: dict[str, Any], images: Path) -> str:
    broken = annotation(content)
    broken["bbox"][2] = -4
    return str(broken["id"])


def image_missing(content: dict[str, Any], images: Path) -> str:
    name = str(content["images"][0]["file_name"])
    (images / name).unlink()
    return name


def image_truncated(content: dict[str, Any], images: Path) -> str:
    path = images / content["images"][0]["file_name"]
    path.write_bytes(path.read_bytes()[:2000])
    return str(path.name)


@pytest.mark.parametrize("plant", [box_outside, box_inverted, image_missing, image_truncated])
def test_a_broken_photo_folder_is_refused_whole(
    plant: Callable[[dict[str, Any], Path], str], checkout: Checkout, real_regions: Path, tmp_path: Path
) -> None:
    folder = tmp_path / "broken"
    shutil.copytree(real_regions, folder)
    folder.chmod(0o755)
    for path in [*folder.rglob("*")]:
        path.chmod(0o755 if path.is_dir() else 0o644)
    content = json.loads((folder / "annotations.json").read_text())
    named = plant(content, folder / "images")
    (folder / "annotations.json").write_text(json.dumps(content))
    result = checkout.run("data", "import", str(folder), "--name", "broken")
    said = result.stdout + result.stderr
    assert result.returncode == 12, said
    assert named in said
    assert "annotations.json" in said
    assert "what to do" in said
    assert "Traceback" not in said
    assert not list((checkout.root / "data").glob("broken*"))


def test_three_mistakes_in_params_are_reported_at_once(
    checkout: Checkout, repo: Path, tmp_path: Path
) -> None:
    params = small_params(repo)
    params["seed"], params["training"]["steps"] = -1, "many"
    params["surprise"] = 1
    profile = tmp_path / "mistakes.yaml"
    profile.write_text(yaml.safe_dump(params))
    result = checkout.run("run", "--profile", str(profile))
    assert result.returncode == 10
    said = result.stdout + result.stderr
    assert all(name in said for name in ("3 mistake(s)", "seed", "training.steps", "surprise"))
    assert checkout.versions() == []


# What a broken generator would write: three defects, and the expectations that find them.
PLANTED = """

def plant(scenes_folder, folder):
    from components.rcmu import tables
    scenes = scenes_folder / "scenes-train-00000.parquet"
    turns = folder / "turns-train-00000.parquet"
    s = list(tables.read_rows(scenes))
    t = list(tables.read_rows(turns))
    t[0]["citations"], t[0]["answer"] = [9], "It is.[9]"
    t.append({**t[1], "turn_id": t[1]["turn_id"] + "-again"})
    benchmark = scenes_folder / "scenes-benchmark-00000.parquet"
    b = [*tables.read_rows(benchmark), {**s[0], "scene_id": "copy", "split": "benchmark"}]
    tables.write_rows(benchmark, tables.SCENES, b)
    tables.write_rows(turns, tables.TURNS, t)

_clean = write_turns

def write_turns(scenes_folder, params, *, folder, **rest):
    _clean(scenes_folder, params, folder=folder, **rest)
    plant(scenes_folder, folder)
"""
FOUND_BY = ("citations_resolve", "turns_unique", "images_in_one_split")


@pytest.mark.system  # a Prefect server of its own
def test_invalid_data_stops_the_flow_before_training_and_keeps_the_result(
    repo: Path, make_checkout: Callable[..., Checkout]
) -> None:
    """Each defect alone: tests/validation."""
    broken = make_checkout("invalid", small_params(repo))
    generator = broken.root / "components/generation/__init__.py"
    generator.write_text(generator.read_text() + PLANTED)
    broken.commit("a generator that cites nothing, repeats itself and mixes the splits")
    result = broken.run("run")
    assert result.returncode == 13, result.stdout + result.stderr
    assert all(name in result.stderr for name in (*FOUND_BY, "row", "what to do")), result.stderr
    assert broken.versions() == []
    (workspace,) = broken.root.glob(".rcvit/runs/*/outs")
    assert not (workspace / "model").exists()
    assert list(workspace.parent.glob(".rcvit/data_docs/**/index.html"))
