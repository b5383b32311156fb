"""The tiny base that ships: by the recipe, whole, small, and its card quotes what was measured."""

import json

import pytest
from safetensors import safe_open

from components.pretraining.make import RECIPE_COPY, digests
from components.pretraining.recipe import Recipe, load_recipe
from components.training.model import TINY_BASE_FOLDER

pytestmark = pytest.mark.skipif(
    not (TINY_BASE_FOLDER / "config.json").exists(), reason="components/pretraining/tiny_base is not there"
)


def test_every_file_is_as_it_was_made() -> None:
    assert digests(TINY_BASE_FOLDER) == json.loads((TINY_BASE_FOLDER / "digests.json").read_text())


def test_it_was_made_by_the_recipe_that_ships() -> None:
    text = (TINY_BASE_FOLDER / RECIPE_COPY).read_text()
    assert Recipe.model_validate_json(text) == load_recipe()


def test_it_is_small() -> None:
    weights = TINY_BASE_FOLDER / "model.safetensors"
    assert weights.stat().st_size <= 16 * 2**20
    with safe_open(weights, "numpy") as file:
        number = sum(file.get_tensor(name).size for name in file.keys())  # noqa: SIM118 - not a mapping
    assert 1_000_000 <= number <= 8_000_000


def test_the_card_quotes_every_skill() -> None:
    card = (TINY_BASE_FOLDER / "README.md").read_text()
    skills = json.loads((TINY_BASE_FOLDER / "skills.json").read_text())
    assert skills
    for skill, measured in skills.items():
        share = measured["exact"] / measured["n"]
        assert f"| {skill} | {measured['exact']} of {measured['n']} | {share:.1%} |" in card
