"""The Parquet files of the project: every Arrow schema, and the way from models to rows and back.

Images live once (scenes), texts once per context set (contexts); turns refer to both by id.
"""

from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any, TypeVar

import pyarrow as pa
import pyarrow.parquet as pq
from pydantic import ValidationError

from components.rcmu.models import Box, ContextSet, Frozen, Region, Scene, Turn

_Model = TypeVar("_Model", bound=Frozen)

_FACT = pa.struct([("key", pa.string()), ("value", pa.string())])
_REGION = pa.struct(
    [
        ("instance_id", pa.string()),
        ("label", pa.string()),
        ("x1", pa.int32()),
        ("y1", pa.int32()),
        ("x2", pa.int32()),
        ("y2", pa.int32()),
        ("expression", pa.string()),
        ("facts", pa.list_(_FACT)),
    ]
)
_CONTEXT_REGION = pa.struct([("region", pa.int32()), ("text", pa.string()), ("facts", pa.list_(_FACT))])
_CLAIM = pa.struct([("k", pa.int32()), ("value", pa.string())])

SCENES = pa.schema(
    [
        ("scene_id", pa.string()),
        ("split", pa.string()),
        ("image", pa.binary()),
        ("width", pa.int32()),
        ("height", pa.int32()),
        ("caption", pa.string()),
        ("attribution", pa.string()),
        ("regions", pa.list_(_REGION)),
    ]
)
CONTEXTS = pa.schema(
    [
        ("context_id", pa.string()),
        ("scene_id", pa.string()),
        ("split", pa.string()),
        ("regions", pa.list_(_CONTEXT_REGION)),
    ]
)
TURNS = pa.schema(
    [
        ("turn_id", pa.string()),
        ("context_id", pa.string()),
        ("scene_id", pa.string()),
        ("split", pa.string()),
        ("task", pa.string()),
        ("question", pa.string()),
        ("answer", pa.string()),
        ("citations", pa.list_(pa.int32())),
        ("claims", pa.list_(_CLAIM)),
        ("other_values", pa.list_(pa.string())),
    ]
)
PREDICTIONS = pa.schema(
    [
        ("turn_id", pa.string()),
        ("scene_id", pa.string()),
        ("task", pa.string()),
        ("answer", pa.string()),  # the model's, citations included
        ("citations", pa.list_(pa.int32())),
        ("correct", pa.bool_()),
        ("cited_right", pa.int32()),  # citations that the reference has too
        ("cited", pa.int32()),
        ("cited_reference", pa.int32()),
    ]
)


def scene_row(scene: Scene) -> dict[str, Any]:
    """A row of SCENES: boxes are flattened into x1, y1, x2, y2."""
    row = scene.model_dump()
    for region in row["regions"]:
        region.update(region.pop("box"))
    return row


def scene_from_row(row: dict[str, Any]) -> Scene:
    """The inverse of `scene_row`."""
    regions = [
        Region(box=Box(**{c: region[c] for c in ("x1", "y1", "x2", "y2")}), **_without_corners(region))
        for region in row["regions"]
    ]
    return Scene(**{**row, "regions": tuple(regions)})


def _without_corners(region: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in region.items() if name not in ("x1", "y1", "x2", "y2")}


def write_rows(path: Path, schema: pa.Schema, rows: Iterable[dict[str, Any]]) -> None:
    """Write rows as one Parquet file. The same rows give the same bytes."""
    table = pa.Table.from_pylist(list(rows), schema=schema)
    pq.write_table(table, path, compression="zstd")


def read_rows(path: Path) -> Iterator[dict[str, Any]]:
    """Rows of a Parquet file, in file order, a batch in memory at a time."""
    with pq.ParquetFile(path) as file:
        for batch in file.iter_batches(batch_size=256):
            yield from batch.to_pylist()


def write_models(path: Path, schema: pa.Schema, models: Iterable[Frozen]) -> None:
    """Write Scene, ContextSet or Turn models under their schema."""
    write_rows(path, schema, (scene_row(m) if isinstance(m, Scene) else m.model_dump() for m in models))


def read_scenes(path: Path) -> Iterator[Scene]:
    """Scenes in file order. Raises ValueError naming file and row for a row that is not a scene."""
    return _parsed(path, scene_from_row)


def read_contexts(path: Path) -> Iterator[ContextSet]:
    """Context sets in file order. Raises ValueError naming file and row."""
    return _parsed(path, lambda row: ContextSet(**row))


def read_turns(path: Path) -> Iterator[Turn]:
    """Turns in file order. Raises ValueError naming file and row."""
    return _parsed(path, lambda row: Turn(**row))


def _parsed(path: Path, parse: Callable[[dict[str, Any]], _Model]) -> Iterator[_Model]:
    for number, row in enumerate(read_rows(path), start=1):
        try:
            yield parse(row)
        except ValidationError as error:
            raise ValueError(f"{path}, row {number}: {error}") from error
