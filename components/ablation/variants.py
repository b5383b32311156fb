"""The data of each variant: the run's own, with one thing taken away. All are our own choice.

A thing is taken away in training and in the benchmark, so that a model may learn to do without it as well as
can be done; `format_only` alone is judged on the benchmark as it is.
"""

import io
import random
from collections.abc import Callable
from typing import NamedTuple

from components.ablation.chance import NO_IMAGE, NO_LINK, NO_TEXTS, Guesser
from components.rcmu import BOX_SCALE, Box, ContextSet, Scene, Split, Turn

_WHOLE_IMAGE = Box(x1=0, y1=0, x2=BOX_SCALE, y2=BOX_SCALE)
_NO_TEXT = "Nothing is known."
_GREY = (117, 117, 117)  # the ground of a drawn scene


class Data(NamedTuple):
    """What is trained on and judged by."""

    scenes: tuple[Scene, ...]
    contexts: tuple[ContextSet, ...]
    turns: tuple[Turn, ...]


class Variant(NamedTuple):
    """A way to train."""

    name: str
    title: str  # in table and plot
    change: Callable[[Data, int], Data]  # of the data and a seed
    guesser: Guesser = NO_LINK  # who lacks what it lacks; the rest is held against whoever lacks the link
    trains: bool = True  # else the base itself is judged


def _as_it_is(data: Data, seed: int) -> Data:
    return data


def _without_boxes(data: Data, seed: int) -> Data:
    """Each object's box is the whole image."""
    return data._replace(scenes=tuple(_boxed(s, [_WHOLE_IMAGE] * len(s.regions)) for s in data.scenes))


def _shuffled_boxes(data: Data, seed: int) -> Data:
    """The boxes of an image in random order: they say where objects are, not which text is whose."""
    scenes = []
    for scene in data.scenes:
        boxes = [region.box for region in scene.regions]
        scenes.append(_boxed(scene, _stream(seed, "boxes", scene.scene_id).sample(boxes, len(boxes))))
    return data._replace(scenes=tuple(scenes))


def _without_texts(data: Data, seed: int) -> Data:
    contexts = []
    for context in data.contexts:
        regions = tuple(told.model_copy(update={"text": _NO_TEXT}) for told in context.regions)
        contexts.append(context.model_copy(update={"regions": regions}))
    return data._replace(contexts=tuple(contexts))


def _without_image(data: Data, seed: int) -> Data:
    """A plain image of the same size."""
    from PIL import Image

    scenes = []
    for scene in data.scenes:
        file = io.BytesIO()
        Image.new("RGB", (scene.width, scene.height), _GREY).save(file, "PNG")
        scenes.append(scene.model_copy(update={"image": file.getvalue()}))
    return data._replace(scenes=tuple(scenes))


def _format_only(data: Data, seed: int) -> Data:
    """In training each text stands at a random region of its set, and the answers stay as they were."""
    contexts = []
    for context in data.contexts:
        if context.split is Split.TRAIN:
            told = context.regions
            order = _stream(seed, "texts", context.context_id).sample(range(len(told)), len(told))
            regions = tuple(
                region.model_copy(update={"text": told[other].text, "facts": told[other].facts})
                for region, other in zip(told, order, strict=True)
            )
            context = context.model_copy(update={"regions": regions})
        contexts.append(context)
    return data._replace(contexts=tuple(contexts))


def _half_the_data(data: Data, seed: int) -> Data:
    """Half of the training images, with all that is asked about them."""
    train = [scene.scene_id for scene in data.scenes if scene.split is Split.TRAIN]
    dropped = set(_stream(seed, "half", "").sample(train, len(train) // 2))
    return Data(
        scenes=tuple(scene for scene in data.scenes if scene.scene_id not in dropped),
        contexts=tuple(context for context in data.contexts if context.scene_id not in dropped),
        turns=tuple(turn for turn in data.turns if turn.scene_id not in dropped),
    )


VARIANTS = (
    Variant("base", "base, no RCVIT", _as_it_is, trains=False),
    Variant("rcvit", "RCVIT", _as_it_is),
    Variant("without_boxes", "without boxes", _without_boxes),
    Variant("shuffled_boxes", "shuffled boxes", _shuffled_boxes),
    Variant("without_texts", "without texts", _without_texts, NO_TEXTS),
    Variant("without_image", "without image", _without_image, NO_IMAGE),
    Variant("format_only", "format only", _format_only),
    Variant("half_the_data", "half the data", _half_the_data),
)


def _boxed(scene: Scene, boxes: list[Box]) -> Scene:
    regions = (r.model_copy(update={"box": box}) for r, box in zip(scene.regions, boxes, strict=True))
    return scene.model_copy(update={"regions": tuple(regions)})


def _stream(seed: int, purpose: str, name: str) -> random.Random:
    return random.Random(f"{seed}:ablation:{purpose}:{name}")  # noqa: S311 - makes data, not keys
