"""Minutes of kills and matrices: the cut of the batch, of the weights and of time changes nothing."""

import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import psutil
import pytest
from safetensors import safe_open

from components.errors import LostRankError, PreemptedError, TrainingError
from components.params import LearningRates, LoraParams
from components.process import run_owned
from tests.conftest import REPO
from tests.training.stage import Stage, alive, complete, ranks, tree_in_training

pytestmark = pytest.mark.long

CUTS = [
    {"world_size": 1, "gradient_accumulation": 2},
    {"micro_batch_size": 1, "gradient_accumulation": 2},
    {"world_size": 1, "micro_batch_size": 1, "gradient_accumulation": 4},
    {"deepspeed": "zero0"},
    {"deepspeed": "zero3"},
    {"deepspeed": "zero2_offload"},
    {"deepspeed": "zero3_offload"},
    {"deepspeed": "zero3", "world_size": 1, "gradient_accumulation": 2},
    {"gradient_checkpointing": True},
    {"deepspeed": "zero3", "gradient_checkpointing": True},
]


@pytest.mark.parametrize("cut", CUTS, ids=lambda cut: " ".join(f"{k}={v}" for k, v in cut.items()))
def test_the_loss_is_the_same_however_it_is_cut(
    trained: Stage, stage: Callable[..., Stage], cut: dict[str, Any]
) -> None:
    other = stage(**cut).run()
    assert other.losses() == pytest.approx(trained.losses(), abs=1e-4)
    if cut.get("deepspeed") == "zero0":
        return  # DeepSpeed tells no gradient norm there
    # Adam hides a constant factor of the gradient, the norm does not.
    assert other.curve("grad_norm") == pytest.approx(trained.curve("grad_norm"), rel=1e-3)


def test_the_rate_stays_and_then_falls_in_a_line(trained: Stage) -> None:
    rates = trained.curve("learning_rate")  # of 20 steps: 2 to warm up, 9 to stay, 9 to fall
    assert rates[10] == pytest.approx(1e-3)
    assert rates[20] == pytest.approx(1e-3 / 9)


def test_muon_learns_and_its_loss_does_not_depend_on_the_ranks(stage: Callable[..., Stage]) -> None:
    two = stage(deepspeed="zero0", optimizer="muon").run()
    one = stage(deepspeed="zero0", optimizer="muon", world_size=1, gradient_accumulation=2).run()
    assert one.losses() == pytest.approx(two.losses(), abs=1e-4)
    assert two.losses()[20] < two.losses()[10]


def test_a_folder_as_base_trains_on_however_the_weights_are_cut(
    trained: Stage, stage: Callable[..., Stage]
) -> None:
    base = str(trained.folder)
    cut = {name: stage(base=base, deepspeed=name).run() for name in ("zero2", "zero3")}
    assert cut["zero2"].losses()[10] < trained.losses()[20]  # it goes on where the base was
    assert cut["zero3"].losses() == pytest.approx(cut["zero2"].losses(), abs=1e-4)


def test_in_16_bits_the_loss_is_about_the_same(trained: Stage, stage: Callable[..., Stage]) -> None:
    assert stage(bf16=True).run().losses() == pytest.approx(trained.losses(), abs=0.1)


@pytest.mark.parametrize("deepspeed", ["zero2", "zero3"])
def test_adapters_train_beside_a_frozen_tower_and_are_merged(
    trained: Stage, stage: Callable[..., Stage], deepspeed: str
) -> None:
    rates = LearningRates(vision=None, merger=1e-3, language=1e-2)
    adapted = stage(deepspeed=deepspeed, lora=LoraParams(rank=4, alpha=8), learning_rates=rates).run()
    losses = adapted.losses()
    assert losses[20] < losses[10] - 0.1
    names = []
    for folder in (trained.folder, adapted.folder):
        with safe_open(folder / "model.safetensors", "pt") as weights:
            names.append(set(weights.keys()))
    assert names[0] == names[1]


def kill(process: "subprocess.Popen[bytes]") -> None:
    process.kill()
    process.wait()


def writing(home: Path) -> Callable[[], bool]:
    """Whether a checkpoint is being written now."""

    def half() -> bool:
        made = set(home.glob("checkpoints/*/checkpoint-*"))
        return bool(made - {marker.parent for marker in complete(home)})

    return half


def test_killed_at_five_random_moments_it_ends_with_the_same_weights(
    trained: Stage, stage: Callable[..., Stage]
) -> None:
    interrupted, rng, hit = stage(), random.Random(5), 0
    for moment in range(5):
        process = interrupted.start()
        curve = interrupted.home / "curves/curve.jsonl"
        curve.unlink(missing_ok=True)
        below = tree_in_training(process, interrupted.home, until=curve.exists)
        if moment % 2:  # while a checkpoint is written
            below = tree_in_training(process, interrupted.home, until=writing(interrupted.home))
        time.sleep(rng.uniform(0, 0.6))
        below = psutil.Process(process.pid).children(recursive=True) or below
        hit += process.poll() is None
        if moment != 2:  # once the stage alone: its ranks end themselves
            for rank in ranks(below):
                rank.kill()
        kill(process)
        assert alive(below) == []
    assert hit >= 4  # a run that had ended was not killed
    assert "resuming from checkpoint-" in interrupted.run().log
    assert interrupted.weights() == trained.weights()


