"""The texts of the rich route: 30 to 180 words that state some attributes and leave others out.

Between the sentences that state the facts stand others, which state none of the object: fillers, and names
and numbers that belong to somebody or something else.
"""

import random
from collections import defaultdict
from collections.abc import Sequence, Set

from components.generation.catalogue import Named, TextKind, catalogue, named, with_article
from components.generation.facts import capitalised, split_of
from components.rcmu import ContextRegion, ContextSet, Fact, Scene, Split, count_mentions

FEWEST_WORDS, MOST_WORDS = 30, 180
_AIMED_AT = (30, 150)  # words, before the last sentence
_WORDS_OF_A_FACT = 10  # about
_PLAIN_SHARE = 0.5  # of the sentences, that are a clause alone
_PRONOUN_SHARE = 0.6  # of the sentences in a row about the object
_LEAD_SHARE = 0.5  # of the texts
_LINKED_SHARE = 0.7  # of the owners, where somebody in the image is told by name


def write_rich_context(
    scene: Scene, context_id: str, facts_per_text: int, *, rng: random.Random
) -> ContextSet:
    """A context set of a scene: a text for each region, in random order.

    As on the plain route, texts about objects of one label state the same kinds of facts. Here no two of them
    state the same value either, so that only the box tells which is asked for. People are told first: some of
    what else is in the image belongs to them.
    """
    order = rng.sample(range(len(scene.regions)), len(scene.regions))
    told: dict[str, tuple[TextKind, ...]] = {}
    taken: defaultdict[str, set[str]] = defaultdict(set)  # by kind
    holders: defaultdict[str, list[str]] = defaultdict(list)  # values by kind, for what links to it
    written: dict[int, ContextRegion] = {}
    for region in sorted(order, key=lambda region: named(scene.regions[region].label).subject != "person"):
        label = scene.regions[region].label
        who = named(label)
        kinds = told.setdefault(label, draw_kinds(who.kinds, facts_per_text, rng=rng))
        line = _write(region, who, kinds, taken, holders, split=scene.split, rng=rng)
        for fact in line.facts:
            taken[fact.key].add(fact.value)
            holders[fact.key].append(fact.value)
        written[region] = line
    return ContextSet(
        context_id=context_id,
        scene_id=scene.scene_id,
        split=scene.split,
        regions=tuple(written[region] for region in order),
    )


def draw_kinds(kinds: Sequence[TextKind], number: int, *, rng: random.Random) -> tuple[TextKind, ...]:
    """`number` different kinds, none near another."""
    drawn: list[TextKind] = []
    mixed = rng.sample(kinds, len(kinds))
    # Names and owners first, at times: they lead from one text to another.
    leads = [kind for kind in mixed if kind.lead and rng.random() < _LEAD_SHARE]
    for kind in (*leads, *mixed):
        if len(drawn) < number and not any(
            kind.key == other.key or kind.key in other.near for other in drawn
        ):
            drawn.append(kind)
    return tuple(drawn)


def _write(
    region: int,
    who: Named,
    kinds: Sequence[TextKind],
    taken: dict[str, set[str]],
    holders: dict[str, list[str]],
    *,
    split: Split,
    rng: random.Random,
) -> ContextRegion:
    """Facts and text, drawn until they may stand together in this split."""
    while True:
        linked = rng.random() < _LINKED_SHARE
        facts: list[Fact] = []
        for kind in rng.sample(kinds, len(kinds)):
            told = taken[kind.key] | {fact.value for fact in facts}
            known = [value for value in holders.get(kind.links_to or "", ()) if value not in told]
            pool = known if linked and known else catalogue().values_of(kind, split)
            facts.append(Fact(key=kind.key, value=_draw(pool, told, rng)))
        # Every set of facts belongs to one split, as on the plain route.
        if split_of(sorted(f"{fact.key}={fact.value}" for fact in facts)) is not split:
            continue
        text = state_richly(who, facts, split=split, rng=rng)
        if FEWEST_WORDS <= text.count(" ") + 1 <= MOST_WORDS and _stand_once(facts, text):
            return ContextRegion(region=region, text=text, facts=tuple(facts))


def _draw(pool: Sequence[str], told: Set[str], rng: random.Random) -> str:
    """A value that no text of the set states yet; where all of a small pool are stated, any."""
    value = rng.choice(pool)
    while value in told and len(told) < len(pool):
        value = rng.choice(pool)
    return value


def _stand_once(facts: Sequence[Fact], text: str) -> bool:
    """Whether every value stands in the text once, as whole words."""
    return all(count_mentions(text, fact.value) == 1 for fact in facts)


def state_richly(who: Named, facts: Sequence[Fact], *, split: Split, rng: random.Random) -> str:
    """A sentence for each fact, in this order, and others before, between and after them."""
    words = rng.randint(*_AIMED_AT) - _WORDS_OF_A_FACT * len(facts)
    others = _other_sentences(who, words, split=split, rng=rng)
    number = len(facts) + len(others)
    # The first sentence says whom the text is about.
    places = {0, *rng.sample(range(1, number), len(facts) - 1)}
    sentences = []
    stated = iter(facts)
    clear = False  # whether a pronoun would be understood
    for place in range(number):
        if place in places:
            fact = next(stated)
            kind = catalogue().kinds[fact.key]
            sentences.append(_sentence(who, kind, fact.value, clear=clear, split=split, rng=rng))
            clear = not kind.person
        else:
            sentences.append(others.pop())
            clear = False
    return " ".join(sentences)


def _sentence(
    who: Named, kind: TextKind, value: str, *, clear: bool, split: Split, rng: random.Random
) -> str:
    clause = rng.choice(kind.clauses.own(split))
    frames = catalogue().frames.frames.own(split)
    frame = frames[0] if rng.random() < _PLAIN_SHARE else rng.choice(frames)
    pronoun = clear and rng.random() < _PRONOUN_SHARE
    return render(who, clause, frame, value, pronoun=pronoun)


def render(who: Named, clause: str, frame: str, value: str, *, pronoun: bool) -> str:
    """One sentence that states one fact, of an object by its noun or by its pronoun where it has one."""
    # "The passport of her" is no English.
    known = who.pronouns if pronoun and "of {o}" not in clause else None
    subject, object_, possessive = known or who.full
    said = clause.format(s=subject, o=object_, p=possessive, v=value, a=with_article(value))
    return capitalised(frame.format(c=said))


def _other_sentences(who: Named, words: int, *, split: Split, rng: random.Random) -> list[str]:
    """One to three distractors, then fillers until there are so many words."""
    frames = catalogue().frames
    forms = rng.sample(frames.distractors[who.subject].own(split), rng.randint(1, 3))
    sentences = [
        form.format(
            o=who.full[1],
            name=rng.choice(frames.strangers),
            price=rng.choice(catalogue().values["other_prices"][split]),
            year=rng.choice(catalogue().values["other_years"][split]),
        )
        for form in forms
    ]
    fillers = frames.fillers.own(split)
    found = sum(sentence.count(" ") + 1 for sentence in sentences)
    for filler in rng.sample(fillers, len(fillers)):
        if found >= words:
            break
        sentences.append(filler)
        found += filler.count(" ") + 1
    rng.shuffle(sentences)
    return sentences
