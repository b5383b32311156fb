"""Packing: every question once an epoch, budgets kept, the same stream whatever was read before."""

from itertools import groupby

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from components.training.forest import Forest, plant
from components.training.packing import Sequence, Stream, plan_epoch
from components.training.processor import Processor
from tests.training.conftest import write_trees

QUESTIONS = [(f"Who owns it{' now' * n}?", "Ada Moss." * (1 + n % 3)) for n in range(9)]
TREES = [[QUESTIONS[: 1 + (s + c) % 5] for c in range(1 + s % 3)] for s in range(7)]


@pytest.fixture(scope="module")
def forest(processor: Processor, tmp_path_factory: pytest.TempPathFactory) -> Forest:
    folder = tmp_path_factory.mktemp("trees")
    write_trees(folder, TREES)
    return plant(folder, folder, processor, folder / "forest", limit=1000)


def longest_sample(forest: Forest) -> int:
    sets = forest.text_set_of
    lengths = forest.branches.lengths() + forest.text_sets.lengths()[sets]
    return int((lengths + forest.trunks.lengths()[forest.trunk_of[sets]]).max())


def tokens(forest: Forest, sequence: Sequence) -> int:
    total = 0
    for tree in sequence:
        total += int(forest.trunks.lengths()[tree.trunk])
        sets = [int(forest.text_set_of[branch]) for branch in tree.branches]
        total += sum(int(forest.text_sets.lengths()[s]) for s, _ in groupby(sets))
        total += sum(int(forest.branches.lengths()[branch]) for branch in tree.branches)
    return total


@settings(max_examples=60, deadline=None)
@given(extra=st.integers(0, 3000), seed=st.integers(0, 9), epoch=st.integers(0, 3))
def test_an_epoch_has_every_branch_once_within_the_budget(
    forest: Forest, extra: int, seed: int, epoch: int
) -> None:
    budget = longest_sample(forest) + extra
    sequences = plan_epoch(forest, budget=budget, seed=seed, epoch=epoch)
    branches = [branch for sequence in sequences for tree in sequence for branch in tree.branches]
    assert sorted(branches) == list(range(len(forest)))
    for sequence in sequences:
        assert 0 < tokens(forest, sequence) <= budget
        for tree in sequence:
            sets = [int(forest.text_set_of[branch]) for branch in tree.branches]
            assert {int(forest.trunk_of[s]) for s in sets} == {tree.trunk}
            assert len(list(groupby(sets))) == len(set(sets))  # a set's questions lie side by side


def test_an_image_is_paid_once_where_the_budget_lets_it(forest: Forest) -> None:
    (sequence,) = plan_epoch(forest, budget=100_000, seed=1, epoch=0)
    assert sorted(tree.trunk for tree in sequence) == list(range(len(TREES)))
    whole = sum(int(kind.lengths().sum()) for kind in (forest.trunks, forest.text_sets, forest.branches))
    assert tokens(forest, sequence) == whole


def test_epochs_and_seeds_differ_and_repeat(forest: Forest) -> None:
    plans = [plan_epoch(forest, budget=600, seed=s, epoch=e) for s, e in ((1, 0), (1, 1), (2, 0), (1, 0))]
    assert plans[0] == plans[3]
    assert plans[0] != plans[1]
    assert plans[0] != plans[2]


@given(st.lists(st.integers(0, 60), min_size=1, max_size=12))
def test_the_stream_does_not_depend_on_what_was_read(forest: Forest, numbers: list[int]) -> None:
    epochs = [s for epoch in range(30) for s in plan_epoch(forest, budget=900, seed=3, epoch=epoch)]
    stream = Stream(forest, budget=900, seed=3)
    assert [stream[number] for number in numbers] == [epochs[number] for number in numbers]
