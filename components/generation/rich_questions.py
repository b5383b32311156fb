"""The questions of the rich route: those of the plain one in more wordings, and questions for two facts.

Two facts of one object ("the name and the job"), or two hops: from an object to its owner, who is in the
image too, and on to what the owner's text says. Both are asked by looks (V2C) and by text (contextual QA).
Questions are drawn one by one: all that could be asked of a set of such texts are thousands.
"""

import random
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import NamedTuple

from components.generation.catalogue import TextKind, catalogue, named
from components.generation.facts import capitalised
from components.generation.questions import (
    HARD_SHARE,
    STRANGERS,
    Draft,
    Line,
    Stranger,
    ambiguous,
    describe,
    other_visible,
    turn_of,
    unique_facts,
    visible_facts,
    visual_candidates,
    visual_forms,
)
from components.generation.rich_texts import LEAD_SHARE
from components.rcmu import Claim, ContextSet, Fact, Scene, Span, Split, Task, Turn

_TRIES = 8  # for each question that is wanted
_PAIR_SHARE, _HOP_SHARE = 0.25, 0.2  # of the questions for what texts say, where there is such a one
_NEUTRAL_SHARE = 0.25  # of the objects by text in contextual QA, that are called a thing
_DESCRIBED = 2  # facts of each text in a description: the first that it states


class _Hop(NamedTuple):
    """An object whose text names somebody who has a text of his or her own."""

    line: Line
    fact: Fact
    target: Line


class _Scope(NamedTuple):
    """A context set, looked through once."""

    split: Split
    lines: Sequence[Line]
    ambiguous: Sequence[Line]
    unique: Sequence[tuple[Line, Fact]]  # facts that can name their object
    ambiguous_unique: Sequence[tuple[Line, Fact]]
    hops: Sequence[_Hop]
    entangled: frozenset[int]  # lines whose object is named by another text, or names another's
    told: Mapping[int, Mapping[str, str]]  # line -> kind -> value


def rich_strangers_of(scene: Scene, context: ContextSet) -> Iterator[Stranger]:
    """A fact of each text, for the refusals of other scenes: all of them would fill the memory."""
    for told in context.regions:
        seen = scene.regions[told.region]
        yield Stranger(
            scene_id=scene.scene_id, instance_id=seen.instance_id, label=seen.label, fact=told.facts[0]
        )


def ask_richly(
    scene: Scene, context: ContextSet, strangers: Sequence[Stranger], *, per_task: int, rng: random.Random
) -> Iterator[Turn]:
    """At most `per_task` turns of each task, as `questions.ask` does it."""
    lines = [
        Line(k=k, seen=scene.regions[told.region], told=told)
        for k, told in enumerate(context.regions, start=1)
    ]
    scope = _look_through(lines, scene.split)
    looks = list(visual_candidates(lines, scene.split))
    drafts = [candidate() for candidate in rng.sample(looks, min(per_task, len(looks)))]
    asked: set[str] = set()
    for draw in (_contextual, _v2c, _c2v, _unanswerable_v2c):
        drafts += _drawn(draw, scope, per_task, asked, rng)
    drafts += _drawn(lambda s, r: _unanswerable_c2v(s, strangers, r), scope, per_task, asked, rng)
    drafts.append(describe(scene, lines, {line.k: _described(line) for line in lines}))
    for number, draft in enumerate(drafts):
        yield turn_of(f"{context.context_id}/t{number}", scene, context, draft)


def _look_through(lines: Sequence[Line], split: Split) -> _Scope:
    told = {line.k: {fact.key: fact.value for fact in line.told.facts} for line in lines}
    kinds = catalogue().kinds
    hops = [
        _Hop(line, fact, target)
        for line in lines
        for fact in line.told.facts
        if (link := kinds[fact.key].links_to)
        for target in lines
        if told[target.k].get(link) == fact.value
    ]
    about, unique = ambiguous(lines), list(unique_facts(lines))
    numbers = {line.k for line in about}
    stated = Counter(fact.value for line in lines for fact in line.told.facts)
    entangled = (line.k for line in lines if any(stated[value] > 1 for value in told[line.k].values()))
    return _Scope(
        split=split,
        lines=lines,
        ambiguous=about,
        unique=unique,
        ambiguous_unique=[pair for pair in unique if pair[0].k in numbers],
        hops=hops,
        entangled=frozenset(entangled),
        told=told,
    )


_Draw = Callable[[_Scope, random.Random], Draft | None]


def _drawn(draw: _Draw, scope: _Scope, number: int, asked: set[str], rng: random.Random) -> Iterator[Draft]:
    """At most so many drafts with different questions."""
    for _ in range(number * _TRIES):
        if not number:
            return
        draft = draw(scope, rng)
        if draft is not None and draft.question not in asked:
            asked.add(draft.question)
            number -= 1
            yield draft


