"""The model: a small Qwen2-VL with random weights, or a published base; loading for inference."""

import os
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from components.errors import ParamsError
from components.params import SCRATCH, TINY_BASE, ModelParams, ScratchParams
from components.training.attention import DENSE
from components.training.processor import Processor
from components.training.tokenizer import train_tokenizer

if TYPE_CHECKING:
    import torch
    from transformers import Qwen2VLForConditionalGeneration

TINY_BASE_FOLDER = Path(__file__).resolve().parent.parent / "pretraining" / "tiny_base"


def allow_hub(base: str) -> None:
    """The hub is reached only for a base that is none of ours and no folder.

    Has an effect only before the first import of transformers or huggingface_hub.
    """
    if base not in (SCRATCH, TINY_BASE) and not Path(base).is_dir():
        os.environ["HF_HUB_OFFLINE"] = "0"


def build_from_scratch(
    shape: ScratchParams, processor: Processor, *, seed: int
) -> "Qwen2VLForConditionalGeneration":
    """A Qwen2-VL of the given shape with random weights, induction heads among them, by the seed alone."""
    import torch
    from transformers import GenerationConfig, Qwen2VLConfig, Qwen2VLForConditionalGeneration

    from components.training.circuits import begin_with_circuits

    end, pad = processor.tokenizer.eos_token_id, processor.tokenizer.pad_token_id
    config = Qwen2VLConfig(
        text_config={
            "vocab_size": len(processor.tokenizer),
            "hidden_size": shape.hidden_size,
            "intermediate_size": shape.intermediate_size,
            "num_hidden_layers": shape.layers,
            "num_attention_heads": shape.heads,
            "num_key_value_heads": shape.kv_heads,
            "max_position_embeddings": 32768,
            "initializer_range": shape.text_init,
            "tie_word_embeddings": shape.tie_word_embeddings,
            "rope_parameters": {
                "rope_type": "default",
                "rope_theta": shape.rope_theta,
                "mrope_section": list(shape.mrope_section),
            },
            "bos_token_id": None,
            "eos_token_id": end,
            "pad_token_id": pad,
        },
        vision_config={
            "depth": shape.vision_depth,
            "embed_dim": shape.vision_width,
            "num_heads": shape.vision_heads,
            "hidden_size": shape.hidden_size,
            "initializer_range": shape.vision_init,
        },
        image_token_id=processor.image_pad,
        video_token_id=processor.id_of("<|video_pad|>"),
        vision_start_token_id=processor.id_of("<|vision_start|>"),
        vision_end_token_id=processor.id_of("<|vision_end|>"),
        tie_word_embeddings=shape.tie_word_embeddings,
    )
    config._attn_implementation = DENSE
    torch.manual_seed(seed)
    model = Qwen2VLForConditionalGeneration(config)
    begin_with_circuits(model, rope_theta=shape.rope_theta, digits=processor.digits())
    model.generation_config = GenerationConfig(do_sample=False, eos_token_id=end, pad_token_id=pad)
    return model


def base_folder(base: str) -> str:
    """The folder of the package's own base; any other name, a hub id or a folder, as it is.

    Raises:
        ParamsError: when the package's own has not been made.
    """
    if base != TINY_BASE:
        return base
    if not (TINY_BASE_FOLDER / "config.json").exists():
        raise ParamsError(
            f"model.base is {TINY_BASE}, and {TINY_BASE_FOLDER} is not there",
            hint=f"`make base` makes it, or set model.base: {SCRATCH}",
        )
    return str(TINY_BASE_FOLDER)


def load_base(params: ModelParams) -> "Qwen2VLForConditionalGeneration":
    """The base named by `params.base` at `params.revision`.

    Its sampling settings are left out: the published snippet decodes without any (RCMU, the prompt).
    """
    import torch
    from transformers import GenerationConfig, Qwen2VLForConditionalGeneration

    model = Qwen2VLForConditionalGeneration.from_pretrained(
        base_folder(params.base), revision=params.revision, dtype=torch.float32, attn_implementation=DENSE
    )
    ends = {name: getattr(model.generation_config, name) for name in ("eos_token_id", "pad_token_id")}
    model.generation_config = GenerationConfig(do_sample=False, **ends)
    return model


def make_processor(params: ModelParams, texts: Callable[[], Iterable[str]]) -> Processor:
    """The base's processor, or one with a small tokenizer trained on `texts`; the pixel budget of params."""
    from transformers import Qwen2VLImageProcessorPil

    budget = {"shortest_edge": params.min_pixels, "longest_edge": params.max_pixels}
    if params.base == SCRATCH:
        tokenizer = train_tokenizer(texts(), vocab_size=params.scratch.vocab_size)
        return Processor(tokenizer, Qwen2VLImageProcessorPil(size=budget))
    processor = Processor.from_folder(base_folder(params.base), revision=params.revision)
    processor.image_processor.size = budget
    return processor


def load_for_inference(folder: Path) -> "tuple[Qwen2VLForConditionalGeneration, Processor]":
    """A model folder on the GPU where there is one, in evaluation mode, with its processor."""
    import torch
    from transformers import Qwen2VLForConditionalGeneration

    model = Qwen2VLForConditionalGeneration.from_pretrained(folder, dtype="auto", attn_implementation=DENSE)
    device = "cuda" if torch.cuda.is_available() else "cpu"
    return model.eval().to(device), Processor.from_folder(folder)


def generate_greedily(
    model: "Qwen2VLForConditionalGeneration", batch: "dict[str, torch.Tensor]", *, max_new_tokens: int
) -> "torch.Tensor":
    """The ids that the model adds to each row of a batch, shape (batch, at most max_new_tokens)."""
    import torch

    inputs = {name: tensor.to(model.device) for name, tensor in batch.items()}
    generate: Any = model.generate  # typed for a protocol that transformers' own classes do not declare
    with torch.inference_mode():
        ids: torch.Tensor = generate(**inputs, max_new_tokens=max_new_tokens, do_sample=False)
    return ids[:, inputs["input_ids"].shape[1] :]
