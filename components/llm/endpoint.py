"""Where the LLM is, and what it may cost: no part of the result."""

from pathlib import Path

from pydantic import SecretStr

from components.errors import SettingsError
from components.rcmu.models import Frozen
from components.settings import Settings


class Endpoint(Frozen):
    """An OpenAI-compatible endpoint with this machine's journal of its answers."""

    url: str
    api_key: SecretStr | None
    concurrency: int
    max_usd: float | None  # for one job, restarts included; None: no limit
    journal: Path


def journal_of(settings: Settings) -> Path:
    """Where the answers lie: one file for all runs of a checkout."""
    return settings.home / "llm" / "journal.db"


def endpoint_of(settings: Settings) -> Endpoint:
    """The endpoint that the settings name.

    Raises:
        SettingsError: when they name none.
    """
    if settings.llm_url is None:
        raise SettingsError(
            "generation.route llm needs an LLM, and RCVIT_LLM_URL is not set",
            hint="set it to an OpenAI-compatible endpoint such as http://127.0.0.1:8000/v1, or use "
            "`generation.route: plain`",
        )
    return Endpoint(
        url=settings.llm_url,
        api_key=settings.llm_api_key,
        concurrency=settings.llm_concurrency,
        max_usd=settings.llm_max_usd,
        journal=journal_of(settings),
    )
