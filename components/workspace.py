"""A run owns a workspace: a git worktree of its commit with its params, named by their digest.

Nothing of two runs collides, the second call of a run finds the first one's files and checkpoints, and
the commit on branch runs/<digest> is the recipe of the version. A dirty checkout runs in place.
"""

import fcntl
import hashlib
import json
import os
import shutil
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from itertools import dropwhile
from pathlib import Path

import psutil
import yaml
from pydantic import BaseModel, ConfigDict

from components.errors import ParamsError, SettingsError
from components.git import git
from components.params import load_params, params_digest
from components.process import OWNER, end_tree
from components.settings import Settings

READY = Path(".rcvit/workspace-ready")  # written last; without it the worktree is made again
REMOTE = "rcvit"  # the DVC remote that a URL in the settings becomes
# A machine without a git identity can commit, and no hook or signing key of the user is asked.
_AS_RCVIT = (
    *("-c", "user.name=rcvit", "-c", "user.email=rcvit@localhost"),
    *("-c", "commit.gpgsign=false", "-c", "core.hooksPath=/dev/null"),
)
# What the user's git configuration could change in the text of a diff.
_PLAIN_DIFF = ("--no-ext-diff", "--no-color", "--no-textconv", "--src-prefix=a/", "--dst-prefix=b/")


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
        """The digest's first 16 digits: folder and branch are named by it."""
        return self.digest[:16]

    @property
    def branch(self) -> str:
        """Where the recipe is committed."""
        return f"runs/{self.name}"


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
        recipe += f"\0{_digest_of_changes(checkout, changed)}"
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
    listed = git(checkout, "diff", *_PLAIN_DIFF, "--name-only", "--no-renames", "-z", "HEAD").split("\0")
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
    outs = {(checkout / out).resolve() for out in _outs(checkout)}

    def by_dvc(edit: str) -> bool:
        entry = edit[2:]
        tracked = (folder / f"{entry}.dvc").is_file() or (folder / entry).resolve() in outs
        return edit.startswith("+/") and tracked

    diff = git(checkout, "diff", *_PLAIN_DIFF, "--unified=0", "HEAD", "--", name).split("\n")
    hunks = dropwhile(lambda line: not line.startswith("@@"), diff)
    edits = [line for line in hunks if line.startswith(("+", "-"))]
    return bool(edits) and all(by_dvc(edit) for edit in edits)


def _outs(checkout: Path) -> Iterator[str]:
    pipeline = checkout / "dvc.yaml"
    stages = yaml.safe_load(pipeline.read_text(encoding="utf-8"))["stages"] if pipeline.is_file() else {}
    for stage in stages.values():
        for out in stage.get("outs", []):
            yield out if isinstance(out, str) else next(iter(out))


def _digest_of_changes(checkout: Path, changed: Sequence[str]) -> str:
    """SHA-256 of all changed and new files, but for what the params digest covers or DVC writes itself."""
    new = git(checkout, "ls-files", "--others", "--exclude-standard", "-z").split("\0")
    digest = hashlib.sha256()
    for name in sorted({*changed, *new} - {"", "params.yaml", "dvc.lock"}):
        if _is_gitignore(name):
            continue
        path = checkout / name
        digest.update(name.encode(errors="surrogateescape") + b"\0")
        if path.is_symlink():
            digest.update(os.fsencode(path.readlink()))
        elif path.is_file():
            with path.open("rb") as file:
                digest.update(hashlib.file_digest(file, "sha256").digest())
        digest.update(b"\0")
    return digest.hexdigest()


@contextmanager
def opened(run: Run, settings: Settings) -> Iterator[None]:
    """Make or find the workspace of a run and hold its lock.

    What a killed run left working there is ended first.

    Raises:
        SettingsError: when another process holds it, or a profile would overwrite the user's params.
    """
    locks = settings.home / "locks"
    locks.mkdir(parents=True, exist_ok=True)
    # Dirty runs share one folder, whatever their digests.
    name = hashlib.sha256(os.fsencode(run.folder)).hexdigest()[:16]
    with (locks / f"{name}.lock").open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise SettingsError(
                f"another `rcvit run` is working in {run.folder}",
                hint="wait until it has ended, then run the same command again",
            ) from None
        if run.dirty:
            _keep_edited_params(run)
        end_strays(run.folder)
        if not run.dirty:
            _make_worktree(run)
        if run.params_file.resolve() != (run.folder / "params.yaml").resolve():
            shutil.copyfile(run.params_file, run.folder / "params.yaml")
        _mend_dvc(run)
        _write_dvc_config(run, settings)
        yield


