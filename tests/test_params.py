"""params.yaml and the profiles: one schema, every mistake reported at once."""

from pathlib import Path
from typing import Any

import pytest
import yaml

from components.errors import ParamsError
from components.params import load_params, params_digest

PROFILES = ("tiny", "photos", "2b", "7b")


def keys(node: Any, prefix: str = "") -> set[str]:
    if not isinstance(node, dict):
        return {prefix}
    return set().union(*(keys(value, f"{prefix}.{name}") for name, value in node.items()))


def test_every_profile_is_tested(repo: Path) -> None:
    assert {path.stem for path in (repo / "infra/profiles").glob("*")} == set(PROFILES)


@pytest.mark.parametrize("profile", PROFILES)
def test_profiles_load_and_have_the_same_keys(repo: Path, profile: str) -> None:
    path = repo / f"infra/profiles/{profile}.yaml"
    load_params(path)
    tiny = yaml.safe_load((repo / "infra/profiles/tiny.yaml").read_text())
    assert keys(yaml.safe_load(path.read_text())) == keys(tiny)


def test_a_checkout_starts_with_the_tiny_profile(repo: Path) -> None:
    # To the byte, so that `rcvit params use tiny` leaves it clean.
    assert (repo / "params.yaml").read_bytes() == (repo / "infra/profiles/tiny.yaml").read_bytes()


def test_three_mistakes_are_reported_at_once(repo: Path, tmp_path: Path) -> None:
    content = yaml.safe_load((repo / "params.yaml").read_text())
    content["training"]["learning_rates"]["vision"] = -1
    content["source"]["kind"] = "flickr"
    content["evaluation"]["batchsize"] = 4
    broken = tmp_path / "params.yaml"
    broken.write_text(yaml.safe_dump(content))
    with pytest.raises(ParamsError) as caught:
        load_params(broken)
    message = str(caught.value)
    assert "has 3 mistake(s)" in message
    for place in ("training.learning_rates.vision", "source.kind", "evaluation.batchsize", str(broken)):
        assert place in message


@pytest.mark.parametrize(
    ("section", "changes", "said"),
    [
        ("training", {"optimizer": "muon", "deepspeed": "zero2"}, "muon needs deepspeed zero0"),
        ("generation", {"route": "plain", "facts_per_text": 5}, "at most 4 facts"),
        ("source", {"min_regions": 4, "max_regions": 3}, "min_regions is larger"),
        ("model", {"scratch": {"mrope_section": [1, 2, 3]}}, "add to 16"),
        ("model", {"scratch": {"mrope_section": [0, 3, 13]}}, "from 1 up"),
    ],
)
def test_values_that_contradict_each_other(
    repo: Path, tmp_path: Path, section: str, changes: dict[str, Any], said: str
) -> None:
    content = yaml.safe_load((repo / "params.yaml").read_text())
    for name, value in changes.items():
        if isinstance(value, dict):
            content[section][name].update(value)
        else:
            content[section][name] = value
    path = tmp_path / "params.yaml"
    path.write_text(yaml.safe_dump(content))
    with pytest.raises(ParamsError, match=said):
        load_params(path)


@pytest.mark.parametrize(("text", "said"), [("seed: [", "is not YAML"), ("- a\n", "(file)")])
def test_a_file_that_is_no_params_file(tmp_path: Path, text: str, said: str) -> None:
    path = tmp_path / "params.yaml"
    path.write_text(text)
    with pytest.raises(ParamsError) as caught:
        load_params(path)
    assert said in str(caught.value)


def test_a_missing_file_names_the_command_that_makes_one(tmp_path: Path) -> None:
    with pytest.raises(ParamsError, match="rcvit params use"):
        load_params(tmp_path / "params.yaml")


def test_the_digest_sees_values_and_nothing_else(repo: Path, tmp_path: Path) -> None:
    text = (repo / "params.yaml").read_text()
    commented, changed = tmp_path / "a.yaml", tmp_path / "b.yaml"
    commented.write_text("# a comment\n" + text)
    changed.write_text(text.replace("seed: 7", "seed: 8"))
    original = params_digest(load_params(repo / "params.yaml"))
    assert params_digest(load_params(commented)) == original
    assert params_digest(load_params(changed)) != original
