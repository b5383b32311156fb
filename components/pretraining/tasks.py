"""What the tiny base is taught: the image alone, the image with listed boxes, the texts alone.

No task joins a region's text with the image: an answer about looks never depends on a text, one out of the
texts never on the picture. That is RCVIT's to teach. All wording is our own choice.
"""

import random
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from typing import NamedTuple

from components.generation.facts import KINDS, capitalised, draw_facts, kinds_of
from components.generation.questions import CLOSED_VALUES, contextual_expression
from components.pretraining.wording import questions_of
from components.rcmu import Box, ContextRegion, ContextSet, Fact, Region, Scene, Task, Turn, cited


class Drawn(NamedTuple):
    """A question with its answer."""

    skill: str
    question: str
    answer: str
    line: int = 0  # `[k]` that it asks about, 0 where it is none or several
    kind: str = ""  # of the fact that it asks for


class _Line(NamedTuple):
    """Region `[k]` of the prompt."""

    k: int
    seen: Region
    told: ContextRegion


def image_turns(scene: Scene, context_id: str, rng: random.Random) -> Iterator[Turn]:
    """Questions about the image alone, asked without any text."""
    drawn = [*_captions(scene, rng), *_boxes_and_objects(scene, rng), *_looks(scene, rng)]
    return _turns(scene, context_id, Task.VISUAL_QA, drawn)


def looks_turns(scene: Scene, context_id: str, rng: random.Random) -> Iterator[Turn]:
    """Questions about what is at each box, asked without any text; answers of a few words, and no boxes."""
    return _turns(scene, context_id, Task.VISUAL_QA, _at_each_box(scene, rng))


def listed_turns(scene: Scene, context: ContextSet, rng: random.Random) -> Iterator[Turn]:
    """Questions about the looks of the listed objects; the texts are of no use."""
    return _turns(scene, context.context_id, Task.VISUAL_QA, _listed(_lines(scene, context), rng))


def text_turns(scene: Scene, context: ContextSet, rng: random.Random) -> Iterator[Turn]:
    """Questions that labels and texts of the prompt answer; the image is of no use."""
    lines = _lines(scene, context)
    drawn = [*_restated(lines, rng), *_looked_up(lines, rng), *_found(lines, rng)]
    drawn += _refused(scene, lines, rng)
    return _turns(scene, context.context_id, Task.CONTEXTUAL_QA, drawn)


def box_turns(scene: Scene, context: ContextSet, rng: random.Random) -> Iterator[Turn]:
    """Questions from and to the boxes of the prompt's lines; the image is of no use here either."""
    drawn = _boxes_in_lines(_lines(scene, context), rng)
    return _turns(scene, context.context_id, Task.CONTEXTUAL_QA, drawn)


def skill_of(turn_id: str) -> str:
    """The skill that a turn of these tasks teaches."""
    return turn_id.rsplit("/", 4)[1]


def asked_of(turn_id: str) -> tuple[int, str]:
    """The line and the kind of fact that such a turn asks for, as in `Drawn`."""
    _, line, kind, _ = turn_id.rsplit("/", 3)
    return int(line), kind


def _turns(scene: Scene, context_id: str, task: Task, drawn: Iterable[Drawn]) -> Iterator[Turn]:
    questions: set[str] = set()
    for skill, question, answer, line, kind in drawn:
        if question not in questions:
            questions.add(question)
            yield Turn(
                turn_id=f"{context_id}/{skill}/{line}/{kind}/{len(questions)}",
                context_id=context_id,
                scene_id=scene.scene_id,
                split=scene.split,
                task=task,
                question=question,
                answer=answer,
                citations=cited(answer),
                claims=(),
            )


def _lines(scene: Scene, context: ContextSet) -> list[_Line]:
    return [_Line(k, scene.regions[told.region], told) for k, told in enumerate(context.regions, start=1)]


