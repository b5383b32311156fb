"""A variant takes one thing away, and nothing else."""

import io

import pytest
from PIL import Image

from components.ablation.variants import VARIANTS, Data
from components.rcmu import Box, Split

CHANGES = {variant.name: variant.change for variant in VARIANTS}


def test_base_and_rcvit_have_the_data_as_it_is(data: Data) -> None:
    assert CHANGES["base"](data, 1) == data
    assert CHANGES["rcvit"](data, 1) == data
    assert [variant.name for variant in VARIANTS if not variant.trains] == ["base"]


def test_without_boxes_every_box_is_the_whole_image(data: Data) -> None:
    changed = CHANGES["without_boxes"](data, 1)
    whole = Box(x1=0, y1=0, x2=1000, y2=1000)
    assert {region.box for scene in changed.scenes for region in scene.regions} == {whole}
    back = tuple(
        scene.model_copy(update={"regions": original.regions})
        for scene, original in zip(changed.scenes, data.scenes, strict=True)
    )
    assert changed._replace(scenes=back) == data


def test_shuffled_boxes_are_those_of_the_image_in_an_order_that_tells_nothing(data: Data) -> None:
    changed = CHANGES["shuffled_boxes"](data, 1)
    kept = moved = 0
    for scene, original in zip(changed.scenes, data.scenes, strict=True):
        boxes = [region.box for region in scene.regions]
        before = [region.box for region in original.regions]
        assert sorted(map(str, boxes)) == sorted(map(str, before))
        assert [r.model_copy(update={"box": b}) for r, b in zip(scene.regions, before, strict=True)] == list(
            original.regions
        )
        kept += sum(a == b for a, b in zip(boxes, before, strict=True))
        moved += sum(a != b for a, b in zip(boxes, before, strict=True))
    assert min(kept, moved) > 0.2 * (kept + moved)  # a swap each time would tell as much as the truth


def test_without_texts_nothing_is_said(data: Data) -> None:
    changed = CHANGES["without_texts"](data, 1)
    assert {told.text for context in changed.contexts for told in context.regions} == {"Nothing is known."}
    assert (changed.scenes, changed.turns) == (data.scenes, data.turns)


def test_without_image_the_image_is_one_grey_of_the_same_size(data: Data) -> None:
    changed = CHANGES["without_image"](data, 1)
    for scene, original in zip(changed.scenes, data.scenes, strict=True):
        picture = Image.open(io.BytesIO(scene.image))
        assert picture.size == (original.width, original.height)
        assert picture.getcolors() == [(original.width * original.height, (117, 117, 117))]
    assert [scene.regions for scene in changed.scenes] == [scene.regions for scene in data.scenes]


def test_format_only_moves_the_training_texts_and_leaves_the_benchmark(data: Data) -> None:
    changed = CHANGES["format_only"](data, 1)
    moved = 0
    for context, original in zip(changed.contexts, data.contexts, strict=True):
        assert [told.region for told in context.regions] == [told.region for told in original.regions]
        texts = [(told.text, told.facts) for told in context.regions]
        before = [(told.text, told.facts) for told in original.regions]
        assert sorted(text for text, _ in texts) == sorted(text for text, _ in before)
        assert all(pair in before for pair in texts)
        if context.split is Split.BENCHMARK:
            assert context == original
        moved += texts != before
    assert moved > 5
    assert (changed.scenes, changed.turns) == (data.scenes, data.turns)


def test_half_the_data_keeps_the_whole_benchmark(data: Data) -> None:
    changed = CHANGES["half_the_data"](data, 1)
    kept = {scene.scene_id for scene in changed.scenes}
    assert sum(scene.split is Split.TRAIN for scene in changed.scenes) == 12
    assert sum(scene.split is Split.BENCHMARK for scene in changed.scenes) == 12
    assert changed.turns == tuple(turn for turn in data.turns if turn.scene_id in kept)
    assert {context.scene_id for context in changed.contexts} == kept


@pytest.mark.parametrize("name", sorted(CHANGES))
def test_the_same_seed_gives_the_same_data(data: Data, name: str) -> None:
    assert CHANGES[name](data, 4) == CHANGES[name](data, 4)


@pytest.mark.parametrize("name", ["shuffled_boxes", "format_only", "half_the_data"])
def test_another_seed_gives_other_data(data: Data, name: str) -> None:
    assert CHANGES[name](data, 4) != CHANGES[name](data, 5)
