"""From a photo's objects to the regions of a scene: which can be named, and what is seen of each."""

import re
from collections import Counter
from typing import NamedTuple

from components.rcmu import Box, Fact, Mention, Region, Scene, Split
from components.sources.geometry import position_of
from components.sources.photos import BoxedObject, Photo

_POSITION_WORDS = frozenset({"left", "right", "middle", "center", "centre"})


class Regions(NamedTuple):
    """The regions that can be referred to, and what became of the rest."""

    regions: tuple[Region, ...]  # the largest first
    skipped: dict[str, str]  # object id -> why
    filled: dict[str, str]  # object id -> what its expression was made of, where the source gives none


def usable_regions(objects: tuple[BoxedObject, ...], *, max_regions: int) -> Regions:
    """The regions of a photo.

    An object without a phrase is called by its label where that names it alone, else by label and position
    where these do (own choice).
    """
    expressions, filled = _expressions(objects)
    uses = Counter(expression.casefold() for expression in expressions.values())
    skipped: dict[str, str] = {}
    kept: list[BoxedObject] = []
    for item in objects:
        if item.left_out:
            skipped[item.object_id] = item.left_out
        elif item.object_id not in expressions:
            skipped[item.object_id] = "no phrase, and label and position are not unique in its image"
        elif uses[expressions[item.object_id].casefold()] > 1:
            skipped[item.object_id] = "the phrase is not unique in its image"
        else:
            kept.append(item)
    kept.sort(key=lambda item: -_area(item.box))  # stable: ties stay in the file's order
    for item in kept[max_regions:]:
        skipped[item.object_id] = "beyond the largest source.max_regions of its image"
    kept = kept[:max_regions]
    regions = tuple(_region(item, expressions[item.object_id]) for item in kept)
    return Regions(
        regions, skipped, {i.object_id: filled[i.object_id] for i in kept if i.object_id in filled}
    )


def _expressions(objects: tuple[BoxedObject, ...]) -> tuple[dict[str, str], dict[str, str]]:
    """Object id -> its expression, and -> what that was made of where the source gives none."""
    # All objects of a label count, those left out too: a crowd of people makes "the person" ambiguous.
    labels = Counter(item.label.casefold() for item in objects)
    placed = Counter((item.label.casefold(), position_of(item.box)) for item in objects)
    expressions, filled = {}, {}
    for item in objects:
        label, position = item.label.casefold(), position_of(item.box)
        if item.left_out:
            continue
        if item.phrase:
            expressions[item.object_id] = item.phrase
        elif labels[label] == 1:
            expressions[item.object_id] = f"the {item.label}"
            filled[item.object_id] = "the label"
        elif placed[label, position] == 1 and all(
            _position_is_plain(other.box, "") for other in objects if other.label.casefold() == label
        ):
            expressions[item.object_id] = f"the {item.label} {position}"
            filled[item.object_id] = "label and position"
    return expressions, filled


def _area(box: Box) -> int:
    return (box.x2 - box.x1) * (box.y2 - box.y1)


def _region(item: BoxedObject, expression: str) -> Region:
    facts = []
    if _position_is_plain(item.box, expression):
        facts.append(Fact(key="position", value=position_of(item.box)))
    if item.phrase:
        facts.append(Fact(key="appearance", value=expression))
    return Region(
        instance_id=item.instance_id,
        label=item.label,
        box=item.box,
        expression=expression,
        facts=tuple(facts),
    )


def _position_is_plain(box: Box, expression: str) -> bool:
    """Whether a third of the image is a fair answer to "Where is it?" (own choice).

    Not for a box wider than half the image, nor where the phrase speaks of another side.
    """
    if box.x2 - box.x1 > 500:
        return False
    words = set(re.findall(r"\w+", expression.casefold())) & _POSITION_WORDS
    return not words or words == set(position_of(box).split()) & _POSITION_WORDS


def scene_of(photo: Photo, regions: tuple[Region, ...], *, split: Split) -> Scene:
    """The scene of a checked photo, its file's bytes as they are."""
    record = photo.record
    index = {region.instance_id: number for number, region in enumerate(regions)}
    return Scene(
        scene_id=record.scene_id,
        split=split,
        image=photo.path.read_bytes(),
        width=record.width,
        height=record.height,
        caption=record.caption,
        attribution=record.attribution,
        license=record.license,
        regions=regions,
        mentions=tuple(
            Mention(region=index[mention.instance_id], start=mention.start, end=mention.end)
            for mention in record.mentions
            if mention.instance_id in index
        ),
    )
