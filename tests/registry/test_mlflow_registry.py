"""Versions in a real MLflow on SQLite: made once, tied to their recipe, moved only by the gate."""

import hashlib
from collections.abc import Iterator
from pathlib import Path

import mlflow
import pytest

from components.errors import RegistryError
from components.registry import CANDIDATE, MODEL_NAME, STAGING, Registry, Version
from components.settings import Settings
from components.workspace import Run
from tests.registry.conftest import MakeRun


@pytest.fixture(scope="module", autouse=True)
def _tracking_is_restored() -> Iterator[None]:
    before = mlflow.get_tracking_uri()
    yield
    mlflow.set_tracking_uri(before)


@pytest.fixture(scope="module")
def weak(make_run: MakeRun, registry: Registry) -> tuple[Run, Version]:
    """The first version; it is below the gate. A killed call had left its MLflow run open."""
    run = make_run("weak", 0.3)
    client = mlflow.MlflowClient(tracking_uri=mlflow.get_tracking_uri())
    with pytest.raises(RegistryError, match="alias") as caught:
        registry.number_of(None)
    assert "rcvit run" in caught.value.hint
    assert registry.versions() == []
    experiment = client.create_experiment(MODEL_NAME, artifact_location=registry._settings.artifact_root)
    client.create_run(experiment, run_name="killed", tags={"rcvit.run_digest": run.digest})
    client.create_run(experiment, run_name="of another run", tags={"rcvit.run_digest": "0"})
    return run, registry.register(run, recipe_commit="r" * 40)


@pytest.fixture(scope="module")
def better(weak: tuple[Run, Version], make_run: MakeRun, registry: Registry) -> tuple[Run, Version]:
    run = make_run("better", 0.7)
    return run, registry.register(run, recipe_commit="s" * 40)


def test_a_version_is_tied_to_its_recipe(weak: tuple[Run, Version]) -> None:
    run, version = weak
    assert (version.number, version.aliases) == ("1", (CANDIDATE,))
    weights = hashlib.sha256((run.folder / "outs/model/model.safetensors").read_bytes()).hexdigest()
    lock = hashlib.sha256((run.folder / "dvc.lock").read_bytes()).hexdigest()
    assert version.tags == {
        "rcvit.commit": run.commit,
        "rcvit.recipe_commit": "r" * 40,
        "rcvit.params_digest": run.params_digest,
        "rcvit.run_digest": run.digest,
        "rcvit.dirty": "false",
        "rcvit.dvc_lock": lock,
        "rcvit.weights": weights,
    }
    assert version.metrics["accuracy"]["low"] == 0.3
    assert version.thresholds == {"accuracy": 0.5}


def test_params_metrics_curves_and_files_are_logged(weak: tuple[Run, Version], settings: Settings) -> None:
    run, version = weak
    client = mlflow.MlflowClient(tracking_uri=settings.tracking_uri)
    logged = client.get_run(version.run_id)
    assert logged.info.status == "FINISHED"
    assert logged.info.run_name == run.name
    assert logged.data.params["seed"] == "7"
    assert logged.data.params["training.steps"] == "400"
    assert logged.data.params["gate.staging.accuracy"] == "0.5"
    assert logged.data.metrics["accuracy"] == pytest.approx(0.4)
    assert logged.data.metrics["accuracy_low"] == pytest.approx(0.3)
    assert logged.data.metrics["accuracy_high"] == pytest.approx(0.5)
    curve = client.get_metric_history(version.run_id, "train_loss")
    assert [(point.step, point.value) for point in curve] == [(10, 0.3), (20, 0.15), (30, 0.1)]
    assert "train_step" not in logged.data.metrics
    names = {artifact.path for artifact in client.list_artifacts(version.run_id)}
    assert {"evaluation", "validation", "data_docs", "params.yaml", "dvc.lock"} <= names
    assert logged.info.artifact_uri is not None
    assert Path(logged.info.artifact_uri).is_relative_to(settings.home / "mlartifacts")


def test_an_mlflow_run_that_a_kill_left_open_is_closed_and_no_other(
    weak: tuple[Run, Version], settings: Settings
) -> None:
    client = mlflow.MlflowClient(tracking_uri=settings.tracking_uri)
    experiment = client.get_experiment_by_name(MODEL_NAME)
    assert experiment is not None
    found = {run.info.run_name: run.info.status for run in client.search_runs([experiment.experiment_id])}
    assert found["killed"] == "KILLED"
    assert found["of another run"] == "RUNNING"


def test_the_same_run_is_registered_once(weak: tuple[Run, Version], registry: Registry) -> None:
    run, version = weak
    before = len(registry.versions())
    again = registry.register(run, recipe_commit="r" * 40)
    assert again.number == version.number
    assert len(registry.versions()) == before
    found = registry.find(run.digest)
    assert found is not None
    assert found.number == version.number
    assert registry.find("f" * 64) is None


def test_the_gate_moves_staging_or_nothing(
    weak: tuple[Run, Version],
    better: tuple[Run, Version],
    make_run: MakeRun,
    registry: Registry,
) -> None:
    # The newer version took the alias, and the order of the list is the newest first.
    assert better[1].aliases == (CANDIDATE,)
    assert [version.number for version in registry.versions()] == ["2", "1"]
    assert registry.get("1").aliases == ()
    assert registry.number_of(None) == ("2", CANDIDATE)
    refused = registry.promote(weak[1])
    assert not refused.passed
    assert refused.requirements[0].short_by == pytest.approx(0.2)
    assert not weak[1].is_gated
    assert registry.get("1").tags["rcvit.gate"] == "refused"
    with pytest.raises(RegistryError, match=STAGING):
        registry.number_of(STAGING)
    assert registry.promote(better[1]).passed
    assert registry.get("2").aliases == (CANDIDATE, STAGING)
    assert registry.get("2").is_gated
    # Registering the older one again takes nothing from the newer one.
    assert registry.register(weak[0], recipe_commit="r" * 40).aliases == ()
    dirty = registry.register(make_run("dirty", 0.9, dirty=True), recipe_commit="")
    assert dirty.tags["rcvit.dirty"] == "true"
    verdict = registry.promote(dirty)
    assert not verdict.passed
    assert verdict.requirements[0].met
    assert registry.get(dirty.number).aliases == (CANDIDATE,)
    # Without an alias `staging` is asked first.
    assert registry.number_of(None) == ("2", STAGING)
    assert registry.number_of(CANDIDATE) == (dirty.number, CANDIDATE)


def test_an_unknown_version_or_alias_says_what_there_is(
    weak: tuple[Run, Version], registry: Registry
) -> None:
    with pytest.raises(RegistryError, match="no version 99") as caught:
        registry.get("99")
    assert "rcvit status" in caught.value.hint
    with pytest.raises(RegistryError, match="production"):
        registry.number_of("production")
