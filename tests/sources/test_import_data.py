"""Outside photos enter whole, through a real DVC, or not at all."""

import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from components.errors import DataError, SettingsError
from components.sources import import_photos


def import_folder(path: Path, *, name: str | None, workspace: Path) -> Path:
    return import_photos(path, kind="coco", name=name, skip_broken=False, workspace=workspace)


@pytest.fixture
def workspace(tmp_path: Path) -> Path:
    root = tmp_path / "workspace"
    root.mkdir()
    subprocess.run(["git", "init", "--quiet"], cwd=root, check=True)
    subprocess.run([sys.executable, "-m", "dvc", "init", "--quiet"], cwd=root, check=True)
    return root


@pytest.fixture
def photos(tmp_path: Path, real_regions: Path) -> Path:
    """Three real photos and a file that nobody names."""
    folder = tmp_path / "My Photos"
    (folder / "images").mkdir(parents=True)
    content = json.loads((real_regions / "annotations.json").read_text())
    content["images"] = content["images"][:3]
    kept = {image["id"] for image in content["images"]}
    for key in ("annotations", "captions"):
        content[key] = [record for record in content[key] if record["image_id"] in kept]
    for image in content["images"]:
        shutil.copyfile(real_regions / "images" / image["file_name"], folder / "images" / image["file_name"])
    (folder / "annotations.json").write_text(json.dumps(content))
    (folder / "images/private.txt").write_text("not named in the JSON")
    return folder


def files_below(folder: Path) -> list[str]:
    return sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file())


def test_photos_come_in_under_dvc(workspace: Path, photos: Path) -> None:
    relative = import_folder(photos, name=None, workspace=workspace)
    assert relative == Path("data/my-photos/annotations.json")
    assert (workspace / relative).read_bytes() == (photos / "annotations.json").read_bytes()
    assert len(files_below(workspace / "data/my-photos")) == 4
    assert "images/private.txt" not in files_below(workspace / "data/my-photos")
    assert (workspace / "data/my-photos.dvc").is_file()
    tracked = subprocess.run(
        [sys.executable, "-m", "dvc", "status", "--json"], cwd=workspace, check=True, capture_output=True
    )
    assert json.loads(tracked.stdout) == {}
    with pytest.raises(DataError, match="there already") as caught:
        import_folder(photos / "annotations.json", name="my-photos", workspace=workspace)
    assert "--name" in caught.value.hint


def test_broken_photos_leave_nothing_behind(workspace: Path, photos: Path) -> None:
    next((photos / "images").glob("*.jpg")).write_bytes(b"not a photo")
    before = files_below(workspace)
    with pytest.raises(DataError, match=r"images\[\d\]"):
        import_folder(photos, name="photos", workspace=workspace)
    assert files_below(workspace) == before


def test_a_refusing_dvc_leaves_nothing_behind(tmp_path: Path, photos: Path) -> None:
    bare = tmp_path / "bare"
    bare.mkdir()
    with pytest.raises(SettingsError, match="dvc add"):
        import_folder(photos, name="photos", workspace=bare)
    assert files_below(bare) == []


@pytest.mark.parametrize("name", ["../out", "A", "a b", "", "."])
def test_names_that_could_leave_data_are_refused(workspace: Path, photos: Path, name: str) -> None:
    with pytest.raises(DataError, match="no name for a data folder"):
        import_folder(photos, name=name, workspace=workspace)


def test_leftovers_of_a_stopped_import_are_named(workspace: Path, photos: Path) -> None:
    (workspace / "data/photos").mkdir(parents=True)
    with pytest.raises(DataError, match="not under DVC") as caught:
        import_folder(photos, name="photos", workspace=workspace)
    assert "delete data/photos" in caught.value.hint
