"""The one door to every LLM: the `openai` client, against any endpoint that speaks its protocol.

Each prompt is answered once: from the journal, or by the endpoint and then from the journal. This module owns
the retries. Nobody can tell whether a call that broke off was billed: the ledger counts whole replies.
"""

import asyncio
import contextlib
import logging
import sys
from collections.abc import AsyncIterator
from types import TracebackType
from typing import Any, Self

import httpx2
import openai
from tqdm import tqdm

from components.errors import BudgetError, EndpointError, ParamsError, SettingsError
from components.llm.endpoint import Endpoint
from components.llm.journal import Journal, Kept
from components.llm.prompts import Answer, Prompt, SetAside, cost, digest_of, estimated_input, request_of
from components.llm.replies import Reply, judge, too_long
from components.params import LlmParams

# All own choices.
TIMEOUT = 180.0  # seconds for one try, from its first byte to its last
TRIES = 6  # of a call that does not come through; about a minute and a half of waiting in all
FIRST_WAIT = 2.0  # seconds before the second try, doubled before each later one
LONGEST_WAIT = 600.0  # seconds that an endpoint may ask us to wait
SPOILED_REPLIES = 2  # that a prompt is set aside after
BODY_LIMIT = 4_000_000  # bytes of a response

_HINTS = {
    401: "check RCVIT_LLM_API_KEY",
    403: "check RCVIT_LLM_API_KEY, and whether it may use the model llm.model of the params",
    404: "check RCVIT_LLM_URL (it ends in /v1 for most endpoints) and llm.model of the params",
}
_REFUSED = "check llm.model and llm.max_tokens of the params, and whether the endpoint knows json_schema"
_AGAIN = "run the same command again: what was answered is kept"

# At DEBUG these log whole requests, and how they hide headers is not ours to say.
for _name in ("openai", "httpx2", "httpcore2"):
    logging.getLogger(_name).setLevel(logging.WARNING)


class _TooLong(Exception):  # noqa: N818 - a reply, not an error of ours
    """The body went over BODY_LIMIT."""


