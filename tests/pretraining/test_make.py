"""`make base` with a recipe of tiny lessons: what is done is not done again."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

from components.pretraining.make import digests
from components.pretraining.recipe import RECIPE

SHAPE = {
    "vocab_size": 500, "hidden_size": 32, "intermediate_size": 48, "layers": 1, "heads": 2, "kv_heads": 1,
    "vision_depth": 1, "vision_width": 32, "vision_heads": 2, "mrope_section": [1, 2, 5],
}  # fmt: skip


def tiny(recipe: dict[str, Any]) -> dict[str, Any]:
    recipe["model"].update(SHAPE)
    recipe["held_out_scenes"] = 2
    recipe["sight"].update(steps=2, images=4)
    recipe["sight"]["source"]["image_size"] = 56
    for lesson in recipe["lines"]:
        lesson.update(steps=2, images=2, copies=2, layers=1, word_layers=1)
        lesson["source"]["image_size"] = 56
    recipe["answers"].update(
        steps=2, sequences=1, sequence_tokens=600, copies=2, layers=1, word_layers=1, asked_layers=1
    )
    recipe["answers"]["source"].update(scenes=4, image_size=56)
    return recipe


def make(recipe: Path, work: Path, folder: Path) -> subprocess.CompletedProcess[str]:
    code = (
        "import sys; from pathlib import Path; from components.pretraining.make import make_base; "
        "from components.pretraining.recipe import load_recipe; "
        "make_base(load_recipe(Path(sys.argv[1])), work=Path(sys.argv[2]), folder=Path(sys.argv[3]))"
    )
    command = [sys.executable, "-c", code, str(recipe), str(work), str(folder)]
    return subprocess.run(command, capture_output=True, text=True, check=False, env=dict(os.environ))


@pytest.mark.long
def test_lessons_follow_each_other_and_what_is_done_is_not_done_again(tmp_path: Path) -> None:
    recipe = tmp_path / "recipe.yaml"
    recipe.write_text(yaml.safe_dump(tiny(yaml.safe_load(RECIPE.read_text()))))
    first = make(recipe, tmp_path / "work", tmp_path / "base")
    assert first.returncode == 0, first.stderr
    made = json.loads((tmp_path / "base/digests.json").read_text())
    assert made == digests(tmp_path / "base")
    assert {
        "model.safetensors",
        "config.json",
        "tokenizer.json",
        "chat_template.jinja",
        "skills.json",
        "recipe.json",
    } <= set(made)
    skills = json.loads((tmp_path / "base/skills.json").read_text())
    assert {"box_to_looks", "listed_all", "quote"} <= set(skills)
    again = make(recipe, tmp_path / "work", tmp_path / "again")
    assert again.returncode == 0, again.stderr
    assert "right in the last steps" not in again.stderr  # no training
    fresh = make(recipe, tmp_path / "elsewhere", tmp_path / "fresh")
    assert fresh.returncode == 0, fresh.stderr
    assert fresh.stderr.count("right in the last steps") == 4
    for folder in ("again", "fresh"):
        assert json.loads((tmp_path / folder / "digests.json").read_text()) == made
