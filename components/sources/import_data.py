"""The door for outside photos: checked, copied whole or not at all, put under DVC."""

import re
import shutil
import subprocess
import sys
from pathlib import Path

from components.errors import DataError, SettingsError
from components.sources.coco import read_coco

ANNOTATIONS = "annotations.json"


def import_folder(path: Path, *, name: str | None, workspace: Path) -> Path:
    """Copy a COCO JSON and the images it names to data/<name> and `dvc add` them.

    Args:
        path: a folder that holds annotations.json, or the JSON file itself.
        name: folder under data/; without one, the name of the folder that is imported.
        workspace: root of a repository that uses DVC.

    Returns:
        The annotations file relative to the workspace: the value of source.annotations.

    Raises:
        DataError: when the data is broken, or the name is taken or not allowed.
        SettingsError: when DVC refuses.
    """
    annotations = path / ANNOTATIONS if path.is_dir() else path
    if name is None:
        name = re.sub(r"[^a-z0-9_-]+", "-", annotations.resolve().parent.name.lower()).strip("-")
    if not re.fullmatch(r"[a-z0-9_-]+", name):
        raise DataError(
            f"{name!r} is no name for a data folder",
            hint="give one of lower-case letters, digits, - and _ with --name",
        )
    target = workspace / "data" / name
    pointer = target.with_name(f"{name}.dvc")
    if pointer.exists():
        raise DataError(
            f"data/{name} is there already",
            hint=f"give another --name, or `dvc remove data/{name}.dvc`, delete data/{name} and import again",
        )
    if target.exists():
        raise DataError(
            f"data/{name} is there already, and not under DVC",
            hint=f"give another --name, or delete data/{name} (a stopped import may have left it)",
        )
    photos = read_coco(annotations)
    building = workspace / ".rcvit" / "importing" / name  # not under data/, which a stage depends on
    shutil.rmtree(building, ignore_errors=True)
    try:
        building.mkdir(parents=True)
        for photo in photos:
            copy = building / photo.name
            copy.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(photo.path, copy)
        shutil.copyfile(annotations, building / ANNOTATIONS)
        target.parent.mkdir(exist_ok=True)
        building.rename(target)
    finally:
        shutil.rmtree(building, ignore_errors=True)
    try:
        _dvc_add(f"data/{name}", workspace)
    except BaseException:
        shutil.rmtree(target, ignore_errors=True)
        pointer.unlink(missing_ok=True)
        raise
    boxes = sum(len(photo.objects) for photo in photos)
    print(f"data/{name}: {len(photos)} images with {boxes} boxes", file=sys.stderr, flush=True)
    return Path("data") / name / ANNOTATIONS


def _dvc_add(folder: str, workspace: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "dvc", "add", "--quiet", folder],
        cwd=workspace,
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode:
        raise SettingsError(
            f"`dvc add {folder}` failed:\n{done.stderr.strip()}",
            hint="nothing was imported; repair what DVC names (`rcvit doctor` helps), then import again",
        )
