"""The generate stage: shards of context sets and turns, and summary.json, from shards of scenes."""

import json
import shutil
import sys
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tqdm import tqdm

from components.digests import inputs_digest
from components.errors import DataError
from components.executor import map_jobs
from components.generation.filters import FILTERS, Filtered
from components.generation.questions import VISUAL_QUESTIONS
from components.generation.shard import Counts, Shard, write_shard
from components.llm import Endpoint
from components.params import GenerationParams, LlmParams
from components.rcmu import UNANSWERABLE, Split, Task
from components.rcmu.tables import shard_path, shard_paths, split_of_shard

if TYPE_CHECKING:
    from components.generation.llm import Estimate

_CODE = Path(__file__).parents[1]


def write_turns(
    scenes: Path,
    params: GenerationParams,
    *,
    seed: int,
    folder: Path,
    finished: Path,
    workers: int = 1,
    dask_scheduler: str | None = None,
    llm: LlmParams | None = None,
    endpoint: Endpoint | None = None,
) -> None:
    """Write context sets, turns and summary.json into `folder`, by the route of the params.

    Whole shards are kept in `finished` until all are there: a killed stage goes on behind them. The result is
    the same bytes for any number of workers.

    Args:
        scenes: holds shards of scenes.
        params: how many texts and questions.
        seed: every scene and context set has its own stream of it.
        folder: an existing folder, on the same disk as `finished`.
        finished: a folder of this stage's own.
        workers: processes beside each other.
        dask_scheduler: as `map_jobs` takes it.
        llm: the model, for the LLM route alone, which works in this process and not in `workers`.
        endpoint: where the LLM is, for the LLM route alone.

    Raises:
        DataError: when a shard is missing or a row of it is not a scene.
        EndpointError, BudgetError, SettingsError: of the LLM route, as `write_llm_shards` says.
    """
    shards = _shards(scenes, params, llm, seed=seed, finished=finished)
    for shard in shards:
        shard.counts.parent.mkdir(parents=True, exist_ok=True)
    done = [shard for shard in shards if shard.is_whole()]
    if done:
        print(f"going on: {len(done)} of {len(shards)} shards are there", file=sys.stderr, flush=True)
    rest = [shard for shard in shards if shard not in done]
    dropped: dict[str, Filtered] = {}
    try:
        if params.route == "llm":
            from components.generation.llm import write_llm_shards

            if llm is None or endpoint is None:
                raise TypeError("the LLM route needs `llm` and `endpoint`")
            job = data_set_id(scenes, params, llm, seed=seed)
            dropped = write_llm_shards(shards, endpoint, llm, seed=seed, job=job)
        else:
            made = map_jobs(
                write_shard, rest, workers=max(1, min(workers, len(rest))), dask_scheduler=dask_scheduler
            )
            for _ in tqdm(made, desc="turns", unit="shard", total=len(rest), mininterval=2):
                pass
    except (OSError, ValueError) as error:
        raise DataError(str(error), hint="make it again with `dvc repro --force source`") from error
    counts = [Counts.model_validate_json(shard.counts.read_text(encoding="utf-8")) for shard in shards]
    for shard in shards:
        for path in (shard.contexts, shard.turns):
            path.rename(folder / path.name)
    shutil.rmtree(finished)
    summary = _summary(counts, params, dropped)
    text = json.dumps(summary, indent=1, sort_keys=True) + "\n"
    (folder / "summary.json").write_text(text, encoding="utf-8")
    turns, images = sum(sum(c.turns.values()) for c in counts), sum(c.scenes for c in counts)
    wanting = sum(summary["wanting"].values())
    filtered = ", ".join(f"{name} {found['count']}" for name, found in summary["filtered"].items())
    print(
        f"{turns} turns about {images} scenes; {wanting} asked for had no candidate; filtered: {filtered}",
        file=sys.stderr,
        flush=True,
    )


def estimate_turns(
    scenes: Path, params: GenerationParams, *, seed: int, finished: Path, llm: LlmParams, journal: Path
) -> "Estimate":
    """What `write_turns` by the LLM route would still cost, without a call.

    Raises:
        DataError: when a shard is missing or a row of it is not a scene.
    """
    from components.generation.llm import estimate_shards

    shards = _shards(scenes, params, llm, seed=seed, finished=finished)
    try:
        return estimate_shards(shards, llm, seed=seed, journal=journal)
    except (OSError, ValueError) as error:
        raise DataError(str(error), hint="make it again with `dvc repro --force source`") from error


