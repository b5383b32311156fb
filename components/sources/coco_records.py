"""The records of a COCO JSON: parsed strictly, all mistakes of the file collected."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, TypeVar

import pydantic
from pydantic import AfterValidator, BaseModel, ConfigDict, Field, FiniteFloat, StringConstraints

from components.errors import DataError
from components.rcmu import normalise, without_citation_marks
from components.rcmu.text import LABEL_FORBIDDEN

_SHOWN = 20  # mistakes in the message


def _is_unicode(text: str) -> str:
    text.encode()  # half of a surrogate pair, which JSON can escape, fits no file: a ValueError
    return text


Text = Annotated[str, AfterValidator(_is_unicode)]
# A string id becomes part of scene and turn ids.
Id = int | Annotated[str, StringConstraints(pattern=r"^[\w.-]+$")]


class _Record(BaseModel):
    """A record of the file: strict types, further fields are let be."""

    model_config = ConfigDict(frozen=True, strict=True, extra="ignore")

    id: Id


class LicenseRecord(_Record):
    """A licence that images refer to by id."""

    name: Text | None = None
    url: Text | None = None


class _Category(_Record):
    name: Text


class ImageRecord(_Record):
    """An image file with its size in pixels."""

    file_name: Text = Field(min_length=1)
    width: int = Field(gt=0)
    height: int = Field(gt=0)
    license: Id | None = None
    license_name: Text | None = None
    license_url: Text | None = None
    attribution: Text | None = None
    flickr_url: Text | None = None
    coco_url: Text | None = None


class AnnotationRecord(_Record):
    """A boxed object: `bbox` is x, y, width, height in pixels."""

    image_id: Id
    category_id: Id
    bbox: list[FiniteFloat] = Field(min_length=4, max_length=4)
    iscrowd: int = 0
    phrase: Text | None = None
    concept_id: Id | None = None


class _Caption(_Record):
    image_id: Id
    caption: Text


_R = TypeVar("_R", bound=_Record)


class Mistakes:
    """Collects what is wrong with a file, so that all of it is told at once."""

    def __init__(self, file: Path) -> None:
        self._file = file
        self._lines: list[str] = []

    def add(self, where: str, what: str) -> None:
        """Note a mistake of the record named by `where`."""
        self._lines.append(f"  {where}: {what}")

    def raise_any(self) -> None:
        """Raise a DataError with the first mistakes and their total, if there are any."""
        if not self._lines:
            return
        shown = self._lines[:_SHOWN]
        if len(self._lines) > _SHOWN:
            shown.append(f"  ... and {len(self._lines) - _SHOWN} more")
        raise DataError(
            f"{self._file} has {len(self._lines)} mistake(s) (records count from 0):\n" + "\n".join(shown),
            hint="repair or remove the records named above, then import the folder again",
        )


def load_json(annotations: Path) -> Mapping[str, Any]:
    """The JSON object of the file, with COCO's three lists, not yet looked into.

    Raises:
        DataError: when there is no such file, JSON or list.
    """
    try:
        content = json.loads(annotations.read_bytes())
    except OSError as error:
        raise DataError(
            f"{annotations} cannot be read: {error.strerror}",
            hint="`rcvit data import PATH` brings photos in, `dvc pull` fetches imported ones",
        ) from error
    except (ValueError, RecursionError) as error:
        raise DataError(f"{annotations} is not JSON: {error}", hint="repair the file there") from error
    missing = [
        key
        for key in ("images", "annotations", "categories")
        if not isinstance(content, dict) or not isinstance(content.get(key), list)
    ]
    if missing:
        raise DataError(
            f"{annotations} is not a COCO file: no list under {', '.join(missing)}",
            hint="the file needs lists `images`, `annotations` and `categories`, as COCO's instances_*.json",
        )
    assert isinstance(content, dict)
    if not content["images"]:
        raise DataError(f"{annotations} names no image", hint="fill the list under `images`")
    return content


class CocoTables:
    """The file's lists, parsed; each record with the words that name its place."""

    def __init__(self, content: Mapping[str, Any], mistakes: Mistakes) -> None:
        def parsed(key: str, model: type[_R]) -> list[tuple[str, _R]]:
            records = content.get(key)
            return _parsed(records if isinstance(records, list) else [], key, model, mistakes)

        self.licenses = {r.id: r for _, r in parsed("licenses", LicenseRecord)}
        self.labels: dict[Id, str] = {}
        for where, category in parsed("categories", _Category):
            label = without_citation_marks(normalise(category.name))
            if not label:
                mistakes.add(where, "the name is empty: give the category a name")
            if LABEL_FORBIDDEN in label:
                mistakes.add(where, f"the name {label!r} holds {LABEL_FORBIDDEN!r}: rename the category")
            self.labels[category.id] = label
        self.images = parsed("images", ImageRecord)
        self.annotations = parsed("annotations", AnnotationRecord)
        self.captions: dict[Id, str] = {}
        for _, caption in parsed("captions", _Caption):
            self.captions.setdefault(caption.image_id, without_citation_marks(normalise(caption.caption)))


def _parsed(records: list[Any], key: str, model: type[_R], mistakes: Mistakes) -> list[tuple[str, _R]]:
    parsed: list[tuple[str, _R]] = []
    seen: dict[str, str] = {}  # as text: 1 and "1" would make the same scene id
    for number, record in enumerate(records):
        where = f"{key}[{number}]"
        if isinstance(record, dict) and isinstance(record.get("id"), int | str):
            where += f" (id {record['id']!r:.40})"
        try:
            item = model.model_validate(record)
        except pydantic.ValidationError as error:
            for mistake in error.errors(include_url=False):
                place = ".".join(str(part) for part in mistake["loc"]) or "record"
                mistakes.add(where, f"{place}: {mistake['msg']} (found: {mistake['input']!r:.60})")
            continue
        if str(item.id) in seen:
            mistakes.add(where, f"the id is that of {seen[str(item.id)]}: give each record its own")
            continue
        seen[str(item.id)] = where
        parsed.append((where, item))
    return parsed
