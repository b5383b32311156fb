"""The kinds of the rich route: enough of them, and every form of every kind is an English sentence."""

import re
import tomllib
from functools import cache
from itertools import product
from pathlib import Path

import pytest
from pydantic import ValidationError

from components.generation.catalogue import (
    Labels,
    Pool,
    Subject,
    TextKind,
    Wordings,
    catalogue,
    named,
    with_article,
)
from components.generation.rich_texts import render
from components.rcmu import Split
from tests.generation.reading import FOLDER

SPEAKERS = {
    "person": ("woman", "boy", "tennis player", "glasses"),
    "animal": ("dog", "young cow"),
    "thing": ("handbag", "skis", "hot dog"),
}


def test_there_are_kinds_and_forms_enough() -> None:
    kinds = catalogue().kinds
    frames = catalogue().frames.frames
    assert len(kinds) >= 25
    for kind in kinds.values():
        numbers = {split: len(set(product(frames.own(split), kind.clauses.own(split)))) for split in Split}
        assert sum(numbers.values()) >= 40
        assert numbers[Split.BENCHMARK] == 0.2 * sum(numbers.values())
        assert len(kind.questions.train) >= 3
        assert len(kind.questions.benchmark) == 0.2 * len(kind.questions.asked(Split.BENCHMARK))
        assert not set(kind.clauses.train) & set(kind.clauses.benchmark)
        assert not set(kind.questions.train) & set(kind.questions.benchmark)


def test_no_question_asks_for_two_kinds_of_a_subject() -> None:
    for subject in SPEAKERS:
        forms = [
            question
            for key, kind in catalogue().kinds.items()
            if key.startswith(subject)
            for question in kind.questions.asked(Split.BENCHMARK)
        ]
        assert len(set(forms)) == len(forms)


