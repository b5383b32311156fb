"""Citations: parse and render are inverse, and stripping leaves the words."""

from hypothesis import given
from hypothesis import strategies as st

from components.rcmu import Span, cited, parse_spans, render_spans, without_citation_marks, without_citations

phrases = st.text(min_size=1, max_size=20).map(without_citation_marks)
marks = st.lists(st.integers(1, 40), min_size=1, max_size=3).map(tuple)
answers = st.builds(
    lambda head, tail: (*head, *tail),
    st.lists(st.builds(Span, text=phrases, citations=marks), max_size=5),
    st.lists(st.builds(Span, text=phrases), max_size=1),
)


@given(answers)
def test_parse_is_the_inverse_of_render(spans: tuple[Span, ...]) -> None:
    assert parse_spans(render_spans(spans)) == spans


@given(st.text(alphabet="ab [](),.0123", max_size=40))
def test_render_is_the_inverse_of_parse_for_any_answer(answer: str) -> None:
    spans = parse_spans(answer)
    assert render_spans(spans) == answer
    assert cited(answer) == tuple(k for span in spans for k in span.citations)


def test_published_styles() -> None:
    description = "John Smith, a 41-year-old executive [1], is standing. Bella, his dog [2], is jumping."
    assert cited(description) == (1, 2)
    assert parse_spans(description)[1] == Span(text=", is standing. Bella, his dog ", citations=(2,))
    assert without_citations(description) == (
        "John Smith, a 41-year-old executive, is standing. Bella, his dog, is jumping."
    )
    assert without_citations("The dog enjoys unwinding.[3]") == "The dog enjoys unwinding."


def test_what_is_no_citation() -> None:
    assert cited("[0] [x] [1, 2] [] [12a]") == ()
    assert without_citation_marks("flight [2] to [Rome]") == "flight (2) to [Rome]"
