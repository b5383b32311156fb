"""`rcvit ui`: MLflow's and Prefect's pages in a real Chromium, and nothing left after kill -9."""

import os
import re
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest
from playwright.sync_api import Browser

from components.registry import Registry
from components.settings import Settings
from tests.registry.conftest import MakeRun

pytestmark = pytest.mark.system


def addresses(log: Path, process: "subprocess.Popen[bytes]") -> dict[str, str]:
    for _ in range(900):
        found = dict(re.findall(r"^(MLflow|Prefect) +(http://\S+)$", log.read_text(), re.MULTILINE))
        if len(found) == 2:
            return found
        assert process.poll() is None, log.read_text()
        time.sleep(0.1)
    raise AssertionError(log.read_text())


def test_both_pages_open_and_end_with_the_command(
    browser: Browser, make_run: MakeRun, repo: Path, tmp_path: Path
) -> None:
    home = tmp_path / "home"
    settings = Settings(home=home, tracking_uri=f"sqlite:///{home}/mlflow.db")
    Registry(settings).register(make_run("shown", 0.7), recipe_commit="r" * 40)
    log = tmp_path / "log"
    with log.open("wb") as output:
        ui = subprocess.Popen(
            [sys.executable, "-m", "flows.cli", "ui"],
            cwd=repo,
            env={**os.environ, "RCVIT_HOME": str(home)},
            stdout=output,
            stderr=subprocess.STDOUT,
        )
    try:
        urls = addresses(log, ui)
        tab = browser.new_page()
        tab.goto(f"{urls['MLflow']}/#/models")
        tab.get_by_text("rc-qwen2-vl").first.wait_for(timeout=60_000)
        tab.goto(urls["Prefect"])
        tab.get_by_text("Deployments").first.wait_for(timeout=60_000)
        tab.close()
        servers = psutil.Process(ui.pid).children(recursive=True)
        assert len(servers) > 3  # MLflow's has workers of its own
    finally:
        ui.kill()
        ui.wait()
    _, alive = psutil.wait_procs(servers, timeout=30)
    assert alive == []
