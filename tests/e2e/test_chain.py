"""The whole chain through the real tools: git, DVC, torchrun, a Prefect server, MLflow on SQLite.

One file, because all of it is held against the one finished run, and a file runs in one process.
"""

import json
import subprocess
import time
from collections.abc import Callable
from pathlib import Path

import psutil
import pytest
import yaml

from tests.e2e.conftest import Checkout, small_params

Finished = tuple[Checkout, subprocess.CompletedProcess[str]]


def workspace_of(checkout: Checkout) -> Path:
    (found,) = [path.parent for path in checkout.root.glob(".rcvit/runs/*/dvc.lock")]
    return found


def out_digests(folder: Path) -> dict[str, str]:
    lock = yaml.safe_load((folder / "dvc.lock").read_text())
    return {out["path"]: out["md5"] for stage in lock["stages"].values() for out in stage.get("outs", [])}


def test_the_last_screen_says_what_happened_and_what_to_type(finished: Finished) -> None:
    checkout, result = finished
    said = " ".join(result.stdout.split())
    assert "version 1" in said
    for name in ("candidate", "accuracy", "citation_f1", "report.html", "rcvit ask", "rcvit ui"):
        assert name in said, name
    (version,) = checkout.versions()
    assert str(version.version) == "1"


def test_a_second_run_finds_the_first_and_does_nothing(finished: Finished) -> None:
    checkout, _ = finished
    head = checkout.git("rev-parse", "HEAD")
    again = checkout.run("run")
    assert again.returncode == 0, again.stderr
    assert again.stdout.count("skipped") + again.stderr.count("skipped") >= 5
    assert len(checkout.versions()) == 1
    assert checkout.git("rev-parse", "HEAD") == head


@pytest.fixture(scope="module")
def alone(repo: Path, make_checkout: Callable[..., Checkout]) -> Checkout:
    """A checkout with the params of `finished` and a cache of its own, made by `dvc repro` alone.

    Its gate asks for nothing, which changes no out.
    """
    checkout = make_checkout("alone", small_params(repo, gate={"staging": {"accuracy": 0.0}}))
    result = checkout.run("repro", "--no-run-cache", module="dvc")
    assert result.returncode == 0, result.stdout + result.stderr
    return checkout


def test_dvc_repro_alone_makes_the_same_bytes_as_the_flow(finished: Finished, alone: Checkout) -> None:
    ours, theirs = out_digests(workspace_of(finished[0])), out_digests(alone.root)
    assert len(ours) == 5
    assert ours == theirs


def test_the_recipe_of_a_version_is_a_commit(finished: Finished) -> None:
    checkout, _ = finished
    (version,) = checkout.versions()
    recipe = version.tags["rcvit.recipe_commit"]
    lock = yaml.safe_load(checkout.git("show", f"{recipe}:dvc.lock"))
    assert set(lock["stages"]) == {"source", "generate", "validate", "train", "evaluate"}
    assert version.tags["rcvit.commit"] == checkout.git("rev-parse", "HEAD").strip()
    assert checkout.git("status", "--porcelain").strip() == ""


def test_the_exported_folder_loads_with_transformers(finished: Finished) -> None:
    from transformers import AutoTokenizer, GenerationConfig, Qwen2VLForConditionalGeneration

    model_folder = workspace_of(finished[0]) / "outs/model"
    _, loading = Qwen2VLForConditionalGeneration.from_pretrained(model_folder, output_loading_info=True)
    assert not loading["missing_keys"]
    assert not loading["unexpected_keys"]
    tokenizer = AutoTokenizer.from_pretrained(model_folder)
    assert tokenizer.chat_template
    assert GenerationConfig.from_pretrained(model_folder).eos_token_id is not None
    assert (model_folder / "preprocessor_config.json").exists()
    assert not [path for path in model_folder.iterdir() if path.suffix in (".bin", ".pt", ".pkl")]


def test_predictions_and_metrics_agree(finished: Finished) -> None:
    from components.rcmu.tables import read_rows

    folder = workspace_of(finished[0]) / "outs/evaluation"
    rows = list(read_rows(folder / "predictions.parquet"))
    summary = json.loads((folder / "metrics.json").read_text())
    accuracy = summary["metrics"]["accuracy"]
    assert accuracy["n"] == len(rows) == summary["turns"]
    assert accuracy["value"] == pytest.approx(sum(row["correct"] for row in rows) / len(rows), abs=1e-5)
    assert (folder / "report.html").stat().st_size > 10_000


