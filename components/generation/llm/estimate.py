"""What the LLM route would cost: the route itself, against answers of typical length, without a call."""

import asyncio
from collections.abc import Sequence
from pathlib import Path

from components.generation.llm.route import make_shard, pools_of
from components.generation.shard import Shard
from components.llm import (
    Answer,
    Journal,
    Prompt,
    SetAside,
    cost,
    digest_of,
    estimated_input,
    estimated_tokens,
    request_of,
)
from components.params import LlmParams
from components.rcmu.models import Frozen


class Estimate(Frozen):
    """Calls that are still to be made. Tokens are characters divided by four: no endpoint was asked."""

    calls: int
    answered: int  # prompts whose answers are in the journal already
    input_tokens: int
    output_tokens: int
    usd: float | None  # None where the params give no prices


def estimate_shards(shards: Sequence[Shard], params: LlmParams, *, seed: int, journal: Path) -> Estimate:
    """What the shards that are not whole would cost.

    Args:
        shards: of both splits.
        params: the model and its prices.
        seed: as of `write_llm_shards`.
        journal: what was answered costs nothing; it need not exist.

    Raises:
        ValueError: for a row that is no scene, naming file and row.
    """

    async def run(asker: _Typical) -> Estimate:
        pools, _ = await pools_of(shards, asker, params, seed=seed)
        for shard in shards:
            if not shard.is_whole():
                await make_shard(shard, pools, asker)
        return asker.estimate()

    asker = _Typical(params, seed, Journal(journal) if journal.exists() else None)
    return asyncio.run(run(asker))


class _Typical:
    """Answers from the journal, else with each prompt's own typical answer, and counts those."""

    def __init__(self, params: LlmParams, seed: int, journal: Journal | None) -> None:
        self._params, self._seed, self._journal = params, seed, journal
        self._asked: set[str] = set()
        self._answered = self._input = self._output = 0

    async def ask(self, prompt: Prompt[Answer]) -> Answer | SetAside:
        request = request_of(prompt, self._params, seed=self._seed)
        digest = digest_of(request)
        new = digest not in self._asked
        self._asked.add(digest)
        kept = self._journal.result(digest) if self._journal else None
        if kept is not None:
            self._answered += new
            return kept.wrong or prompt.answer.model_validate_json(kept.answer or "")
        if new:
            self._input += estimated_input(request)
            self._output += estimated_tokens(prompt.typical.model_dump_json())
        return prompt.typical

    def estimate(self) -> Estimate:
        return Estimate(
            calls=len(self._asked) - self._answered,
            answered=self._answered,
            input_tokens=self._input,
            output_tokens=self._output,
            usd=cost(self._params, input_tokens=self._input, output_tokens=self._output),
        )
