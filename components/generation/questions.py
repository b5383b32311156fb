"""The six blocks: visual, contextual and unanswerable questions, the splice, descriptions.

A question is a template with a gap {e} for the object. Substitution (RCMU.md, step 5) is what expression
fills it: by looks (unique in the scene) or by text (unique in the context set). An answer's citation stands
after its full stop, in a description after each phrase that uses a text.
"""

import random
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial

from components.generation.catalogue import named as talked_of
from components.generation.facts import KINDS, Kind, capitalised, is_person, kinds_of
from components.rcmu import (
    Claim,
    ContextRegion,
    ContextSet,
    Fact,
    Region,
    Scene,
    Span,
    Split,
    Task,
    Turn,
    cited,
    mentions,
    render_spans,
)
from components.rcmu.models import Frozen

# Visible facts that have a question, and the values that are wrong wherever another one is right.
VISUAL_QUESTIONS = {
    "color": ("What color is {e}?", "What is the color of {e}?"),
    "size": ("How big is {e}?", "What is the size of {e}?"),
    "position": ("Where in the image is {e}?", "In which part of the image is {e}?"),
    "appearance": ("Which one is {e}?", "Which of them is {e}?"),
}
# The benchmark's own: no question of the training is worded so.
_NEW_VISUAL_QUESTIONS = {
    "color": "What color does {e} have?",
    "size": "What size is {e}?",
    "position": "Where is {e} in the image?",
    "appearance": "Which one of them is {e}?",
}
CLOSED_VALUES = {
    "color": ("red", "green", "blue", "yellow", "purple", "black"),
    "size": ("small", "large"),
    "position": ("on the left", "in the middle", "on the right"),
}
DESCRIBE = "Describe the image."
HARD_SHARE = 0.5  # of the refusals by text, where an object of the asked class is in the image
STRANGERS = 64  # other instances looked at for one refusal


class Stranger(Frozen):
    """A fact of another instance's text, to be asked for where it is not."""

    scene_id: str
    instance_id: str
    label: str
    fact: Fact


class Draft(Frozen):
    """A turn before it has an id."""

    task: Task
    question: str
    spans: tuple[Span, ...]
    claims: tuple[Claim, ...] = ()
    wrong: tuple[str, ...] = ()


# Most candidates are not drawn, and never become a draft.
Candidate = Callable[[], Draft]


class Line(Frozen):
    """Region `[k]` of the prompt with its text."""

    k: int
    seen: Region
    told: ContextRegion


def contextual_expression(label: str, fact: Fact) -> str:
    """`the circle that belongs to Ada Moss`."""
    return f"the {label} {'who' if is_person(label) else 'that'} {KINDS[fact.key].states(fact.value)}"


def strangers_of(scene: Scene, context: ContextSet) -> Iterator[Stranger]:
    """What this context set has to offer to the refusals of other scenes."""
    for told in context.regions:
        seen = scene.regions[told.region]
        for fact in told.facts:
            yield Stranger(scene_id=scene.scene_id, instance_id=seen.instance_id, label=seen.label, fact=fact)


def ask(
    scene: Scene, context: ContextSet, strangers: Sequence[Stranger], *, per_task: int, rng: random.Random
) -> Iterator[Turn]:
    """At most `per_task` turns of each task; a task without a candidate yields nothing.

    Args:
        scene: the image with its regions.
        context: one set of texts for it.
        strangers: facts told of objects of the same split, this scene's own included.
        per_task: turns per task.
        rng: the context set's own stream.
    """
    lines = [
        Line(k=k, seen=scene.regions[told.region], told=told)
        for k, told in enumerate(context.regions, start=1)
    ]
    candidates: dict[Task, list[Candidate]] = {
        Task.VISUAL_QA: list(visual_candidates(lines, scene.split)),
        Task.CONTEXTUAL_QA: list(_contextual(lines, scene.split)),
        Task.V2C: list(_v2c(ambiguous(lines), scene.split, lines)),
        Task.C2V: list(_c2v(ambiguous(lines), scene.split, lines)),
        Task.UNANSWERABLE_V2C: list(_unanswerable_v2c(lines, scene.split)),
        Task.UNANSWERABLE_C2V: _unanswerable_c2v(lines, strangers, per_task, scene.split, rng),
        Task.RCID: [partial(_describe, scene, lines)],
    }
    number = 0
    for found in candidates.values():
        for candidate in rng.sample(found, min(per_task, len(found))):
            yield turn_of(f"{context.context_id}/t{number}", scene, context, candidate())
            number += 1


def turn_of(turn_id: str, scene: Scene, context: ContextSet, draft: Draft) -> Turn:
    """The turn of a draft."""
    answer = render_spans(draft.spans)
    right = {claim.value for claim in draft.claims}
    return Turn(
        turn_id=turn_id,
        context_id=context.context_id,
        scene_id=scene.scene_id,
        split=scene.split,
        task=draft.task,
        question=draft.question,
        answer=answer,
        citations=cited(answer),
        claims=draft.claims,
        # A phrase from outside may hold another region's value: that is no wrong answer here.
        other_values=tuple(
            value
            for value in dict.fromkeys(draft.wrong)
            if value not in right and not mentions(answer, value)
        ),
    )


