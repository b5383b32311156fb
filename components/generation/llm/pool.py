"""Steps 1 to 4: the pool of texts of each label, and what can be asked about each text and each expression.

Training and benchmark have a pool each. Names are those of one split (facts.py), and a benchmark text that
has words in a row with a training text, or is one with other names, is dropped.
"""

import asyncio
import random
from collections.abc import Iterable, Iterator, Mapping, Sequence

from components.generation.facts import draw_facts, kinds_of
from components.generation.llm import prompts
from components.generation.llm.checks import (
    Drops,
    at_the_door,
    what_is_wrong_with_fact,
    what_is_wrong_with_question,
    what_is_wrong_with_text,
)
from components.llm import Asker, SetAside
from components.rcmu import Fact, Split, special_token_strings
from components.rcmu.models import Frozen
from components.validation.shared_words import find_shared_words


class Question(Frozen):
    """A question for one fact, with a gap for the object, and its answer as a sentence."""

    fact: Fact
    form: str
    answer: str


class Naming(Frozen):
    """An expression that names its object by one fact of its text."""

    fact: Fact
    expression: str


class Unsaid(Frozen):
    """A question for what a text does not say."""

    attribute: str
    form: str


class Told(Frozen):
    """A text of the pool, with all that can be asked about it."""

    label: str
    text: str
    facts: tuple[Fact, ...]
    questions: tuple[Question, ...] = ()
    namings: tuple[Naming, ...] = ()
    unsaid: tuple[Unsaid, ...] = ()


class Looks(Frozen):
    """What an expression says about looks, and the questions for it."""

    questions: tuple[Question, ...] = ()


Pool = Mapping[str, Sequence[Told]]  # by label


async def make_pools(
    asker: Asker, wanted: Mapping[Split, Mapping[str, int]], *, seed: int, drops: Drops
) -> dict[Split, Pool]:
    """The pools of both splits.

    Args:
        asker: the LLM.
        wanted: texts to ask for, by split and label.
        seed: draws the names.
        drops: gets what is left out.
    """
    labels = [(split, label) for split in Split for label in sorted(wanted.get(split, {}))]
    written = await asyncio.gather(
        *(_texts(asker, label, split, wanted[split][label], seed=seed) for split, label in labels)
    )
    texts: dict[Split, dict[str, list[Told]]] = {split: {} for split in Split}
    for (split, label), results in zip(labels, written, strict=True):
        texts[split][label] = list(_usable(results, label, split, drops))
    _part(texts, drops)
    kept = [told for split, label in labels for told in texts[split][label]]
    asked = iter(await asyncio.gather(*(_with_questions(asker, told) for told in kept)))
    pools: dict[Split, dict[str, list[Told]]] = {split: {} for split in Split}
    for split, label in labels:
        pools[split][label] = []
        for _ in texts[split][label]:
            told, own = next(asked)
            drops.merge(own.found())
            pools[split][label].append(told)
    return dict(pools)


async def look(asker: Asker, label: str, expression: str) -> tuple[Looks, Drops]:
    """Step 2: visual facts of an expression, and questions for them."""
    drops, where = Drops(), f"{label!r} called {expression!r}"
    seen = await asker.ask(prompts.facts_seen(label, expression))
    if isinstance(seen, SetAside):
        drops.set_aside(seen, where)
        return Looks(), drops
    facts = _facts(seen.facts, expression, where, drops)
    if not facts:
        return Looks(), drops
    asked = await asker.ask(prompts.questions_seen(label, facts))
    return Looks(questions=_questions(asked, facts, where, drops)), drops


async def _texts(
    asker: Asker, label: str, split: Split, number: int, *, seed: int
) -> list[prompts.TextAnswer | SetAside]:
    kinds = kinds_of(label)
    keys = [kind.key for kind in kinds]
    person = [kind for kind in kinds if kind.key in ("name", "owner")]
    asked = []
    for index in range(number):
        rng = random.Random(f"{seed}:pool:{split}:{label}:{index}")  # noqa: S311 - makes data, not keys
        (given,) = draw_facts(person, 1, split=split, rng=rng)
        asked.append(asker.ask(prompts.text_about(label, given=given, keys=keys, number=index + 1)))
    return await asyncio.gather(*asked)


def _usable(
    results: Sequence[prompts.TextAnswer | SetAside], label: str, split: Split, drops: Drops
) -> Iterator[Told]:
    known: set[str] = set()
    for number, result in enumerate(results, start=1):
        where = f"text {number} for {label!r} ({split})"
        if isinstance(result, SetAside):
            drops.set_aside(result, where)
            continue
        text = at_the_door(result.text)
        if wrong := what_is_wrong_with_text(text):
            drops.add(wrong, f"{where}: {text}")
            continue
        facts = _facts(result.facts, text, where, drops)
        if len(facts) < 2:
            drops.add("text_with_less_than_two_facts", f"{where}: {text}")
        elif text.casefold() in known:
            drops.add("text_twice", f"{where}: {text}")
        else:
            known.add(text.casefold())
            yield Told(label=label, text=text, facts=facts)


