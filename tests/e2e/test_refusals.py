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


# A line that plants one defect in the generated tables, as a broken generator would.
PLANTS = {
    "a citation of a region that is not there": 't[0]["citations"], t[0]["answer"] = [9], "It is.[9]"',
    "a turn that is there twice": 't.append({**t[0], "turn_id": t[0]["turn_id"] + "-again"})',
    "an image in both splits": 's.append({**s[0], "scene_id": "copy", '
    '"split": "benchmark" if s[0]["split"] == "train" else "train"})',
}
PLANTED = """

def plant(scenes_folder, folder):
    from components.rcmu import tables
    s = list(tables.read_rows(scenes_folder / "scenes.parquet"))
    t = list(tables.read_rows(folder / "turns.parquet"))
    {line}
    tables.write_rows(scenes_folder / "scenes.parquet", tables.SCENES, s)
    tables.write_rows(folder / "turns.parquet", tables.TURNS, t)

_clean = write_turns

def write_turns(scenes_folder, params, *, seed, folder):
    _clean(scenes_folder, params, seed=seed, folder=folder)
    plant(scenes_folder, folder)
"""


@pytest.mark.parametrize("defect", list(PLANTS))
def test_planted_defects_stop_the_stage_and_keep_the_result(defect: str, checkout: Checkout) -> None:
    source = checkout.run("source", module="components.stages")
    assert source.returncode == 0, source.stderr
    generator = checkout.root / "components/generation/__init__.py"
    clean = generator.read_text()
    generator.write_text(clean + PLANTED.format(line=PLANTS[defect]))
    try:
        assert checkout.run("generate", module="components.stages").returncode == 0
    finally:
        generator.write_text(clean)
    result = checkout.run("validate", module="components.stages")
    assert result.returncode == 13, result.stderr
    assert "row" in result.stderr
    assert "what to do" in result.stderr
    kept = json.loads((checkout.root / "outs/validation/result.json").read_text())
    assert not kept["success"]
    assert list((checkout.root / ".rcvit/data_docs").rglob("index.html"))


def test_invalid_data_stops_the_flow_before_training(
    repo: Path, make_checkout: Callable[..., Checkout]
) -> None:
    broken = make_checkout("invalid", small_params(repo))
    generator = broken.root / "components/generation/__init__.py"
    line = PLANTS["a turn that is there twice"]
    generator.write_text(generator.read_text() + PLANTED.format(line=line))
    broken.commit("a generator that repeats itself")
    result = broken.run("run")
    assert result.returncode == 13, result.stdout + result.stderr
    assert "what to do" in result.stderr
    assert broken.versions() == []
    assert not list(broken.root.glob(".rcvit/runs/*/outs/model"))