def test_preempted_it_goes_on_from_the_step_it_had_reached(
    trained: Stage, stage: Callable[..., Stage]
) -> None:
    preempted = stage(checkpoint_every=19)
    process = preempted.start()
    tree_in_training(process, preempted.home, until=(preempted.home / "curves/curve.jsonl").exists)
    process.terminate()
    assert process.wait(timeout=120) == PreemptedError.exit_code, preempted.log
    (saved,) = complete(preempted.home)
    assert f"at step {saved.parent.name.removeprefix('checkpoint-')}\n" in preempted.log
    assert "resuming from checkpoint-" in preempted.run().log
    assert preempted.weights() == trained.weights()


def test_the_same_inputs_give_the_same_bytes(trained: Stage, stage: Callable[..., Stage]) -> None:
    again = stage().run()
    for path in trained.folder.iterdir():
        assert (again.folder / path.name).read_bytes() == path.read_bytes(), path.name
    assert again.losses() == trained.losses()


def test_a_killed_rank_is_a_lost_rank_and_the_rest_ends(trained: Stage, stage: Callable[..., Stage]) -> None:
    interrupted = stage()
    process = interrupted.start()
    below = tree_in_training(process, interrupted.home)
    ranks(below)[1].kill()
    assert process.wait(timeout=120) == LostRankError.exit_code, interrupted.log
    assert "run the same command again" in interrupted.log
    assert alive(below) == []
    assert "resuming from checkpoint-" in interrupted.run().log
    assert interrupted.weights() == trained.weights()


def test_a_truncated_newest_checkpoint_is_skipped_with_a_notice(
    trained: Stage, stage: Callable[..., Stage]
) -> None:
    interrupted = stage()
    process = interrupted.start()
    tree_in_training(process, interrupted.home, until=lambda: len(complete(interrupted.home)) == 2)
    kill(process)
    newest = max(complete(interrupted.home), key=lambda path: int(path.parent.name.split("-")[1])).parent
    states = sorted(newest.rglob("*optim_states.pt"))
    states[0].write_bytes(states[0].read_bytes()[:1000])
    log = interrupted.run().log
    assert f"checkpoint {newest.name} is not used: " in log
    assert "resuming from checkpoint-" in log
    assert interrupted.weights() == trained.weights()


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_cancelled_it_leaves_no_process(stage: Callable[..., Stage], number: signal.Signals) -> None:
    cancelled = stage()
    process = cancelled.start()
    below = tree_in_training(process, cancelled.home)
    process.send_signal(number)
    assert process.wait(timeout=120) != 0
    assert alive(below) == []


def test_a_loss_that_is_no_number_stops_training_and_names_the_turns(stage: Callable[..., Stage]) -> None:
    wild = LearningRates(vision=1e30, merger=1e30, language=1e30)
    diverged = stage(learning_rates=wild, warmup_steps=0)
    assert diverged.start().wait(timeout=120) == TrainingError.exit_code, diverged.log
    assert "the loss is nan at step 2, in the turns " in diverged.log
    assert "/c0/t" in diverged.log.split("in the turns ")[1]
    assert "learning_rates" in diverged.log


TEXT_ONLY = """
import os, sys
import torch, deepspeed, deepspeed.ops
deepspeed.ops.__compatible_ops__["deepspeed_shm_comm"] = False
from pathlib import Path
from components.training.collator import MEASURED, Assembler, Collator
from components.training.forest import Forest
from components.training.model import build_from_scratch
from components.training.packing import Tree
from components.training.processor import Processor
from components.training.rcvit import Rcvit
from tests.training.conftest import SHAPE
folder = Path(sys.argv[1])
deepspeed.init_distributed("gloo")
rank = torch.distributed.get_rank()
processor, forest = Processor.from_folder(folder / "processor"), Forest(folder / "forest")
made = Collator(processor, length=None)([Assembler(forest, processor)((Tree(0, (0,)),))])
batch = {name: made[name] for name in made if name not in MEASURED}
if rank == 1:
    batch["input_ids"] = batch["input_ids"].masked_fill(batch["input_ids"] == processor.image_pad, 2)
    del batch["pixel_values"], batch["image_grid_thw"]
rcvit = Rcvit(build_from_scratch(SHAPE, processor, seed=1))
engine, *_ = deepspeed.initialize(
    model=rcvit,
    optimizer=torch.optim.AdamW(rcvit.parameters(), lr=1e-3),
    config={"train_micro_batch_size_per_gpu": 1, "zero_optimization": {"stage": 3},
            "zero_allow_untested_optimizer": True, "zero_force_ds_cpu_optimizer": False},
)
for step in range(3):
    loss = engine(**batch)["loss"]
    engine.backward(loss)
    engine.step()
print("rank", rank, "ended with", float(loss), flush=True)
"""


def test_zero3_with_a_rank_of_text_alone_ends(trained: Stage, tmp_path: Path) -> None:
    (made,) = trained.home.glob("checkpoints/*")
    script = tmp_path / "text_only.py"
    script.write_text(TEXT_ONLY)
    command = [sys.executable, "-m", "torch.distributed.run", "--nproc-per-node", "2", str(script), str(made)]
    quiet = {"DS_ACCELERATOR": "cpu", "OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": ""}
    with (tmp_path / "log").open("wb") as log:
        environment = {**os.environ, **quiet, "PYTHONPATH": str(REPO)}
        code = run_owned(command, env=environment, seconds=5, cwd=REPO, stdout=log)
    said = (tmp_path / "log").read_text()
    assert code == 0, said
    assert said.count("ended with") == 2
