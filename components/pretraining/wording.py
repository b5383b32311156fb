"""The ways in which the base is asked: RCVIT's, and more of its own, as a base has met many.

A model that knows two wordings of a question goes by all their words, and a third one is lost on it. None of
these is the benchmark's (own choice).
"""

from components.generation.facts import KINDS
from components.generation.questions import VISUAL_QUESTIONS

_MORE = {
    "color": ("Tell me the color of {e}.", "Which color is {e}?", "Of what color is {e}?"),
    "size": ("Tell me how big {e} is.", "Of what size is {e}?", "Which size is {e}?"),
    "position": (
        "Tell me where in the image {e} is.",
        "Which part of the image is {e} in?",
        "Where is it in the image that {e} is?",
    ),
    "owner": (
        "Tell me who owns {e}.",
        "Who is said to be the owner of {e}?",
        "By whom is {e} owned?",
        "Of {e}, who is the owner?",
    ),
    "origin": (
        "Tell me where {e} comes from.",
        "What place does {e} come from?",
        "From what place was {e} brought?",
        "Where is it that {e} was brought from?",
    ),
    "year": (
        "Tell me when {e} was bought.",
        "When was it that {e} was purchased?",
        "Which year was {e} purchased in?",
        "Of what year is the purchase of {e}?",
    ),
    "price": (
        "Tell me how much {e} cost.",
        "What did {e} cost?",
        "What is it that was paid for {e}?",
        "For how much was {e} sold?",
    ),
    "nickname": (
        "Tell me what {e} is called.",
        "How do people call {e}?",
        "What is the name that people call {e} by?",
        "Of {e}, what is it called?",
    ),
}


def questions_of(key: str) -> tuple[str, ...]:
    """The ways to ask for a kind of fact, seen or stated; {e} stands for the object."""
    known = VISUAL_QUESTIONS[key] if key in VISUAL_QUESTIONS else KINDS[key].questions
    return (*known, *_MORE.get(key, ()))
