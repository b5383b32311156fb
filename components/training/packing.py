"""Which trees go into which sequence, epoch by epoch: a stream that the steps read from one end to the other.

A tree that does not fit into what is left of a sequence goes on in the next one, its trunk and text set
repeated there. So sequences are full but for less than one tree's start, and nothing is sorted by length:
what lies together is random but for the image.
"""

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from components.training.forest import Forest


class Tree(NamedTuple):
    """Rows of the forest: an image, and questions about it; those of one text set lie side by side."""

    trunk: int
    branches: tuple[int, ...]


Sequence = tuple[Tree, ...]


def plan_epoch(forest: Forest, *, budget: int, seed: int, epoch: int) -> list[Sequence]:
    """Every branch once, in random order of images, of an image's text sets and of a set's questions.

    Args:
        forest: what to pack; no sample is longer than `budget`.
        budget: the most tokens of a sequence.
        seed: with `epoch`, what the order depends on.
        epoch: counted from 0.
    """
    order = _shuffled(forest, np.random.default_rng([seed, epoch]))
    text_sets = forest.text_set_of[order]
    trunks = forest.trunk_of[text_sets]
    lengths = forest.branches.lengths()[order].tolist()
    set_lengths = forest.text_sets.lengths()
    trunk_lengths = forest.trunks.lengths()
    sequences: list[Sequence] = []
    trees: list[Tree] = []
    branches: list[int] = []
    used, last_set, last_trunk = 0, -1, -1

    def end_tree() -> None:
        if branches:
            trees.append(Tree(last_trunk, tuple(branches)))
            branches.clear()

    for branch, text_set, trunk, length in zip(
        order.tolist(), text_sets.tolist(), trunks.tolist(), lengths, strict=True
    ):
        needed = length
        if text_set != last_set:
            needed += int(set_lengths[text_set])
        if trunk != last_trunk:
            needed += int(trunk_lengths[trunk])
        if used + needed > budget:
            end_tree()
            sequences.append(tuple(trees))
            trees, used = [], 0
            needed = int(trunk_lengths[trunk]) + int(set_lengths[text_set]) + length
        elif trunk != last_trunk:
            end_tree()
        branches.append(branch)
        used, last_set, last_trunk = used + needed, text_set, trunk
    end_tree()
    return [*sequences, tuple(trees)]


def _shuffled(forest: Forest, rng: np.random.Generator) -> NDArray[np.int64]:
    """The branches, those of an image together, and among them those of a text set."""
    trunk_rank = rng.permutation(len(forest.trunks.lengths()))
    set_rank = rng.permutation(len(forest.trunk_of))
    own_rank = rng.permutation(len(forest))
    sets = forest.text_set_of
    order: NDArray[np.int64] = np.lexsort((own_rank, set_rank[sets], trunk_rank[forest.trunk_of[sets]]))
    return order


class Stream:
    """The epochs in a row; sequence `number` of it is the same on every rank, whatever was read before."""

    def __init__(self, forest: Forest, *, budget: int, seed: int) -> None:
        self._forest, self._budget, self._seed = forest, budget, seed
        self._starts = [0]  # the first sequence of every epoch that was planned, and of the next
        self._planned: list[Sequence] = []  # the last of them

    def __getitem__(self, number: int) -> Sequence:
        if not self._planned or number < self._starts[-2]:
            self._starts, self._planned = [0], []
        while number >= self._starts[-1]:
            epoch = len(self._starts) - 1
            self._planned = plan_epoch(self._forest, budget=self._budget, seed=self._seed, epoch=epoch)
            self._starts.append(self._starts[-1] + len(self._planned))
        return self._planned[number - self._starts[-2]]
