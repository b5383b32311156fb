"""The COCO door: every defect named with its record, nothing half read."""

import io
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from components.errors import DataError
from components.rcmu import Split
from components.sources.geometry import LEFT, MIDDLE, RIGHT, position_of, scaled_box
from components.sources.photos import Photo
from components.sources.readers import read_photos
from components.sources.regions import scene_of, usable_regions

Content = dict[str, Any]


def jpeg(red: int, size: tuple[int, int] = (200, 100)) -> bytes:
    file = io.BytesIO()
    Image.linear_gradient("L").resize(size).convert("RGB").point(lambda v: (v + red) % 256).save(file, "JPEG")
    return file.getvalue()


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Two photos with three boxes, all right."""
    folder = tmp_path / "photos"
    (folder / "images").mkdir(parents=True)
    (folder / "images/a.jpg").write_bytes(jpeg(0))
    (folder / "b.jpg").write_bytes(jpeg(90))
    content: Content = {
        "licenses": [{"id": 1, "name": "CC BY", "url": "https://example.org/by"}],
        "categories": [{"id": 1, "name": "dog"}, {"id": 2, "name": "person"}],
        "images": [
            {"id": 7, "file_name": "a.jpg", "width": 200, "height": 100, "license": 1, "coco_url": "u"},
            {"id": 8, "file_name": "b.jpg", "width": 200, "height": 100},
        ],
        "annotations": [
            {"id": 1, "image_id": 7, "category_id": 1, "bbox": [10, 10, 50, 50], "phrase": "the black dog."},
            {"id": 2, "image_id": 7, "category_id": 1, "bbox": [150, 0, 50.4, 100], "phrase": "the wet  dog"},
            {"id": 3, "image_id": 8, "category_id": 2, "bbox": [80, 20, 30, 30.5]},
        ],
        "captions": [{"id": 1, "image_id": 7, "caption": "Two\ndogs [3]."}],
    }
    (folder / "annotations.json").write_text(json.dumps(content))
    return folder


def read(path: Path) -> list[Photo]:
    return read_photos("coco", path, skip_broken=False).photos


def edit(folder: Path, change: Callable[[Content], object]) -> Path:
    path = folder / "annotations.json"
    content = json.loads(path.read_text())
    change(content)
    path.write_text(json.dumps(content))
    return path


def test_clean_photos_become_scenes(folder: Path) -> None:
    first, second = read(folder / "annotations.json")
    regions, skipped, filled = usable_regions(first.record.objects, max_regions=5)
    scene = scene_of(first, regions, split=Split.TRAIN)
    assert not skipped
    assert not filled
    assert scene.image == (folder / "images/a.jpg").read_bytes()
    assert scene.caption == "Two dogs (3)."
    assert scene.attribution == "u; CC BY; https://example.org/by"
    assert scene.license == "CC BY"
    assert [r.expression for r in scene.regions] == ["the wet dog", "the black dog"]  # the largest first
    assert scene.regions[0].box.model_dump() == {"x1": 750, "y1": 0, "x2": 1000, "y2": 1000}
    facts = {fact.key: fact.value for fact in scene.regions[0].facts}
    assert facts == {"position": RIGHT, "appearance": "the wet dog"}
    ((person,), _, filled) = usable_regions(second.record.objects, max_regions=5)
    assert filled == {"3": "the label"}
    assert person.expression == "the person"
    assert [fact.key for fact in person.facts] == ["position"]


def annotation(number: int, **values: object) -> Callable[[Content], object]:
    return lambda content: content["annotations"][number].update(values)


def image(number: int, **values: object) -> Callable[[Content], object]:
    return lambda content: content["images"][number].update(values)


@pytest.mark.parametrize(
    ("change", "named"),
    [
        (annotation(1, bbox=[150, 0, 51, 100]), r"annotations\[1\] \(id 2\): .* leaves its image"),
        (annotation(0, bbox=[-1, 0, 20, 20]), r"annotations\[0\] \(id 1\): .* leaves its image"),
        (annotation(0, bbox=[30, 0, 0, 20]), r"annotations\[0\] \(id 1\): .*x2 <= x1"),
        (annotation(0, bbox=[30, 0, 20, -5]), r"annotations\[0\] \(id 1\): .*y2 <= y1"),
        (annotation(0, bbox=[30, 0, 0.05, 20]), r"annotations\[0\] \(id 1\): nothing is left"),
        (annotation(0, bbox=[float("nan"), 0, 5, 20]), r"annotations\[0\] \(id 1\): .*finite number"),
        (annotation(0, bbox=[0, 0, 5]), r"annotations\[0\] \(id 1\): bbox"),
        (annotation(0, bbox=["0", 0, 5, 5]), r"annotations\[0\] \(id 1\): bbox\.0"),
        (annotation(0, image_id=99), r"annotations\[0\] \(id 1\): image_id 99"),
        (annotation(0, category_id=99), r"annotations\[0\] \(id 1\): category_id 99"),
        (annotation(0, phrase="\ud800"), r"annotations\[0\] \(id 1\): phrase"),
        (annotation(0, id="a b"), r"annotations\[0\] \(id 'a b'\): id"),
        (annotation(1, id=1), r"annotations\[1\] \(id 1\): the id is that of .*annotations\[0\]"),
        (annotation(1, id="1"), r"annotations\[1\] \(id '1'\): the id is that of .*annotations\[0\]"),
        (lambda c: c["annotations"][2].pop("bbox"), r"annotations\[2\] \(id 3\): bbox: Field required"),
        (image(1, id=7), r"images\[1\] \(id 7\): the id is that of .*images\[0\]"),
        (image(1, file_name="none.jpg"), r"images\[1\] \(id 8\): .*no such file"),
        (image(1, file_name="../b.jpg"), r"images\[1\] \(id 8\): .*leaves"),
        (image(1, file_name="/etc/hostname"), r"images\[1\] \(id 8\): .*leaves"),
        (image(1, file_name="b\0.jpg"), r"images\[1\] \(id 8\): .*zero byte"),
        (image(1, file_name="n" * 400), r"images\[1\] \(id 8\): .*too long"),
        (image(1, width=210), r"images\[1\] \(id 8\): the file is 200 x 100 pixels"),
        (image(1, file_name="a.jpg"), r"images\[1\] \(id 8\): the same picture as .*images\[0\] \(id 7\)"),
        (lambda c: c["categories"][0].update(name="a <|im_end|>"), r"categories\[0\] \(id 1\): .*rename"),
        (lambda c: c["categories"][0].update(name=" "), r"categories\[0\] \(id 1\): .*empty"),
        (lambda c: c.pop("categories"), "no list under categories"),
        (lambda c: c.update(images=[]), "names no image"),
        (lambda c: c["images"].append("text"), r"images\[2\]"),
    ],
)
def test_each_defect_is_named(folder: Path, change: Callable[[Content], object], named: str) -> None:
    path = edit(folder, change)
    with pytest.raises(DataError, match=named) as caught:
        read(path)
    assert str(path) in caught.value.message
    assert caught.value.hint


@pytest.mark.parametrize(
    ("content", "named"),
    [
        (b"{", "not JSON"),
        (b"\xff\xfe{", "not JSON"),
        (b"[" * 100_000, "not JSON"),
        (b"[]", "not a COCO file"),
    ],
)
def test_what_is_no_coco_file_is_refused(folder: Path, content: bytes, named: str) -> None:
    (folder / "annotations.json").write_bytes(content)
    with pytest.raises(DataError, match=named):
        read(folder / "annotations.json")


@pytest.mark.parametrize("kept", [0, 10, 400])
def test_a_truncated_image_is_named(folder: Path, kept: int) -> None:
    (folder / "b.jpg").write_bytes((folder / "b.jpg").read_bytes()[:kept])
    with pytest.raises(DataError, match=r"images\[1\] \(id 8\): file_name 'b.jpg'"):
        read(folder / "annotations.json")


def test_only_png_and_jpeg_are_opened(folder: Path) -> None:
    Image.new("RGB", (200, 100)).save(folder / "b.jpg", "GIF")
    with pytest.raises(DataError, match="not a PNG or JPEG"):
        read(folder / "annotations.json")


def test_a_link_out_of_the_folder_is_not_followed(folder: Path, tmp_path: Path) -> None:
    (tmp_path / "secret.jpg").write_bytes(jpeg(10))
    (folder / "b.jpg").unlink()
    (folder / "b.jpg").symlink_to(tmp_path / "secret.jpg")
    with pytest.raises(DataError, match="leaves"):
        read(folder / "annotations.json")


def test_all_mistakes_come_together_the_first_twenty_in_words(folder: Path) -> None:
    def spoil(content: Content) -> None:
        content["annotations"][0]["bbox"] = [0, 0, 900, 10]
        content["images"][1]["file_name"] = "none.jpg"
        content["annotations"] += [{"id": 100 + n} for n in range(30)]

    with pytest.raises(DataError, match=r"has 92 mistake\(s\)") as caught:  # 30 records lack 3 keys each
        read(edit(folder, spoil))
    assert caught.value.message.count("\n") == 21
    assert "and 72 more" in caught.value.message


def test_what_cannot_be_referred_to_is_skipped_with_a_reason(folder: Path) -> None:
    def add(content: Content) -> None:
        box = {"image_id": 8, "category_id": 1}
        content["annotations"] += [
            {"id": 10, "bbox": [0, 0, 20, 20], "iscrowd": 1, **box},
            {"id": 11, "bbox": [0, 0, 20, 20], **box},
            {"id": 12, "bbox": [0, 0, 20, 20], "phrase": "THE SPOT", **box},
            {"id": 13, "bbox": [0, 0, 20, 20], "phrase": "the spot", **box},
            {"id": 14, "bbox": [0, 0, 10, 10], "phrase": "the dot", **box},
            {"id": 15, "bbox": [0, 0, 9, 9], "phrase": "the smallest dot", **box},
        ]

    _, photo = read(edit(folder, add))
    regions, skipped, _ = usable_regions(photo.record.objects, max_regions=2)
    assert [region.expression for region in regions] == ["the person", "the dot"]
    assert skipped == {
        "10": "iscrowd",
        "11": "no phrase, and label and position are not unique in its image",
        "12": "the phrase is not unique in its image",
        "13": "the phrase is not unique in its image",
        "15": "beyond the largest source.max_regions of its image",
    }


@pytest.mark.parametrize(
    ("phrase", "bbox", "keys"),
    [
        ("the dog on the left", [0, 0, 20, 20], ["position", "appearance"]),
        ("the dog left of the cat", [150, 0, 20, 20], ["appearance"]),
        ("the wide dog", [0, 0, 150, 20], ["appearance"]),
    ],
)
def test_a_position_is_a_fact_only_where_it_is_plain(
    folder: Path, phrase: str, bbox: list[int], keys: list[str]
) -> None:
    first, _ = read(edit(folder, annotation(0, phrase=phrase, bbox=bbox)))
    regions, _, _ = usable_regions(first.record.objects, max_regions=5)
    (region,) = (region for region in regions if region.expression == phrase)
    assert [fact.key for fact in region.facts] == keys


@given(st.integers(1, 4000), st.data())
def test_boxes_scale_into_the_grid_and_back(side: int, data: st.DataObject) -> None:
    x1 = data.draw(st.floats(0, side * 0.9))
    x2 = data.draw(st.floats(min(x1 + max(2, side / 300), side), side))
    if x2 - x1 < side / 400:
        return
    box = scaled_box(x1, x1, x2, x2, width=side, height=side)
    left, _, right, _ = box.to_pixels(side, side)
    assert abs(left - x1) <= side / 2000 + 1e-6
    assert abs(right - x2) <= side / 2000 + 1e-6
    centre = (box.x1 + box.x2) / 2
    expected = LEFT if centre < 1000 / 3 else RIGHT if centre > 2000 / 3 else MIDDLE
    assert position_of(box) == expected


def test_photos_of_personal_objects_are_read_with_their_licence(personal_objects: Path) -> None:
    """There `license` is a name, and one object stands in three photos."""
    reading = read_photos("coco", personal_objects / "annotations.json", skip_broken=False)
    assert {photo.record.license for photo in reading.photos} == {"CC BY 4.0"}
    assert all(photo.record.attribution.endswith("; CC BY 4.0") for photo in reading.photos)
    objects = [item for photo in reading.photos for item in photo.record.objects]
    assert len({item.instance_id for item in objects}) == 13
    assert len(reading.photos) == 39
