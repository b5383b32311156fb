"""Checkpoints that are whole or are not there.

A checkpoint counts only when COMPLETE, written last, lists the digest of every file in it. They live
outside the DVC outs, in a folder named by the digest of the stage's inputs: other params, data or code
never resume from it. One that was put there from elsewhere is refused.
"""

import json
import os
import shutil
import sys
from pathlib import Path
from typing import Any

from components.digests import file_digest
from components.errors import TrainingError

COMPLETE = "COMPLETE"


def mark_complete(checkpoint: Path, *, inputs: str, world_size: int) -> None:
    """Flush every file to the disk, then write COMPLETE with their digests and what may resume from them."""
    digests: dict[str, str] = {}
    for path in _files(checkpoint):
        _flush(path)
        digests[str(path.relative_to(checkpoint))] = file_digest(path)
    for folder in (path for path in checkpoint.rglob("*") if path.is_dir()):
        _flush(folder)
    unfinished = checkpoint / f".{COMPLETE}"
    with unfinished.open("w", encoding="utf-8") as file:
        content = {"files": digests, "inputs": inputs, "world_size": world_size}
        json.dump(content, file, indent=1, sort_keys=True)
        file.flush()
        os.fsync(file.fileno())
    unfinished.rename(checkpoint / COMPLETE)
    _flush(checkpoint)
    _flush(checkpoint.parent)


def newest_complete(folder: Path, *, inputs: str, world_size: int) -> Path | None:
    """The checkpoint with the most steps whose digests match; damaged and newer ones are removed.

    Raises:
        TrainingError: when it belongs to other inputs, or to another number of ranks.
    """
    found = sorted(folder.glob("checkpoint-*"), key=lambda path: int(path.name.split("-")[1]), reverse=True)
    for checkpoint in found:
        try:
            content = _content(checkpoint)
        except ValueError as reason:
            print(f"checkpoint {checkpoint.name} is not used: {reason}", file=sys.stderr, flush=True)
            shutil.rmtree(checkpoint)
            continue
        if content["world_size"] != world_size:
            raise TrainingError(
                f"{checkpoint} was written by {content['world_size']} rank(s), this run has {world_size}",
                hint=f"set training.world_size to {content['world_size']}, or remove {folder} to start anew",
            )
        if content["inputs"] != inputs:
            raise TrainingError(
                f"{checkpoint} belongs to other params, data or code",
                hint=f"go back to those it was made with, or remove {folder} to start anew",
            )
        return checkpoint
    return None


def _content(checkpoint: Path) -> dict[str, Any]:
    """What COMPLETE says. Raises ValueError with the reason why the checkpoint cannot be trusted."""
    try:
        content: dict[str, Any] = json.loads((checkpoint / COMPLETE).read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise ValueError("it was not written to the end") from None
    except json.JSONDecodeError:
        raise ValueError("its list of digests is damaged") from None
    for name, digest in content["files"].items():
        path = checkpoint / name
        if not path.is_file() or file_digest(path) != digest:
            raise ValueError(f"{name} is missing or damaged")
    return content


def _flush(path: Path) -> None:
    """Wait until a file, or a folder's list of names, is on the disk."""
    opened = os.open(path, os.O_RDONLY)
    try:
        os.fsync(opened)
    finally:
        os.close(opened)


def _files(folder: Path) -> list[Path]:
    return sorted(path for path in folder.rglob("*") if path.is_file() and path.name != COMPLETE)
