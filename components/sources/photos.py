"""Photos with boxed objects, whatever file they came from: the boxes and the picture files checked."""

from collections.abc import Iterable
from pathlib import Path

from tqdm import tqdm

from components.rcmu import Box, normalise, without_citation_marks
from components.rcmu.images import decode_image, pixel_digest
from components.rcmu.models import Frozen
from components.sources.geometry import scaled_box
from components.sources.records import Mistakes

_ROUNDING = 0.5  # pixels that a box may reach over the edge


class BoxedObject(Frozen):
    """One checked annotation."""

    object_id: str  # of the annotation, in its source
    instance_id: str  # the same object in another photo carries the same id
    label: str
    box: Box
    phrase: str  # a referring expression, empty when the source gives none
    left_out: str = ""  # why nobody can be asked about it: a crowd, a group


class CaptionMention(Frozen):
    """Where the caption speaks of an object: `caption[start:end]`."""

    instance_id: str
    start: int
    end: int


class PhotoRecord(Frozen):
    """What a source says about one image: checked in itself, its picture not yet opened."""

    where: str  # the record, for messages
    scene_id: str
    file_name: str
    width: int  # pixels
    height: int  # pixels
    caption: str  # empty when the source gives none
    mentions: tuple[CaptionMention, ...] = ()
    attribution: str
    license: str = ""  # of the image, by name; empty when the source gives none
    objects: tuple[BoxedObject, ...]


class Photo(Frozen):
    """A record whose picture is there and sound. `name` is the file's path in the folder of the source."""

    record: PhotoRecord
    path: Path
    name: str


def pixel_box(corners: tuple[float, float, float, float], *, width: int, height: int) -> Box:
    """The box of x1, y1, x2, y2 in pixels, which may reach half a pixel over the edge.

    Raises:
        ValueError: with what is wrong and its cure.
    """
    x1, y1, x2, y2 = corners
    shown = "({:g},{:g}),({:g},{:g})".format(*corners)
    if x2 <= x1 or y2 <= y1:
        raise ValueError(f"the box {shown} has x2 <= x1 or y2 <= y1: width and height must be above 0")
    if min(x1, y1) < -_ROUNDING or x2 > width + _ROUNDING or y2 > height + _ROUNDING:
        raise ValueError(f"the box {shown} leaves its image of {width} x {height} pixels: clip the box")
    try:
        return scaled_box(
            max(x1, 0.0),
            max(y1, 0.0),
            min(x2, float(width)),
            min(y2, float(height)),
            width=width,
            height=height,
        )
    except ValueError:
        raise ValueError(
            f"nothing is left of the box {shown} on the 0..1000 grid of the prompt: remove the record"
        ) from None


def as_phrase(text: str) -> str:
    """Outside text as a phrase within a sentence: white space and citation marks made plain, no full stop."""
    return without_citation_marks(normalise(text)).rstrip(" .,;:!?")


def as_expression(text: str) -> str:
    """A noun phrase as an expression that names one object: "A white cat" becomes "the white cat"."""
    words = as_phrase(text).split()
    if words and words[0].casefold() in ("a", "an", "the"):
        del words[0]
    return " ".join(["the", *words]) if words else ""


def open_photos(folder: Path, records: Iterable[PhotoRecord], mistakes: Mistakes) -> list[Photo]:
    """The records whose pictures are sound: in `folder` or its `images/`, of the stated size, none twice."""
    photos = []
    pictures: dict[str, str] = {}  # digest of the pixels -> the record that has them
    for record in tqdm(list(records), desc="images", unit="image", mininterval=2):
        path = _checked_file(folder, record, pictures, mistakes)
        if path is not None:
            name = path.relative_to(folder.resolve()).as_posix()
            photos.append(Photo(record=record, path=path, name=name))
    return photos


def _checked_file(
    folder: Path, record: PhotoRecord, pictures: dict[str, str], mistakes: Mistakes
) -> Path | None:
    try:
        path = located(folder, record.file_name)
        pixels = decode_image(path.read_bytes())
    except (ValueError, OSError, RuntimeError) as error:  # RuntimeError: a loop of links
        what = error.strerror if isinstance(error, OSError) else str(error)
        mistakes.add(record.where, f"file_name {record.file_name!r}: {what}")
        return None
    if pixels.size != (record.width, record.height):
        mistakes.add(
            record.where,
            f"the file is {pixels.width} x {pixels.height} pixels, the record says "
            f"{record.width} x {record.height}: correct width and height, and check the boxes",
        )
        return None
    digest = pixel_digest(pixels)
    if digest in pictures:
        mistakes.add(
            record.where,
            f"the same picture as {pictures[digest]}: remove one, or it could stand in both splits",
        )
        return None
    pictures[digest] = record.where
    return path


def located(folder: Path, file_name: str) -> Path:
    """The image file, in `folder` or its `images/`. Raises ValueError when it is missing or outside."""
    inside = folder.resolve()
    if "\0" in file_name:
        raise ValueError("the path holds a zero byte: rename the file")
    candidates = [(inside / "images" / file_name).resolve(), (inside / file_name).resolve()]
    if not all(path.is_relative_to(inside) for path in candidates):
        raise ValueError(f"the path leaves {folder}: put the file under that folder")
    for path in candidates:
        if path.is_file():
            return path
    raise ValueError("no such file, neither in images/ beside the annotations nor beside them: add it")
