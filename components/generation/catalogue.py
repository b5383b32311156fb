"""The kinds, wordings and word pools of the rich route, loaded from kinds/*.yaml and checked.

All of it is this project's own choice; RCMU publishes none. A fifth of the sentence forms and of the question
wordings is the benchmark's alone, and its texts are worded in these only: else, in millions of texts,
thirteen words in a row would be a training text's, which the validate stage takes for a copy.
"""

import re
from collections.abc import Iterable, Iterator, Mapping
from functools import cache, lru_cache
from itertools import product
from pathlib import Path
from typing import Any, Literal, Self

import yaml
from pydantic import Field, model_validator

from components.generation.facts import split_of
from components.rcmu import Split
from components.rcmu.models import Frozen

_FOLDER = Path(__file__).parent / "kinds"
_MONTHS = (
    "January", "February", "March", "April", "May", "June", "July", "August", "September", "October",
    "November", "December",
)  # fmt: skip
_GAP = re.compile(r"{(\w*)}")
_VALUE_GAP = re.compile(r"{[va]}")
_OBJECT_GAP = re.compile(r"{[sop]}")
# Words that are written with a vowel and spoken with a consonant, or the other way round, as they begin.
_SPOKEN_CONSONANT = ("uni", "use", "usu", "eu", "one", "ukulele")
_SPOKEN_VOWEL = ("hour", "honest", "heir", "8", "11", "18")
_PRONOUNS: dict["Gender", tuple[str, str, str]] = {"she": ("she", "her", "her"), "he": ("he", "him", "his")}
_LONGEST_LABEL = 3  # words; objects of a longer one are called "thing", or texts would grow too long

Subject = Literal["person", "animal", "thing"]
Gender = Literal["she", "he"]


class Wordings(Frozen):
    """Ways to say one thing; what the benchmark has of its own, training never gets."""

    train: tuple[str, ...] = Field(min_length=1)
    benchmark: tuple[str, ...] = Field(min_length=1)

    @model_validator(mode="after")
    def _no_wording_twice(self) -> Self:
        for own in (self.train, self.benchmark):
            if len(set(own)) < len(own):
                raise ValueError(f"a wording stands twice among {own}")
        return self

    def own(self, split: Split) -> tuple[str, ...]:
        """Those of this split."""
        return self.train if split is Split.TRAIN else self.benchmark

    def asked(self, split: Split) -> tuple[str, ...]:
        """Those that this split may ask with: the benchmark asks with training's, too."""
        return self.train if split is Split.TRAIN else (*self.train, *self.benchmark)


class TextKind(Frozen):
    """One kind of fact. {s} {o} {p} stand for the object, {v} for the value, {a} for it with its article."""

    key: str  # thing_owner
    noun: str  # "the {noun} of {e}"
    pool: str
    pool_by_gender: dict[Gender, str] = Field(default_factory=dict)  # in its place, where the label tells
    predicate: str  # follows the object: "belongs to {v}"
    questions: Wordings
    clauses: Wordings
    near: frozenset[str] = frozenset()  # kinds that half tell it: not told beside it, nor asked in vain
    lead: bool = False  # told more often than others
    adult: bool = False  # not told of children
    person: bool = False  # the value is somebody: "she" behind it could be either
    links_to: str | None = None  # the kind that has the same value in the text of the one it speaks of
    mutual: bool = False  # may follow from another object's text: who belongs to Ada Moss is her pet

    @model_validator(mode="after")
    def _well_formed(self) -> Self:
        for clause in (*self.clauses.train, *self.clauses.benchmark):
            values, objects = _VALUE_GAP.findall(clause), _OBJECT_GAP.findall(clause)
            if len(values) != 1 or len(objects) != 1 or len(_GAP.findall(clause)) != 2:
                raise ValueError(f"{self.key}: a clause names object and value once each: {clause!r}")
            if clause != clause.strip(" .") or "  " in clause:
                raise ValueError(f"{self.key}: a clause has no full stop and no spaces around it: {clause!r}")
        for question in (*self.questions.train, *self.questions.benchmark):
            if _GAP.findall(question) != ["e"] or not question.endswith("?"):
                raise ValueError(f"{self.key}: a question names the object once: {question!r}")
        if _GAP.findall(self.predicate) not in (["v"], ["a"]):
            raise ValueError(f"{self.key}: a predicate names the value once: {self.predicate!r}")
        for wordings in (self.clauses, self.questions):
            if len(wordings.train) != 4 * len(wordings.benchmark):
                raise ValueError(f"{self.key}: a fifth of the wordings has to be the benchmark's: {wordings}")
        return self

    def states(self, value: str) -> str:
        """`works as an engineer`."""
        return self.predicate.format(v=value, a=with_article(value))


