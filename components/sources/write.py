"""The source stage: shards of scenes and summary.json from the configured source."""

import json
import random
import sys
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from tqdm import tqdm

from components.errors import DataError
from components.params import PhotoKind, SourceParams
from components.rcmu import Region, Scene, Split, special_token_strings
from components.rcmu.tables import ShardWriter, shard_of, shard_path
from components.sources.photos import Photo
from components.sources.readers import read_photos
from components.sources.regions import scene_of, usable_regions
from components.sources.splits import assign_splits
from components.sources.synthetic import draw_scene

Skipped = dict[str, list[str]]  # why -> ids of images and annotations


def write_scenes(params: SourceParams, *, seed: int, workspace: Path, folder: Path) -> None:
    """Write shards of scenes and summary.json into `folder`.

    Args:
        params: where scenes come from.
        seed: of the drawing, the sample and the split.
        workspace: the folder that params.annotations is relative to, and must not leave.
        folder: an existing folder.

    Raises:
        DataError: when the annotations or an image are broken, or there are too few scenes.
        ParamsError: when the params ask for a scene that cannot be drawn.
    """
    summary = _Summary(params.kind)
    if params.kind == "synthetic":
        splits, scenes = _synthetic(params, seed=seed)
    else:
        splits, scenes = _photos(params, params.kind, seed=seed, workspace=workspace, summary=summary)
    _write_shards(summary.counting(scenes), Counter(splits.values()), folder)
    text = json.dumps(summary.as_json(), indent=1, sort_keys=True) + "\n"
    (folder / "summary.json").write_text(text, encoding="utf-8")
    print(summary.line(), file=sys.stderr, flush=True)


def _write_shards(scenes: Iterable[Scene], totals: Mapping[Split, int], folder: Path) -> None:
    """Each split into its shards; one of each is open at a time."""
    written: Counter[Split] = Counter()
    writers: dict[Split, ShardWriter] = {}
    for scene in scenes:
        number = shard_of(written[scene.split], totals[scene.split])
        path = shard_path(folder, "scenes", scene.split, number)
        if scene.split not in writers or writers[scene.split].path != path:
            if scene.split in writers:
                writers[scene.split].close()
            writers[scene.split] = ShardWriter(path, "scenes")
        writers[scene.split].write(scene)
        written[scene.split] += 1
    for writer in writers.values():
        writer.close()


def _synthetic(params: SourceParams, *, seed: int) -> tuple[dict[str, Split], Iterator[Scene]]:
    ids = [f"synthetic-{number:05d}" for number in range(params.scenes or 0)]
    # An object is drawn once, in one scene: there is nothing that links two scenes.
    splits = assign_splits({i: [i] for i in ids}, benchmark_share=params.benchmark_share, seed=seed)
    progress = tqdm(ids, desc="scenes", unit="scene", mininterval=2)
    return splits, (draw_scene(i, params, split=splits[i], seed=seed) for i in progress)


def _photos(
    params: SourceParams, kind: PhotoKind, *, seed: int, workspace: Path, summary: "_Summary"
) -> tuple[dict[str, Split], Iterator[Scene]]:
    skipped = summary.skipped
    annotations = (workspace / (params.annotations or "")).resolve()
    if not annotations.is_relative_to(workspace.resolve()):
        raise DataError(
            f"source.annotations {params.annotations!r} leaves the workspace",
            hint="`rcvit data import PATH` brings photos in and prints the value",
        )
    reading = read_photos(kind, annotations, skip_broken=params.skip_broken)
    if reading.skipped:
        skipped["broken record"] += [f"{where}: {what}" for where, what in reading.skipped]
    usable: list[tuple[Photo, tuple[Region, ...]]] = []
    for photo in reading.photos:
        found = usable_regions(photo.record.objects, max_regions=params.max_regions)
        for object_id, why in found.skipped.items():
            skipped[f"annotation: {why}"].append(object_id)
        if found.regions:
            usable.append((photo, found.regions))
            summary.filled.update(f"an expression from {what}" for what in found.filled.values())
        else:
            skipped["image: no usable region"].append(photo.record.scene_id)
        summary.lacks["a phrase of its own"] += sum(not item.phrase for item in photo.record.objects)
        summary.lacks["a caption"] += not photo.record.caption
    if params.scenes is not None and params.scenes > len(usable):
        raise DataError(
            f"{annotations} has {len(usable)} usable image(s), source.scenes asks for {params.scenes}",
            hint="lower source.scenes in params.yaml, or null for all of them",
        )
    if params.scenes is not None:
        rng = random.Random(f"{seed}:sample")  # noqa: S311 - makes data, not keys
        chosen = set(rng.sample(range(len(usable)), params.scenes))
        skipped["image: beyond source.scenes"] += [
            photo.record.scene_id for index, (photo, _) in enumerate(usable) if index not in chosen
        ]
        usable = [pair for index, pair in enumerate(usable) if index in chosen]
    splits = assign_splits(
        {photo.record.scene_id: [region.instance_id for region in regions] for photo, regions in usable},
        benchmark_share=params.benchmark_share,
        seed=seed,
    )
    return splits, (
        scene_of(photo, regions, split=splits[photo.record.scene_id]) for photo, regions in usable
    )


class _Summary:
    """What went into scenes.parquet, and what did not."""

    def __init__(self, kind: str) -> None:
        self.kind = kind
        self.skipped: Skipped = defaultdict(list)
        self.filled: Counter[str] = Counter()  # what was made -> of how many regions
        self.lacks: Counter[str] = Counter()  # what the source does not give -> to how many images or objects
        self._scenes: Counter[str] = Counter()
        self._regions: Counter[str] = Counter()
        self._special: list[dict[str, Any]] = []

    def counting(self, scenes: Iterable[Scene]) -> Iterator[Scene]:
        """The same scenes, counted as they pass."""
        for scene in scenes:
            self._scenes[scene.split] += 1
            self._regions[scene.split] += len(scene.regions)
            for field, text in (("caption", scene.caption), ("attribution", scene.attribution)):
                self._look_for_special(text, scene=scene.scene_id, field=field)
            for region in scene.regions:
                self._look_for_special(
                    region.expression, scene=scene.scene_id, field=f"expression of {region.instance_id}"
                )
            yield scene

    def _look_for_special(self, text: str, *, scene: str, field: str) -> None:
        if strings := special_token_strings(text):
            self._special.append({"scene": scene, "field": field, "strings": list(strings)})

    def as_json(self) -> dict[str, Any]:
        """For summary.json."""
        return {
            "kind": self.kind,
            "scenes": {str(split): self._scenes[split] for split in Split},
            "regions": {str(split): self._regions[split] for split in Split},
            "skipped": {why: {"count": len(ids), "ids": ids} for why, ids in self.skipped.items() if ids},
            "lacks": dict(self.lacks),
            "filled": dict(self.filled),
            "special_token_strings": {"count": len(self._special), "texts": self._special},
        }

    def line(self) -> str:
        """For the terminal."""
        parts = [f"{self._scenes[s]} {s} scenes with {self._regions[s]} regions" for s in Split]
        parts += [f"{number} without {what}" for what, number in self.lacks.items() if number]
        parts += [f"{number} got {what}" for what, number in self.filled.items()]
        parts += [f"skipped {len(ids)} ({why})" for why, ids in self.skipped.items() if ids]
        if self._special:
            parts.append(f"{len(self._special)} text(s) hold special-token strings, kept as plain text")
        return "; ".join(parts)
