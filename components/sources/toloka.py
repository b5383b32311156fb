"""Toloka WSDM Cup 2023: a question for each image, and the box that answers it.

A CSV file of the columns image, width, height, left, top, right, bottom, question, and the images in
`images/` beside it, by the last part of their URL. The data names no object: each is called "object", and
where an image has several boxes they are told apart by their position alone.
"""

import csv
import io
from pathlib import Path, PurePosixPath
from urllib.parse import urlsplit

from pydantic import Field, FiniteFloat

from components.errors import DataError
from components.sources.photos import BoxedObject, PhotoRecord, pixel_box
from components.sources.records import Mistakes, Record, Text, parse_records, read_file

_LABEL = "object"
_COLUMNS = ("image", "width", "height", "left", "top", "right", "bottom", "question")


class _Row(Record, strict=False):  # every cell of a CSV is text
    image: Text = Field(pattern=r"/[\w.-]+$")
    width: int = Field(gt=0)
    height: int = Field(gt=0)
    left: FiniteFloat
    top: FiniteFloat
    right: FiniteFloat
    bottom: FiniteFloat
    question: Text = Field(min_length=1)


def read_toloka(path: Path, mistakes: Mistakes) -> tuple[list[PhotoRecord], list[Path]]:
    """The photos of a CSV file, or of the only one of a folder. Raises DataError when it is none."""
    file = _csv_file(path)
    try:
        rows = csv.DictReader(io.StringIO(read_file(file).decode(), newline=""), restkey="more")
        missing = [column for column in _COLUMNS if column not in (rows.fieldnames or ())]
        listed = [] if missing else list(rows)
    except (UnicodeDecodeError, csv.Error) as error:
        raise DataError(f"{file} is no CSV file: {error}", hint="repair the file there") from error
    if missing:
        raise DataError(
            f"{file} lacks the column(s) {', '.join(missing)}", hint="the file needs Toloka's columns"
        )
    records: dict[str, PhotoRecord] = {}
    for where, row in parse_records(listed, _Row, mistakes, place=f"{file.name}: rows", key=None):
        name = PurePosixPath(urlsplit(row.image).path).name
        try:
            box = pixel_box((row.left, row.top, row.right, row.bottom), width=row.width, height=row.height)
        except ValueError as error:
            mistakes.add(where, str(error))
            continue
        before = records.get(name)
        if before and (before.width, before.height) != (row.width, row.height):
            mistakes.add(where, f"its image has another size in {before.where}: correct one of them")
            continue
        objects = before.objects if before else ()
        item = BoxedObject(
            object_id=f"{name}-{len(objects)}",
            instance_id=f"toloka-{name}-{len(objects)}",
            label=_LABEL,
            box=box,
            phrase="",
        )
        records[name] = PhotoRecord(
            where=before.where if before else where,
            scene_id=f"toloka-{PurePosixPath(name).stem}",
            file_name=name,
            width=row.width,
            height=row.height,
            caption="",
            attribution=row.image,
            objects=(*objects, item),
        )
    return list(records.values()), [file]


def _csv_file(path: Path) -> Path:
    if not path.is_dir():
        return path
    found = sorted(path.glob("*.csv"))
    if len(found) != 1:
        raise DataError(
            f"{path} has {len(found)} CSV files", hint="name the one to read, a file of the WSDM Cup 2023"
        )
    return found[0]
