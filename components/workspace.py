"""A run owns a workspace: a git worktree of its commit with its params, named by their digest.

Nothing of two runs collides, the second call of a run finds the first one's files and checkpoints, and
the commit on branch runs/<digest> is the recipe of the version. A dirty checkout runs in place.
"""

import configparser
import fcntl
import hashlib
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import yaml
from pydantic import BaseModel, ConfigDict

from components.errors import ParamsError, SettingsError
from components.params import load_params, params_digest
from components.settings import Settings

READY = Path(".rcvit/workspace-ready")  # written last; without it the worktree is made again
REMOTE = "rcvit"  # the DVC remote that a URL in the settings becomes
# A machine without a git identity can commit, and no hook or signing key of the user is asked.
_AS_RCVIT = (
    *("-c", "user.name=rcvit", "-c", "user.email=rcvit@localhost"),
    *("-c", "commit.gpgsign=false", "-c", "core.hooksPath=/dev/null"),
)


class Run(BaseModel):
    """What identifies a run, and where it works."""

    model_config = ConfigDict(frozen=True)

    checkout: Path
    folder: Path  # the workspace; the checkout itself when dirty
    params_file: Path  # the profile
    commit: str
    params_digest: str
    digest: str  # of commit, params and, when dirty, the changes
    dirty: bool

    @property
    def name(self) -> str:
        """The digest's first 16 digits: folder, branch and lock."""
        return self.digest[:16]


def describe_run(checkout: Path, profile: str | None, settings: Settings) -> Run:
    """Identify the run of `profile` (a name of infra/profiles, a path, or none for params.yaml).

    Raises:
        ParamsError: when the profile does not exist or breaks the schema.
        SettingsError: when the folder is no git checkout with a commit.
    """
    params_file = profile_file(checkout, profile)
    digest_of_params = params_digest(load_params(params_file))
    commit = git(checkout, "rev-parse", "--verify", "HEAD").strip()
    changed = changed_files(checkout)
    recipe = f"{commit}\0{digest_of_params}"
    if changed:
        recipe += "\0" + git(checkout, "diff", "--binary", "HEAD", "--", *changed)
    digest = hashlib.sha256(recipe.encode()).hexdigest()
    return Run(
        checkout=checkout,
        folder=checkout if changed else settings.home / "runs" / digest[:16],
        params_file=params_file,
        commit=commit,
        params_digest=digest_of_params,
        digest=digest,
        dirty=bool(changed),
    )


def profile_file(checkout: Path, profile: str | None) -> Path:
    """The params file that a profile names."""
    if profile is None:
        return checkout / "params.yaml"
    named = checkout / "infra/profiles" / f"{profile}.yaml"
    if "/" not in profile and named.is_file():
        return named
    if Path(profile).is_file():
        return Path(profile).resolve()
    known = ", ".join(sorted(path.stem for path in (checkout / "infra/profiles").glob("*.yaml")))
    raise ParamsError(f"there is no profile {profile!r}", hint=f"use one of {known}, or the path of a file")


def changed_files(checkout: Path) -> list[str]:
    """Tracked files that differ from HEAD, but for dvc.lock and lines that DVC adds to .gitignore."""
    listed = git(checkout, "diff", "--name-only", "-z", "HEAD").split("\0")
    return [
        name
        for name in listed
        if name and name != "dvc.lock" and not (_is_gitignore(name) and _only_dvc_lines(checkout, name))
    ]


def _is_gitignore(name: str) -> bool:
    return Path(name).name == ".gitignore"


def _only_dvc_lines(checkout: Path, name: str) -> bool:
    """Whether each changed line is a new "/x" for an x beside it that DVC tracks."""
    folder = (checkout / name).parent
    stages = yaml.safe_load((checkout / "dvc.yaml").read_text(encoding="utf-8"))["stages"].values()
    outs = {(checkout / str(out)).resolve() for stage in stages for out in stage.get("outs", [])}
    diff = git(checkout, "diff", "--unified=0", "HEAD", "--", name).splitlines()
    for line in diff:
        if line.startswith(("---", "+++", "@@", "diff ", "index ", "new file", "\\")):
            continue
        entry = line[2:]
        is_new_entry = line.startswith("+/")
        tracked = (folder / f"{entry}.dvc").is_file() or (folder / entry).resolve() in outs
        if not (is_new_entry and tracked):
            return False
    return True


@contextmanager
def opened(run: Run, settings: Settings) -> Iterator[None]:
    """Make or find the workspace of a run and hold its lock.

    Raises:
        SettingsError: when another process holds it.
    """
    locks = settings.home / "locks"
    locks.mkdir(parents=True, exist_ok=True)
    with (locks / f"{run.name}.lock").open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise SettingsError(
                f"run {run.name} is already going on in another process",
                hint="wait for it; `rcvit status` shows what has ended",
            ) from None
        if not run.dirty:
            _make_worktree(run)
        if run.params_file.resolve() != (run.folder / "params.yaml").resolve():
            shutil.copyfile(run.params_file, run.folder / "params.yaml")
        _write_dvc_config(run, settings)
        yield


def _make_worktree(run: Run) -> None:
    if (run.folder / READY).exists():
        return
    shutil.rmtree(run.folder, ignore_errors=True)
    git(run.checkout, "worktree", "prune")
    branch = f"runs/{run.name}"
    known = git(run.checkout, "branch", "--list", branch).strip()
    # A branch of this name holds the recipe of the same commit and params: go on from it.
    what = [str(run.folder), branch] if known else ["-b", branch, str(run.folder), run.commit]
    git(run.checkout, "worktree", "add", "--quiet", *what)
    (run.folder / READY).parent.mkdir(exist_ok=True)
    (run.folder / READY).touch()


def _write_dvc_config(run: Run, settings: Settings) -> None:
    """Share the checkout's DVC cache with the worktree, and name the remote that the settings give."""
    config = configparser.ConfigParser()
    config.read(run.checkout / ".dvc/config.local")
    if not run.dirty and not config.has_option("cache", "dir"):
        config["cache"] = {"dir": str(run.checkout / ".dvc/cache")}
    if settings.dvc_remote and "://" in settings.dvc_remote:
        config[f"'remote \"{REMOTE}\"'"] = {"url": settings.dvc_remote}
    if config.sections():
        with (run.folder / ".dvc/config.local").open("w", encoding="utf-8") as file:
            config.write(file)


def commit_recipe(run: Run) -> str:
    """Commit params and lock on the run's branch; the commit's id. A dirty run has none: an empty string."""
    if run.dirty:
        return ""
    git(run.folder, "add", "params.yaml", "dvc.lock")
    staged = subprocess.run(["git", "diff", "--cached", "--quiet"], cwd=run.folder)
    if staged.returncode:
        message = f"Recipe of run {run.name}"
        git(run.folder, *_AS_RCVIT, "commit", "--quiet", "--no-verify", "--message", message)
    return git(run.folder, "rev-parse", "HEAD").strip()


def git(folder: Path, *arguments: str) -> str:
    """Standard output of a git command. Raises SettingsError with git's own words."""
    result = subprocess.run(["git", *arguments], cwd=folder, capture_output=True, text=True)
    if result.returncode:
        raise SettingsError(
            f"git {' '.join(arguments[:3])} failed in {folder}: {result.stderr.strip()}",
            hint="run that git command by hand; `rcvit doctor` checks the rest",
        )
    return result.stdout
