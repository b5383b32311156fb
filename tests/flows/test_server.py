"""A Prefect server of our own: it never outlives its owner (test_deployment.py uses one)."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import httpx
import psutil
import pytest

from components.errors import SettingsError
from components.process import free_port
from flows.server import prefect_server, running

OWNER = """
import sys, time
from pathlib import Path
from flows.server import prefect_server
with prefect_server(Path(sys.argv[1])) as url:
    Path(sys.argv[2]).write_text(url)
    time.sleep(600)
"""


def test_the_environment_is_restored_after_an_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PREFECT_API_URL", "http://mine.example/api")
    monkeypatch.delenv("PREFECT_HOME", raising=False)
    before = dict(os.environ)
    (tmp_path / "prefect").write_text("a file where its folder should be")
    with pytest.raises(OSError, match="prefect"), prefect_server(tmp_path):
        pytest.fail("it cannot start")
    assert dict(os.environ) == before


def test_nothing_is_left_when_its_owner_is_killed(repo: Path, tmp_path: Path) -> None:
    started = tmp_path / "url"
    owner = subprocess.Popen([sys.executable, "-c", OWNER, str(tmp_path), str(started)], cwd=repo)
    try:
        while not (started.exists() and started.read_text()):
            assert owner.poll() is None, (tmp_path / "prefect/server.log").read_text()
            time.sleep(0.1)
        below = psutil.Process(owner.pid).children(recursive=True)
        assert below
    finally:
        owner.send_signal(signal.SIGKILL)
        owner.wait()
    _, alive = psutil.wait_procs(below, timeout=20)
    assert not alive
    with pytest.raises(httpx.ConnectError):
        httpx.get(f"{started.read_text()}/health")


def test_a_server_that_does_not_start_shows_the_end_of_its_log(tmp_path: Path) -> None:
    command = [sys.executable, "-c", "print('port is taken', flush=True); raise SystemExit(1)"]
    log = tmp_path / "server.log"
    before = dict(os.environ)
    url = f"http://127.0.0.1:{free_port()}"
    with pytest.raises(SettingsError, match="port is taken") as caught, running(command, log=log, ready=url):
        pytest.fail("it never answered")
    assert str(log) in caught.value.hint
    assert dict(os.environ) == before
