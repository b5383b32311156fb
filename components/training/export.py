"""The result of training: a Hugging Face folder, checked before the stage may succeed."""

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch.nn.functional import cross_entropy
from transformers import Qwen2VLForConditionalGeneration

from components.errors import TrainingError
from components.params import LoraParams
from components.training.model import generate_greedily, load_for_inference
from components.training.parts import add_adapters, merge_adapters
from components.training.processor import Processor

if TYPE_CHECKING:
    from components.training.forest import Forest

# Mean difference of a label's loss before and after the save, own choice: another attention kernel, which in
# 16 bits can move a single label's loss by more than a step of its logits.
TOLERANCE = {torch.float32: 1e-4, torch.bfloat16: 0.05}


def label_losses(model: torch.nn.Module, batch: dict[str, Any]) -> torch.Tensor:
    """The loss of every label of a packed batch; under ZeRO-3 every rank must call."""
    model.eval()
    with torch.inference_mode():
        losses: torch.Tensor = model(**batch)["label_losses"]
    return losses.float().cpu()


def export_model(
    trained: Qwen2VLForConditionalGeneration,
    weights: dict[str, torch.Tensor],
    processor: Processor,
    forest: "Forest",
    folder: Path,
    *,
    lora: LoraParams | None,
    expected: torch.Tensor,
) -> None:
    """Write weights (safetensors), configs, tokenizer, image processor and training.json; then check them.

    Args:
        trained: whose configs are written; its own weights may be spread over ranks.
        weights: the whole state of `trained`, adapters included.
        processor: saved beside the weights.
        forest: what was trained on; its report becomes training.json.
        folder: where to write.
        lora: merge adapters of this shape.
        expected: losses of the labels of the forest's first branch, alone, as the trained model has them.

    Raises:
        TrainingError: when the folder, loaded again, has other keys or shapes, another tie of embedding and
            head, other losses, or generates nothing.
    """
    model = Qwen2VLForConditionalGeneration(trained.config)
    if lora:
        add_adapters(model, lora)
    model.load_state_dict(weights, assign=True)
    merge_adapters(model)
    model.tie_weights()
    model.generation_config = trained.generation_config
    model.save_pretrained(folder)
    processor.save_pretrained(folder)
    (folder / "training.json").write_bytes((forest.folder / "report.json").read_bytes())
    _check(model, folder, forest, expected)
    print(f"exported {sum(p.numel() for p in model.parameters()):,} parameters", file=sys.stderr, flush=True)


def _check(
    saved: Qwen2VLForConditionalGeneration, folder: Path, forest: "Forest", expected: torch.Tensor
) -> None:
    loaded, processor = load_for_inference(folder)
    before = {name: value.shape for name, value in saved.state_dict().items()}
    after = {name: value.shape for name, value in loaded.state_dict().items()}
    if before != after:
        different = sorted(set(before.items()) ^ set(after.items()))[:3]
        raise _broken(f"the saved model has other weights than the trained one: {different}")
    tied = loaded.lm_head.weight is loaded.get_input_embeddings().weight
    if tied != loaded.config.tie_word_embeddings:
        raise _broken(f"tie_word_embeddings is {loaded.config.tie_word_embeddings}, the weights say {tied}")
    batch, labels = _first_sample(forest, processor)
    batch = {name: value.to(loaded.device) for name, value in batch.items()}
    with torch.inference_mode():
        logits = loaded(**batch).logits[0, -len(labels) - 1 : -1].float().cpu()
    difference = (cross_entropy(logits, labels, reduction="none") - expected).abs().mean().item()
    if not difference <= TOLERANCE.get(loaded.dtype, 0.05):
        raise _broken(
            f"the saved model answers otherwise than the trained one: losses differ by {difference}"
        )
    prompt = {
        name: value[:, : -len(labels)] if value.dim() == 2 and name.endswith("ids") else value
        for name, value in batch.items()
    }
    if not generate_greedily(loaded, prompt, max_new_tokens=4).numel():
        raise _broken("the saved model generates nothing")


def _first_sample(forest: "Forest", processor: Processor) -> tuple[dict[str, torch.Tensor], torch.Tensor]:
    """The forest's first branch as serving would make it, and its labels."""
    text_set = int(forest.text_set_of[0])
    trunk = int(forest.trunk_of[text_set])
    parts = [(forest.trunks, trunk), (forest.text_sets, text_set), (forest.branches, 0)]
    ids = torch.tensor([token for kind, row in parts for token in forest.ids(kind, row).tolist()])[None]
    pixels = processor.pixels(forest.image(trunk))
    batch = {
        "input_ids": ids,
        "mm_token_type_ids": (ids == processor.image_pad).int(),
        "pixel_values": pixels.values,
        "image_grid_thw": pixels.grid[None],
    }
    return batch, ids[0, -int(forest.answer_tokens[0]) :]


def _broken(message: str) -> TrainingError:
    return TrainingError(message, hint="this is a bug in rcvit: report it")