def _captions(scene: Scene, rng: random.Random) -> Iterator[Drawn]:
    regions = sorted(scene.regions, key=lambda region: region.box.x1)
    listed = "; ".join(f"{_whole(region)} at {_coordinates(region.box)}" for region in regions)
    yield Drawn("caption", "List the objects with their boxes.", f"{capitalised(listed)}.")
    label, number = rng.choice(list(Counter(region.label for region in regions).items()))
    yield Drawn("count", f"How many objects of the kind {label} are in the image?", f"There are {number}.")
    yield Drawn("count", "How many objects are in the image?", scene.caption)


def _boxes_and_objects(scene: Scene, rng: random.Random) -> Iterator[Drawn]:
    for region in rng.sample(scene.regions, min(2, len(scene.regions))):
        yield Drawn("box_to_object", f"What is at {_coordinates(region.box)}?", f"The {_whole(region)}.")
    region = rng.choice(scene.regions)
    asked = _referred(region, rng)
    yield Drawn("object_to_box", f"Give the box of {asked}.", f"{_coordinates(region.box)}.")


def _at_each_box(scene: Scene, rng: random.Random) -> Iterator[Drawn]:
    for region in scene.regions:
        box = _coordinates(region.box)
        yield Drawn("box_to_object", f"What is at {box}?", f"The {_whole(region)}.")
        key = rng.choice(list(CLOSED_VALUES))
        answer = f"It is {_visible(region)[key]}."
        yield Drawn("box_to_looks", rng.choice(questions_of(key)).format(e=f"the object at {box}"), answer)


def _looks(scene: Scene, rng: random.Random) -> Iterator[Drawn]:
    region = rng.choice(scene.regions)
    keys = [key for key, value in _visible(region).items() if value not in region.expression]
    if keys:
        key = rng.choice(keys)
        answer = f"{capitalised(region.expression)} is {_visible(region)[key]}."
        yield Drawn("looks", rng.choice(questions_of(key)).format(e=region.expression), answer)


def _listed(lines: Sequence[_Line], rng: random.Random) -> Iterator[Drawn]:
    answer = " ".join(f"[{line.k}] is the {_whole(line.seen)}." for line in lines)
    yield Drawn("listed_all", "What is each of the listed objects?", answer)
    for line in lines:
        if rng.random() < 0.5:
            key = rng.choice(list(CLOSED_VALUES))
            question = rng.choice(questions_of(key)).format(e=f"[{line.k}]")
            yield Drawn("listed_looks", question, f"[{line.k}] is {_visible(line.seen)[key]}.", line.k, key)
        else:
            asked = _referred(line.seen, rng)
            yield Drawn(
                "listed_which", f"Which one is {asked}?", f"{capitalised(asked)} is [{line.k}].", line.k
            )


def _restated(lines: Sequence[_Line], rng: random.Random) -> Iterator[Drawn]:
    order = rng.sample(lines, len(lines))
    parts = []
    for line in order:
        facts = rng.sample(line.told.facts, len(line.told.facts))
        parts.append(f"[{line.k}] {' and '.join(map(_states, facts))}.[{line.k}]")
    asked = ", ".join(f"[{line.k}]" for line in order)
    yield Drawn("restate", f"What is said of {asked}?", " ".join(parts))
    # To repeat word by word is the first thing that a model learns of looking up, and the rest goes by it.
    order = rng.sample(lines, len(lines))
    quoted = (f"[{line.k}] {line.told.text}" for line in order)
    yield Drawn("quote", f"Quote {', '.join(f'[{line.k}]' for line in order)}.", " ".join(quoted))


def _looked_up(lines: Sequence[_Line], rng: random.Random) -> Iterator[Drawn]:
    for line in rng.sample(lines, min(2, len(lines))):
        fact = rng.choice(line.told.facts)
        question = rng.choice(questions_of(fact.key))
        question = question.format(e=f"[{line.k}]")
        answer = f"[{line.k}] {_states(fact)}.[{line.k}]"
        yield Drawn("index_to_fact", question, answer, line.k, fact.key)


