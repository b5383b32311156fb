"""git as a command: without an identity, and whatever repository the caller's environment points at."""

import os
import subprocess
from pathlib import Path

from components.errors import SettingsError

# Set inside git hooks: they would turn every command of ours to the hook's repository.
_OF_A_HOOK = ("GIT_DIR", "GIT_WORK_TREE", "GIT_INDEX_FILE", "GIT_PREFIX", "GIT_OBJECT_DIRECTORY")


def git(folder: Path, *arguments: str) -> str:
    """Standard output of a git command in a folder; bytes that are not UTF-8 come as surrogates.

    Raises:
        SettingsError: with git's own words.
    """
    try:
        result = subprocess.run(
            ["git", *arguments],
            cwd=folder,
            env={name: value for name, value in os.environ.items() if name not in _OF_A_HOOK},
            capture_output=True,
            encoding="utf-8",
            errors="surrogateescape",
        )
    except FileNotFoundError as error:
        raise SettingsError(f"{error.filename} does not exist", hint="install git; run in a clone") from error
    if result.returncode:
        command = next((word for word in arguments if not word.startswith("-") and "=" not in word), "")
        raise SettingsError(
            f"git {command} failed in {folder}: {result.stderr.strip()}",
            hint="run this in a clone that you own and that has a commit; git says the rest",
        )
    return result.stdout


def find_checkout(start: Path) -> Path:
    """The root of the checkout that holds a folder."""
    return Path(git(start, "rev-parse", "--show-toplevel").rstrip("\n"))


def main_checkout(start: Path) -> Path:
    """The checkout that owns the git folder: the same for all its worktrees."""
    return Path(git(start, "rev-parse", "--path-format=absolute", "--git-common-dir").rstrip("\n")).parent
