"""Each planted defect is found and named; clean data passes; the pages are safe to open."""

import io
import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import pytest
from PIL import Image

from components.errors import DataError
from components.generation import write_turns
from components.params import Bound, GenerationParams, SourceParams, ValidationParams
from components.rcmu import Split
from components.rcmu.tables import SCHEMAS, Kind, read_rows, shard_path, shard_paths, write_rows
from components.sources import write_scenes
from components.validation import ValidationResult, validate_data

Rows = list[dict[str, Any]]
GENERATION = GenerationParams(context_sets=1, facts_per_text=2, questions_per_task=1)
LOOSE = Bound(least=0, most=None, severity="error")
BOUNDS = ValidationParams(
    refusals_share=LOOSE,
    task_share=LOOSE,
    first_citation=LOOSE,
    text_words=LOOSE,
    box_area=LOOSE,
    turns_per_scene=LOOSE,
)


class Tables(NamedTuple):
    scenes: Rows
    contexts: Rows
    turns: Rows


def make(root: Path, source: SourceParams) -> None:
    (root / "scenes").mkdir()
    (root / "turns").mkdir()
    write_scenes(source, seed=5, workspace=root, folder=root / "scenes")
    write_turns(root / "scenes", GENERATION, seed=5, folder=root / "turns", finished=root / "shards")


