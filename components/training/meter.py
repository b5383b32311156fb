"""What the trainer measures between two lines of the curve, summed over ranks."""

import resource
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager

import torch

from components.training.flops import Cost, Work, peak
from components.training.forest import TASKS


class Meter:
    """Counts from one `take` to the next."""

    def __init__(self, cost: Cost, device: torch.device) -> None:
        self._cost = cost
        self._peak = peak()
        self._work = Work()
        # Sum and number of the losses of each sub-task; they stay on the device between the lines.
        self._tasks = torch.zeros(2, len(TASKS), dtype=torch.float64, device=device)
        self._waited = 0.0
        self._since = 0.0  # the clock starts with the first step, not with the set-up

    @contextmanager
    def waiting(self) -> Iterator[None]:
        """Time in which the rank has nothing to compute on."""
        start = time.monotonic()
        self._since = self._since or start
        yield
        self._waited += time.monotonic() - start

    def add(self, work: Work, tasks: torch.Tensor, label_losses: torch.Tensor) -> None:
        """One micro-batch: the sub-task of every label, shape (labels,), and its loss."""
        self._work = Work(*(old + new for old, new in zip(self._work, work, strict=True)))
        self._tasks[0].index_add_(0, tasks, label_losses.double())
        self._tasks[1] += torch.bincount(tasks, minlength=len(TASKS))

    def take(self) -> dict[str, float]:
        """Figures since the last call, the same on every rank; every rank must call."""
        seconds = time.monotonic() - self._since
        sums = torch.tensor([*self._work, self._waited], dtype=torch.float64, device=self._tasks.device)
        ranks = 1
        if torch.distributed.is_initialized():
            ranks = torch.distributed.get_world_size()
            torch.distributed.all_reduce(sums)
            torch.distributed.all_reduce(self._tasks)
        *counts, waited = sums.tolist()
        work = Work(*(int(count) for count in counts))
        speed = self._cost.operations(work) / seconds
        taken = {
            "tokens_per_second": work.tokens / seconds,
            "answer_tokens_per_second": work.labels / seconds,
            "questions_per_second": work.questions / seconds,
            "flops_per_second": speed,
            "share_waiting_for_data": waited / (seconds * ranks),
            "memory_bytes": float(_memory()),
        }
        if self._peak:
            taken["mfu"] = speed / (self._peak * ranks)
        for task, total, count in zip(TASKS, *self._tasks.tolist(), strict=True):
            if count:
                taken[f"loss_{task}"] = total / count
        self._work, self._waited, self._since = Work(), 0.0, time.monotonic()
        self._tasks.zero_()
        return taken


def _memory() -> int:
    """The most memory that this rank has held, on its GPU or else in the process."""
    if torch.cuda.is_available():
        return int(torch.cuda.max_memory_allocated())
    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit
