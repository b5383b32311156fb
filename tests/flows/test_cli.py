"""The command line in its own process: help, codes, and errors without a traceback."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from components.errors import DataError, ParamsError, SettingsError

REPO = Path(__file__).resolve().parents[2]


@pytest.fixture
def checkout(repo: Path, tmp_path: Path) -> Path:
    """The files that the commands read, committed."""
    root = tmp_path / "checkout"
    shutil.copytree(repo / "infra", root / "infra")
    for name in ("dvc.yaml", ".gitignore"):
        shutil.copy(repo / name, root / name)
    shutil.copy(repo / "infra/profiles/2b.yaml", root / "params.yaml")
    for command in (["init", "--quiet"], ["add", "-A"], ["commit", "--quiet", "-m", "start"]):
        identity = ["-c", "user.name=test", "-c", "user.email=test@localhost"]
        subprocess.run(["git", *identity, *command], cwd=root, check=True)
    return root


def rcvit(folder: Path, *arguments: str, **variables: str) -> subprocess.CompletedProcess[str]:
    clean = {k: v for k, v in os.environ.items() if not k.startswith(("RCVIT_", "GIT_", "PREFECT_"))}
    return subprocess.run(
        [sys.executable, "-m", "flows.cli", *arguments],
        cwd=folder,
        env={**clean, "COLUMNS": "120", "PYTHONPATH": str(REPO), **variables},
        capture_output=True,
        text=True,
    )


def assert_refused(result: subprocess.CompletedProcess[str], error: type[Exception], *words: str) -> None:
    said = result.stdout + result.stderr
    assert result.returncode == getattr(error, "exit_code", None), said
    assert "what to do:" in result.stderr
    assert "Traceback" not in said
    for word in words:
        assert word in said


def test_help_names_every_command(tmp_path: Path) -> None:
    result = rcvit(tmp_path, "--help")
    assert result.returncode == 0
    for name in ("run", "ask", "status", "promote", "doctor", "ui", "params", "data"):
        assert f" {name} " in result.stdout, name


def test_an_unknown_command_is_the_users_mistake(tmp_path: Path) -> None:
    result = rcvit(tmp_path, "retrain")
    assert result.returncode == 2
    assert "Traceback" not in result.stderr


def test_params_use_writes_a_profile(checkout: Path) -> None:
    inside = checkout / "infra/deepspeed"
    result = rcvit(inside, "params", "use", "tiny")
    assert result.returncode == 0, result.stderr
    assert (checkout / "params.yaml").read_bytes() == (checkout / "infra/profiles/tiny.yaml").read_bytes()
    assert "dvc repro" in result.stdout


def test_an_unknown_or_broken_profile_changes_nothing(checkout: Path, tmp_path: Path) -> None:
    before = (checkout / "params.yaml").read_bytes()
    assert_refused(rcvit(checkout, "params", "use", "nope"), ParamsError, "'nope'", "tiny", "2b")
    assert_refused(rcvit(checkout, "run", "--profile", "nope"), ParamsError, "'nope'", "tiny")
    (tmp_path / "broken.yaml").write_text("seed: many\n")
    broken = rcvit(checkout, "params", "use", str(tmp_path / "broken.yaml"))
    assert_refused(broken, ParamsError, "broken.yaml", "seed")
    assert (checkout / "params.yaml").read_bytes() == before
    assert not (checkout / ".rcvit").exists()


def test_outside_a_checkout_it_says_where_to_go(tmp_path: Path) -> None:
    assert_refused(rcvit(tmp_path, "run"), SettingsError, "clone")


def test_wrong_settings_come_without_their_values(checkout: Path) -> None:
    wrong = {"RCVIT_TRACKING_URI": "ftp://ada:hunter2@db", "RCVIT_PREFECT_API_URL": "ada:hunter2@prefect"}
    result = rcvit(checkout, "run", **wrong)
    assert_refused(result, SettingsError, *wrong)
    assert "hunter2" not in result.stdout + result.stderr


def test_a_question_that_cannot_be_read_needs_no_model(checkout: Path, tmp_path: Path) -> None:
    (tmp_path / "photo.png").write_bytes(b"not a photo")
    (tmp_path / "r.json").write_text("[]")
    ask = ["ask", str(tmp_path / "photo.png"), "What?", "--regions"]
    assert_refused(rcvit(checkout, *ask, str(tmp_path / "r.json")), DataError, "does not decode")
    (tmp_path / "r.json").write_text("{")
    assert_refused(rcvit(checkout, *ask, str(tmp_path / "r.json")), DataError, "cannot read")
    (tmp_path / "r.json").write_text('{"label": "x"}')
    assert_refused(rcvit(checkout, *ask, str(tmp_path / "r.json")), DataError, "list of regions")


def test_items_of_a_run_without_data_say_what_to_do(checkout: Path, tmp_path: Path) -> None:
    result = rcvit(checkout, "data", "items", str(tmp_path / "items"))
    assert_refused(result, DataError, "rcvit data generate")
    assert not (tmp_path / "items").exists()
