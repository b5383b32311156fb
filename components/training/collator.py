"""From trees to tensors: every branch sees its ancestors and itself, at the positions it would have alone.

The tokens of a tree lie in depth-first order: trunk, text set, its branches, the next text set and so on.
What descends from a token therefore lies side by side behind it, and one integer per token, where that
ends, says who may attend to it. The mask is built from these where it is used.
"""

from collections.abc import Sequence as Items
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from components.errors import DataError
from components.training.flops import Work
from components.training.forest import Forest, Ids
from components.training.packing import Sequence, Tree
from components.training.processor import IGNORED, Pixels, Processor

Integers = NDArray[np.int64]
MEASURED = ("branch_of", "work")  # of a batch: for the trainer, not for the model


class PackedSequence(NamedTuple):
    """One sequence of L tokens, and its images."""

    ids: Ids  # (L,)
    labels: Integers  # (L,): the id that a token is to predict, IGNORED where nothing is learned
    branch_of: Integers  # (L,): row of the branch in the forest, -1 in trunks and text sets
    positions: Integers  # (3, L): M-RoPE's time, height and width
    ends: Integers  # (L,): behind the last token that may attend to this one
    pixels: list[Pixels]


class Assembler:
    """Makes packed sequences of a forest's trees."""

    def __init__(self, forest: Forest, processor: Processor) -> None:
        self.forest = forest
        self.processor = processor

    def __call__(self, sequence: Sequence) -> PackedSequence:
        """The trees side by side.

        Raises:
            DataError: when an image does not decode, or has another size than when it was tokenised.
        """
        trees = [self._tree(tree) for tree in sequence]
        at = 0
        ends = []
        for tree in trees:
            ends.append(tree.ends + at)
            at += len(tree.ids)
        return PackedSequence(
            ids=np.concatenate([tree.ids for tree in trees]),
            labels=np.concatenate([tree.labels for tree in trees]),
            branch_of=np.concatenate([tree.branch_of for tree in trees]),
            positions=np.concatenate([tree.positions for tree in trees], axis=1),
            ends=np.concatenate(ends),
            pixels=[image for tree in trees for image in tree.pixels],
        )

    def _tree(self, tree: Tree) -> PackedSequence:
        forest = self.forest
        trunk = forest.ids(forest.trunks, tree.trunk)
        height, width = forest.grids[tree.trunk].tolist()
        trunk_positions = image_positions(trunk == self.processor.image_pad, height, width)
        after_trunk = int(trunk_positions.max()) + 1
        segments, positions, branches, ends = [trunk], [trunk_positions], [-1], [0]
        at, last_set, set_segment, after_set = len(trunk), -1, 0, 0
        for branch in tree.branches:
            text_set = int(forest.text_set_of[branch])
            if text_set != last_set:
                context = forest.ids(forest.text_sets, text_set)
                positions.append(_following(after_trunk, len(context)))
                segments.append(context)
                branches.append(-1)
                ends.append(0)
                at, last_set, set_segment, after_set = (
                    at + len(context),
                    text_set,
                    len(ends) - 1,
                    after_trunk + len(context),
                )
            own = forest.ids(forest.branches, branch)
            positions.append(_following(after_set, len(own)))
            segments.append(own)
            branches.append(branch)
            at += len(own)
            ends.append(at)
            ends[set_segment] = ends[0] = at  # the ancestors go on as long as the last of their branches
        lengths = [len(segment) for segment in segments]
        return PackedSequence(
            ids=np.concatenate(segments),
            labels=np.concatenate(
                [self._labels(ids, branch) for ids, branch in zip(segments, branches, strict=True)]
            ),
            branch_of=np.repeat(np.asarray(branches), lengths),
            positions=np.concatenate(positions, axis=1),
            ends=np.repeat(np.asarray(ends), lengths),
            pixels=[self._pixels(tree.trunk)],
        )

    def _labels(self, ids: Ids, branch: int) -> Integers:
        """Each answer token, at the token before it; that one is the branch's own also for the first."""
        labels = np.full(len(ids), IGNORED, np.int64)
        if branch >= 0:
            first = len(ids) - int(self.forest.answer_tokens[branch])
            labels[first - 1 : -1] = ids[first:]
        return labels

    def _pixels(self, trunk: int) -> Pixels:
        pixels = self.processor.pixels(self.forest.image(trunk))
        if pixels.grid.tolist()[1:] != self.forest.grids[trunk].tolist():
            raise DataError(
                f"the image of scene {self.forest.names()['scenes'][trunk]} has {pixels.tokens} visual "
                "tokens, another number than by the size in its header",
                hint="`dvc repro validate` finds every broken image",
            )
        return pixels