def rich_expression(label: str, fact: Fact, *, neutral: bool = False) -> str:
    """`the dog that belongs to Ada Moss`, or `the animal that ...`."""
    who = named(label)
    predicate = catalogue().kinds[fact.key].states(fact.value)
    return f"the {who.neutral if neutral else who.noun} {who.relative} {predicate}"


def _contextual(scope: _Scope, rng: random.Random) -> Draft | None:
    """Step 3: asked by one fact of the text for another one."""
    hop = _hop_at_times(scope, rng)
    known = [(line, fact) for line, fact in scope.unique if hop is None or line is hop.line]
    if not known:
        return None
    line, by = rng.choice(known)
    label = line.seen.label
    asked = rich_expression(label, by, neutral=rng.random() < _NEUTRAL_SHARE)
    names = (asked, f"the {named(label).noun}")
    if hop:
        return None if hop.fact == by else _hop(Task.CONTEXTUAL_QA, scope, hop, *names, rng)
    rest = [fact for fact in line.told.facts if fact != by]
    return _told(Task.CONTEXTUAL_QA, scope, line, rest, *names, rng) if rest else None


def _v2c(scope: _Scope, rng: random.Random) -> Draft | None:
    """Step 5: the visual expression of an object in a contextual question."""
    hop = _hop_at_times(scope, rng)
    line = hop.line if hop else rng.choice(scope.ambiguous)
    looks = line.seen.expression
    if hop:
        return _hop(Task.V2C, scope, hop, looks, looks, rng)
    return _told(Task.V2C, scope, line, line.told.facts, looks, looks, rng)


def _hop_at_times(scope: _Scope, rng: random.Random) -> _Hop | None:
    return rng.choice(scope.hops) if scope.hops and rng.random() < _HOP_SHARE else None


def _told(
    task: Task,
    scope: _Scope,
    line: Line,
    facts: Sequence[Fact],
    asked: str,
    named_so: str,
    rng: random.Random,
) -> Draft:
    """A question for one of these facts or for two; the object's names in question and answer."""
    if len(facts) > 1 and rng.random() < _PAIR_SHARE:
        return _pair(task, scope, line, rng.sample(facts, 2), asked, named_so, rng)
    (fact,) = rng.choices(facts, [_weight(fact.key, line) for fact in facts])
    kind = catalogue().kinds[fact.key]
    return Draft(
        task=task,
        question=rng.choice(kind.questions.asked(scope.split)).format(e=asked),
        spans=(Span(text=f"{capitalised(named_so)} {kind.states(fact.value)}.", citations=(line.k,)),),
        claims=(Claim(k=line.k, value=fact.value),),
        wrong=_others(scope, fact.key),
    )


def _weight(key: str, line: Line) -> float:
    """How often what is told is asked for, against the other kinds.

    A kind that is told in a share p of the texts is asked in vain in proportion to 1 - p. It is asked with
    an answer as often, with (1 - p) / p: else a question for an owner would give away that it has an answer.
    """
    kinds, told = named(line.seen.label).kinds, len(line.told.facts)
    leads = sum(kind.lead for kind in kinds)
    lead = LEAD_SHARE + (1 - LEAD_SHARE) * told / len(kinds)
    other = max(told - leads * lead, 0.5) / (len(kinds) - leads)
    share = min(lead if catalogue().kinds[key].lead else other, 0.95)
    return (1 - share) / share


def _pair(
    task: Task,
    scope: _Scope,
    line: Line,
    facts: Sequence[Fact],
    asked: str,
    named_so: str,
    rng: random.Random,
) -> Draft:
    """Two facts of one text, cited after each."""
    first, second = (catalogue().kinds[fact.key] for fact in facts)
    form = rng.choice(catalogue().frames.pairs.asked(scope.split))
    said = [kind.states(fact.value) for kind, fact in zip((first, second), facts, strict=True)]
    return Draft(
        task=task,
        question=form.format(x=first.noun, y=second.noun, e=asked),
        spans=(
            Span(text=f"{capitalised(named_so)} {said[0]} ", citations=(line.k,)),
            Span(text=f" and {said[1]}.", citations=(line.k,)),
        ),
        claims=tuple(Claim(k=line.k, value=fact.value) for fact in facts),
        wrong=tuple(value for fact in facts for value in _others(scope, fact.key)),
    )


