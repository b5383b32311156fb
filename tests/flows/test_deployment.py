"""infra/prefect.yaml against a real server, and the rule of what is tried again."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import httpx
import pytest

from components.errors import DataError, LostRankError, RcvitError
from components.workspace import Run
from flows import dvc


def prefect(root: Path, api: str, home: Path, *arguments: str) -> None:
    result = subprocess.run(
        [sys.executable, "-m", "prefect", *arguments],
        cwd=root,
        env={**os.environ, "PREFECT_API_URL": api, "PREFECT_HOME": str(home)},
        capture_output=True,
        text=True,
    )
    assert result.returncode == 0, result.stdout + result.stderr


def test_the_server_starts_and_answers(prefect_api: str) -> None:
    # Prefect 3.8 with FastAPI 0.155 and later does not get here: this guards the pin of pyproject.toml.
    assert httpx.get(f"{prefect_api}/health").json() is True
    assert httpx.get(f"{prefect_api}/admin/version").json() == "3.8.8"
    assert prefect_api.startswith("http://127.0.0.1:")


def test_the_deployment_file_makes_the_weekly_deployment(
    prefect_api: str, repo: Path, tmp_path: Path
) -> None:
    root, home = tmp_path / "checkout", tmp_path / "home"
    for name in ("components", "flows", "infra"):
        shutil.copytree(repo / name, root / name)
    prefect(root, prefect_api, home, "work-pool", "create", "rcvit", "--type", "process")
    prefect(root, prefect_api, home, "--no-prompt", "deploy", "--prefect-file", "infra/prefect.yaml", "--all")
    found = httpx.get(f"{prefect_api}/deployments/name/retrain/weekly").raise_for_status().json()
    assert found["work_pool_name"] == "rcvit"
    assert found["entrypoint"] == "flows/retrain.py:retrain"
    assert found["parameters"] == {"profile": None}
    assert found["concurrency_limit"] == 1 or found["global_concurrency_limit"]["limit"] == 1
    (schedule,) = found["schedules"]
    assert schedule["active"]
    assert (schedule["schedule"]["cron"], schedule["schedule"]["timezone"]) == ("0 3 * * 1", "UTC")
    assert set(found["parameter_openapi_schema"]["properties"]) == {"profile"}


@pytest.mark.parametrize(("error", "times"), [(LostRankError, 2), (DataError, 1)])
def test_a_lost_rank_is_tried_once_more_and_broken_data_is_not(
    error: type[RcvitError],
    times: int,
    prefect_api: str,
    miniature: Run,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    from prefect import flow
    from prefect.settings import PREFECT_API_URL, temporary_settings

    from flows.retrain import run_stage

    calls = []

    def fails(run: Run, stage: str) -> str:
        calls.append(stage)
        raise error("broken", hint="repair it")

    monkeypatch.setattr(dvc, "repro", fails)

    @flow(name="one-stage")
    def one_stage() -> None:
        run_stage.with_options(name="train", retry_delay_seconds=0)(miniature, "train")

    with temporary_settings({PREFECT_API_URL: prefect_api}), pytest.raises(error, match="broken"):
        one_stage()
    assert calls == ["train"] * times


def test_a_lost_rank_that_comes_back_succeeds(
    prefect_api: str, miniature: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    from prefect import flow
    from prefect.settings import PREFECT_API_URL, temporary_settings

    from flows.retrain import run_stage

    outcomes: list[RcvitError | None] = [LostRankError("rank 1 died", hint="wait"), None]

    def comes_back(run: Run, stage: str) -> str:
        error = outcomes.pop(0)
        if error:
            raise error
        return "ran"

    monkeypatch.setattr(dvc, "repro", comes_back)

    @flow(name="one-stage")
    def one_stage() -> str:
        return run_stage.with_options(name="train", retry_delay_seconds=0)(miniature, "train")

    with temporary_settings({PREFECT_API_URL: prefect_api}):
        assert one_stage() == "ran"
    assert outcomes == []
