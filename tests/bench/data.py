"""`make bench-data`: how fast the data is made, how time and memory grow, what the published size costs.

Each step runs in a process of its own, one after the other, so that its memory is its own. About 12 sets of
texts an image and 7 questions a set, as in the published data (RCMU.md). Scenes are drawn by the source stage
and not counted: what is timed is scenes -> turns.
"""

import json
import math
import resource
import subprocess
import sys
import tempfile
import time
from collections import defaultdict
from pathlib import Path

from components.generation import write_turns
from components.generation.filters import Sieve
from components.params import GenerationParams, SourceParams, load_params
from components.rcmu.tables import (
    SCHEMAS,
    Kind,
    read_contexts,
    read_rows,
    read_scenes,
    read_turns,
    shard_paths,
    write_rows,
)
from components.sources import write_scenes
from components.validation import validate_data

SIZES = (1_000, 10_000)  # scenes
PUBLISHED_IMAGES, PUBLISHED_TURNS = 84_149, 6_954_726
GENERATION = GenerationParams(context_sets=12, facts_per_text=2, questions_per_task=1)
RICH = GenerationParams(route="rich", context_sets=12, facts_per_text=5, questions_per_task=1)


def source_params(scenes: int) -> SourceParams:
    return SourceParams(
        kind="synthetic",
        annotations=None,
        skip_broken=False,
        scenes=scenes,
        benchmark_share=0.1,
        min_regions=2,
        max_regions=4,
        image_size=56,
        twins_share=0.8,
    )


def source(root: Path, scenes: int) -> None:
    (root / "scenes").mkdir(parents=True)
    write_scenes(source_params(scenes), seed=1, workspace=root, folder=root / "scenes")


def generate(root: Path, workers: int, params: GenerationParams = GENERATION, name: str = "turns") -> None:
    (root / name).mkdir()
    write_turns(
        root / "scenes",
        params,
        seed=1,
        folder=root / name,
        finished=root / "shards",
        workers=workers,
    )


def rewrite(root: Path) -> float:
    """Seconds that writing alone takes: the same rows, from memory, a shard at a time."""
    seconds = 0.0
    kinds: tuple[Kind, ...] = ("contexts", "turns")
    for kind in kinds:
        for path in shard_paths(root / "turns", kind):
            rows = list(read_rows(path))
            start = time.perf_counter()
            write_rows(root / "again.parquet", SCHEMAS[kind], rows)
            seconds += time.perf_counter() - start
    return seconds


def sieve(root: Path) -> float:
    """Seconds that the filters alone take over turns in memory."""
    scenes = {scene.scene_id: scene for scene in read_scenes(root / "scenes")}
    turns = defaultdict(list)
    for turn in read_turns(root / "turns"):
        turns[turn.context_id].append(turn)
    contexts = list(read_contexts(root / "turns"))
    filters = Sieve()
    start = time.perf_counter()
    for context in contexts:
        for _ in filters.passing(scenes[context.scene_id], context, turns[context.context_id]):
            pass
    return time.perf_counter() - start


def step(name: str, root: Path, number: int) -> None:
    """One step in this process; its seconds and its memory at most, on standard output."""
    start = time.perf_counter()
    seconds = None
    if name == "source":
        source(root, number)
    elif name == "generate":
        generate(root, number)
    elif name == "rich":
        generate(root, number, RICH, "rich")
    elif name == "rewrite":
        seconds = rewrite(root)
    elif name == "sieve":
        seconds = sieve(root)
    else:
        (root / "validation").mkdir()
        validate_data(
            root / "scenes",
            root / "turns",
            load_params(Path("infra/profiles/tiny.yaml")).validation,
            folder=root / "validation",
            data_docs=root / "docs",
        )
    peak = max(resource.getrusage(who).ru_maxrss for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))
    print(json.dumps({"seconds": seconds or time.perf_counter() - start, "gigabytes": peak / 1e6}))


def measured(name: str, root: Path, number: int = 0) -> tuple[float, float]:
    """Seconds and gigabytes of a step in a process of its own."""
    command = [sys.executable, "-m", "tests.bench.data", name, str(root), str(number)]
    line = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout.splitlines()[-1]
    found = json.loads(line)
    return found["seconds"], found["gigabytes"]


def turns_in(folder: Path) -> int:
    turns = json.loads((folder / "summary.json").read_text())["turns"]
    return sum(sum(counts.values()) for counts in turns.values())


def main() -> None:
    if len(sys.argv) == 4:
        step(sys.argv[1], Path(sys.argv[2]), int(sys.argv[3]))
        return
    print("| scenes | turns | drawing | generate | turns/s | memory | writing alone | generate / writing |")
    print("| --- | --- | --- | --- | --- | --- | --- | --- |")
    seconds_of, turns_of = [], []
    with tempfile.TemporaryDirectory() as folder:
        for scenes in SIZES:
            root = Path(folder) / str(scenes)
            drawing, _ = measured("source", root, scenes)
            seconds, memory = measured("generate", root, 1)
            writing, _ = measured("rewrite", root)
            total = turns_in(root / "turns")
            print(
                f"| {scenes:,} | {total:,} | {drawing:.0f} s | {seconds:.0f} s | {total / seconds:,.0f} "
                f"| {memory:.2f} GB | {writing:.0f} s | {seconds / writing:.1f} |",
                flush=True,
            )
            seconds_of.append(seconds)
            turns_of.append(total)
        exponent = math.log(seconds_of[1] / seconds_of[0]) / math.log(SIZES[1] / SIZES[0])
        slope = (seconds_of[1] - seconds_of[0]) / (SIZES[1] - SIZES[0])
        print(f"\ntime grows with the number of scenes to the power of {exponent:.2f}")
        by_images = slope * PUBLISHED_IMAGES
        by_turns = (seconds_of[1] - seconds_of[0]) / (turns_of[1] - turns_of[0]) * PUBLISHED_TURNS
        print(
            f"the published size on one core, by these slopes: {PUBLISHED_IMAGES:,} images "
            f"{by_images / 3600:.1f} h, {PUBLISHED_TURNS:,} turns {by_turns / 3600:.1f} h"
        )
        root = Path(folder) / str(SIZES[0])
        seconds, memory = measured("rich", root, 1)
        total = turns_in(root / "rich")
        print(f"rich route: {total:,} turns, {total / seconds:,.0f} turns/s, {memory:.2f} GB")
        seconds, _ = measured("sieve", root)
        print(f"filters alone: {turns_of[0] / seconds:,.0f} turns/s")
        seconds, memory = measured("validate", root)
        print(
            f"validation: {seconds:.0f} s and {memory:.2f} GB for {turns_of[0]:,} turns, "
            f"{seconds / turns_of[0] * 1e6:.0f} s for a million at that rate"
        )


if __name__ == "__main__":
    main()