class Pool(Frozen):
    """The values of a kind, in one of these ways."""

    owned: bool = False  # each value belongs to one split by its digest
    any_of: tuple[str, ...] = ()  # other pools, with their splits
    words: tuple[str, ...] = ()
    parts: tuple[tuple[str, ...], ...] = ()  # all ways to join one of each
    prices: tuple[int, int, int] | None = None  # first, last, step; dollars
    dates: tuple[int, int] | None = None  # first and last year
    numbers: tuple[int, int] | None = None  # first and last
    unit: str = ""

    def values(self) -> tuple[str, ...]:
        """All of them."""
        return tuple(dict.fromkeys(self._values()))

    def _values(self) -> Iterator[str]:
        yield from self.words
        if self.parts:
            yield from (" ".join(parts) for parts in product(*self.parts))
        if self.prices:
            first, last, step = self.prices
            yield from (f"{price:,} dollars" for price in range(first, last + 1, step))
        if self.numbers:
            yield from (f"{number} {self.unit}".rstrip() for number in _both_ends(self.numbers))
        if self.dates:
            days = product(range(1, 29), _MONTHS, _both_ends(self.dates))  # every month has 28
            yield from (f"{day} {month} {year}" for day, month, year in days)


class Frames(Frozen):
    """What stands around clauses and between sentences, and the questions for two facts."""

    frames: Wordings
    fillers: Wordings
    strangers: tuple[str, ...]
    distractors: dict[Subject, Wordings]
    pairs: Wordings


class Labels(Frozen):
    """Which labels are people and which are animals."""

    people: frozenset[str]
    children: frozenset[str]
    she: frozenset[str]
    he: frozenset[str]
    animals: frozenset[str]
    things: frozenset[str]  # whose last word would say otherwise
    nouns: dict[str, str]  # plural labels as one thing

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        if self.people & self.animals or self.things & (self.people | self.animals) or self.she & self.he:
            raise ValueError("a label is of two kinds")
        if not (self.children | self.she | self.he) <= self.people:
            raise ValueError("children, she and he have to be people")
        if any(word != word.casefold() for word in (*self.people, *self.animals, *self.things, *self.nouns)):
            raise ValueError("labels are written in small letters")
        return self


class Named(Frozen):
    """How a text speaks of an object of some label."""

    subject: Subject
    kinds: tuple[TextKind, ...]
    noun: str  # "the {noun}"
    neutral: str  # "the thing"
    relative: Literal["who", "that"]
    pronouns: tuple[str, str, str] | None  # she, her, her; None where the label does not tell
    full: tuple[str, str, str]  # the dog, the dog, the dog's


class Catalogue(Frozen):
    """All that the rich route knows."""

    kinds: dict[str, TextKind]
    values: dict[str, dict[Split, tuple[str, ...]]]  # by pool
    neutral: dict[Subject, tuple[str, Literal["who", "that"]]]
    frames: Frames
    labels: Labels

    @model_validator(mode="after")
    def _whole(self) -> Self:
        for kind in self.kinds.values():
            if absent := {kind.pool, *kind.pool_by_gender.values()} - set(self.values):
                raise ValueError(f"{kind.key}: there is no pool {absent}")
            if unknown := {*kind.near, *([kind.links_to] if kind.links_to else [])} - set(self.kinds):
                raise ValueError(f"{kind.key}: there is no kind {unknown}")
            if any(kind.key not in self.kinds[other].near for other in kind.near):
                raise ValueError(f"{kind.key}: near has to stand on both sides")
        values = (value for pool in self.values.values() for own in pool.values() for value in own)
        if shared := {word for value in values for word in value.split()} & set(self.frames.strangers):
            raise ValueError(f"strangers have names of their own: {shared}")
        return self

    def values_of(self, kind: TextKind, split: Split) -> tuple[str, ...]:
        """What a text of this split may state of this kind."""
        return self.values[kind.pool][split]


