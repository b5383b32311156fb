"""Flickr30k Entities: boxes in XML, sentences in which the phrases for them are marked.

A folder with `Annotations/ID.xml`, `Sentences/ID.txt` and the images `ID.jpg`. Own choices: an object's
expression is its longest phrase, the first of equals; its label the last word before a preposition in its
first phrase; the first sentence is the caption. Several boxes of one entity are a group,
about which nothing is asked.
"""

import re
from collections import defaultdict
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple
from xml.etree import ElementTree

from components.errors import DataError
from components.rcmu import normalise
from components.sources.photos import (
    BoxedObject,
    CaptionMention,
    PhotoRecord,
    as_expression,
    as_phrase,
    pixel_box,
)
from components.sources.records import Mistakes, clean_label, read_file

_PHRASE = re.compile(r"\[/EN#(\d+)(?:/[^\s\]]+)+ ([^\]]+)\]")
_NOT_VISUAL = "0"
_PREPOSITIONS = frozenset(
    ("in", "on", "with", "of", "at", "by", "from", "for", "to", "near", "behind", "beside", "under", "over")
)
_PRONOUNS = frozenset(
    (
        "he",
        "she",
        "it",
        "they",
        "him",
        "her",
        "them",
        "his",
        "its",
        "their",
        "one",
        "another",
        "others",
        "who",
    )
)
# A document type could make a few bytes unpack to gigabytes, or read other files.
_DOCTYPE = re.compile(rb"<!(DOCTYPE|ENTITY)", re.IGNORECASE)


class _Xml(NamedTuple):
    width: int
    height: int
    boxes: dict[str, list[tuple[float, float, float, float]]]  # entity -> corners in pixels
    unboxed: frozenset[str]  # entities that are a scene or have no box


def read_flickr30k_entities(path: Path, mistakes: Mistakes) -> tuple[list[PhotoRecord], list[Path]]:
    """The photos of a folder. Raises DataError when it has no XML file."""
    annotations = sorted((path / "Annotations").glob("*.xml"))
    if not annotations:
        raise DataError(
            f"{path} has no Annotations/*.xml",
            hint="unpack Flickr30k Entities' annotations.zip there: it holds Annotations/ and Sentences/",
        )
    records, files = [], []
    for file in annotations:
        sentences = path / "Sentences" / f"{file.stem}.txt"
        where = f"Annotations/{file.name}"
        try:
            files += [file, sentences]
            records.append(_photo(file, sentences, mistakes))
        except DataError as error:
            mistakes.add(where, error.message)
        except (ElementTree.ParseError, ValueError) as error:
            mistakes.add(where, str(error))
    return records, [file for file in files if file.exists()]


def _photo(file: Path, sentences: Path, mistakes: Mistakes) -> PhotoRecord:
    """Raises ValueError, ParseError or DataError when nothing can be made of the two files."""
    where = f"Annotations/{file.name}"
    xml = _parse(read_file(file), where, mistakes)
    lines = [line for line in read_file(sentences).decode().splitlines() if line.strip()]
    phrases: defaultdict[str, list[str]] = defaultdict(list)
    for number, line in enumerate(lines):
        for entity, phrase in _PHRASE.findall(line):
            if entity == _NOT_VISUAL:
                continue
            if entity in xml.boxes or entity in xml.unboxed:
                phrases[entity].append(as_phrase(phrase))
            else:
                mistakes.add(
                    f"Sentences/{sentences.name}: sentence[{number}]",
                    f"EN#{entity} is not in {file.name}: correct or remove it",
                )
    objects = _objects(file.stem, xml, phrases, where, mistakes)
    caption = _plain(_PHRASE.sub(r"\2", lines[0])) if lines else ""
    return PhotoRecord(
        where=where,
        scene_id=f"flickr30k-{file.stem}",
        file_name=f"{file.stem}.jpg",
        width=xml.width,
        height=xml.height,
        caption=caption,
        mentions=_mentions(file.stem, caption, lines[0] if lines else ""),
        attribution=f"Flickr30k, image {file.stem}",
        objects=tuple(objects),
    )


def _plain(sentence: str) -> str:
    """A sentence of separate tokens as it is written."""
    return re.sub(r" (?=[.,;:!?])", "", as_caption(sentence))


