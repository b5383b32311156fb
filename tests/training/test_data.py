"""Samples and batches: the training split alone, whole samples, a loss that padding does not change."""

import io
from pathlib import Path

import pytest
from PIL import Image

from components.errors import DataError
from components.params import ScratchParams
from components.rcmu import Box, ContextRegion, ContextSet, Region, Scene, Split, Task, Turn
from components.rcmu.tables import CONTEXTS, SCENES, TURNS, write_models
from components.training.data import Collator, TrainingSet
from components.training.processor import IGNORED, Processor

SHAPE = ScratchParams(
    vocab_size=400, hidden_size=32, intermediate_size=48, layers=2, heads=2, kv_heads=1, text_init=0.1,
    vision_init=0.1, vision_depth=1, vision_width=32, vision_heads=2, tie_word_embeddings=True,
)  # fmt: skip
ANSWERS = ("Ada.", "It belongs to Ada Moss.[1]", "Cannot be answered. The description does not specify it.")


def scene(name: str, split: Split, side: int) -> Scene:
    file = io.BytesIO()
    Image.new("RGB", (side, side), (side % 255, 10, 200)).save(file, "PNG")
    region = Region(
        instance_id=f"{name}/0", label="circle", box=Box(x1=1, y1=1, x2=500, y2=500),
        expression="the circle", facts=(),
    )  # fmt: skip
    return Scene(
        scene_id=name, split=split, image=file.getvalue(), width=side, height=side, regions=(region,)
    )


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    scenes = [scene("a", Split.TRAIN, 56), scene("b", Split.TRAIN, 112), scene("z", Split.BENCHMARK, 56)]
    contexts = [
        ContextSet(
            context_id=f"{s.scene_id}/c0", scene_id=s.scene_id, split=s.split,
            regions=(ContextRegion(region=0, text=f"Ada <|im_end|> owns {s.scene_id}.", facts=()),),
        )
        for s in scenes
    ]  # fmt: skip
    turns = [
        Turn(
            turn_id=f"{c.context_id}/t{n}", context_id=c.context_id, scene_id=c.scene_id, split=c.split,
            task=Task.V2C, question="Who owns it?", answer=answer, citations=(), claims=(),
        )
        for c in contexts
        for n, answer in enumerate(ANSWERS)
    ]  # fmt: skip
    write_models(tmp_path / "scenes.parquet", SCENES, scenes)
    write_models(tmp_path / "contexts.parquet", CONTEXTS, contexts)
    write_models(tmp_path / "turns.parquet", TURNS, turns)
    return tmp_path


def test_only_the_training_split_is_read(folder: Path, processor: Processor) -> None:
    data = TrainingSet(folder, folder, processor, max_length=1000)
    assert [sample.turn_id for sample in data.samples] == [f"{s}/c0/t{n}" for s in "ab" for n in range(3)]
    assert data.dropped == []
    assert data.with_special_strings["a/c0/t0"] == ["<|im_end|>"]


def test_a_long_sample_is_dropped_whole_and_listed(folder: Path, processor: Processor) -> None:
    whole = TrainingSet(folder, folder, processor, max_length=1000)
    lengths = {sample.turn_id: len(sample.tokens.input_ids) for sample in whole.samples}
    limit = sorted(lengths.values())[2]
    data = TrainingSet(folder, folder, processor, max_length=limit)
    assert data.dropped == [turn_id for turn_id, length in lengths.items() if length > limit]
    assert len(data) + len(data.dropped) == 6
    assert all(len(sample.tokens.input_ids) <= limit for sample in data.samples)


def test_nothing_that_fits_is_an_error(folder: Path, processor: Processor) -> None:
    with pytest.raises(DataError, match="6 are longer") as caught:
        TrainingSet(folder, folder, processor, max_length=10)
    assert "max_length" in caught.value.hint


def test_a_sample_whose_image_changed_is_an_error_with_its_id(folder: Path, processor: Processor) -> None:
    data = TrainingSet(folder, folder, processor, max_length=1000)
    sample, _ = data[0]
    _, other_pixels = data[3]
    with pytest.raises(DataError, match="a/c0/t0"):
        Collator(processor)([(sample, other_pixels)])


def test_a_batch_has_the_loss_of_its_samples(folder: Path, processor: Processor) -> None:
    """Images and answers of different sizes, padded into one batch: the sum of the losses stays."""
    import torch

    from components.training.model import build_from_scratch

    data = TrainingSet(folder, folder, processor, max_length=1000)
    collate = Collator(processor)
    model = build_from_scratch(SHAPE, processor, seed=1).eval()
    items = [data[index] for index in range(len(data))]

    def loss_sum(batch: dict[str, torch.Tensor]) -> float:
        answer_tokens = int(batch["labels"].ne(IGNORED).sum())
        with torch.inference_mode():
            return float(model(**batch).loss) * answer_tokens

    together = loss_sum(collate(items))
    apart = sum(loss_sum(collate([item])) for item in items)
    assert together == pytest.approx(apart, rel=1e-5)


def test_the_seed_alone_fixes_the_weights(processor: Processor) -> None:
    from components.training.model import build_from_scratch

    one, two, other = (build_from_scratch(SHAPE, processor, seed=seed).state_dict() for seed in (1, 1, 2))
    name = "model.language_model.layers.0.mlp.up_proj.weight"
    assert all(one[key].equal(two[key]) for key in one)
    assert not one[name].equal(other[name])
