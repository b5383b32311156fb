"""What the LLM of the tests says: a plain function of the prompt, useful for each schema of the LLM route."""

import hashlib
import random
import re
from collections.abc import Callable
from typing import Any

_PLACES = ("harbour", "library", "orchard", "workshop", "market", "station", "museum", "bakery")
_VALUES = {
    "job": ("teacher", "nurse", "pilot", "farmer", "tailor", "plumber"),
    "age": ("31", "45", "52", "67", "28", "39"),
    "home": ("Oslo", "Lima", "Quito", "Hanoi", "Prague", "Accra"),
    "hobby": ("chess", "rowing", "pottery", "fishing", "poker", "yoga"),
    "origin": ("Rome", "Cairo", "Tokyo", "Delhi", "Seoul", "Dublin"),
    "year": ("1975", "1988", "1999", "2004", "2013", "2020"),
    "price": ("14 dollars", "29 dollars", "55 dollars", "73 dollars", "91 dollars", "38 dollars"),
    "nickname": ("Biscuit", "Comet", "Pepper", "Rocket", "Velvet", "Ziggy"),
}
_FILLER = (
    "quiet", "windy", "busy", "bright", "curious", "gentle", "early", "late", "rainy", "warm", "cold",
    "long", "short", "happy", "odd", "plain", "loud", "old", "young", "wide", "steep", "green", "distant",
)  # fmt: skip


def answer_to(schema: str, user: str) -> dict[str, Any]:
    """The answer of the named schema to the user's text of a prompt."""
    answers: dict[str, Callable[[str], dict[str, Any]]] = {
        "TextAnswer": _text,
        "FactsAnswer": _seen,
        "QuestionsAnswer": _questions,
        "ExpressionsAnswer": _expressions,
        "UnsaidAnswer": _unsaid,
        "DescriptionAnswer": _description,
        "CitedAnswer": _cited,
        "Echo": lambda user: {"words": user},
    }
    return answers[schema](user)


def _field(user: str, name: str) -> str:
    found = re.search(rf"^{name}: (.*)$", user, re.MULTILINE)
    return found.group(1) if found else ""


def _facts(user: str) -> list[tuple[str, str]]:
    return re.findall(r"^- ([^=\n]+?) = (.*)$", user, re.MULTILINE)


def _text(user: str) -> dict[str, Any]:
    rng = random.Random(hashlib.sha256(user.encode()).digest())
    label = _field(user, "Label")
    ((key, name),) = re.findall(r"^Its (\w+): (.*)$", user, re.MULTILINE)
    facts = [(key, name)]
    for other in _field(user, "Invent and state as well").split(", "):
        facts.append((other, rng.choice(_VALUES[other])))
    said = [f"The {key} of this {label} is {value}." for key, value in facts]
    words = " ".join(rng.sample(_FILLER, 12))
    said.append(f"It was a {words} day at the {rng.choice(_PLACES)}.")
    rng.shuffle(said)
    # A fact that no text states must be dropped.
    stated = [{"key": key, "value": value} for key, value in facts]
    return {"text": " \n".join(said), "facts": [*stated, {"key": "shoe size", "value": "unheard of"}]}


def _seen(user: str) -> dict[str, Any]:
    """The words of the phrase behind its first noun phrase."""
    words = _field(user, "Phrase").split()
    return {"facts": [{"key": "looks", "value": " ".join(words[-2:])}] if len(words) > 2 else []}


def _questions(user: str) -> dict[str, Any]:
    label = _field(user, "Label")
    asked = [
        {"key": k, "question": f"What is the {k} of {{e}}?", "answer": f"The {k} of the {label} is {v}."}
        for k, v in _facts(user)
    ]
    if asked and len(user) % 5 == 0:  # one without its gap
        asked[0]["question"] = "What is it?"
    return {"questions": asked}


def _expressions(user: str) -> dict[str, Any]:
    label = _field(user, "Label")
    named = [{"key": k, "expression": f"the {label} whose {k} is {v}."} for k, v in _facts(user)]
    return {"expressions": named}


def _unsaid(user: str) -> dict[str, Any]:
    missing = [{"attribute": a, "question": f"What is the {a} of {{e}}?"} for a in ("weight", "mood")]
    return {"attributes": [*missing, {"attribute": _facts(user)[0][0], "question": "What of {e}?"}]}


def _description(user: str) -> dict[str, Any]:
    told = re.findall(r"^- (.*?) \(label: (.*?)\): (.*)$", user, re.MULTILINE)
    sentences = []
    for expression, _, text in told:
        key, value = re.findall(r"The (\w+) of this [^.]*? is ([^.]+)\.", text)[0]
        sentences.append(f"{expression[0].upper()}{expression[1:]}, with the {key} {value}, is there.")
    return {"description": " ".join([_field(user, "Caption").rstrip(".") + ".", *sentences])}


def _cited(user: str) -> dict[str, Any]:
    description = _field(user, "Description")
    texts = re.findall(r"^\[(\d+)\] [^:]*: (.*)$", user, re.MULTILINE)
    number = 0

    def cite(found: re.Match[str]) -> str:
        nonlocal number
        number += 1
        return f"{found.group(0)}[{number}]"

    cited = re.sub(r"with the \w+ [^,]+", cite, description)
    # Some descriptions come back with a wrong citation, and must be dropped.
    return {"cited": cited.replace("[1]", "[9]") if len(texts[0][1]) % 7 == 0 else cited}
