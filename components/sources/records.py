"""Records from outside, parsed strictly, and what is wrong with those that are not sound."""

import json
from pathlib import Path
from typing import Annotated, Any, NamedTuple, TypeVar

import pydantic
from pydantic import AfterValidator, BaseModel, ConfigDict, StringConstraints

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


class Record(BaseModel):
    """A record of a file: strict types, further fields are let be."""

    model_config = ConfigDict(frozen=True, strict=True, extra="ignore")


R = TypeVar("R", bound=Record)


class Mistake(NamedTuple):
    """What is wrong with one record, and where the record stands."""

    where: str
    what: str


class Mistakes:
    """Collects what is wrong with the records of a source, so that all of it is told at once."""

    def __init__(self, source: Path) -> None:
        self._source = source
        self.found: list[Mistake] = []

    def add(self, where: str, what: str) -> None:
        """Note a mistake of the record named by `where`."""
        self.found.append(Mistake(where, what))

    def raise_any(self) -> None:
        """Raise a DataError with the first mistakes and their total, if there are any."""
        if not self.found:
            return
        shown = [f"  {where}: {what}" for where, what in self.found[:_SHOWN]]
        if len(self.found) > _SHOWN:
            shown.append(f"  ... and {len(self.found) - _SHOWN} more")
        raise DataError(
            f"{self._source} has {len(self.found)} mistake(s) (records count from 0):\n" + "\n".join(shown),
            hint="repair or remove the records named above, or skip them: --skip-broken at the import, "
            "source.skip_broken in params.yaml",
        )


def load_json(file: Path) -> Any:
    """What a JSON file holds.

    Raises:
        DataError: when there is no such file, or no JSON in it.
    """
    try:
        return json.loads(read_file(file))
    except (ValueError, RecursionError) as error:
        raise DataError(f"{file} is not JSON: {error}", hint="repair the file there") from error


def read_file(file: Path) -> bytes:
    """The bytes of a file of annotations. Raises DataError when it cannot be read."""
    try:
        return file.read_bytes()
    except OSError as error:
        raise DataError(
            f"{file} cannot be read: {error.strerror}",
            hint="`rcvit data import PATH` brings photos in, `dvc pull` fetches imported ones",
        ) from error


def parse_records(
    records: list[Any], model: type[R], mistakes: Mistakes, *, place: str, key: str | None
) -> list[tuple[str, R]]:
    """The records that are sound, each with the words that name its place.

    Args:
        records: as the file has them.
        model: what each must be.
        mistakes: takes the others.
        place: names the list in the message: `annotations` gives `annotations[3] (id 7)`.
        key: the field that tells the records apart, which no two may share; None where there is none.
    """
    parsed: list[tuple[str, R]] = []
    seen: dict[str, str] = {}  # as text: 1 and "1" would make the same scene id
    for number, record in enumerate(records):
        where = f"{place}[{number}]"
        if key and isinstance(record, dict) and isinstance(record.get(key), int | str):
            where += f" ({key} {record[key]!r:.40})"
        try:
            item = model.model_validate(record)
        except pydantic.ValidationError as error:
            for mistake in error.errors(include_url=False):
                part = ".".join(str(part) for part in mistake["loc"]) or "record"
                mistakes.add(where, f"{part}: {mistake['msg']} (found: {mistake['input']!r:.60})")
            continue
        if key is not None:
            own = str(getattr(item, key))
            if own in seen:
                mistakes.add(where, f"the {key} is that of {seen[own]}: give each record its own")
                continue
            seen[own] = where
        parsed.append((where, item))
    return parsed


def clean_label(name: str, *, where: str, mistakes: Mistakes) -> str | None:
    """A label as scenes hold it; None, and a mistake, where it is empty or holds what a prompt is made of."""
    label = without_citation_marks(normalise(name))
    if not label:
        mistakes.add(where, "the name is empty: name the object")
    elif LABEL_FORBIDDEN in label:
        mistakes.add(where, f"the name {label!r} holds {LABEL_FORBIDDEN!r}: rename it")
    else:
        return label
    return None
