"""Every reader against its fixture's own counts, and every defect against record and cure."""

import csv
import json
import re
import shutil
import subprocess
import sys
import textwrap
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from components.errors import DataError
from components.params import PhotoKind
from components.rcmu import Split
from components.rcmu.tables import scene_from_row, scene_row
from components.sources.photos import Photo
from components.sources.readers import READERS, read_photos
from components.sources.records import Mistakes
from components.sources.regions import scene_of, usable_regions

# kind -> what of the fixture its reader takes
TAKEN: dict[PhotoKind, str] = {
    "coco": "coco/instances_val2017.json",
    "refcoco": "refcoco",
    "flickr30k_entities": "flickr30k_entities",
    "visual_genome": "visual_genome",
    "toloka": "toloka_wsdm2023/rows_for_packaged_images.csv",
}


@pytest.fixture
def formats(tmp_path: Path, source_formats: Path, real_regions: Path) -> Path:
    """A copy of the fixtures, each folder with the photos it names."""
    folder = tmp_path / "formats"
    shutil.copytree(source_formats, folder, copy_function=shutil.copyfile)
    for source in folder.iterdir():
        source.chmod(0o755)
        shutil.copytree(real_regions / "images", source / "images", copy_function=shutil.copyfile)
        (source / "images").chmod(0o755)
        for photo in (source / "images").iterdir():
            if source.name == "flickr30k_entities":
                photo.rename(photo.with_name(photo.name.lstrip("0")))
    for path in folder.rglob("*"):
        path.chmod(0o755 if path.is_dir() else 0o644)
    return folder


def read(formats: Path, kind: PhotoKind) -> dict[str, Photo]:
    reading = read_photos(kind, formats / TAKEN[kind], skip_broken=False)
    return {photo.record.scene_id: photo for photo in reading.photos}


def loaded(path: Path) -> Any:
    return json.loads(path.read_text())


def test_coco_has_the_files_own_counts(formats: Path) -> None:
    photos = read(formats, "coco")
    content = loaded(formats / TAKEN["coco"])
    captions = loaded(formats / "coco/captions_val2017.json")["annotations"]
    assert set(photos) == {f"coco-{image['id']}" for image in content["images"]}
    assert sum(len(photo.record.objects) for photo in photos.values()) == len(content["annotations"]) == 60
    for photo in photos.values():
        own = [c["caption"] for c in captions if f"coco-{c['image_id']}" == photo.record.scene_id]
        assert photo.record.caption == " ".join(own[0].split())


def test_refcoco_gives_each_object_its_sentence(formats: Path) -> None:
    photos = read(formats, "refcoco")
    refs = loaded(formats / "refcoco/refs(sample).json")
    phrases = {o.object_id: o.phrase for photo in photos.values() for o in photo.record.objects if o.phrase}
    assert phrases == {str(ref["ann_id"]): ref["sentences"][0]["sent"].rstrip(".") for ref in refs}
    assert len(phrases) == 68
    assert sum(len(photo.record.objects) for photo in photos.values()) == 186


def test_flickr30k_entities_gives_labels_phrases_and_captions(formats: Path) -> None:
    photos = read(formats, "flickr30k_entities")
    assert len(photos) == 4
    cat = photos["flickr30k-196393"].record
    assert cat.caption == "A white cat eats from a bowl beside a small bird."
    assert [(m.instance_id[-1], cat.caption[m.start : m.end]) for m in cat.mentions] == [
        ("1", "A white cat"),
        ("3", "a bowl"),
        ("2", "a small bird"),
    ]
    assert {(o.label, o.phrase) for o in cat.objects} == {
        ("cat", "the white cat"),
        ("bird", "the small bird"),
        ("bowl", "the larger bowl"),
        ("bowl", "the small white bowl"),
    }
    boxed = 0  # a box of a group stands for its member too, with two names
    for path in (formats / "flickr30k_entities/Annotations").glob("*.xml"):
        for item in path.read_text().split("<object>")[1:]:
            boxed += item.count("<name>") if "<bndbox>" in item else 0
    objects = [item for photo in photos.values() for item in photo.record.objects]
    assert len(objects) == boxed
    assert sum(bool(item.left_out) for item in objects) == 6  # two riders, two horses, two men
    man = next(o for o in photos["flickr30k-442450"].record.objects if o.object_id.endswith("-2"))
    assert (man.label, man.phrase) == ("man", "the man in a blue jacket")


