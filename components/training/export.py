"""The result of training: a Hugging Face folder, checked before the stage may succeed."""

import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from components.errors import TrainingError
from components.training.data import Collator, TrainingSet
from components.training.model import generate_greedily, load_for_inference
from components.training.processor import IGNORED, Processor

if TYPE_CHECKING:
    from transformers import Qwen2VLForConditionalGeneration

TOLERANCE = 1e-5  # largest difference of a logit before and after the save, in float32


def export_model(
    model: "Qwen2VLForConditionalGeneration", processor: Processor, data: TrainingSet, folder: Path
) -> None:
    """Write weights (safetensors), configs, tokenizer, image processor and training.json; then check them.

    Raises:
        TrainingError: when the folder, loaded again, has other keys, shapes or logits, or generates nothing.
    """
    model.eval()
    model.save_pretrained(folder)
    processor.save_pretrained(folder)
    counts = {
        "samples": len(data),
        "answer_tokens": sum(label != IGNORED for sample in data.samples for label in sample.tokens.labels),
        "dropped_too_long": data.dropped,
        "special_token_strings": data.with_special_strings,
    }
    text = json.dumps(counts, indent=1, sort_keys=True) + "\n"
    (folder / "training.json").write_text(text, encoding="utf-8")
    _check(model, folder, data)
    print(f"exported {sum(p.numel() for p in model.parameters()):,} parameters", file=sys.stderr, flush=True)


def _check(model: "Qwen2VLForConditionalGeneration", folder: Path, data: TrainingSet) -> None:
    import torch

    loaded, processor = load_for_inference(folder)
    before = {name: value.shape for name, value in model.state_dict().items()}
    after = {name: value.shape for name, value in loaded.state_dict().items()}
    if before != after:
        different = sorted(set(before.items()) ^ set(after.items()))[:3]
        raise TrainingError(
            f"the saved model has other weights than the trained one: {different}",
            hint="this is a bug in rcvit: report it",
        )
    model = model.to(loaded.device)  # an untrained model has not left the CPU yet
    batch = {name: value.to(loaded.device) for name, value in Collator(processor)([data[0]]).items()}
    batch.pop("labels")
    with torch.inference_mode():
        trained = model(**batch).logits.float()
        difference = (trained - loaded(**batch).logits.float()).abs().max().item()
    generated = generate_greedily(loaded, batch, max_new_tokens=4)
    if not difference <= TOLERANCE or not generated.numel():
        raise TrainingError(
            f"the saved model answers otherwise than the trained one (logits differ by {difference})",
            hint="this is a bug in rcvit: report it",
        )
