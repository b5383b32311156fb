"""The Parquet files of the project: every Arrow schema, and the way from models to rows and back.

Images live once (scenes), texts once per context set (contexts); turns refer to both by id. Each kind lies in
shards of one split; shard 3 of the contexts and of the turns is about the scenes of shard 3.
"""

from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any, Literal, Self, TypeVar

import pyarrow as pa
import pyarrow.parquet as pq
from pydantic import ValidationError

from components.rcmu.models import Box, ContextSet, Region, Scene, Split, Turn

_Model = TypeVar("_Model", Scene, ContextSet, Turn)

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
_MENTION = pa.struct([("region", pa.int32()), ("start", pa.int32()), ("end", pa.int32())])
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
        ("license", pa.string()),
        ("regions", pa.list_(_REGION)),
        ("mentions", pa.list_(_MENTION)),
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
ITEMS = pa.schema(
    [
        ("item_id", pa.string()),
        ("turn_id", pa.string()),
        ("context_id", pa.string()),
        ("scene_id", pa.string()),
        ("split", pa.string()),
        ("task", pa.string()),
        ("question", pa.string()),
        ("options", pa.list_(pa.string())),
        ("right", pa.int32()),  # index of the right option
        ("abstain", pa.int32()),  # index of the option that declines
    ]
)
OBJECTS = pa.schema(
    [
        ("instance_id", pa.string()),
        ("name", pa.string()),
        ("label", pa.string()),
        ("text", pa.string()),
        ("photos", pa.list_(pa.binary())),
        ("attribution", pa.string()),
        ("license", pa.string()),
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


Kind = Literal["scenes", "contexts", "turns"]
SCHEMAS: dict[Kind, pa.Schema] = {"scenes": SCENES, "contexts": CONTEXTS, "turns": TURNS}

# Images in one file, at most (own choice): a shard is what a killed stage loses, about half a minute's work.
SHARD_SCENES = 1000
_ROW_GROUP: dict[Kind, int] = {"scenes": 64, "contexts": 2048, "turns": 8192}


def shard_path(folder: Path, kind: Kind, split: Split, number: int = 0) -> Path:
    """Where shard `number` of a split lies: `turns-train-00000.parquet`."""
    return folder / f"{kind}-{split}-{number:05d}.parquet"


def shard_paths(folder: Path, kind: Kind, split: Split | None = None) -> list[Path]:
    """The shards of one split or of both, in order. Raises FileNotFoundError when there is none at all."""
    every = sorted(folder.glob(f"{kind}-*.parquet"))
    if not every:
        raise FileNotFoundError(f"{folder} has no {kind}-*.parquet")
    return [path for path in every if split is None or split_of_shard(path) is split]


def split_of_shard(path: Path) -> Split:
    """The split that a shard's name says. Raises ValueError for another name."""
    return Split(path.name.split("-")[1])


def shard_of(index: int, total: int) -> int:
    """The shard of the scene at `index` of the `total` of its split: shards of like sizes, none too small."""
    return index * -(-total // SHARD_SCENES) // total


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


class ShardWriter:
    """Scene, ContextSet or Turn models into one Parquet file, a row group in memory at a time.

    The file takes its name when it is closed; a block left by an error removes it. The same models give
    the same bytes.
    """

    def __init__(self, path: Path, kind: Kind) -> None:
        self.path = path
        self._kind = kind
        self._building = path.with_name(f".{path.name}")
        self._rows: list[dict[str, Any]] = []
        self._file = pq.ParquetWriter(self._building, SCHEMAS[kind], compression="zstd")

    def __enter__(self) -> Self:
        return self

    def __exit__(self, error: type[BaseException] | None, *_: object) -> None:
        if error is None:
            self.close()
        else:
            self._file.close()
            self._building.unlink()

    def write(self, model: Scene | ContextSet | Turn) -> None:
        """Take one model more."""
        self._rows.append(scene_row(model) if isinstance(model, Scene) else model.model_dump())
        if len(self._rows) == _ROW_GROUP[self._kind]:
            self._flush()

    def close(self) -> None:
        """Write what is left, and give the file its name."""
        self._flush()
        self._file.close()
        self._building.rename(self.path)

    def _flush(self) -> None:
        if self._rows:
            self._file.write_table(pa.Table.from_pylist(self._rows, schema=SCHEMAS[self._kind]))
            self._rows = []


def write_models(folder: Path, kind: Kind, models: Iterable[Scene | ContextSet | Turn]) -> None:
    """Write models into the first shard of their split."""
    with ExitStack() as stack:
        writers: dict[Split, ShardWriter] = {}
        for model in models:
            if model.split not in writers:
                path = shard_path(folder, kind, model.split)
                writers[model.split] = stack.enter_context(ShardWriter(path, kind))
            writers[model.split].write(model)


def read_scenes(folder: Path, split: Split | None = None) -> Iterator[Scene]:
    """Scenes of one split or both, shard by shard. Raises ValueError naming file and row for a bad one."""
    return _parsed(shard_paths(folder, "scenes", split), scene_from_row)


def read_contexts(folder: Path, split: Split | None = None) -> Iterator[ContextSet]:
    """Context sets of one split or both, shard by shard. Raises ValueError naming file and row."""
    return _parsed(shard_paths(folder, "contexts", split), lambda row: ContextSet(**row))


def read_turns(folder: Path, split: Split | None = None) -> Iterator[Turn]:
    """Turns of one split or both, shard by shard. Raises ValueError naming file and row."""
    return _parsed(shard_paths(folder, "turns", split), lambda row: Turn(**row))


def read_scene_shard(path: Path) -> Iterator[Scene]:
    """The scenes of one shard. Raises ValueError naming file and row."""
    return _parsed([path], scene_from_row)


def _parsed(paths: Iterable[Path], parse: Callable[[dict[str, Any]], _Model]) -> Iterator[_Model]:
    for path in paths:
        split = split_of_shard(path)
        try:
            for number, row in enumerate(read_rows(path), start=1):
                try:
                    model = parse(row)
                except ValidationError as error:
                    raise ValueError(f"row {number}: {error}") from error
                if model.split is not split:
                    raise ValueError(f"row {number}: split {model.split} in a file of {split}")
                yield model
        except (OSError, ValueError) as error:
            raise ValueError(f"{path}: {error}") from error