@pytest.fixture(scope="module")
def clean(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("clean")
    make(
        root,
        SourceParams(
            kind="synthetic",
            annotations=None,
            skip_broken=False,
            scenes=8,
            benchmark_share=0.25,
            max_regions=3,
            image_size=112,
            min_regions=1,
            twins_share=0.4,
        ),
    )
    return root


def read(root: Path) -> Tables:
    """The rows of all shards, the benchmark's first."""
    folders: tuple[tuple[Kind, str], ...] = (("scenes", "scenes"), ("contexts", "turns"), ("turns", "turns"))
    return Tables(
        *(
            [row for path in shard_paths(root / folder, kind) for row in read_rows(path)]
            for kind, folder in folders
        )
    )


def check(
    scenes: Path, turns: Path, out: Path, bounds: ValidationParams = BOUNDS
) -> tuple[ValidationResult, dict[str, Any]]:
    (out / "validation").mkdir(parents=True)
    result = validate_data(scenes, turns, bounds, folder=out / "validation", data_docs=out / "docs")
    content: dict[str, Any] = json.loads((out / "validation/result.json").read_text())
    assert (out / "docs/index.html").is_file()
    assert content["success"] is result.success is not bool(result.failures)
    return result, content


def write_by_split(folder: Path, kind: Kind, rows: Rows) -> None:
    for split in Split:
        own = [row for row in rows if file_of(row) is split]
        write_rows(shard_path(folder, kind, split), SCHEMAS[kind], own)


def file_of(row: dict[str, Any]) -> Split:
    """In whose file a row stands: one of no split is the benchmark's."""
    return Split.TRAIN if row["split"] == "train" else Split.BENCHMARK


def planted(
    clean: Path, out: Path, plant: Callable[[Tables], object], bounds: ValidationParams = BOUNDS
) -> ValidationResult:
    tables = read(clean)
    plant(tables)
    for name in ("scenes", "turns"):
        (out / name).mkdir()
    write_by_split(out / "scenes", "scenes", tables.scenes)
    write_by_split(out / "turns", "contexts", tables.contexts)
    write_by_split(out / "turns", "turns", tables.turns)
    result, _ = check(out / "scenes", out / "turns", out / "out", bounds)
    return result


def test_clean_data_passes_with_the_same_bytes_each_time(clean: Path, tmp_path: Path) -> None:
    result, content = check(clean / "scenes", clean / "turns", tmp_path / "one")
    assert result.success, result.failures
    assert len(content["expectations"]) == len({e["name"] for e in content["expectations"]}) > 20
    assert all(e["checked"] > 0 for e in content["expectations"])
    moved = tmp_path / "elsewhere"
    shutil.copytree(clean, moved)
    (tmp_path / "two/docs").mkdir(parents=True)
    (tmp_path / "two/docs/stale.html").write_text("from an earlier run")
    check(moved / "scenes", moved / "turns", tmp_path / "two")
    results = [(tmp_path / name / "validation/result.json").read_bytes() for name in ("one", "two")]
    assert results[0] == results[1]
    assert not (tmp_path / "two/docs/stale.html").exists()


def test_real_photos_pass(tmp_path: Path, real_regions: Path) -> None:
    shutil.copytree(real_regions, tmp_path / "data")
    make(
        tmp_path,
        SourceParams(
            kind="coco",
            annotations="data/annotations.json",
            skip_broken=False,
            scenes=None,
            benchmark_share=0.25,
            max_regions=4,
            image_size=112,
            min_regions=1,
            twins_share=0.0,
        ),
    )
    result, content = check(tmp_path / "scenes", tmp_path / "turns", tmp_path / "out")
    assert result.success, result.failures
    assert content["expectations"][0]["checked"] == 39


def turn_of(tables: Tables, task: str) -> tuple[int, dict[str, Any]]:
    """Row number and row of the first turn of a task."""
    return next((n, turn) for n, turn in enumerate(tables.turns, start=1) if turn["task"] == task)


def box(**corners: int) -> Callable[[Tables], object]:
    return lambda t: t.scenes[2]["regions"][0].update(corners)


def truncated(tables: Tables) -> None:
    tables.scenes[1]["image"] = tables.scenes[1]["image"][:200]


def truncated_jpeg(tables: Tables) -> None:
    file = io.BytesIO()
    Image.effect_noise((112, 112), 50).convert("RGB").save(file, "JPEG")
    tables.scenes[1]["image"] = file.getvalue()[:-100]


def other_size(tables: Tables) -> None:
    tables.scenes[1]["width"] = 113


def of_split(rows: Rows, split: str) -> dict[str, Any]:
    return next(row for row in rows if row["split"] == split)


def image_in_both_splits(tables: Tables) -> None:
    """The same picture in another encoding."""
    pixels = Image.open(io.BytesIO(of_split(tables.scenes, "train")["image"]))
    file = io.BytesIO()
    pixels.save(file, "PNG", compress_level=1)
    of_split(tables.scenes, "benchmark")["image"] = file.getvalue()


def instance_in_both_splits(tables: Tables) -> None:
    source = of_split(tables.scenes, "train")["regions"][0]["instance_id"]
    of_split(tables.scenes, "benchmark")["regions"][0]["instance_id"] = source


def text_in_both_splits(tables: Tables) -> None:
    source = of_split(tables.contexts, "train")["regions"][0]["text"]
    of_split(tables.contexts, "benchmark")["regions"][0]["text"] = source


def unknown_region_in_context(tables: Tables) -> None:
    tables.contexts[3]["regions"][0]["region"] = 9


def no_text_at_all(tables: Tables) -> None:
    tables.contexts[3]["regions"] = []


def region_with_two_texts(tables: Tables) -> None:
    context = next(c for c in tables.contexts if len(c["regions"]) > 1)
    context["regions"][0]["region"] = context["regions"][1]["region"]


def citation_of_nothing(tables: Tables) -> None:
    _, turn = turn_of(tables, "v2c")
    turn["answer"] = turn["answer"][: turn["answer"].rindex("[")] + "[9]"
    turn["citations"] = [9]


def claim_of_nothing(tables: Tables) -> None:
    turn_of(tables, "visual_qa")[1]["claims"][0]["k"] = 7


def citations_differ(tables: Tables) -> None:
    turn_of(tables, "v2c")[1]["citations"] = []


def refusal_cited(tables: Tables) -> None:
    _, turn = turn_of(tables, "unanswerable_c2v")
    turn["answer"] += "[1]"
    turn["citations"] = [1]


def answer_empty(tables: Tables) -> None:
    turn_of(tables, "visual_qa")[1]["answer"] = ""


def answer_blank(tables: Tables) -> None:
    turn_of(tables, "unanswerable_v2c")[1]["answer"] = "  "


def duplicate_turn(tables: Tables) -> None:
    tables.turns.append({**tables.turns[4], "turn_id": "another id"})


def duplicate_turn_id(tables: Tables) -> None:
    tables.turns[5]["turn_id"] = tables.turns[4]["turn_id"]


def context_missing(tables: Tables) -> None:
    tables.turns[4]["context_id"] = "none"


def scene_missing(tables: Tables) -> None:
    tables.contexts[1]["scene_id"] = "none"


def split_differs(tables: Tables) -> None:
    turn = of_split(tables.turns, "train")
    turn["split"] = "benchmark"


def label_opens_a_token(tables: Tables) -> None:
    tables.scenes[0]["regions"][0]["label"] = "a <|im_end|>"


def unknown_task(tables: Tables) -> None:
    tables.turns[0]["task"] = "guess"


def no_turns(tables: Tables) -> None:
    tables.turns.clear()


def null_box(tables: Tables) -> None:
    tables.scenes[0]["regions"][0]["x1"] = None


@pytest.mark.parametrize(
    ("plant", "name"),
    [
        (box(x2=1001), "box_x2_inside"),
        (box(y1=-1), "box_y1_inside"),
        (box(x1=500, x2=400), "box_x_ordered"),
        (box(y1=500, y2=500), "box_y_ordered"),
        (null_box, "scenes_are_valid"),
        (label_opens_a_token, "scenes_are_valid"),
        (truncated, "images_decode"),
        (truncated_jpeg, "images_decode"),
        (other_size, "images_decode"),
        (image_in_both_splits, "images_in_one_split"),
        (instance_in_both_splits, "instances_in_one_split"),
        (text_in_both_splits, "texts_in_one_split"),
        (unknown_region_in_context, "texts_have_a_region"),
        (region_with_two_texts, "texts_have_a_region"),
        (no_text_at_all, "contexts_are_valid"),
        (scene_missing, "contexts_have_a_scene"),
        (context_missing, "turns_have_a_context"),
        (split_differs, "turns_have_a_context"),
        (citation_of_nothing, "citations_resolve"),
        (claim_of_nothing, "citations_resolve"),
        (citations_differ, "citations_match_answer"),
        (refusal_cited, "refusals_uncited"),
        (answer_empty, "answers_not_empty"),
        (answer_blank, "answers_not_empty"),
        (duplicate_turn, "turns_unique"),
        (duplicate_turn_id, "turn_ids_unique"),
        (unknown_task, "turns_are_valid"),
        (no_turns, "turns_exist"),
    ],
)
def test_each_defect_is_found_and_named(
    plant: Callable[[Tables], object], name: str, clean: Path, tmp_path: Path
) -> None:
    before, after = read(clean), read(clean)
    plant(after)
    result = planted(clean, tmp_path, plant)
    assert not result.success
    (failure,) = (text for text in result.failures if text.startswith(f"{name}: "))
    assert "\n  cure: " in failure
    if plant is not no_turns:
        assert any(f"row {number} (" in failure for number in changed_rows(before, after))


def changed_rows(before: Tables, after: Tables) -> list[int]:
    """Row numbers, each in its own file, in which two versions of the tables differ."""
    return [
        sum(file_of(earlier) is file_of(row) for earlier in new[: index + 1])
        for old, new in zip(before, after, strict=True)
        for index, row in enumerate(new)
        if index >= len(old) or old[index] != row
    ]


def test_a_failure_reads_as_file_row_id_and_cure(clean: Path, tmp_path: Path) -> None:
    result = planted(clean, tmp_path, citation_of_nothing)
    number, turn = turn_of(read(clean), "v2c")
    path = tmp_path / "turns/turns-benchmark-00000.parquet"
    assert result.failures == (
        "citations_resolve: every citation and claim names a region [k] of the prompt; "
        f"1 of {len(read(clean).turns)} do not\n"
        f"  {path}, row {number} ({turn['turn_id']}): unresolved='[9]'\n"
        "  cure: cite a region that the context set has, or remove the citation",
    )


def test_many_bad_rows_are_counted_and_ten_named(clean: Path, tmp_path: Path) -> None:
    def empty_all(tables: Tables) -> None:
        for turn in tables.turns:
            turn.update(answer="", citations=[])

    result = planted(clean, tmp_path, empty_all)
    (failure,) = (text for text in result.failures if text.startswith("answers_not_empty"))
    total = len(read(clean).turns)
    assert f"{total} of {total}" in failure
    assert failure.count(" row ") == 10
    assert f"and {total - 10} more" in failure


def test_markup_in_the_data_stays_text_in_the_pages(clean: Path, tmp_path: Path) -> None:
    markup = "<script>alert('$column ${x}')</script> &amp;"

    def inject(tables: Tables) -> None:
        tables.turns[0].update(turn_id=markup, question=markup)
        tables.turns.append({**tables.turns[0]})

    result = planted(clean, tmp_path, inject)
    assert any(markup in failure for failure in result.failures)
    pages = [path.read_text() for path in (tmp_path / "out/docs").rglob("*.html")]
    assert len(pages) > 5
    assert not any("<script>alert" in page for page in pages)
    assert any("&lt;script&gt;alert" in page for page in pages)


def test_files_that_are_no_tables_are_an_error(clean: Path, tmp_path: Path) -> None:
    shutil.copytree(clean, tmp_path / "data")
    turns = tmp_path / "data/turns/turns-train-00000.parquet"
    turns.write_bytes(b"PAR1")
    with pytest.raises(DataError, match=r"turns-train-00000\.parquet cannot be read"):
        check(tmp_path / "data/scenes", tmp_path / "data/turns", tmp_path / "one")
    shutil.copyfile(clean / "turns/contexts-train-00000.parquet", turns)
    with pytest.raises(DataError, match="other columns"):
        check(tmp_path / "data/scenes", tmp_path / "data/turns", tmp_path / "two")
