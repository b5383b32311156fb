"""Multiple-choice items: places by counting, one right option, wrong ones that are near."""

from collections import Counter, defaultdict
from pathlib import Path
from typing import NamedTuple

import pyarrow.parquet as pq
import pytest
from pydantic import ValidationError

from components.errors import DataError
from components.evaluation.items import ITEMS_FILE, OBJECTS_FILE, Items, build_items, write_items
from components.params import GenerationParams
from components.rcmu import (
    ABSTAIN,
    UNANSWERABLE,
    ContextSet,
    Item,
    PersonalObject,
    Scene,
    Split,
    Task,
    Turn,
    mentions,
)
from components.rcmu.tables import ITEMS, OBJECTS, read_contexts, read_rows, read_scenes, read_turns
from tests.generation.made import drawn, make_data


class Data(NamedTuple):
    root: Path
    scenes: dict[str, Scene]
    contexts: dict[str, ContextSet]
    turns: dict[str, Turn]

    def items(self, seed: int = 1) -> Items:
        return build_items(self.scenes, self.contexts, list(self.turns.values()), seed=seed)


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Data:
    root = tmp_path_factory.mktemp("items")
    source = drawn(90, benchmark_share=0.6, regions=(1, 4), twins_share=0.8)
    generation = GenerationParams(context_sets=3, facts_per_text=2, questions_per_task=1)
    make_data(root, source, generation, seed=4)
    return Data(
        root,
        {scene.scene_id: scene for scene in read_scenes(root / "scenes", Split.BENCHMARK)},
        {context.context_id: context for context in read_contexts(root / "turns", Split.BENCHMARK)},
        {turn.turn_id: turn for turn in read_turns(root / "turns", Split.BENCHMARK)},
    )


@pytest.fixture(scope="module")
def items(data: Data) -> tuple[Item, ...]:
    return data.items().items


@pytest.mark.parametrize("seed", [1, 2, 3])
def test_what_is_right_stands_at_each_place_equally_often(data: Data, seed: int) -> None:
    places: defaultdict[tuple[int, Task | None], Counter[int]] = defaultdict(Counter)
    declining: defaultdict[int, Counter[int]] = defaultdict(Counter)
    for item in data.items(seed).items:
        for task in (item.task, None):
            places[len(item.options), task][item.right] += 1
        if item.task not in UNANSWERABLE:
            declining[len(item.options)][item.abstain] += 1
    assert {options for options, _ in places} == {4, 5}
    for (options, task), counted in places.items():
        numbers = [counted[place] for place in range(options)]
        assert max(numbers) - min(numbers) <= 1, (options, task, numbers)
    for options, counted in declining.items():
        numbers = [counted[place] for place in range(options)]
        assert max(numbers) - min(numbers) <= 2, (options, numbers)


def test_one_option_is_right_and_one_declines(data: Data, items: tuple[Item, ...]) -> None:
    assert {item.task for item in items} == {
        Task.V2C,
        Task.C2V,
        Task.UNANSWERABLE_V2C,
        Task.UNANSWERABLE_C2V,
    }
    for item in items:
        turn = data.turns[item.turn_id]
        assert item.question == turn.question
        assert item.split is Split.BENCHMARK
        assert item.options.count(ABSTAIN) == 1
        right = item.options[item.right]
        assert right == (ABSTAIN if turn.task in UNANSWERABLE else turn.claims[0].value)
        others = [option for option in item.options if option != right]
        if turn.task is Task.V2C:
            text = data.contexts[turn.context_id].regions[turn.claims[0].k - 1].text
            assert mentions(text, right)
            assert not any(mentions(text, other) for other in others)
        if turn.task is Task.UNANSWERABLE_V2C:
            region = max(
                (r for r in data.scenes[turn.scene_id].regions if r.expression in turn.question),
                key=lambda r: len(r.expression),
            )
            index = data.scenes[turn.scene_id].regions.index(region)
            (line,) = (told for told in data.contexts[turn.context_id].regions if told.region == index)
            assert not any(mentions(line.text, other) for other in others)


