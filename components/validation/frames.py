"""Scenes, context sets and turns as flat frames, raw: the readers would stop at the first bad row.

Each frame has `file` (a shard's name), `row` (the row number in it, from 1) and `id`; a column that names
a problem is empty (None) where there is none.
"""

from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from statistics import fmean
from typing import Any, NamedTuple

import pandas as pd
import pyarrow.parquet as pq
import pydantic

from components.errors import DataError
from components.rcmu import BOX_SCALE, UNANSWERABLE, ContextSet, Split, Task, Turn, cited
from components.rcmu.images import decode_image, pixel_digest
from components.rcmu.tables import SCHEMAS, Kind, read_rows, scene_from_row, shard_paths, split_of_shard
from components.validation.near_copies import Fingerprint, find_near_copies, fingerprint
from components.validation.shared_words import find_shared_words

# Which shards a frame is made of.
KINDS: dict[str, Kind] = {
    "scenes": "scenes",
    "regions": "scenes",
    "contexts": "contexts",
    "texts": "contexts",
    "turns": "turns",
    "tasks": "turns",
    "splits": "turns",
}

Row = dict[str, Any]


def build_frames(folders: Mapping[Kind, Path]) -> dict[str, pd.DataFrame]:
    """The frames scenes, regions, contexts, texts and turns; tasks and splits have a row for many turns.

    Args:
        folders: where the shards of each kind lie.

    Raises:
        DataError: when a file is missing, no Parquet, or has other columns than its schema.
    """
    paths = {kind: _checked_paths(folder, kind) for kind, folder in folders.items()}
    regions_of: dict[str, int] = {}  # scene id -> number of regions
    scenes: list[Row] = []
    prints: dict[str, list[tuple[Row, Fingerprint]]] = {split: [] for split in Split}
    regions: list[Row] = []
    for place, row in _placed(paths["scenes"]):
        regions_of[row["scene_id"]] = len(row["regions"] or [])
        scene, seen = _scene(place, row)
        scenes.append(scene)
        if seen and row["split"] in prints:
            prints[row["split"]].append((scene, seen))
        regions += _regions(place, row)
    lines_of: dict[str, tuple[int, str, str]] = {}  # context id -> number of texts, scene id, split
    split_of = {row["id"]: row["split"] for row in scenes}
    contexts: list[Row] = []
    texts: list[Row] = []
    for place, row in _placed(paths["contexts"]):
        lines_of[row["context_id"]] = (len(row["regions"] or []), row["scene_id"], row["split"])
        contexts.append(_context(place, row, split_of))
        texts += _texts(place, row, regions_of)
    turns = [_turn(place, row, lines_of) for place, row in _placed(paths["turns"])]
    tasks, splits = _tasks(turns), _splits(turns)
    asked = Counter(turn["scene_id"] for turn in turns)
    for scene in scenes:
        scene["turns_per_scene"] = asked[scene["id"]]
    _count_splits(scenes, "digest", "splits_of_image")
    _count_splits(regions, "instance_id", "splits_of_instance")
    _count_splits(texts, "text", "splits_of_text")
    _note_near_copies(prints[Split.BENCHMARK], prints[Split.TRAIN])
    _note_shared_words(texts)
    return {
        "scenes": pd.DataFrame(scenes, columns=_COLUMNS["scenes"]),
        "regions": pd.DataFrame(regions, columns=_COLUMNS["regions"]),
        "contexts": pd.DataFrame(contexts, columns=_COLUMNS["contexts"]),
        "texts": pd.DataFrame(texts, columns=_COLUMNS["texts"]),
        "turns": pd.DataFrame(turns, columns=_COLUMNS["turns"]),
        "tasks": pd.DataFrame(tasks, columns=_COLUMNS["tasks"]),
        "splits": pd.DataFrame(splits, columns=_COLUMNS["splits"]),
    }


# The columns of each frame, so that a file without rows has them too.
_COLUMNS: dict[str, list[str]] = {
    "scenes": [
        "file", "row", "id", "split", "image_problem", "digest", "splits_of_image", "near_copy", "misfiled",
        "problem", "turns_per_scene",
    ],
    "regions": [
        "file", "row", "id", "split", "instance_id", "x1", "y1", "x2", "y2", "box_area", "splits_of_instance",
    ],
    "contexts": ["file", "row", "id", "reference_problem", "misfiled", "problem"],
    "texts": [
        "file", "row", "id", "split", "text", "text_words", "region_problem", "splits_of_text", "shared",
    ],
    "turns": [
        "file", "row", "id", "context_id", "question", "answer", "reference_problem", "unresolved",
        "citations", "citations_in_answer", "refusal_citations", "misfiled", "problem",
    ],
    "tasks": ["file", "row", "id", "task_share"],
    "splits": ["file", "row", "id", "refusals_share", "first_citation"],
}  # fmt: skip


class Place(NamedTuple):
    """Where a row stands."""

    path: Path
    row: int  # from 1

    def columns(self) -> Row:
        """The columns that every frame has."""
        return {"file": self.path.name, "row": self.row}

    def misfiled(self, split: str) -> str | None:
        """The problem, where the row's split is not that of its file."""
        return None if split == split_of_shard(self.path) else f"split {split}"


def _placed(paths: Iterable[Path]) -> Iterator[tuple[Place, Row]]:
    for path in paths:
        for number, row in enumerate(read_rows(path), start=1):
            yield Place(path, number), row


def _checked_paths(folder: Path, kind: Kind) -> list[Path]:
    """The shards, when each is a Parquet file with the columns of its kind and the name of a split."""
    again = "make it again: `dvc repro --force source generate`"
    try:
        paths = shard_paths(folder, kind)
    except FileNotFoundError as error:
        raise DataError(str(error), hint=again) from error
    for path in paths:
        try:
            split_of_shard(path)
            found = pq.read_schema(path)
        except (OSError, ValueError) as error:  # pa.ArrowInvalid is a ValueError
            raise DataError(f"{path} cannot be read: {error}", hint=again) from error
        if not found.equals(SCHEMAS[kind]):
            raise DataError(
                f"{path} has other columns than components/rcmu/tables.py declares: {found.names}", hint=again
            )
    return paths


def _scene(place: Place, row: Row) -> tuple[Row, Fingerprint | None]:
    problem, digest, seen = None, None, None
    try:
        pixels = decode_image(row["image"] or b"")
    except ValueError as error:
        problem = str(error)
    else:
        digest, seen = pixel_digest(pixels), fingerprint(pixels)
        if pixels.size != (row["width"], row["height"]):
            problem = f"is {pixels.width} x {pixels.height}, declared {row['width']} x {row['height']}"
    scene = {
        **place.columns(),
        "id": row["scene_id"],
        "split": row["split"],
        "image_problem": problem,
        "digest": digest,
        "misfiled": place.misfiled(row["split"]),
        "problem": _refusal_of(scene_from_row, row),
    }
    return scene, seen


def _refusal_of(parse: Callable[[Row], object], row: Row) -> str | None:
    """What the models of components.rcmu say against a row."""
    try:
        parse(row)
    except pydantic.ValidationError as error:
        return "; ".join(
            f"{'.'.join(str(part) for part in mistake['loc'])}: {mistake['msg']}".lstrip(": ")
            for mistake in error.errors(include_url=False, include_input=False)
        )
    except TypeError as error:  # a null where a list of regions belongs
        return str(error)
    return None


def _regions(place: Place, row: Row) -> Iterable[Row]:
    for index, region in enumerate(row["regions"] or []):
        corners = {name: region[name] for name in ("x1", "y1", "x2", "y2")}
        yield {
            **place.columns(),
            "id": f"{row['scene_id']} region {index} ({region['instance_id']})",
            "split": row["split"],
            "instance_id": region["instance_id"],
            **corners,
            "box_area": _area(**corners),
        }


def _area(x1: int | None, y1: int | None, x2: int | None, y2: int | None) -> float | None:
    """As a share of the image; None for a box that other checks name."""
    if x1 is None or y1 is None or x2 is None or y2 is None or x2 <= x1 or y2 <= y1:
        return None
    return (x2 - x1) * (y2 - y1) / BOX_SCALE**2


def _context(place: Place, row: Row, split_of: Mapping[str, str]) -> Row:
    problem = None
    if row["scene_id"] not in split_of:
        problem = f"no scene {row['scene_id']}"
    elif split_of[row["scene_id"]] != row["split"]:
        problem = f"split {row['split']}, its scene {split_of[row['scene_id']]}"
    refusal = _refusal_of(lambda r: ContextSet(**r), row)
    return {
        **place.columns(),
        "id": row["context_id"],
        "reference_problem": problem,
        "misfiled": place.misfiled(row["split"]),
        # A ContextSet may be empty, which is what a base is asked with; in RCMU each object has a text.
        "problem": refusal or (None if row["regions"] else "no text"),
    }


