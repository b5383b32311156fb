"""The ablation of a finished run: measure, summarise, write, record."""

import sys
from pathlib import Path

from components.ablation.measure import measure
from components.ablation.record import record
from components.ablation.report import picture, summarise, table
from components.digests import inputs_digest
from components.errors import DataError
from components.params import load_params
from components.rcmu.tables import shard_paths
from components.settings import Settings
from components.workspace import Run

# Three trainings where the verdict hangs on the difference, one for the rest (own choice).
SEEDS = {"rcvit": 3, "without_boxes": 3}
FOLDER = Path(".rcvit/ablation")  # of the run's workspace; in it a folder by the digest of all that counts


def ablate(run: Run, settings: Settings, *, jobs: int = 1) -> Path:
    """Train and judge all variants, `jobs` side by side; the folder with ablation.md, .png and .json.

    Raises:
        DataError: when the run has no data yet.
    """
    scenes, turns = run.folder / "outs/scenes", run.folder / "outs/turns"
    try:
        data = [
            *shard_paths(scenes, "scenes"),
            *shard_paths(turns, "contexts"),
            *shard_paths(turns, "turns"),
        ]
    except FileNotFoundError:
        hint = "`rcvit run` first, with the same profile"
        raise DataError(f"run {run.name} has no data yet", hint=hint) from None
    params = load_params(run.folder / "params.yaml")
    # A dirty checkout works in place: other changes or other data must not find these results.
    folder = run.folder / FOLDER / inputs_digest(run.digest, data)[:16]
    results = measure(
        params,
        scenes=scenes,
        turns=turns,
        deepspeed_configs=run.folder / "infra/deepspeed",
        folder=folder / "trainings",
        seeds=SEEDS,
        jobs=jobs,
    )
    ablation = summarise(results, params.evaluation, seed=params.seed)
    shown = folder / "results"
    shown.mkdir(parents=True, exist_ok=True)
    (shown / "ablation.md").write_text(table(ablation), encoding="utf-8")
    (shown / "ablation.png").write_bytes(picture(ablation))
    (shown / "ablation.json").write_text(ablation.model_dump_json(indent=1) + "\n", encoding="utf-8")
    print(f"recorded as MLflow run {record(ablation, shown, run, settings)}", file=sys.stderr, flush=True)
    return shown
