"""What an LLM's words must hold to be used, in one place. What fails is dropped, counted and listed."""

from collections.abc import Sequence

from components.generation.filters import Filtered
from components.generation.rich_texts import FEWEST_WORDS, MOST_WORDS
from components.llm import SetAside
from components.rcmu import (
    Claim,
    Fact,
    mentions,
    normalise,
    parse_spans,
    special_token_strings,
    without_citation_marks,
    without_citations,
)

_GAP = "{e}"


class Drops:
    """Counts what is left out. Filled in a fixed order, it is the same for every order of arrival."""

    def __init__(self) -> None:
        self._found: dict[str, Filtered] = {}

    def add(self, reason: str, example: str) -> None:
        """One more for this reason; the example says where and what."""
        self.merge({reason: Filtered(count=1, examples=(example,))})

    def merge(self, others: dict[str, Filtered]) -> None:
        """Take another's counts over."""
        for reason, more in others.items():
            self._found[reason] = self._found.get(reason, Filtered()) + more

    def set_aside(self, result: SetAside, where: str) -> None:
        """A prompt that has no answer."""
        self.add(f"set aside: {result.reason}", f"{where}: {result.detail}")

    def found(self) -> dict[str, Filtered]:
        """By reason, in alphabetical order."""
        return dict(sorted(self._found.items()))


def at_the_door(words: str) -> str:
    """White space normalised, citation marks made harmless."""
    return without_citation_marks(normalise(words))


def what_is_wrong_with_text(text: str) -> str | None:
    """The reason to drop a text of the pool."""
    if not FEWEST_WORDS <= len(text.split()) <= MOST_WORDS:
        return "text_length"
    if special_token_strings(text):
        return "special_token"
    return None


def what_is_wrong_with_fact(fact: Fact, text: str) -> str | None:
    """The reason to drop a fact that a text is said to state."""
    return None if mentions(text, fact.value) else "answer_not_supported"


def what_is_wrong_with_question(form: str) -> str | None:
    """The reason to drop a question with a gap."""
    if form.count(_GAP) != 1 or "{" in form.replace(_GAP, "") or "}" in form.replace(_GAP, ""):
        return "question_without_gap"
    return "special_token" if special_token_strings(form) else None


def what_is_wrong_with_turn(question: str, answer: str, value: str) -> str | None:
    """The reason to drop a question that has an answer."""
    if mentions(question, value):
        return "answer_leaked"
    return None if mentions(answer, value) else "answer_not_supported"


def is_said_of_others(words: str, others: Sequence[str]) -> bool:
    """Whether one of the other texts or expressions says these words too: they name nobody then."""
    return any(mentions(other, words) for other in others)


def claims_of(cited: str, description: str, told: Sequence[Sequence[Fact]]) -> tuple[Claim, ...] | None:
    """The facts that a cited description states with their citation; None where the citations are wrong.

    Args:
        cited: the description with its citations.
        description: the one of the first pass: the second may change no word.
        told: the facts of each text, by its number.

    Right are citations of each text, each behind a phrase that states a value of that text; and each value
    that one text alone states is cited wherever it stands.
    """
    if without_citations(cited) != without_citations(description):
        return None
    claims: dict[Claim, None] = {}
    for span in parse_spans(cited):
        if any(k > len(told) for k in span.citations):
            return None
        for k, facts in enumerate(told, start=1):
            stated = [fact.value for fact in facts if mentions(span.text, fact.value)]
            if k in span.citations:
                if not stated:
                    return None
                claims.update({Claim(k=k, value=value): None for value in stated})
            elif any(_only_in(value, k, told) for value in stated):
                return None
    if {claim.k for claim in claims} != set(range(1, len(told) + 1)):
        return None
    return tuple(claims)


def _only_in(value: str, k: int, told: Sequence[Sequence[Fact]]) -> bool:
    return not any(
        mentions(fact.value, value)
        for other, facts in enumerate(told, start=1)
        if other != k
        for fact in facts
    )
