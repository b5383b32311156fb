"""The export's own checks: a folder that is not the trained model does not leave the stage."""

from pathlib import Path

import pytest
import torch

from components.errors import TrainingError
from components.training import load_for_inference
from components.training.collator import MEASURED, Assembler, Collator
from components.training.export import export_model, label_losses
from components.training.forest import Forest, plant
from components.training.model import build_from_scratch
from components.training.packing import Tree
from components.training.processor import Processor
from components.training.rcvit import Rcvit
from tests.training.conftest import SHAPE, write_trees

TREES = [[[("Who owns it?", "Ada Moss.[1]")]]]


@pytest.fixture(scope="module")
def forest(processor: Processor, tmp_path_factory: pytest.TempPathFactory) -> Forest:
    folder = tmp_path_factory.mktemp("trees")
    write_trees(folder, TREES)
    return plant(folder, folder, processor, folder / "forest", limit=1000)


def export(
    forest: Forest, processor: Processor, folder: Path, *, tied: bool = True, off_by: float = 0.0
) -> Rcvit:
    """Export a model whose losses are said to be `off_by` higher than they are."""
    shape = SHAPE.model_copy(update={"tie_word_embeddings": tied})
    rcvit = Rcvit(build_from_scratch(shape, processor, seed=3))
    batch = Collator(processor, length=None)([Assembler(forest, processor)((Tree(0, (0,)),))])
    inputs = {name: batch[name] for name in batch if name not in MEASURED}
    expected = label_losses(rcvit, inputs) + off_by
    weights = dict(rcvit.qwen.state_dict())
    export_model(rcvit.qwen, weights, processor, forest, folder, lora=None, expected=expected)
    return rcvit


@pytest.mark.parametrize("tied", [True, False], ids=["as the 2B", "as the 7B"])
def test_weights_and_the_tie_of_embedding_and_head_are_kept(
    forest: Forest, processor: Processor, tmp_path: Path, tied: bool
) -> None:
    trained = export(forest, processor, tmp_path, tied=tied).qwen
    loaded, _ = load_for_inference(tmp_path)
    assert (loaded.lm_head.weight is loaded.get_input_embeddings().weight) == tied
    for name, value in trained.state_dict().items():
        assert loaded.state_dict()[name].equal(value), name


def test_a_folder_with_other_losses_than_the_trained_model_is_refused(
    forest: Forest, processor: Processor, tmp_path: Path
) -> None:
    with pytest.raises(TrainingError, match="answers otherwise"):
        export(forest, processor, tmp_path, off_by=0.01)


def test_a_folder_without_a_weight_is_refused(
    forest: Forest, processor: Processor, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from transformers import Qwen2VLForConditionalGeneration

    whole = Qwen2VLForConditionalGeneration.save_pretrained

    def cut(model: Qwen2VLForConditionalGeneration, folder: Path) -> None:
        state = {name: value for name, value in model.state_dict().items() if "layers.1." not in name}
        whole(model, folder, state_dict=state)  # transformers draws what is missing anew when it loads

    monkeypatch.setattr(Qwen2VLForConditionalGeneration, "save_pretrained", cut)
    with pytest.raises(TrainingError, match="answers otherwise"):
        export(forest, processor, tmp_path)


def test_the_processor_is_read_by_transformers_own(
    forest: Forest, processor: Processor, tmp_path: Path
) -> None:
    pytest.importorskip("torchvision", reason="Qwen2VLProcessor needs torchvision (the gpu extra)")
    from transformers import AutoProcessor

    export(forest, processor, tmp_path)
    read = AutoProcessor.from_pretrained(tmp_path)
    assert read.tokenizer("Ada Moss")["input_ids"] == processor.tokenizer("Ada Moss")["input_ids"]
    assert torch.equal(
        read.image_processor([forest.image(0)], return_tensors="pt")["pixel_values"],
        processor.pixels(forest.image(0)).values,
    )
