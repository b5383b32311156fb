"""What happens around the steps: checkpoints marked whole, progress, preemption, divergence."""

import json
import math
import signal
import sys
import time
from pathlib import Path
from types import FrameType
from typing import Any

import torch
from transformers import TrainerCallback, TrainerControl, TrainerState, TrainingArguments

from components.errors import TrainingError
from components.training.checkpoints import mark_complete

LOG_EVERY = 10  # steps
BAR = 24  # characters
SPIKE = 5.0  # standard deviations above the mean of the points before it; own choice
SPIKE_AFTER = 10  # points


class CompleteCheckpoints(TrainerCallback):
    """Marks a checkpoint complete once every rank has written its part."""

    def __init__(self, inputs: str) -> None:
        self.inputs = inputs

    def on_save(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: Any
    ) -> None:
        """Wait for all ranks, then let rank 0 write COMPLETE."""
        torch.distributed.barrier()
        if state.is_world_process_zero:
            folder = Path(str(args.output_dir)) / f"checkpoint-{state.global_step}"
            mark_complete(folder, inputs=self.inputs, world_size=args.world_size)


class Preemption(TrainerCallback):
    """After SIGTERM the step is ended, a checkpoint saved and training stopped, on all ranks at once."""

    def __init__(self) -> None:
        self.asked = False
        self.stopped = False
        self._before = signal.signal(signal.SIGTERM, self._ask)

    def _ask(self, number: int, frame: FrameType | None) -> None:
        self.asked = True

    def on_step_end(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: Any
    ) -> None:
        """The signal may have reached one rank alone, or one of them a step later."""
        asked = torch.tensor(float(self.asked), device=args.device)
        torch.distributed.all_reduce(asked)
        if asked.item() and state.global_step < state.max_steps:
            self.stopped = True
            control.should_save = control.should_training_stop = True

    def on_train_end(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: Any
    ) -> None:
        """From here on there is no step to end: a run whose owner was killed must not go on to export."""
        signal.signal(signal.SIGTERM, self._before)


class Progress(TrainerCallback):
    """Prints a line with the time left, and appends each measurement to the curve."""

    def __init__(self, curve: Path, *, resumed: Path | None) -> None:
        self.curve = curve
        self.resumed_step = int(resumed.name.split("-")[1]) if resumed else 0
        self.start = 0.0
        self.losses: list[float] = []

    def on_train_begin(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: Any
    ) -> None:
        """Keep of an earlier curve what lies before the resumed step."""
        self.start = time.monotonic()
        if not state.is_world_process_zero:
            return
        lines = self.curve.read_text(encoding="utf-8").splitlines() if self.curve.exists() else []
        kept = [line for line in lines if json.loads(line)["step"] <= self.resumed_step]
        self.losses = [json.loads(line)["loss"] for line in kept]
        self.curve.write_text("".join(f"{line}\n" for line in kept), encoding="utf-8")

    def on_log(
        self,
        args: TrainingArguments,
        state: TrainerState,
        control: TrainerControl,
        logs: dict[str, float] | None = None,
        **_: Any,
    ) -> None:
        """One line for the terminal, one for the curve.

        Raises:
            TrainingError: on every rank, when the gradient is no number any more.
        """
        if logs is None or "loss" not in logs:
            return
        step = state.global_step
        if not math.isfinite(logs.get("grad_norm", 0.0)):
            raise TrainingError(
                f"the gradient is {logs['grad_norm']} at step {step}",
                hint="lower training.learning_rates or raise training.warmup_steps in params.yaml",
            )
        if not state.is_world_process_zero:
            return
        spike = _is_spike(logs["loss"], self.losses)
        self.losses.append(logs["loss"])
        seconds = (time.monotonic() - self.start) / max(step - self.resumed_step, 1)
        left = int(seconds * (state.max_steps - step))
        done = BAR * step // state.max_steps
        print(
            f"[{'=' * done}{' ' * (BAR - done)}] {step}/{state.max_steps}  loss {logs['loss']:.4f}"
            f"{' (a spike)' if spike else ''}  {logs['questions_per_second']:.0f} questions/s  "
            f"{seconds:.2f} s/step  {left // 60}:{left % 60:02d} left",
            file=sys.stderr,
            flush=True,
        )
        record = {name: float(value) for name, value in logs.items() if name != "epoch"}
        record |= {"step": step, "seconds_per_step": round(seconds, 4), "spike": float(spike)}
        with self.curve.open("a", encoding="utf-8") as file:
            file.write(json.dumps(record) + "\n")


def _is_spike(loss: float, before: list[float]) -> bool:
    """Whether a point lies far above the last ones."""
    last = before[-SPIKE_AFTER:]
    if len(last) < SPIKE_AFTER:
        return False
    mean = sum(last) / len(last)
    deviation = math.sqrt(sum((value - mean) ** 2 for value in last) / len(last))
    return loss > mean + SPIKE * deviation
