"""Copies of training images and texts in the benchmark are found, whatever was done to them."""

import io
from collections.abc import Callable
from pathlib import Path

import pytest
from PIL import Image, ImageOps

from components.params import SourceParams
from components.rcmu import Split
from components.rcmu.images import decode_image
from components.sources.synthetic import draw_scene
from components.validation.near_copies import Fingerprint, find_near_copies, fingerprint
from components.validation.shared_words import find_shared_words
from tests.validation.test_validate import Tables, clean, of_split, planted

__all__ = ["clean"]


@pytest.fixture(scope="module")
def photos(real_regions: Path) -> list[Image.Image]:
    files = sorted((real_regions / "images").iterdir())
    assert len(files) == 39
    return [decode_image(file.read_bytes()) for file in files]


@pytest.fixture(scope="module")
def known(photos: list[Image.Image]) -> list[Fingerprint]:
    return [fingerprint(photo) for photo in photos]


def recompressed(photo: Image.Image, quality: int = 40) -> Image.Image:
    file = io.BytesIO()
    photo.save(file, "JPEG", quality=quality)
    return decode_image(file.getvalue())


def cropped(photo: Image.Image, left: float, top: float, right: float, bottom: float) -> Image.Image:
    width, height = photo.size
    return photo.crop(
        (int(left * width), int(top * height), int((1 - right) * width), int((1 - bottom) * height))
    )


@pytest.mark.parametrize(
    "changed",
    [
        lambda p: p,
        lambda p: p.resize((p.width // 3, p.height // 3)),
        lambda p: p.resize((p.width * 2, p.height + 40)),
        recompressed,
        ImageOps.mirror,
        lambda p: cropped(p, 0.05, 0, 0, 0),
        lambda p: cropped(p, 0, 0, 0.05, 0.05),
        lambda p: cropped(p, 0.025, 0.025, 0.025, 0.025),
        lambda p: recompressed(ImageOps.mirror(cropped(p, 0.01, 0.03, 0.03, 0.02))),
    ],
    ids=[
        "same",
        "smaller",
        "stretched",
        "recompressed",
        "mirrored",
        "side",
        "corner",
        "middle",
        "all",
    ],
)
def test_a_changed_photo_is_found_both_ways(
    photos: list[Image.Image], known: list[Fingerprint], changed: Callable[[Image.Image], Image.Image]
) -> None:
    copies = [fingerprint(changed(photo)) for photo in photos]
    same = [(index, index) for index in range(len(photos))]
    assert [(a, b) for a, b, _ in find_near_copies(copies, known)] == same
    assert [(a, b) for a, b, _ in find_near_copies(known, copies)] == same


def test_different_photos_are_not_taken_for_copies(known: list[Fingerprint]) -> None:
    for index, one in enumerate(known):
        assert not list(find_near_copies([one], known[:index] + known[index + 1 :]))


def test_different_drawn_scenes_are_not_taken_for_copies() -> None:
    source = SourceParams(
        kind="synthetic", annotations=None, skip_broken=False, scenes=2, benchmark_share=0.5,
        max_regions=3, image_size=112, min_regions=1, twins_share=0.5,
    )  # fmt: skip
    drawn = [
        fingerprint(decode_image(draw_scene(f"s{n}", source, split=Split.TRAIN, seed=3).image))
        for n in range(160)
    ]
    assert not list(find_near_copies(drawn[:40], drawn[40:]))
    assert len(list(find_near_copies(drawn[:5], drawn))) == 5


LONG = (
    "The dog belongs to Ada Moss, who found it at a market in Oslo on a rainy day in 1994. It has been in "
    "the family ever since, and nobody but Ada Moss may feed it after 6 in the evening."
)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (LONG.replace("Ada Moss", "Ben Hill").replace("Oslo", "Rome").replace("1994", "2003"), "other names"),
        (f"Years ago {LONG[40:140]} A cat came too.", "shares with train-1"),
        ("The dog belongs to Ben Hill.", None),
        ("A short text. " + LONG[:40], None),
    ],
)
def test_texts_that_training_has_in_other_words(text: str, said: str | None) -> None:
    training = [("train-1", LONG), ("train-2", "The dog belongs to Ada Moss.")]
    found = dict(find_shared_words([("bench-1", text)], training))
    assert list(found) == (["bench-1"] if said else [])
    if said:
        assert said in found["bench-1"]
        assert "train-1" in found["bench-1"]


def mirrored_image(tables: Tables) -> None:
    pixels = ImageOps.mirror(Image.open(io.BytesIO(of_split(tables.scenes, "train")["image"])))
    file = io.BytesIO()
    pixels.save(file, "PNG")
    of_split(tables.scenes, "benchmark")["image"] = file.getvalue()


def text_with_other_names(tables: Tables) -> None:
    of_split(tables.contexts, "train")["regions"][0]["text"] = LONG
    of_split(tables.contexts, "benchmark")["regions"][0]["text"] = LONG.replace("Ada", "Ben")


@pytest.mark.parametrize(
    ("plant", "name"),
    [(mirrored_image, "images_unlike_training"), (text_with_other_names, "texts_unlike_training")],
)
def test_validation_names_the_copy_and_its_original(
    plant: Callable[[Tables], object], name: str, clean: Path, tmp_path: Path
) -> None:
    result = planted(clean, tmp_path, plant)
    (failure,) = result.failures
    assert failure.startswith(f"{name}: ")
    assert "synthetic-" in failure.split("=")[1]
