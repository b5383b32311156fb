"""RC&P-Bench's multiple choice: four or five options a question, one of them that it cannot be answered.

Published is one example (RCMU.md). Own choices: the wrong options are values of the asked kind, those of the
other objects of the scene first, then others of the benchmark; a question without enough of them is left out.
What is right stands at each place equally often, by counting and not by luck; so does what declines.
"""

import random
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

from components.errors import DataError
from components.generation.asked import refused_keys, told_keys
from components.rcmu import (
    ABSTAIN,
    UNANSWERABLE,
    ContextSet,
    Fact,
    Item,
    PersonalObject,
    Scene,
    Split,
    Task,
    Turn,
    mentions,
)
from components.rcmu.models import Frozen
from components.rcmu.tables import ITEMS, OBJECTS, read_contexts, read_scenes, read_turns, write_rows

CHOICE_TASKS = (Task.V2C, Task.C2V, Task.UNANSWERABLE_V2C, Task.UNANSWERABLE_C2V)
ITEMS_FILE, OBJECTS_FILE = "items-benchmark-00000.parquet", "objects.parquet"
_LEAST, _MOST = 4, 5  # options


class Items(Frozen):
    """All items in the order of their turns, and why turns have none."""

    items: tuple[Item, ...]
    left_out: dict[str, int]  # task: why -> turns


class _Draft(NamedTuple):
    """A question with the wrong values it may have, before places are given."""

    turn: Turn
    right: str
    wrong: tuple[str, ...]  # as many as the item has


def write_items(
    scenes: Path, turns: Path, *, objects: Sequence[PersonalObject], seed: int, folder: Path
) -> Items:
    """Write the items of the benchmark split into `folder`, and the objects' photos where there are any.

    Args:
        scenes: holds the shards of scenes.
        turns: holds the shards of context sets and turns.
        objects: what reference photos are known of.
        seed: of the wrong options and the places.
        folder: does not exist, or is empty.

    Raises:
        DataError: when there is no data yet, or the folder holds something.
    """
    if folder.exists() and any(folder.iterdir()):
        raise DataError(f"{folder} is not empty", hint="name a new folder")
    try:
        made = build_items(
            {scene.scene_id: scene for scene in read_scenes(scenes, Split.BENCHMARK)},
            {context.context_id: context for context in read_contexts(turns, Split.BENCHMARK)},
            list(read_turns(turns, Split.BENCHMARK)),
            seed=seed,
        )
    except FileNotFoundError as error:
        raise DataError(str(error), hint="`rcvit data generate` makes it") from error
    folder.mkdir(parents=True, exist_ok=True)
    write_rows(folder / ITEMS_FILE, ITEMS, (item.model_dump() for item in made.items))
    if objects:
        write_rows(folder / OBJECTS_FILE, OBJECTS, (known.model_dump() for known in objects))
    return made


def build_items(
    scenes: Mapping[str, Scene], contexts: Mapping[str, ContextSet], turns: Sequence[Turn], *, seed: int
) -> Items:
    """The items of benchmark turns; scenes and context sets by id."""
    told, seen = _pools(scenes.values(), contexts.values())
    left_out: Counter[str] = Counter()
    drafts: list[_Draft] = []
    for turn in turns:
        if turn.task not in CHOICE_TASKS:
            continue
        if len(turn.claims) > 1:
            left_out[f"{turn.task}: asks for more than one value"] += 1
            continue
        context = contexts[turn.context_id]
        visible = turn.task in (Task.C2V, Task.UNANSWERABLE_C2V)
        facts = _facts(scenes[turn.scene_id], context, visible=visible)
        pools = seen if visible else told
        key = _key(turn, scenes[turn.scene_id], facts, pools)
        if key is None:
            left_out[f"{turn.task}: not known what it asks for"] += 1
            continue
        right = ABSTAIN if turn.task in UNANSWERABLE else turn.claims[0].value
        rng = random.Random(f"{seed}:options:{turn.turn_id}")  # noqa: S311 - makes data, not keys
        here = [fact.value for own in facts for fact in own if fact.key == key]
        wrong = _wrong(right, here, pools[key], number=_MOST - (1 if right == ABSTAIN else 2), rng=rng)
        least = _LEAST - (1 if right == ABSTAIN else 2)
        if len(wrong) < least:
            left_out[f"{turn.task}: fewer than {_LEAST} options for the {key}"] += 1
            continue
        # Every other one that could have five has four.
        drafts.append(_Draft(turn, right, wrong if len(drafts) % 2 else wrong[:least]))
    placed = {item.turn_id: item for item in _placed(drafts, seed=seed)}
    return Items(
        items=tuple(placed[turn.turn_id] for turn in turns if turn.turn_id in placed),
        left_out=dict(sorted(left_out.items())),
    )


