"""The model's start and use: weights, published bases, the hub switch, batches of requests."""

import hashlib
import subprocess
import sys
import unicodedata
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from components.errors import ParamsError
from components.params import ModelParams
from components.rcmu import SPECIAL_TOKENS
from components.training.model import (
    base_folder,
    build_from_scratch,
    generate_greedily,
    load_base,
    load_for_inference,
    make_processor,
)
from components.training.processor import Processor
from components.training.tokenizer import CHAT_TEMPLATE
from tests.training.conftest import SHAPE, prompt

# SHA-256 of Qwen2-VL-Instruct's template, taken from copies in other public repositories.
PUBLISHED_TEMPLATE = "a0bc6f6fc7a29a80017a433e8f03a1cc1236e838a944a2d034295a60c4f2fddb"


@pytest.fixture(scope="module")
def model(processor: Processor) -> Any:
    shape = SHAPE.model_copy(update={"text_init": 0.3, "vision_init": 0.2})
    return build_from_scratch(shape, processor, seed=1).eval()


@pytest.fixture(scope="module")
def folder(model: Any, processor: Processor, tmp_path_factory: pytest.TempPathFactory) -> Path:
    saved = tmp_path_factory.mktemp("model")
    model.save_pretrained(saved)
    processor.save_pretrained(saved)
    return saved


def test_the_chat_template_is_the_published_one() -> None:
    assert hashlib.sha256(CHAT_TEMPLATE.read_bytes()).hexdigest() == PUBLISHED_TEMPLATE


def test_special_tokens_come_first_in_the_order_of_qwen2_vl(processor: Processor) -> None:
    tokenizer = processor.tokenizer
    assert tokenizer.convert_ids_to_tokens(list(range(len(SPECIAL_TOKENS)))) == list(SPECIAL_TOKENS)
    assert [tokenizer.eos_token_id, tokenizer.pad_token_id] == [2, 0]  # <|im_end|>, <|endoftext|>


@settings(max_examples=60, deadline=None)
@given(st.text(max_size=60))
def test_every_text_comes_back(processor: Processor, text: str) -> None:
    ids = processor.tokenizer(text, add_special_tokens=False, split_special_tokens=True)["input_ids"]
    assert processor.tokenizer.decode(ids) == unicodedata.normalize("NFC", text)


def test_language_and_vision_have_their_own_initial_scale(model: Any) -> None:
    weights = {name: value.std().item() for name, value in model.named_parameters() if value.dim() > 1}
    language = [std for name, std in weights.items() if "language_model" in name and ".mlp." in name]
    vision = [std for name, std in weights.items() if "visual" in name]
    assert len(language) >= 3
    assert language == pytest.approx([0.3] * len(language), rel=0.1)
    assert weights["model.language_model.embed_tokens.weight"] == pytest.approx(0.1, rel=0.1)
    assert vision == pytest.approx([0.2] * len(vision), rel=0.1)


def test_the_config_names_the_special_tokens(model: Any, processor: Processor) -> None:
    text = model.config.text_config
    assert model.config.image_token_id == processor.id_of("<|image_pad|>")
    assert model.config.vision_start_token_id == processor.id_of("<|vision_start|>")
    assert model.generation_config.eos_token_id == processor.id_of("<|im_end|>")
    assert model.generation_config.do_sample is False
    assert sum(text.rope_parameters["mrope_section"]) == text.hidden_size // text.num_attention_heads // 2


def test_a_batch_is_answered_as_its_requests_alone(model: Any, processor: Processor) -> None:
    requests = [
        (prompt("It is Ada Moss's."), Image.new("RGB", (56, 56), "red")),
        (prompt("It is Ben's, for 54 dollars.", "What color?"), Image.new("RGB", (56, 112), "blue")),
    ]
    together = generate_greedily(model, processor.batch_for_generation(requests), max_new_tokens=6)
    for row, request in zip(together, requests, strict=True):
        alone = generate_greedily(model, processor.batch_for_generation([request]), max_new_tokens=6)[0]
        assert processor.decode(row) == processor.decode(alone) != ""


def test_a_folder_is_loaded_for_inference(folder: Path, model: Any) -> None:
    loaded, _ = load_for_inference(folder)
    assert not loaded.training
    state = loaded.state_dict()
    assert all(torch.equal(value, state[name].cpu()) for name, value in model.state_dict().items())


def test_a_base_gets_the_pixel_budget_of_params_and_decodes_greedily(folder: Path) -> None:
    settings_file = folder / "generation_config.json"
    kept = settings_file.read_text()
    settings_file.write_text('{"do_sample": true, "temperature": 0.01, "top_k": 1, "eos_token_id": [2, 0]}')
    params = ModelParams(base=str(folder), revision=None, min_pixels=784, max_pixels=4 * 784, scratch=SHAPE)
    try:
        model, processor = load_base(params), make_processor(params, list)
    finally:
        settings_file.write_text(kept)
    assert processor.pixels(Image.new("RGB", (448, 448))).tokens == 4
    left = model.generation_config.to_diff_dict()
    assert left.keys() == {"do_sample", "eos_token_id", "transformers_version"}
    assert (left["do_sample"], left["eos_token_id"]) == (False, [2, 0])


@pytest.mark.parametrize(
    ("base", "offline"), [("Qwen/Qwen2-VL-2B-Instruct", False), ("scratch", True), (".", True)]
)
def test_the_hub_is_reached_for_a_hub_base_only(base: str, offline: bool) -> None:
    # A rank opens it; what a rank imports before that must not have read the switch already.
    code = (
        f"import components.training.rank as rank; rank.allow_hub({base!r}); "
        "import huggingface_hub; print(huggingface_hub.is_offline_mode())"
    )
    found = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True)
    assert found.stdout.strip() == str(offline)


def test_importing_the_package_does_not_import_torch() -> None:
    code = "import sys, components.training; print({'torch', 'transformers', 'deepspeed'} & set(sys.modules))"
    found = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True)
    assert found.stdout.strip() == "set()"


def test_a_base_that_was_not_made_is_an_error_with_its_cure(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("components.training.model.TINY_BASE_FOLDER", tmp_path / "tiny_base")
    with pytest.raises(ParamsError, match="is not there"):
        base_folder("tiny")
    (tmp_path / "tiny_base").mkdir()
    (tmp_path / "tiny_base/config.json").write_text("{}")
    assert base_folder("tiny") == str(tmp_path / "tiny_base")
    assert base_folder("scratch") == "scratch"
