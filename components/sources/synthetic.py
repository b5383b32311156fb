"""Procedural scenes: coloured shapes on a grey ground, with exact boxes."""

import io
import random
from collections import Counter
from typing import NamedTuple

from PIL import Image, ImageDraw

from components.errors import ParamsError
from components.params import SourceParams
from components.rcmu import Fact, Region, Scene, Split
from components.sources.geometry import position_of, scaled_box

COLORS = {
    "red": (220, 30, 30),
    "green": (30, 150, 50),
    "blue": (40, 70, 220),
    "yellow": (240, 200, 0),
    "purple": (140, 40, 170),
    "black": (25, 25, 25),
}
# Corners of each shape in a unit square; the circle is drawn as an ellipse.
SHAPES: dict[str, tuple[tuple[float, float], ...]] = {
    "circle": (),
    "square": ((0, 0), (1, 0), (1, 1), (0, 1)),
    "triangle": ((0.5, 0), (1, 1), (0, 1)),
    "diamond": ((0.5, 0), (1, 0.5), (0.5, 1), (0, 0.5)),
    "star": (
        (0.5, 0), (0.62, 0.36), (1, 0.38), (0.7, 0.6), (0.8, 1),
        (0.5, 0.78), (0.2, 1), (0.3, 0.6), (0, 0.38), (0.38, 0.36),
    ),
    "cross": (
        (0.33, 0), (0.67, 0), (0.67, 0.33), (1, 0.33), (1, 0.67), (0.67, 0.67),
        (0.67, 1), (0.33, 1), (0.33, 0.67), (0, 0.67), (0, 0.33), (0.33, 0.33),
    ),
}  # fmt: skip
# Sides in 112ths of the image: a small object covers about one visual token of 28 x 28 pixels at 112.
SIZES = {"small": (20, 24), "large": (36, 40)}
_GAP = 3  # 112ths between two objects
# About the mean that Qwen2-VL's image processor takes off: there the ground is near zero, and a tower that
# starts from random weights sees the objects alone. A light ground cost it some points (own choice).
_GROUND = (107, 127)
# The ground grows redder to the right and greener downwards. Qwen2-VL is told no patch's place in the image:
# large models learn to tell, a tiny one can read it off the ground (own choice).
_SHADE = 40  # levels above and below the ground's colour at the edges
_NUMBER_WORDS = ("Zero", "One", "Two", "Three", "Four", "Five", "Six", "Seven", "Eight", "Nine")


class _Object(NamedTuple):
    shape: str
    color: str
    size: str
    x: int  # pixels, top-left corner of the drawing
    y: int
    side: int


def draw_scene(scene_id: str, params: SourceParams, *, split: Split, seed: int) -> Scene:
    """A scene that depends on seed, id and params alone, as a PNG of image_size x image_size pixels.

    Raises:
        ParamsError: when max_regions objects do not fit the image.
    """
    rng = random.Random(f"{seed}:scene:{scene_id}")  # noqa: S311 - makes data, not keys
    side = params.image_size
    number = rng.randint(params.min_regions, params.max_regions)
    objects = _place(number, side, params.twins_share, rng)
    picture = _ground(side, rng)
    drafts = []
    for index, item in enumerate(objects):
        mask = _mask(item.shape, item.side)
        left, top, right, bottom = mask.getbbox() or (0, 0, item.side, item.side)
        picture.paste(COLORS[item.color], (item.x, item.y), mask)
        box = scaled_box(
            item.x + left, item.y + top, item.x + right, item.y + bottom, width=side, height=side
        )
        facts = {"color": item.color, "size": item.size, "position": position_of(box)}
        drafts.append((f"{scene_id}/{index}", item.shape, box, facts))
    looks = [(label, facts) for _, label, _, facts in drafts]
    regions = tuple(
        Region(
            instance_id=instance_id,
            label=label,
            box=box,
            expression=_expression(label, facts, looks, rng),
            facts=tuple(Fact(key=key, value=value) for key, value in facts.items()),
        )
        for instance_id, label, box, facts in drafts
    )
    file = io.BytesIO()
    picture.save(file, "PNG")
    return Scene(
        scene_id=scene_id,
        split=split,
        image=file.getvalue(),
        width=side,
        height=side,
        caption=_caption(number),
        attribution="drawn by rcvit",
        license="Apache-2.0",
        regions=regions,
    )


