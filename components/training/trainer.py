"""RCVIT on one rank: HF Trainer with its DeepSpeed integration, and what is ours around it."""

import os
import sys
from typing import Any

import torch
from transformers import Qwen2VLForConditionalGeneration, Trainer, TrainingArguments, set_seed
from transformers.integrations.deepspeed import unset_hf_deepspeed_config
from transformers.trainer_callback import PrinterCallback
from transformers.utils.logging import disable_progress_bar

from components.errors import PreemptedError, TrainingError
from components.params import SCRATCH
from components.training.attention import BLOCK, register_flex
from components.training.callbacks import LOG_EVERY, CompleteCheckpoints, Preemption, Progress
from components.training.checkpoints import newest_complete
from components.training.collator import MEASURED, Assembler, Collator, PackedSequence
from components.training.export import export_model, label_losses
from components.training.flops import Cost, Work
from components.training.forest import Forest
from components.training.job import Job
from components.training.meter import Meter
from components.training.model import build_from_scratch, load_base
from components.training.muon import Muon
from components.training.packing import Stream, Tree
from components.training.parts import choose_trained, parameter_groups
from components.training.processor import IGNORED, Processor
from components.training.rcvit import POSITIONS_PER_CHUNK, Rcvit


def run_rank(job: Job) -> None:
    """Train and, on rank 0, export."""
    _without_compiled_ops()
    disable_progress_bar()
    processor = Processor.from_folder(job.processor)
    forest = Forest(job.forest)
    # Random weights are drawn before the arguments exist: under ZeRO-3 these cut a model while it is built,
    # which a published base needs and drawing cannot do.
    qwen = (
        build_from_scratch(job.model.scratch, processor, seed=job.seed) if job.model.base == SCRATCH else None
    )
    arguments = _arguments(job)  # starts the process group, which everything below needs
    set_seed(job.seed)
    qwen = qwen or load_base(job.model)
    choose_trained(qwen, job.training)
    if job.training.gradient_checkpointing:
        qwen.activation_checkpointing_enable(activation_checkpointing_kwargs={"use_reentrant": False})
    if torch.cuda.is_available():
        qwen.set_attn_implementation({"text_config": register_flex()})
    most = job.training.sequence_tokens * job.training.micro_batch_size
    # About a quarter of the tokens are answers; the number of chunks must be the same on every rank.
    rcvit = Rcvit(qwen, loss_chunks=max(1, most // (4 * POSITIONS_PER_CHUNK)))
    trainer = RcvitTrainer(job, rcvit, forest, processor, arguments)
    if job.training.steps:
        _train(job, trainer, arguments)
    _export(job, trainer, qwen, processor)
    if torch.distributed.is_initialized():
        torch.distributed.barrier()  # no rank may end while another still writes
        torch.distributed.destroy_process_group()


def _train(job: Job, trainer: "RcvitTrainer", arguments: TrainingArguments) -> None:
    """From the newest complete checkpoint to the last step.

    Raises:
        PreemptedError: when SIGTERM stopped it before.
    """
    first = arguments.process_index == 0
    found = [
        newest_complete(job.checkpoints, inputs=job.inputs, world_size=arguments.world_size)
        if first
        else None
    ]
    if torch.distributed.is_initialized():
        torch.distributed.broadcast_object_list(found, src=0)  # rank 0 alone looks, and tidies up
    checkpoint = found[0]
    if checkpoint is not None and first:
        print(f"resuming from {checkpoint.name}", file=sys.stderr, flush=True)
    preemption = Preemption()
    trainer.add_callback(preemption)
    trainer.add_callback(Progress(job.curve, resumed=checkpoint))
    trainer.train(resume_from_checkpoint=str(checkpoint) if checkpoint else None)
    if preemption.stopped:
        raise PreemptedError(
            f"training was asked to stop, and saved a checkpoint at step {trainer.state.global_step}",
            hint="run the same command again when the machine is free: training goes on from there",
        )


def _export(
    job: Job, trainer: "RcvitTrainer", qwen: Qwen2VLForConditionalGeneration, processor: Processor
) -> None:
    """Gather the weights, which every rank must take part in, and let rank 0 write them."""
    forest, engine = trainer.forest, trainer.model_wrapped
    first = Tree(int(forest.trunk_of[forest.text_set_of[0]]), (0,))
    batch = trainer.data_collator([Assembler(forest, processor)((first,))])
    inputs = trainer._prepare_inputs({name: batch[name] for name in batch if name not in MEASURED})
    expected = label_losses(engine, inputs)
    whole = trainer.accelerator.get_state_dict(engine) if trainer.deepspeed else engine.state_dict()
    if trainer.is_world_process_zero():
        unset_hf_deepspeed_config()  # or ZeRO-3 would cut the models that are built from here on
        weights = {name.removeprefix("qwen."): value for name, value in whole.items()}
        export_model(qwen, weights, processor, forest, job.folder, lora=job.training.lora, expected=expected)


class Sequences(torch.utils.data.Dataset[PackedSequence]):
    """The packed sequences of the whole training, in order."""

    def __init__(self, stream: Stream, assembler: Assembler, length: int) -> None:
        self._stream, self._assembler, self._length = stream, assembler, length

    def __len__(self) -> int:
        return self._length

    def __getitem__(self, number: int) -> PackedSequence:
        return self._assembler(self._stream[number])


class RcvitTrainer(Trainer):
    """Trainer with our order of the data, our parameter groups and our measurements."""

    def __init__(
        self, job: Job, rcvit: Rcvit, forest: Forest, processor: Processor, arguments: TrainingArguments
    ) -> None:
        params = job.training
        stream = Stream(forest, budget=params.sequence_tokens, seed=job.seed)
        per_step = params.world_size * params.micro_batch_size * params.gradient_accumulation
        # Compiled attention wants one length; blocks of padding cost it nothing.
        length = -(-params.sequence_tokens // BLOCK) * BLOCK if torch.cuda.is_available() else None
        super().__init__(
            model=rcvit,
            args=arguments,
            train_dataset=Sequences(stream, Assembler(forest, processor), params.steps * per_step),
            data_collator=Collator(processor, length=length),
            processing_class=processor,  # saved with every checkpoint; no more is asked of it
            callbacks=[CompleteCheckpoints(job.inputs)],
        )
        self.remove_callback(PrinterCallback)  # Progress prints instead
        self.params = params
        self.forest = forest
        self.meter = Meter(Cost(rcvit.qwen), arguments.device)
        self.tasks = torch.from_numpy(forest.tasks.astype("int64")).to(arguments.device)

    def _get_train_sampler(self, train_dataset: Any = None) -> torch.utils.data.Sampler[int]:
        """In order: the stream is shuffled already, epoch by epoch, and no step repeats or drops anything."""
        return torch.utils.data.SequentialSampler(self.train_dataset)

    def create_optimizer(self, model: torch.nn.Module | None = None) -> torch.optim.Optimizer:
        """The optimizer of the params, with a rate for each part."""
        groups = parameter_groups(self.model, self.params)
        optimizer: torch.optim.Optimizer
        if self.params.optimizer == "muon":
            optimizer = Muon(groups)
        else:
            cls, settings = self.get_optimizer_cls_and_kwargs(self.args, self.model)
            optimizer = cls(groups, **settings)
        self.optimizer = optimizer
        return optimizer

    def save_model(self, output_dir: str | None = None, _internal_call: bool = False) -> None:
        """The processor; DeepSpeed's part of the checkpoint holds the weights."""
        if self.is_world_process_zero():
            self.processing_class.save_pretrained(output_dir)

    def get_batch_samples(self, *args: Any, **kwargs: Any) -> Any:
        """The micro-batches of a step, with the time they take."""
        with self.meter.waiting():
            return super().get_batch_samples(*args, **kwargs)

    def compute_loss(
        self,
        model: torch.nn.Module,
        inputs: dict[str, Any],
        return_outputs: bool = False,
        num_items_in_batch: torch.Tensor | int | None = None,
    ) -> Any:
        """The loss of a micro-batch, measured.

        Raises:
            TrainingError: naming the turns, when it is no number.
        """
        branch_of, work = inputs.pop("branch_of"), Work(**inputs.pop("work"))
        loss, outputs = super().compute_loss(model, inputs, True, num_items_in_batch)
        branches = branch_of[inputs["labels"] != IGNORED]
        if not torch.isfinite(loss):
            broken = branches[~torch.isfinite(outputs["label_losses"])].unique().tolist() or branches.tolist()
            turns = self.forest.names()["turns"]
            raise TrainingError(
                f"the loss is {loss.item()} at step {self.state.global_step + 1}, in the turns "
                + ", ".join(dict.fromkeys(turns[branch] for branch in broken)),
                hint="lower training.learning_rates or raise training.warmup_steps in params.yaml; "
                "if one turn comes up again and again, look at its image and texts",
            )
        self.meter.add(work, self.tasks[branches], outputs["label_losses"])
        return (loss, outputs) if return_outputs else loss

    def log(self, logs: dict[str, float], start_time: float | None = None) -> None:
        """Trainer's figures and the meter's."""
        super().log({**logs, **self.meter.take()} if "loss" in logs else logs, start_time)


def _arguments(job: Job) -> TrainingArguments:
    params = job.training
    rates = params.learning_rates
    gpu = torch.cuda.is_available()
    return TrainingArguments(
        output_dir=str(job.checkpoints),
        deepspeed=str(job.deepspeed),
        use_cpu=not gpu,
        per_device_train_batch_size=params.micro_batch_size,
        gradient_accumulation_steps=params.gradient_accumulation,
        max_steps=params.steps,
        learning_rate=max(
            filter(None, (rates.vision, rates.merger, rates.language))
        ),  # each group has its own
        lr_scheduler_type="warmup_stable_decay",
        lr_scheduler_kwargs={
            "num_decay_steps": round(params.decay_share * max(0, params.steps - params.warmup_steps)),
            "decay_type": "linear",
        },
        warmup_steps=params.warmup_steps,
        weight_decay=params.weight_decay,
        max_grad_norm=params.max_grad_norm,
        optim="adamw_torch",
        bf16=params.bf16,
        average_tokens_across_devices=True,  # the loss is divided by the answer tokens of all ranks
        save_strategy="steps",
        save_steps=params.checkpoint_every,
        save_total_limit=params.keep_checkpoints,
        logging_strategy="steps",
        logging_steps=LOG_EVERY,
        seed=job.seed,
        data_seed=job.seed,
        remove_unused_columns=False,
        dataloader_num_workers=min(8, (os.cpu_count() or 1) // params.world_size) if gpu else 0,
        disable_tqdm=True,
        report_to="none",
    )


def _without_compiled_ops() -> None:
    """DeepSpeed would compile a shared-memory op at start on CPU; without it gloo does the same work."""
    import deepspeed.ops

    deepspeed.ops.__compatible_ops__["deepspeed_shm_comm"] = False
