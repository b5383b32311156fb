"""The thin ends: GitHub workflows fit their schema and call commands that exist."""

import re
import subprocess
import sys
from pathlib import Path

import yaml


def test_workflows_fit_githubs_schema(repo: Path) -> None:
    workflows = sorted((repo / ".github/workflows").glob("*.yml"))
    assert [path.stem for path in workflows] == ["ci", "release", "retrain"]
    check = [sys.executable, "-m", "check_jsonschema", "--builtin-schema", "vendor.github-workflows"]
    result = subprocess.run([*check, *map(str, workflows)], capture_output=True, text=True)
    assert result.returncode == 0, result.stdout


def test_make_targets_of_the_workflows_exist(repo: Path) -> None:
    makefile = (repo / "Makefile").read_text()
    called = {
        target
        for path in (repo / ".github/workflows").glob("*.yml")
        for target in re.findall(r"make ([a-z-]+)", path.read_text())
    }
    assert called == {"check", "run", "test-long", "test-system"}
    assert all(re.search(rf"^{target}:", makefile, re.MULTILINE) for target in called)


def test_a_release_waits_for_the_gate_and_an_approval(repo: Path) -> None:
    jobs = yaml.safe_load((repo / ".github/workflows/release.yml").read_text())["jobs"]
    assert jobs["alias"]["needs"] == "gate"
    assert jobs["alias"]["environment"] == "staging"
    assert "--dry-run" in jobs["gate"]["steps"][-1]["run"]


def test_dispatch_inputs_never_enter_a_shell_line(repo: Path) -> None:
    for path in (repo / ".github/workflows").glob("*.yml"):
        for job in yaml.safe_load(path.read_text())["jobs"].values():
            for step in job["steps"]:
                assert "${{" not in step.get("run", ""), f"{path.name}: {step}"
