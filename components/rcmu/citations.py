"""Citations `[k]` in answers: parsed, rendered, stripped."""

import re
from collections.abc import Iterable
from typing import Self

from pydantic import Field, model_validator

from components.rcmu.models import Frozen

_MARK = re.compile(r"\[([1-9][0-9]*)\]")
_MARKS = re.compile(r"(?:\[[1-9][0-9]*\])+")


class Span(Frozen):
    """A phrase and the regions it cites, such as `John, a teacher ` with (1,)."""

    text: str
    citations: tuple[int, ...] = Field(default=())

    @model_validator(mode="after")
    def _text_holds_no_mark(self) -> Self:
        if _MARK.search(self.text):
            raise ValueError(f"the text of a span holds a citation mark: {self.text!r}")
        if any(k < 1 for k in self.citations):
            raise ValueError(f"citations count from 1: {self.citations}")
        return self


def render_spans(spans: Iterable[Span]) -> str:
    """`text[1][2]text[3]`: each phrase, then its marks."""
    return "".join(span.text + "".join(f"[{k}]" for k in span.citations) for span in spans)


def parse_spans(answer: str) -> tuple[Span, ...]:
    """Phrases with the marks that follow them; uncited text at the end is a span without citations."""
    spans, start = [], 0
    for marks in _MARKS.finditer(answer):
        numbers = tuple(int(k) for k in _MARK.findall(marks.group()))
        spans.append(Span(text=answer[start : marks.start()], citations=numbers))
        start = marks.end()
    if start < len(answer):
        spans.append(Span(text=answer[start:]))
    return tuple(spans)


def cited(answer: str) -> tuple[int, ...]:
    """The numbers an answer cites, in order, repeats kept."""
    return tuple(int(k) for k in _MARK.findall(answer))


def without_citations(answer: str) -> str:
    """The answer's words alone, white space closed up."""
    return " ".join(_MARK.sub("", answer).split()).replace(" ,", ",").replace(" .", ".")
