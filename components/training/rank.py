"""One rank of a training job: `python -m components.training.rank JOB.json`, started by torchrun."""

import json
import os
import signal
import sys
import time
import traceback
from pathlib import Path

from components.errors import BugError, LostRankError, MemoryLimitError, RcvitError
from components.process import die_with_owner
from components.training.job import Job
from components.training.model import allow_hub

TORCHRUN_NOTICES = 5.0  # seconds; own choice, torchrun looks at its ranks every 0.1 s


def main() -> None:
    """Train, and leave the reason of a failure where the launcher reads it."""
    job = Job.model_validate_json(Path(sys.argv[1]).read_text(encoding="utf-8"))
    die_with_owner(os.environ)  # the launcher
    die_with_owner({})  # and torchrun, which would leave its ranks behind when it is killed
    allow_hub(job.model.base)  # before transformers is imported, which reads the switch once
    import torch

    if not torch.cuda.is_available():
        os.environ["DS_ACCELERATOR"] = "cpu"
    try:
        from components.training.trainer import run_rank

        run_rank(job)
    except RcvitError as error:
        _record(job, error)
        sys.exit(error.exit_code)
    except Exception as error:  # noqa: BLE001  the outer boundary of the process: recorded, never hidden
        traceback.print_exc()
        signal.signal(signal.SIGTERM, signal.SIG_DFL)  # in training it would be taken for a preemption
        # Where another rank was lost, this error ("connection reset") only follows from it: torchrun ends
        # this process while it sleeps, and nothing is recorded. An error of its own survives the sleep.
        time.sleep(TORCHRUN_NOTICES)
        wrapped = classed(error)
        _record(job, wrapped)
        sys.exit(wrapped.exit_code)


def classed(error: Exception) -> RcvitError:
    """The error as the flow decides by it."""
    import torch

    said = f"{type(error).__name__}: {error}"
    # On a CPU torch raises a plain RuntimeError, which names its allocator.
    if isinstance(error, torch.OutOfMemoryError | MemoryError) or "DefaultCPUAllocator" in said:
        return MemoryLimitError(
            said,
            hint="in params.yaml halve training.micro_batch_size and double training.gradient_accumulation, "
            "set training.gradient_checkpointing, lower training.sequence_tokens, or take deepspeed: zero3",
        )
    # Gloo reports a time-out and a lost peer as a RuntimeError.
    lost = ("timed out", "closed by peer", "reset by peer")
    if isinstance(error, torch.distributed.DistError) or any(sign in said.lower() for sign in lost):
        return LostRankError(
            said, hint="run the same command again: training resumes from the last checkpoint"
        )
    return BugError(said, hint="this is a bug in rcvit: report it with the traceback above")


def _record(job: Job, error: RcvitError) -> None:
    """The first rank that fails is the one to report; the others fail because it is gone."""
    failure = {"exit_code": error.exit_code, "message": error.message, "hint": error.hint}
    try:
        with job.failure.open("x", encoding="utf-8") as file:
            json.dump(failure, file)
    except FileExistsError:
        print(f"another rank failed first; here: {error.message}", file=sys.stderr)


if __name__ == "__main__":
    main()