def _keep_edited_params(run: Run) -> None:
    """Refuse to write a profile over params.yaml when that holds edits that stand nowhere else."""
    own = run.checkout / "params.yaml"
    if run.params_file.resolve() == own.resolve() or "params.yaml" not in changed_files(run.checkout):
        return
    profiles = [run.params_file, *(run.checkout / "infra/profiles").glob("*.yaml")]
    if own.read_bytes() not in [profile.read_bytes() for profile in profiles]:
        raise SettingsError(
            f"{own} has changes that are not committed, and {run.params_file.name} would take its place",
            hint="commit them, or copy the file and run with `--profile COPY`",
        )


def end_strays(folder: Path) -> None:
    """End what a killed run left working in a folder. Only the holder of the folder's lock may call it."""
    # Not those above us, nor what we started ourselves: a dirty run's own server works in the same folder.
    me = psutil.Process()
    ours = {process.pid for process in (me, *me.parents(), *me.children(recursive=True))}
    for process in psutil.process_iter():
        try:
            stray = OWNER in process.environ() and Path(process.cwd()) == folder and process.pid not in ours
        except psutil.Error:  # another user's, or ended meanwhile
            continue
        if stray:
            end_tree(process, seconds=10.0)


def is_ready(run: Run) -> bool:
    """Whether the workspace stands and holds a lock file of DVC."""
    return (run.dirty or (run.folder / READY).exists()) and (run.folder / "dvc.lock").exists()


def _make_worktree(run: Run) -> None:
    if (run.folder / READY).exists():
        # Left by a git that was killed; we hold the run's lock, so nobody else writes this index.
        Path(git(run.folder, "rev-parse", "--git-path", "index.lock").strip()).unlink(missing_ok=True)
        return
    shutil.rmtree(run.folder, ignore_errors=True)
    known = git(run.checkout, "branch", "--list", run.branch).strip()
    # A branch of this name holds the recipe of the same commit and params: go on from it.
    what = [str(run.folder), run.branch] if known else ["-b", run.branch, str(run.folder), run.commit]
    # Forced twice: a killed `worktree add` leaves its entry behind, locked.
    git(run.checkout, *_AS_RCVIT, "worktree", "add", "--quiet", "--force", "--force", *what)
    (run.folder / READY).parent.mkdir(exist_ok=True)
    (run.folder / READY).touch()


def _mend_dvc(run: Run) -> None:
    """Remove what a killed DVC left half-written: it rewrites these files in place and never mends them.

    Without its lock file DVC takes the stages that had ended from its run cache.
    """
    from dvc.schema import COMPILED_LOCKFILE_SCHEMA  # type: ignore[import-untyped]  # DVC has no types
    from voluptuous import Invalid

    busy, lock = run.folder / ".dvc/tmp/rwlock", run.folder / "dvc.lock"
    try:
        json.loads(busy.read_text(encoding="utf-8"))
    except FileNotFoundError:
        pass
    except ValueError:
        busy.unlink()
    if run.dirty or not lock.exists():  # in a checkout the lock file is the user's: DVC says what is wrong
        return
    try:
        COMPILED_LOCKFILE_SCHEMA(yaml.safe_load(lock.read_text(encoding="utf-8")))
    except (yaml.YAMLError, ValueError, Invalid):
        lock.unlink()


def _write_dvc_config(run: Run, settings: Settings) -> None:
    """Share the checkout's DVC cache and remotes with the worktree; name the remote of the settings."""
    from dvc.config import Config  # type: ignore[import-untyped]  # DVC ships no type information

    wanted: dict[str, dict[str, object]] = {}
    if not run.dirty:
        theirs = Config(str(run.checkout / ".dvc"))  # with all paths made absolute
        wanted = theirs.load_one("local")
        wanted["cache"]["dir"] = theirs["cache"].get("dir") or str(run.checkout / ".dvc/cache")
        wanted["remote"] = {name: dict(remote) for name, remote in theirs["remote"].items()}
    if settings.dvc_remote and "://" in settings.dvc_remote:
        wanted.setdefault("remote", {})[REMOTE] = {"url": settings.dvc_remote}
    if wanted:
        with Config(str(run.folder / ".dvc"), validate=False).edit("local") as local:
            for section, values in wanted.items():
                local.setdefault(section, {}).update(values)


def commit_recipe(run: Run) -> str:
    """Commit params and lock on the run's branch; the commit's id. A dirty run has none: an empty string."""
    if run.dirty:
        return ""
    git(run.folder, "add", "--force", "params.yaml", "dvc.lock")
    if git(run.folder, "diff", "--cached", "--name-only"):
        message = f"Recipe of run {run.name}"
        git(run.folder, *_AS_RCVIT, "commit", "--quiet", "--no-verify", "--message", message)
    return git(run.folder, "rev-parse", "HEAD").strip()
