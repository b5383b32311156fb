"""The first lesson: what is under each visual token, in the language model's own words.

A tiny model that learns from answers alone to see, to find a box in the image and to speak learns none of
it on a small budget. Here tower and merger learn alone: the features of a visual token are to lie near the
embeddings of the words for the object under it, and to tell their row and column (own choice).
"""

import io
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

import torch
from PIL import Image
from torch.nn.functional import cross_entropy

from components.pretraining.lessons import Report, embeddings_of, learn, share
from components.pretraining.recipe import Sight
from components.rcmu import BOX_SCALE, Box, Scene, Split
from components.sources.synthetic import COLORS, SHAPES, SIZES, draw_scene
from components.training.processor import IGNORED, Processor

if TYPE_CHECKING:
    from transformers import Qwen2VLForConditionalGeneration

_WORDS = {"color": tuple(COLORS), "shape": tuple(SHAPES), "size": tuple(SIZES)}
# Shares of a token's area under a box: from the first on it shows the object, up to the second the ground.
# Between them nothing is asked. All constants are our own choice.
_OBJECT, _GROUND = 0.1, 0.02
_SHARPNESS = 4.0  # of the likeness to an embedding
_PLACES = 0.3  # weight of the losses of row and column


class Tokens(NamedTuple):
    """The N visual tokens of some images, with what is to be seen in them."""

    pixels: torch.Tensor  # (patches, 1176)
    grid: torch.Tensor  # (images, 3)
    words: torch.Tensor  # (N, 3): color, shape, size; 0 for none, n for the n-th word, or IGNORED
    places: torch.Tensor  # (N, 2): row and column


def teach_sight(
    model: "Qwen2VLForConditionalGeneration",
    processor: Processor,
    lesson: Sight,
    *,
    seed: int,
) -> Report:
    """Train tower and merger on new scenes each step; nothing else changes.

    Returns:
        The shares of tokens with the right color, shape and size of an object, no word on the ground, the
        right row and column, in the last steps.
    """
    vision: Any = model.model.visual
    likeness = {
        kind: _SHARPNESS * embeddings_of(model, processor, [f" {word}" for word in words])
        for kind, words in _WORDS.items()
    }
    across = lesson.source.image_size // (
        processor.image_processor.patch_size * processor.image_processor.merge_size
    )
    torch.manual_seed(seed)
    width = model.get_input_embeddings().weight.shape[1]
    places = torch.nn.ModuleDict({kind: torch.nn.Linear(width, across) for kind in ("row", "column")})

    def judge(step: int) -> tuple[torch.Tensor, Report]:
        names = [f"base-sight-{step}-{number}" for number in range(lesson.images)]
        scenes = [draw_scene(name, lesson.source, split=Split.TRAIN, seed=seed) for name in names]
        tokens = tokens_of(scenes, processor)
        features = vision(tokens.pixels, grid_thw=tokens.grid).pooler_output
        return _judge(features, tokens, likeness, places)

    parameters = [*vision.parameters(), *places.parameters()]
    return learn("sight", model, parameters, judge, steps=lesson.steps, learning_rate=lesson.learning_rate)


def _judge(
    features: torch.Tensor,
    tokens: Tokens,
    likeness: dict[str, torch.Tensor],
    places: torch.nn.ModuleDict,
) -> tuple[torch.Tensor, Report]:
    losses, report, grounds = [], {}, []
    for (kind, words), labels in zip(likeness.items(), tokens.words.T, strict=True):
        logits = features @ words
        logits = torch.cat([torch.zeros_like(logits[:, :1]), logits], dim=1)  # zero speaks for no word at all
        losses.append(cross_entropy(logits, labels, ignore_index=IGNORED))
        right = logits.argmax(1) == labels
        report[kind] = share(right[labels > 0])
        grounds.append(share(right[labels == 0]))
    report["ground"] = sum(grounds) / len(grounds)
    for (kind, head), labels in zip(places.items(), tokens.places.T, strict=True):
        logits = head(features)
        losses.append(_PLACES * cross_entropy(logits, labels))
        report[kind] = share(logits.argmax(1) == labels)
    return torch.stack(losses).sum(), report


def tokens_of(scenes: Sequence[Scene], processor: Processor) -> Tokens:
    """Scenes as the tower sees them, labelled."""
    seen = [processor.pixels(Image.open(io.BytesIO(scene.image)).convert("RGB")) for scene in scenes]
    words, places = [], []
    for scene, image in zip(scenes, seen, strict=True):
        rows, columns = (int(patches) // processor.image_processor.merge_size for patches in image.grid[1:])
        for row in range(rows):
            for column in range(columns):
                words.append(_words_at(scene, row, column, rows, columns))
                places.append((row, column))
    return Tokens(
        pixels=torch.cat([image.values for image in seen]),
        grid=torch.stack([image.grid for image in seen]),
        words=torch.tensor(words),
        places=torch.tensor(places),
    )


def _words_at(scene: Scene, row: int, column: int, rows: int, columns: int) -> list[int]:
    """Labels of the token that shows this part of the scene: of the object with the largest share in it."""

    def covered(box: Box) -> float:
        wide = min(box.x2 / BOX_SCALE * columns, column + 1) - max(box.x1 / BOX_SCALE * columns, column)
        high = min(box.y2 / BOX_SCALE * rows, row + 1) - max(box.y1 / BOX_SCALE * rows, row)
        return max(0.0, wide) * max(0.0, high)

    region = max(scene.regions, key=lambda region: covered(region.box))
    if covered(region.box) < _OBJECT:
        return [0 if covered(region.box) < _GROUND else IGNORED] * len(_WORDS)
    looks = {"shape": region.label, **{fact.key: fact.value for fact in region.facts}}
    return [1 + words.index(looks[kind]) for kind, words in _WORDS.items()]
