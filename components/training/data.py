"""Training samples: one per turn of the training split, tokenised once, images decoded when used."""

import io
import sys
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple, TypeVar

from components.errors import DataError
from components.rcmu import Prompt, Scene, Split, Turn, prompt_of, render_prompt, special_token_strings
from components.rcmu.tables import read_contexts, read_scenes, read_turns
from components.training.processor import IGNORED, IMAGE_PAD, Pixels, Processor, Tokens

if TYPE_CHECKING:
    import torch

_Row = TypeVar("_Row")


class Sample(NamedTuple):
    """A tokenised turn."""

    turn_id: str
    scene_id: str
    tokens: Tokens


class TrainingSet:
    """The training split as a map-style data set; `dropped` lists turns longer than `max_length` tokens."""

    def __init__(self, scenes: Path, turns: Path, processor: Processor, *, max_length: int) -> None:
        self.processor = processor
        self.dropped: list[str] = []
        self.with_special_strings: dict[str, list[str]] = {}
        self._scenes = {s.scene_id: s for s in _rows(read_scenes, scenes / "scenes.parquet")}
        visual_tokens = {
            scene_id: self._pixels(scene_id).tokens
            for scene_id, scene in self._scenes.items()
            if scene.split is Split.TRAIN
        }
        self.samples: list[Sample] = []
        for turn, prompt in training_prompts(self._scenes, turns):
            tokens = processor.encode(prompt, turn.answer, image_tokens=visual_tokens[turn.scene_id])
            if strings := special_token_strings(f"{prompt.model_dump_json()} {turn.answer}"):
                self.with_special_strings[turn.turn_id] = list(strings)
            if len(tokens.input_ids) > max_length:
                self.dropped.append(turn.turn_id)
            else:
                self.samples.append(Sample(turn.turn_id, turn.scene_id, tokens))
        if not self.samples:
            raise DataError(
                f"{turns}/turns.parquet has no training turn of at most {max_length} tokens "
                f"({len(self.dropped)} are longer)",
                hint="raise model.max_length or source.scenes in params.yaml",
            )

    def __len__(self) -> int:
        return len(self.samples)

    def __getitem__(self, index: int) -> tuple[Sample, Pixels]:
        sample = self.samples[index]
        return sample, self._pixels(sample.scene_id)

    def _pixels(self, scene_id: str) -> Pixels:
        from PIL import Image

        try:
            with Image.open(io.BytesIO(self._scenes[scene_id].image)) as image:
                return self.processor.pixels(image.convert("RGB"))
        except (OSError, ValueError, Image.DecompressionBombError) as error:
            raise DataError(
                f"the image of scene {scene_id} does not decode: {error}",
                hint="`dvc repro validate` finds every such image",
            ) from error


def training_prompts(scenes: dict[str, Scene], turns: Path) -> Iterator[tuple[Turn, Prompt]]:
    """The turns of the training split with their prompts, in file order.

    Raises:
        DataError: for a file that cannot be read, and a turn without its scene, context set or region.
    """
    contexts = {c.context_id: c for c in _rows(read_contexts, turns / "contexts.parquet")}
    for turn in _rows(read_turns, turns / "turns.parquet"):
        if turn.split is not Split.TRAIN:
            continue
        try:
            prompt = prompt_of(scenes[turn.scene_id], contexts[turn.context_id], turn.question)
        except (KeyError, IndexError) as error:
            raise DataError(
                f"{turns}/turns.parquet: turn {turn.turn_id} has no such scene, context set or region "
                f"(scene {turn.scene_id}, context set {turn.context_id}): {error}",
                hint="`dvc repro validate` finds every such turn; run the generate stage again",
            ) from error
        yield turn, prompt


def _rows(read: Callable[[Path], Iterator[_Row]], path: Path) -> Iterator[_Row]:
    try:
        yield from read(path)
    except (OSError, ValueError) as error:
        raise DataError(
            f"{path} cannot be read: {error}", hint="run the stage that writes the file again"
        ) from error


def tokenizer_texts(scenes: Path, turns: Path) -> Iterator[str]:
    """What the small tokenizer is trained on: each context set once, each question and answer."""
    by_id = {s.scene_id: s for s in _rows(read_scenes, scenes / "scenes.parquet")}
    seen: set[str] = set()
    for turn, prompt in training_prompts(by_id, turns):
        yield turn.question
        yield turn.answer
        if turn.context_id not in seen:
            seen.add(turn.context_id)
            yield render_prompt(prompt)


class Collator:
    """Pads samples on the right into one batch; positions are left to the model, per sample."""

    def __init__(self, processor: Processor) -> None:
        self.pad = processor.tokenizer.pad_token_id
        self.image_pad = processor.id_of(IMAGE_PAD)

    def __call__(self, items: Sequence[tuple[Sample, Pixels]]) -> "dict[str, torch.Tensor]":
        """Tensors of shape (batch, longest), and the patches of all images in a row.

        Raises:
            DataError: when a sample has not as many image tokens as its image has features.
        """
        import torch

        longest = max(len(sample.tokens.input_ids) for sample, _ in items)

        def padded(rows: list[list[int]], value: int) -> torch.Tensor:
            return torch.tensor([row + [value] * (longest - len(row)) for row in rows])

        for sample, pixels in items:
            found = sample.tokens.input_ids.count(self.image_pad)
            if found != pixels.tokens:
                raise DataError(
                    f"turn {sample.turn_id} has {found} image tokens for {pixels.tokens} image features",
                    hint="the images changed after tokenising: run the train stage again",
                )
        ids = padded([sample.tokens.input_ids for sample, _ in items], self.pad)
        return {
            "input_ids": ids,
            "labels": padded([sample.tokens.labels for sample, _ in items], IGNORED),
            "attention_mask": padded([[1] * len(sample.tokens.input_ids) for sample, _ in items], 0),
            "mm_token_type_ids": (ids == self.image_pad).int(),
            "pixel_values": torch.cat([pixels.values for _, pixels in items]),
            "image_grid_thw": torch.stack([pixels.grid for _, pixels in items]),
        }


def print_counts(data: TrainingSet) -> None:
    """What the training set holds and what was left out, for the terminal."""
    print(f"{len(data)} training samples; {len(data.dropped)} dropped as too long", file=sys.stderr)
    if data.with_special_strings:
        count = len(data.with_special_strings)
        print(f"{count} turn(s) hold special-token strings, kept as plain text", file=sys.stderr)
