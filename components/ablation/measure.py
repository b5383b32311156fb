"""Every variant trained and judged, one by one or side by side; results that are there are kept."""

import os
import sys
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from pathlib import Path

import psutil

from components.ablation.trial import RESULT, Result, Trial
from components.ablation.variants import VARIANTS, Variant
from components.errors import error_class
from components.params import Params
from components.process import end_tree, run_owned

_TRIAL, _LOG = "trial.json", "log.txt"
_CODE = Path(__file__).resolve().parents[2]  # what holds components/


def measure(
    params: Params,
    *,
    scenes: Path,
    turns: Path,
    deepspeed_configs: Path,
    folder: Path,
    variants: Sequence[Variant] = VARIANTS,
    seeds: Mapping[str, int],
    jobs: int,
) -> list[Result]:
    """The results of `variants`, each with as many seeds as `seeds` says, else one.

    Args:
        params: of the run whose data it is; every training is its training, with seed, seed + 1, ...
        scenes: the run's scenes stage.
        turns: the run's generate stage.
        deepspeed_configs: as the trainer takes them.
        folder: results lie here by variant and seed; those that are there are taken as they are.
        variants: which to train and judge.
        seeds: variant -> number of trainings.
        jobs: trainings side by side. With more than one each has a single rank, which takes the batches of
            all ranks one after the other: the same loss.

    Raises:
        RcvitError: of the class that a training ended with; those beside it are stopped.
    """
    training = params.training
    if jobs > 1:
        accumulation = training.gradient_accumulation * training.world_size
        training = training.model_copy(update={"world_size": 1, "gradient_accumulation": accumulation})
    trials = [
        Trial(
            variant=variant.name,
            seed=seed,
            params=params.model_copy(update={"training": training}),
            scenes=scenes.resolve(),
            turns=turns.resolve(),
            deepspeed_configs=deepspeed_configs.resolve(),
            folder=(own := folder.resolve() / f"{variant.name}-{seed}"),
            log=own / _LOG if jobs > 1 else None,
        )
        for variant in variants
        for seed in range(params.seed, params.seed + seeds.get(variant.name, 1))
    ]
    with ThreadPoolExecutor(jobs) as pool:
        futures = [
            pool.submit(_run, trial, f"{number} of {len(trials)}: {trial.variant}, seed {trial.seed}")
            for number, trial in enumerate(trials, start=1)
        ]
        try:
            for future in as_completed(futures):
                future.result()
        except BaseException:
            pool.shutdown(wait=False, cancel_futures=True)
            end_tree(psutil.Process(), seconds=30.0, including_root=False)
            raise
    return [Result.model_validate_json((t.folder / RESULT).read_text(encoding="utf-8")) for t in trials]


def _run(trial: Trial, title: str) -> None:
    if (trial.folder / RESULT).exists():
        print(f"{title}: is there", file=sys.stderr, flush=True)
        return
    trial.folder.mkdir(parents=True, exist_ok=True)
    job = trial.folder / _TRIAL
    job.write_text(trial.model_dump_json(indent=1) + "\n", encoding="utf-8")
    print(f"{title}{f', progress in {trial.log}' if trial.log else ''}", file=sys.stderr, flush=True)
    path = os.pathsep.join(filter(None, [str(_CODE), os.environ.get("PYTHONPATH")]))
    command = [sys.executable, "-m", "components.ablation.trial", str(job)]
    code = run_owned(command, env={**os.environ, "PYTHONPATH": path}, seconds=30.0)
    if code:
        said = f"see {trial.log}" if trial.log else "see above"
        raise error_class(code)(f"{title} failed", hint=f"{said}; `rcvit ablate` goes on from there")
    print(f"{title}: done", file=sys.stderr, flush=True)
