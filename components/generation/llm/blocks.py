"""Step 5, the splice: what the LLM wrote about looks and texts becomes the turns of a context set.

No LLM here. A question has a gap {e}; substitution is what expression fills it: the object's looks, or a fact
of its text. Each draft is checked before it can be drawn.
"""

import random
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence

from components.generation.facts import capitalised
from components.generation.llm.checks import Drops, is_said_of_others, what_is_wrong_with_turn
from components.generation.llm.pool import Looks, Naming, Pool, Question, Told
from components.generation.questions import DESCRIBE, Draft, turn_of
from components.rcmu import Claim, ContextSet, Region, Scene, Span, Task, Turn, parse_spans
from components.rcmu.models import Frozen

_HARD_SHARE = 0.5  # of the refusals by text, where an object of the asked label is in the image
_STRANGERS = 64  # texts looked at for one refusal


class Line(Frozen):
    """Region `[k]` of the prompt, its text of the pool, and what is seen of it."""

    k: int
    seen: Region
    told: Told
    looks: Looks


class Description(Frozen):
    """Step 6, both passes: a cited description and the facts it states."""

    cited: str
    claims: tuple[Claim, ...]


def make_turns(
    scene: Scene,
    context: ContextSet,
    lines: Sequence[Line],
    description: Description | None,
    pool: Pool,
    *,
    per_task: int,
    rng: random.Random,
    drops: Drops,
) -> Iterator[Turn]:
    """At most `per_task` turns of each task; a task without a candidate yields nothing.

    Args:
        scene: the image with its regions.
        context: one set of texts for it.
        lines: of the context set, in its order.
        description: none where the passes gave nothing.
        pool: of the scene's split: other instances' texts.
        per_task: turns per task.
        rng: the context set's own stream.
        drops: gets the drafts that fail a check.
    """
    where = context.context_id
    looks = _expressions(lines, where, drops)
    names = {line.k: tuple(_names(line, lines, where, drops)) for line in lines}
    candidates: dict[Task, list[Draft]] = {
        Task.VISUAL_QA: list(_visual(lines)),
        Task.CONTEXTUAL_QA: list(_contextual(lines, names)),
        Task.V2C: list(_v2c(_ambiguous(lines), looks, lines)),
        Task.C2V: list(_c2v(_ambiguous(lines), names, lines)),
        Task.UNANSWERABLE_V2C: list(_unanswerable_v2c(lines, looks)),
        Task.UNANSWERABLE_C2V: list(_unanswerable_c2v(lines, pool, per_task, rng)),
        Task.RCID: list(_rcid(description)),
    }
    number, asked = 0, set()
    for found in candidates.values():
        sound = [draft for draft in found if _passes(draft, where, drops)]
        for draft in rng.sample(sound, len(sound))[:per_task]:
            if draft.question not in asked:
                asked.add(draft.question)
                yield turn_of(f"{where}/t{number}", scene, context, draft)
                number += 1


def _passes(draft: Draft, where: str, drops: Drops) -> bool:
    if draft.task is Task.RCID or not draft.claims:
        return True
    answer = "".join(span.text for span in draft.spans)
    wrong = what_is_wrong_with_turn(draft.question, answer, draft.claims[0].value)
    if wrong:
        drops.add(wrong, f"{where}, {draft.task}: {draft.question} {answer}")
    return wrong is None


def _expressions(lines: Sequence[Line], where: str, drops: Drops) -> dict[int, str]:
    """The visual expression of each line that no other region of the set shares."""
    number = Counter(line.seen.expression.casefold() for line in lines)
    for line in lines:
        if number[line.seen.expression.casefold()] > 1:
            drops.add("expression_not_unique", f"{where}: {line.seen.expression}")
    return {line.k: line.seen.expression for line in lines if number[line.seen.expression.casefold()] == 1}


def _ambiguous(lines: Sequence[Line]) -> Sequence[Line]:
    """The objects whose label does not tell which text is theirs; where there is none, all (own choice)."""
    number = Counter(line.seen.label for line in lines)
    return [line for line in lines if number[line.seen.label] > 1] or lines


def _visual(lines: Sequence[Line]) -> Iterator[Draft]:
    """Step 2, asked by label or by label and place: the expression itself would tell the value."""
    for line in lines:
        asked = _plainly(line, lines)
        for question in line.looks.questions if asked else ():
            yield Draft(
                task=Task.VISUAL_QA,
                question=capitalised(question.form.format(e=asked)),
                spans=(Span(text=question.answer),),
                claims=(Claim(k=line.k, value=question.fact.value),),
                wrong=_seen_of_others(question, lines),
            )


def _plainly(line: Line, lines: Sequence[Line]) -> str | None:
    """`the dog`, or `the dog on the left`, where that names one region of the set."""
    twins = [other for other in lines if other.seen.label == line.seen.label]
    if len(twins) == 1:
        return f"the {line.seen.label}"
    place = _place(line)
    if place and [_place(other) for other in twins].count(place) == 1:
        return f"the {line.seen.label} {place}"
    return None