def data_set_id(scenes: Path, params: GenerationParams, llm: LlmParams, *, seed: int) -> str:
    """What calls to the LLM are made for: the budget and the ledger know a data set by it."""
    return _inputs(scenes, params, llm, seed=seed, code=[])[:16]


def _shards(
    scenes: Path, params: GenerationParams, llm: LlmParams | None, *, seed: int, finished: Path
) -> list[Shard]:
    code = [path for part in ("rcmu", "generation", "llm") for path in _files_of(_CODE / part)]
    inputs = _inputs(scenes, params, llm, seed=seed, code=code)
    own = (finished / inputs[:16]).resolve()
    return [_shard(path, params, seed=seed, own=own) for path in shard_paths(scenes, "scenes")]


def _inputs(
    scenes: Path, params: GenerationParams, llm: LlmParams | None, *, seed: int, code: Sequence[Path]
) -> str:
    try:
        paths = shard_paths(scenes, "scenes")
    except FileNotFoundError as error:
        raise DataError(str(error), hint="`dvc repro source` makes it") from error
    asked = ""
    if params.route == "llm" and llm is not None:
        # A price changes no byte.
        asked = llm.model_dump_json(exclude={"usd_per_million_input", "usd_per_million_output"})
    return inputs_digest(f"{seed} {params.model_dump_json()} {asked}", [*paths, *code])


def _files_of(room: Path) -> list[Path]:
    """What decides the bytes: code, and the kinds of the rich route."""
    return sorted(path for path in room.glob("**/*") if path.suffix in (".py", ".yaml"))


def _shard(scenes: Path, params: GenerationParams, *, seed: int, own: Path) -> Shard:
    split, number = split_of_shard(scenes), int(scenes.stem.split("-")[2])
    return Shard(
        scenes=scenes.resolve(),
        params=params,
        seed=seed,
        contexts=shard_path(own, "contexts", split, number),
        turns=shard_path(own, "turns", split, number),
        counts=own / f"{split}-{number:05d}.json",
    )


def _summary(
    counts: Sequence[Counts], params: GenerationParams, before: Mapping[str, Filtered]
) -> dict[str, Any]:
    per_task: Counter[tuple[Split, Task]] = Counter()
    sets: Counter[Split] = Counter()
    keys: Counter[str] = Counter()
    left_out: Counter[Task] = Counter()
    filtered = dict.fromkeys(FILTERS, Filtered())
    for shard in counts:
        per_task.update({(shard.split, task): number for task, number in shard.turns.items()})
        sets[shard.split] += shard.context_sets
        keys.update(shard.visible_facts)
        left_out.update(shard.left_out)
        filtered = {name: found + shard.filtered[name] for name, found in filtered.items()}
    refusals = {split: sum(per_task[split, task] for task in UNANSWERABLE) for split in Split}
    totals = {split: sum(per_task[split, task] for task in Task) for split in Split}
    asked = {task: params.questions_per_task if task is not Task.RCID else 1 for task in Task}
    return {
        "context_sets": {str(split): sets[split] for split in Split},
        "turns": {str(s): {str(task): per_task[s, task] for task in Task} for s in Split},
        "refusals_share": {str(s): round(refusals[s] / totals[s], 4) if totals[s] else 0.0 for s in Split},
        # Turns that a context set has no candidate for, such as a visual question without a visible fact.
        "wanting": {
            str(task): sets.total() * asked[task] - sum(per_task[s, task] for s in Split) - left_out[task]
            for task in Task
        },
        "filtered": {name: found.model_dump(mode="json") for name, found in filtered.items()},
        "visible_facts_without_a_question": {
            key: count for key, count in keys.items() if key not in VISUAL_QUESTIONS
        },
        # What an LLM wrote and a check refused: before the shards, in the pool of texts, and in them.
        "dropped": {
            name: found.model_dump(mode="json")
            for name, found in _merged([before, *(shard.dropped for shard in counts)]).items()
        },
    }


def _merged(groups: Iterable[Mapping[str, Filtered]]) -> dict[str, Filtered]:
    merged: dict[str, Filtered] = {}
    for group in groups:
        for reason, found in group.items():
            merged[reason] = merged.get(reason, Filtered()) + found
    return merged
