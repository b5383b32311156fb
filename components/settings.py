"""Where things are: RCVIT_* in the environment. What changes a result is in params.yaml instead."""

import os
import subprocess
from pathlib import Path
from typing import Annotated

from pydantic import AfterValidator, ValidationError
from pydantic_settings import BaseSettings, SettingsConfigDict

from components.errors import SettingsError


def _is_url(value: str) -> str:
    if "://" not in value:
        raise ValueError("not a URL: it has no ://")
    return value.rstrip("/")


Url = Annotated[str, AfterValidator(_is_url)]


class Settings(BaseSettings):
    """The environment of a command. Every field can be set as RCVIT_<NAME>; an empty value is none."""

    model_config = SettingsConfigDict(env_prefix="RCVIT_", env_ignore_empty=True, frozen=True, extra="ignore")

    home: Path  # runs, databases, logs; `.rcvit` of the main checkout
    tracking_uri: Url  # MLflow: a server, or a database as SQLAlchemy names it; SQLite under home
    prefect_api_url: Url | None = None  # none: each run starts its own server
    dvc_remote: str | None = None  # a remote's name in .dvc/config, or a URL; none: nothing is pushed

    @property
    def artifact_root(self) -> str | None:
        """Where artifacts go when MLflow is a database and not a server that decides itself."""
        return None if self.tracking_uri.startswith("http") else str(self.home / "mlartifacts")


def load_settings(start: Path | None = None) -> Settings:
    """Read the environment; `start` is a folder inside the checkout, by default the current one.

    Raises:
        SettingsError: with every mistake at once.
    """
    home = Path(os.environ.get("RCVIT_HOME") or main_checkout(start or Path.cwd()) / ".rcvit").resolve()
    tracking_uri = os.environ.get("RCVIT_TRACKING_URI") or f"sqlite:///{home}/mlflow.db"
    try:
        return Settings(home=home, tracking_uri=tracking_uri)
    except ValidationError as error:
        # The value itself may hold a password and is not shown.
        mistakes = [f"  RCVIT_{str(m['loc'][0]).upper()}: {m['msg']}" for m in error.errors()]
        raise SettingsError(
            f"{len(mistakes)} setting(s) are wrong:\n" + "\n".join(mistakes),
            hint="correct or unset them; `rcvit doctor` shows all settings",
        ) from None


def main_checkout(start: Path) -> Path:
    """The checkout that owns the git folder: the same for all its worktrees."""
    command = ["git", "rev-parse", "--path-format=absolute", "--git-common-dir"]
    found = subprocess.run(command, cwd=start, capture_output=True, text=True)
    if found.returncode:
        raise SettingsError(
            f"{start} is not inside a git checkout that git may read: {found.stderr.strip()}",
            hint="run this in a clone of the repository, owned by you",
        )
    return Path(found.stdout.strip()).parent
