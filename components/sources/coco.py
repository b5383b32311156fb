"""COCO JSON with phrases: checked whole, every mistake of the file reported together.

Boxes are pixels `[x, y, w, h]` at the door and 0..1000 corners inside. Fields beyond COCO's own, all
optional: `phrase` on an annotation (a referring expression), `concept_id` (the same object in several
images), `attribution` on an image, and `captions`.
"""

import re
from collections import Counter, defaultdict
from collections.abc import Mapping
from pathlib import Path

from tqdm import tqdm

from components.rcmu import Box, Fact, Region, Scene, Split, normalise, without_citation_marks
from components.rcmu.images import decode_image, pixel_digest
from components.rcmu.models import Frozen
from components.sources.coco_records import CocoTables, Id, ImageRecord, LicenseRecord, Mistakes, load_json
from components.sources.geometry import position_of, scaled_box

_ROUNDING = 0.5  # pixels that a box may reach over the edge
_POSITION_WORDS = frozenset({"left", "right", "middle", "center", "centre"})


class BoxedObject(Frozen):
    """One checked annotation."""

    annotation_id: str
    instance_id: str
    label: str
    box: Box
    phrase: str  # empty when the file gives none
    crowd: bool


class Photo(Frozen):
    """One checked image record with its annotations. `path` is the file, `name` its path in the folder."""

    scene_id: str
    path: Path
    name: str
    width: int  # pixels
    height: int  # pixels
    caption: str
    attribution: str
    objects: tuple[BoxedObject, ...]


def read_coco(annotations: Path) -> tuple[Photo, ...]:
    """Read and check a COCO JSON and every image it names, in `images/` beside it or beside it.

    Raises:
        DataError: with up to 20 of the mistakes (record number, id, cure) and their total.
    """
    mistakes = Mistakes(annotations)
    content = load_json(annotations)
    records = CocoTables(content, mistakes)
    photos = _photos(annotations.parent, records, mistakes)
    mistakes.raise_any()
    return tuple(photos)


def _photos(folder: Path, records: CocoTables, mistakes: Mistakes) -> list[Photo]:
    objects: defaultdict[Id, list[BoxedObject]] = defaultdict(list)
    images = {image.id: image for _, image in records.images}
    for where, annotation in records.annotations:
        target = images.get(annotation.image_id)
        if target is None:
            mistakes.add(where, f"image_id {annotation.image_id} names no image: correct or remove it")
            continue
        if annotation.category_id not in records.labels:
            mistakes.add(where, f"category_id {annotation.category_id} names no category: correct it")
            continue
        try:
            box = _box(annotation.bbox, target)
        except ValueError as error:
            mistakes.add(where, str(error))
            continue
        objects[target.id].append(
            BoxedObject(
                annotation_id=str(annotation.id),
                instance_id=f"coco-annotation-{annotation.id}"
                if annotation.concept_id is None
                else f"coco-concept-{annotation.concept_id}",
                label=records.labels[annotation.category_id],
                box=box,
                phrase=without_citation_marks(normalise(annotation.phrase or "")).rstrip(" .,;:!?"),
                crowd=annotation.iscrowd != 0,
            )
        )
    found = []
    pictures: dict[str, str] = {}  # digest of the pixels -> the record that has them
    progress = tqdm(records.images, desc="images", unit="image", mininterval=2)
    for where, image in progress:
        path = _checked_file(folder, image, where, pictures, mistakes)
        if path is not None:
            found.append(
                Photo(
                    scene_id=f"coco-{image.id}",
                    path=path,
                    name=path.relative_to(folder.resolve()).as_posix(),
                    width=image.width,
                    height=image.height,
                    caption=records.captions.get(image.id, ""),
                    attribution=_attribution(image, records.licenses),
                    objects=tuple(objects[image.id]),
                )
            )
    return found


