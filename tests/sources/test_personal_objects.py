"""Objects with name, text and reference photos, from the file that their scenes are read from."""

import json
import shutil
from pathlib import Path

import pytest

from components.errors import DataError
from components.rcmu.images import decode_image
from components.sources.personal_objects import read_personal_objects
from components.sources.readers import read_photos


@pytest.fixture
def folder(tmp_path: Path, personal_objects: Path) -> Path:
    return Path(shutil.copytree(personal_objects, tmp_path / "objects"))


def test_every_object_has_its_text_and_its_reference_photo(folder: Path) -> None:
    objects = read_personal_objects(folder)
    assert len(objects) == 13
    content = json.loads((folder / "annotations.json").read_text())
    for known, concept in zip(objects, content["concepts"], strict=True):
        assert (known.name, known.label, known.text) == (
            concept["name"],
            concept["category"],
            concept["context"],
        )
        (image,) = (
            image
            for image in content["images"]
            if image["concept_id"] == concept["id"] and image["role"] == "reference"
        )
        assert known.photos == ((folder / "images" / image["file_name"]).read_bytes(),)
        assert decode_image(known.photos[0]).size == (512, 512)
        assert known.license == "CC BY 4.0"
        assert concept["photographer"] in known.attribution


def test_objects_have_the_ids_that_their_scenes_give_them(folder: Path) -> None:
    """As scenes the file cannot be read as it is: its `license` is a name, where COCO has an id."""
    file = folder / "annotations.json"
    content = json.loads(file.read_text())
    for image in content["images"]:
        image["license_name"] = image.pop("license")
    file.write_text(json.dumps(content))
    photos = read_photos("coco", file, skip_broken=False).photos
    in_scenes = {item.instance_id for photo in photos for item in photo.record.objects}
    assert {known.instance_id for known in read_personal_objects(folder)} == in_scenes


def test_all_that_is_wrong_is_told_at_once(folder: Path) -> None:
    file = folder / "annotations.json"
    content = json.loads(file.read_text())
    content["concepts"][0]["category"] = "a<|b"
    content["images"][3]["role"] = "query"
    (folder / "images" / content["images"][6]["file_name"]).write_bytes(b"no picture")
    file.write_text(json.dumps(content))
    with pytest.raises(DataError, match=r"(?s)must not|rename it") as caught:
        read_personal_objects(folder)
    said = caught.value.message
    assert "concepts[1] (id 2): no image has it as concept_id and the role reference" in said
    assert "images[6]" in said and "not a PNG or JPEG file" in said


def test_another_file_is_named(folder: Path) -> None:
    (folder / "annotations.json").write_text("[]")
    with pytest.raises(DataError, match="no lists under concepts and images"):
        read_personal_objects(folder)
