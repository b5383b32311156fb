"""Scores of one answer against its reference. The rules are this project's own choice (RCMU.md)."""

import re

from components.rcmu import UNANSWERABLE, Task, Turn, cited, parse_spans, without_citations
from components.rcmu.models import Frozen

_REFUSAL = re.compile(r"^cannot be answered\b|\bis not in the image\b", re.IGNORECASE)


class Score(Frozen):
    """What one answer earned; the citation counts are sums for a micro-averaged F1."""

    correct: bool
    cited_right: int  # distinct citations that the reference has too
    cited: int  # distinct citations of the answer
    cited_reference: int  # distinct citations of the reference


def is_refusal(answer: str) -> bool:
    """Whether an answer declines, in either of the two published forms."""
    return _REFUSAL.search(answer) is not None


def score(turn: Turn, answer: str) -> Score:
    """Judge an answer.

    An unanswerable question is right when it is refused without a citation. Any other answer is right
    when it is no refusal, states the value of every claim as whole words, and none of the turn's
    `other_values`. In a description (rcid) each value must stand in a phrase that cites its region.
    """
    given, wanted = set(cited(answer)), set(turn.citations)
    return Score(
        correct=_is_correct(turn, answer),
        cited_right=len(given & wanted),
        cited=len(given),
        cited_reference=len(wanted),
    )


def _is_correct(turn: Turn, answer: str) -> bool:
    if turn.task in UNANSWERABLE:
        return is_refusal(answer) and not cited(answer)
    if is_refusal(answer):
        return False
    if turn.task is Task.RCID:
        spans = parse_spans(answer)
        return all(
            any(claim.k in span.citations and states(span.text, claim.value) for span in spans)
            for claim in turn.claims
        )
    words = without_citations(answer)
    if not all(states(words, claim.value) for claim in turn.claims):
        return False
    for claim in turn.claims:  # "red" is a wrong colour, but not inside the right "dark red"
        words = _whole(claim.value).sub(" ", words)
    return not any(states(words, value) for value in turn.other_values)


def states(text: str, value: str) -> bool:
    """Whether `value` stands in `text` as whole words, whatever the case."""
    return _whole(value).search(text) is not None


def _whole(value: str) -> re.Pattern[str]:
    return re.compile(rf"(?<!\w){re.escape(value)}(?!\w)", re.IGNORECASE)
