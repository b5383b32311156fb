"""Sound data with one planted defect of each kind: each is found by name, with its file, row and id.

The defects of rows stand all in the same data, so that none hides another; those of distributions, which are
about many rows, in data of their own.
"""

import io
import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import pytest
from PIL import Image, ImageOps

from components.params import GenerationParams, load_params
from components.rcmu import Split
from components.rcmu.tables import SCHEMAS, Kind, read_rows, shard_path, write_rows
from components.validation import ValidationResult, validate_data
from tests.generation.made import drawn, make_data

Row = dict[str, Any]
GENERATION = GenerationParams(context_sets=3, facts_per_text=2, questions_per_task=1)
LONG = (
    "The circle belongs to Ada Moss, who found it at a market in Oslo on a rainy day in 1994. It has been in "
    "the family ever since, and nobody but Ada Moss may move it after 6 in the evening."
)


class Data:
    """The rows of all files, and where those stand that a defect was planted in."""

    def __init__(self, root: Path) -> None:
        folders: dict[Kind, str] = {"scenes": "scenes", "contexts": "turns", "turns": "turns"}
        self.rows = {
            (kind, split): list(read_rows(shard_path(root / folder, kind, split)))
            for kind, folder in folders.items()
            for split in Split
        }

    def row(self, kind: Kind, index: int, split: Split = Split.TRAIN) -> Row:
        return self.rows[kind, split][index]

    def turn(self, task: str, number: int) -> tuple[int, Row]:
        """Index and row of a training turn of a task."""
        turns = enumerate(self.rows["turns", Split.TRAIN])
        return [(index, row) for index, row in turns if row["task"] == task][number]

    def write(self, root: Path) -> None:
        for name in ("scenes", "turns"):
            (root / name).mkdir()
        for (kind, split), rows in self.rows.items():
            folder = root / ("scenes" if kind == "scenes" else "turns")
            write_rows(shard_path(folder, kind, split), SCHEMAS[kind], rows)


class Found(NamedTuple):
    """Where a defect is to be found."""

    file: str
    row: int
    id: str  # the beginning of it


def at(kind: Kind, index: int, row: Row, split: Split = Split.TRAIN) -> Found:
    names = {"scenes": "scene_id", "contexts": "context_id", "turns": "turn_id"}
    return Found(f"{kind}-{split}-00000.parquet", index + 1, row[names[kind]])


def corners(index: int, **values: int) -> Callable[[Data], Found]:
    def plant(data: Data) -> Found:
        row = data.row("scenes", index)
        row["regions"][0].update(values)
        return at("scenes", index, row)

    return plant


def encoded(pixels: Image.Image) -> bytes:
    file = io.BytesIO()
    pixels.save(file, "PNG", compress_level=1)
    return file.getvalue()


def pixels_of(row: Row) -> Image.Image:
    return Image.open(io.BytesIO(row["image"]))


def cut_off_image(data: Data) -> Found:
    row = data.row("scenes", 5)
    row["image"] = row["image"][:200]
    return at("scenes", 5, row)


def wrong_size(data: Data) -> Found:
    row = data.row("scenes", 6)
    row["width"] += 1
    return at("scenes", 6, row)


def same_picture_in_both_splits(data: Data) -> Found:
    row = data.row("scenes", 0, Split.BENCHMARK)
    row["image"] = encoded(pixels_of(data.row("scenes", 7)))
    return at("scenes", 0, row, Split.BENCHMARK)


def mirrored_picture(data: Data) -> Found:
    row = data.row("scenes", 1, Split.BENCHMARK)
    row["image"] = encoded(ImageOps.mirror(pixels_of(data.row("scenes", 8))))
    return at("scenes", 1, row, Split.BENCHMARK)


def same_object_in_both_splits(data: Data) -> Found:
    row = data.row("scenes", 2, Split.BENCHMARK)
    row["regions"][0]["instance_id"] = data.row("scenes", 9)["regions"][0]["instance_id"]
    return at("scenes", 2, row, Split.BENCHMARK)


def label_that_opens_a_token(data: Data) -> Found:
    row = data.row("scenes", 10)
    row["regions"][0]["label"] = "circle <|im_end|>"
    return at("scenes", 10, row)


def scene_id_twice(data: Data) -> Found:
    row = data.row("scenes", 11)
    row["scene_id"] = data.row("scenes", 12)["scene_id"]
    return at("scenes", 11, row)


def same_text_in_both_splits(data: Data) -> Found:
    row = data.row("contexts", 0, Split.BENCHMARK)
    row["regions"][0]["text"] = data.row("contexts", 0)["regions"][0]["text"]
    return at("contexts", 0, row, Split.BENCHMARK)


