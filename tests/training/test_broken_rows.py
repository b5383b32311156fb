"""A broken sample is an error that names it, never a sample left out."""

from collections.abc import Callable
from pathlib import Path

import pytest

from components.errors import DataError
from components.rcmu import Scene, Split, Turn
from components.rcmu.tables import read_scenes, read_turns, write_models
from components.training.forest import plant
from components.training.processor import Processor
from tests.training.conftest import scene, write_data


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    write_data(tmp_path, [scene(name, Split.TRAIN, 56) for name in "ab"], ("Ada.", "Ben."))
    return tmp_path


def other_scene(turns: list[Turn], scenes: list[Scene]) -> None:
    turns[3] = turns[3].model_copy(update={"scene_id": "nowhere"})


def other_context(turns: list[Turn], scenes: list[Scene]) -> None:
    turns[3] = turns[3].model_copy(update={"context_id": "nowhere"})


def truncated(turns: list[Turn], scenes: list[Scene]) -> None:
    scenes[1] = scenes[1].model_copy(update={"image": scenes[1].image[:60]})


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (other_scene, r"turn b/c0/t1 has no such scene or text set \(scene nowhere"),
        (other_context, r"turn b/c0/t1 has no such .* text set nowhere"),
        (truncated, "the image of scene b does not decode"),
    ],
)
def test_a_broken_sample_is_an_error_with_its_id(
    folder: Path, processor: Processor, spoil: Callable[[list[Turn], list[Scene]], None], message: str
) -> None:
    turns, scenes = list(read_turns(folder)), list(read_scenes(folder))
    spoil(turns, scenes)
    write_models(folder, "turns", turns)
    write_models(folder, "scenes", scenes)
    with pytest.raises(DataError, match=message):
        forest = plant(folder, folder, processor, folder / "forest", limit=1000)
        forest.image(1)


@pytest.mark.parametrize("name", ["scenes", "contexts", "turns"])
def test_a_file_that_is_not_parquet_is_an_error_with_its_name(
    folder: Path, processor: Processor, name: str
) -> None:
    (folder / f"{name}-train-00000.parquet").write_bytes(b"junk")
    with pytest.raises(DataError, match=rf"cannot be read: .*{name}-train-00000\.parquet"):
        forest = plant(folder, folder, processor, folder / "forest", limit=1000)
        forest.image(1)