def test_ask_and_the_model_server_answer_the_same(finished: Finished, tmp_path: Path) -> None:
    import base64

    from components.rcmu.tables import read_scenes

    checkout, _ = finished
    scene = next(read_scenes(workspace_of(checkout) / "outs/scenes"))
    photo = tmp_path / "photo.png"
    photo.write_bytes(scene.image)
    regions = [{"label": "circle", "bbox": [10, 10, 40, 40], "text": "It belongs to Ada Moss."}]
    more = [{**region, "note": 5} for region in regions]  # what the signature does not know is left out
    (tmp_path / "r.json").write_text(json.dumps(more))
    question = "Who owns the red circle?"
    asked = checkout.run("ask", str(photo), "--regions", str(tmp_path / "r.json"), question)
    assert asked.returncode == 0, asked.stderr
    rows = [{"image": base64.b64encode(scene.image).decode(), "regions": regions, "question": question}]
    (tmp_path / "input.json").write_text(json.dumps({"dataframe_records": rows}))
    served = subprocess.run(
        ["mlflow", "models", "predict", "--env-manager", "local", "-m", "models:/rc-qwen2-vl/1",
         "-i", str(tmp_path / "input.json"), "-t", "json", "-o", str(tmp_path / "output.json")],
        cwd=tmp_path,
        env={**checkout.environment, "MLFLOW_TRACKING_URI": f"sqlite:///{checkout.root}/.rcvit/mlflow.db"},
        capture_output=True,
        text=True,
    )  # fmt: skip
    assert served.returncode == 0, served.stderr
    (prediction,) = json.loads((tmp_path / "output.json").read_text())["predictions"]
    assert prediction["answer"].strip() in " ".join(asked.stdout.split())
    assert isinstance(prediction["citations"], list)


def test_a_dirty_checkout_runs_is_marked_and_stays_candidate(finished: Finished, alone: Checkout) -> None:
    readme = alone.root / "README.md"
    readme.write_text(readme.read_text() + "\nedited\n")
    result = alone.run("run")
    assert result.returncode == 0, result.stderr
    (version,) = alone.versions()
    assert version.tags["rcvit.dirty"] == "true"
    assert "dirty" in result.stdout
    promoted = alone.run("promote", str(version.version))
    assert promoted.returncode != 0
    assert "dirty" in promoted.stdout + promoted.stderr
    (version,) = alone.versions()
    assert list(version.aliases) == ["candidate"]


def weights(checkout: Checkout) -> bytes:
    (path,) = checkout.root.glob(".rcvit/runs/*/outs/model/model.safetensors")
    return path.read_bytes()


def processes_of(root: Path) -> list[psutil.Process]:
    """Every process that works in a checkout, or names it on its command line."""
    found = []
    for process in psutil.process_iter():
        try:
            mentioned = str(root) in " ".join([process.cwd(), *process.cmdline()])
            # The Prefect server names no folder: its environment does.
            mentioned = mentioned or str(root) in process.environ().get("PREFECT_HOME", "")
        except psutil.Error:
            continue
        if mentioned and process.status() != psutil.STATUS_ZOMBIE:
            found.append(process)
    return found


def kill_in_training(checkout: Checkout, *, step: int, log: Path) -> None:
    """Start a run, `kill -9` it once a checkpoint of at least `step` is complete; nothing may be left."""
    run = checkout.start("run", log=log)
    pattern = ".rcvit/runs/*/.rcvit/checkpoints/*/checkpoint-*/COMPLETE"
    for _ in range(3000):
        steps = [int(path.parent.name.split("-")[1]) for path in checkout.root.glob(pattern)]
        if max(steps, default=0) >= step or run.poll() is not None:
            break
        time.sleep(0.05)
    assert run.poll() is None, log.read_text()
    names = [" ".join(process.cmdline()) for process in processes_of(checkout.root)]
    assert any("uvicorn" in name for name in names)
    assert any("components.training.rank" in name for name in names)
    run.kill()
    run.wait()
    _, alive = psutil.wait_procs(processes_of(checkout.root), timeout=20)
    assert alive == []
    assert not list(checkout.root.glob(".rcvit/runs/*/outs/model"))


@pytest.mark.system  # two runs, each with a Prefect server of its own
def test_a_killed_run_leaves_nothing_and_resumes_to_the_same_weights(
    finished: Finished, copy_of_finished: Checkout, tmp_path: Path
) -> None:
    kill_in_training(copy_of_finished, step=2, log=tmp_path / "log")
    again = copy_of_finished.run("run")
    assert again.returncode == 0, again.stderr
    assert "resuming from checkpoint-" in again.stderr
    assert weights(copy_of_finished) == weights(finished[0])
    assert len(copy_of_finished.versions()) == 1


@pytest.mark.long
def test_killed_again_and_again_it_still_comes_to_the_same_weights(
    finished: Finished, copy_of_finished: Checkout, tmp_path: Path
) -> None:
    for number, step in enumerate((2, 6, 12, 18)):
        kill_in_training(copy_of_finished, step=step, log=tmp_path / f"log-{number}")
    again = copy_of_finished.run("run")
    assert again.returncode == 0, again.stderr
    assert weights(copy_of_finished) == weights(finished[0])