def _box(bbox: list[float], image: ImageRecord) -> Box:
    x, y, w, h = bbox
    if w <= 0 or h <= 0:
        raise ValueError(f"the box {bbox} has x2 <= x1 or y2 <= y1: width and height must be above 0")
    x2, y2 = x + w, y + h
    if min(x, y) < -_ROUNDING or x2 > image.width + _ROUNDING or y2 > image.height + _ROUNDING:
        raise ValueError(
            f"the box {bbox} leaves its image of {image.width} x {image.height} pixels: clip the box"
        )
    try:
        return scaled_box(
            max(x, 0.0),
            max(y, 0.0),
            min(x2, float(image.width)),
            min(y2, float(image.height)),
            width=image.width,
            height=image.height,
        )
    except ValueError:
        raise ValueError(
            f"nothing is left of the box {bbox} on the 0..1000 grid of the prompt: remove the record"
        ) from None


def _checked_file(
    folder: Path, image: ImageRecord, where: str, pictures: dict[str, str], mistakes: Mistakes
) -> Path | None:
    try:
        path = _located(folder, image.file_name)
        pixels = decode_image(path.read_bytes())
    except (ValueError, OSError, RuntimeError) as error:  # RuntimeError: a loop of links
        what = error.strerror if isinstance(error, OSError) else str(error)
        mistakes.add(where, f"file_name {image.file_name!r}: {what}")
        return None
    if pixels.size != (image.width, image.height):
        mistakes.add(
            where,
            f"the file is {pixels.width} x {pixels.height} pixels, the record says "
            f"{image.width} x {image.height}: correct width and height, and check the boxes",
        )
        return None
    digest = pixel_digest(pixels)
    if digest in pictures:
        mistakes.add(
            where,
            f"the same picture as {pictures[digest]}: remove one, or it could stand in both splits",
        )
        return None
    pictures[digest] = where
    return path


def _located(folder: Path, file_name: str) -> Path:
    """The image file, links followed. Raises ValueError when it is missing or outside `folder`."""
    inside = folder.resolve()
    if "\0" in file_name:
        raise ValueError("the path holds a zero byte: rename the file")
    candidates = [(inside / "images" / file_name).resolve(), (inside / file_name).resolve()]
    if not all(path.is_relative_to(inside) for path in candidates):
        raise ValueError(f"the path leaves {folder}: put the file under that folder")
    for path in candidates:
        if path.is_file():
            return path
    raise ValueError("no such file, neither in images/ beside the JSON nor beside it: add it")


def _attribution(image: ImageRecord, licenses: Mapping[Id, LicenseRecord]) -> str:
    licence = licenses.get(image.license) if image.license is not None else None
    parts = [
        image.attribution or image.flickr_url or image.coco_url,
        image.license_name or (licence.name if licence else None),
        image.license_url or (licence.url if licence else None),
    ]
    return without_citation_marks(normalise("; ".join(part for part in parts if part)))


def usable_regions(photo: Photo, *, max_regions: int) -> tuple[tuple[Region, ...], dict[str, str]]:
    """The regions of a photo that can be referred to, the largest first, and annotation id -> why skipped."""
    labels = Counter(item.label.casefold() for item in photo.objects)
    expressions = {
        item.annotation_id: item.phrase or f"the {item.label}"
        for item in photo.objects
        if not item.crowd and (item.phrase or labels[item.label.casefold()] == 1)
    }
    uses = Counter(expression.casefold() for expression in expressions.values())
    skipped: dict[str, str] = {}
    kept: list[BoxedObject] = []
    for item in photo.objects:
        if item.crowd:
            skipped[item.annotation_id] = "iscrowd"
        elif item.annotation_id not in expressions:
            skipped[item.annotation_id] = "no phrase, and the label is not unique in its image"
        elif uses[expressions[item.annotation_id].casefold()] > 1:
            skipped[item.annotation_id] = "the phrase is not unique in its image"
        else:
            kept.append(item)
    kept.sort(key=lambda item: -_area(item.box))  # stable: ties stay in the file's order
    for item in kept[max_regions:]:
        skipped[item.annotation_id] = "beyond the largest source.max_regions of its image"
    regions = tuple(_region(item, expressions[item.annotation_id]) for item in kept[:max_regions])
    return regions, skipped


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
    return Scene(
        scene_id=photo.scene_id,
        split=split,
        image=photo.path.read_bytes(),
        width=photo.width,
        height=photo.height,
        caption=photo.caption,
        attribution=photo.attribution,
        regions=regions,
    )
