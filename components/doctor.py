"""`rcvit doctor`: what this machine has, what is missing, and how to fix each."""

import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from importlib import metadata
from pathlib import Path
from typing import Literal

import psutil
from pydantic import BaseModel, ConfigDict

from components.errors import ParamsError, SettingsError
from components.params import load_params
from components.settings import Settings, load_settings

# `du` after `make run` of the tiny profile showed 2.3 GB on disk; both have room to spare.
DISK_NEEDED = 4e9  # bytes
MEMORY_NEEDED = 4e9  # bytes

# The packages whose versions decide whether the parts work together.
PACKAGES = (
    "torch",
    "transformers",
    "deepspeed",
    "accelerate",
    "prefect",
    "fastapi",
    "mlflow",
    "dvc",
    "great_expectations",
    "boto3",
    "docker",
    "pydantic-settings",
)


class Finding(BaseModel):
    """One check. `cure` is empty where there is nothing to do."""

    model_config = ConfigDict(frozen=True)

    check: str
    state: Literal["ok", "note", "broken"]
    found: str
    cure: str = ""


def examine(root: Path) -> Iterator[Finding]:
    """Every check, in the order of the report. `root` is the checkout."""
    yield _python()
    yield from _packages(root / "requirements.lock")
    yield _git()
    yield _room("disk", shutil.disk_usage(root).free, DISK_NEEDED, "free space, or `make clean`")
    memory = psutil.virtual_memory().available
    yield _room("memory", memory, MEMORY_NEEDED, "close other programs, or lower training.micro_batch_size")
    yield Finding(check="cores", state="ok", found=f"{os.cpu_count()}")
    yield _gpu()
    yield _docker()
    yield _params(root / "params.yaml")
    yield from _settings()


def run_doctor(root: Path) -> int:
    """Print the report; 1 when something is broken, else 0."""
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    findings = list(examine(root))
    table = Table(title="rcvit doctor")
    for column in ("check", "state", "found", "how to fix"):
        table.add_column(column, overflow="fold")
    colours = {"ok": "green", "note": "yellow", "broken": "red"}
    for finding in findings:
        state = Text(finding.state, style=colours[finding.state])
        table.add_row(finding.check, state, Text(finding.found), Text(finding.cure))
    Console().print(table)
    return int(any(finding.state == "broken" for finding in findings))


def _python() -> Finding:
    return Finding(check="python", state="ok", found=".".join(str(part) for part in sys.version_info[:3]))


def _packages(lock: Path) -> Iterator[Finding]:
    pinned = dict(re.findall(r"^([\w.-]+)==([^\s;]+)$", lock.read_text(encoding="utf-8"), re.MULTILINE))
    for name in PACKAGES:
        wanted = pinned[name]
        try:
            found = metadata.version(name)
        except metadata.PackageNotFoundError:
            yield Finding(check=name, state="broken", found="missing", cure="rm .venv/.ready; make run")
            continue
        if found.split("+")[0] == wanted:
            yield Finding(check=name, state="ok", found=found)
        else:
            cure = f"{wanted} is pinned: .venv/bin/pip install {name}=={wanted}"
            yield Finding(check=name, state="note", found=found, cure=cure)


def _git() -> Finding:
    executable = shutil.which("git")
    if executable is None:
        return Finding(check="git", state="broken", found="missing", cure="install git")
    version = subprocess.run([executable, "--version"], capture_output=True, text=True, check=True).stdout
    return Finding(check="git", state="ok", found=version.strip())


def _room(check: str, free: float, needed: float, cure: str) -> Finding:
    found = f"{free / 1e9:.1f} GB free"
    if free >= needed:
        return Finding(check=check, state="ok", found=found)
    return Finding(check=check, state="note", found=found, cure=f"{needed / 1e9:.0f} GB wanted: {cure}")