def _pools(
    scenes: Iterable[Scene], contexts: Iterable[ContextSet]
) -> tuple[dict[str, tuple[str, ...]], dict[str, tuple[str, ...]]]:
    """Every value of each kind that the texts tell, and that is to be seen."""
    told = _by_key(fact for context in contexts for line in context.regions for fact in line.facts)
    return told, _by_key(fact for scene in scenes for region in scene.regions for fact in region.facts)


def _by_key(facts: Iterable[Fact]) -> dict[str, tuple[str, ...]]:
    values: defaultdict[str, set[str]] = defaultdict(set)
    for fact in facts:
        values[fact.key].add(fact.value)
    return {key: tuple(sorted(own)) for key, own in values.items()}


def _facts(scene: Scene, context: ContextSet, *, visible: bool) -> list[tuple[Fact, ...]]:
    """What is seen of each region `[k]`, or told of it."""
    return [scene.regions[line.region].facts if visible else line.facts for line in context.regions]


def _key(
    turn: Turn, scene: Scene, facts: Sequence[tuple[Fact, ...]], pools: Mapping[str, object]
) -> str | None:
    """The kind of fact that a turn asks for: its answer's, or by the words of question and refusal."""
    if turn.task not in UNANSWERABLE:
        (claim,) = turn.claims
        return next((fact.key for fact in facts[claim.k - 1] if fact.value == claim.value), None)
    keys = refused_keys(turn.question, turn.answer) & set(pools)
    if turn.task is Task.UNANSWERABLE_V2C:
        named = [region for region in scene.regions if mentions(turn.question, region.expression)]
        meant = max(named, key=lambda region: len(region.expression), default=None)
        keys &= told_keys(meant.label) if meant else frozenset()
    return min(keys, default=None)


def _wrong(
    right: str, here: Sequence[str], pool: Sequence[str], *, number: int, rng: random.Random
) -> tuple[str, ...]:
    """At most `number` values that are none of the others in part, those of the scene first."""
    chosen: list[str] = []
    others = [*dict.fromkeys(here), *rng.sample(pool, len(pool))]
    for value in others:
        if len(chosen) == number:
            break
        if not any(mentions(value, known) or mentions(known, value) for known in (right, *chosen)):
            chosen.append(value)
    return tuple(chosen)


def _placed(drafts: Sequence[_Draft], *, seed: int) -> Iterator[Item]:
    """The drafts with their options in places.

    Those of one number of options are counted through, sub-task by sub-task in random order: the right option
    goes round the places one by one, the one that declines goes round behind it. So no place has it more than
    once more than another, in all and nearly so in each sub-task.
    """
    for options in (_LEAST, _MOST):
        own = [draft for draft in drafts if len({*draft.wrong, draft.right, ABSTAIN}) == options]
        random.Random(f"{seed}:places:{options}").shuffle(own)  # noqa: S311 - makes data, not keys
        own.sort(key=lambda draft: CHOICE_TASKS.index(draft.turn.task))  # stable
        for number, draft in enumerate(own):
            right = number % options
            behind = 1 + number // options % (options - 1)
            abstain = right if draft.right == ABSTAIN else (right + behind) % options
            yield _item(draft, right=right, abstain=abstain, seed=seed)


def _item(draft: _Draft, *, right: int, abstain: int, seed: int) -> Item:
    turn = draft.turn
    rest = list(draft.wrong)
    random.Random(f"{seed}:order:{turn.turn_id}").shuffle(rest)  # noqa: S311 - makes data, not keys
    fixed = {right: draft.right, abstain: ABSTAIN}
    return Item(
        item_id=f"{turn.turn_id}/choice",
        turn_id=turn.turn_id,
        context_id=turn.context_id,
        scene_id=turn.scene_id,
        split=turn.split,
        task=turn.task,
        question=turn.question,
        options=tuple(fixed.get(place) or rest.pop() for place in range(len(fixed) + len(rest))),
        right=right,
        abstain=abstain,
    )