def text_with_other_names(data: Data) -> Found:
    data.row("contexts", 1)["regions"][0]["text"] = LONG
    row = data.row("contexts", 1, Split.BENCHMARK)
    row["regions"][0]["text"] = LONG.replace("Ada Moss", "Ben Hill").replace("Oslo", "Rome")
    return at("contexts", 1, row, Split.BENCHMARK)


def text_of_no_region(data: Data) -> Found:
    row = data.row("contexts", 3)
    row["regions"][0]["region"] = 9
    return at("contexts", 3, row)


def set_of_no_scene(data: Data) -> Found:
    row = data.row("contexts", 4)
    row["scene_id"] = "nowhere"
    return at("contexts", 4, row)


def set_without_texts(data: Data) -> Found:
    row = data.row("contexts", 5)
    row["regions"] = []
    return at("contexts", 5, row)


def endless_text(data: Data) -> Found:
    row = data.row("contexts", 6)
    row["regions"][0]["text"] += " It is old." * 20
    return at("contexts", 6, row)


def cites_nothing_there_is(data: Data) -> Found:
    index, row = data.turn("v2c", 10)
    row.update(answer=f"{row['answer']}[9]", citations=[*row["citations"], 9])
    return at("turns", index, row)


def citations_differ(data: Data) -> Found:
    index, row = data.turn("v2c", 11)
    row["citations"] = []
    return at("turns", index, row)


def refusal_cites(data: Data) -> Found:
    index, row = data.turn("unanswerable_c2v", 12)
    row.update(answer=f"{row['answer']}[1]", citations=[1])
    return at("turns", index, row)


def empty_answer(data: Data) -> Found:
    index, row = data.turn("visual_qa", 13)
    row["answer"] = ""
    return at("turns", index, row)


def asked_twice(data: Data) -> Found:
    _, row = data.turn("c2v", 14)
    copy = {**row, "turn_id": "another id"}
    data.rows["turns", Split.TRAIN].append(copy)
    return at("turns", len(data.rows["turns", Split.TRAIN]) - 1, copy)


def turn_id_twice(data: Data) -> Found:
    index, row = data.turn("c2v", 15)
    row["turn_id"] = data.turn("v2c", 15)[1]["turn_id"]
    return at("turns", index, row)


def turn_of_no_set(data: Data) -> Found:
    index, row = data.turn("v2c", 16)
    row["context_id"] = "nothing"
    return at("turns", index, row)


def turn_in_the_wrong_file(data: Data) -> Found:
    index, row = data.turn("v2c", 17)
    row["split"] = "benchmark"
    return at("turns", index, row)


def task_there_is_not(data: Data) -> Found:
    index, row = data.turn("rcid", 18)
    row["task"] = "guess"
    return at("turns", index, row)


PLANTED: dict[str, tuple[str, Callable[[Data], Found]]] = {
    "box_beyond_the_image": ("box_x2_inside", corners(0, x2=1001)),
    "box_before_the_image": ("box_y1_inside", corners(1, y1=-1)),
    "box_without_width": ("box_x_ordered", corners(2, x1=400, x2=400)),
    "box_upside_down": ("box_y_ordered", corners(3, y1=500, y2=400)),
    "tiny_box": ("box_area_in_bounds", corners(4, x1=500, y1=500, x2=510, y2=510)),
    "cut_off_image": ("images_decode", cut_off_image),
    "wrong_size": ("images_decode", wrong_size),
    "same_picture_in_both_splits": ("images_in_one_split", same_picture_in_both_splits),
    "mirrored_picture": ("images_unlike_training", mirrored_picture),
    "same_object_in_both_splits": ("instances_in_one_split", same_object_in_both_splits),
    "label_that_opens_a_token": ("scenes_are_valid", label_that_opens_a_token),
    "scene_id_twice": ("scene_ids_unique", scene_id_twice),
    "same_text_in_both_splits": ("texts_in_one_split", same_text_in_both_splits),
    "text_with_other_names": ("texts_unlike_training", text_with_other_names),
    "text_of_no_region": ("texts_have_a_region", text_of_no_region),
    "set_of_no_scene": ("contexts_have_a_scene", set_of_no_scene),
    "set_without_texts": ("contexts_are_valid", set_without_texts),
    "endless_text": ("text_words_in_bounds", endless_text),
    "cites_nothing_there_is": ("citations_resolve", cites_nothing_there_is),
    "citations_differ": ("citations_match_answer", citations_differ),
    "refusal_cites": ("refusals_uncited", refusal_cites),
    "empty_answer": ("answers_not_empty", empty_answer),
    "asked_twice": ("turns_unique", asked_twice),
    "turn_id_twice": ("turn_ids_unique", turn_id_twice),
    "turn_of_no_set": ("turns_have_a_context", turn_of_no_set),
    "turn_in_the_wrong_file": ("turns_in_their_file", turn_in_the_wrong_file),
    "task_there_is_not": ("turns_are_valid", task_there_is_not),
}


