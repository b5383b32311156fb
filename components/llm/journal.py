"""The journal: every answer is on the disk before it is used, and every call that was counted.

One SQLite file, write-ahead, synchronous FULL: it survives kill -9 and a power cut, and several processes
may use it. An answer lies under the digest of its whole request, so it serves every run that asks the same.
"""

import sqlite3
from pathlib import Path

from components.llm.prompts import SetAside
from components.llm.replies import Reply
from components.rcmu.models import Frozen

_WAIT = 60.0  # seconds for another process's write
_TABLES = """
CREATE TABLE IF NOT EXISTS results (
  digest TEXT PRIMARY KEY,
  answer TEXT,  -- JSON; null where the prompt was set aside
  reason TEXT,
  detail TEXT
) STRICT;
CREATE TABLE IF NOT EXISTS calls (
  id INTEGER PRIMARY KEY,
  digest TEXT NOT NULL,
  job TEXT NOT NULL,
  model TEXT NOT NULL,
  outcome TEXT NOT NULL,  -- answered, or what was wrong with the reply
  input_tokens INTEGER NOT NULL,
  output_tokens INTEGER NOT NULL,
  estimated INTEGER NOT NULL,
  usd REAL
) STRICT;
CREATE INDEX IF NOT EXISTS calls_of_digest ON calls (digest);
CREATE INDEX IF NOT EXISTS calls_of_job ON calls (job);
"""


class Kept(Frozen):
    """A settled prompt: its answer as JSON, or why it was set aside."""

    answer: str | None
    wrong: SetAside | None


class LedgerLine(Frozen):
    """What the calls of one job and model have cost, as far as the endpoint counted."""

    job: str
    model: str
    calls: int
    answered: int
    input_tokens: int
    output_tokens: int
    estimated: int  # calls whose tokens the endpoint did not say
    usd: float | None  # None where a call had no price


class Journal:
    """Answers and calls of one SQLite file; its folder is made."""

    def __init__(self, path: Path) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        self._database = sqlite3.connect(path, timeout=_WAIT, isolation_level=None)
        self._database.execute("PRAGMA journal_mode = WAL")
        self._database.execute("PRAGMA synchronous = FULL")
        self._database.executescript(_TABLES)

    def close(self) -> None:
        """Let go of the file."""
        self._database.close()

    def result(self, digest: str) -> Kept | None:
        """What a prompt was settled with; None for one that is to be asked."""
        row = self._database.execute(
            "SELECT answer, reason, detail FROM results WHERE digest = ?", (digest,)
        ).fetchone()
        if row is None:
            return None
        answer, reason, detail = row
        wrong = SetAside(reason=reason, detail=detail) if answer is None else None
        return Kept(answer=answer, wrong=wrong)

    def spoiled(self, digest: str) -> int:
        """Replies to an unsettled prompt that could not be used."""
        (number,) = self._database.execute(
            "SELECT count(*) FROM calls WHERE digest = ?", (digest,)
        ).fetchone()
        return int(number)

    def keep(
        self, digest: str, reply: Reply, *, settled: bool, job: str, model: str, usd: float | None
    ) -> None:
        """Write a reply that came whole: it is on the disk when this returns.

        Args:
            digest: of the request.
            reply: what came.
            settled: the prompt is answered, or set aside and never asked again.
            job: what the call was made for.
            model: who was asked.
            usd: what the call cost; None where it is unknown.
        """
        outcome = reply.wrong.reason if reply.wrong else "answered"
        usage = reply.usage
        call = (digest, job, model, outcome, usage.input_tokens, usage.output_tokens, usage.estimated, usd)
        self._database.execute("BEGIN IMMEDIATE")
        try:
            self._database.execute(
                "INSERT INTO calls (digest, job, model, outcome, input_tokens, output_tokens, estimated, usd)"
                " VALUES (?, ?, ?, ?, ?, ?, ?, ?)",
                call,
            )
            if settled:
                reason, detail = (reply.wrong.reason, reply.wrong.detail) if reply.wrong else (None, None)
                # Another process may have been answered first: its answer is the one in use.
                self._database.execute(
                    "INSERT OR IGNORE INTO results VALUES (?, ?, ?, ?)",
                    (digest, reply.answer, reason, detail),
                )
            self._database.execute("COMMIT")
        except BaseException:
            self._database.execute("ROLLBACK")
            raise

    def spent(self, job: str) -> float:
        """US dollars that the calls of a job have cost, all restarts together."""
        (usd,) = self._database.execute(
            "SELECT coalesce(sum(usd), 0.0) FROM calls WHERE job = ?", (job,)
        ).fetchone()
        return float(usd)

    def ledger(self, job: str | None = None) -> tuple[LedgerLine, ...]:
        """A line for each job and model, or for those of one job."""
        rows = self._database.execute(
            "SELECT job, model, count(*), sum(outcome = 'answered'), sum(input_tokens), sum(output_tokens),"
            " sum(estimated), CASE WHEN count(usd) = count(*) THEN sum(usd) END"
            " FROM calls WHERE ?1 IS NULL OR job = ?1 GROUP BY job, model ORDER BY min(id)",
            (job,),
        )
        return tuple(LedgerLine(**dict(zip(LedgerLine.model_fields, row, strict=True))) for row in rows)
