"""`rcvit data publish`: the data of a run as a folder that `datasets.load_dataset` reads, with its card."""

import shutil
from collections import Counter
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import yaml
from jinja2 import Environment, PackageLoader, StrictUndefined

from components.errors import DataError
from components.params import Params
from components.rcmu import Split, Task, normalise
from components.rcmu.tables import SCHEMAS, Kind, read_rows, shard_paths, split_of_shard

_ARROW_NAMES = {pa.string(): "string", pa.int32(): "int32"}


def publish_data(scenes: Path, turns: Path, *, params: Params, version: str, folder: Path) -> None:
    """Copy the shards into `folder`/data and write README.md, the card.

    Args:
        scenes: holds the shards of scenes.
        turns: holds the shards of context sets and turns.
        params: what the data was made by.
        version: of the generator: a commit.
        folder: does not exist, or is empty.

    Raises:
        DataError: when there is no data yet, or the folder holds something.
    """
    if folder.exists() and any(folder.iterdir()):
        raise DataError(f"{folder} is not empty", hint="name a new folder")
    try:
        paths: dict[Kind, list[Path]] = {
            "turns": shard_paths(turns, "turns"),
            "contexts": shard_paths(turns, "contexts"),
            "scenes": shard_paths(scenes, "scenes"),
        }
    except FileNotFoundError as error:
        raise DataError(str(error), hint="`rcvit data generate` makes it") from error
    data = folder / "data"
    data.mkdir(parents=True, exist_ok=True)
    for path in (path for kind in paths.values() for path in kind):
        shutil.copyfile(path, data / path.name)
    (folder / "README.md").write_text(_card(paths, params, version), encoding="utf-8")


def _card(paths: dict[Kind, list[Path]], params: Params, version: str) -> str:
    rows = {
        kind: {split: sum(_rows(path) for path in own if split_of_shard(path) is split) for split in Split}
        for kind, own in paths.items()
    }
    per_task = Counter((row["split"], row["task"]) for path in paths["turns"] for row in read_rows(path))
    licenses = Counter(
        row["license"] or "not named by the source" for path in paths["scenes"] for row in read_rows(path)
    )
    # A card is Markdown, not HTML; what comes from outside stands in code spans.
    environment = Environment(  # noqa: S701
        loader=PackageLoader("components.generation", "."),
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    by_llm = params.generation.route == "llm"
    recipe = {"seed", "source", "generation", *(["llm"] if by_llm else [])}
    return environment.get_template("card.md.j2").render(
        head=yaml.safe_dump(_head(paths), sort_keys=False),
        rows=rows,
        tasks=[(task, [per_task[split, task] for split in Split]) for task in Task],
        splits=list(Split),
        licenses=sorted((_in_a_cell(name), count) for name, count in licenses.items()),
        params=yaml.safe_dump(params.model_dump(include=recipe), sort_keys=False),
        writer=_in_a_cell(params.llm.model) if by_llm else "",
        source=params.source,
        version=version,
    )


def _in_a_cell(name: str) -> str:
    """A name from outside that cannot leave its code span in a table."""
    return normalise(name.replace("`", "'").replace("|", "/"))


def _rows(path: Path) -> int:
    return int(pq.ParquetFile(path).metadata.num_rows)


def _head(paths: dict[Kind, list[Path]]) -> dict[str, Any]:
    """What `load_dataset` and the hub read: the files of each kind and split, and its columns."""
    return {
        "pretty_name": "RCMU",
        "task_categories": ["visual-question-answering", "image-text-to-text"],
        "language": ["en"],
        "configs": [
            {
                "config_name": kind,
                **({"default": True} if kind == "turns" else {}),
                "data_files": [
                    {"split": str(split), "path": f"data/{kind}-{split}-*.parquet"}
                    for split in Split
                    if any(split_of_shard(path) is split for path in own)
                ],
            }
            for kind, own in paths.items()
        ],
        "dataset_info": [
            {"config_name": kind, "features": [_feature(field) for field in SCHEMAS[kind]]} for kind in paths
        ],
    }


def _feature(field: pa.Field) -> dict[str, Any]:
    if pa.types.is_list(field.type):
        item = field.type.value_type
        inner = [_feature(part) for part in item] if pa.types.is_struct(item) else _ARROW_NAMES[item]
        return {"name": field.name, "list": inner}
    # The only bytes are encoded images.
    return {"name": field.name, "dtype": "image" if field.type == pa.binary() else _ARROW_NAMES[field.type]}