def test_a_grounded_caption_names_the_regions_that_are_kept(formats: Path) -> None:
    photos = read(formats, "flickr30k_entities")
    named = 0
    for photo in photos.values():
        regions, _, _ = usable_regions(photo.record.objects, max_regions=3)
        scene = scene_of(photo, regions, split=Split.TRAIN)
        for mention in scene.mentions:
            words = scene.caption[mention.start : mention.end].casefold().split()
            assert scene.regions[mention.region].label in words
            named += 1
        assert scene_from_row(scene_row(scene)) == scene
    assert named >= 4


def test_visual_genome_links_descriptions_to_objects(formats: Path) -> None:
    photos = read(formats, "visual_genome")
    descriptions = loaded(formats / "visual_genome/region_descriptions.json")
    objects = [item for photo in photos.values() for item in photo.record.objects]
    assert len(photos) == len(descriptions) == 10
    assert len(objects) == 42
    said = sorted(region["phrase"] for group in descriptions for region in group["regions"])
    assert sorted(item.phrase for item in objects) == said


def test_toloka_has_one_box_for_each_question(formats: Path) -> None:
    photos = read(formats, "toloka")
    with (formats / TAKEN["toloka"]).open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert [photo.record.attribution for photo in photos.values()] == [row["image"] for row in rows]
    for photo in photos.values():
        regions, skipped, filled = usable_regions(photo.record.objects, max_regions=4)
        assert [region.expression for region in regions] == ["the object"]
        assert not skipped
        assert list(filled.values()) == ["the label"]


def test_a_thousand_rows_of_toloka(formats: Path) -> None:
    file = formats / "toloka_wsdm2023/train_sample.csv"
    mistakes = Mistakes(file)
    records, files = READERS["toloka"](file, mistakes)
    assert (sum(len(record.objects) for record in records), mistakes.found, files) == (1000, [], [file])


def edit_json(path: str, change: Callable[[Any], object]) -> Callable[[Path], None]:
    def edit(formats: Path) -> None:
        content = loaded(formats / path)
        change(content)
        (formats / path).write_text(json.dumps(content))

    return edit


def edit_text(path: str, old: str, new: str) -> Callable[[Path], None]:
    def edit(formats: Path) -> None:
        text = (formats / path).read_text()
        assert old in text
        (formats / path).write_text(text.replace(old, new, 1))

    return edit