def _gpu() -> Finding:
    import torch

    if torch.cuda.is_available():
        return Finding(check="gpu", state="ok", found=torch.cuda.get_device_name(0))
    cure = "nothing for the tiny profile; 2b and 7b need CUDA and `pip install -e .[gpu]`"
    return Finding(check="gpu", state="note", found="none", cure=cure)


def _docker() -> Finding:
    import docker
    from docker.errors import DockerException

    try:
        client = docker.from_env(timeout=3)
        try:
            version = client.version()["Version"]
        finally:
            client.close()
    except DockerException:
        cure = "nothing for a local run; start the Docker engine to build images"
        return Finding(check="docker engine", state="note", found="not reachable", cure=cure)
    return Finding(check="docker engine", state="ok", found=version)


def _params(path: Path) -> Finding:
    try:
        load_params(path)
    except ParamsError as error:
        return Finding(check="params.yaml", state="broken", found=error.message, cure=error.hint)
    return Finding(check="params.yaml", state="ok", found="fits its schema")


def _settings() -> Iterator[Finding]:
    try:
        settings = load_settings()
    except SettingsError as error:
        yield Finding(check="settings", state="broken", found=error.message, cure=error.hint)
        return
    yield Finding(check="RCVIT_HOME", state="ok", found=str(settings.home))
    yield _tracking(settings)
    if settings.prefect_api_url is None:
        yield Finding(check="Prefect", state="ok", found="own server on loopback for each run")
    else:
        yield _prefect(settings.prefect_api_url)
    yield _remote(settings.dvc_remote)
    endpoint = settings.llm_url or "none (RCVIT_LLM_URL); only generation.route llm needs one"
    yield Finding(check="LLM", state="ok", found=endpoint)


def _tracking(settings: Settings) -> Finding:
    import httpx
    import sqlalchemy

    # A database URL may hold a password: only its kind is shown. MLflow itself would try for minutes.
    uri = settings.tracking_uri
    kind = f"{uri.partition(':')[0]} {'server' if settings.artifact_root is None else 'database'}"
    cure = "check RCVIT_TRACKING_URI, and that its server runs"
    try:
        if settings.artifact_root is None:
            httpx.get(f"{uri}/health", timeout=5).raise_for_status()
        else:
            settings.home.mkdir(parents=True, exist_ok=True)
            engine = sqlalchemy.create_engine(uri)
            engine.connect().close()
            engine.dispose()
    except (httpx.HTTPError, sqlalchemy.exc.SQLAlchemyError, ImportError, OSError) as error:
        found = f"{kind} does not answer ({type(error).__name__})"
        return Finding(check="MLflow", state="broken", found=found, cure=cure)
    return Finding(check="MLflow", state="ok", found=f"{kind} answers")


def _prefect(url: str) -> Finding:
    import httpx

    try:
        httpx.get(f"{url}/health", timeout=3).raise_for_status()
    except httpx.HTTPError as error:
        cure = f"start the server or unset RCVIT_PREFECT_API_URL: {error}"
        return Finding(check="Prefect", state="broken", found="does not answer", cure=cure)
    return Finding(check="Prefect", state="ok", found="answers")


def _remote(remote: str | None) -> Finding:
    if remote is None:
        cure = "set RCVIT_DVC_REMOTE to push data and models off this machine"
        return Finding(check="DVC remote", state="note", found="none", cure=cure)
    if not remote.startswith("s3://"):
        return Finding(check="DVC remote", state="ok", found=remote)
    import boto3
    from botocore.exceptions import BotoCoreError, ClientError

    bucket = remote.removeprefix("s3://").split("/")[0]
    try:
        boto3.client("s3").head_bucket(Bucket=bucket)
    except (BotoCoreError, ClientError) as error:
        cure = f"check the bucket and AWS_* in the environment: {error}"
        return Finding(
            check="DVC remote", state="broken", found=f"bucket {bucket} does not answer", cure=cure
        )
    return Finding(check="DVC remote", state="ok", found=f"bucket {bucket} answers")
