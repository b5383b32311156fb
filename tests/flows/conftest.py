"""One Prefect server, one object store and one miniature DVC repository for the flow's tests."""

import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from components.workspace import Run
from flows.server import prefect_server

# A stage as ours are: it leaves a mark that it ran; with a file `fail` it records a failure and ends so.
STAGE = """
import json, pathlib, sys
state = pathlib.Path(".rcvit")
for name in ("started", "failures"):
    (state / name).mkdir(parents=True, exist_ok=True)
(state / "started" / "copy").touch()
with (state / "count").open("a") as file:
    file.write("x")
wanted = pathlib.Path("input").read_text().strip()
if wanted.isdigit():
    failure = {"exit_code": int(wanted), "message": f"broken as {wanted}", "hint": "change input"}
    (state / "failures/copy.json").write_text(json.dumps(failure))
    sys.exit(int(wanted))
if wanted == "no reason":
    sys.exit(3)
pathlib.Path("out").write_text(wanted)
"""
PIPELINE = "stages:\n  copy:\n    cmd: python stage.py\n    deps: [input]\n    outs: [out]\n"


@pytest.fixture(scope="session")
def prefect_api(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The API of a real server; what this process had in its environment comes back at once."""
    before = dict(os.environ)
    with prefect_server(tmp_path_factory.mktemp("prefect-home")) as url:
        assert os.environ["PREFECT_API_URL"] == url
        os.environ.clear()
        os.environ.update(before)
        yield url
        from prefect.logging.handlers import APILogHandler

        APILogHandler().flush()  # before the server ends


@pytest.fixture(scope="session")
def _miniature(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("miniature")
    subprocess.run(["git", "init", "--quiet"], cwd=root, check=True)
    subprocess.run([sys.executable, "-m", "dvc", "init", "--quiet"], cwd=root, check=True)
    (root / "stage.py").write_text(STAGE)
    (root / "dvc.yaml").write_text(PIPELINE)
    (root / "input").write_text("hello")
    return root


@pytest.fixture
def miniature(_miniature: Path, tmp_path: Path) -> Run:
    """A run whose workspace is a repository with one stage, `copy`."""
    folder = tmp_path / "workspace"
    shutil.copytree(_miniature, folder)
    return Run(
        checkout=folder,
        folder=folder,
        params_file=folder / "params.yaml",
        commit="c" * 40,
        params_digest="p" * 64,
        digest="d" * 64,
        dirty=True,
    )


@pytest.fixture
def s3_bucket(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[str]:
    """A bucket on a server that speaks S3, named by the environment as AWS' own tools read it."""
    import boto3
    from moto.server import ThreadedMotoServer

    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    for name in [name for name in os.environ if name.startswith("AWS_")]:
        monkeypatch.delenv(name)
    for name, value in {
        "AWS_ENDPOINT_URL": f"http://{host}:{port}",
        "AWS_ACCESS_KEY_ID": "testing",
        "AWS_SECRET_ACCESS_KEY": "not-a-real-secret",
        "AWS_DEFAULT_REGION": "us-east-1",
        "AWS_CONFIG_FILE": str(tmp_path / "none"),
        "AWS_SHARED_CREDENTIALS_FILE": str(tmp_path / "none"),
    }.items():
        monkeypatch.setenv(name, value)
    try:
        boto3.client("s3").create_bucket(Bucket="rcvit-outs")
        yield "rcvit-outs"
    finally:
        server.stop()