def _place(line: Line) -> str:
    return next((fact.value for fact in line.seen.facts if fact.key == "position"), "")


def _contextual(lines: Sequence[Line], names: Mapping[int, Sequence[Naming]]) -> Iterator[Draft]:
    """Step 3: asked by one fact of the text for another one."""
    for line in lines:
        for naming in names[line.k]:
            for question in line.told.questions:
                if question.fact.key != naming.fact.key:
                    yield _of_text(Task.CONTEXTUAL_QA, line, question, naming.expression, lines)


def _v2c(about: Sequence[Line], looks: Mapping[int, str], lines: Sequence[Line]) -> Iterator[Draft]:
    for line in about:
        for question in line.told.questions if line.k in looks else ():
            yield _of_text(Task.V2C, line, question, looks[line.k], lines)


def _of_text(task: Task, line: Line, question: Question, asked: str, lines: Sequence[Line]) -> Draft:
    key = question.fact.key
    return Draft(
        task=task,
        question=capitalised(question.form.format(e=asked)),
        spans=(Span(text=question.answer, citations=(line.k,)),),
        claims=(Claim(k=line.k, value=question.fact.value),),
        wrong=tuple(fact.value for other in lines for fact in other.told.facts if fact.key == key),
    )


def _c2v(
    about: Sequence[Line], names: Mapping[int, Sequence[Naming]], lines: Sequence[Line]
) -> Iterator[Draft]:
    for line in about:
        for naming in names[line.k]:
            for question in line.looks.questions:
                yield Draft(
                    task=Task.C2V,
                    question=capitalised(question.form.format(e=naming.expression)),
                    spans=(Span(text=question.answer, citations=(line.k,)),),
                    claims=(Claim(k=line.k, value=question.fact.value),),
                    wrong=_seen_of_others(question, lines),
                )


def _names(line: Line, lines: Sequence[Line], where: str, drops: Drops) -> Iterator[Naming]:
    """Expressions by facts that no other text of the set states."""
    others = [other.told.text for other in lines if other.k != line.k]
    for naming in line.told.namings:
        if is_said_of_others(naming.fact.value, others):
            drops.add("expression_not_unique", f"{where}: {naming.expression}")
        else:
            yield naming


def _unanswerable_v2c(lines: Sequence[Line], looks: Mapping[int, str]) -> Iterator[Draft]:
    for line in lines:
        for unsaid in line.told.unsaid if line.k in looks else ():
            missing = f"The description does not specify the {unsaid.attribute} of {looks[line.k]}."
            yield Draft(
                task=Task.UNANSWERABLE_V2C,
                question=capitalised(unsaid.form.format(e=looks[line.k])),
                spans=(Span(text=f"Cannot be answered. {missing}"),),
            )


def _unanswerable_c2v(lines: Sequence[Line], pool: Pool, number: int, rng: random.Random) -> Iterator[Draft]:
    """The contextual expression of an instance that is not here. Half of the time its label is here."""
    forms = sorted({question.form for line in lines for question in line.looks.questions})
    labels = sorted({line.seen.label for line in lines})
    if not forms:
        return
    here = [told for label in labels for told in pool[label]]
    anywhere = [told for label in sorted(pool) for told in pool[label]]
    for _ in range(number):
        hard = rng.random() < _HARD_SHARE
        for stock in (here, anywhere) if hard else (anywhere, here):
            drawn = rng.sample(stock, min(_STRANGERS, len(stock)))
            strange = [(told, n) for told in drawn for n in told.namings if _is_absent(n, told, lines)]
            if strange:
                told, naming = rng.choice(strange)
                yield Draft(
                    task=Task.UNANSWERABLE_C2V,
                    question=capitalised(rng.choice(forms).format(e=naming.expression)),
                    spans=(Span(text=f"The {told.label} is not in the image."),),
                )
                break


def _is_absent(naming: Naming, told: Told, lines: Sequence[Line]) -> bool:
    """Whether the texts rule out that an object here is meant: each states another value for the key."""
    for line in lines:
        if line.told.text == told.text or is_said_of_others(naming.fact.value, [line.told.text]):
            return False
        same = {fact.key for fact in line.told.facts}
        if line.seen.label == told.label and naming.fact.key not in same:
            return False
    return True


def _rcid(description: Description | None) -> Iterator[Draft]:
    if description is not None:
        yield Draft(
            task=Task.RCID,
            question=DESCRIBE,
            spans=parse_spans(description.cited),
            claims=description.claims,
        )


def _seen_of_others(question: Question, lines: Sequence[Line]) -> tuple[str, ...]:
    """What is seen of the others under the same key: wrong answers here."""
    return tuple(
        other.fact.value
        for line in lines
        for other in line.looks.questions
        if other.fact.key == question.fact.key
    )
