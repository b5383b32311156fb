"""Finished workspaces made by hand: a real, very small exported model and the files of the other stages."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

from components.params import ScratchParams, load_params, params_digest
from components.registry import Registry
from components.settings import Settings
from components.workspace import Run

SHAPE: dict[str, Any] = {
    "vocab_size": 300,
    "hidden_size": 32,
    "intermediate_size": 32,
    "layers": 1,
    "heads": 2,
    "kv_heads": 1,
}
# Large enough weights that the answers are neither empty nor all the same.
SHAPE |= {
    "vision_depth": 1,
    "vision_width": 32,
    "vision_heads": 2,
    "text_init": 0.3,
    "mrope_section": [2, 3, 3],
}
MakeRun = Callable[..., Run]


@pytest.fixture(scope="session")
def model_folder(repo: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A Qwen2-VL of a few thousand weights in a Hugging Face folder."""
    from components.training.model import build_from_scratch, make_processor

    params = load_params(repo / "params.yaml").model
    shape = ScratchParams.model_validate({**params.scratch.model_dump(), **SHAPE})
    small = params.model_copy(update={"scratch": shape})
    processor = make_processor(small, lambda: ["Who owns the red circle? Ada Moss.[1]"])
    folder = tmp_path_factory.mktemp("model")
    build_from_scratch(shape, processor, seed=2).save_pretrained(folder)
    processor.save_pretrained(folder)
    return folder


@pytest.fixture(scope="session")
def make_run(repo: Path, model_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> MakeRun:
    """A function that makes a finished workspace: its name, accuracy's lower bound, and whether dirty."""

    def make(name: str, low: float, *, dirty: bool = False) -> Run:
        folder = tmp_path_factory.mktemp(name)
        params: dict[str, Any] = yaml.safe_load((repo / "params.yaml").read_text())
        params["gate"] = {"staging": {"accuracy": 0.5}}
        (folder / "params.yaml").write_text(yaml.safe_dump(params))
        (folder / "dvc.lock").write_text(f"schema: '2.0'\nstages: {{}}  # {name}\n")
        for path, content in {
            "outs/evaluation/metrics.json": {
                "metrics": {"accuracy": {"value": low + 0.1, "low": low, "high": low + 0.2, "n": 40}},
                "confidence": 0.95,
                "turns": 40,
            },
            "outs/validation/result.json": {"success": True},
        }.items():
            (folder / path).parent.mkdir(parents=True, exist_ok=True)
            (folder / path).write_text(json.dumps(content))
        curve = [{"step": step, "loss": 3.0 / step, "grad_norm": 1.0} for step in (10, 20, 30)]
        (folder / ".rcvit/curves").mkdir(parents=True)
        (folder / ".rcvit/curves/curve.jsonl").write_text("\n".join(json.dumps(point) for point in curve))
        (folder / ".rcvit/data_docs").mkdir()
        (folder / ".rcvit/data_docs/index.html").write_text("<html></html>")
        shutil.copytree(model_folder, folder / "outs/model")  # MLflow refuses links
        shutil.copytree(repo / "components", folder / "components")
        return Run(
            checkout=folder,
            folder=folder,
            params_file=folder / "params.yaml",
            commit="c" * 40,
            params_digest=params_digest(load_params(folder / "params.yaml")),
            digest=name.encode().hex().ljust(64, "0"),
            dirty=dirty,
        )

    return make


@pytest.fixture(scope="session")
def settings(tmp_path_factory: pytest.TempPathFactory) -> Settings:
    home = tmp_path_factory.mktemp("home")
    return Settings(home=home, tracking_uri=f"sqlite:///{home}/mlflow.db")


@pytest.fixture(scope="session")
def registry(settings: Settings) -> Registry:
    return Registry(settings)
