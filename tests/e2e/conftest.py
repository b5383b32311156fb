"""Checkouts of this repository in temporary folders, with params small enough for tests."""

import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

GIT = ["git", "-c", "user.name=test", "-c", "user.email=test@localhost"]

# Small in every direction; the parts and the way are the real ones.
SMALL: dict[str, dict[str, Any]] = {
    "source": {"scenes": 24, "benchmark_share": 0.25},
    "generation": {"context_sets": 1},
    # Few answers: where they cite, and how many a scene has, says little.
    "validation": {
        "first_citation": {"least": 0.1, "most": 0.9, "severity": "error"},
        "turns_per_scene": {"least": 6, "most": None, "severity": "warning"},
    },
    "model": {"base": "scratch"},
    "training": {
        "sequence_tokens": 512,
        "micro_batch_size": 2,
        "steps": 24,
        "warmup_steps": 2,
        "checkpoint_every": 2,
        "learning_rates": {"vision": 4e-3, "merger": 4e-3, "language": 4e-3},
    },
    "evaluation": {"max_new_tokens": 8, "bootstrap_resamples": 200, "report_scenes": 3},
}
SMALL_SHAPE = {
    "vocab_size": 600,
    "hidden_size": 64,
    "intermediate_size": 96,
    "layers": 2,
    "mrope_section": [1, 2, 5],
}


def small_params(repo: Path, **changes: dict[str, Any]) -> dict[str, Any]:
    """The tiny profile, cut down, then changed section by section."""
    params: dict[str, Any] = yaml.safe_load((repo / "params.yaml").read_text())
    for section in (SMALL, changes):
        for name, values in section.items():
            params[name].update(values)
    params["model"]["scratch"].update(SMALL_SHAPE)
    return params


class Checkout:
    """A git repository that holds what this one holds, with its own .rcvit and DVC cache."""

    def __init__(self, root: Path, home: Path) -> None:
        self.root = root
        kept = {k: v for k, v in os.environ.items() if not k.startswith(("RCVIT_", "PREFECT_", "GIT_"))}
        bin_folder = str(Path(sys.executable).parent)
        self.environment = {**kept, "HOME": str(home), "PATH": f"{bin_folder}:{kept['PATH']}"}

    def git(self, *arguments: str) -> str:
        command = [*GIT, *arguments]
        return subprocess.run(
            command, cwd=self.root, env=self.environment, check=True, capture_output=True, text=True
        ).stdout

    def commit(self, message: str) -> None:
        self.git("add", "-A")
        self.git("commit", "--quiet", "--allow-empty", "-m", message)

    def write_params(self, params: dict[str, Any]) -> None:
        (self.root / "params.yaml").write_text(yaml.safe_dump(params, sort_keys=False))

    def run(self, *arguments: str, module: str = "flows.cli") -> subprocess.CompletedProcess[str]:
        """`rcvit ARGUMENTS`, or another module of the environment, with the checkout's own code."""
        return subprocess.run(
            [sys.executable, "-m", module, *arguments],
            cwd=self.root,
            env=self.environment,
            capture_output=True,
            text=True,
            timeout=900,  # a test's own limit ends most of them earlier
        )

    def start(self, *arguments: str, log: Path) -> subprocess.Popen[bytes]:
        """`rcvit ARGUMENTS` in the background, output to a file."""
        with log.open("wb") as out:
            return subprocess.Popen(
                [sys.executable, "-m", "flows.cli", *arguments],
                cwd=self.root,
                env=self.environment,
                stdout=out,
                stderr=subprocess.STDOUT,
            )

    def versions(self) -> list[Any]:
        """The registered versions of rc-qwen2-vl, none where no database was made."""
        from mlflow import MlflowClient

        database = self.root / ".rcvit/mlflow.db"
        if not database.exists():
            return []
        client = MlflowClient(tracking_uri=f"sqlite:///{database}")
        found = client.search_model_versions("name = 'rc-qwen2-vl'")
        return [client.get_model_version("rc-qwen2-vl", str(version.version)) for version in found]


@pytest.fixture(scope="session")
def make_checkout(repo: Path, tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Checkout]:
    """A function that makes a committed checkout with the given params."""

    def make(name: str, params: dict[str, Any]) -> Checkout:
        root = tmp_path_factory.mktemp(name) / "checkout"
        listed = subprocess.run(
            ["git", "ls-files", "-co", "--exclude-standard"],
            cwd=repo,
            check=True,
            capture_output=True,
            text=True,
        ).stdout.splitlines()
        for file in listed:
            if (repo / file).exists():
                (root / file).parent.mkdir(parents=True, exist_ok=True)
                shutil.copy2(repo / file, root / file)
        checkout = Checkout(root, home=tmp_path_factory.mktemp("home"))
        checkout.git("init", "--quiet", "-b", "main")
        checkout.write_params(params)
        checkout.commit("start")
        return checkout

    return make


@pytest.fixture
def copy_of_finished(repo: Path, make_checkout: Callable[..., Checkout]) -> Checkout:
    """A checkout with the params of `finished`, in which nothing has run."""
    return make_checkout("copy", small_params(repo))


@pytest.fixture(scope="session")
def finished(
    repo: Path, make_checkout: Callable[..., Checkout]
) -> tuple[Checkout, subprocess.CompletedProcess[str]]:
    """A checkout in which `rcvit run` has ended, and what it printed."""
    checkout = make_checkout("finished", small_params(repo))
    result = checkout.run("run")
    assert result.returncode == 0, result.stdout + result.stderr
    return checkout, result