def _caption(number: int) -> str:
    word = _NUMBER_WORDS[number] if number < len(_NUMBER_WORDS) else str(number)
    return f"{word} shape{'s' if number > 1 else ''}."


def _looks(number: int, twins_share: float, rng: random.Random) -> list[tuple[str, str, str]]:
    """Distinct (shape, color, size) triples, so that shape, color and size together name one object.

    In `twins_share` of the scenes two objects have one shape, and only looks tell them apart.
    """
    triples = [(shape, color, size) for shape in SHAPES for color in COLORS for size in SIZES]
    chosen = rng.sample(triples, number)
    if number > 1 and rng.random() < twins_share:
        shape = chosen[0][0]
        chosen[1] = rng.choice([t for t in triples if t[0] == shape and t not in chosen])
    return chosen


def _place(number: int, side: int, twins_share: float, rng: random.Random) -> list[_Object]:
    gap = max(1, _GAP * side // 112)
    for _ in range(300):  # an unlucky start can leave no room for the last object
        placed: list[_Object] = []
        for shape, color, size in _looks(number, twins_share, rng):
            smallest, largest = (limit * side // 112 for limit in SIZES[size])
            for _ in range(40):
                extent = rng.randint(smallest, largest)
                x, y = (rng.randint(1, side - extent - 1) for _ in range(2))
                if all(
                    x + extent + gap <= o.x or o.x + o.side + gap <= x
                    or y + extent + gap <= o.y or o.y + o.side + gap <= y
                    for o in placed
                ):  # fmt: skip
                    placed.append(_Object(shape, color, size, x, y, extent))
                    break
        if len(placed) == number:
            return placed
    raise ParamsError(
        f"source.max_regions: {number} objects do not fit an image of {side} x {side} pixels",
        hint="lower source.max_regions in params.yaml; objects grow with source.image_size",
    )


def _ground(side: int, rng: random.Random) -> Image.Image:
    red, green, blue = (rng.randint(*_GROUND) for _ in range(3))
    downwards = Image.linear_gradient("L").resize((side, side))
    rightwards = downwards.transpose(Image.Transpose.TRANSPOSE)
    bands = (
        rightwards.point([red + (level - 127) * _SHADE // 127 for level in range(256)]),
        downwards.point([green + (level - 127) * _SHADE // 127 for level in range(256)]),
        Image.new("L", (side, side), blue),
    )
    return Image.merge("RGB", bands)


def _mask(shape: str, side: int) -> Image.Image:
    mask = Image.new("1", (side, side))
    draw = ImageDraw.Draw(mask)
    if shape == "circle":
        draw.ellipse((0, 0, side - 1, side - 1), fill=1)
    else:
        draw.polygon([(x * (side - 1), y * (side - 1)) for x, y in SHAPES[shape]], fill=1)
    return mask


def _expression(
    label: str, facts: dict[str, str], looks: list[tuple[str, dict[str, str]]], rng: random.Random
) -> str:
    """A random one of the short expressions that fit this object alone, else a longer one."""
    forms: list[tuple[str, ...]] = [("color",), ("color",), (), ("size",), ("position",)]
    rng.shuffle(forms)
    for keys in [*forms, ("size", "color"), ("color", "position"), ("size", "color", "position")]:
        same = Counter((other, *(seen[key] for key in keys)) for other, seen in looks)
        if same[(label, *(facts[key] for key in keys))] == 1:
            break
    words = ["the", *(facts[key] for key in keys if key != "position"), label]
    return " ".join([*words, *([facts["position"]] if "position" in keys else [])])
