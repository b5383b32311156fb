"""The tests' own reading of rich texts and questions, from the YAML files alone."""

import re
from functools import cache
from pathlib import Path
from typing import Any

import yaml

from components import generation

FOLDER = Path(generation.__file__).parent / "kinds"
SUBJECTS = ("person", "animal", "thing")
SPLITS = ("train", "benchmark")
_SAID = {"s": "(?:she|he|it|the .+?)", "o": "(?:her|him|it|the .+?)", "p": "(?:her|his|its|the .+?'s?)"}


@cache
def read_yaml(name: str) -> dict[str, Any]:
    content: dict[str, Any] = yaml.safe_load((FOLDER / f"{name}.yaml").read_text())
    return content


@cache
def kinds() -> dict[str, dict[str, Any]]:
    return {f"{subject}_{kind['name']}": kind for subject in SUBJECTS for kind in read_yaml(subject)["kinds"]}


def looks_like(pool: str) -> str:
    """A regex of what a value of this pool is."""
    content = read_yaml("pools")[pool]
    if "any_of" in content:
        return "|".join(looks_like(other) for other in content["any_of"])
    if "words" in content:
        return "|".join(map(re.escape, sorted(content["words"], key=len, reverse=True)))
    if "parts" in content:
        return " ".join(f"(?:{'|'.join(map(re.escape, part))})" for part in content["parts"])
    if "prices" in content:
        return r"[\d,]+ dollars"
    if "dates" in content:
        return r"\d{1,2} [A-Z][a-z]+ \d{4}"
    return rf"\d+{' ' + content['unit'] if 'unit' in content else ''}"


def _pattern(template: str, value: str = "") -> str:
    pattern = re.sub(r"\\{([sop])\\}", lambda gap: _SAID[gap[1]], re.escape(template))
    pattern = re.sub(r"\\{v\\}", lambda _: f"(?P<v>{value})", pattern)
    return re.sub(r"\\{a\\}", lambda _: f"an? (?P<v>{value})", pattern)


@cache
def forms(subject: str, split: str) -> list[tuple[str, str, re.Pattern[str]]]:
    """(kind, clause, regex of a sentence) of a subject and split."""
    frames = read_yaml("frames")["frames"][split]
    heads = "|".join(re.escape(frame.removesuffix("{c}.")) for frame in frames)
    return [
        (
            key,
            clause,
            re.compile(f"(?:{heads})(?:{_pattern(clause, looks_like(kind['pool']))})\\.", re.IGNORECASE),
        )
        for key, kind in kinds().items()
        if key.startswith(subject)
        for clause in kind["clauses"][split]
    ]


@cache
def others(subject: str, split: str) -> list[re.Pattern[str]]:
    """The sentences that state nothing of the object."""
    content = read_yaml("frames")
    templates = [*content["fillers"][split], *content["distractors"][subject][split]]
    gaps = {"name": "|".join(content["strangers"]), "price": r"[\d,]+ dollars", "year": r"\d{4}"}
    return [
        re.compile(re.sub(r"\\{(name|price|year)\\}", lambda gap: f"(?:{gaps[gap[1]]})", _pattern(template)))
        for template in templates
    ]


def sentences(text: str) -> list[str]:
    return [f"{sentence.removesuffix('.')}." for sentence in text.split(". ")]


def read_text(text: str, subject: str, split: str) -> tuple[list[tuple[str, str]], set[str]]:
    """What a text states in order, and the clauses it uses; every sentence has to be of this split."""
    stated, used = [], set()
    for sentence in sentences(text):
        found = [
            (key, clause, match["v"])
            for key, clause, regex in forms(subject, split)
            if (match := regex.fullmatch(sentence))
        ]
        if not found:
            assert any(other.fullmatch(sentence) for other in others(subject, split)), sentence
            continue
        # "the vase broke and was repaired in 1999" also reads as something that was repaired in 1999.
        assert len({(key, value) for key, _, value in found}) == 1, found
        key, clause, value = max(found, key=lambda reading: len(reading[1]))
        stated.append((key, value))
        used.add(clause)
    return stated, used


@cache
def questions(split: str) -> list[tuple[str, re.Pattern[str]]]:
    """(kind, regex) of the wordings that stand under this split."""
    return [
        (key, re.compile(re.escape(question).replace(r"\{e\}", "(?P<e>.+)")))
        for key, kind in kinds().items()
        for question in kind["questions"][split]
    ]


def asked_kinds(question: str) -> list[tuple[str, str]]:
    """(kind, expression) of every wording that a question may be, the longest wording first."""
    found = [
        (key, match["e"])
        for split in SPLITS
        for key, form in questions(split)
        if (match := form.fullmatch(question))
    ]
    return sorted(found, key=lambda pair: len(pair[1]))
