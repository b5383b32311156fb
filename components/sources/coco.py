"""COCO JSON: instances with captions, and phrases where the file has them.

Boxes are pixels `[x, y, w, h]`. Fields beyond COCO's own, all optional: `phrase` on an annotation (an
expression that refers to it), `concept_id` (the same object in several images), `attribution` on an image,
and `captions`.
Beside `instances_NAME.json` a `captions_NAME.json` is read where there is one, as COCO's downloads have it.
"""

from collections import defaultdict
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pydantic import Field, FiniteFloat

from components.errors import DataError
from components.rcmu import normalise, without_citation_marks
from components.sources.photos import BoxedObject, PhotoRecord, as_phrase, pixel_box
from components.sources.records import Id, Mistakes, R, Record, Text, clean_label, load_json, parse_records

ANNOTATIONS = "annotations.json"


class _License(Record):
    id: Id
    name: Text | None = None
    url: Text | None = None


class _Category(Record):
    id: Id
    name: Text


class ImageRecord(Record):
    """An image file with its size in pixels."""

    id: Id
    file_name: Text = Field(min_length=1)
    width: int = Field(gt=0)
    height: int = Field(gt=0)
    license: int | Text | None = None  # an id of `licenses`, or a name by itself
    license_name: Text | None = None
    license_url: Text | None = None
    attribution: Text | None = None
    flickr_url: Text | None = None
    coco_url: Text | None = None


class AnnotationRecord(Record):
    """A boxed object: `bbox` is x, y, width, height in pixels."""

    id: Id
    image_id: Id
    category_id: Id
    bbox: list[FiniteFloat] = Field(min_length=4, max_length=4)
    iscrowd: int = 0
    phrase: Text | None = None
    concept_id: Id | None = None


class _Caption(Record):
    id: Id
    image_id: Id
    caption: Text


class CocoTables:
    """The file's lists, parsed; each record with the words that name its place, the file's name first."""

    def __init__(self, name: str, content: Mapping[str, Any], mistakes: Mistakes) -> None:
        def parsed(key: str, model: type[R]) -> list[tuple[str, R]]:
            records = content.get(key)
            listed = records if isinstance(records, list) else []
            return parse_records(listed, model, mistakes, place=f"{name}: {key}", key="id")

        self.licenses = {r.id: r for _, r in parsed("licenses", _License)}
        self.labels: dict[Id, str] = {}
        for where, category in parsed("categories", _Category):
            if label := clean_label(category.name, where=where, mistakes=mistakes):
                self.labels[category.id] = label
        self.images = parsed("images", ImageRecord)
        self.annotations = parsed("annotations", AnnotationRecord)
        self.captions: dict[Id, str] = {}
        self.add_captions(content.get("captions"), mistakes, place=f"{name}: captions")

    def add_captions(self, records: Any, mistakes: Mistakes, *, place: str) -> None:
        """The first caption of each image; of an image that is not in the file, a mistake."""
        known = {image.id for _, image in self.images}
        listed = records if isinstance(records, list) else []
        for where, caption in parse_records(listed, _Caption, mistakes, place=place, key="id"):
            if caption.image_id in known:
                text = without_citation_marks(normalise(caption.caption))
                self.captions.setdefault(caption.image_id, text)
            else:
                mistakes.add(where, f"image_id {caption.image_id} names no image: correct or remove it")


def read_coco(path: Path, mistakes: Mistakes) -> tuple[list[PhotoRecord], list[Path]]:
    """The photos of a COCO JSON, or of the annotations.json of a folder.

    Raises:
        DataError: when the file is none of COCO's.
    """
    file = path / ANNOTATIONS if path.is_dir() else path
    tables = load_tables(file, mistakes)
    files = [file]
    captions = file.with_name(file.name.replace("instances", "captions", 1))
    if captions != file and captions.exists():
        content = load_json(captions)
        records = content.get("annotations") if isinstance(content, dict) else None
        if not isinstance(records, list):
            raise DataError(
                f"{captions} has no list under annotations", hint="COCO's captions_*.json has one"
            )
        tables.add_captions(records, mistakes, place=f"{captions.name}: annotations")
        files.append(captions)
    return photo_records(tables, mistakes), files


def load_tables(file: Path, mistakes: Mistakes) -> CocoTables:
    """The tables of a COCO JSON. Raises DataError when it is none, or names no image."""
    content = load_json(file)
    missing = [
        key
        for key in ("images", "annotations", "categories")
        if not isinstance(content, dict) or not isinstance(content.get(key), list)
    ]
    if missing:
        raise DataError(
            f"{file} is not a COCO file: no list under {', '.join(missing)}",
            hint="the file needs lists `images`, `annotations` and `categories`, as COCO's instances_*.json",
        )
    if not content["images"]:
        raise DataError(f"{file} names no image", hint="fill the list under `images`")
    return CocoTables(file.name, content, mistakes)


def photo_records(
    tables: CocoTables, mistakes: Mistakes, phrases: Mapping[Id, str] | None = None
) -> list[PhotoRecord]:
    """Each image with its annotations; `phrases` (annotation id -> phrase) go before the file's own."""
    objects: defaultdict[Id, list[BoxedObject]] = defaultdict(list)
    images = {image.id: image for _, image in tables.images}
    for where, annotation in tables.annotations:
        target = images.get(annotation.image_id)
        if target is None:
            mistakes.add(where, f"image_id {annotation.image_id} names no image: correct or remove it")
            continue
        if annotation.category_id not in tables.labels:
            mistakes.add(where, f"category_id {annotation.category_id} names no category: correct it")
            continue
        x, y, width, height = annotation.bbox
        try:
            box = pixel_box((x, y, x + width, y + height), width=target.width, height=target.height)
        except ValueError as error:
            mistakes.add(where, str(error))
            continue
        objects[target.id].append(
            BoxedObject(
                object_id=str(annotation.id),
                instance_id=f"coco-annotation-{annotation.id}"
                if annotation.concept_id is None
                else f"coco-concept-{annotation.concept_id}",
                label=tables.labels[annotation.category_id],
                box=box,
                phrase=(phrases or {}).get(annotation.id) or as_phrase(annotation.phrase or ""),
                left_out="iscrowd" if annotation.iscrowd else "",
            )
        )
    return [
        PhotoRecord(
            where=where,
            scene_id=f"coco-{image.id}",
            file_name=image.file_name,
            width=image.width,
            height=image.height,
            caption=tables.captions.get(image.id, ""),
            attribution=_attribution(image, tables.licenses),
            license=_license(image, tables.licenses),
            objects=tuple(objects[image.id]),
        )
        for where, image in tables.images
    ]


def _license(image: ImageRecord, licenses: Mapping[Id, _License]) -> str:
    known = licenses.get(image.license) if image.license is not None else None
    named = image.license if known is None and isinstance(image.license, str) else None
    return normalise(image.license_name or (known.name if known else named) or "")


def _attribution(image: ImageRecord, licenses: Mapping[Id, _License]) -> str:
    known = licenses.get(image.license) if image.license is not None else None
    parts = [
        image.attribution or image.flickr_url or image.coco_url,
        _license(image, licenses),
        image.license_url or (known.url if known else None),
    ]
    return without_citation_marks(normalise("; ".join(part for part in parts if part)))