@pytest.mark.parametrize("key", catalogue().kinds)
def test_every_form_of_a_kind_is_a_sentence(key: str) -> None:
    kind = catalogue().kinds[key]
    checked = 0
    for label in SPEAKERS[key.partition("_")[0]]:
        who = named(label)
        for split in Split:
            values = catalogue().values_of(kind, split)
            spread = values[:: max(1, len(values) // 7)]
            forms = product(catalogue().frames.frames.own(split), kind.clauses.own(split), (True, False))
            for number, (frame, clause, pronoun) in enumerate(forms):
                value = spread[number % len(spread)]
                assert_sentence(render(who, clause, frame, value, pronoun=pronoun), value)
                checked += 1
    assert checked >= 2 * 80


def assert_sentence(sentence: str, value: str) -> None:
    assert len(re.findall(rf"(?<!\w){re.escape(value)}(?!\w)", sentence, re.IGNORECASE)) == 1, sentence
    assert re.fullmatch(r"[A-Z0-9][^{}]*[^ .]\.", sentence), sentence
    assert "  " not in sentence
    assert not re.search(r" ,|,,|\bthe the\b|\ba the\b|\ban? an?\b", sentence), sentence
    # A pronoun in the wrong case.
    assert not re.search(r"\b(?:of|to|for|with|from|calls?|by|owns) (?:she|he)\b", sentence), sentence
    assert not re.search(r"\b(?:her|him|his|its) (?:is|was|has|belongs)\b", sentence), sentence
    assert not re.search(r"\bof (?:her|him|it)\b(?! )", sentence), sentence
    assert_articles(sentence)


def assert_articles(text: str) -> None:
    for article, word in re.findall(r"\b(an?) (\S+)", text, re.IGNORECASE):
        spoken_vowel = word[0].casefold() in "aeiou" and word.casefold().strip(".") not in (
            "one", "union", "uniform", "university", "ukulele", "use", "used", "european",
        )  # fmt: skip
        assert (article.casefold() == "an") == spoken_vowel, text


def test_every_value_gets_the_right_article() -> None:
    for kind in catalogue().kinds.values():
        if "{a}" in kind.predicate:
            for value in catalogue().values_of(kind, Split.TRAIN):
                assert_articles(kind.states(value))
    assert with_article("hour") == "an hour"
    assert with_article("ukulele") == "a ukulele"


def test_fillers_and_distractors_are_sentences() -> None:
    frames = catalogue().frames
    for split in Split:
        forms = [*frames.fillers.own(split), *(f for d in frames.distractors.values() for f in d.own(split))]
        for form in forms:
            text = form.format(o="the dog", name="Otto", price="300 dollars", year="1999")
            assert re.fullmatch(r"[A-Z][^{}]*[^ .]\.", text)
            assert ". " not in text
            assert_articles(text)
            assert len(text.split()) <= 15


@cache
def gaps_of(key: str) -> dict[str, str]:
    """What fills the gaps of a sentence, as many words as there may be."""
    gaps = {"name": "name", "price": "price dollars", "year": "year"}
    gaps |= dict.fromkeys(("s", "o", "p"), "the noun noun noun")
    if key:
        kind = catalogue().kinds[key]
        train, benchmark = (catalogue().values_of(kind, split) for split in Split)
        longest = max(len(re.findall(r"\w+", value)) for value in train)
        shared = set(train) & set(benchmark)
        gaps["v"] = " ".join(f"{kind.pool}{n}" for n in range(longest)) if shared else f"{kind.pool} own"
        gaps["a"] = f"a {gaps['v']}"
    return gaps


def words_of(sentence: str, key: str = "") -> tuple[str, ...]:
    filled = re.sub(r"{(\w+)}", lambda gap: gaps_of(key)[gap[1]], sentence)
    return tuple(re.findall(r"\w+", filled.casefold()))


def sentences_of(split: Split) -> set[tuple[str, ...]]:
    frames = catalogue().frames
    others = [*frames.fillers.own(split), *(f for d in frames.distractors.values() for f in d.own(split))]
    forms = product(frames.frames.own(split), catalogue().kinds.values())
    return {words_of(sentence) for sentence in others} | {
        words_of(frame.replace("{c}", clause), kind.key)
        for frame, kind in forms
        for clause in kind.clauses.own(split)
    }


def test_no_thirteen_words_of_two_benchmark_sentences_are_those_of_two_training_sentences() -> None:
    """However many texts are made: the most words that ends have in common, and the most of beginnings."""
    heads, tails, whole = set(), set(), set()
    for sentence in sentences_of(Split.TRAIN):
        heads |= {sentence[:n] for n in range(1, len(sentence) + 1)}
        tails |= {sentence[-n:] for n in range(1, len(sentence) + 1)}
        whole.add(sentence)
    benchmark = sentences_of(Split.BENCHMARK)
    assert not benchmark & whole
    head = max(
        n for sentence in benchmark for n in range(len(sentence) + 1) if not n or sentence[:n] in heads
    )
    tail = max(
        n for sentence in benchmark for n in range(len(sentence) + 1) if not n or sentence[-n:] in tails
    )
    assert head + tail < 13


@pytest.mark.parametrize("subject", SPEAKERS)
def test_no_value_stands_in_the_words_around_it(subject: Subject) -> None:
    """Such as "the workshop", a storage place, in "left the workshop of": it would look like an answer."""
    frames = catalogue().frames
    kinds = [kind for key, kind in catalogue().kinds.items() if key.startswith(subject)]
    for split in Split:
        words = [
            *frames.frames.own(split),
            *frames.fillers.own(split),
            *frames.distractors[subject].own(split),
        ]
        words += [clause for kind in kinds for clause in kind.clauses.own(split)]
        around = "\n".join(words).casefold()
        for kind in kinds:
            for value in catalogue().values_of(kind, split):
                if value.casefold() in around:
                    found = re.search(rf"(?<!\w){re.escape(value)}(?!\w)", around, re.IGNORECASE)
                    assert not found, (kind.key, value)


def test_labels_are_people_animals_or_things() -> None:
    animals = ["bird", "cat", "dog", "horse", "sheep", "cow", "elephant", "bear", "zebra", "giraffe"]
    assert {named(label).subject for label in animals} == {"animal"}
    people = ("person", "Woman", "police officer", "tennis player", "little girl")
    assert {named(label).subject for label in people} == {"person"}
    things = ("hot dog", "teddy bear", "mouse", "traffic light", "skis", "unheard-of")
    assert {named(label).subject for label in things} == {"thing"}
    assert named("scissors").full == ("the pair of scissors", "the pair of scissors", "the pair of scissors'")
    assert named("a very long label of outside").noun == "thing"


def test_children_have_no_job_and_names_fit() -> None:
    keys = {kind.key for kind in named("boy").kinds}
    assert not keys & {"person_job", "person_salary", "person_spouse", "person_employer", "person_age"}
    assert len(keys) >= 8
    by_label = {
        label: next(kind for kind in named(label).kinds if kind.key == "person_name")
        for label in ("woman", "man", "person")
    }
    names = {label: set(catalogue().values_of(kind, Split.TRAIN)) for label, kind in by_label.items()}
    assert names["woman"] | names["man"] == names["person"]
    assert not names["woman"] & names["man"]


def test_owned_values_belong_to_one_split() -> None:
    owned = {"full_names", "pet_names", "companies", "vets", "shelters", "makers", "shops"}
    for name in owned:
        train, benchmark = (set(catalogue().values[name][split]) for split in Split)
        assert train and benchmark
        assert not train & benchmark


def kind_of(**changes: object) -> TextKind:
    wordings = {"train": ("{s} is {v}", "{s} was {v}", "{v} is {o}", "{p} is {v}"), "benchmark": ("{v} {s}",)}
    asked = {"train": ("A {e}?", "B {e}?", "C {e}?", "D {e}?"), "benchmark": ("E {e}?",)}
    fields = {
        "key": "k",
        "noun": "n",
        "pool": "p",
        "predicate": "is {v}",
        "clauses": wordings,
        "questions": asked,
    }
    return TextKind.model_validate({**fields, **changes})


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"predicate": "is"}, "a predicate names the value once"),
        ({"clauses": {"train": ["{s} is {v} {v}"], "benchmark": ["{s} {v}"]}}, "value once each"),
        ({"clauses": {"train": ["{s} is."], "benchmark": ["{s} {v}"]}}, "value once each"),
        ({"clauses": {"train": ["{s} is {v}."], "benchmark": ["{s} {v}"]}}, "no full stop"),
        ({"clauses": {"train": ["{s} is {v}"], "benchmark": ["{s} {v}"]}}, "a fifth of the wordings"),
        ({"clauses": {"train": ["{s} is {v}"] * 2, "benchmark": ["{s} {v}"]}}, "stands twice"),
        ({"questions": {"train": ["Who?"], "benchmark": ["Who {e}?"]}}, "names the object once"),
    ],
)
def test_mistakes_in_a_kind_are_named(changes: dict[str, object], said: str) -> None:
    assert kind_of().states("x") == "is x"
    with pytest.raises(ValidationError, match=said):
        kind_of(**changes)


