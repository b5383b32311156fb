"""Starts the endpoint of the tests, and reads what it was asked."""

import json
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from pydantic import SecretStr

from components.llm import Endpoint

SERVER = Path(__file__).with_name("server.py")


class Fake:
    """A running endpoint."""

    def __init__(self, port: int, log: Path) -> None:
        self.url, self.log = f"http://127.0.0.1:{port}/v1", log

    def notes(self) -> list[tuple[str, str]]:
        """(digest of a request, what became of it), in order."""
        lines = self.log.read_text().splitlines() if self.log.exists() else []
        return [(note["digest"], note["what"]) for note in map(json.loads, lines)]

    def count(self, what: str) -> int:
        return sum(noted == what for _, noted in self.notes())

    def endpoint(
        self, journal: Path, *, key: str | None = None, max_usd: float | None = None, concurrency: int = 8
    ) -> Endpoint:
        secret = SecretStr(key) if key else None
        return Endpoint(
            url=self.url, api_key=secret, concurrency=concurrency, max_usd=max_usd, journal=journal
        )


@contextmanager
def serving(log: Path, *options: str) -> Iterator[Fake]:
    """The endpoint in a process of its own, until the block ends."""
    command = [sys.executable, str(SERVER), "--log", str(log), *options]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout
        try:
            yield Fake(int(process.stdout.readline()), log)
        finally:
            process.kill()
