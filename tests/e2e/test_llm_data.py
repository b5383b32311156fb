"""`rcvit data generate` by the LLM route: estimate, a budget that is too small, and the data."""

import json
from collections.abc import Callable
from pathlib import Path
from uuid import uuid4

from components.errors import BudgetError, SettingsError
from tests.e2e.conftest import Checkout, small_params
from tests.llm.fake import serving

KEY = f"sk-{uuid4().hex}"  # stands in no file of the checkout itself


def test_data_by_an_llm_from_the_command_line(
    repo: Path, make_checkout: Callable[..., Checkout], tmp_path: Path
) -> None:
    anything = {"least": 0, "most": None, "severity": "error"}
    params = small_params(
        repo,
        source={"scenes": 8, "benchmark_share": 0.25},
        generation={"route": "llm"},
        llm={"texts_per_label": 4, "usd_per_million_input": 1.0, "usd_per_million_output": 1.0},
        validation=dict.fromkeys(
            ("refusals_share", "task_share", "first_citation", "text_words", "turns_per_scene"), anything
        ),
    )
    checkout = make_checkout("llm", params)
    without = checkout.run("data", "generate")
    assert without.returncode == SettingsError.exit_code
    assert "RCVIT_LLM_URL is not set" in without.stderr
    with serving(tmp_path / "log", "--key", KEY) as fake:
        checkout.environment.update(RCVIT_LLM_URL=fake.url, RCVIT_LLM_API_KEY=KEY)
        estimate = checkout.run("data", "generate", "--estimate")
        assert estimate.returncode == 0, estimate.stderr
        assert "answered before" in estimate.stdout
        assert fake.notes() == []
        stopped = checkout.run("data", "generate", "--max-usd", "0.01")
        assert stopped.returncode == BudgetError.exit_code, stopped.stderr
        assert "raise --max-usd" in stopped.stderr
        first = fake.count("answered")
        assert first > 0
        done = checkout.run("data", "generate", "--max-usd", "5")
        assert done.returncode == 0, done.stderr
        assert fake.count("asked") == fake.count("answered") > first
        costs = checkout.run("data", "costs")
    assert f"{fake.count('answered')} calls" in costs.stdout
    (summary,) = checkout.root.glob(".rcvit/runs/*/outs/turns/summary.json")
    turns = json.loads(summary.read_text())["turns"]
    assert all(turns["train"].values()), turns
    files = [path for path in checkout.root.rglob("*") if path.is_file()]
    assert not [path for path in files if KEY.encode() in path.read_bytes()]
    said = [run.stdout + run.stderr for run in (estimate, stopped, done, costs)]
    assert not [text for text in said if KEY in text]