def visual_forms(key: str, split: Split) -> tuple[str, ...]:
    """The ways to ask for what is seen."""
    known = VISUAL_QUESTIONS[key]
    return known if split is Split.TRAIN else (*known, _NEW_VISUAL_QUESTIONS[key])


def visual_candidates(lines: Sequence[Line], split: Split) -> Iterator[Candidate]:
    """Step 2: asked by looks for something else that is seen. No text is used, none is cited."""
    for line in lines:
        for fact in visible_facts(line.seen):
            if mentions(line.seen.expression, fact.value):
                continue
            for form in visual_forms(fact.key, split):
                yield partial(_from_looks, line, fact, form, lines)


def _from_looks(line: Line, fact: Fact, form: str, lines: Sequence[Line]) -> Draft:
    return Draft(
        task=Task.VISUAL_QA,
        question=form.format(e=line.seen.expression),
        spans=(Span(text=f"{capitalised(line.seen.expression)} is {fact.value}."),),
        claims=(Claim(k=line.k, value=fact.value),),
        wrong=other_visible(fact, lines),
    )


def _contextual(lines: Sequence[Line], split: Split) -> Iterator[Candidate]:
    """Step 3: asked by one fact of the text for another one."""
    for line, known in unique_facts(lines):
        asked, named = contextual_expression(line.seen.label, known), f"the {line.seen.label}"
        for fact in line.told.facts:
            if fact.key != known.key:
                for form in KINDS[fact.key].questions_of(split):
                    yield partial(_from_text, Task.CONTEXTUAL_QA, line, fact, form, asked, named, lines)


def ambiguous(lines: Sequence[Line]) -> Sequence[Line]:
    """The objects whose label does not tell which text is theirs; where there is none, all (own choice)."""
    number = Counter(line.seen.label for line in lines)
    return [line for line in lines if number[line.seen.label] > 1] or lines


def _v2c(about: Sequence[Line], split: Split, lines: Sequence[Line]) -> Iterator[Candidate]:
    """Step 5: the visual expression of an object in a contextual question."""
    for line in about:
        looks = line.seen.expression
        for fact in line.told.facts:
            for form in KINDS[fact.key].questions_of(split):
                yield partial(_from_text, Task.V2C, line, fact, form, looks, looks, lines)


def _from_text(
    task: Task, line: Line, fact: Fact, form: str, asked: str, named: str, lines: Sequence[Line]
) -> Draft:
    return Draft(
        task=task,
        question=form.format(e=asked),
        spans=(
            Span(text=f"{capitalised(named)} {KINDS[fact.key].states(fact.value)}.", citations=(line.k,)),
        ),
        claims=(Claim(k=line.k, value=fact.value),),
        wrong=tuple(f.value for other in lines for f in other.told.facts if f.key == fact.key),
    )


def _c2v(about: Sequence[Line], split: Split, lines: Sequence[Line]) -> Iterator[Candidate]:
    """Step 5: the contextual expression of an object in a visual question."""
    for line, known in unique_facts(lines):
        if line not in about:
            continue
        asked = contextual_expression(line.seen.label, known)
        for fact in visible_facts(line.seen):
            for form in visual_forms(fact.key, split):
                yield partial(_seen_of_told, line, fact, form, asked, lines)


def _seen_of_told(line: Line, fact: Fact, form: str, asked: str, lines: Sequence[Line]) -> Draft:
    return Draft(
        task=Task.C2V,
        question=form.format(e=asked),
        spans=(Span(text=f"The {line.seen.label} is {fact.value}.", citations=(line.k,)),),
        claims=(Claim(k=line.k, value=fact.value),),
        wrong=other_visible(fact, lines),
    )


def _unanswerable_v2c(lines: Sequence[Line], split: Split) -> Iterator[Candidate]:
    """Steps 4 and 5: the visual expression in a question for a fact that the text does not mention."""
    for line in lines:
        told = {fact.key for fact in line.told.facts}
        for kind in kinds_of(line.seen.label):
            if kind.key in told:
                continue
            for form in kind.questions_of(split):
                yield partial(_not_told, line, kind, form)


def _not_told(line: Line, kind: Kind, form: str) -> Draft:
    missing = f"The description does not specify the {kind.noun} of {line.seen.expression}."
    return Draft(
        task=Task.UNANSWERABLE_V2C,
        question=form.format(e=line.seen.expression),
        spans=(Span(text=f"Cannot be answered. {missing}"),),
    )