@pytest.fixture(scope="module")
def clean(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("clean")
    source = drawn(36, benchmark_share=0.3, regions=(2, 3), twins_share=0.9, image_size=112)
    make_data(root, source, GENERATION, seed=7)
    return root


def validated(root: Path, repo: Path) -> tuple[ValidationResult, dict[str, dict[str, Any]]]:
    """The result, and the outcome of every expectation by name."""
    (root / "validation").mkdir()
    result = validate_data(
        root / "scenes",
        root / "turns",
        load_params(repo / "params.yaml").validation,
        folder=root / "validation",
        data_docs=root / "docs",
    )
    content = json.loads((root / "validation/result.json").read_text())
    return result, {outcome["name"]: outcome for outcome in content["expectations"]}


class Validated(NamedTuple):
    """Data with all defects, and what the suite says of it."""

    where: dict[str, Found]
    result: ValidationResult
    outcomes: dict[str, dict[str, Any]]


@pytest.fixture(scope="module")
def defective(clean: Path, repo: Path, tmp_path_factory: pytest.TempPathFactory) -> Validated:
    root = tmp_path_factory.mktemp("defective")
    data = Data(clean)
    where = {defect: plant(data) for defect, (_, plant) in PLANTED.items()}
    data.write(root)
    return Validated(where, *validated(root, repo))


def test_clean_data_passes(clean: Path, repo: Path, tmp_path: Path) -> None:
    shutil.copytree(clean, tmp_path / "data")
    result, outcomes = validated(tmp_path / "data", repo)
    assert result == ValidationResult(success=True, failures=(), warnings=())
    assert not [name for name, outcome in outcomes.items() if not outcome["success"]]
    summary = json.loads((clean / "turns/summary.json").read_text())
    assert not any(filtered["count"] for filtered in summary["filtered"].values())


@pytest.mark.parametrize("defect", PLANTED)
def test_a_defect_is_found_by_name_file_row_and_id(defective: Validated, defect: str) -> None:
    name, _ = PLANTED[defect]
    place = defective.where[defect]
    outcome = defective.outcomes[name]
    assert not outcome["success"]
    assert [
        example
        for example in outcome["examples"]
        if (example["file"], example["row"]) == (place.file, place.row) and example["id"].startswith(place.id)
    ], outcome["examples"]
    (said,) = (
        text
        for text in (*defective.result.failures, *defective.result.warnings)
        if text.startswith(f"{name}: ")
    )
    assert f"{place.file}, row {place.row} ({place.id}" in said


def test_each_kind_is_another_one(defective: Validated) -> None:
    assert len({name for name, _ in PLANTED.values()}) >= 20
    assert len(set(defective.where.values())) == len(PLANTED)


def only_refusals(data: Data) -> str:
    """Too many refusals in training; the benchmark keeps its share."""
    rows = data.rows["turns", Split.TRAIN]
    data.rows["turns", Split.TRAIN] = [
        row for row in rows if row["task"].startswith("unanswerable") or int(row["context_id"][-1]) == 0
    ]
    return "train"


def hardly_a_description(data: Data) -> str:
    rows = data.rows["turns", Split.BENCHMARK]
    kept = [row for row in rows if row["task"] != "rcid"]
    data.rows["turns", Split.BENCHMARK] = kept + [row for row in rows if row["task"] == "rcid"][:3]
    return "benchmark rcid"


def answers_stand_first(data: Data) -> str:
    """Texts that are asked about are put first."""
    for row in data.rows["turns", Split.TRAIN]:
        if row["citations"]:
            row["answer"] = row["answer"].replace(f"[{row['citations'][0]}]", "[1]", 1)
            row["citations"][0] = 1
    return "train"


@pytest.mark.parametrize(
    ("name", "plant"),
    [
        ("refusals_share_in_bounds", only_refusals),
        ("task_share_in_bounds", hardly_a_description),
        ("first_citation_in_bounds", answers_stand_first),
    ],
)
def test_a_shortcut_that_no_row_shows_is_found(
    name: str, plant: Callable[[Data], str], clean: Path, repo: Path, tmp_path: Path
) -> None:
    data = Data(clean)
    about = plant(data)
    data.write(tmp_path)
    result, outcomes = validated(tmp_path, repo)
    assert about in {example["id"] for example in outcomes[name]["examples"]}
    assert any(text.startswith(f"{name}: ") for text in result.failures)
