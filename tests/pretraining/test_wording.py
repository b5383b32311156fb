"""Of the base's wordings none is the benchmark's, and each has its gap."""

import pytest

from components.generation.facts import KINDS, kinds_of
from components.generation.questions import _NEW_VISUAL_QUESTIONS, VISUAL_QUESTIONS
from components.pretraining.wording import questions_of

SEEN = ("color", "size", "position")
STATED = tuple(kind.key for kind in kinds_of("circle"))


@pytest.mark.parametrize("key", [*SEEN, *STATED])
def test_there_are_more_wordings_than_rcvit_has_and_each_is_of_its_own(key: str) -> None:
    known = VISUAL_QUESTIONS[key] if key in SEEN else KINDS[key].questions
    asked = questions_of(key)
    assert asked[: len(known)] == known
    assert len(asked) >= 5
    assert len(set(asked)) == len(asked)
    for question in asked:
        assert question.count("{e}") == 1
        assert question.format(e="it")[-1] in ".?"


def test_none_is_the_benchmarks_own() -> None:
    others = {question for key in (*SEEN, *STATED) for question in questions_of(key)}
    assert not others & {kind.new_question for kind in KINDS.values()}
    assert not others & set(_NEW_VISUAL_QUESTIONS.values())


def test_a_kind_without_more_has_those_of_rcvit() -> None:
    assert questions_of("job") == KINDS["job"].questions