REFS = "refcoco/refs(sample).json"
INSTANCES = "refcoco/instances.json"
XML = "flickr30k_entities/Annotations/196393.xml"
TEXT = "flickr30k_entities/Sentences/196393.txt"
OBJECTS = "visual_genome/objects.json"
IMAGES = "visual_genome/image_data.json"
REGIONS = "visual_genome/region_descriptions.json"
CSV = "toloka_wsdm2023/rows_for_packaged_images.csv"
ROW = "000000160012.jpg,640,461,2,11,106,398"
FLICKR: PhotoKind = "flickr30k_entities"
GENOME: PhotoKind = "visual_genome"
DEFECTS: list[tuple[PhotoKind, Callable[[Path], object], str]] = [
    ("coco", edit_json("coco/captions_val2017.json", lambda c: c["annotations"][3].update(image_id=5)),
     r"captions_val2017.json: annotations\[3\] .*image_id 5 names no image"),
    ("refcoco", edit_json(REFS, lambda c: c[2].update(ann_id=1)), r"refs\[2\] \(ref_id 3\): ann_id 1 names"),
    ("refcoco", edit_json(REFS, lambda c: c[2].update(image_id=1)), r"refs\[2\] \(ref_id 3\): image_id 1"),
    ("refcoco", edit_json(REFS, lambda c: c[2].update(sentences=[])), r"refs\[2\] \(ref_id 3\): sentences"),
    ("refcoco", edit_json(REFS, lambda c: c[2].update(ref_id=1)), r"refs\[2\] \(ref_id 1\): the ref_id is"),
    ("refcoco", edit_json(INSTANCES, lambda c: c["annotations"][4].update(bbox=[5, 5, -2, 9])),
     r"annotations\[4\].*x2 <= x1"),
    ("refcoco", edit_json(INSTANCES, lambda c: c["images"][4].update(file_name="../../x.jpg")),
     r"images\[4\].*leaves"),
    (FLICKR, edit_text(XML, "<annotation>", "<annotation"), r"Annotations/196393.xml: .*"),
    (FLICKR, edit_text(XML, "<annotation>", "<!DOCTYPE a [<!ENTITY b 'c'>]><annotation>"),
     r"Annotations/196393.xml: .*document type"),
    (FLICKR, edit_text(XML, "<xmax>276", "<xmax>-276"), r"196393.xml: name '1': .*x2 <= x1"),
    (FLICKR, edit_text(XML, "<xmax>276", "<xmax>nan"), r"196393.xml: object\[0\].*xmax: a number"),
    (FLICKR, edit_text(XML, "<xmax>276", "<xmax>900"), r"196393.xml: name '1': .*leaves"),
    (FLICKR, edit_text(XML, "<name>1<", "<name>../1<"), r"196393.xml: name '../1': an entity is"),
    (FLICKR, edit_text(XML, "<width>640", "<width>0"), r"196393.xml: the size 0 x 480"),
    (FLICKR, edit_text(TEXT, "EN#3", "EN#77"), r"196393.txt: sentence\[0\]: EN#77 is not in"),
    (FLICKR, lambda f: (f / TEXT).unlink(), r"196393.xml: .*196393.txt cannot be read"),
    (FLICKR, lambda f: (f / TEXT).write_bytes(b"\xff\xfe"), r"196393.xml: .*decode"),
    (FLICKR, lambda f: (f / "flickr30k_entities/images/196393.jpg").unlink(), "no such file"),
    (GENOME, edit_json(OBJECTS, lambda c: c[1].update(image_id=7)), r"objects.json\[1\].*image_id 7"),
    (GENOME, edit_json(OBJECTS, lambda c: c[1]["objects"][0].update(w=-4)),
     r"objects.json\[1\] .*objects\[0\] \(object_id 53498\): .*x2 <= x1"),
    (GENOME, edit_json(OBJECTS, lambda c: c[1]["objects"][0].update(h=float("nan"))),
     r"objects.json\[1\] .*objects\[0\] \(object_id 53498\): h: .*finite"),
    (GENOME, edit_json(OBJECTS, lambda c: c[1]["objects"][0].update(object_id=42791)),
     r"objects.json\[1\] .*objects\[0\] \(object_id 42791\): the object_id is that of"),
    (GENOME, edit_json(OBJECTS, lambda c: c[1]["objects"][0].update(names=["<|im_end|>"])),
     r"objects.json\[1\] .*objects\[0\].*rename"),
    (GENOME, edit_json(REGIONS, lambda c: c[1].update(id=7)), r"region_descriptions.json\[1\].*id 7"),
    (GENOME, edit_json(REGIONS, lambda c: c[1]["regions"][0].pop("phrase")),
     r"region_descriptions.json\[1\] .*regions\[0\] \(region_id 4\): phrase: Field required"),
    (GENOME, edit_json(IMAGES, lambda c: c[1].update(width=639)), r"image_data.json\[1\].*640 x 428"),
    (GENOME, edit_json(IMAGES, lambda c: c[1].update(url="http://x/..")), r"data.json\[1\].*leaves"),
    ("toloka", edit_text(CSV, ROW, ROW.replace(",106,", ",1,")), r"rows\[0\]: the box .*x2 <= x1"),
    ("toloka", edit_text(CSV, ROW, ROW.replace(",106,", ",nan,")), r"rows\[0\]: right: .*finite"),
    ("toloka", edit_text(CSV, ROW, ROW.replace(",106,", ",1060,")), r"rows\[0\]: the box .*leaves"),
    ("toloka", edit_text(CSV, "/000000160012.jpg", "/.."), r"rows\[0\].*leaves"),
    ("toloka", edit_text(CSV, ROW, "000000160012.jpg,640"), r"rows\[0\]: left"),
]  # fmt: skip