def _texts(place: Place, row: Row, regions_of: Mapping[str, int]) -> Iterable[Row]:
    known = regions_of.get(row["scene_id"], 0)
    seen: set[int] = set()
    for k, told in enumerate(row["regions"] or [], start=1):
        problem = None
        if told["region"] is None or not 0 <= told["region"] < known:
            problem = f"region {told['region']} of {known}"
        elif told["region"] in seen:
            problem = f"region {told['region']} has two texts"
        seen.add(told["region"])
        yield {
            **place.columns(),
            "id": f"{row['context_id']} [{k}]",
            "split": row["split"],
            "text": told["text"],
            "text_words": len((told["text"] or "").split()),
            "region_problem": problem,
        }


def _turn(place: Place, row: Row, lines_of: Mapping[str, tuple[int, str, str]]) -> Row:
    answer = row["answer"] or ""
    citations = row["citations"] or []
    claimed = [claim["k"] for claim in row["claims"] or []]
    lines, problem = 0, None
    if row["context_id"] not in lines_of:
        problem = f"no context set {row['context_id']}"
    else:
        lines, scene_id, split = lines_of[row["context_id"]]
        if row["scene_id"] != scene_id:
            problem = f"scene {row['scene_id']}, its context set has {scene_id}"
        elif row["split"] != split:
            problem = f"split {row['split']}, its context set has {split}"
    named = dict.fromkeys([*citations, *cited(answer), *claimed])
    unresolved = [k for k in named if k is None or not 1 <= k <= lines]
    return {
        **place.columns(),
        "id": row["turn_id"],
        "scene_id": row["scene_id"],
        "split": row["split"],
        "task": row["task"],
        "first_citation": (citations[0] - 1) / (lines - 1)
        if citations and lines > 1 and not unresolved
        else None,
        "context_id": row["context_id"],
        "question": row["question"],
        "answer": answer,
        "reference_problem": problem,
        "unresolved": _marks(unresolved) if lines and unresolved else None,
        "citations": _marks(citations),
        "citations_in_answer": _marks(cited(answer)),
        "refusal_citations": _marks([*citations, *cited(answer)]) or None
        if row["task"] in UNANSWERABLE
        else None,
        "misfiled": place.misfiled(row["split"]),
        "problem": _refusal_of(lambda r: Turn(**r), row),
    }


def _tasks(turns: Sequence[Row]) -> Iterable[Row]:
    """A row for each sub-task of each split, also for one without a turn."""
    counted = Counter((turn["split"], turn["task"]) for turn in turns)
    for split in Split:
        total = sum(counted[split, task] for task in Task)
        for task in Task if total else ():
            yield {**_together(split), "id": f"{split} {task}", "task_share": counted[split, task] / total}


def _splits(turns: Sequence[Row]) -> Iterable[Row]:
    for split in Split:
        own = [turn for turn in turns if turn["split"] == split]
        places = [turn["first_citation"] for turn in own if turn["first_citation"] is not None]
        if own:
            yield {
                **_together(split),
                "id": str(split),
                "refusals_share": sum(turn["task"] in UNANSWERABLE for turn in own) / len(own),
                "first_citation": fmean(places) if places else None,
            }


def _together(split: Split) -> Row:
    """Where a row about many turns stands."""
    return {"file": f"turns-{split}-*.parquet", "row": 0}


def _marks(numbers: Sequence[int]) -> str:
    return "".join(f"[{k}]" for k in numbers)


def _note_near_copies(
    benchmark: Sequence[tuple[Row, Fingerprint]], training: Sequence[tuple[Row, Fingerprint]]
) -> None:
    # The same pixels in both splits are another check's.
    benchmark = [(row, seen) for row, seen in benchmark if row["splits_of_image"] == 1]
    found = find_near_copies([seen for _, seen in benchmark], [seen for _, seen in training])
    for index, other, likeness in found:
        benchmark[index][0]["near_copy"] = f"{training[other][0]['id']}, correlation {likeness:.2f}"


def _note_shared_words(texts: Sequence[Row]) -> None:
    told: dict[str, list[tuple[str, str]]] = {split: [] for split in Split}
    for row in texts:
        if row["split"] in told and row["text"] and row["splits_of_text"] == 1:
            told[row["split"]].append((row["id"], row["text"]))
    shared = dict(find_shared_words(told[Split.BENCHMARK], told[Split.TRAIN]))
    for row in texts:
        if row["split"] == Split.BENCHMARK:
            row["shared"] = shared.get(row["id"])


def _count_splits(rows: list[Row], key: str, column: str) -> None:
    """How many splits hold the row's picture, object or text."""
    splits: defaultdict[Any, set[str]] = defaultdict(set)
    for row in rows:
        splits[row[key]].add(row["split"])
    for row in rows:
        row[column] = 1 if row[key] is None else len(splits[row[key]])
