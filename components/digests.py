"""What files hold, as SHA-256."""

import hashlib
from collections.abc import Iterable
from pathlib import Path


def inputs_digest(settings: str, files: Iterable[Path]) -> str:
    """SHA-256 over the stage's settings and the names and bytes of its input files."""
    digest = hashlib.sha256(settings.encode())
    for path in sorted(files):
        digest.update(f"\0{path.name}\0{file_digest(path)}".encode())
    return digest.hexdigest()


def file_digest(path: Path) -> str:
    """SHA-256 of a file."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