def _boxes_in_lines(lines: Sequence[_Line], rng: random.Random) -> Iterator[Drawn]:
    line = rng.choice(lines)
    yield Drawn("index_to_box", f"Where is [{line.k}]?", f"{_coordinates(line.seen.box)}.[{line.k}]", line.k)
    line = rng.choice(lines)
    fact = rng.choice(line.told.facts)
    question = rng.choice(questions_of(fact.key)).format(e=_boxed(line))
    answer = f"The {line.seen.label} {_states(fact)}.[{line.k}]"
    yield Drawn("box_to_fact", question, answer, line.k, fact.key)
    if known := _unique_facts(lines):
        line, fact = rng.choice(known)
        asked = contextual_expression(line.seen.label, fact)
        answer = f"The {line.seen.label} is at {_coordinates(line.seen.box)}.[{line.k}]"
        yield Drawn("fact_to_box", f"Where is {asked}?", answer, line.k)


def _unique_facts(lines: Sequence[_Line]) -> list[tuple[_Line, Fact]]:
    stated = Counter(fact for line in lines for fact in line.told.facts)
    return [(line, fact) for line in lines for fact in line.told.facts if stated[fact] == 1]


def _found(lines: Sequence[_Line], rng: random.Random) -> Iterator[Drawn]:
    """By a fact: the line, and the other facts."""
    known = _unique_facts(lines)
    for line, fact in rng.sample(known, min(2, len(known))):
        asked = contextual_expression(line.seen.label, fact)
        yield Drawn(
            "fact_to_index", f"Which one is {asked}?", f"The {line.seen.label} is [{line.k}].", line.k
        )
    for line, fact in rng.sample(known, min(2, len(known))):
        others = [other for other in line.told.facts if other.key != fact.key]
        if others:
            other = rng.choice(others)
            question = rng.choice(questions_of(other.key)).format(
                e=contextual_expression(line.seen.label, fact)
            )
            answer = f"The {line.seen.label} {_states(other)}.[{line.k}]"
            yield Drawn("fact_to_fact", question, answer, line.k, other.key)


def _refused(scene: Scene, lines: Sequence[_Line], rng: random.Random) -> Iterator[Drawn]:
    line = rng.choice(lines)
    told = {fact.key for fact in line.told.facts}
    missing = [kind for kind in kinds_of(line.seen.label) if kind.key not in told]
    if missing:
        kind = rng.choice(missing)
        asked = f"the object of line {line.k}"  # its index would be a citation, and a refusal has none
        answer = f"Cannot be answered. The description does not specify the {kind.noun} of {asked}."
        yield Drawn(
            "missing_fact", rng.choice(questions_of(kind.key)).format(e=asked), answer, line.k, kind.key
        )
    line = rng.choice(lines)
    (fact,) = draw_facts(kinds_of(line.seen.label), 1, split=scene.split, rng=rng)
    if all(fact not in other.told.facts for other in lines):
        asked = contextual_expression(line.seen.label, fact)
        yield Drawn("missing_object", f"Which one is {asked}?", f"The {line.seen.label} is not in the image.")


def _whole(region: Region) -> str:
    seen = _visible(region)
    return f"{seen['size']} {seen['color']} {region.label}"


def _referred(region: Region, rng: random.Random) -> str:
    return rng.choice([region.expression, f"the {_whole(region)}"])


def _boxed(line: _Line) -> str:
    return f"the {line.seen.label} at {_coordinates(line.seen.box)}"


def _coordinates(box: Box) -> str:
    """As the prompt writes a box, but plain text: an answer opens no box."""
    return f"({box.x1},{box.y1}),({box.x2},{box.y2})"


def _visible(region: Region) -> dict[str, str]:
    return {fact.key: fact.value for fact in region.facts}


def _states(fact: Fact) -> str:
    return KINDS[fact.key].states(fact.value)