def test_mistakes_between_the_files_are_named() -> None:
    known = catalogue()
    content = known.model_dump()
    content["kinds"]["thing_owner"]["pool"] = "nobody"
    with pytest.raises(ValidationError, match="there is no pool"):
        type(known).model_validate(content)
    content = known.model_dump()
    content["frames"]["strangers"] = ("Abbott",)
    with pytest.raises(ValidationError, match="names of their own"):
        type(known).model_validate(content)
    labels = known.labels.model_dump()
    with pytest.raises(ValidationError, match="of two kinds"):
        Labels.model_validate({**labels, "animals": {*labels["animals"], "man"}})
    with pytest.raises(ValidationError, match="stands twice"):
        Wordings(train=("a", "a"), benchmark=("b",))


def test_pools_hold_what_they_say() -> None:
    assert Pool(prices=(990, 1010, 10)).values() == ("990 dollars", "1,000 dollars", "1,010 dollars")
    assert Pool(numbers=(2, 3), unit="kilos").values() == ("2 kilos", "3 kilos")
    assert "14 March 1987" in Pool(dates=(1987, 1987)).values()
    assert Pool(parts=(("a", "b"), ("c",))).values() == ("a c", "b c")


def test_a_wheel_holds_the_files(repo: Path) -> None:
    packaged = tomllib.loads((repo / "pyproject.toml").read_text())["tool"]["setuptools"]["package-data"]
    held = {path for pattern in packaged["components.generation"] for path in FOLDER.parent.glob(pattern)}
    assert set(FOLDER.iterdir()) <= held