def _hop(task: Task, scope: _Scope, hop: _Hop, asked: str, named_so: str, rng: random.Random) -> Draft | None:
    """`Where does the owner of the bag live?`: the bag's text names the owner, whose own text says it."""
    link = catalogue().kinds[hop.fact.key]
    facts = [fact for fact in hop.target.told.facts if fact.key != link.links_to]
    if not facts:
        return None
    fact = rng.choice(facts)
    kind = catalogue().kinds[fact.key]
    form = rng.choice(kind.questions.asked(scope.split))
    return Draft(
        task=task,
        question=form.format(e=f"the {link.noun} of {asked}"),
        spans=(
            Span(text=f"The {link.noun} of {named_so} is {hop.fact.value} ", citations=(hop.line.k,)),
            Span(text=f" and {kind.states(fact.value)}.", citations=(hop.target.k,)),
        ),
        claims=(
            Claim(k=hop.line.k, value=hop.fact.value),
            Claim(k=hop.target.k, value=fact.value),
        ),
        wrong=(*_others(scope, hop.fact.key), *_others(scope, fact.key)),
    )


def _others(scope: _Scope, key: str) -> tuple[str, ...]:
    return tuple(told[key] for told in scope.told.values() if key in told)


def _c2v(scope: _Scope, rng: random.Random) -> Draft | None:
    """Step 5: the contextual expression of an object in a visual question."""
    if not scope.ambiguous_unique:
        return None
    line, known = rng.choice(scope.ambiguous_unique)
    seen = list(visible_facts(line.seen))
    if not seen:
        return None
    fact = rng.choice(seen)
    # Never a thing: a refusal has to name the class that is not there, and the word would tell them apart.
    asked = rich_expression(line.seen.label, known)
    return Draft(
        task=Task.C2V,
        question=rng.choice(visual_forms(fact.key, scope.split)).format(e=asked),
        spans=(Span(text=f"The {named(line.seen.label).noun} is {fact.value}.", citations=(line.k,)),),
        claims=(Claim(k=line.k, value=fact.value),),
        wrong=other_visible(fact, scope.lines),
    )


def _unanswerable_v2c(scope: _Scope, rng: random.Random) -> Draft | None:
    """Steps 4 and 5: the visual expression in a question for a fact that no text tells of this object.

    Of the objects that V2C asks about: twins are called by more words than others, which would tell.
    """
    line = rng.choice(scope.ambiguous)
    kind = rng.choice(named(line.seen.label).kinds)
    if not _is_untold(kind, scope, line):
        return None
    looks = line.seen.expression
    missing = f"The description does not specify the {kind.noun} of {looks}."
    return Draft(
        task=Task.UNANSWERABLE_V2C,
        question=rng.choice(kind.questions.asked(scope.split)).format(e=looks),
        spans=(Span(text=f"Cannot be answered. {missing}"),),
    )


def _is_untold(kind: TextKind, scope: _Scope, line: Line) -> bool:
    told = scope.told[line.k]
    if kind.key in told or any(near in told for near in kind.near):
        return False
    return not (kind.mutual and line.k in scope.entangled)


def _unanswerable_c2v(scope: _Scope, strangers: Sequence[Stranger], rng: random.Random) -> Draft | None:
    """Step 5: the contextual expression of another instance in a visual question.

    Half of the time an object of the asked class is in the image, and its text shows that it is not meant.
    """
    forms = [
        form
        for key in sorted({fact.key for line in scope.lines for fact in visible_facts(line.seen)})
        for form in visual_forms(key, scope.split)
    ]
    stranger = _find_stranger(scope, strangers, rng) if forms else None
    if stranger is None:
        return None
    asked = rich_expression(stranger.label, stranger.fact)
    return Draft(
        task=Task.UNANSWERABLE_C2V,
        question=rng.choice(forms).format(e=asked),
        spans=(Span(text=f"The {named(stranger.label).noun} is not in the image."),),
    )


def _find_stranger(scope: _Scope, strangers: Sequence[Stranger], rng: random.Random) -> Stranger | None:
    present = {line.seen.instance_id for line in scope.lines}
    labels = {line.seen.label for line in scope.lines}
    hard = rng.random() < HARD_SHARE
    found = None
    for _ in range(min(STRANGERS, len(strangers))):
        stranger = rng.choice(strangers)
        if stranger.instance_id in present or not _is_absent(stranger, scope):
            continue
        if hard <= (stranger.label in labels):
            return stranger
        found = found or stranger
    return found


def _is_absent(stranger: Stranger, scope: _Scope) -> bool:
    """Whether the texts rule out that any object here is meant: each that may be it states another value.

    A woman may be called a person, a puppy a dog: only things are told apart by their labels.
    """
    who = named(stranger.label)
    for line in scope.lines:
        here = named(line.seen.label)
        alike = here.subject == who.subject if who.subject != "thing" else here.noun == who.noun
        if alike:
            value = stranger.fact.value
            if scope.told[line.k].get(stranger.fact.key, value) == value:
                return False
    return True


def _described(line: Line) -> list[tuple[Fact, str]]:
    kinds = catalogue().kinds
    return [(fact, kinds[fact.key].states(fact.value)) for fact in line.told.facts[:_DESCRIBED]]
