"""What trains: a gradient on every trained and on no frozen parameter; adapters that merge to the same."""

from pathlib import Path
from typing import Any

import pytest
import torch
from pydantic import ValidationError

from components.params import LearningRates, LoraParams, TrainingParams, load_params
from components.training.collator import MEASURED, Assembler, Collator
from components.training.flops import Cost, Work
from components.training.forest import plant
from components.training.model import build_from_scratch
from components.training.packing import Tree
from components.training.parts import choose_trained, merge_adapters, parameter_groups, part_of
from components.training.processor import Processor
from components.training.rcvit import Rcvit
from tests.training.conftest import SHAPE, write_trees

LORA = LoraParams(rank=4, alpha=8)
RATES = {"vision": 1e-5, "merger": 1e-4, "language": 1e-3}


@pytest.fixture(scope="module")
def batch(processor: Processor, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    folder = tmp_path_factory.mktemp("trees")
    write_trees(folder, [[[("Who owns it?", "Ada Moss.[1]"), ("Why?", "So.")]]])
    forest = plant(folder, folder, processor, folder / "forest", limit=1000)
    made = Collator(processor, length=None)([Assembler(forest, processor)((Tree(0, (0, 1)),))])
    return {name: made[name] for name in made if name not in MEASURED}


def training(repo: Path, lora: LoraParams | None, **rates: float | None) -> TrainingParams:
    params = load_params(repo / "params.yaml").training
    return params.model_copy(update={"learning_rates": LearningRates(**(RATES | rates)), "lora": lora})


FREEZES = [
    {},
    {"vision": None},
    {"merger": None},
    {"language": None},
    {"vision": None, "merger": None},
    {"vision": None, "language": None},
]


@pytest.mark.parametrize("lora", [None, LORA], ids=["full", "lora"])
@pytest.mark.parametrize("checkpointing", [False, True], ids=["", "gradient checkpointing"])
@pytest.mark.parametrize("frozen", FREEZES, ids=lambda f: "-".join(f) or "nothing")
def test_a_gradient_on_every_trained_and_on_no_frozen_parameter(
    repo: Path, processor: Processor, batch: dict[str, Any], frozen: dict[str, None], lora: LoraParams | None,
    checkpointing: bool,
) -> None:  # fmt: skip
    if lora and "language" in frozen:
        pytest.skip("params refuse it: test_adapters_need_a_rate")
    qwen = build_from_scratch(SHAPE, processor, seed=1)
    params = training(repo, lora, **frozen)
    choose_trained(qwen, params)
    if checkpointing:
        qwen.activation_checkpointing_enable(activation_checkpointing_kwargs={"use_reentrant": False})
    rcvit = Rcvit(qwen).train()
    rcvit(**batch)["loss"].backward()
    for name, parameter in qwen.named_parameters():
        whole = part_of(name) != "language" or not lora
        trained = part_of(name) not in frozen and (whole or "lora_" in name)
        assert (parameter.grad is not None) == trained == parameter.requires_grad, name
    grouped = [id(p) for group in parameter_groups(rcvit, params) for p in group["params"]]
    assert sorted(grouped) == sorted(id(p) for p in qwen.parameters() if p.requires_grad)


@pytest.mark.parametrize("frozen", [False, True])
def test_a_frozen_tower_keeps_no_graph(
    repo: Path, processor: Processor, batch: dict[str, Any], frozen: bool
) -> None:
    qwen = build_from_scratch(SHAPE, processor, seed=1)
    choose_trained(qwen, training(repo, None, vision=None if frozen else 1e-5))
    visual = qwen.model.visual
    saved: list[torch.Size] = []
    at_merger: list[tuple[bool, int]] = []
    visual.blocks[0].register_forward_pre_hook(lambda *_: saved.clear())
    visual.merger.register_forward_pre_hook(
        lambda _, inputs: at_merger.append((inputs[0].requires_grad, len(saved)))
    )

    def keep(tensor: torch.Tensor) -> torch.Tensor:
        saved.append(tensor.shape)
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        Rcvit(qwen)(**batch)
    (needs_gradient, kept) = at_merger[0]
    assert needs_gradient != frozen
    assert (kept == 0) == frozen


def test_each_part_has_its_own_rate_and_only_matrices_decay(repo: Path, processor: Processor) -> None:
    qwen = build_from_scratch(SHAPE, processor, seed=1)
    params = training(repo, None)
    names = {id(p): name for name, p in qwen.named_parameters()}
    for group in parameter_groups(qwen, params):
        for parameter in group["params"]:
            assert group["lr"] == RATES[part_of(names[id(parameter)])]
            assert (group["weight_decay"] > 0) == (parameter.dim() > 1)


def test_muon_takes_the_layers_matrices_and_no_others(repo: Path, processor: Processor) -> None:
    qwen = build_from_scratch(SHAPE, processor, seed=1)
    params = training(repo, None)
    names = {id(p): name for name, p in qwen.named_parameters()}

    def orthogonal(optimizer: str) -> set[str]:
        groups = parameter_groups(qwen, params.model_copy(update={"optimizer": optimizer}))
        return {names[id(p)] for group in groups if group["orthogonal"] for p in group["params"]}

    assert orthogonal("adamw") == set()
    taken = orthogonal("muon")
    assert "model.language_model.layers.0.self_attn.q_proj.weight" in taken
    assert "model.visual.blocks.0.attn.qkv.weight" in taken
    left = set(names.values()) - taken
    assert {"model.language_model.embed_tokens.weight", "model.visual.patch_embed.proj.weight"} <= left
    assert all(qwen.get_parameter(name).dim() == 2 for name in taken)


def test_merged_adapters_answer_as_unmerged_ones(
    repo: Path, processor: Processor, batch: dict[str, Any]
) -> None:
    qwen = build_from_scratch(SHAPE, processor, seed=1)
    plain = set(qwen.state_dict())
    choose_trained(qwen, training(repo, LORA))
    rcvit = Rcvit(qwen)
    with torch.no_grad():
        untouched = rcvit(**batch)["label_losses"]
        for name, parameter in qwen.named_parameters():
            if "lora_B" in name:  # zero at the start
                parameter.normal_(std=0.2)
        unmerged = rcvit(**batch)["label_losses"]
        merge_adapters(qwen)
        merged = rcvit(**batch)["label_losses"]
    assert (untouched - unmerged).abs().max() > 1e-3
    torch.testing.assert_close(merged, unmerged, rtol=0, atol=1e-5)
    assert set(qwen.state_dict()) == plain


def test_adapters_need_a_rate(repo: Path) -> None:
    content = load_params(repo / "params.yaml").training.model_dump()
    content["lora"] = LORA.model_dump()
    content["learning_rates"] = {"vision": 1e-5, "merger": None, "language": None}
    with pytest.raises(ValidationError, match="adapters"):
        TrainingParams.model_validate(content)
    content["learning_rates"] |= {"vision": None, "merger": None}
    with pytest.raises(ValidationError, match="nothing would be trained"):
        TrainingParams.model_validate(content)


def test_the_operations_of_a_step_by_hand(repo: Path, processor: Processor) -> None:
    qwen = build_from_scratch(SHAPE, processor, seed=1)
    matrices = {
        part: sum(
            p.numel()
            for name, p in qwen.named_parameters()
            if p.dim() > 1 and part_of(name) == part and "embed_tokens" not in name
        )
        for part in ("vision", "merger", "language")
    }
    head = SHAPE.hidden_size * len(processor.tokenizer)
    work = Work(tokens=100, labels=10, questions=2, pairs=5050, patches=64, patch_pairs=4096)
    forward = (
        2 * (100 * matrices["language"] + 10 * head + 64 * matrices["vision"] + 16 * matrices["merger"])
        + 4 * SHAPE.hidden_size * SHAPE.layers * 5050
        + 4 * SHAPE.vision_width * SHAPE.vision_depth * 4096
    )
    choose_trained(qwen, training(repo, None))
    assert Cost(qwen).operations(work) == pytest.approx(3 * forward)
    choose_trained(qwen, training(repo, None, vision=None, merger=None))
    frozen = 2 * (64 * matrices["vision"] + 16 * matrices["merger"])
    frozen += 4 * SHAPE.vision_width * SHAPE.vision_depth * 4096
    assert Cost(qwen).operations(work) == pytest.approx(3 * (forward - frozen) + frozen)
