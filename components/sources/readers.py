"""The readers by kind. A new source is one file with a function like these, and its line here and in
`PhotoKind` (components/params.py).
"""

from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple, get_args

from components.params import PhotoKind
from components.sources.coco import read_coco
from components.sources.flickr30k_entities import read_flickr30k_entities
from components.sources.photos import Photo, PhotoRecord, open_photos
from components.sources.records import Mistake, Mistakes
from components.sources.refcoco import read_refcoco
from components.sources.toloka import read_toloka
from components.sources.visual_genome import read_visual_genome

# From a file or folder to the records that are sound and the annotation files that were read.
Reader = Callable[[Path, Mistakes], tuple[list[PhotoRecord], list[Path]]]

READERS: dict[PhotoKind, Reader] = {
    "coco": read_coco,
    "refcoco": read_refcoco,
    "flickr30k_entities": read_flickr30k_entities,
    "visual_genome": read_visual_genome,
    "toloka": read_toloka,
}
assert set(READERS) == set(get_args(PhotoKind))


class Reading(NamedTuple):
    """What a source gave."""

    photos: list[Photo]
    files: list[Path]  # the annotation files, the main one first
    folder: Path  # what file names are relative to
    skipped: list[Mistake]  # broken records that were left out


def read_photos(kind: PhotoKind, path: Path, *, skip_broken: bool) -> Reading:
    """Read and check a source and every image it names.

    Args:
        kind: of the source.
        path: the file or folder that its reader takes.
        skip_broken: leave broken records out, and say so, instead of refusing the whole source.

    Raises:
        DataError: when the path holds no such source; for broken records with up to 20 of them (place, cure)
            and their total.
    """
    mistakes = Mistakes(path)
    records, files = READERS[kind](path, mistakes)
    folder = path if path.is_dir() else path.parent
    photos = open_photos(folder, records, mistakes)
    if not skip_broken:
        mistakes.raise_any()
    return Reading(photos, files, folder, mistakes.found)
