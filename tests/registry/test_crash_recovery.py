"""A registration that is killed anywhere is gone on with: one MLflow run, one version, the right aliases."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import mlflow
import pytest
from prefect.logging import disable_run_logger

from components.registry import CANDIDATE, MODEL_NAME, STAGING, Registry
from components.settings import Settings
from components.workspace import Run
from flows.retrain import judge

MakeRun = Callable[..., Run]


class KilledError(Exception):
    """Stands for the end of the process at that point."""


def killed(*_: Any, **__: Any) -> None:
    raise KilledError


@pytest.fixture(scope="module")
def own_settings(tmp_path_factory: pytest.TempPathFactory) -> Settings:
    """A registry of this file's own: its version numbers are counted below."""
    home: Path = tmp_path_factory.mktemp("crashes")
    return Settings(home=home, tracking_uri=f"sqlite:///{home}/mlflow.db")


def mlflow_runs(settings: Settings, run: Run) -> list[str]:
    """The states of the MLflow runs of a run."""
    client = mlflow.MlflowClient(tracking_uri=settings.tracking_uri)
    experiment = client.get_experiment_by_name(MODEL_NAME)
    assert experiment is not None
    found = client.search_runs([experiment.experiment_id], f"tags.`rcvit.run_digest` = '{run.digest}'")
    return sorted(logged.info.status for logged in found)


def test_killed_between_the_mlflow_run_and_the_version(
    own_settings: Settings, make_run: MakeRun, monkeypatch: pytest.MonkeyPatch
) -> None:
    registry, run = Registry(own_settings), make_run("between", 0.7)
    with monkeypatch.context() as patched, pytest.raises(KilledError):
        patched.setattr(mlflow, "register_model", killed)
        registry.register(run, recipe_commit="r" * 40)
    assert registry.find(run.digest) is None
    version = registry.register(run, recipe_commit="r" * 40)
    assert mlflow_runs(own_settings, run) == ["FINISHED"]  # its model was logged once
    assert version.aliases == (CANDIDATE,)
    assert registry.register(run, recipe_commit="r" * 40) == version


def test_killed_while_the_model_is_logged(
    own_settings: Settings, make_run: MakeRun, monkeypatch: pytest.MonkeyPatch
) -> None:
    registry, run = Registry(own_settings), make_run("logging", 0.7)
    with monkeypatch.context() as patched, pytest.raises(KilledError):
        patched.setattr(mlflow.pyfunc, "log_model", killed)
        registry.register(run, recipe_commit="r" * 40)
    version = registry.register(run, recipe_commit="r" * 40)
    assert mlflow_runs(own_settings, run) == ["FAILED", "FINISHED"]
    client = mlflow.MlflowClient(tracking_uri=own_settings.tracking_uri)
    assert client.get_run(version.run_id).info.status == "FINISHED"


def test_killed_between_the_version_and_its_alias(
    own_settings: Settings, make_run: MakeRun, monkeypatch: pytest.MonkeyPatch
) -> None:
    registry, run = Registry(own_settings), make_run("alias", 0.7)
    with monkeypatch.context() as patched, pytest.raises(KilledError):
        patched.setattr(mlflow.MlflowClient, "set_registered_model_alias", killed)
        registry.register(run, recipe_commit="r" * 40)
    left = registry.find(run.digest)
    assert left is not None
    assert left.aliases == ()
    healed = registry.register(run, recipe_commit="r" * 40)
    assert (healed.number, healed.aliases) == (left.number, (CANDIDATE,))


def test_an_older_run_that_is_called_again_takes_no_alias_back(
    own_settings: Settings, make_run: MakeRun
) -> None:
    registry = Registry(own_settings)
    runs = [make_run("older", 0.7), make_run("newer", 0.8)]
    older, newer = (registry.register(run, recipe_commit="r" * 40) for run in runs)
    with disable_run_logger():
        assert not older.is_gated
        assert judge.fn(own_settings, older.number)
        assert registry.get(older.number).is_gated
        assert judge.fn(own_settings, newer.number)
        again = registry.register(runs[0], recipe_commit="r" * 40)
        assert judge.fn(own_settings, again.number)  # it did pass, and says so
    assert again.number == older.number
    assert registry.get(older.number).aliases == ()
    assert registry.get(newer.number).aliases == (CANDIDATE, STAGING)