def _unanswerable_c2v(
    lines: Sequence[Line], strangers: Sequence[Stranger], number: int, split: Split, rng: random.Random
) -> list[Candidate]:
    """Step 5: the contextual expression of another instance in a visual question.

    Half of the time an object of the asked class is in the image, and its text shows that it is not meant.
    """
    present = {line.seen.instance_id for line in lines}
    labels = {line.seen.label for line in lines}
    keys = sorted({fact.key for line in lines for fact in visible_facts(line.seen)})
    forms = [form for key in keys for form in visual_forms(key, split)]
    candidates: dict[str, Candidate] = {}
    if not keys:
        return []
    for _ in range(number):
        looked_at = rng.sample(strangers, min(STRANGERS, len(strangers)))
        absent = [s for s in looked_at if s.instance_id not in present and _is_absent(s, lines)]
        hard = [s for s in absent if s.label in labels]
        if not absent:
            break
        stranger = hard[0] if hard and rng.random() < HARD_SHARE else absent[0]
        expression = contextual_expression(stranger.label, stranger.fact)
        question = rng.choice(forms).format(e=expression)
        candidates[question] = partial(_not_here, stranger, question)
    return list(candidates.values())


def _not_here(stranger: Stranger, question: str) -> Draft:
    return Draft(
        task=Task.UNANSWERABLE_C2V,
        question=question,
        spans=(Span(text=f"The {stranger.label} is not in the image."),),
    )


def _is_absent(stranger: Stranger, lines: Sequence[Line]) -> bool:
    """Whether the texts rule out that any object here is meant: each of its class states another value."""
    for line in lines:
        if line.seen.label == stranger.label:
            told = {fact.key: fact.value for fact in line.told.facts}
            if told.get(stranger.fact.key, stranger.fact.value) == stranger.fact.value:
                return False
    return True


def _describe(scene: Scene, lines: Sequence[Line]) -> Draft:
    """Step 6 with all that the texts state."""
    told = {line.k: [(f, KINDS[f.key].states(f.value)) for f in line.told.facts] for line in lines}
    return describe(scene, lines, told)


def describe(scene: Scene, lines: Sequence[Line], told: Mapping[int, Sequence[tuple[Fact, str]]]) -> Draft:
    """Step 6: the caption, then each object as it is seen, with what its text says, cited.

    Where the caption speaks of an object, that stands there: "A man, who is called John Smith [1], runs."

    Args:
        scene: the image with its regions.
        lines: what the prompt has.
        told: the facts to state of each line, with their predicates.
    """
    by_region = sorted(lines, key=lambda line: line.told.region)
    said = {line.k: _enumerated([predicate for _, predicate in told[line.k]]) for line in lines}
    spans, before = _grounded(scene, {line.told.region: line for line in lines}, said)
    named = {k for span in spans for k in span.citations}
    for line in by_region:
        if line.k not in named:
            text = f"{before}{capitalised(_seen_as(line.seen))} {said[line.k]} "
            spans.append(Span(text=text, citations=(line.k,)))
            before = ". "
    return Draft(
        task=Task.RCID,
        question=DESCRIBE,
        spans=(*spans, Span(text=before.rstrip())),
        claims=tuple(Claim(k=line.k, value=fact.value) for line in by_region for fact, _ in told[line.k]),
    )


def _grounded(scene: Scene, lines: Mapping[int, Line], said: Mapping[int, str]) -> tuple[list[Span], str]:
    """The caption up to its last mention of a region that has a text, and what is left of it."""
    caption = f"{capitalised(scene.caption.rstrip(' .'))}. " if scene.caption else ""
    spans: list[Span] = []
    at, cited_so_far = 0, set[int]()
    for mention in scene.mentions:
        line = lines.get(mention.region)
        if line is None or line.k in cited_so_far:
            continue
        who = "who" if talked_of(line.seen.label).relative == "who" else "which"
        before = caption[at : mention.end]
        if spans and before.startswith(" "):
            before = f",{before}"
        spans.append(Span(text=f"{before}, {who} {said[line.k]} ", citations=(line.k,)))
        cited_so_far.add(line.k)
        at = mention.end
    rest = caption[at:]
    if spans and rest.startswith(" "):
        rest = f",{rest}"
    return spans, rest


def _enumerated(predicates: Sequence[str]) -> str:
    return " and ".join(", ".join(predicates).rsplit(", ", 1))


def _seen_as(region: Region) -> str:
    """The expression, with the position where it does not speak of one."""
    position = next((fact.value for fact in region.facts if fact.key == "position"), "")
    if not position or any(mentions(region.expression, v.split()[-1]) for v in CLOSED_VALUES["position"]):
        return region.expression
    return f"{region.expression} {position}"


def visible_facts(region: Region) -> Iterator[Fact]:
    """What is seen of an object and has a question."""
    return (fact for fact in region.facts if fact.key in VISUAL_QUESTIONS)


def other_visible(fact: Fact, lines: Sequence[Line]) -> tuple[str, ...]:
    """Values that are wrong where this one is right."""
    here = tuple(f.value for line in lines for f in line.seen.facts if f.key == fact.key)
    return CLOSED_VALUES.get(fact.key, here)


def unique_facts(lines: Sequence[Line]) -> Iterator[tuple[Line, Fact]]:
    """Facts that one text of the set alone states: they can name their object."""
    stated = Counter(fact for line in lines for fact in line.told.facts)
    for line in lines:
        for fact in line.told.facts:
            if stated[fact] == 1:
                yield line, fact
