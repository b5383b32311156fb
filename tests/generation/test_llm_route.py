"""The LLM route on real photos, against an endpoint of the tests over HTTP."""

import hashlib
import json
import os
import random
import shutil
import signal
import sqlite3
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from components.errors import BudgetError
from components.generation import data_set_id, estimate_turns, write_turns
from components.generation.llm.checks import claims_of
from components.generation.rich_texts import FEWEST_WORDS, MOST_WORDS
from components.llm import Endpoint, Journal
from components.llm import client as client_module
from components.params import GenerationParams, LlmParams, load_params
from components.rcmu import Claim, Fact, Scene, Split, Task, Turn, without_citations
from components.rcmu.tables import read_contexts, read_scenes, read_turns
from components.sources import write_scenes
from components.validation import validate_data
from tests.llm.fake import Fake, serving

GENERATION = GenerationParams(route="llm", context_sets=2, facts_per_text=2, questions_per_task=1)
LLM = LlmParams(
    model="m",
    temperature=0.5,
    max_tokens=512,
    texts_per_label=2,
    usd_per_million_input=1.0,
    usd_per_million_output=2.0,
)
FAULTS = ("--faults", "429,500,broken,refusal,schema,html,hang", "--share", "0.15", "--hang", "3")


@pytest.fixture(scope="module")
def scenes(repo: Path, real_regions: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The 39 real photos as scenes."""
    workspace = tmp_path_factory.mktemp("workspace")
    shutil.copytree(real_regions, workspace / "data/real_regions")
    folder = workspace / "scenes"
    folder.mkdir()
    write_scenes(
        load_params(repo / "infra/profiles/photos.yaml").source, seed=7, workspace=workspace, folder=folder
    )
    assert sum(1 for _ in read_scenes(folder)) == 39
    return folder


def made(folder: Path, scenes: Path, endpoint: Endpoint) -> dict[str, str]:
    """The digest of every file of the stage."""
    folder.mkdir(exist_ok=True)
    write_turns(
        scenes,
        GENERATION,
        seed=7,
        folder=folder,
        finished=folder.with_name(f"{folder.name}-shards"),
        llm=LLM,
        endpoint=endpoint,
    )
    return digests(folder)


def digests(folder: Path) -> dict[str, str]:
    return {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in folder.iterdir()}


@pytest.fixture(scope="module")
def faultless(scenes: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The stage's folder, made by an endpoint that always answers. Its journal lies beside it."""
    folder = tmp_path_factory.mktemp("faultless") / "turns"
    with serving(folder.with_name("log")) as fake:
        made(folder, scenes, fake.endpoint(folder.with_name("journal.db"), concurrency=16))
    return folder


def by_task(turns: list[Turn]) -> dict[Task, list[Turn]]:
    return {task: [turn for turn in turns if turn.task is task] for task in Task}


def test_all_blocks_come_out_of_real_photos(scenes: Path, faultless: Path) -> None:
    turns = by_task(list(read_turns(faultless)))
    photos: dict[str, Scene] = {scene.scene_id: scene for scene in read_scenes(scenes)}
    contexts = {context.context_id: context for context in read_contexts(faultless)}
    assert {task: len(found) for task, found in turns.items() if len(found) < 20} == {}
    for turn in (*turns[Task.CONTEXTUAL_QA], *turns[Task.V2C]):
        (claim,) = turn.claims
        assert turn.citations == (claim.k,)
        assert claim.value in contexts[turn.context_id].regions[claim.k - 1].text
        assert claim.value in turn.answer
        assert claim.value not in turn.question
    for turn in turns[Task.V2C]:
        region = contexts[turn.context_id].regions[turn.claims[0].k - 1].region
        assert photos[turn.scene_id].regions[region].expression in turn.question
    for turn in (*turns[Task.C2V], *turns[Task.VISUAL_QA]):
        (claim,) = turn.claims
        region = contexts[turn.context_id].regions[claim.k - 1].region
        assert claim.value in photos[turn.scene_id].regions[region].expression
        assert turn.citations == ((claim.k,) if turn.task is Task.C2V else ())
    for turn in turns[Task.UNANSWERABLE_V2C]:
        assert turn.answer.startswith("Cannot be answered. The description does not specify the ")
    for turn in turns[Task.UNANSWERABLE_C2V]:
        named = turn.question.split(" whose ")[1].split(" is ")[1].rstrip("?")
        assert all(named not in told.text for told in contexts[turn.context_id].regions)
    for turn in turns[Task.RCID]:
        assert set(turn.citations) == set(range(1, len(contexts[turn.context_id].regions) + 1))
        assert "[" not in without_citations(turn.answer)


def test_texts_are_of_one_label_and_one_split(scenes: Path, faultless: Path) -> None:
    labels = {
        (scene.scene_id, index): region.label
        for scene in read_scenes(scenes)
        for index, region in enumerate(scene.regions)
    }
    owners: dict[str, set[tuple[Split, str]]] = {}
    for context in read_contexts(faultless):
        texts = [told.text for told in context.regions]
        assert len(texts) == len(set(texts)), "each text is given once in a set"
        for told in context.regions:
            owners.setdefault(told.text, set()).add((context.split, labels[context.scene_id, told.region]))
            assert FEWEST_WORDS <= len(told.text.split()) <= MOST_WORDS
            assert all(fact.value in told.text for fact in told.facts)
    assert {len(found) for found in owners.values()} == {1}


def test_what_is_dropped_is_counted_and_listed(faultless: Path) -> None:
    summary: dict[str, Any] = json.loads((faultless / "summary.json").read_text())
    dropped = summary["dropped"]
    assert dropped.keys() >= {
        "answer_not_supported",
        "citation_wrong",
        "expression_not_unique",
        "question_without_gap",
        "refusal_answerable",
    }
    for reason, found in dropped.items():
        assert found["count"] >= len(found["examples"]) >= 1, reason
    assert "shoe size = unheard of" in dropped["answer_not_supported"]["examples"][0]
    assert "[9]" in dropped["citation_wrong"]["examples"][0]


def test_the_validation_passes_it(repo: Path, scenes: Path, faultless: Path, tmp_path: Path) -> None:
    bounds = load_params(repo / "infra/profiles/photos.yaml").validation
    result = validate_data(scenes, faultless, bounds, folder=tmp_path, data_docs=tmp_path / "docs")
    assert result.failures == ()


def test_faults_and_the_order_of_answers_change_no_byte(
    scenes: Path, faultless: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(client_module, "FIRST_WAIT", 0.02)
    monkeypatch.setattr(client_module, "TIMEOUT", 1.5)
    with serving(tmp_path / "log", *FAULTS) as fake:
        assert made(tmp_path / "turns", scenes, fake.endpoint(tmp_path / "journal.db")) == digests(faultless)
        asked = Counter(digest for digest, what in fake.notes() if what == "answered")
        assert set(asked.values()) == {1}
        assert len({what for _, what in fake.notes()}) == 9, "each fault was met"


def test_an_estimate_makes_no_call_and_is_of_the_right_size(
    scenes: Path, faultless: Path, tmp_path: Path
) -> None:
    def estimate(journal: Path) -> Any:
        return estimate_turns(
            scenes, GENERATION, seed=7, finished=tmp_path / "shards", llm=LLM, journal=journal
        )

    answers = faultless.with_name("journal.db")
    (spent,) = Journal(answers).ledger(data_set_id(scenes, GENERATION, LLM, seed=7))
    before = estimate(tmp_path / "none.db")
    assert before.answered == 0
    assert 0.8 < before.calls / spent.calls < 1.25
    assert before.usd == pytest.approx((before.input_tokens + 2 * before.output_tokens) / 1e6)
    assert not (tmp_path / "none.db").exists()
    after = estimate(answers)
    assert (after.calls, after.usd) == (0, 0.0)
    assert after.answered == spent.answered


def test_the_budget_stops_the_stage_and_a_higher_one_ends_it(
    scenes: Path, faultless: Path, tmp_path: Path
) -> None:
    with serving(tmp_path / "log") as fake:
        endpoint = fake.endpoint(tmp_path / "journal.db", max_usd=0.05)
        with pytest.raises(BudgetError, match=r"of 0\.0500 US dollars"):
            made(tmp_path / "turns", scenes, endpoint)
        assert not list((tmp_path / "turns").iterdir())
        stopped = fake.count("answered")
        assert 0 < stopped * 200 / 1e6 <= 0.05  # 100 tokens in, 50 out
        assert made(tmp_path / "turns", scenes, endpoint.model_copy(update={"max_usd": 9.0})) == digests(
            faultless
        )
        assert set(Counter(d for d, what in fake.notes() if what == "answered").values()) == {1}


KILLED = """
import sys
from pathlib import Path
from components.llm import client
from components.llm.endpoint import Endpoint
from tests.generation.test_llm_route import made

client.FIRST_WAIT, client.TIMEOUT = 0.02, 1.5
made(Path(sys.argv[1]), Path(sys.argv[2]), Endpoint.model_validate_json(sys.argv[3]))
"""


@pytest.mark.parametrize("limit", [2, pytest.param(10, marks=pytest.mark.long)])
def test_killed_again_and_again_it_asks_only_for_what_was_in_flight(
    limit: int, repo: Path, scenes: Path, faultless: Path, tmp_path: Path
) -> None:
    turns, journal, rng = tmp_path / "turns", tmp_path / "journal.db", random.Random(5)
    environment = {**os.environ, "PYTHONPATH": str(repo)}
    with serving(tmp_path / "log", *FAULTS, "--delay", "0.02") as fake:
        endpoint = fake.endpoint(journal)
        command = [sys.executable, "-c", KILLED, str(turns), str(scenes), endpoint.model_dump_json()]
        kills = 0
        while True:
            before, start = settled(journal), len(fake.notes())
            errors = tmp_path / f"errors-{kills}"
            with errors.open("w") as log:
                process = subprocess.Popen(command, env=environment, stderr=log)
            answers = rng.randrange(20, 1000 // limit // 2)  # until it is killed
            while process.poll() is None and (kills >= limit or count(fake, start) < answers):
                time.sleep(0.01)
            process.send_signal(signal.SIGKILL)
            ended = process.wait()
            time.sleep(0.2)  # the server's last answers to nobody
            asked = {digest for digest, what in fake.notes()[start:] if what == "asked"}
            assert not asked & before, "what the journal held was asked again"
            unkept = answered(fake, start) - settled(journal)
            assert len(unkept) <= endpoint.concurrency, "more was lost than was in flight"
            if ended == 0:
                break
            assert ended == -signal.SIGKILL, errors.read_text()
            kills += 1
        assert kills == limit
        assert answered(fake, 0) <= settled(journal), "both sides know a request by the same digest"
        again = sum(Counter(d for d, what in fake.notes() if what == "answered").values()) - len(
            answered(fake, 0)
        )
        assert again <= kills * endpoint.concurrency
    assert digests(turns) == digests(faultless)


def count(fake: Fake, start: int) -> int:
    return sum(what == "answered" for _, what in fake.notes()[start:])


def answered(fake: Fake, start: int) -> set[str]:
    return {digest for digest, what in fake.notes()[start:] if what == "answered"}


def settled(journal: Path) -> set[str]:
    if not journal.exists():
        return set()
    database = sqlite3.connect(journal)
    try:
        return {row[0] for row in database.execute("SELECT digest FROM results")}
    except sqlite3.OperationalError:  # killed before it made its tables
        return set()
    finally:
        database.close()


ADA, BELLA = Fact(key="name", value="Ada"), Fact(key="nickname", value="Bella")


@pytest.mark.parametrize(
    ("cited", "claims"),
    [
        ("Ada [1] walks Bella [2].", (Claim(k=1, value="Ada"), Claim(k=2, value="Bella"))),
        ("Ada walks Bella [1][2].", (Claim(k=1, value="Ada"), Claim(k=2, value="Bella"))),
        ("Ada [2] walks Bella [1].", None),
        ("Ada walks Bella [2].", None),  # Ada is not cited
        ("Ada [1] walks Bella.", None),
        ("Ada [1] walks Bella [3].", None),  # there is no text 3
        ("Ada [1] walks with Bella [2].", None),  # other words than the first pass
    ],
)
def test_citations_of_a_description(cited: str, claims: tuple[Claim, ...] | None) -> None:
    assert claims_of(cited, "Ada walks Bella.", [[ADA], [BELLA]]) == claims
