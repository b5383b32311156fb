"""The published folder: what a stranger gets by `datasets.load_dataset`, and what its card says."""

from pathlib import Path
from typing import Any

import pytest
import yaml

from components.errors import DataError
from components.generation import publish_data
from components.params import Params
from components.rcmu import Split, Task, tables
from components.rcmu.tables import read_contexts, read_scenes, read_turns, shard_paths
from tests.generation.test_shards import alone, scenes

__all__ = ["alone", "scenes"]


@pytest.fixture(scope="module")
def params(repo: Path) -> Params:
    return Params.model_validate(yaml.safe_load((repo / "params.yaml").read_text()))


@pytest.fixture(scope="module")
def folder(scenes: Path, alone: Path, params: Params, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("published") / "rcmu"
    publish_data(scenes, alone, params=params, version="0123abc", folder=folder)
    return folder


@pytest.fixture(scope="module")
def loaded(folder: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    import datasets

    cache = str(tmp_path_factory.mktemp("cache"))
    kinds = ("turns", "contexts", "scenes")
    return {kind: datasets.load_dataset(str(folder), kind, cache_dir=cache) for kind in kinds}


def test_load_dataset_gives_every_row_of_both_splits(
    loaded: dict[str, Any], scenes: Path, alone: Path
) -> None:
    for split in Split:
        turns = [turn.model_dump(mode="json") for turn in read_turns(alone, split)]
        assert list(loaded["turns"][split]) == turns
        contexts = [context.model_dump(mode="json") for context in read_contexts(alone, split)]
        assert list(loaded["contexts"][split]) == contexts
        assert loaded["scenes"][split]["scene_id"] == [s.scene_id for s in read_scenes(scenes, split)]


def test_images_come_as_images_and_boxes_as_integers(loaded: dict[str, Any], scenes: Path) -> None:
    scene = next(read_scenes(scenes, Split.TRAIN))
    row = loaded["scenes"]["train"][0]
    assert row["image"].size == (scene.width, scene.height)
    assert row["license"] == "Apache-2.0"
    region = scene.regions[0]
    assert [row["regions"][0][c] for c in ("x1", "y1", "x2", "y2")] == list(region.box.model_dump().values())


def test_the_card_counts_what_is_there(folder: Path, alone: Path, params: Params) -> None:
    card = (folder / "README.md").read_text()
    turns = list(read_turns(alone))
    for task in Task:
        counts = [sum(t.task is task and t.split is split for t in turns) for split in Split]
        assert f"| `{task}` | {counts[0]} | {counts[1]} |\n" in card
    assert "| `scenes` | 18 | 6 |\n" in card
    assert "| `Apache-2.0` | 24 |\n" in card
    assert "`0123abc`" in card
    assert f"context_sets: {params.generation.context_sets}\n" in card


def test_a_folder_that_holds_something_stays_as_it_is(
    scenes: Path, alone: Path, params: Params, tmp_path: Path
) -> None:
    (tmp_path / "mine.txt").write_text("mine")
    with pytest.raises(DataError, match="is not empty"):
        publish_data(scenes, alone, params=params, version="v", folder=tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["mine.txt"]


def test_a_name_from_outside_stays_a_name_in_the_card(
    scenes: Path, alone: Path, params: Params, tmp_path: Path
) -> None:
    hostile = "CC ` | <script>alert(1)</script>\n# Another head"
    (tmp_path / "scenes").mkdir()
    for path in shard_paths(scenes, "scenes"):
        rows = [{**row, "license": hostile} for row in tables.read_rows(path)]
        tables.write_rows(tmp_path / "scenes" / path.name, tables.SCENES, rows)
    publish_data(tmp_path / "scenes", alone, params=params, version="v", folder=tmp_path / "out")
    card = (tmp_path / "out/README.md").read_text()
    assert "| `CC ' / <script>alert(1)</script> # Another head` | 24 |\n" in card


def test_without_data_it_says_what_to_do(params: Params, tmp_path: Path) -> None:
    with pytest.raises(DataError, match="has no turns-") as caught:
        publish_data(tmp_path, tmp_path, params=params, version="v", folder=tmp_path / "out")
    assert "rcvit data generate" in caught.value.hint


def test_the_card_names_the_llm_that_wrote_it(
    scenes: Path, alone: Path, params: Params, tmp_path: Path
) -> None:
    route = params.generation.model_copy(update={"route": "llm"})
    llm = params.llm.model_copy(update={"model": "a|`model"})
    by_llm = params.model_copy(update={"generation": route, "llm": llm})
    publish_data(scenes, alone, params=by_llm, version="v", folder=tmp_path / "card")
    card = (tmp_path / "card/README.md").read_text()
    assert "invented by the LLM `a/'model`" in card
    assert "No image, object or text is in both splits." in card
    assert "texts_per_label: 8\n" in card
