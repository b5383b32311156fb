"""The door for outside photos: checked, copied whole or not at all, put under DVC."""

import re
import shutil
import subprocess
import sys
from pathlib import Path

from components.errors import DataError, SettingsError
from components.params import PhotoKind
from components.sources.readers import read_photos


def import_photos(
    path: Path, *, kind: PhotoKind, name: str | None, skip_broken: bool, workspace: Path
) -> Path:
    """Copy the annotation files of a source and the images they name to data/<name> and `dvc add` them.

    Args:
        path: a file or folder that the reader of `kind` takes.
        kind: of the source.
        name: folder under data/; without one, the name of the folder that is imported.
        skip_broken: take the rest where records are broken; source.skip_broken must say the same then.
        workspace: root of a repository that uses DVC.

    Returns:
        The value of source.annotations: a file, or the folder, relative to the workspace.

    Raises:
        DataError: when the data is broken, or the name is taken or not allowed.
        SettingsError: when DVC refuses.
    """
    folder = path if path.is_dir() else path.parent
    if name is None:
        name = re.sub(r"[^a-z0-9_-]+", "-", folder.resolve().name.lower()).strip("-")
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
    reading = read_photos(kind, path, skip_broken=skip_broken)
    building = workspace / ".rcvit" / "importing" / name  # not under data/, which a stage depends on
    shutil.rmtree(building, ignore_errors=True)
    try:
        building.mkdir(parents=True)
        copies = {photo.name: photo.path for photo in reading.photos}
        copies |= {file.relative_to(folder).as_posix(): file for file in reading.files}
        for copied, file in copies.items():
            copy = building / copied
            copy.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(file, copy)
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
    boxes = sum(len(photo.record.objects) for photo in reading.photos)
    print(f"data/{name}: {len(reading.photos)} images with {boxes} boxes", file=sys.stderr, flush=True)
    for where, what in reading.skipped:
        print(f"  left out: {where}: {what}", file=sys.stderr, flush=True)
    # One file stands for itself, several for their folder, unless one of them was named.
    main = reading.files[0] if len(reading.files) == 1 else path
    return Path("data") / name / main.relative_to(folder)


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
