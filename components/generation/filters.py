"""Filters: what is wrong with a turn, by name. Every turn of every route passes them before it is written.

RCMU says which steps are followed by a filter, and not what it does: the rules are our own choice. A filter
reads the scene, the texts with their facts and the turn as it will be written, not how it was made.
"""

import re
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import cache

from components.generation.asked import refused_keys
from components.generation.catalogue import named
from components.generation.facts import KINDS, Kind
from components.generation.questions import CLOSED_VALUES, Line
from components.rcmu import (
    UNANSWERABLE,
    ContextRegion,
    ContextSet,
    Fact,
    Region,
    Scene,
    Split,
    Task,
    Turn,
    mentions,
    parse_spans,
    prompt_of,
    render_prompt,
)
from components.rcmu.models import Frozen

# Of a prompt with all its texts, question and answer. At two to three tokens a word, boxes included, what is
# longer fits no sequence of the profiles with a hub base. Training has its own budget, and counts too.
MAX_WORDS = 3000
_EXAMPLES = 5  # of each filter in summary.json
_BY_LOOKS = frozenset({Task.VISUAL_QA, Task.V2C, Task.UNANSWERABLE_V2C})
_BY_TEXT = frozenset({Task.CONTEXTUAL_QA, Task.C2V})
_FROM_IMAGE = frozenset({Task.VISUAL_QA, Task.C2V})
_WORD = re.compile(r"\w+")
_ARTICLES = frozenset({"the", "a", "an"})


class Setting:
    """A context set with its scene, prepared once for all its turns."""

    def __init__(self, scene: Scene, context: ContextSet) -> None:
        self.regions = scene.regions
        self.lines = tuple(
            Line(k=k, seen=scene.regions[told.region], told=told)
            for k, told in enumerate(context.regions, start=1)
        )
        self.words = len(render_prompt(prompt_of(scene, context, "?")).split()) - 1

    def line(self, k: int) -> Line | None:
        """Region `[k]`, where there is one."""
        return self.lines[k - 1] if 1 <= k <= len(self.lines) else None

    def named_by_looks(self, question: str) -> list[Line]:
        """The objects whose visual expression stands in the question; the longest one, where several do."""
        named = [line for line in self.lines if mentions(question, line.seen.expression)]
        length = max((len(line.seen.expression) for line in named), default=0)
        return [line for line in named if len(line.seen.expression) == length]

    def named_by_text(self, question: str) -> list[Line]:
        """The objects that a question can mean: of a class that it names, with a fact that it states.

        Where a text is not known to state that kind of fact, its words decide, but for those of other facts.
        """
        classes = [line for line in self.lines if _names_class(question, line.seen.label)] or [
            line for line in self.lines if mentions(question, f"the {named(line.seen.label).neutral}")
        ]
        found = {fact for line in classes for fact in line.told.facts if mentions(question, fact.value)}
        # "790 dollars" stands in a question about 2,790 dollars, and is not meant.
        stated = [f for f in found if not any(f.value != o.value and f.value in o.value for o in found)]
        return [
            line
            for line in classes
            if any(fact in line.told.facts or _may_state(line.told, fact) for fact in stated)
        ]


def _too_long(setting: Setting, turn: Turn) -> str | None:
    words = setting.words + len(turn.question.split()) + len(turn.answer.split())
    return None if words <= MAX_WORDS else f"{words} words of at most {MAX_WORDS}"


def _citation_wrong(setting: Setting, turn: Turn) -> str | None:
    if turn.task in UNANSWERABLE or turn.task is Task.VISUAL_QA:
        return f"cites {_marks(turn.citations)}, and uses no text" if turn.citations else None
    wanted = {claim.k for claim in turn.claims}
    if unknown := [k for k in {*turn.citations, *wanted} if setting.line(k) is None]:
        return f"{_marks(unknown)} of {len(setting.lines)} regions"
    if missing := wanted - set(turn.citations):
        return f"uses {_marks(missing)} and does not cite it"
    if other := set(turn.citations) - wanted:
        return f"cites {_marks(other)}, and claims nothing of it"
    if turn.task is Task.RCID:
        spans = parse_spans(turn.answer)
        for claim in turn.claims:
            if not any(claim.k in span.citations and mentions(span.text, claim.value) for span in spans):
                return f"no phrase that cites [{claim.k}] states {claim.value!r}"
    return None


def _answer_leaked(_: Setting, turn: Turn) -> str | None:
    for claim in turn.claims:
        if mentions(turn.question, claim.value):
            return f"it holds {claim.value!r}"
    return None


def _answer_not_supported(setting: Setting, turn: Turn) -> str | None:
    for claim in turn.claims:
        line = setting.line(claim.k)
        if line is None:
            return f"no region [{claim.k}]"
        if turn.task not in _FROM_IMAGE:
            if not mentions(line.told.text, claim.value):
                return f"text [{claim.k}] does not say {claim.value!r}"
        elif not (
            any(fact.value == claim.value for fact in line.seen.facts)
            or mentions(line.seen.expression, claim.value)
        ):
            return f"{claim.value!r} is not among what is seen of [{claim.k}]"
    if len(turn.claims) == 1:
        asked = _asked_about(setting, turn)
        if len(asked) == 1 and asked[0].k != turn.claims[0].k:
            return f"it answers about [{turn.claims[0].k}], asked about [{asked[0].k}]"
    return None


def _answerable_without_image(setting: Setting, turn: Turn) -> str | None:
    if turn.task not in _FROM_IMAGE:
        return None
    for claim in turn.claims:
        line = setting.line(claim.k)
        if line is not None and mentions(line.told.text, claim.value):
            return f"text [{claim.k}] holds {claim.value!r}"
    return None