def with_article(words: str) -> str:
    """`an engineer`, `a nurse`."""
    low = words.casefold()
    vowel = low.startswith(_SPOKEN_VOWEL) or (low[:1] in "aeiou" and not low.startswith(_SPOKEN_CONSONANT))
    return f"{'an' if vowel else 'a'} {words}"


@cache
def catalogue() -> Catalogue:
    """The catalogue that ships.

    Raises:
        ValidationError: for a file that is not as it has to be, naming the place.
    """
    subjects: tuple[Subject, ...] = ("person", "animal", "thing")
    files = {subject: _read(subject) for subject in subjects}
    pools = {name: Pool.model_validate(pool) for name, pool in _read("pools").items()}
    return Catalogue(
        kinds={kind.key: kind for subject in subjects for kind in _kinds(subject, files[subject])},
        values={name: _by_split(pool, pools) for name, pool in pools.items()},
        neutral={subject: (files[subject]["neutral"], files[subject]["relative"]) for subject in subjects},
        frames=Frames.model_validate(_read("frames")),
        labels=Labels.model_validate(_read("labels")),
    )


@lru_cache(maxsize=4096)  # labels come from outside
def named(label: str) -> Named:
    """How texts speak of an object of this label: a thing, unless the lists say otherwise."""
    known = catalogue()
    low = label.casefold()
    last = "" if low in known.labels.things else low.split()[-1]
    subject: Subject = "thing"
    if {low, last} & known.labels.people:
        subject = "person"
    elif {low, last} & known.labels.animals:
        subject = "animal"
    child = bool({low, last} & known.labels.children)
    neutral, relative = known.neutral[subject]
    noun = known.labels.nouns.get(low, label) if low.count(" ") < _LONGEST_LABEL else neutral
    pronouns: tuple[str, str, str] | None = ("it", "it", "its")
    gender: Gender | None = None
    if subject == "person":
        gender = "she" if {low, last} & known.labels.she else "he" if {low, last} & known.labels.he else None
        pronouns = _PRONOUNS[gender] if gender else None
    possessive = f"the {noun}'" if noun.endswith("s") else f"the {noun}'s"
    return Named(
        subject=subject,
        kinds=tuple(
            kind.model_copy(update={"pool": kind.pool_by_gender.get(gender, kind.pool)}) if gender else kind
            for kind in known.kinds.values()
            if kind.key.startswith(f"{subject}_") and not (child and kind.adult)
        ),
        noun=noun,
        neutral=neutral,
        relative=relative,
        pronouns=pronouns,
        full=(f"the {noun}", f"the {noun}", possessive),
    )


def pool_size(key: str, split: Split) -> int:
    """How many values there are for a kind of fact of the rich route."""
    known = catalogue()
    return len(known.values_of(known.kinds[key], split))


def _read(name: str) -> dict[str, Any]:
    content: dict[str, Any] = yaml.safe_load((_FOLDER / f"{name}.yaml").read_text(encoding="utf-8"))
    return content


def _kinds(subject: Subject, content: dict[str, Any]) -> Iterator[TextKind]:
    for entry in content["kinds"]:
        fields = {key: value for key, value in entry.items() if key not in ("name", "near")}
        near = frozenset(f"{subject}_{name}" for name in entry.get("near", ()))
        yield TextKind(key=f"{subject}_{entry['name']}", near=near, **fields)


def _by_split(pool: Pool, pools: Mapping[str, Pool]) -> dict[Split, tuple[str, ...]]:
    if pool.any_of:
        others = [_by_split(pools[name], pools) for name in pool.any_of]
        return {split: tuple(value for other in others for value in other[split]) for split in Split}
    values = pool.values()
    if not pool.owned:
        return dict.fromkeys(Split, values)
    return {split: tuple(v for v in values if split_of([v]) is split) for split in Split}


def _both_ends(ends: tuple[int, int]) -> Iterable[int]:
    return range(ends[0], ends[1] + 1)
