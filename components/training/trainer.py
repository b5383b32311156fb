"""RCVIT on one rank: HF Trainer with its DeepSpeed integration, and what is ours around it."""

import json
import sys
import time
from pathlib import Path
from typing import Any

import torch
from transformers import (
    Qwen2VLForConditionalGeneration,
    Qwen2VLImageProcessorPil,
    Trainer,
    TrainerCallback,
    TrainerControl,
    TrainerState,
    TrainingArguments,
    set_seed,
)
from transformers.trainer_callback import PrinterCallback
from transformers.utils.logging import disable_progress_bar

from components.params import TINY_BASE
from components.training.checkpoints import mark_complete, newest_complete
from components.training.data import Collator, TrainingSet, print_counts, tokenizer_texts
from components.training.export import export_model
from components.training.job import Job
from components.training.model import build_from_scratch, image_size, load_base
from components.training.processor import Processor
from components.training.tokenizer import train_tokenizer

LOG_EVERY = 10  # steps
CURVES = ("loss", "learning_rate", "grad_norm")


def run_rank(job: Job) -> None:
    """Train and, on rank 0, export."""
    _without_compiled_ops()
    disable_progress_bar()
    arguments = _arguments(job)  # starts the process group, which everything below needs
    set_seed(job.seed)
    model, processor = _start(job)
    data = TrainingSet(job.scenes, job.turns, processor, max_length=job.model.max_length)
    first = arguments.process_index == 0
    if first:
        print_counts(data)
    if job.training.steps:
        model = _train(job, model, processor, data, arguments)
    if first:
        export_model(model, processor, data, job.folder)
    if torch.distributed.is_initialized():
        torch.distributed.barrier()  # no rank may end while another still writes
        torch.distributed.destroy_process_group()


def _train(
    job: Job,
    model: Qwen2VLForConditionalGeneration,
    processor: Processor,
    data: TrainingSet,
    arguments: TrainingArguments,
) -> Qwen2VLForConditionalGeneration:
    checkpoint = newest_complete(job.checkpoints) if arguments.process_index == 0 else None
    found = [checkpoint]
    if torch.distributed.is_initialized():
        torch.distributed.broadcast_object_list(found, src=0)  # rank 0 alone looks, and tidies up
    checkpoint = found[0]
    if checkpoint is not None and arguments.process_index == 0:
        print(f"resuming from {checkpoint.name}", file=sys.stderr, flush=True)
    # The processor is saved with every checkpoint; Trainer asks no more of it than `save_pretrained`.
    trainer = Trainer(
        model=model,
        args=arguments,
        train_dataset=data,
        data_collator=Collator(processor),
        processing_class=processor,
        callbacks=[CompleteCheckpoints(), Progress(job.curve, resumed=checkpoint)],
    )
    trainer.remove_callback(PrinterCallback)  # Progress prints instead
    trainer.train(resume_from_checkpoint=str(checkpoint) if checkpoint else None)
    trained: Qwen2VLForConditionalGeneration = trainer.accelerator.unwrap_model(trainer.model)
    return trained


def _start(job: Job) -> tuple[Qwen2VLForConditionalGeneration, Processor]:
    if job.model.base != TINY_BASE:
        return load_base(job.model)
    shape = job.model.scratch
    tokenizer = train_tokenizer(tokenizer_texts(job.scenes, job.turns), vocab_size=shape.vocab_size)
    processor = Processor(tokenizer, Qwen2VLImageProcessorPil(size=image_size(job.model)))
    return build_from_scratch(shape, processor, seed=job.seed), processor


def _arguments(job: Job) -> TrainingArguments:
    params = job.training
    return TrainingArguments(
        output_dir=str(job.checkpoints),
        deepspeed=str(job.deepspeed),
        use_cpu=not torch.cuda.is_available(),
        per_device_train_batch_size=params.micro_batch_size,
        gradient_accumulation_steps=params.gradient_accumulation,
        max_steps=params.steps,
        learning_rate=params.learning_rate,
        lr_scheduler_type="cosine",
        warmup_steps=params.warmup_steps,
        weight_decay=params.weight_decay,
        max_grad_norm=params.max_grad_norm,
        optim="adamw_torch",
        bf16=params.bf16,
        activation_checkpointing=params.gradient_checkpointing,
        activation_checkpointing_kwargs={"use_reentrant": False},
        average_tokens_across_devices=True,  # the loss is divided by the answer tokens of all ranks
        save_strategy="steps",
        save_steps=params.checkpoint_every,
        save_total_limit=params.keep_checkpoints,
        logging_strategy="steps",
        logging_steps=LOG_EVERY,
        seed=job.seed,
        data_seed=job.seed,
        remove_unused_columns=False,
        dataloader_num_workers=0,
        disable_tqdm=True,
        report_to="none",
    )


def _without_compiled_ops() -> None:
    """DeepSpeed would compile a shared-memory op at start on CPU; without it gloo does the same work."""
    import deepspeed.ops

    deepspeed.ops.__compatible_ops__["deepspeed_shm_comm"] = False


class CompleteCheckpoints(TrainerCallback):
    """Marks a checkpoint complete once every rank has written its part."""

    def on_save(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: Any
    ) -> None:
        """Wait for all ranks, then let rank 0 write COMPLETE."""
        torch.distributed.barrier()
        if state.is_world_process_zero:
            mark_complete(Path(str(args.output_dir)) / f"checkpoint-{state.global_step}")


class Progress(TrainerCallback):
    """Prints a line with the time left, and appends each measurement to the curve."""

    def __init__(self, curve: Path, *, resumed: Path | None) -> None:
        self.curve = curve
        self.resumed_step = int(resumed.name.split("-")[1]) if resumed else 0
        self.start = 0.0

    def on_train_begin(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: Any
    ) -> None:
        """Keep of an earlier curve what lies before the resumed step."""
        self.start = time.monotonic()
        if state.is_world_process_zero:
            lines = self.curve.read_text(encoding="utf-8").splitlines() if self.curve.exists() else []
            kept = [line for line in lines if json.loads(line)["step"] <= self.resumed_step]
            self.curve.write_text("".join(f"{line}\n" for line in kept), encoding="utf-8")

    def on_log(
        self,
        args: TrainingArguments,
        state: TrainerState,
        control: TrainerControl,
        logs: dict[str, float] | None = None,
        **_: Any,
    ) -> None:
        """One line for the terminal, one for the curve."""
        if not state.is_world_process_zero or logs is None or "loss" not in logs:
            return
        step = state.global_step
        seconds = (time.monotonic() - self.start) / max(step - self.resumed_step, 1)
        left = int(seconds * (state.max_steps - step))
        print(
            f"step {step}/{state.max_steps}  loss {float(logs['loss']):.4f}  {seconds:.2f} s/step  "
            f"{left // 60}:{left % 60:02d} left",
            file=sys.stderr,
            flush=True,
        )
        record = {name: float(logs[name]) for name in CURVES if name in logs}
        record |= {"step": step, "seconds_per_step": round(seconds, 4)}
        with self.curve.open("a", encoding="utf-8") as file:
            file.write(json.dumps(record) + "\n")
