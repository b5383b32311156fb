"""What is asked of an LLM: a prompt with the schema of its answer, and the request it becomes."""

import hashlib
import json
from dataclasses import dataclass
from typing import Any, Generic, Protocol, TypeVar

from components.params import LlmParams
from components.rcmu.models import Frozen

CHARACTERS_PER_TOKEN = 4  # of an estimate, before the endpoint has counted (own choice)

Answer = TypeVar("Answer", bound=Frozen)
_Answer_co = TypeVar("_Answer_co", bound=Frozen, covariant=True)


@dataclass(frozen=True)
class Prompt(Generic[_Answer_co]):
    """A question to the LLM. The answer's model, its docstring too, is the schema that the LLM gets."""

    system: str
    user: str
    answer: type[_Answer_co]
    typical: _Answer_co  # of about the length to expect; stands in for the answer in an estimate


class SetAside(Frozen):
    """Instead of an answer: the LLM was asked twice and gave nothing that can be used."""

    reason: str  # "refusal", "malformed", "wrong schema", "cut off" or "too long"
    detail: str  # the last reply's own words, cut


class Asker(Protocol):
    """Who answers prompts: an endpoint, or an estimate of one."""

    async def ask(self, prompt: Prompt[Answer]) -> Answer | SetAside:
        """The answer, or why there is none."""


def request_of(prompt: Prompt[Any], params: LlmParams, *, seed: int) -> dict[str, Any]:
    """The body of a chat-completions request: all that the answer depends on, and nothing else."""
    schema = {
        "name": prompt.answer.__name__,
        "schema": prompt.answer.model_json_schema(),
        "strict": True,
    }
    return {
        "model": params.model,
        "messages": [
            {"role": "system", "content": prompt.system},
            {"role": "user", "content": prompt.user},
        ],
        "response_format": {"type": "json_schema", "json_schema": schema},
        "temperature": params.temperature,
        "max_tokens": params.max_tokens,
        "seed": seed,
    }


def digest_of(request: dict[str, Any]) -> str:
    """SHA-256 of a request: what the journal knows its answer by."""
    text = json.dumps(request, sort_keys=True, ensure_ascii=False, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()


def estimated_input(request: dict[str, Any]) -> int:
    """Tokens of a request, by its characters."""
    parts = [*(message["content"] for message in request["messages"]), json.dumps(request["response_format"])]
    return estimated_tokens("".join(parts))


def estimated_tokens(text: str) -> int:
    """Tokens of a text, by its characters."""
    return -(-len(text) // CHARACTERS_PER_TOKEN)


def cost(params: LlmParams, *, input_tokens: int, output_tokens: int) -> float | None:
    """US dollars; None where the params give no prices."""
    if params.usd_per_million_input is None or params.usd_per_million_output is None:
        return None
    spent = input_tokens * params.usd_per_million_input + output_tokens * params.usd_per_million_output
    return spent / 1e6
