"""Tree packing changes nothing: loss, gradients and logits are those of separate samples.

The separate samples go through transformers' own forward, which makes its own mask and positions.
"""

from typing import Any

import pytest
import torch
from torch.nn.functional import cross_entropy

from components.training import attention
from components.training.collator import MEASURED, Assembler, Collator
from components.training.forest import Forest, plant
from components.training.model import build_from_scratch
from components.training.packing import Sequence, Tree
from components.training.processor import IGNORED, Processor
from components.training.rcvit import Rcvit
from tests.training.conftest import SHAPE, write_trees

ASKED = [
    ("Who owns it?", "Ada Moss.[1]"),
    ("What did it cost?", "It cost 54 dollars, which Ada Moss paid in Oslo.[1]"),
    ("Why is it red?", "Cannot be answered."),
    ("Describe the image.", "A circle that Ada owns [1]."),
]
TREES = [[ASKED, ASKED[1:], ASKED[:1]], [ASKED[:2]], [[ASKED[2]], ASKED[::-1]]]
WHOLE = (Tree(0, tuple(range(8))), Tree(2, (10, 11, 12, 13, 14)), Tree(1, (8, 9)))
TORN = (Tree(0, (4, 5)), Tree(1, (8,)), Tree(0, (6, 0, 1)))  # as at the borders of sequences


@pytest.fixture(scope="module")
def forest(processor: Processor, tmp_path_factory: pytest.TempPathFactory) -> Forest:
    folder = tmp_path_factory.mktemp("trees")
    write_trees(folder, TREES)
    return plant(folder, folder, processor, folder / "forest", limit=1000)


@pytest.fixture
def rcvit(processor: Processor) -> Rcvit:
    shape = SHAPE.model_copy(update={"layers": 3, "text_init": 0.2, "vision_init": 0.2, "kv_heads": 1})
    return Rcvit(build_from_scratch(shape, processor, seed=3), loss_chunks=3)


def batch_of(forest: Forest, processor: Processor, *sequences: Sequence) -> dict[str, Any]:
    assemble = Assembler(forest, processor)
    batch = Collator(processor, length=None)([assemble(sequence) for sequence in sequences])
    return {name: batch[name] for name in batch if name not in MEASURED}


def separate_loss(rcvit: Rcvit, forest: Forest, processor: Processor, branch: int) -> torch.Tensor:
    """The sum over one sample's labels, by transformers' forward."""
    text_set = int(forest.text_set_of[branch])
    trunk = int(forest.trunk_of[text_set])
    kinds = [(forest.trunks, trunk), (forest.text_sets, text_set), (forest.branches, branch)]
    ids = torch.tensor([token for kind, row in kinds for token in forest.ids(kind, row).tolist()])[None]
    pixels = processor.pixels(forest.image(trunk))
    logits = rcvit.qwen(
        input_ids=ids,
        mm_token_type_ids=(ids == processor.image_pad).int(),
        pixel_values=pixels.values,
        image_grid_thw=pixels.grid[None],
    ).logits[0]
    count = int(forest.answer_tokens[branch])
    return cross_entropy(logits[-count - 1 : -1], ids[0, -count:], reduction="sum")


@pytest.mark.parametrize("sequences", [(WHOLE,), (WHOLE, TORN)], ids=["one", "two of other lengths"])
def test_loss_and_gradients_are_those_of_separate_samples(
    rcvit: Rcvit, forest: Forest, processor: Processor, sequences: tuple[Sequence, ...]
) -> None:
    branches = [branch for sequence in sequences for tree in sequence for branch in tree.branches]
    batch = batch_of(forest, processor, *sequences)
    packed = rcvit(**batch)["loss"]
    packed.backward()
    gradients = {name: parameter.grad for name, parameter in rcvit.named_parameters()}
    rcvit.zero_grad(set_to_none=True)
    labels = int(forest.answer_tokens[branches].sum())
    separate = 0.0
    for branch in branches:
        loss = separate_loss(rcvit, forest, processor, branch) / labels
        torch.autograd.backward(loss)
        separate += loss.item()
    assert packed.item() == pytest.approx(separate, rel=1e-6)
    for name, parameter in rcvit.named_parameters():
        found, wanted = gradients[name], parameter.grad
        assert found is not None, name
        assert wanted is not None, name
        assert wanted.norm() > 0, name
        assert (found - wanted).norm() / wanted.norm() <= 2e-5, name


def label_losses(rcvit: Rcvit, batch: dict[str, Any]) -> torch.Tensor:
    with torch.inference_mode():
        found: torch.Tensor = rcvit(**batch)["label_losses"]
    return found


def logits(rcvit: Rcvit, batch: dict[str, Any]) -> torch.Tensor:
    inputs = {name: value for name, value in batch.items() if name != "labels"}
    with torch.inference_mode():
        found: torch.Tensor = rcvit.qwen.lm_head(rcvit.hidden_states(**inputs))[0]
    return found


def test_an_edit_of_equal_length_leaves_the_other_branches_bit_identical(
    rcvit: Rcvit, forest: Forest, processor: Processor
) -> None:
    packed = Assembler(forest, processor)(WHOLE)
    own = torch.from_numpy(packed.branch_of == 1)
    batch = batch_of(forest, processor, WHOLE)
    before = logits(rcvit, batch)
    edited = batch | {"input_ids": batch["input_ids"].clone()}
    edited["input_ids"][0, own] = edited["input_ids"][0, own].roll(1)
    after = logits(rcvit, edited)
    assert after[~own].equal(before[~own])
    assert not after[own].equal(before[own])


