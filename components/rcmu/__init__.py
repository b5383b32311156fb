"""The language of RCMU: what a scene, a context set and a turn are, and how they are written."""

from components.rcmu.citations import Span, cited, parse_spans, render_spans, without_citations
from components.rcmu.models import (
    BOX_SCALE,
    UNANSWERABLE,
    Box,
    Claim,
    ContextRegion,
    ContextSet,
    Fact,
    Region,
    Scene,
    Split,
    Task,
    Turn,
)
from components.rcmu.prompt import (
    Piece,
    Prompt,
    PromptRegion,
    parse_prompt,
    prompt_of,
    prompt_pieces,
    render_prompt,
)
from components.rcmu.text import SPECIAL_TOKENS, normalise, special_token_strings, without_citation_marks

__all__ = [
    "BOX_SCALE",
    "SPECIAL_TOKENS",
    "UNANSWERABLE",
    "Box",
    "Claim",
    "ContextRegion",
    "ContextSet",
    "Fact",
    "Piece",
    "Prompt",
    "PromptRegion",
    "Region",
    "Scene",
    "Span",
    "Split",
    "Task",
    "Turn",
    "cited",
    "normalise",
    "parse_prompt",
    "parse_spans",
    "prompt_of",
    "prompt_pieces",
    "render_prompt",
    "render_spans",
    "special_token_strings",
    "without_citation_marks",
    "without_citations",
]
