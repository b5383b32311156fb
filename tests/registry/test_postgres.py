"""The registry on a real PostgreSQL: what SQLite forgives is seen here."""

import os
from pathlib import Path

import pytest

from components.registry import CANDIDATE, STAGING, Registry
from components.settings import Settings
from tests.registry.conftest import MakeRun

pytestmark = pytest.mark.system


def test_versions_aliases_and_gate_on_postgresql(make_run: MakeRun, tmp_path: Path) -> None:
    settings = Settings(home=tmp_path, tracking_uri=os.environ["RCVIT_TEST_POSTGRES"])
    registry = Registry(settings)
    weak, better = make_run("weak-on-postgres", 0.3), make_run("better-on-postgres", 0.7)
    first = registry.register(weak, recipe_commit="r" * 40)
    assert registry.register(weak, recipe_commit="r" * 40).number == first.number
    second = registry.register(better, recipe_commit="s" * 40)
    assert not registry.promote(first).passed
    assert registry.promote(second).passed
    aliases = {version.number: version.aliases for version in registry.versions()}
    assert aliases[first.number] == ()
    assert set(aliases[second.number]) == {CANDIDATE, STAGING}
    assert registry.find(better.digest) == registry.get(second.number)
