"""Procedural scenes: exact boxes, expressions that fit one object alone."""

import io
from itertools import combinations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image, ImageChops

from components.errors import ParamsError
from components.params import SourceParams
from components.rcmu import Region, Scene, Split
from components.sources.synthetic import COLORS, SHAPES, draw_scene


def params(**changes: object) -> SourceParams:
    values = {
        "kind": "synthetic",
        "annotations": None,
        "skip_broken": False,
        "scenes": 10,
        "benchmark_share": 0.2,
        "max_regions": 3,
        "image_size": 112,
        "min_regions": 1,
        "twins_share": 0.4,
    }
    return SourceParams.model_validate({**values, **changes})


def draw(number: int, **changes: object) -> Scene:
    return draw_scene(f"synthetic-{number}", params(**changes), split=Split.TRAIN, seed=3)


def pixels_of(scene: Scene) -> Image.Image:
    return Image.open(io.BytesIO(scene.image))


def facts_of(region: Region) -> dict[str, str]:
    return {fact.key: fact.value for fact in region.facts}


@settings(max_examples=60, deadline=None)
@given(number=st.integers(0, 10**6), size=st.sampled_from([56, 112, 224]), objects=st.integers(1, 4))
def test_every_box_is_the_extent_of_its_object(number: int, size: int, objects: int) -> None:
    scene = draw(number, image_size=size, max_regions=objects)
    picture = pixels_of(scene)
    assert picture.size == (size, size) == (scene.width, scene.height)
    covered = Image.new("1", picture.size)
    for region in scene.regions:
        color = COLORS[facts_of(region)["color"]]
        x1, y1, x2, y2 = (round(v) for v in region.box.to_pixels(size, size))
        same = ImageChops.difference(picture, Image.new("RGB", picture.size, color)).convert("L")
        mask = same.point([255] + [0] * 255).crop((x1, y1, x2, y2))
        assert mask.getbbox() == (0, 0, x2 - x1, y2 - y1)
        covered.paste(1, (x1, y1, x2, y2))
    free = ~np.asarray(covered)
    red, green, blue = (np.asarray(band).astype(int) for band in picture.split())
    for shade in (levels(red, free), levels(green.T, free.T)):  # to the right, and downwards
        assert shade == sorted(shade)
        assert shade[-1] - shade[0] > 40
        assert 107 - 41 <= shade[0] < shade[-1] <= 127 + 41
    assert len({*levels(blue, free)}) == 1
    assert 107 <= blue[free][0] <= 127


def levels(band: np.ndarray, free: np.ndarray) -> list[int]:
    """The level of the ground in each column that shows any; each column has one."""
    seen = [{*column[shown].tolist()} for column, shown in zip(band.T, free.T, strict=True)]
    assert all(len(column) <= 1 for column in seen)
    return [column.pop() for column in seen if column]


@settings(max_examples=60, deadline=None)
@given(number=st.integers(0, 10**6))
def test_no_two_objects_overlap_and_each_expression_fits_one(number: int) -> None:
    scene = draw(number, max_regions=4)
    for a, b in combinations([region.box for region in scene.regions], 2):
        assert a.x2 < b.x1 or b.x2 < a.x1 or a.y2 < b.y1 or b.y2 < a.y1
    for region in scene.regions:
        assert region.label in SHAPES
        fitting = [other for other in scene.regions if fits(region.expression, other)]
        assert fitting == [region]


def fits(expression: str, region: Region) -> bool:
    """Whether each word of `the [size] [color] label [position]` is true of a region."""
    facts = facts_of(region)
    if facts["position"] in expression:
        expression = expression.removesuffix(facts["position"]).strip()
    words = expression.split()
    return words[0] == "the" and set(words[1:]) <= {region.label, facts["color"], facts["size"]}


def test_twins_and_scenes_of_one_object_both_occur() -> None:
    scenes = [draw(number) for number in range(120)]
    assert any(len({r.label for r in s.regions}) < len(s.regions) for s in scenes)
    sizes = [len(scene.regions) for scene in scenes]
    assert set(sizes) == {1, 2, 3}
    assert sizes.count(1) < len(sizes) / 3
    assert all(len({r.instance_id for r in s.regions}) == len(s.regions) for s in scenes)


def test_the_params_say_how_many_objects_and_how_many_twins() -> None:
    scenes = [draw(number, min_regions=2, max_regions=2, twins_share=1.0) for number in range(40)]
    assert [len(scene.regions) for scene in scenes] == [2] * 40
    assert all(len({region.label for region in scene.regions}) == 1 for scene in scenes)
    scenes = [draw(number, min_regions=2, max_regions=3, twins_share=0.0) for number in range(80)]
    assert {len(scene.regions) for scene in scenes} == {2, 3}
    alike = [scene for scene in scenes if len({r.label for r in scene.regions}) < len(scene.regions)]
    assert 0 < len(alike) < 40  # by chance alone


def test_a_scene_depends_on_seed_and_id_alone() -> None:
    assert draw(1) == draw(1)
    assert draw(1).image != draw(2).image
    assert draw_scene("synthetic-1", params(), split=Split.TRAIN, seed=4).image != draw(1).image


def test_too_many_objects_for_the_image_are_refused() -> None:
    with pytest.raises(ParamsError, match="do not fit"):
        for number in range(20):
            draw(number, max_regions=20, image_size=56)
