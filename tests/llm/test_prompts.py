"""Requests: a schema that strict endpoints take, a digest of all that the answer depends on."""

from typing import Any

import pytest

from components.generation.llm import prompts
from components.llm import digest_of, request_of
from components.params import LlmParams
from components.rcmu import Fact
from components.rcmu.models import Frozen

PARAMS = LlmParams(
    model="m",
    temperature=0.0,
    max_tokens=64,
    texts_per_label=1,
    usd_per_million_input=None,
    usd_per_million_output=None,
)
FACTS = (Fact(key="job", value="teacher"),)
LINES = (prompts.Line(label="dog", expression="the red dog", text="It barks."),)
EVERY = (
    prompts.text_about("dog", given=Fact(key="owner", value="Ada Moss"), keys=["owner", "year"], number=1),
    prompts.facts_seen("dog", "the red dog"),
    prompts.questions_seen("dog", FACTS),
    prompts.questions_told("person", "She is a teacher.", FACTS),
    prompts.expressions_told("person", "She is a teacher.", FACTS),
    prompts.unsaid_of("person", "She is a teacher.", FACTS),
    prompts.description_of("A dog.", LINES),
    prompts.citations_in("A dog that barks.", LINES),
)


def objects(node: Any) -> list[dict[str, Any]]:
    """Every schema of an object inside a schema."""
    if isinstance(node, list):
        return [found for child in node for found in objects(child)]
    if not isinstance(node, dict):
        return []
    own = [node] if node.get("type") == "object" else []
    return own + [found for child in node.values() for found in objects(child)]


@pytest.mark.parametrize("prompt", EVERY, ids=lambda prompt: prompt.answer.__name__)
def test_every_schema_is_strict(prompt: Any) -> None:
    sent = request_of(prompt, PARAMS, seed=1)["response_format"]["json_schema"]
    assert sent["strict"] is True
    found = objects(sent["schema"])
    assert found
    for schema in found:
        assert schema["additionalProperties"] is False
        assert schema["required"] == list(schema["properties"])
    assert isinstance(prompt.typical, Frozen)
    assert type(prompt.typical) is prompt.answer


def test_the_digest_knows_what_changes_an_answer_and_nothing_else() -> None:
    def digest(prompt: Any = EVERY[0], seed: int = 1, **changes: Any) -> str:
        return digest_of(request_of(prompt, PARAMS.model_copy(update=changes), seed=seed))

    assert digest(usd_per_million_input=1.0, usd_per_million_output=1.0, texts_per_label=9) == digest()
    others = [
        digest(model="n"),
        digest(temperature=1.0),
        digest(max_tokens=65),
        digest(seed=2),
        *(digest(prompt) for prompt in EVERY),
    ]
    assert len(set(others)) == 4 + len(EVERY)