def _part(texts: dict[Split, dict[str, list[Told]]], drops: Drops) -> None:
    """Take out of the benchmark's pool what the training's shares, by the rules of the validation."""
    training = [(told.text[:60], told.text) for pool in texts[Split.TRAIN].values() for told in pool]
    benchmark = [(told.text, told.text) for pool in texts[Split.BENCHMARK].values() for told in pool]
    shared = dict(find_shared_words(benchmark, training))
    for text, reason in shared.items():
        drops.add("text_shared_with_training", f"{text}: {reason}")
    for label, pool in texts[Split.BENCHMARK].items():
        texts[Split.BENCHMARK][label] = [told for told in pool if told.text not in shared]


async def _with_questions(asker: Asker, told: Told) -> tuple[Told, Drops]:
    """Steps 3 and 4."""
    drops, where = Drops(), f"{told.label!r}, text {told.text[:60]!r}"
    asked, named, unsaid = await asyncio.gather(
        asker.ask(prompts.questions_told(told.label, told.text, told.facts)),
        asker.ask(prompts.expressions_told(told.label, told.text, told.facts)),
        asker.ask(prompts.unsaid_of(told.label, told.text, told.facts)),
    )
    return (
        told.model_copy(
            update={
                "questions": _questions(asked, told.facts, where, drops),
                "namings": _namings(named, told.facts, where, drops),
                "unsaid": _unsaid(unsaid, told, where, drops),
            }
        ),
        drops,
    )


def _facts(stated: Iterable[prompts.Stated], text: str, where: str, drops: Drops) -> tuple[Fact, ...]:
    """Those that the text states, one for each key."""
    facts: dict[str, Fact] = {}
    for one in stated:
        key, value = at_the_door(one.key).casefold(), at_the_door(one.value)
        if not key or not value or key in facts:
            continue
        fact = Fact(key=key, value=value)
        if wrong := what_is_wrong_with_fact(fact, text):
            drops.add(wrong, f"{where}: {key} = {value}")
        else:
            facts[key] = fact
    return tuple(facts.values())


def _questions(
    result: prompts.QuestionsAnswer | SetAside, facts: Sequence[Fact], where: str, drops: Drops
) -> tuple[Question, ...]:
    if isinstance(result, SetAside):
        drops.set_aside(result, where)
        return ()
    of_key = {fact.key: fact for fact in facts}
    found: dict[str, Question] = {}
    for one in result.questions:
        key, form, answer = (
            at_the_door(one.key).casefold(),
            at_the_door(one.question),
            at_the_door(one.answer),
        )
        if key not in of_key:
            drops.add("fact_unknown", f"{where}: {key}: {form}")
        elif wrong := what_is_wrong_with_question(form):
            drops.add(wrong, f"{where}: {form}")
        elif special_token_strings(answer):
            drops.add("special_token", f"{where}: {answer}")
        elif answer and key not in found:
            found[key] = Question(fact=of_key[key], form=form, answer=answer)
    return tuple(found.values())


def _namings(
    result: prompts.ExpressionsAnswer | SetAside, facts: Sequence[Fact], where: str, drops: Drops
) -> tuple[Naming, ...]:
    if isinstance(result, SetAside):
        drops.set_aside(result, where)
        return ()
    of_key = {fact.key: fact for fact in facts}
    found: dict[str, Naming] = {}
    for one in result.expressions:
        key, expression = at_the_door(one.key).casefold(), at_the_door(one.expression).rstrip(" .")
        if key not in of_key:
            drops.add("fact_unknown", f"{where}: {key}: {expression}")
        elif what_is_wrong_with_fact(of_key[key], expression):
            drops.add("expression_without_its_fact", f"{where}: {expression}")
        elif special_token_strings(expression):
            drops.add("special_token", f"{where}: {expression}")
        else:
            found.setdefault(key, Naming(fact=of_key[key], expression=expression))
    return tuple(found.values())


def _unsaid(
    result: prompts.UnsaidAnswer | SetAside, told: Told, where: str, drops: Drops
) -> tuple[Unsaid, ...]:
    if isinstance(result, SetAside):
        drops.set_aside(result, where)
        return ()
    found: dict[str, Unsaid] = {}
    known = {fact.key for fact in told.facts}
    for one in result.attributes:
        attribute, form = at_the_door(one.attribute).casefold(), at_the_door(one.question)
        if not attribute or attribute in known:
            drops.add("refusal_answerable", f"{where}: {attribute}: {form}")
        elif wrong := what_is_wrong_with_question(form):
            drops.add(wrong, f"{where}: {form}")
        else:
            found.setdefault(attribute, Unsaid(attribute=attribute, form=form))
    return tuple(found.values())