def _mentions(image: str, caption: str, line: str) -> tuple[CaptionMention, ...]:
    """Where the marked phrases of a sentence stand in the caption made of it."""
    found, at = [], 0
    for entity, phrase in _PHRASE.findall(line):
        start = caption.find(as_phrase(phrase), at)
        if entity == _NOT_VISUAL or start < 0:  # a phrase that holds punctuation, which is set anew
            continue
        at = start + len(as_phrase(phrase))
        found.append(CaptionMention(instance_id=f"flickr30k-{image}-{entity}", start=start, end=at))
    return tuple(found)


def as_caption(text: str) -> str:
    """White space and citation marks made plain; the full stop stays."""
    return f"{as_phrase(text)}." if text.strip() else ""


def _parse(content: bytes, where: str, mistakes: Mistakes) -> _Xml:
    if _DOCTYPE.search(content):
        raise ValueError("the file declares a document type or an entity: remove it")
    root = ElementTree.fromstring(content)  # noqa: S314 - without entities there is nothing to expand
    boxes: defaultdict[str, list[tuple[float, float, float, float]]] = defaultdict(list)
    unboxed = set()
    for number, item in enumerate(root.iter("object")):
        names = [name.text.strip() for name in item.iter("name") if name.text]
        if not names:
            mistakes.add(
                f"{where}: object[{number}]", "it has no name: name the entity, a number of the sentences"
            )
            continue
        corners = item.find("bndbox")
        if corners is None:
            unboxed.update(names)
            continue
        try:
            x1, y1, x2, y2 = (_number(corners, side) for side in ("xmin", "ymin", "xmax", "ymax"))
        except ValueError as error:
            mistakes.add(f"{where}: object[{number}] (name {names[0]!r:.40})", str(error))
            continue
        for name in names:
            boxes[name].append((x1, y1, x2, y2))
    size = root.find("size")
    if size is None:
        raise ValueError("there is no size: add width and height of the image")
    width, height = (int(_number(size, side)) for side in ("width", "height"))
    if width <= 0 or height <= 0:
        raise ValueError(f"the size {width} x {height} is not above 0: correct it")
    return _Xml(width, height, dict(boxes), frozenset(unboxed))


def _number(parent: ElementTree.Element, tag: str) -> float:
    text = parent.findtext(tag, default="").strip()
    if not re.fullmatch(r"-?\d+(\.\d+)?", text):
        raise ValueError(f"{tag}: a number should stand there (found: {text!r:.60})")
    return float(text)


def _objects(
    image: str, xml: _Xml, phrases: Mapping[str, Sequence[str]], where: str, mistakes: Mistakes
) -> list[BoxedObject]:
    objects = []
    for entity, corners in xml.boxes.items():
        place = f"{where}: name {entity!r:.40}"
        if not re.fullmatch(r"\d+", entity):
            mistakes.add(place, "an entity is a number of the sentences: correct the name")
            continue
        if not phrases.get(entity):
            mistakes.add(place, "no sentence mentions it: remove the object")
            continue
        label = clean_label(_head(phrases[entity][0]), where=place, mistakes=mistakes)
        for number, box_corners in enumerate(corners):
            try:
                box = pixel_box(box_corners, width=xml.width, height=xml.height)
            except ValueError as error:
                mistakes.add(place, str(error))
                continue
            if label:
                objects.append(
                    BoxedObject(
                        object_id=f"{image}-{entity}" + (f"-{number}" if len(corners) > 1 else ""),
                        instance_id=f"flickr30k-{image}-{entity}",
                        label=label,
                        box=box,
                        phrase=_expression(phrases[entity]),
                        left_out="a group of several boxes" if len(corners) > 1 else "",
                    )
                )
    return objects


def _expression(phrases: Sequence[str]) -> str:
    """The longest phrase that is more than a pronoun, else none."""
    telling = [phrase for phrase in phrases if phrase.casefold() not in _PRONOUNS]
    return as_expression(max(telling, key=lambda phrase: len(phrase.split()))) if telling else ""


def _head(phrase: str) -> str:
    """ "A man in a blue jacket" -> "man"."""
    words = normalise(phrase).split()
    until = next((n for n, word in enumerate(words) if n and word.casefold() in _PREPOSITIONS), len(words))
    return words[until - 1].casefold()
