"""RefCOCO, RefCOCO+ and RefCOCOg: referring expressions for the boxes of a COCO JSON.

The layout of lichengunc/refer with its pickle as JSON: a folder with `refs(NAME).json`, `instances.json` and
the images. An object's expression is its first sentence (own choice).
"""

from pathlib import Path

from pydantic import Field

from components.errors import DataError
from components.sources.coco import load_tables, photo_records
from components.sources.photos import PhotoRecord, as_expression
from components.sources.records import Id, Mistakes, Record, Text, load_json, parse_records

_PICKLES = (".p", ".pkl", ".pickle")
# Unpickles lists, dicts, texts and numbers, and fails on anything that would run code.
_CONVERT = """python3 - 'refs(NAME).p' <<'END'
import json, pickle, sys
class Plain(pickle.Unpickler):
    def find_class(self, *name):
        raise SystemExit(f"refused: the file asks for {name}, which could run code")
refs = Plain(open(sys.argv[1], "rb"), encoding="latin1").load()
json.dump(refs, open(sys.argv[1].rsplit(".", 1)[0] + ".json", "w"))
END"""


class _Sentence(Record):
    sent: Text = Field(min_length=1)


class _Ref(Record):
    ref_id: Id
    ann_id: Id
    image_id: Id
    sentences: list[_Sentence] = Field(min_length=1)


def read_refcoco(path: Path, mistakes: Mistakes) -> tuple[list[PhotoRecord], list[Path]]:
    """The photos of a refs JSON, or of the only one of a folder, with `instances.json` beside it.

    Raises:
        DataError: for a pickle, and when a file is not what it should be.
    """
    file = _refs_file(path)
    refs = load_json(file)
    if not isinstance(refs, list):
        raise DataError(
            f"{file} holds no list", hint="it should be the JSON of lichengunc/refer's refs(NAME).p"
        )
    instances = file.with_name("instances.json")
    tables = load_tables(instances, mistakes)
    annotations = {annotation.id: annotation for _, annotation in tables.annotations}
    phrases: dict[Id, str] = {}
    for where, ref in parse_records(refs, _Ref, mistakes, place=f"{file.name}: refs", key="ref_id"):
        target = annotations.get(ref.ann_id)
        if target is None:
            mistakes.add(
                where, f"ann_id {ref.ann_id} names no annotation of instances.json: correct or remove it"
            )
        elif target.image_id != ref.image_id:
            mistakes.add(
                where,
                f"image_id {ref.image_id}, but annotation {ref.ann_id} is in {target.image_id}: correct it",
            )
        else:
            phrases.setdefault(ref.ann_id, as_expression(ref.sentences[0].sent))
    return photo_records(tables, mistakes, phrases), [file, instances]


def _refs_file(path: Path) -> Path:
    if path.suffix in _PICKLES:
        raise DataError(
            f"{path} is a pickle, which can run any program when it is read",
            hint=f"convert it once to JSON:\n{_CONVERT}",
        )
    if not path.is_dir():
        return path
    found = sorted(path.glob("refs*.json"))
    if len(found) == 1:
        return found[0]
    if found:
        raise DataError(
            f"{path} has {len(found)} files refs*.json",
            hint="name the one to read: " + ", ".join(file.name for file in found),
        )
    for file in sorted(path.glob("refs*")):
        if file.suffix in _PICKLES:
            return _refs_file(file)
    raise DataError(
        f"{path} has no refs*.json", hint="the layout is lichengunc/refer's, with JSON for its pickle"
    )
