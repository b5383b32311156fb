"""Visual Genome: objects with names, and region descriptions.

A folder with `image_data.json`, `objects.json`, `region_descriptions.json` and the images, which are looked
for by the last part of their `url`. A description is given to the object whose box it covers best, from an
intersection over union of 0.7 on; the first one counts (own choice: the data set does not link the two).
"""

from collections import defaultdict
from collections.abc import Mapping
from pathlib import Path, PurePosixPath
from typing import Any
from urllib.parse import urlsplit

from pydantic import Field, FiniteFloat

from components.errors import DataError
from components.rcmu import Box
from components.sources.photos import BoxedObject, PhotoRecord, as_expression, pixel_box
from components.sources.records import Id, Mistakes, Record, Text, clean_label, load_json, parse_records

_COVERS = 0.7


class _Image(Record):
    image_id: Id
    url: Text = Field(min_length=1)
    width: int = Field(gt=0)
    height: int = Field(gt=0)


class _Objects(Record):
    image_id: Id
    objects: list[Any]


class _Object(Record):
    object_id: Id
    names: list[Text] = Field(min_length=1)
    x: FiniteFloat
    y: FiniteFloat
    w: FiniteFloat
    h: FiniteFloat


class _Descriptions(Record):
    id: Id
    regions: list[Any]


class _Description(Record):
    region_id: Id
    phrase: Text
    x: FiniteFloat
    y: FiniteFloat
    width: FiniteFloat
    height: FiniteFloat


def read_visual_genome(path: Path, mistakes: Mistakes) -> tuple[list[PhotoRecord], list[Path]]:
    """The photos of a folder. Raises DataError when a file is not what it should be."""
    files = [path / name for name in ("image_data.json", "objects.json", "region_descriptions.json")]
    images, objects, descriptions = (_listed(file) for file in files)
    known = parse_records(images, _Image, mistakes, place="image_data.json", key="image_id")
    sizes = {image.image_id: image for _, image in known}
    boxed = _boxed(objects, sizes, mistakes)
    phrases = _phrases(descriptions, sizes, boxed, mistakes)
    records = [
        PhotoRecord(
            where=where,
            scene_id=f"vg-{image.image_id}",
            file_name=PurePosixPath(urlsplit(image.url).path).name,
            width=image.width,
            height=image.height,
            caption="",
            attribution=image.url,
            objects=tuple(
                item.model_copy(update={"phrase": phrases.get(item.object_id, "")})
                for item in boxed.get(image.image_id, ())
            ),
        )
        for where, image in known
    ]
    return records, files


def _listed(file: Path) -> list[Any]:
    content = load_json(file)
    if not isinstance(content, list):
        raise DataError(f"{file} holds no list", hint="it should be Visual Genome's file of that name")
    return content


def _boxed(
    records: list[Any], images: Mapping[Id, _Image], mistakes: Mistakes
) -> dict[Id, list[BoxedObject]]:
    boxed: defaultdict[Id, list[BoxedObject]] = defaultdict(list)
    seen: dict[Id, str] = {}
    for place, group in parse_records(records, _Objects, mistakes, place="objects.json", key="image_id"):
        image = images.get(group.image_id)
        if image is None:
            mistakes.add(place, f"image_id {group.image_id} is not in image_data.json: correct or remove it")
            continue
        listed = parse_records(group.objects, _Object, mistakes, place=f"{place}.objects", key="object_id")
        for where, item in listed:
            if item.object_id in seen:
                mistakes.add(where, f"the object_id is that of {seen[item.object_id]}: give each its own")
                continue
            seen[item.object_id] = where
            label = clean_label(item.names[0], where=where, mistakes=mistakes)
            box = _box(item.x, item.y, item.w, item.h, image, where, mistakes)
            if label and box:
                boxed[group.image_id].append(
                    BoxedObject(
                        object_id=str(item.object_id),
                        instance_id=f"vg-object-{item.object_id}",
                        label=label,
                        box=box,
                        phrase="",
                    )
                )
    return boxed


def _phrases(
    records: list[Any],
    images: Mapping[Id, _Image],
    boxed: Mapping[Id, list[BoxedObject]],
    mistakes: Mistakes,
) -> dict[str, str]:
    """Object id -> its first description."""
    phrases: dict[str, str] = {}
    for place, group in parse_records(
        records, _Descriptions, mistakes, place="region_descriptions.json", key="id"
    ):
        image = images.get(group.id)
        if image is None:
            mistakes.add(place, f"id {group.id} is not in image_data.json: correct or remove it")
            continue
        listed = parse_records(
            group.regions, _Description, mistakes, place=f"{place}.regions", key="region_id"
        )
        for where, item in listed:
            box = _box(item.x, item.y, item.width, item.height, image, where, mistakes)
            if box is None:
                continue
            covered = [(_overlap(box, candidate.box), candidate) for candidate in boxed.get(group.id, ())]
            share, nearest = max(covered, key=lambda pair: pair[0], default=(0.0, None))
            if nearest is not None and share >= _COVERS:
                phrases.setdefault(nearest.object_id, as_expression(item.phrase))
    return phrases


def _box(
    x: float, y: float, width: float, height: float, image: _Image, where: str, mistakes: Mistakes
) -> Box | None:
    try:
        return pixel_box((x, y, x + width, y + height), width=image.width, height=image.height)
    except ValueError as error:
        mistakes.add(where, str(error))
        return None


def _overlap(one: Box, other: Box) -> float:
    """Intersection over union."""
    width = min(one.x2, other.x2) - max(one.x1, other.x1)
    height = min(one.y2, other.y2) - max(one.y1, other.y1)
    if width <= 0 or height <= 0:
        return 0.0
    areas = sum((box.x2 - box.x1) * (box.y2 - box.y1) for box in (one, other))
    return width * height / (areas - width * height)
