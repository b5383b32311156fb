"""`rcvit data show`: a page of samples of the generated data."""

import random
from collections import defaultdict
from pathlib import Path

import pyarrow.parquet as pq

from components.errors import DataError
from components.pages import image_uri, render_page
from components.rcmu import ContextSet, Scene, Split, Turn, parse_spans
from components.rcmu.tables import read_contexts, read_scenes, read_turns, shard_paths, split_of_shard


def write_samples(scenes: Path, turns: Path, *, number: int, seed: int, page: Path) -> None:
    """Write a page of up to `number` scenes of each split with all their texts and turns.

    Args:
        scenes: holds the shards of scenes.
        turns: holds the shards of context sets and turns.
        number: scenes of each split.
        seed: of the draw.
        page: the HTML file to write.

    Raises:
        DataError: when there is no data yet.
    """
    try:
        split_of = {
            scene_id: split_of_shard(path)
            for path in shard_paths(scenes, "scenes")
            for scene_id in pq.read_table(path, columns=["scene_id"])["scene_id"].to_pylist()
        }
        shard_paths(turns, "turns")
    except FileNotFoundError as error:
        raise DataError(str(error), hint="`rcvit run` or `dvc repro generate` makes it") from error
    chosen: set[str] = set()
    for split in Split:
        ids = [scene_id for scene_id, own in split_of.items() if own is split]
        rng = random.Random(f"{seed}:samples:{split}")  # noqa: S311 - chooses samples, makes no keys
        chosen.update(rng.sample(ids, min(number, len(ids))))
    drawn: list[Scene] = [s for s in read_scenes(scenes) if s.scene_id in chosen]
    sets: defaultdict[str, list[ContextSet]] = defaultdict(list)
    for context in read_contexts(turns):
        if context.scene_id in chosen:
            sets[context.scene_id].append(context)
    asked: defaultdict[str, list[Turn]] = defaultdict(list)
    for turn in read_turns(turns):
        if turn.scene_id in chosen:
            asked[turn.context_id].append(turn)
    html = render_page(
        "components.generation",
        "samples.html.j2",
        shown=len(drawn),
        total=len(split_of),
        seed=seed,
        scenes=[
            (
                scene,
                image_uri(scene),
                [
                    (context, [(turn, parse_spans(turn.answer)) for turn in asked[context.context_id]])
                    for context in sets[scene.scene_id]
                ],
            )
            for scene in drawn
        ],
    )
    page.parent.mkdir(parents=True, exist_ok=True)
    page.write_text(html, encoding="utf-8")
