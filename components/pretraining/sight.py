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
from tqdm import trange

from components.params import SourceParams
from components.rcmu import BOX_SCALE, Box, Scene, Split
from components.sources.synthetic import COLORS, SHAPES, SIZES, draw_scene
from components.training.muon import Muon
from components.training.processor import IGNORED, Processor

if TYPE_CHECKING:
    from transformers import Qwen2VLForConditionalGeneration

_WORDS = {"color": tuple(COLORS), "shape": tuple(SHAPES), "size": tuple(SIZES)}
# Shares of a token's area under a box: from the first on it shows the object, up to the second the ground.
# Between them nothing is asked. All constants are our own choice.
_OBJECT, _GROUND = 0.1, 0.02
_SHARPNESS = 4.0  # of the likeness to an embedding
_PLACES = 0.3  # weight of the losses of row and column
_WARMUP, _DECAY = 30, 0.5  # steps, share of the steps
_WEIGHT_DECAY, _MAX_GRAD_NORM = 0.01, 1.0
_RECENT = 20  # steps that what is reported is the mean of


class Tokens(NamedTuple):
    """The N visual tokens of some images, with what is to be seen in them."""

    pixels: torch.Tensor  # (patches, 1176)
    grid: torch.Tensor  # (images, 3)
    words: torch.Tensor  # (N, 3): color, shape, size; 0 for none, n for the n-th word, or IGNORED
    places: torch.Tensor  # (N, 2): row and column


def teach_sight(
    model: "Qwen2VLForConditionalGeneration",
    processor: Processor,
    source: SourceParams,
    *,
    steps: int,
    images: int,
    learning_rate: float,
    seed: int,
) -> dict[str, float]:
    """Train tower and merger for `steps` steps of `images` new scenes each; nothing else changes.

    Returns:
        The shares of tokens with the right color, shape and size of an object, no word on the ground, the
        right row and column, in the last steps.
    """
    vision: Any = model.model.visual
    embeddings = model.get_input_embeddings().weight.detach()
    likeness = [
        _SHARPNESS * torch.stack([embeddings[_ids(processor, word)].mean(0) for word in words], dim=1)
        for words in _WORDS.values()
    ]
    across = source.image_size // (
        processor.image_processor.patch_size * processor.image_processor.merge_size
    )
    torch.manual_seed(seed)
    places = torch.nn.ModuleList(torch.nn.Linear(embeddings.shape[1], across) for _ in ("row", "column"))
    parameters = [*vision.parameters(), *places.parameters()]
    optimizer = Muon(
        [
            {
                "params": [p for p in parameters if p.dim() == 2],
                "weight_decay": _WEIGHT_DECAY,
                "orthogonal": True,
            },
            {"params": [p for p in parameters if p.dim() != 2]},
        ]
    )
    reports: list[list[float]] = []
    with trange(steps, desc="sight", unit="step", mininterval=2) as progress:
        for step in progress:
            share = min(1.0, (step + 1) / _WARMUP, (steps - step) / (_DECAY * steps))
            for group in optimizer.param_groups:
                group["lr"] = learning_rate * share
            names = [f"base-sight-{step}-{number}" for number in range(images)]
            scenes = [draw_scene(name, source, split=Split.TRAIN, seed=seed) for name in names]
            tokens = tokens_of(scenes, processor)
            features = vision(tokens.pixels, grid_thw=tokens.grid).pooler_output
            loss, report = _judge(features, tokens, likeness, places)
            optimizer.zero_grad()
            torch.autograd.backward(loss)
            torch.nn.utils.clip_grad_norm_(parameters, _MAX_GRAD_NORM)
            optimizer.step()
            reports.append(report)
            right = _mean(reports[-_RECENT:])
            progress.set_postfix({name: f"{value:.0%}" for name, value in right.items()}, refresh=False)
    return right


def _judge(
    features: torch.Tensor, tokens: Tokens, likeness: Sequence[torch.Tensor], places: torch.nn.ModuleList
) -> tuple[torch.Tensor, list[float]]:
    """The loss of a batch, and its shares of right labels in the order of what `teach_sight` returns."""
    losses, shares, grounds = [], [], []
    for words, labels in zip(likeness, tokens.words.T, strict=True):
        logits = features @ words
        logits = torch.cat([torch.zeros_like(logits[:, :1]), logits], dim=1)  # zero speaks for no word at all
        losses.append(cross_entropy(logits, labels, ignore_index=IGNORED))
        right = logits.argmax(1) == labels
        shares.append(right[labels > 0].float().mean().item())
        grounds.append(right[labels == 0].float().mean().item())
    shares.append(sum(grounds) / len(grounds))
    for head, labels in zip(places, tokens.places.T, strict=True):
        logits = head(features)
        losses.append(_PLACES * cross_entropy(logits, labels))
        shares.append((logits.argmax(1) == labels).float().mean().item())
    return torch.stack(losses).sum(), shares


def _mean(reports: Sequence[Sequence[float]]) -> dict[str, float]:
    names = (*_WORDS, "ground", "row", "column")
    return dict(zip(names, torch.tensor(reports).nanmean(0).tolist(), strict=True))


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

    def share(box: Box) -> float:
        wide = min(box.x2 / BOX_SCALE * columns, column + 1) - max(box.x1 / BOX_SCALE * columns, column)
        high = min(box.y2 / BOX_SCALE * rows, row + 1) - max(box.y1 / BOX_SCALE * rows, row)
        return max(0.0, wide) * max(0.0, high)

    region = max(scene.regions, key=lambda region: share(region.box))
    if share(region.box) < _OBJECT:
        return [0 if share(region.box) < _GROUND else IGNORED] * len(_WORDS)
    looks = {"shape": region.label, **{fact.key: fact.value for fact in region.facts}}
    return [1 + words.index(looks[kind]) for kind, words in _WORDS.items()]


def _ids(processor: Processor, word: str) -> list[int]:
    """Of a word inside a sentence: one token of its own, unless the vocabulary is very small."""
    ids: list[int] = processor.tokenizer(f" {word}", add_special_tokens=False)["input_ids"]
    return ids