def _expression_not_unique(setting: Setting, turn: Turn) -> str | None:
    if turn.task in _BY_LOOKS:
        for named in setting.named_by_looks(turn.question):
            fitting = [region for region in setting.regions if _looks_so(region, named.seen)]
            if len(fitting) > 1:
                ids = ", ".join(region.instance_id for region in fitting)
                return f"{named.seen.expression!r} fits {ids}"
    elif turn.task in _BY_TEXT:
        meant = setting.named_by_text(turn.question)
        if len(meant) > 1:
            return f"the texts {_marks(line.k for line in meant)} fit"
    return None


def _refusal_answerable(setting: Setting, turn: Turn) -> str | None:
    if turn.task is Task.UNANSWERABLE_C2V:
        meant = setting.named_by_text(turn.question)
        return f"{_marks(line.k for line in meant)} fits" if meant else None
    if turn.task is not Task.UNANSWERABLE_V2C:
        return None
    for line in setting.named_by_looks(turn.question):
        for key in sorted(refused_keys(turn.question, turn.answer)):
            if key in _keys(line.told) or (key in KINDS and _states(KINDS[key], line.told.text)):
                return f"text [{line.k}] states the asked {key}"
    return None


Filter = Callable[[Setting, Turn], str | None]
# What each says is wrong, or None. The cheap ones stand first; a turn counts for the first that names it.
FILTERS: dict[str, Filter] = {
    "too_long": _too_long,
    "citation_wrong": _citation_wrong,
    "answer_leaked": _answer_leaked,
    "answer_not_supported": _answer_not_supported,
    "answerable_without_image": _answerable_without_image,
    "expression_not_unique": _expression_not_unique,
    "refusal_answerable": _refusal_answerable,
}


class Filtered(Frozen):
    """What one filter left out."""

    count: int = 0
    examples: tuple[str, ...] = ()  # the first ones: the turn's id, task and question, what is wrong

    def __add__(self, other: "Filtered") -> "Filtered":
        return Filtered(count=self.count + other.count, examples=(self.examples + other.examples)[:_EXAMPLES])


class Sieve:
    """Takes from the turns of one shard what the filters name, and counts it."""

    def __init__(self) -> None:
        self.found = dict.fromkeys(FILTERS, Filtered())
        self.left_out: Counter[Task] = Counter()

    def passing(self, scene: Scene, context: ContextSet, turns: Iterable[Turn]) -> Iterator[Turn]:
        """The turns of one context set without those that a filter names."""
        setting = Setting(scene, context)
        for turn in turns:
            problem = first_problem(setting, turn)
            if problem is None:
                yield turn
            else:
                name, why = problem
                example = f"{turn.turn_id} ({turn.task}) {turn.question!r}: {why}"
                self.found[name] += Filtered(count=1, examples=(example,))
                self.left_out[turn.task] += 1


def first_problem(setting: Setting, turn: Turn) -> tuple[str, str] | None:
    """The name of the first filter that finds something, with what it finds."""
    for name, find in FILTERS.items():
        if why := find(setting, turn):
            return name, why
    return None


def _asked_about(setting: Setting, turn: Turn) -> Sequence[Line]:
    """The objects that a question can mean."""
    if turn.task in _BY_TEXT:
        return setting.named_by_text(turn.question)
    return setting.named_by_looks(turn.question) if turn.task in _BY_LOOKS else []


def _looks_so(region: Region, named: Region) -> bool:
    """Whether the expression of `named` fits a region: as its own, or by its class and visible facts.

    A phrase from outside may say "on the left" of the one that is further left: there places do not count.
    """
    if region is named or region.expression.casefold() == named.expression.casefold():
        return True
    if not mentions(named.expression, region.label):
        return False
    phrase = any(fact.key == "appearance" for fact in named.facts)
    said = " ".join(
        fact.value
        for fact in region.facts
        if fact.key in CLOSED_VALUES and not (phrase and fact.key == "position")
    )
    return _words(named.expression) <= _words(region.label) | _words(said) | _ARTICLES


def _names_class(question: str, label: str) -> bool:
    """Whether a question names an object of this label, or by the word that texts have for one of them."""
    return mentions(question, label) or mentions(question, named(label).noun)


def _states(kind: Kind, text: str) -> bool:
    """Whether a text states such a fact in one of the plain route's sentences, with one of its values.

    What the rich route's texts state is known from their facts alone.
    """
    return any(found["v"] in kind.values for form in _sentences(kind.key) for found in form.finditer(text))


@cache
def _sentences(key: str) -> tuple[re.Pattern[str], ...]:
    """The ways to state such a fact; what they are about may be called anything."""
    return tuple(
        re.compile(
            r"(?:^|(?<=[.] ))"
            + re.escape(form).replace(r"\{s\}", r"[^.]+?").replace(r"\{v\}", r"(?P<v>[^.]+?)"),
            re.IGNORECASE,
        )
        for form in KINDS[key].sentences_of(Split.BENCHMARK)
    )


def _words(text: str) -> frozenset[str]:
    return frozenset(_WORD.findall(text.casefold()))


def _may_state(told: ContextRegion, fact: Fact) -> bool:
    """Whether the words of a text hold a fact that is not known of it; 2001 may be the year of another."""
    return (
        fact.key not in _keys(told)
        and mentions(told.text, fact.value)
        and not any(mentions(other.value, fact.value) for other in told.facts)
    )


def _keys(told: ContextRegion) -> set[str]:
    return {fact.key for fact in told.facts}


def _marks(numbers: Iterable[int]) -> str:
    return "".join(f"[{k}]" for k in sorted(set(numbers)))
