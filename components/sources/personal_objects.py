"""Personal objects: a name, a text and reference photos of each.

Read is a COCO JSON with two fields beyond COCO's own: `concepts`, each with `name`, `category` and `context`
(the text), and on an image `concept_id` with `role`; the images of role `reference` are the object's photos.
The ids are those that the scenes of the same file get, read as `coco`.
"""

from collections import defaultdict
from pathlib import Path

from pydantic import Field

from components.errors import DataError
from components.rcmu import PersonalObject, normalise, without_citation_marks
from components.rcmu.images import decode_image
from components.sources.coco import ANNOTATIONS
from components.sources.photos import located
from components.sources.records import Id, Mistakes, Record, Text, clean_label, load_json, parse_records


class _Concept(Record):
    id: Id
    name: Text = Field(min_length=1)
    category: Text = Field(min_length=1)
    context: Text = Field(min_length=1)


class _Photo(Record):
    id: Id
    file_name: Text = Field(min_length=1)
    concept_id: Id | None = None
    role: Text = ""
    attribution: Text = ""
    license: Text = ""


def read_personal_objects(folder: Path) -> tuple[PersonalObject, ...]:
    """The objects of a folder with annotations.json, in the order of the file.

    Raises:
        DataError: with every mistake of the file: an object without a reference photo is one.
    """
    file = folder / ANNOTATIONS
    content = load_json(file)
    lists = [content.get(key) if isinstance(content, dict) else None for key in ("concepts", "images")]
    if not all(isinstance(records, list) for records in lists):
        raise DataError(
            f"{file} has no lists under concepts and images",
            hint="the head of components/sources/personal_objects.py says what the file needs",
        )
    mistakes = Mistakes(file)
    concepts = parse_records(lists[0] or [], _Concept, mistakes, place="concepts", key="id")
    photos: defaultdict[Id, list[_Photo]] = defaultdict(list)
    files: defaultdict[Id, list[bytes]] = defaultdict(list)
    for where, photo in parse_records(lists[1] or [], _Photo, mistakes, place="images", key="id"):
        if photo.role != "reference" or photo.concept_id is None:
            continue
        try:
            file_bytes = located(folder, photo.file_name).read_bytes()
            decode_image(file_bytes)
        except (ValueError, OSError) as error:
            mistakes.add(where, f"file_name {photo.file_name!r}: {error}")
            continue
        photos[photo.concept_id].append(photo)
        files[photo.concept_id].append(file_bytes)
    objects = []
    for where, concept in concepts:
        label = clean_label(concept.category, where=where, mistakes=mistakes)
        if not photos[concept.id]:
            mistakes.add(where, "no image has it as concept_id and the role reference: add a photo")
        elif label:
            first = photos[concept.id][0]
            objects.append(
                PersonalObject(
                    instance_id=f"coco-concept-{concept.id}",
                    name=normalise(concept.name),
                    label=label,
                    text=without_citation_marks(normalise(concept.context)),
                    photos=tuple(files[concept.id]),
                    attribution=normalise(first.attribution),
                    license=normalise(first.license),
                )
            )
    mistakes.raise_any()
    return tuple(objects)
