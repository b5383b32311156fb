"""What a model from scratch can do before its first step: look back, and go on with what it has seen."""

from typing import TYPE_CHECKING

import pytest
import torch

from components.training.circuits import carried
from components.training.model import build_from_scratch
from components.training.processor import Processor
from tests.training.conftest import SHAPE

if TYPE_CHECKING:
    from transformers import Qwen2VLForConditionalGeneration

WIDE = SHAPE.model_copy(
    update={
        "hidden_size": 128, "intermediate_size": 384, "layers": 4, "heads": 4, "kv_heads": 2,
        "text_init": 0.02, "rope_theta": 1e4, "mrope_section": (1, 2, 13),
    }
)  # fmt: skip


@pytest.fixture(scope="module")
def model(processor: Processor) -> "Qwen2VLForConditionalGeneration":
    qwen = build_from_scratch(WIDE, processor, seed=5).eval()
    qwen.set_attn_implementation("eager")
    return qwen


def words(processor: Processor, number: int) -> torch.Tensor:
    """Different ids that are no special tokens, shape (1, number)."""
    generator = torch.Generator().manual_seed(number)
    plain = sorted(set(range(len(processor.tokenizer))) - set(processor.tokenizer.all_special_ids))
    order = torch.randperm(len(plain), generator=generator)[:number]
    return torch.tensor(plain)[order][None]


def test_what_came_before_is_gone_on_with(
    model: "Qwen2VLForConditionalGeneration", processor: Processor
) -> None:
    once = words(processor, 40)
    ids = torch.cat([once, once], dim=1)
    with torch.inference_mode():
        logits = model(input_ids=ids, attention_mask=torch.ones_like(ids)).logits
    guessed = logits[0, -40:-1].argmax(-1)
    right = (guessed == once[0, 1:]).float().mean().item()
    assert right > 20 / len(processor.tokenizer)


def test_three_heads_look_one_two_and_three_tokens_back(
    model: "Qwen2VLForConditionalGeneration", processor: Processor
) -> None:
    ids = words(processor, 120)
    with torch.inference_mode():
        output = model(input_ids=ids, attention_mask=torch.ones_like(ids), output_attentions=True)
    first = output.attentions[0]
    for head, back in enumerate((1, 2, 3)):
        assert first[0, head].diagonal(-back).mean() > 0.7


def test_every_second_head_of_the_last_layers_finds_the_like_of_a_token(
    model: "Qwen2VLForConditionalGeneration", processor: Processor
) -> None:
    once = words(processor, 60)
    ids = torch.cat([once, once], dim=1)
    with torch.inference_mode():
        output = model(input_ids=ids, attention_mask=torch.ones_like(ids), output_attentions=True)
    same = (ids[0][:, None] == ids[0][None]).float()
    chance = 2 / 90  # of about ninety tokens before it two are its like
    for layer in output.attentions[-2:]:
        found = (layer[0] * same).sum(-1)[:, 60:].mean(-1)
        assert found[2:].min() > 10 * chance


def test_what_is_marked_as_behind_a_token_is_found_by_it(
    model: "Qwen2VLForConditionalGeneration", processor: Processor
) -> None:
    """As the lessons mark it, not the layers: the mark of a word is added to some other token."""
    ids = words(processor, 60)
    embeddings = model.get_input_embeddings().weight.detach()
    marks = carried(embeddings, heads=WIDE.heads, rope_theta=WIDE.rope_theta)
    assert marks.norm(dim=1).tolist() == pytest.approx([embeddings.norm(dim=1).mean().item()] * len(marks))
    marked, asking = slice(10, 40), slice(45, 60)
    of = ids[0, asking]
    layer = model.model.language_model.layers[-1].self_attn
    states = embeddings[ids[0]].clone()
    places = torch.arange(marked.start, marked.start + len(of))
    states[places] = marks[of]
    states = torch.nn.functional.rms_norm(states, states.shape[-1:])
    size = WIDE.hidden_size // WIDE.heads
    queries = layer.q_proj(states)[asking, :size]
    keys = layer.k_proj(states)[marked, :size]
    assert (queries @ keys.T).argmax(1).tolist() == list(range(len(of)))


def test_digits_lie_in_the_order_of_their_size(
    model: "Qwen2VLForConditionalGeneration", processor: Processor
) -> None:
    digits = processor.digits()
    assert processor.tokenizer.convert_ids_to_tokens(digits) == list("0123456789")
    embedded = model.get_input_embeddings().weight.detach()[digits]
    distances = torch.cdist(embedded, embedded)
    for digit in range(10):
        nearest = distances[digit].topk(2, largest=False).indices.tolist()
        assert nearest[0] == digit
        assert abs(nearest[1] - digit) == 1
    value = torch.arange(10.0)
    of_others = []
    for held_out in range(10):  # a linear map learned from nine digits reads the tenth
        rest = [digit for digit in range(10) if digit != held_out]
        known, centre = embedded[rest], embedded[rest].mean(0)
        gram = (known - centre) @ (known - centre).T + 0.05 * torch.eye(9)
        weights = torch.linalg.solve(gram, value[rest] - value[rest].mean())
        read = (embedded[held_out] - centre) @ (known - centre).T @ weights + value[rest].mean()
        of_others.append((read - held_out).abs().item())
    assert max(of_others) < 2.5
    assert sum(of_others) / 10 < 1.0


def test_shapes_of_any_kind_begin_so(processor: Processor) -> None:
    one, four = {"heads": 1, "mrope_section": (4, 6, 6)}, {"heads": 4, "mrope_section": (1, 1, 2)}
    for changes in ({"layers": 1}, {"kv_heads": 2}, one, one | {"layers": 3}, four):
        qwen = build_from_scratch(SHAPE.model_copy(update=changes), processor, seed=1)
        ids = words(processor, 10)
        assert torch.isfinite(qwen(input_ids=ids, attention_mask=torch.ones_like(ids)).logits).all()
