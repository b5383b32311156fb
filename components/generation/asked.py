"""What a question asks for, by its wording: the templates of both routes, and nothing of how it was made."""

from functools import cache

from components.generation.catalogue import catalogue, named
from components.generation.facts import KINDS, kinds_of
from components.generation.questions import VISUAL_QUESTIONS, visual_forms
from components.rcmu import Split, mentions


def asked_keys(question: str) -> frozenset[str]:
    """The keys of the facts that it may ask for: a wording may do for a dog and for a bag.

    Empty in a wording that no template has.
    """
    fitting = [
        (len(before) + len(after), keys)
        for (before, after), keys in _wordings().items()
        if question.startswith(before) and question.endswith(after)
    ]
    # One wording may stand inside another: the longest.
    return max(fitting, key=lambda pair: pair[0])[1] if fitting else frozenset()


def refused_keys(question: str, answer: str) -> frozenset[str]:
    """As `asked_keys`; in a wording that no template has, what the refusal says is missing."""
    return asked_keys(question) or frozenset(key for key, noun in _nouns().items() if mentions(answer, noun))


def told_keys(label: str) -> frozenset[str]:
    """The keys of what either route may tell of an object of this label."""
    plain = (kind.key for kind in kinds_of(label))
    return frozenset(plain) | {kind.key for kind in named(label).kinds}


@cache
def _wordings() -> dict[tuple[str, str], frozenset[str]]:
    """What stands before and behind the object in every wording."""
    forms = [(form, kind.key) for kind in KINDS.values() for form in kind.questions_of(Split.BENCHMARK)]
    forms += [(form, key) for key in VISUAL_QUESTIONS for form in visual_forms(key, Split.BENCHMARK)]
    forms += [
        (form, kind.key)
        for kind in catalogue().kinds.values()
        for form in kind.questions.asked(Split.BENCHMARK)
    ]
    keys: dict[tuple[str, str], frozenset[str]] = {}
    for form, key in forms:
        before, after = form.split("{e}")
        keys[before, after] = keys.get((before, after), frozenset()) | {key}
    return keys


@cache
def _nouns() -> dict[str, str]:
    return {
        **{kind.key: kind.noun for kind in KINDS.values()},
        **{kind.key: kind.noun for kind in catalogue().kinds.values()},
    }
