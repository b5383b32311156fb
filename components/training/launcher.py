"""The local launcher: torchrun with one process per rank, which ends with the stage whatever happens."""

import contextlib
import json
import os
import shutil
import signal
import subprocess
import sys
import threading
from pathlib import Path
from types import FrameType

import psutil

from components.digests import inputs_digest
from components.errors import LostRankError, ParamsError, PreemptedError, error_class
from components.params import ModelParams, TrainingParams
from components.process import OWNER, free_port, run_owned
from components.training.forest import Forest, plant, tokenizer_texts, training_shards
from components.training.job import Job
from components.training.model import allow_hub, base_folder, make_processor
from components.training.processor import Processor

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
        MemoryLimitError: when a rank ran out of memory.
        LostRankError: when a rank died without an error of its own, or waited in vain for another.
        PreemptedError: after SIGTERM, with a checkpoint.
        TrainingError: when a rank failed.
    """
    deepspeed = deepspeed_configs / f"{training.deepspeed}.json"
    if not deepspeed.is_file():
        known = ", ".join(sorted(path.stem for path in deepspeed_configs.glob("*.json")))
        raise ParamsError(
            f"training.deepspeed {training.deepspeed!r} names no file of {deepspeed_configs}",
            hint=f"use one of: {known}",
        )
    allow_hub(model.base)  # before transformers is imported, which reads the switch once
    settings = json.dumps([model.model_dump(), training.model_dump(), seed], sort_keys=True)
    code = [path for part in ("rcmu", "training") for path in (_CODE / part).glob("*.py")]
    data = training_shards(scenes, turns)
    # No file for a hub id or "scratch".
    base = [path for path in Path(base_folder(model.base)).glob("*") if path.is_file()]
    inputs = inputs_digest(settings, [*data, deepspeed, *code, *base])
    own = checkpoints.resolve() / inputs[:16]
    _say_what_does_not_count(checkpoints.resolve(), own)
    own.mkdir(parents=True, exist_ok=True)
    curves.mkdir(parents=True, exist_ok=True)
    processor = _processor(model, scenes, turns, own / "processor")
    forest = plant(scenes, turns, processor, own / "forest", limit=training.sequence_tokens)
    _print_counts(forest)
    job = Job(
        model=model,
        training=training,
        seed=seed,
        inputs=inputs,
        processor=own / "processor",
        forest=forest.folder,
        deepspeed=deepspeed.resolve(),
        checkpoints=own,
        curve=curves.resolve() / "curve.jsonl",
        folder=folder.resolve(),
        failure=own / "failure.json",
    )
    job.failure.unlink(missing_ok=True)
    (own / "job.json").write_text(job.model_dump_json(indent=1), encoding="utf-8")
    asked_to_stop = threading.Event()
    if _launch(own / "job.json", ranks=training.world_size, asked_to_stop=asked_to_stop) == 0:
        return
    if job.failure.exists():
        failure = json.loads(job.failure.read_text(encoding="utf-8"))
        raise error_class(failure["exit_code"])(failure["message"], hint=failure["hint"])
    if asked_to_stop.is_set():
        raise PreemptedError(
            "training was asked to stop while no step was under way",
            hint="run the same command again when the machine is free: it goes on from the last checkpoint",
        )
    raise LostRankError(
        "a rank ended without an error of its own: it was killed, perhaps by the kernel for lack of memory",
        hint="run the same command again: training resumes from the last complete checkpoint",
    )


def _processor(model: ModelParams, scenes: Path, turns: Path, folder: Path) -> Processor:
    """The base's tokenizer and image processor with our pixel budget, or small ones of our own; kept."""
    if not folder.exists():
        building = folder.with_name(f".{folder.name}")
        shutil.rmtree(building, ignore_errors=True)
        made = make_processor(model, lambda: tokenizer_texts(scenes, turns))
        made.save_pretrained(building)
        building.rename(folder)
    return Processor.from_folder(folder)


def _say_what_does_not_count(checkpoints: Path, own: Path) -> None:
    """Training of changed inputs starts anew; nobody should wait for it to go on from earlier ones."""
    others = {marker.parents[1].name for marker in checkpoints.glob("*/checkpoint-*/COMPLETE")}
    if others and own.name not in others:
        print(
            f"starting anew: {checkpoints} has checkpoints of other params, ranks, data or code "
            f"({', '.join(sorted(others))}); go back to those to resume, or remove the folders",
            file=sys.stderr,
            flush=True,
        )


def _print_counts(forest: Forest) -> None:
    """What the training set holds and what was left out, for the terminal."""
    report = forest.report()
    dropped, marked = len(report["dropped_too_long"]), len(report["special_token_strings"])
    print(
        f"{report['samples']:,} training samples on {len(forest.grids):,} images, "
        f"{report['answer_tokens']:,} answer tokens; {dropped} dropped as too long",
        file=sys.stderr,
        flush=True,
    )
    if marked:
        print(f"{marked} turn(s) hold special-token strings, kept as plain text", file=sys.stderr)


def _launch(job: Path, *, ranks: int, asked_to_stop: threading.Event) -> int:
    """Run torchrun in a session of its own until it ends, leave no process behind, and return its exit code.

    SIGTERM sets `asked_to_stop` and is handed on. Zero means that every rank ended well, rank 0 after the
    checks of the export.
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
    before = signal.getsignal(signal.SIGTERM)
    try:
        return run_owned(
            command,
            env=env,
            seconds=10.0,
            started=lambda torchrun: _hand_on_term(torchrun, asked_to_stop),
        )
    finally:
        if threading.current_thread() is threading.main_thread():
            signal.signal(signal.SIGTERM, before)


def _hand_on_term(torchrun: "subprocess.Popen[bytes]", asked_to_stop: threading.Event) -> None:
    """SIGTERM goes to the ranks, which save a checkpoint: torchrun would give them 30 s and then KILL."""

    def to_ranks(number: int, frame: FrameType | None) -> None:
        asked_to_stop.set()
        ranks: list[psutil.Process] = []
        with contextlib.suppress(psutil.NoSuchProcess):
            ranks = psutil.Process(torchrun.pid).children()
        for rank in ranks:
            with contextlib.suppress(psutil.NoSuchProcess):
                rank.terminate()
        if not ranks:
            torchrun.terminate()

    if threading.current_thread() is threading.main_thread():  # no other may set a handler
        signal.signal(signal.SIGTERM, to_ranks)