class Llm:
    """`async with Llm(...) as llm: answer = await llm.ask(prompt)`.

    Calls in flight are awaited and journaled when the block ends, also by an error.

    Args:
        endpoint: who is asked.
        params: the model and how it answers.
        seed: of the model's own draw, where it has one.
        job: what the calls are made for; `max_usd` counts the calls of one job.

    Raises:
        ParamsError: when `max_usd` is given and the params have no prices.
    """

    def __init__(self, endpoint: Endpoint, params: LlmParams, *, seed: int, job: str) -> None:
        if endpoint.max_usd is not None and params.usd_per_million_input is None:
            raise ParamsError(
                "a limit in US dollars needs prices, and the params have none",
                hint="set llm.usd_per_million_input and llm.usd_per_million_output, or give no --max-usd",
            )
        self._params, self._seed, self._job, self._limit = params, seed, job, endpoint.max_usd
        self._url = endpoint.url
        self._key = endpoint.api_key.get_secret_value() if endpoint.api_key else ""
        self._client = openai.AsyncOpenAI(
            base_url=endpoint.url,
            api_key=self._key or "none",  # the client wants one, an endpoint of one's own may not
            max_retries=0,
            timeout=TIMEOUT,
            # Compressed, a small body could become a large one.
            default_headers={"Accept-Encoding": "identity"},
            http_client=openai.DefaultAsyncHttpxClient(event_hooks={"response": [_bound]}),
        )
        self._journal = Journal(endpoint.journal)
        self._gate = asyncio.Semaphore(endpoint.concurrency)
        self._asking: dict[str, asyncio.Task[Kept]] = {}
        self._money = asyncio.Condition()
        self._spent = self._journal.spent(job)
        self._in_flight: dict[str, float] = {}  # what the calls under way may cost
        self._stopped: Exception | None = None
        self._stop_signal = asyncio.Event()
        self._bar: tqdm[Any] = tqdm(desc="LLM answers", unit="answer", mininterval=2, file=sys.stderr)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if error is not None:
            self._stop(EndpointError("the run was stopped", hint=_AGAIN))
        await asyncio.gather(*self._asking.values(), return_exceptions=True)
        self._bar.close()
        await self._client.close()
        self._journal.close()

    async def ask(self, prompt: Prompt[Answer]) -> Answer | SetAside:
        """The answer, or why the prompt was set aside.

        Raises:
            EndpointError: when no try came through.
            SettingsError: when the endpoint refuses the request itself.
            BudgetError: when the call could cost more than is left.
        """
        request = request_of(prompt, self._params, seed=self._seed)
        digest = digest_of(request)
        kept = self._journal.result(digest)
        if kept is None:
            if digest not in self._asking:
                self._asking[digest] = asyncio.create_task(self._settle(prompt, request, digest))
                self._asking[digest].add_done_callback(lambda _: self._asking.pop(digest, None))
            # Shielded: a call that is under way may have been paid, so nobody's error ends it.
            kept = await asyncio.shield(self._asking[digest])
        if kept.wrong is not None:
            return kept.wrong
        return prompt.answer.model_validate_json(kept.answer or "")

    async def _settle(self, prompt: Prompt[Answer], request: dict[str, Any], digest: str) -> Kept:
        """Ask until the prompt is answered or set aside, each whole reply journaled as it comes."""
        async with self._gate:
            while True:
                await self._reserve(request, digest)
                try:
                    reply = await self._reply(prompt, request)
                    self._keep(digest, reply)
                except Exception as error:
                    self._stop(error)  # whatever it is, a full disk too: no call more is paid for
                    raise
                finally:
                    await self._release(digest)
                if kept := self._journal.result(digest):
                    self._bar.update()
                    self._bar.set_postfix_str(f"${self._spent:.2f}", refresh=False)
                    return kept

    def _keep(self, digest: str, reply: Reply) -> None:
        usage = reply.usage
        usd = cost(self._params, input_tokens=usage.input_tokens, output_tokens=usage.output_tokens)
        self._spent += usd or 0.0
        settled = reply.wrong is None or self._journal.spoiled(digest) + 1 >= SPOILED_REPLIES
        self._journal.keep(digest, reply, settled=settled, job=self._job, model=self._params.model, usd=usd)

    async def _reserve(self, request: dict[str, Any], digest: str) -> None:
        """Wait until the call at its dearest fits into what is left; stop all when it never will."""
        tokens = estimated_input(request)
        dearest = cost(self._params, input_tokens=tokens, output_tokens=self._params.max_tokens) or 0.0
        async with self._money:
            while True:
                self._raise_if_stopped()
                needed = self._spent + sum(self._in_flight.values()) + dearest
                if self._limit is None or needed <= self._limit:
                    self._in_flight[digest] = dearest
                    return
                if not self._in_flight:
                    error = BudgetError(
                        f"the LLM has cost {self._spent:.4f} of {self._limit:.4f} US dollars, and the next "
                        f"call could cost {dearest:.4f}",
                        hint="raise --max-usd (or RCVIT_LLM_MAX_USD) and run the same command again: what "
                        "was answered is kept",
                    )
                    self._stop(error)
                    raise error
                await self._money.wait()

    async def _release(self, digest: str) -> None:
        async with self._money:
            self._in_flight.pop(digest, None)
            self._money.notify_all()

    def _stop(self, error: Exception) -> None:
        """No call is started from here on; the first error is the one to tell."""
        self._stopped = self._stopped or error
        self._stop_signal.set()

    def _raise_if_stopped(self) -> None:
        if self._stopped is not None:
            raise self._stopped

    async def _reply(self, prompt: Prompt[Answer], request: dict[str, Any]) -> Reply:
        """One whole reply, after as many tries as it takes and is allowed."""
        failure = ""
        for number in range(TRIES):
            self._raise_if_stopped()
            wait = FIRST_WAIT * 2**number
            try:
                async with asyncio.timeout(TIMEOUT):
                    raw = await self._client.chat.completions.with_raw_response.create(**request)
                body = self._without_key(raw.text)
                return judge(body, prompt, estimated_input=estimated_input(request))
            except openai.APIStatusError as error:
                if error.status_code not in (408, 409, 429) and error.status_code < 500:
                    raise self._refused(error) from None
                failure = self._said(error)
                wait = max(wait, _retry_after(error))
            except (openai.APIConnectionError, httpx2.HTTPError, TimeoutError, _TooLong) as error:
                if isinstance(error, _TooLong) or isinstance(error.__cause__, _TooLong):
                    return too_long(BODY_LIMIT, estimated_input=estimated_input(request))
                late = isinstance(error, TimeoutError | openai.APITimeoutError | httpx2.TimeoutException)
                failure = f"no whole answer within {TIMEOUT:g} s" if late else "the connection broke"
            if wait > LONGEST_WAIT:
                failure += f", and it asks to wait {wait:.0f} s"
                break
            if number + 1 < TRIES:
                with contextlib.suppress(TimeoutError):
                    await asyncio.wait_for(self._stop_signal.wait(), wait)
        raise EndpointError(f"the LLM endpoint {self._url} gave no answer: {failure}", hint=_AGAIN)

    def _refused(self, error: openai.APIStatusError) -> SettingsError:
        return SettingsError(
            f"the LLM endpoint {self._url} refuses the request: {self._said(error)}",
            hint=_HINTS.get(error.status_code, _REFUSED),
        )

    def _said(self, error: openai.APIStatusError) -> str:
        words = " ".join(self._without_key(error.message).split())
        return f"status {error.status_code}: {words[:300]}"

    def _without_key(self, text: str) -> str:
        """Some endpoints repeat the key in what they say."""
        return text.replace(self._key, "(the key)") if self._key else text


async def _bound(response: httpx2.Response) -> None:
    """Read no more of a response than BODY_LIMIT."""
    if response.headers.get("content-encoding", "identity") != "identity":
        raise httpx2.DecodingError("the endpoint compresses, though asked not to")
    whole = response.stream
    if isinstance(whole, httpx2.AsyncByteStream):
        response.stream = _Bounded(whole)


class _Bounded(httpx2.AsyncByteStream):
    def __init__(self, whole: httpx2.AsyncByteStream) -> None:
        self._whole = whole

    async def __aiter__(self) -> AsyncIterator[bytes]:
        read = 0
        async for chunk in self._whole:
            read += len(chunk)
            if read > BODY_LIMIT:
                raise _TooLong
            yield chunk

    async def aclose(self) -> None:
        await self._whole.aclose()


def _retry_after(error: openai.APIStatusError) -> float:
    """Seconds that the endpoint asks to wait; 0 where it does not say so in seconds."""
    try:
        return float(error.response.headers.get("retry-after", "0"))
    except ValueError:
        return 0.0