def test_an_edit_of_another_length_leaves_them_within_rounding(
    rcvit: Rcvit, forest: Forest, processor: Processor
) -> None:
    """A branch that is left out altogether moves everything behind it."""
    without: Sequence = (Tree(0, (0, 2, 3, 4, 5, 6, 7)), *WHOLE[1:])
    both = (WHOLE, without)
    rows = [Assembler(forest, processor)(sequence).branch_of for sequence in both]
    kept = [torch.from_numpy((branch_of != 1) & (branch_of >= 0)) for branch_of in rows]
    found = [logits(rcvit, batch_of(forest, processor, s))[own] for s, own in zip(both, kept, strict=True)]
    # Rounding, as heads that begin sharp magnify it: 2e-5 was seen.
    torch.testing.assert_close(found[0], found[1], rtol=0, atol=5e-5)


def test_an_edit_of_a_text_reaches_its_own_branches_only(
    rcvit: Rcvit, forest: Forest, processor: Processor
) -> None:
    packed = Assembler(forest, processor)(WHOLE)
    batch = batch_of(forest, processor, WHOLE)
    first_of_second_set = int((packed.branch_of == 4).nonzero()[0][0]) - 1  # the last token of its text
    edited = batch | {"input_ids": batch["input_ids"].clone()}
    edited["input_ids"][0, first_of_second_set] += 1
    before, after = logits(rcvit, batch), logits(rcvit, edited)
    changed = {int(row) for row in packed.branch_of[(before != after).any(dim=-1).numpy()]}
    assert changed == {-1, 4, 5, 6}


def test_the_chunks_of_the_loss_change_nothing(rcvit: Rcvit, forest: Forest, processor: Processor) -> None:
    batch = batch_of(forest, processor, WHOLE)
    found = []
    for chunks in (1, 2, 500):  # more chunks than labels: some are empty
        rcvit.loss_chunks = chunks
        rcvit.zero_grad(set_to_none=True)
        loss = rcvit(**batch)["loss"]
        loss.backward()
        found.append((loss.item(), rcvit.qwen.lm_head.weight.grad))
    for loss, gradient in found[1:]:
        assert loss == pytest.approx(found[0][0], rel=1e-6)
        torch.testing.assert_close(gradient, found[0][1], rtol=1e-4, atol=1e-7)


def test_the_loss_is_divided_by_the_labels_of_the_step(
    rcvit: Rcvit, forest: Forest, processor: Processor
) -> None:
    batch = batch_of(forest, processor, WHOLE)
    labels = int((batch["labels"] != IGNORED).sum())
    alone = rcvit(**batch)
    of_step = rcvit(**batch, num_items_in_batch=torch.tensor(4 * labels))
    assert of_step["loss"].item() == pytest.approx(alone["loss"].item() / 4, rel=1e-6)
    assert alone["label_losses"].sum().item() == pytest.approx(alone["loss"].item() * labels, rel=1e-6)


def test_the_dummy_image_changes_the_loss_by_exactly_nothing(
    rcvit: Rcvit, forest: Forest, processor: Processor, monkeypatch: pytest.MonkeyPatch
) -> None:
    batch = batch_of(forest, processor, WHOLE)
    is_image = batch["input_ids"] == processor.image_pad
    batch["input_ids"] = batch["input_ids"].masked_fill(is_image, processor.tokenizer.eos_token_id)
    batch["pixel_values"] = batch["image_grid_thw"] = None
    with_dummy = label_losses(rcvit, batch)
    visual = rcvit.qwen.model.visual
    with monkeypatch.context() as patched:
        patched.setattr(rcvit, "_features", lambda *_: torch.zeros(1))
        without = label_losses(rcvit, batch)
    assert with_dummy.equal(without)
    rcvit(**batch)["loss"].backward()
    gradients = [parameter.grad for parameter in visual.parameters()]
    assert all(gradient is not None and not gradient.any() for gradient in gradients)


def test_the_forward_of_the_gpu_attention_equals_eager(
    rcvit: Rcvit, forest: Forest, processor: Processor
) -> None:
    """FlexAttention has no backward on a CPU; the next test checks it."""
    batch = batch_of(forest, processor, WHOLE, TORN)
    dense = label_losses(rcvit, batch)
    rcvit.qwen.set_attn_implementation({"text_config": attention.register_flex()})
    assert rcvit.qwen.config.vision_config._attn_implementation == attention.DENSE
    flex = label_losses(rcvit, batch)
    torch.testing.assert_close(flex, dense, rtol=1e-5, atol=1e-5)


@pytest.mark.skipif(
    not torch.cuda.is_available(), reason="FlexAttention has a backward on a GPU only: not verified here"
)
def test_the_backward_of_the_gpu_attention_equals_eager(
    rcvit: Rcvit, forest: Forest, processor: Processor
) -> None:
    device = torch.device("cuda")
    batch = {name: value.to(device) for name, value in batch_of(forest, processor, WHOLE, TORN).items()}
    rcvit.to(device)
    gradients = []
    for implementation in (attention.DENSE, attention.register_flex()):
        rcvit.qwen.set_attn_implementation({"text_config": implementation})
        rcvit.zero_grad(set_to_none=True)
        rcvit(**batch)["loss"].backward()
        gradients.append({name: parameter.grad for name, parameter in rcvit.named_parameters()})
    dense, flex = gradients
    for name, wanted in dense.items():
        found = flex[name]
        assert found is not None, name
        assert wanted is not None, name
        assert (found - wanted).norm() / wanted.norm() <= 1e-3, name
