"""What can be known without one thing: the chance level of every question, from the benchmark's own counts.

A question asks about one object, by its looks (V2C) or by a fact of its text (C2V). A guesser that lacks one
thing reads the rest without fault and guesses among the objects that it cannot tell apart. It is right for as
many of them as hold the asked value. Which guesser a variant is held against is our own choice.
"""

from collections.abc import Callable, Sequence
from typing import NamedTuple

from components.generation.catalogue import pool_size
from components.generation.facts import KINDS
from components.generation.questions import CLOSED_VALUES
from components.rcmu import Claim, ContextRegion, ContextSet, Fact, Region, Scene, Split, Task, Turn

_IN_BOX = frozenset({"size", "position"})  # what a box alone tells of an object


class _Asked(NamedTuple):
    """A question of V2C or C2V with the object that it is about."""

    claim: Claim
    seen: Region
    told: ContextRegion
    others: Sequence[tuple[Region, ContextRegion]]  # all objects of its label, itself included


class Guesser(NamedTuple):
    """Somebody who lacks one thing."""

    title: str
    chance: Callable[[Turn, Scene, ContextSet], float | None]  # None for a task that needs no link


def without_link(turn: Turn, scene: Scene, context: ContextSet) -> float | None:
    """Label, texts and image are known, but not which text is whose."""
    asked = _asked(turn, scene, context)
    if asked is None:
        return None
    return _share(asked, _stated(asked) if turn.task is Task.V2C else _shown(asked))


def without_texts(turn: Turn, scene: Scene, context: ContextSet) -> float | None:
    """Image and boxes are known: a fact of a text is one of all its kind has, and says of no object which."""
    asked = _asked(turn, scene, context)
    if asked is None:
        return None
    if turn.task is Task.V2C:
        keys = _keys(asked.told.facts, asked.claim)
        return max((1 / _pool_size(key, turn.split) for key in keys), default=0.0)
    return _share(asked, _shown(asked))


def without_image(turn: Turn, scene: Scene, context: ContextSet) -> float | None:
    """Texts and boxes are known: size and part of the image, but no color."""
    asked = _asked(turn, scene, context)
    if asked is None:
        return None
    if turn.task is Task.V2C:
        named = [f for f in asked.seen.facts if f.key in _IN_BOX and f.value in asked.seen.expression]
        fitting = [(seen, told) for seen, told in asked.others if all(fact in seen.facts for fact in named)]
        return _share(asked, _stated(asked._replace(others=fitting)))
    keys = _keys(asked.seen.facts, asked.claim)
    if keys & _IN_BOX:
        return 1.0
    return max((1 / len(CLOSED_VALUES[key]) for key in keys if key in CLOSED_VALUES), default=0.0)


NO_LINK = Guesser("without a link", without_link)
NO_TEXTS = Guesser("without texts", without_texts)
NO_IMAGE = Guesser("without image", without_image)


def _pool_size(key: str, split: Split) -> int:
    return len(KINDS[key].values) if key in KINDS else pool_size(key, split)


def _asked(turn: Turn, scene: Scene, context: ContextSet) -> _Asked | None:
    if turn.task not in (Task.V2C, Task.C2V) or len(turn.claims) != 1:
        return None
    (claim,) = turn.claims
    told = context.regions[claim.k - 1]
    seen = scene.regions[told.region]
    pairs = [(scene.regions[line.region], line) for line in context.regions]
    return _Asked(claim, seen, told, [pair for pair in pairs if pair[0].label == seen.label])


def _keys(facts: Sequence[Fact], claim: Claim) -> frozenset[str]:
    """The kinds of fact that have the asked value."""
    return frozenset(fact.key for fact in facts if fact.value == claim.value)


def _stated(asked: _Asked) -> list[str]:
    """What the texts of the objects state of the asked kind."""
    keys = _keys(asked.told.facts, asked.claim)
    return [fact.value for _, told in asked.others for fact in told.facts if fact.key in keys]


def _shown(asked: _Asked) -> list[str]:
    """What is to be seen of the asked kind at the objects."""
    keys = _keys(asked.seen.facts, asked.claim)
    return [fact.value for seen, _ in asked.others for fact in seen.facts if fact.key in keys]


def _share(asked: _Asked, values: Sequence[str]) -> float:
    return values.count(asked.claim.value) / len(values)
