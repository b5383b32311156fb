"""The kinds of facts that texts state, their closed word pools, and which split may say what.

All wording is this project's own choice; RCMU publishes none.
"""

import hashlib
import json
import random
from collections.abc import Sequence

from components.rcmu import Fact, Split
from components.rcmu.models import Frozen

_PERSON_LABELS = frozenset({"person", "man", "woman", "boy", "girl", "child"})

_FIRST_NAMES = (
    "Ada", "Ben", "Clara", "David", "Emma", "Felix", "Grace", "Hugo",
    "Iris", "Jonas", "Lena", "Marco", "Nora", "Oscar", "Paula", "Simon",
)  # fmt: skip
_LAST_NAMES = (
    "Moss", "Hill", "Stone", "Brook", "Field", "Lake", "Marsh", "Wood",
    "Reed", "Frost", "Vale", "Cliff", "Ford", "Grove", "Heath", "Dale",
)  # fmt: skip
_CITIES = (
    "Oslo", "Rome", "Paris", "Cairo", "Lima", "Tokyo", "Delhi", "Seoul",
    "Quito", "Accra", "Hanoi", "Dublin", "Vienna", "Prague", "Boston", "Sydney",
)  # fmt: skip
_NICKNAMES = (
    "Biscuit", "Comet", "Pepper", "Rocket", "Velvet", "Ziggy", "Maple", "Nugget",
    "Pixel", "Saffron", "Tango", "Waffle", "Bramble", "Clover", "Domino", "Ember",
)  # fmt: skip
_JOBS = (
    "teacher", "nurse", "baker", "pilot", "lawyer", "farmer", "doctor", "painter",
    "driver", "cook", "writer", "dentist", "judge", "tailor", "gardener", "plumber",
)  # fmt: skip
_HOBBIES = (
    "chess", "sailing", "cycling", "pottery", "tennis", "fishing", "knitting", "skiing",
    "dancing", "climbing", "rowing", "drawing", "hiking", "poker", "yoga", "surfing",
)  # fmt: skip
_FULL_NAMES = tuple(f"{first} {last}" for first in _FIRST_NAMES for last in _LAST_NAMES)
_YEARS = tuple(str(year) for year in range(1970, 2022))
_PRICES = tuple(f"{price} dollars" for price in range(10, 100))
_AGES = tuple(str(age) for age in range(20, 80))


class Kind(Frozen):
    """One kind of fact. {s} and {e} stand for the object, {v} for the value."""

    key: str
    noun: str  # "the {noun} of {e}" in a refusal
    values: tuple[str, ...]
    questions: tuple[str, ...]  # the ways to ask for it
    predicate: str  # follows the object: "belongs to {v}"
    sentences: tuple[str, ...]  # the ways a text may state it
    # The benchmark's own: no question and no text of the training is worded so.
    new_question: str
    new_sentence: str

    def questions_of(self, split: Split) -> tuple[str, ...]:
        """The ways to ask for it in this split."""
        return self.questions if split is Split.TRAIN else (*self.questions, self.new_question)

    def sentences_of(self, split: Split) -> tuple[str, ...]:
        """The ways a text of this split may state it."""
        return self.sentences if split is Split.TRAIN else (*self.sentences, self.new_sentence)

    def states(self, value: str) -> str:
        """`belongs to Ada Moss`."""
        return self.predicate.format(v=value)


