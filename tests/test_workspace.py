"""Workspaces: what makes a checkout dirty, what a run's digest covers, worktrees, locks and recipes."""

import contextlib
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import psutil
import pytest
import yaml

from components.errors import ParamsError, SettingsError
from components.process import OWNER
from components.settings import Settings
from components.workspace import (
    READY,
    changed_files,
    commit_recipe,
    describe_run,
    end_strays,
    is_ready,
    opened,
    profile_file,
)

IDENTITY = ("-c", "user.name=test", "-c", "user.email=test@localhost")
PIPELINE = "stages:\n  copy:\n    cmd: cp README.md outs\n    deps: [README.md]\n    outs: [outs]\n"
HOLDER = """
import sys, time
from pathlib import Path
from components.settings import Settings
from components.workspace import describe_run, opened
root, settings = Path(sys.argv[1]), Settings.model_validate_json(sys.argv[2])
with opened(describe_run(root, None, settings), settings):
    Path(sys.argv[3]).write_text("held")
    time.sleep(600)
"""


def sh(folder: Path, *command: str) -> str:
    return subprocess.run(command, cwd=folder, check=True, capture_output=True, text=True).stdout


def git_as_user(folder: Path, *arguments: str) -> str:
    return sh(folder, "git", *IDENTITY, *arguments)


def dvc(folder: Path, *arguments: str) -> str:
    return sh(folder, sys.executable, "-m", "dvc", *arguments)


