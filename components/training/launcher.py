"""The local launcher: torchrun with one process per rank, which ends with the stage whatever happens."""

import json
import os
import sys
from pathlib import Path

from components.errors import LostRankError, ParamsError, error_class
from components.params import ModelParams, TrainingParams
from components.process import OWNER, free_port, run_owned
from components.training.checkpoints import inputs_digest
from components.training.job import Job

_CODE = Path(__file__).resolve().parent.parent  # components/


def train_model(
    *,
    scenes: Path,
    turns: Path,
    model: ModelParams,
    training: TrainingParams,
    seed: int,
    deepspeed_configs: Path,
    checkpoints: Path,
    curves: Path,
    folder: Path,
) -> None:
    """Train on `training.world_size` ranks and export a Hugging Face folder into `folder`.

    Resumes from the newest complete checkpoint of the same inputs. The last checkpoints stay after
    success (own choice): a killed export or a repeated stage starts from them.

    Raises:
        ParamsError: when the named DeepSpeed config does not exist.
        DataError: when a sample is broken; the message names it.
        LostRankError: when a rank died without an error of its own, by a signal for example.
        TrainingError: when a rank failed.
    """
    deepspeed = deepspeed_configs / f"{training.deepspeed}.json"
    if not deepspeed.is_file():
        known = ", ".join(sorted(path.stem for path in deepspeed_configs.glob("*.json")))
        raise ParamsError(
            f"training.deepspeed {training.deepspeed!r} names no file of {deepspeed_configs}",
            hint=f"use one of: {known}",
        )
    settings = json.dumps([model.model_dump(), training.model_dump(), seed], sort_keys=True)
    code = [path for part in ("rcmu", "training") for path in (_CODE / part).glob("*.py")]
    data = [scenes / "scenes.parquet", turns / "contexts.parquet", turns / "turns.parquet"]
    base = [path for path in Path(model.base).glob("*") if path.is_file()]  # none for a hub id or "scratch"
    own = checkpoints / inputs_digest(settings, [*data, deepspeed, *code, *base])[:16]
    own.mkdir(parents=True, exist_ok=True)
    curves.mkdir(parents=True, exist_ok=True)
    job = Job(
        scenes=scenes.resolve(),
        turns=turns.resolve(),
        model=model,
        training=training,
        seed=seed,
        deepspeed=deepspeed.resolve(),
        checkpoints=own.resolve(),
        curve=curves.resolve() / "curve.jsonl",
        folder=folder.resolve(),
        failure=own.resolve() / "failure.json",
    )
    job.failure.unlink(missing_ok=True)
    (own / "job.json").write_text(job.model_dump_json(indent=1), encoding="utf-8")
    if _launch(own / "job.json", ranks=training.world_size) == 0:
        return
    if job.failure.exists():
        failure = json.loads(job.failure.read_text(encoding="utf-8"))
        raise error_class(failure["exit_code"])(failure["message"], hint=failure["hint"])
    raise LostRankError(
        "a rank ended without an error of its own: it was killed, or ran out of memory",
        hint="run the same command again: training resumes from the last complete checkpoint",
    )


def _launch(job: Path, *, ranks: int) -> int:
    """Run torchrun in a session of its own until it ends, leave no process behind, and return its exit code.

    Zero means that every rank ended well, rank 0 after the checks of the export.
    """
    command = [
        *(sys.executable, "-m", "torch.distributed.run"),
        *("--nnodes", "1", "--nproc-per-node", str(ranks)),
        *("--master-addr", "127.0.0.1", "--master-port", str(free_port())),
        *("--module", "components.training.rank", str(job)),
    ]
    # One thread per rank: faster than the default on busy cores, and it fixes the order of sums.
    threads = dict.fromkeys(("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS"), "1")
    # torch warns of its own calls to its own deprecated names, on every rank.
    quiet = {"PYTHONWARNINGS": "ignore::FutureWarning"}
    path = os.pathsep.join(filter(None, [str(_CODE.parent), os.environ.get("PYTHONPATH")]))
    env = {**os.environ, **threads, **quiet, "PYTHONPATH": path, OWNER: str(os.getpid())}
    return run_owned(command, env=env, seconds=10.0)