def test_wrong_options_are_of_the_asked_kind_those_of_the_scene_first(
    data: Data, items: tuple[Item, ...]
) -> None:
    near = 0
    for item in items:
        turn, context = data.turns[item.turn_id], data.contexts[item.context_id]
        if turn.task not in (Task.V2C, Task.C2V):
            continue
        (claim,) = turn.claims
        regions = data.scenes[turn.scene_id].regions
        facts = [
            regions[line.region].facts if turn.task is Task.C2V else line.facts for line in context.regions
        ]
        (key,) = (fact.key for fact in facts[claim.k - 1] if fact.value == claim.value)
        here = {fact.value for own in facts for fact in own if fact.key == key} - {claim.value}
        wrong = set(item.options) - {claim.value, ABSTAIN}
        assert here <= wrong or wrong <= here
        near += bool(here)
        known = {
            fact.value
            for scene in data.scenes.values()
            for region in scene.regions
            for fact in region.facts
            if fact.key == key
        } | {
            fact.value
            for other in data.contexts.values()
            for line in other.regions
            for fact in line.facts
            if fact.key == key
        }
        assert wrong <= known
    assert near > 50


def test_the_number_of_options_does_not_tell_what_cannot_be_answered(items: tuple[Item, ...]) -> None:
    five = {
        task: sum(len(item.options) == 5 for item in items if item.task is task)
        / sum(item.task is task for item in items)
        for task in (Task.V2C, Task.UNANSWERABLE_V2C)
    }
    assert abs(five[Task.V2C] - five[Task.UNANSWERABLE_V2C]) < 0.15


def test_what_has_too_few_values_is_counted(data: Data) -> None:
    made = data.items()
    asked = [t for t in data.turns.values() if t.task in {item.task for item in made.items}]
    assert len(made.items) + sum(made.left_out.values()) == len(asked)
    assert set(made.left_out) == {
        "c2v: fewer than 4 options for the size",
        "unanswerable_c2v: fewer than 4 options for the size",
    }


def test_the_same_seed_gives_the_same_items_in_the_order_of_the_turns(data: Data) -> None:
    made = data.items()
    assert made == data.items()
    assert made != data.items(seed=2)
    ids = [item.turn_id for item in made.items]
    assert ids == [turn_id for turn_id in data.turns if turn_id in set(ids)]


def test_the_places_follow_no_order_of_the_turns(data: Data) -> None:
    """Else who knows the last answers' places would know the next one."""
    places = [{item.item_id: item.right for item in data.items(seed).items} for seed in (1, 2)]
    assert places[0].keys() == places[1].keys()
    same = sum(places[0][name] == place for name, place in places[1].items())
    assert 0.1 < same / len(places[1]) < 0.4  # a fourth or a fifth by chance


def test_items_and_objects_are_files(data: Data, tmp_path: Path) -> None:
    known = PersonalObject(
        instance_id="coco-concept-1", name="Rufus", label="bag", text="Old.", photos=(b"1",)
    )
    made = write_items(
        data.root / "scenes", data.root / "turns", objects=[known], seed=1, folder=tmp_path / "items"
    )
    assert [Item(**row) for row in read_rows(tmp_path / "items" / ITEMS_FILE)] == list(made.items)
    assert [PersonalObject(**row) for row in read_rows(tmp_path / "items" / OBJECTS_FILE)] == [known]
    assert pq.read_schema(tmp_path / "items" / ITEMS_FILE).equals(ITEMS)
    assert pq.read_schema(tmp_path / "items" / OBJECTS_FILE).equals(OBJECTS)
    with pytest.raises(DataError, match="is not empty"):
        write_items(data.root / "scenes", data.root / "turns", objects=(), seed=1, folder=tmp_path / "items")
    with pytest.raises(DataError, match=r"has no scenes-\*\.parquet"):
        write_items(tmp_path, data.root / "turns", objects=(), seed=1, folder=tmp_path / "other")


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"options": ("a", "b", "A", ABSTAIN)}, "stands twice"),
        ({"options": ("a", "b", "c", "d")}, "is none of"),
        ({"right": 4}, "is none of"),
        ({"task": "unanswerable_v2c"}, "as its answer"),
        ({"right": 3}, "as its answer"),
    ],
)
def test_an_item_that_does_not_fit_is_refused(changes: dict[str, object], said: str) -> None:
    sound = {
        "item_id": "i", "turn_id": "t", "context_id": "c", "scene_id": "s", "split": "benchmark",
        "task": "v2c", "question": "q", "options": ("a", "b", "c", ABSTAIN), "right": 0, "abstain": 3,
    }  # fmt: skip
    Item.model_validate(sound)
    with pytest.raises(ValidationError, match=said):
        Item.model_validate({**sound, **changes})
