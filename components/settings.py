"""Where things are: RCVIT_* in the environment. What changes a result is in params.yaml instead."""

import os
from pathlib import Path
from typing import Annotated

from pydantic import AfterValidator, Field, SecretStr, ValidationError
from pydantic_settings import BaseSettings, SettingsConfigDict

from components.errors import SettingsError
from components.git import main_checkout

# MLflow 3.17 refuses plain folders (file://) for tracking.
_TRACKING_SCHEMES = ("http", "https", "sqlite", "postgresql", "mysql", "mssql")


def _is_http(value: str) -> str:
    if not value.startswith(("http://", "https://")):
        raise ValueError("it must start with http:// or https://")
    return value.rstrip("/")


def _is_keyless(value: str) -> str:
    if "@" in value or "?" in value:
        raise ValueError("it must hold no user, password or query: the key goes to RCVIT_LLM_API_KEY")
    return value


def _is_tracking_uri(value: str) -> str:
    scheme, separator, _ = value.partition("://")
    if not separator or scheme.split("+")[0] not in _TRACKING_SCHEMES:
        raise ValueError(f"it must start with one of {', '.join(_TRACKING_SCHEMES)} and ://")
    return value


def _cores() -> int:
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


class Settings(BaseSettings):
    """The environment of a command. Every field can be set as RCVIT_<NAME>; an empty value is none."""

    model_config = SettingsConfigDict(env_prefix="RCVIT_", env_ignore_empty=True, frozen=True, extra="ignore")

    home: Path  # runs, databases, logs; `.rcvit` of the main checkout
    # MLflow: a server, or a database as SQLAlchemy names it; SQLite under home
    tracking_uri: Annotated[str, AfterValidator(_is_tracking_uri)]
    # none: each run starts its own server
    prefect_api_url: Annotated[str, AfterValidator(_is_http)] | None = None
    dvc_remote: str | None = None  # a remote's name in .dvc/config, or a URL; none: nothing is pushed

    workers: int = Field(default_factory=_cores, ge=1)  # processes that make data beside each other
    dask_scheduler: str | None = None  # tcp://host:port of a Dask cluster that makes data instead

    # An OpenAI-compatible endpoint, such as http://127.0.0.1:8000/v1; the LLM route needs one.
    llm_url: Annotated[str, AfterValidator(_is_http), AfterValidator(_is_keyless)] | None = None
    llm_api_key: SecretStr | None = None  # none for an endpoint that asks for none
    llm_concurrency: int = Field(default=8, ge=1)  # requests at a time
    llm_max_usd: float | None = Field(default=None, gt=0)  # what one data set may cost, restarts included

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
