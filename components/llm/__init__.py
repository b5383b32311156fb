"""One door to every LLM: prompts with a schema, a journal of answers, a ledger, a budget.

The client itself is in `components.llm.client`: importing it costs a second.
"""

from components.llm.endpoint import Endpoint, endpoint_of, journal_of
from components.llm.journal import Journal, LedgerLine
from components.llm.prompts import (
    Answer,
    Asker,
    Prompt,
    SetAside,
    cost,
    digest_of,
    estimated_input,
    estimated_tokens,
    request_of,
)

__all__ = [
    "Answer",
    "Asker",
    "Endpoint",
    "Journal",
    "LedgerLine",
    "Prompt",
    "SetAside",
    "cost",
    "digest_of",
    "endpoint_of",
    "estimated_input",
    "estimated_tokens",
    "journal_of",
    "request_of",
]