_THING = (
    Kind(
        key="owner",
        noun="owner",
        values=_FULL_NAMES,
        questions=("Who is the owner of {e}?", "Who owns {e}?"),
        predicate="belongs to {v}",
        sentences=("{s} belongs to {v}.", "{v} owns {s}.", "{s} is owned by {v}."),
        new_question="Who is it that owns {e}?",
        new_sentence="The owner of {s} is {v}.",
    ),
    Kind(
        key="origin",
        noun="origin",
        values=_CITIES,
        questions=("Where does {e} come from?", "Where was {e} brought from?"),
        predicate="comes from {v}",
        sentences=("{s} comes from {v}.", "{s} was brought from {v}.", "{v} is where {s} comes from."),
        new_question="From where does {e} come?",
        new_sentence="{v} is where {s} was brought from.",
    ),
    Kind(
        key="year",
        noun="year of purchase",
        values=_YEARS,
        questions=("When was {e} bought?", "In what year was {e} purchased?"),
        predicate="was bought in {v}",
        sentences=("{s} was bought in {v}.", "{s} was purchased in {v}.", "In {v} {s} was bought."),
        new_question="In what year was {e} bought?",
        new_sentence="In {v} {s} was purchased.",
    ),
    Kind(
        key="price",
        noun="price",
        values=_PRICES,
        questions=("How much did {e} cost?", "What was paid for {e}?"),
        predicate="cost {v}",
        sentences=("{s} cost {v}.", "{s} was sold for {v}.", "{v} was paid for {s}."),
        new_question="How much was paid for {e}?",
        new_sentence="{v} is what {s} was sold for.",
    ),
    Kind(
        key="nickname",
        noun="nickname",
        values=_NICKNAMES,
        questions=("What is {e} called?", "What do people call {e}?"),
        predicate="is called {v}",
        sentences=("{s} is called {v}.", "People call {s} {v}.", "{s} goes by the name {v}."),
        new_question="What is it that people call {e}?",
        new_sentence="{v} is what people call {s}.",
    ),
)
_PERSON = (
    Kind(
        key="name",
        noun="name",
        values=_FULL_NAMES,
        questions=("What is the name of {e}?", "By what name does {e} go?"),
        predicate="is called {v}",
        sentences=("{s} is called {v}.", "{v} is the name of {s}.", "{s} goes by the name {v}."),
        new_question="What name does {e} go by?",
        new_sentence="People call {s} {v}.",
    ),
    Kind(
        key="job",
        noun="job",
        values=_JOBS,
        questions=("What is the job of {e}?", "What does {e} work as?"),
        predicate="works as a {v}",
        sentences=("{s} works as a {v}.", "{s} is a {v}.", "{s} earns a living as a {v}."),
        new_question="As what does {e} work?",
        new_sentence="The job of {s} is {v}.",
    ),
    Kind(
        key="age",
        noun="age",
        values=_AGES,
        questions=("How old is {e}?", "What is the age of {e}?"),
        predicate="is {v} years old",
        sentences=("{s} is {v} years old.", "{s} turned {v} this year.", "{s} is aged {v}."),
        new_question="What age is {e}?",
        new_sentence="The age of {s} is {v}.",
    ),
    Kind(
        key="home",
        noun="home",
        values=_CITIES,
        questions=("Where does {e} live?", "In what city does {e} have a flat?"),
        predicate="lives in {v}",
        sentences=("{s} lives in {v}.", "{s} has a flat in {v}.", "{v} is home to {s}."),
        new_question="In what city does {e} live?",
        new_sentence="{s} is at home in {v}.",
    ),
    Kind(
        key="hobby",
        noun="hobby",
        values=_HOBBIES,
        questions=("What does {e} enjoy?", "What is the hobby of {e}?"),
        predicate="enjoys {v}",
        sentences=("{s} enjoys {v}.", "{s} likes {v}.", "{s} is fond of {v}."),
        new_question="What hobby does {e} enjoy?",
        new_sentence="The hobby of {s} is {v}.",
    ),
)
KINDS = {kind.key: kind for kind in (*_THING, *_PERSON)}


def is_person(label: str) -> bool:
    """Whether objects of this class get a person's facts."""
    return label.casefold() in _PERSON_LABELS


def kinds_of(label: str) -> tuple[Kind, ...]:
    """The kinds of facts that a text about such an object may state."""
    return _PERSON if is_person(label) else _THING


def draw_facts(kinds: Sequence[Kind], number: int, *, split: Split, rng: random.Random) -> tuple[Fact, ...]:
    """`number` facts of different ones of these kinds that only this split may state together.

    Every set of facts, and every full name by itself, belongs to one split by its digest. So training and
    benchmark share no text and no person, whatever is drawn, in whatever order and on how many machines.
    The seed has no say in it: no run's benchmark holds a name that the tiny base has been taught.
    """
    while True:
        drawn = rng.sample(kinds, number)
        facts = tuple(Fact(key=kind.key, value=rng.choice(kind.values)) for kind in drawn)
        names = [fact.value for fact in facts if fact.value in _FULL_NAMES]
        owned = [[name] for name in names] + [sorted(f"{fact.key}={fact.value}" for fact in facts)]
        if all(split_of(words) is split for words in owned):
            return facts


def split_of(words: Sequence[str]) -> Split:
    """A quarter of all names and sets of facts is the benchmark's."""
    digest = hashlib.sha256(json.dumps(words).encode()).digest()
    return Split.BENCHMARK if digest[0] < 64 else Split.TRAIN


def state_facts(label: str, facts: Sequence[Fact], *, split: Split, rng: random.Random) -> str:
    """A text about one object: a sentence for each fact, each in a random one of the split's forms."""
    later = "this person" if is_person(label) else "it"
    sentences = []
    for index, fact in enumerate(facts):
        subject = later if index else f"the {label}"
        form = rng.choice(KINDS[fact.key].sentences_of(split))
        sentences.append(capitalised(form.format(s=subject, v=fact.value)))
    return " ".join(sentences)


def capitalised(text: str) -> str:
    """The text with a capital first letter, the rest as it is."""
    return text[:1].upper() + text[1:]
