"""The logged model in MLflow's own scoring process, fed with JSON, answers as it does in this one."""

import base64
import io
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import mlflow
import pandas as pd
import pytest
from PIL import Image

from components.errors import DataError
from components.serving.signature import signature
from tests.registry.conftest import model_folder  # noqa: F401  a fixture

QUESTION = "Who owns the red circle?"


@pytest.fixture(scope="module")
def saved(repo: Path, model_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:  # noqa: F811
    """A pyfunc folder, written from the code as the registry writes it."""
    base = tmp_path_factory.mktemp("pyfunc")
    shutil.copytree(repo / "components", base / "components", ignore=shutil.ignore_patterns("__pycache__"))
    mlflow.pyfunc.save_model(
        str(base / "saved"),
        python_model=str(base / "components/serving/model.py"),
        artifacts={"model": str(model_folder)},
        code_paths=[str(base / "components")],
        signature=signature(),
        pip_requirements=[],
    )
    return base / "saved"


def rows() -> list[dict[str, Any]]:
    file = io.BytesIO()
    Image.new("RGB", (64, 64), (200, 30, 30)).save(file, "PNG")
    # JSON has one kind of number: boxes of whole, of broken and of both kinds all come.
    boxes: list[list[float]] = [[1, 2, 30, 40], [1.5, 2.5, 30.25, 40.5], [1, 2.5, 30, 40.5]]
    regions = [{"label": "circle", "bbox": box, "text": "It belongs to Ada Moss."} for box in boxes]
    return [
        {"image": file.getvalue(), "regions": regions, "question": QUESTION},
        {"image": file.getvalue(), "regions": regions[:1], "question": QUESTION},
        {"image": file.getvalue(), "regions": [], "question": QUESTION},
    ]


def predict_by_command(saved: Path, folder: Path, listed: list[dict[str, Any]]) -> Any:
    encoded = [{**row, "image": base64.b64encode(row["image"]).decode()} for row in listed]
    (folder / "input.json").write_text(json.dumps({"dataframe_records": encoded}))
    bin_folder = Path(sys.executable).parent
    result = subprocess.run(
        [bin_folder / "mlflow", "models", "predict", "--env-manager", "local", "-m", saved,
         "-i", folder / "input.json", "-t", "json", "-o", folder / "output.json"],
        cwd=folder,
        env={**os.environ, "PATH": f"{bin_folder}{os.pathsep}{os.environ['PATH']}"},
        capture_output=True,
        text=True,
    )  # fmt: skip
    assert result.returncode == 0, result.stderr
    return json.loads((folder / "output.json").read_text())["predictions"]


def test_the_command_and_the_loaded_model_give_the_same(saved: Path, tmp_path: Path) -> None:
    served = predict_by_command(saved, tmp_path, rows())
    here = mlflow.pyfunc.load_model(str(saved)).predict(pd.DataFrame(rows()))
    assert list(here.columns) == ["answer", "citations"]
    assert here.to_dict("records") == served
    assert len(served) == 3
    assert all(row["answer"] for row in served)  # the weights are random, not silent


def test_one_row_of_whole_numbers_is_taken(saved: Path) -> None:
    answers = mlflow.pyfunc.load_model(str(saved)).predict(pd.DataFrame(rows()[1:2]))
    assert isinstance(answers.iloc[0]["answer"], str)


def test_a_broken_row_is_named(saved: Path) -> None:
    broken = rows()
    broken[1]["regions"] = [{"label": "circle", "bbox": [0.0, 0.0, 999.0, 9.0], "text": "x"}]
    model = mlflow.pyfunc.load_model(str(saved))
    with pytest.raises(DataError, match="row 2, region 1"):
        model.predict(pd.DataFrame(broken))
    with pytest.raises(mlflow.exceptions.MlflowException, match="schema"):
        model.predict(pd.DataFrame([{"image": b"", "question": "?"}]))