def image_positions(is_image: NDArray[np.bool_], height: int, width: int) -> Integers:
    """M-RoPE positions of a chat with one image, shape (3, L), as Qwen2-VL counts them.

    The image of height x width patches, 2 x 2 merged to a token, stands at one time; its rows and columns
    count from there, and the text goes on behind the largest of them (Qwen2-VL, arXiv 2409.12191, 2.1).
    """
    before = int(np.argmax(is_image))
    rows, columns = height // 2, width // 2
    image = np.stack(
        [
            np.zeros(rows * columns, np.int64),
            np.repeat(np.arange(rows), columns),
            np.tile(np.arange(columns), rows),
        ]
    )
    after = len(is_image) - before - rows * columns
    parts = [_following(0, before), image + before, _following(before + max(rows, columns), after)]
    return np.concatenate(parts, axis=1)


def _following(start: int, length: int) -> Integers:
    """Positions of text: the same in all three rows."""
    return np.broadcast_to(np.arange(start, start + length), (3, length))


class Collator:
    """Packed sequences as one batch, padded on the right."""

    def __init__(self, processor: Processor, *, length: int | None) -> None:
        """Pads to `length` tokens, or else to the longest."""
        self.pad = processor.tokenizer.pad_token_id
        self.length = length

    def __call__(self, items: Items[PackedSequence]) -> dict[str, Any]:
        """Tensors of shape (batch, L) but `position_ids` (3, batch, L), the patches of all images, `work`.

        A token of padding sees itself alone, and nothing else sees it.
        """
        import torch

        longest = self.length or max(len(item.ids) for item in items)

        def padded(arrays: Items[NDArray[np.integer]], value: int) -> torch.Tensor:
            rows = [
                np.pad(row.astype(np.int64), (0, longest - len(row)), constant_values=value) for row in arrays
            ]
            return torch.from_numpy(np.stack(rows))

        positions = [padded([item.positions[row] for item in items], 0) for row in range(3)]
        ends = [np.append(item.ends, np.arange(len(item.ids) + 1, longest + 1)) for item in items]
        pixels = [image for item in items for image in item.pixels]
        return {
            "input_ids": padded([item.ids for item in items], self.pad),
            "labels": padded([item.labels for item in items], IGNORED),
            "branch_of": padded([item.branch_of for item in items], -1),
            "position_ids": torch.stack(positions),
            "branch_ends": torch.from_numpy(np.stack(ends)),
            "pixel_values": torch.cat([image.values for image in pixels]),
            "image_grid_thw": torch.stack([image.grid for image in pixels]),
            "work": _work(items)._asdict(),
        }


def _work(items: Items[PackedSequence]) -> Work:
    """What the sequences cost, padding left out."""
    grids = [int(image.grid.prod()) for item in items for image in item.pixels]
    return Work(
        tokens=sum(len(item.ids) for item in items),
        labels=sum(int((item.labels != IGNORED).sum()) for item in items),
        questions=sum(len(np.unique(item.branch_of[item.labels != IGNORED])) for item in items),
        pairs=sum(int((item.ends - np.arange(len(item.ids))).sum()) for item in items),
        patches=sum(grids),
        patch_pairs=sum(patches**2 for patches in grids),
    )
