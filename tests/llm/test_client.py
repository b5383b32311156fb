"""The LLM client over real HTTP: each way to fail alone, the key, the budget, the journal."""

import asyncio
import logging
import sqlite3
from pathlib import Path

import pytest
from pydantic import SecretStr

from components.errors import BudgetError, EndpointError, ParamsError, SettingsError
from components.llm import Answer, Endpoint, Journal, Prompt, SetAside
from components.llm import client as client_module
from components.llm.client import Llm
from components.params import LlmParams
from components.rcmu.models import Frozen
from tests.llm.fake import Fake, serving

PARAMS = LlmParams(
    model="m",
    temperature=0.5,
    max_tokens=64,
    texts_per_label=2,
    usd_per_million_input=1e4,  # 0.01 a token: 1.00 for the server's 100, and 0.50 for its 50
    usd_per_million_output=1e4,
)
KEY = "sk-very-secret-0123456789"


class Echo(Frozen):
    """The words again."""

    words: str


def prompt(words: str) -> Prompt[Echo]:
    return Prompt(system="Say it again.", user=words, answer=Echo, typical=Echo(words=words))


def ask(
    endpoint: Endpoint, *prompts: Prompt[Answer], params: LlmParams = PARAMS
) -> list[Answer | SetAside | BaseException]:
    async def run() -> list[Answer | SetAside | BaseException]:
        async with Llm(endpoint, params, seed=1, job="test") as llm:
            return list(await asyncio.gather(*map(llm.ask, prompts), return_exceptions=True))

    return asyncio.run(run())


