"""Settings: one place for all worktrees, every mistake at once, no password in a message."""

import os
import subprocess
from pathlib import Path

import pytest

from components.errors import SettingsError
from components.settings import load_settings


@pytest.fixture(autouse=True)
def _nothing_set(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in list(os.environ):
        if name.startswith(("RCVIT_", "GIT_")):
            monkeypatch.delenv(name)


@pytest.fixture
def clone(tmp_path: Path) -> Path:
    root = tmp_path / "clone"
    identity = ["-c", "user.name=test", "-c", "user.email=test@localhost"]
    subprocess.run(["git", "init", "--quiet", str(root)], check=True)
    subprocess.run(["git", *identity, "commit", "--quiet", "--allow-empty", "-m", "x"], cwd=root, check=True)
    return root


def test_without_variables_all_is_under_the_checkout(clone: Path) -> None:
    settings = load_settings(clone)
    assert settings.home == clone / ".rcvit"
    assert settings.tracking_uri == f"sqlite:///{clone}/.rcvit/mlflow.db"
    assert settings.artifact_root == str(clone / ".rcvit/mlartifacts")
    assert settings.prefect_api_url is None
    assert settings.dvc_remote is None


def test_a_worktree_and_a_folder_inside_share_the_main_checkouts_home(clone: Path, tmp_path: Path) -> None:
    other = tmp_path / "elsewhere/worktree"
    subprocess.run(["git", "worktree", "add", "--quiet", str(other)], cwd=clone, check=True)
    inside = other / "a/b"
    inside.mkdir(parents=True)
    assert load_settings(other) == load_settings(inside) == load_settings(clone)


def test_inside_a_git_hook_the_checkout_is_still_the_one_of_the_folder(
    clone: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("GIT_DIR", str(tmp_path / "another/.git"))
    assert load_settings(clone).home == clone / ".rcvit"


def test_empty_variables_are_unset(clone: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    expected = load_settings(clone)
    for name in ("HOME", "TRACKING_URI", "PREFECT_API_URL", "DVC_REMOTE"):
        monkeypatch.setenv(f"RCVIT_{name}", "")
    assert load_settings(clone) == expected


def test_variables_are_taken(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RCVIT_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("RCVIT_TRACKING_URI", "postgresql+psycopg2://ada@db/mlflow")
    monkeypatch.setenv("RCVIT_PREFECT_API_URL", "http://prefect:4200/api/")
    monkeypatch.setenv("RCVIT_DVC_REMOTE", "s3://bucket/path")
    settings = load_settings(tmp_path)  # no clone: RCVIT_HOME needs none
    assert settings.home == tmp_path / "home"
    assert settings.prefect_api_url == "http://prefect:4200/api"
    assert settings.dvc_remote == "s3://bucket/path"
    assert settings.artifact_root == str(tmp_path / "home/mlartifacts")
    monkeypatch.setenv("RCVIT_TRACKING_URI", "https://mlflow.example")
    assert load_settings(tmp_path).artifact_root is None  # the server decides


def test_all_mistakes_come_at_once_and_no_password(clone: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RCVIT_TRACKING_URI", "ftp://ada:hunter2@db/mlflow")
    monkeypatch.setenv("RCVIT_PREFECT_API_URL", "ada:hunter2@prefect:4200")
    with pytest.raises(SettingsError) as caught:
        load_settings(clone)
    said = str(caught.value)
    assert "2 setting(s)" in said
    assert "RCVIT_TRACKING_URI" in said
    assert "RCVIT_PREFECT_API_URL" in said
    assert "hunter2" not in said
    assert "rcvit doctor" in caught.value.hint
    assert caught.value.__cause__ is None
    assert caught.value.__suppress_context__


@pytest.mark.parametrize("uri", ["mlruns", "file:///tmp/mlruns", "hunter2"])
def test_a_tracking_uri_that_mlflow_refuses_is_refused_here(
    uri: str, clone: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("RCVIT_TRACKING_URI", uri)
    with pytest.raises(SettingsError, match="RCVIT_TRACKING_URI") as caught:
        load_settings(clone)
    assert uri not in str(caught.value)


def test_outside_git_it_says_so(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match=r"git .*failed") as caught:
        load_settings(tmp_path)
    assert "clone" in caught.value.hint
    with pytest.raises(SettingsError, match="does not exist"):
        load_settings(tmp_path / "missing")


def test_the_key_of_the_llm_is_shown_nowhere(clone: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RCVIT_LLM_API_KEY", "sk-secret")
    settings = load_settings(clone)
    assert settings.llm_api_key is not None
    assert settings.llm_api_key.get_secret_value() == "sk-secret"
    assert "sk-secret" not in f"{settings!r} {settings} {settings.model_dump_json()}"


@pytest.mark.parametrize("url", ["https://me:sk-secret@host/v1", "https://host/v1?key=sk-secret"])
def test_a_key_in_the_url_is_refused(url: str, clone: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RCVIT_LLM_URL", url)
    with pytest.raises(SettingsError, match=r"RCVIT_LLM_URL: .*the key goes to RCVIT_LLM_API_KEY") as caught:
        load_settings(clone)
    assert "sk-secret" not in str(caught.value)
