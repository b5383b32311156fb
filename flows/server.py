"""Servers of our own on loopback. They end with the process that started them, also by `kill -9`."""

import os
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx
import psutil

from components.errors import SettingsError
from components.process import OWNER, end_tree, free_port

START_LIMIT = 90.0  # seconds; a first start makes the database and has taken 9 s on two busy cores


@contextmanager
def prefect_server(home: Path) -> Iterator[str]:
    """A Prefect server with its SQLite database under `home`; yields its API URL.

    Prefect would start one itself, but that one outlives a killed run and keeps its output open. The
    environment names the server for everything that this process imports or starts afterwards, so
    enter this before importing prefect.
    """
    folder = home / "prefect"
    port = free_port()
    url = f"http://127.0.0.1:{port}"
    own = {
        "PREFECT_HOME": str(folder),
        "PREFECT_API_URL": f"{url}/api",
        "PREFECT_UI_API_URL": f"{url}/api",
        # A database that the user has set belongs to another server.
        "PREFECT_API_DATABASE_CONNECTION_URL": f"sqlite+aiosqlite:///{folder}/prefect.db",
        "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
        "PREFECT_SERVER_UI_SHOW_PROMOTIONAL_CONTENT": "false",  # its page would ask other hosts for it
    }
    app = ("--factory", "prefect.server.api.server:create_app")
    command = [sys.executable, "-m", "uvicorn", *app, "--host", "127.0.0.1", "--port", str(port)]
    before = {name: os.environ.get(name) for name in own}
    os.environ.update(own)
    try:
        with running(command, log=folder / "server.log", ready=f"{url}/api/health"):
            yield f"{url}/api"
    finally:
        for name, value in before.items():
            os.environ.pop(name, None)
            if value is not None:
                os.environ[name] = value


@contextmanager
def mlflow_server(tracking_uri: str, artifact_root: str | None, home: Path) -> Iterator[str]:
    """MLflow's pages on loopback over the database of the runs; yields their URL."""
    port = free_port()
    command = [sys.executable, "-m", "mlflow", "server", "--host", "127.0.0.1", "--port", str(port)]
    command += ["--workers", "1"]
    if artifact_root:
        command += ["--default-artifact-root", artifact_root]
    # By the environment and not the command line, where any user of the machine could read a password.
    # Its job queue would start a dozen workers that nothing here uses.
    environment = {"MLFLOW_BACKEND_STORE_URI": tracking_uri, "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false"}
    url = f"http://127.0.0.1:{port}"
    with running(command, log=home / "mlflow/server.log", ready=f"{url}/health", environment=environment):
        yield url


@contextmanager
def running(
    command: list[str], *, log: Path, ready: str, environment: dict[str, str] | None = None
) -> Iterator[None]:
    """A server process, from the moment `ready` answers to the end of the block.

    Raises:
        SettingsError: when it ends or stays silent; the message holds the end of its log.
    """
    log.parent.mkdir(parents=True, exist_ok=True)
    with log.open("ab") as output:
        process = subprocess.Popen(
            [sys.executable, "-m", "components.process", *command],
            env={**os.environ, **(environment or {}), OWNER: str(os.getpid())},
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
    tree = psutil.Process(process.pid)
    try:
        _wait(process, ready, log)
        yield
    finally:
        end_tree(tree, seconds=10.0)


def _wait(process: "subprocess.Popen[bytes]", ready: str, log: Path) -> None:
    deadline = time.monotonic() + START_LIMIT
    while time.monotonic() < deadline and process.poll() is None:
        try:
            if httpx.get(ready, timeout=5).is_success:
                return
        except httpx.TransportError:
            time.sleep(0.2)
    end = "\n".join(log.read_text(encoding="utf-8", errors="replace").splitlines()[-5:])
    raise SettingsError(f"the server on {ready} did not start:\n{end}", hint=f"read {log}; `rcvit doctor`")