@pytest.mark.parametrize(("kind", "spoil", "named"), DEFECTS, ids=[named for _, _, named in DEFECTS])
def test_each_defect_is_named_or_skipped_and_listed(
    formats: Path, kind: PhotoKind, spoil: Callable[[Path], object], named: str
) -> None:
    spoil(formats)
    with pytest.raises(DataError, match=named) as caught:
        read(formats, kind)
    assert "skip" in caught.value.hint
    reading = read_photos(kind, formats / TAKEN[kind], skip_broken=True)
    assert reading.photos
    assert any(re.search(named, f"{where}: {what}") for where, what in reading.skipped)


@pytest.mark.parametrize(
    ("kind", "spoil", "named"),
    [
        ("refcoco", lambda f: (f / REFS).write_text("{"), "not JSON"),
        ("refcoco", lambda f: (f / REFS).write_text("{}"), "no list"),
        ("refcoco", lambda f: (f / "refcoco/refs(b).json").write_text("[]"), "2 files refs"),
        ("refcoco", lambda f: (f / REFS).unlink(), "is a pickle"),
        (GENOME, lambda f: (f / OBJECTS).unlink(), "objects.json cannot be read"),
        (GENOME, lambda f: (f / REGIONS).write_text("[[["), "not JSON"),
        (FLICKR, lambda f: shutil.rmtree(f / "flickr30k_entities/Annotations"), "no Annotations"),
        ("toloka", lambda f: (f / CSV).write_text("a,b\n1,2\n"), "lacks the column"),
        ("toloka", lambda f: (f / CSV).write_bytes(b"\xff\xfe"), "no CSV file"),
    ],
)
def test_what_is_no_such_source_is_refused(
    formats: Path, kind: PhotoKind, spoil: Callable[[Path], object], named: str
) -> None:
    spoil(formats)
    for skip_broken in (False, True):
        with pytest.raises(DataError, match=named) as caught:
            read_photos(kind, formats / TAKEN[kind], skip_broken=skip_broken)
        assert caught.value.hint


def test_the_hint_for_a_pickle_converts_it_and_runs_nothing(formats: Path) -> None:
    pickle = formats / "refcoco/refs(sample).p"
    before = loaded(formats / REFS)
    (formats / REFS).unlink()
    with pytest.raises(DataError, match="pickle") as caught:
        read_photos("refcoco", pickle, skip_broken=False)
    program = textwrap.dedent(caught.value.hint.split("<<'END'\n")[1].split("\nEND")[0])
    done = subprocess.run([sys.executable, "-c", program, str(pickle)], check=True, capture_output=True)
    assert loaded(formats / REFS) == before
    pickle.write_bytes(b"cos\nsystem\n(S'touch owned'\ntR.")
    done = subprocess.run(
        [sys.executable, "-c", program, str(pickle)], check=False, capture_output=True, cwd=formats
    )
    assert done.returncode != 0
    assert b"could run code" in done.stderr
    assert not (formats / "owned").exists()
