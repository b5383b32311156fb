"""RCVIT by its launcher: torchrun and DeepSpeed ZeRO-2 on two ranks, whole and killed."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from components.errors import ParamsError
from components.training import load_for_inference, train_model
from tests.conftest import REPO
from tests.training.conftest import SHAPE
from tests.training.stage import MODEL, TRAINING, Stage


def test_the_export_is_a_hugging_face_folder(trained: Stage) -> None:
    from transformers import AutoTokenizer, Qwen2VLForConditionalGeneration

    model, loading = Qwen2VLForConditionalGeneration.from_pretrained(trained.folder, output_loading_info=True)
    assert not any(loading.values())
    assert model.config.text_config.hidden_size == SHAPE.hidden_size
    tokenizer = AutoTokenizer.from_pretrained(trained.folder)
    chat = tokenizer.apply_chat_template([{"role": "user", "content": "Who?"}], tokenize=False)
    assert chat.endswith("<|im_start|>user\nWho?<|im_end|>\n")
    assert "preprocessor_config.json" in {path.name for path in trained.folder.iterdir()}
    counts = json.loads((trained.folder / "training.json").read_text())
    assert counts["samples"] == 16
    assert len(counts["special_token_strings"]) == 16


def test_nothing_of_the_export_is_pickled(trained: Stage) -> None:
    files = [path for path in trained.folder.rglob("*") if path.is_file()]
    assert {path.suffix for path in files} == {".json", ".jinja", ".safetensors"}


def test_the_loss_falls_and_the_model_answers(trained: Stage) -> None:
    losses = trained.losses()
    assert list(losses) == [10, 20]
    assert losses[20] < losses[10]
    model, processor = load_for_inference(trained.folder)
    assert not model.training
    assert model.get_input_embeddings().weight.shape[0] == len(processor.tokenizer)


def test_one_rank_with_accumulation_and_zero3_has_the_same_loss(
    trained: Stage, stage: Callable[..., Stage]
) -> None:
    """Each answer token of the global batch counts the same, however the batch and the weights are cut."""
    cut = stage(world_size=1, micro_batch_size=1, gradient_accumulation=4, deepspeed="zero3").run()
    assert cut.losses() == pytest.approx(trained.losses(), abs=1e-4)


def test_an_unknown_deepspeed_config_is_named_with_the_known_ones(stage_data: Path, tmp_path: Path) -> None:
    with pytest.raises(ParamsError, match="zero9") as caught:
        train_model(
            scenes=stage_data, turns=stage_data, model=MODEL,
            training=TRAINING.model_copy(update={"deepspeed": "zero9"}), seed=7,
            deepspeed_configs=REPO / "infra/deepspeed", checkpoints=tmp_path / "checkpoints",
            curves=tmp_path / "curves", folder=tmp_path / "model",
        )  # fmt: skip
    assert "zero2" in caught.value.hint
    assert not list(tmp_path.iterdir())