@pytest.fixture(autouse=True)
def hurried(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(client_module, "FIRST_WAIT", 0.05)
    monkeypatch.setattr(client_module, "TIMEOUT", 2.0)


@pytest.fixture
def journal(tmp_path: Path) -> Path:
    return tmp_path / "llm" / "journal.db"


def test_an_answer_comes_from_the_journal_the_second_time(tmp_path: Path, journal: Path) -> None:
    with serving(tmp_path / "log") as fake:
        for _ in range(2):
            assert ask(fake.endpoint(journal), prompt("hello")) == [Echo(words="hello")]
        assert ask(fake.endpoint(journal), prompt("x"), prompt("x")) == [Echo(words="x")] * 2
        assert fake.count("asked") == fake.count("answered") == 2
        other_seed = PARAMS.model_copy(update={"temperature": 0.6})
        ask(fake.endpoint(journal), prompt("hello"), params=other_seed)
        assert fake.count("answered") == 3


@pytest.mark.parametrize("fault", ["429", "500", "hang", "broken", "refusal", "schema", "html"])
def test_each_fault_alone_is_outlived(fault: str, tmp_path: Path, journal: Path) -> None:
    with serving(tmp_path / "log", "--faults", fault) as fake:
        assert ask(fake.endpoint(journal), prompt("hello")) == [Echo(words="hello")]
        assert [what for _, what in fake.notes()] == ["asked", fault, "asked", "answered"]
    spoiled = {"broken": "malformed", "html": "malformed", "refusal": "refusal", "schema": "wrong schema"}
    rows = sqlite3.connect(journal).execute("SELECT outcome FROM calls ORDER BY id").fetchall()
    assert [row[0] for row in rows] == [*([spoiled[fault]] if fault in spoiled else []), "answered"]


def test_retry_after_is_waited_for(tmp_path: Path, journal: Path) -> None:
    with serving(tmp_path / "log", "--faults", "429") as fake:
        loop_seconds = asyncio.run(_timed(fake.endpoint(journal)))
    assert loop_seconds >= 1  # what the server asks for; our own first wait is 0.05 here


async def _timed(endpoint: Endpoint) -> float:
    start = asyncio.get_running_loop().time()
    async with Llm(endpoint, PARAMS, seed=1, job="test") as llm:
        await llm.ask(prompt("hello"))
    return asyncio.get_running_loop().time() - start


def test_a_long_wait_is_not_sat_out(tmp_path: Path, journal: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(client_module, "LONGEST_WAIT", 0.5)
    with serving(tmp_path / "log", "--faults", "429") as fake:
        (error,) = ask(fake.endpoint(journal), prompt("hello"))
    assert isinstance(error, EndpointError)
    assert "it asks to wait 1 s" in error.message


@pytest.mark.parametrize(
    ("fault", "reason"),
    [("broken", "malformed"), ("refusal", "refusal"), ("schema", "wrong schema"), ("long", "too long")],
)
def test_what_fails_twice_is_set_aside_and_not_asked_again(
    fault: str, reason: str, tmp_path: Path, journal: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(client_module, "BODY_LIMIT", 20_000)
    with serving(tmp_path / "log", "--faults", fault, "--always", "--long", "30000") as fake:
        for _ in range(2):
            (aside,) = ask(fake.endpoint(journal), prompt("hello"))
            assert isinstance(aside, SetAside)
            assert aside.reason == reason
        assert fake.count("asked") == 2
    (line,) = Journal(journal).ledger()
    assert (line.calls, line.answered) == (2, 0)
    assert line.input_tokens >= 50


def test_an_endpoint_that_never_answers_is_named_with_what_it_says(tmp_path: Path, journal: Path) -> None:
    with serving(tmp_path / "log", "--faults", "500", "--always") as fake:
        endpoint = fake.endpoint(journal).model_copy(update={"concurrency": 1})
        first, second = ask(endpoint, prompt("a"), prompt("b"))
        assert isinstance(first, EndpointError)
        assert "status 500" in first.message
        assert first.retry_helps
        assert fake.count("asked") == client_module.TRIES
    assert second is first, "no call is started after the first error"


def test_nobody_listens(journal: Path) -> None:
    endpoint = Fake(9, Path("none")).endpoint(journal)
    (error,) = ask(endpoint, prompt("a"))
    assert isinstance(error, EndpointError)
    assert "the connection broke" in error.message


def test_the_key_is_sent_and_never_shown(
    tmp_path: Path, journal: Path, caplog: pytest.LogCaptureFixture, capfd: pytest.CaptureFixture[str]
) -> None:
    caplog.set_level(logging.DEBUG)
    with serving(tmp_path / "log", "--key", KEY) as fake:
        assert ask(fake.endpoint(journal, key=KEY), prompt("hello")) == [Echo(words="hello")]
        # The server repeats the key that it refuses.
        wrong = f"{KEY}-wrong"
        (error,) = ask(fake.endpoint(journal, key=wrong), prompt("other"))
        assert fake.count("401") == 1, "a refused key is not tried again"
    assert isinstance(error, SettingsError)
    assert "(the key)" in str(error)
    assert "RCVIT_LLM_API_KEY" in error.hint
    said = [str(error), repr(error), repr(error.__cause__), caplog.text, *capfd.readouterr()]
    said += [repr(fake.endpoint(journal, key=KEY)), fake.endpoint(journal, key=KEY).model_dump_json()]
    kept = [path.read_bytes().decode(errors="replace") for path in journal.parent.iterdir()]
    assert not [text for text in [*said, *kept] if KEY in text]


def test_the_budget_stops_and_a_higher_one_goes_on(tmp_path: Path, journal: Path) -> None:
    prompts = [prompt(f"number {number}") for number in range(6)]
    with serving(tmp_path / "log") as fake:
        results = ask(fake.endpoint(journal, max_usd=5.0), *prompts)
        answered = [result for result in results if isinstance(result, Echo)]
        (error,) = {result for result in results if isinstance(result, BaseException)}
        assert isinstance(error, BudgetError)
        assert "of 5.0000 US dollars" in error.message
        assert 1 <= len(answered) < 6
        assert fake.count("asked") == len(answered)
        (line,) = Journal(journal).ledger("test")
        assert line.usd == pytest.approx(1.5 * len(answered))
        assert line.usd is not None
        assert line.usd <= 5.0
        again = ask(fake.endpoint(journal, max_usd=line.usd), *prompts)
        assert fake.count("asked") == len(answered), "the same money is not spent twice"
        assert [r for r in again if isinstance(r, Echo)] == answered
        assert ask(fake.endpoint(journal, max_usd=50.0), *prompts) == [
            Echo(words=f"number {number}") for number in range(6)
        ]
        assert fake.count("asked") == 6


def test_a_budget_without_prices_is_refused(journal: Path) -> None:
    free = PARAMS.model_copy(update={"usd_per_million_input": None, "usd_per_million_output": None})
    endpoint = Endpoint(
        url="http://127.0.0.1:9/v1", api_key=SecretStr("k"), concurrency=1, max_usd=1.0, journal=journal
    )
    with pytest.raises(ParamsError, match="needs prices"):
        ask(endpoint, prompt("a"), params=free)


def test_the_limit_of_concurrency_holds(tmp_path: Path, journal: Path) -> None:
    with serving(tmp_path / "log", "--delay", "0.05") as fake:
        ask(fake.endpoint(journal, concurrency=3), *(prompt(str(number)) for number in range(12)))
        under_way = highest = 0
        for _, what in fake.notes():
            under_way += 1 if what == "asked" else -1
            highest = max(highest, under_way)
    assert highest <= 4  # the log notes an answer after it is sent: one may have been followed already


def test_an_error_of_the_caller_does_not_end_a_call_that_may_be_paid(tmp_path: Path, journal: Path) -> None:
    async def run(endpoint: Endpoint) -> None:
        async with Llm(endpoint, PARAMS, seed=1, job="test") as llm:
            asking = asyncio.create_task(llm.ask(prompt("hello")))
            await asyncio.sleep(0.2)
            asking.cancel()
            raise KeyError

    with serving(tmp_path / "log", "--delay", "0.6") as fake:
        with pytest.raises(KeyError):
            asyncio.run(run(fake.endpoint(journal)))
        assert fake.count("answered") == 1
    assert Journal(journal).ledger("test")[0].answered == 1
