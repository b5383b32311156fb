"""The judge: what counts as right, and what does not."""

import pytest

from components.evaluation import is_refusal, score
from components.rcmu import Claim, Split, Task, Turn


def turn(task: Task, answer: str, claims: tuple[Claim, ...] = (), others: tuple[str, ...] = ()) -> Turn:
    from components.rcmu import cited

    return Turn(
        turn_id="t", context_id="c", scene_id="s", split=Split.BENCHMARK, task=task, question="q?",
        answer=answer, citations=cited(answer), claims=claims, other_values=others,
    )  # fmt: skip


V2C = turn(Task.V2C, "The red circle belongs to Ada Moss.[2]", (Claim(k=2, value="Ada Moss"),), ("Ben Hall",))
C2V = turn(Task.C2V, "The circle is dark red.[1]", (Claim(k=1, value="dark red"),), ("red", "blue"))
REFUSAL = turn(Task.UNANSWERABLE_C2V, "The circle is not in the image.")
RCID = turn(
    Task.RCID,
    "A circle of Ada Moss [1] and a star of Ben Hall [2].",
    (Claim(k=1, value="Ada Moss"), Claim(k=2, value="Ben Hall")),
)


@pytest.mark.parametrize("reference", [V2C, C2V, REFUSAL, RCID])
def test_the_reference_is_right_with_full_citations(reference: Turn) -> None:
    given = score(reference, reference.answer)
    assert given.correct
    assert given.cited_right == given.cited == given.cited_reference


@pytest.mark.parametrize(
    ("reference", "answer", "correct"),
    [
        (V2C, "ada moss", True),
        (V2C, "It belongs to Ada Mosson.[2]", False),
        (V2C, "It belongs to Ada Moss or Ben Hall.[2]", False),
        (V2C, "Cannot be answered. It may be Ada Moss.", False),
        (V2C, "", False),
        (C2V, "It is red.[1]", False),
        (C2V, "It is dark red and blue.[1]", False),
        (REFUSAL, "The circle is not in the image.[1]", False),
        (REFUSAL, "Cannot be answered.", True),
        (REFUSAL, "The circle is red.", False),
        (RCID, "A circle of Ada Moss [2] and a star of Ben Hall [1].", False),
        (RCID, "A circle of Ada Moss and a star of Ben Hall.", False),
    ],
)
def test_what_is_right(reference: Turn, answer: str, correct: bool) -> None:
    assert score(reference, answer).correct is correct


def test_citations_are_counted_once_each() -> None:
    given = score(V2C, "Ada Moss.[2][2][3]")
    assert (given.cited_right, given.cited, given.cited_reference) == (1, 2, 1)


def test_refusals() -> None:
    assert is_refusal("Cannot be answered. The description does not specify the price.")
    assert is_refusal("The person is not in the image.")
    assert not is_refusal("The person is in the image.")