@pytest.fixture(autouse=True)
def _no_hook(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [name for name in os.environ if name.startswith(("GIT_", "RCVIT_"))]:
        monkeypatch.delenv(name)


@pytest.fixture(scope="session")
def template(repo: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A committed git and DVC repository with a profile and one stage."""
    root = tmp_path_factory.mktemp("template")
    sh(root, "git", "init", "--quiet", "-b", "main")
    dvc(root, "init", "--quiet")
    (root / "infra/profiles").mkdir(parents=True)
    (root / "data").mkdir()
    (root / "data/.gitignore").write_text("# DVC writes here\n")
    (root / ".gitignore").write_text("/.rcvit/\n/outs\n")
    (root / "README.md").write_text("a checkout\n")
    (root / "dvc.yaml").write_text(PIPELINE)
    shutil.copy(repo / "params.yaml", root / "params.yaml")
    params = yaml.safe_load((repo / "params.yaml").read_text())
    params["seed"] = 99
    (root / "infra/profiles/other.yaml").write_text(yaml.safe_dump(params))
    dvc(root, "repro", "--quiet")
    git_as_user(root, "add", "-A")
    git_as_user(root, "commit", "--quiet", "-m", "start")
    return root


@pytest.fixture
def root(template: Path, tmp_path: Path) -> Path:
    shutil.copytree(template, tmp_path / "checkout", symlinks=True)
    return tmp_path / "checkout"


@pytest.fixture
def settings(root: Path) -> Settings:
    return Settings(home=root / ".rcvit", tracking_uri=f"sqlite:///{root}/.rcvit/mlflow.db")


def edit_lock(root: Path) -> None:
    (root / "dvc.lock").write_text("schema: '2.0'\nstages: {}\n")


def dvc_add(root: Path) -> None:
    (root / "data/photos").mkdir()
    (root / "data/photos/a.png").write_bytes(b"a")
    dvc(root, "add", "--quiet", "data/photos")
    assert "/photos" in (root / "data/.gitignore").read_text()


def dvc_out(root: Path) -> None:
    text = PIPELINE + "  more:\n    cmd: cp README.md more\n    outs: [more]\n"
    (root / "dvc.yaml").write_text(text)
    git_as_user(root, "commit", "--quiet", "-am", "more")
    dvc(root, "repro", "--quiet", "more")
    assert "/more" in (root / ".gitignore").read_text()


def untracked(root: Path) -> None:
    (root / "notes.txt").write_text("mine")


def ignore_by_hand(root: Path) -> None:
    dvc_add(root)
    with (root / "data/.gitignore").open("a") as file:
        file.write("*.py\n")


def ignore_less(root: Path) -> None:
    (root / ".gitignore").write_text("/.rcvit/\n")


def edit_readme(root: Path) -> None:
    (root / "README.md").write_text("edited\n")


def remove_readme(root: Path) -> None:
    (root / "README.md").unlink()


def stage_params(root: Path) -> None:
    shutil.copy(root / "infra/profiles/other.yaml", root / "params.yaml")
    git_as_user(root, "add", "params.yaml")


@pytest.mark.parametrize("change", [edit_lock, dvc_add, dvc_out, untracked])
def test_what_dvc_writes_leaves_a_checkout_clean(
    change: Callable[[Path], None], root: Path, settings: Settings
) -> None:
    change(root)
    assert git_as_user(root, "status", "--porcelain").strip()
    assert changed_files(root) == []
    run = describe_run(root, None, settings)
    assert not run.dirty
    assert run.folder == settings.home / "runs" / run.digest[:16]


@pytest.mark.parametrize(
    ("change", "named"),
    [
        (ignore_by_hand, "data/.gitignore"),
        (ignore_less, ".gitignore"),
        (edit_readme, "README.md"),
        (remove_readme, "README.md"),
        (stage_params, "params.yaml"),
    ],
)
def test_any_other_change_makes_it_dirty(
    change: Callable[[Path], None], named: str, root: Path, settings: Settings
) -> None:
    change(root)
    assert changed_files(root) == [named]
    run = describe_run(root, None, settings)
    assert run.dirty
    assert run.folder == root


def test_the_users_diff_settings_do_not_matter(root: Path) -> None:
    dvc_add(root)
    for name, value in {"color.ui": "always", "diff.external": "false", "diff.noprefix": "true"}.items():
        sh(root, "git", "config", name, value)
    assert changed_files(root) == []
    edit_readme(root)
    assert changed_files(root) == ["README.md"]


def test_the_digest_covers_commit_params_and_changes_but_no_comment(root: Path, settings: Settings) -> None:
    def digest(profile: str | None = None) -> str:
        return describe_run(root, profile, settings).digest

    first = digest()
    assert digest() == first
    other = digest("other")
    commented = root.parent / "commented.yaml"
    commented.write_text("# mine\n" + (root / "infra/profiles/other.yaml").read_text())
    assert digest(str(commented)) == other
    edit_lock(root)
    untracked(root)
    assert digest() == first
    edit_readme(root)
    dirty = digest()
    (root / "README.md").write_text("edited again\n")
    dirty_otherwise = digest()
    (root / "notes.txt").write_text("changed as well")  # a dirty run sees the new files too
    with_new_file = digest()
    git_as_user(root, "commit", "--quiet", "-am", "next")
    all_digests = [first, other, dirty, dirty_otherwise, with_new_file, digest()]
    assert len(set(all_digests)) == len(all_digests)
    git_as_user(root, "commit", "--quiet", "--allow-empty", "-m", "another commit, same files")
    assert digest() not in all_digests


def test_an_unknown_profile_names_the_known_ones(root: Path) -> None:
    with pytest.raises(ParamsError, match="'nope'") as caught:
        profile_file(root, "nope")
    assert "other" in caught.value.hint
    assert profile_file(root, "other") == root / "infra/profiles/other.yaml"
    assert profile_file(root, None) == root / "params.yaml"


def test_a_clone_without_a_commit_is_refused(repo: Path, tmp_path: Path, settings: Settings) -> None:
    sh(tmp_path, "git", "init", "--quiet", "empty")
    shutil.copy(repo / "params.yaml", tmp_path / "empty/params.yaml")
    with pytest.raises(SettingsError, match="rev-parse") as caught:
        describe_run(tmp_path / "empty", None, settings)
    assert "commit" in caught.value.hint


def test_the_worktree_has_the_profile_and_the_cache_and_leaves_the_user_alone(
    root: Path, settings: Settings
) -> None:
    before = git_as_user(root, "rev-parse", "HEAD"), git_as_user(root, "status", "--porcelain")
    run = describe_run(root, "other", settings)
    assert not is_ready(run)
    with opened(run, settings):
        assert (run.folder / READY).exists()
        profile = (root / "infra/profiles/other.yaml").read_bytes()
        assert (run.folder / "params.yaml").read_bytes() == profile
        # The out comes from the checkout's cache; nothing in the worktree makes it.
        assert not (run.folder / "outs").exists()
        dvc(run.folder, "checkout", "--quiet")
        assert (run.folder / "outs").read_text() == "a checkout\n"
        assert Path(dvc(run.folder, "cache", "dir").strip()) == root / ".dvc/cache"
        recipe = commit_recipe(run)
    assert is_ready(run)
    assert git_as_user(root, "rev-parse", "--abbrev-ref", "HEAD").strip() == "main"
    assert before == (git_as_user(root, "rev-parse", "HEAD"), git_as_user(root, "status", "--porcelain"))
    assert git_as_user(root, "rev-parse", run.branch).strip() == recipe
    assert git_as_user(root, "show", f"{recipe}:params.yaml").encode() == profile


def test_the_remotes_of_checkout_and_settings_are_known_in_the_worktree(
    root: Path, settings: Settings
) -> None:
    dvc(root, "remote", "add", "--local", "mine", str(root.parent / "store"))
    settings = settings.model_copy(update={"dvc_remote": f"{root.parent.as_uri()}/other-store"})
    run = describe_run(root, None, settings)
    with opened(run, settings):
        listed = dvc(run.folder, "remote", "list").replace("\n", "")  # DVC wraps long lines
    assert str(root.parent / "store") in listed
    assert "other-store" in listed
    assert "other-store" not in dvc(root, "remote", "list").replace("\n", "")


def test_a_half_made_worktree_is_made_again(root: Path, settings: Settings) -> None:
    run = describe_run(root, None, settings)
    with opened(run, settings):
        pass
    (run.folder / READY).unlink()  # killed before the end
    (run.folder / "README.md").unlink()
    # What `git worktree add` leaves when it is killed.
    sh(root, "git", "worktree", "lock", "--reason", "initializing", str(run.folder))
    with opened(run, settings):
        assert (run.folder / "README.md").read_text() == "a checkout\n"
        assert (run.folder / READY).exists()
        assert git_as_user(run.folder, "rev-parse", "--abbrev-ref", "HEAD").strip() == run.branch
    shutil.rmtree(run.folder)  # or its files were removed altogether
    with opened(run, settings):
        assert (run.folder / "README.md").exists()


def test_an_index_lock_of_a_killed_git_does_not_stop_the_next_run(root: Path, settings: Settings) -> None:
    run = describe_run(root, "other", settings)
    with opened(run, settings):
        pass
    lock = Path(git_as_user(run.folder, "rev-parse", "--git-path", "index.lock").strip())
    lock.touch()
    with opened(run, settings):
        assert commit_recipe(run) != run.commit
    assert not lock.exists()


def test_running_again_goes_on_from_the_branch(root: Path, settings: Settings) -> None:
    run = describe_run(root, "other", settings)
    with opened(run, settings):
        recipe = commit_recipe(run)
        assert commit_recipe(run) == recipe  # nothing new: no second commit
    with opened(run, settings):
        assert commit_recipe(run) == recipe
    shutil.rmtree(run.folder)
    with opened(run, settings):
        assert git_as_user(run.folder, "rev-parse", "HEAD").strip() == recipe
        assert commit_recipe(run) == recipe


def test_a_recipe_needs_no_identity_and_asks_no_hook(
    root: Path, settings: Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "home").mkdir()
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("GIT_CONFIG_NOSYSTEM", "1")
    sh(root, "git", "config", "user.useConfigOnly", "true")
    sh(root, "git", "config", "commit.gpgsign", "true")
    sh(root, "git", "config", "user.signingkey", "none")
    for name in ("pre-commit", "commit-msg", "prepare-commit-msg", "post-checkout", "post-commit"):
        hook = root / ".git/hooks" / name
        hook.parent.mkdir(exist_ok=True)
        hook.write_text(f"#!/bin/sh\ntouch {tmp_path}/hook-ran\nexit 1\n")
        hook.chmod(0o755)
    run = describe_run(root, "other", settings)
    with opened(run, settings):
        recipe = commit_recipe(run)
    assert sh(root, "git", "log", "-1", "--format=%an %ae", recipe).strip() == "rcvit rcvit@localhost"
    assert sh(root, "git", "rev-parse", f"{recipe}^").strip() == run.commit
    assert not (tmp_path / "hook-ran").exists()


def test_a_dirty_run_works_in_place_and_commits_nothing(root: Path, settings: Settings) -> None:
    edit_readme(root)
    branches = git_as_user(root, "branch", "--all")
    run = describe_run(root, None, settings)
    with opened(run, settings):
        assert commit_recipe(run) == ""
    assert git_as_user(root, "branch", "--all") == branches
    assert git_as_user(root, "diff", "--cached", "--name-only") == ""
    assert (root / "README.md").read_text() == "edited\n"


def test_a_profile_does_not_overwrite_params_that_stand_nowhere_else(root: Path, settings: Settings) -> None:
    own = root / "params.yaml"
    text = own.read_text()
    own.write_text(text.replace("seed: 7", "seed: 8"))
    with (
        pytest.raises(SettingsError, match="not committed") as caught,
        opened(describe_run(root, "other", settings), settings),
    ):
        pass
    assert "commit" in caught.value.hint
    assert "seed: 8" in own.read_text()
    own.write_text(text)
    edit_readme(root)
    for _ in range(2):  # a profile's own content is no edit, the second time it stands there
        with opened(describe_run(root, "other", settings), settings):
            assert own.read_bytes() == (root / "infra/profiles/other.yaml").read_bytes()


def test_a_second_process_is_told_who_holds_the_workspace(
    root: Path, settings: Settings, repo: Path, tmp_path: Path
) -> None:
    held = tmp_path / "held"
    holder = subprocess.Popen(
        [sys.executable, "-c", HOLDER, str(root), settings.model_dump_json(), str(held)], cwd=repo
    )
    try:
        while not held.exists():
            assert holder.poll() is None
            time.sleep(0.05)
        run = describe_run(root, None, settings)
        with pytest.raises(SettingsError, match="another `rcvit run`") as caught, opened(run, settings):
            pytest.fail("two processes in one workspace")
        assert str(run.folder) in caught.value.message
        assert "wait until it has ended" in caught.value.hint
    finally:
        holder.kill()
        holder.wait()
    with opened(run, settings):  # the lock ends with its process
        assert is_ready(run)


def test_what_a_killed_run_left_in_the_workspace_is_ended_and_nothing_else(tmp_path: Path) -> None:
    here, elsewhere = tmp_path / "here", tmp_path / "elsewhere"
    sleep = [sys.executable, "-c", "import time; time.sleep(600)"]
    owned = {**os.environ, OWNER: "1"}
    here.mkdir()
    elsewhere.mkdir()

    def left_behind(cwd: Path, env: dict[str, str]) -> psutil.Process:
        """A process whose parent has ended, as after kill -9."""
        starter = ["sh", "-c", '"$@" >/dev/null & echo $!', "sh", *sleep]
        ended = subprocess.run(starter, cwd=cwd, env=env, stdout=subprocess.PIPE, check=True)
        return psutil.Process(int(ended.stdout))

    stray = left_behind(here, owned)
    others = [left_behind(here, dict(os.environ)), left_behind(elsewhere, owned)]
    child = subprocess.Popen(sleep, cwd=here, env=owned)  # as a dirty run's own Prefect server
    try:
        end_strays(here)
        assert not _works(stray)
        assert all(_works(process) for process in others)
        assert child.poll() is None
    finally:
        for process in [stray, *others]:
            with contextlib.suppress(psutil.NoSuchProcess):
                process.kill()
        child.kill()
        child.wait()


def _works(process: psutil.Process) -> bool:
    """Whether it still runs; where nobody collects orphans, an ended one stays as a zombie."""
    try:
        return process.status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False
