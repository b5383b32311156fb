"""Samples and batches: the training split alone, whole samples, a loss that padding does not change."""

from pathlib import Path

import pytest

from components.errors import DataError
from components.rcmu import Split
from components.training.data import Collator, TrainingSet
from components.training.processor import IGNORED, Processor
from tests.training.conftest import SHAPE, scene, write_data

ANSWERS = ("Ada.", "It belongs to Ada Moss.[1]", "Cannot be answered. The description does not specify it.")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    scenes = [scene("a", Split.TRAIN, 56), scene("b", Split.TRAIN, 112), scene("z", Split.BENCHMARK, 56)]
    write_data(tmp_path, scenes, ANSWERS)
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


def test_a_batch_pads_on_the_right_with_nothing_to_learn(folder: Path, processor: Processor) -> None:
    data = TrainingSet(folder, folder, processor, max_length=1000)
    items = [data[0], data[5]]  # an image of 4 tokens with a short answer, one of 16 with a long answer
    batch = Collator(processor)(items)
    lengths = [len(sample.tokens.input_ids) for sample, _ in items]
    for name in ("input_ids", "labels", "attention_mask", "mm_token_type_ids"):
        assert batch[name].shape == (2, lengths[1])
    padding = slice(lengths[0], None)
    assert lengths[0] < lengths[1]
    assert set(batch["input_ids"][0, padding].tolist()) == {processor.tokenizer.pad_token_id}
    assert set(batch["labels"][0, padding].tolist()) == {IGNORED}
    assert batch["attention_mask"].sum(dim=1).tolist() == lengths
    assert batch["mm_token_type_ids"].sum(dim=1).tolist() == [4, 16]
    assert batch["image_grid_thw"].tolist() == [[1, 4, 4], [1, 8, 8]]
    assert batch["pixel_values"].shape[0] == 4 * 4 + 8 * 8


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
