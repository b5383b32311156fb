"""The rules that keep the house livable: one direction of imports, no telemetry, small files."""

import ast
import os
import subprocess
import sys
from pathlib import Path

import pytest


def imports_of(path: Path) -> set[str]:
    names: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            names.add(node.module)
    return names


def test_components_know_neither_prefect_nor_flows(repo: Path) -> None:
    files = list((repo / "components").rglob("*.py"))
    assert len(files) > 20
    for path in files:
        assert not {name for name in imports_of(path) if name.split(".")[0] in ("prefect", "flows")}, path


def test_the_language_imports_nothing_else_of_ours(repo: Path) -> None:
    for path in (repo / "components/rcmu").glob("*.py"):
        ours = {name for name in imports_of(path) if name.startswith("components")}
        assert {name for name in ours if not name.startswith("components.rcmu")} == set(), path


def test_files_stay_small(repo: Path) -> None:
    for folder in ("components", "flows", "tests"):
        for path in (repo / folder).rglob("*.py"):
            assert len(path.read_text().splitlines()) <= 450, path


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("PREFECT_SERVER_ANALYTICS_ENABLED", "false"),
        ("GX_ANALYTICS_ENABLED", "false"),
        ("MLFLOW_DISABLE_TELEMETRY", "true"),
        ("HF_HUB_OFFLINE", "1"),
        ("DVC_NO_ANALYTICS", "1"),
    ],
)
def test_no_tool_phones_home(repo: Path, name: str, value: str) -> None:
    code = f"import components, os; print(os.environ[{name!r}])"
    environment = {key: kept for key, kept in os.environ.items() if key != name}
    told = subprocess.run(
        [sys.executable, "-c", code], env=environment, cwd=repo, capture_output=True, text=True, check=True
    )
    assert told.stdout.strip() == value
