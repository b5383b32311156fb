"""MLflow as the registry: one run per training, one version per run digest, aliases for stages."""

import hashlib
import json
import shutil
import tempfile
from collections.abc import Iterator, Mapping
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import yaml
from pydantic import BaseModel, ConfigDict

from components.digests import file_digest
from components.errors import RegistryError
from components.params import flat_params, load_params
from components.registry.gates import GateVerdict, judge
from components.settings import Settings
from components.workspace import Run

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.entities import Metric, Param
    from mlflow.entities.model_registry import ModelVersion

T = TypeVar("T")

MODEL_NAME = "rc-qwen2-vl"
CANDIDATE, STAGING = "candidate", "staging"
# What the served model imports; pinned to the versions that trained it.
_SERVING_PACKAGES = (
    *("jinja2", "mlflow", "numpy", "pandas", "pillow", "psutil", "pyarrow", "pydantic", "pyyaml"),
    *("safetensors", "tokenizers", "torch", "tqdm", "transformers"),
)
_RUN_DIGEST, _DIRTY = "rcvit.run_digest", "rcvit.dirty"
_GATE = "rcvit.gate"  # "passed" or "refused", written last: a version without it is not finished
_MODEL_URI = "rcvit.model_uri"  # on the MLflow run, written last: all of it is logged


class Version(BaseModel):
    """A registered version with what the registry keeps about it."""

    model_config = ConfigDict(frozen=True)

    number: str
    aliases: tuple[str, ...]
    tags: dict[str, str]
    run_id: str  # MLflow's
    metrics: dict[str, dict[str, Any]]  # {name: {"value", "low", "high", "n"}}
    confidence: float  # of the intervals
    thresholds: dict[str, float]

    @property
    def verdict(self) -> GateVerdict:
        """The staging gate, judged from what is stored with the version."""
        return judge(self.metrics, self.thresholds, dirty=self.tags.get(_DIRTY) != "false")

    @property
    def is_gated(self) -> bool:
        """Whether the gate has decided once: a run that ended on its way has not come to it."""
        return _GATE in self.tags


class Registry:
    """The versions of rc-qwen2-vl at one tracking URI."""

    def __init__(self, settings: Settings) -> None:
        import mlflow

        self._settings = settings
        settings.home.mkdir(parents=True, exist_ok=True)
        mlflow.set_tracking_uri(settings.tracking_uri)
        self._client: MlflowClient = mlflow.MlflowClient(tracking_uri=settings.tracking_uri)

    def versions(self) -> list[Version]:
        """All versions, the newest first."""
        found = self._client.search_model_versions(f"name = '{MODEL_NAME}'")
        return [
            self._read(version.version)
            for version in sorted(found, key=lambda v: int(v.version), reverse=True)
        ]

    def find(self, run_digest: str) -> Version | None:
        """The version that a run has made, if it has."""
        found = self._client.search_model_versions(
            f"name = '{MODEL_NAME}' and tags.`{_RUN_DIGEST}` = '{run_digest}'"
        )
        return self._read(found[0].version) if found else None

    def get(self, number: str) -> Version:
        """A version by its number. Raises RegistryError when there is none."""
        from mlflow.exceptions import MlflowException

        try:
            self._client.get_model_version(MODEL_NAME, number)
        except MlflowException as error:
            raise RegistryError(
                f"{MODEL_NAME} has no version {number}: {error.message}",
                hint="`rcvit status` lists the versions",
            ) from error
        return self._read(number)

    def register(self, run: Run, *, recipe_commit: str) -> Version:
        """Log a finished run and register its model as `candidate`; the same run is never registered twice.

        A crash leaves one of three things, and the next call goes on from each: an MLflow run without a
        model URI, which is closed; one with it, whose model is registered; or a version, which is found.
        """
        import mlflow

        if (version := self.find(run.digest)) is None:
            mlflow.set_tracking_uri(self._settings.tracking_uri)  # another Registry may have set its own
            tags = _tags(run, recipe_commit=recipe_commit)
            uri = self._logged_model(run) or self._log(run, tags)
            # The tags come in the write that creates the version: there is none without its digest.
            created = mlflow.register_model(uri, MODEL_NAME, tags=tags)
            version = self._read(created.version)
        newest = max(int(v.version) for v in self._client.search_model_versions(f"name = '{MODEL_NAME}'"))
        if int(version.number) == newest and CANDIDATE not in version.aliases:
            self._client.set_registered_model_alias(MODEL_NAME, CANDIDATE, version.number)
        return self._read(version.number)

    def promote(self, version: Version, alias: str = STAGING) -> GateVerdict:
        """Judge a version and move the alias to it when the gate passes."""
        verdict = version.verdict
        if verdict.passed:
            self._client.set_registered_model_alias(MODEL_NAME, alias, version.number)
        decision = "passed" if verdict.passed else "refused"
        self._client.set_model_version_tag(MODEL_NAME, version.number, _GATE, decision)
        return verdict

    def number_of(self, alias: str | None) -> tuple[str, str]:
        """(version, alias) that an alias points to; without one `staging`, else `candidate`."""
        from mlflow.exceptions import MlflowException

        for name in [alias] if alias else [STAGING, CANDIDATE]:
            try:
                return str(self._client.get_model_version_by_alias(MODEL_NAME, name).version), name
            except MlflowException:
                continue
        raise RegistryError(
            f"no version of {MODEL_NAME} has the alias {alias or CANDIDATE}",
            hint="`rcvit run` makes a candidate, `rcvit status` lists what there is",
        )

    def _read(self, number: str) -> Version:
        import mlflow.artifacts

        version: ModelVersion = self._client.get_model_version(MODEL_NAME, number)
        with tempfile.TemporaryDirectory() as folder:

            def stored(name: str) -> str:
                path = mlflow.artifacts.download_artifacts(
                    run_id=version.run_id,
                    artifact_path=name,
                    dst_path=folder,
                    tracking_uri=self._settings.tracking_uri,
                )
                return Path(path).read_text(encoding="utf-8")

            summary = json.loads(stored("evaluation/metrics.json"))
            params = yaml.safe_load(stored("params.yaml"))
        return Version(
            number=str(version.version),
            aliases=tuple(sorted(version.aliases)),
            tags=dict(version.tags),
            run_id=str(version.run_id),
            metrics=summary["metrics"],
            confidence=params["evaluation"]["confidence"],
            thresholds=params["gate"]["staging"],
        )

    def _experiment(self) -> str:
        known = self._client.get_experiment_by_name(MODEL_NAME)
        if known is not None:
            return str(known.experiment_id)
        return str(self._client.create_experiment(MODEL_NAME, artifact_location=self._settings.artifact_root))

    def _logged_model(self, run: Run) -> str | None:
        """The model of an MLflow run of this digest that ended whole; one that was killed is closed."""
        query = f"tags.`{_RUN_DIGEST}` = '{run.digest}'"
        for found in self._client.search_runs([self._experiment()], query):
            if _MODEL_URI in found.data.tags:
                return str(found.data.tags[_MODEL_URI])
            if found.info.status == "RUNNING":
                self._client.set_terminated(found.info.run_id, status="KILLED")
        return None

    def _log(self, run: Run, tags: Mapping[str, str]) -> str:
        """One MLflow run: params, metrics with their curves, reports, model; the model's URI."""
        import mlflow

        with mlflow.start_run(experiment_id=self._experiment(), run_name=run.name, tags=dict(tags)) as active:
            run_id = active.info.run_id
            for params in _batches(_params(run), 100):  # MLflow takes 100 params a batch, 1,000 metrics
                self._client.log_batch(run_id, params=params)
            for metrics in _batches(_metrics(run), 1000):
                self._client.log_batch(run_id, metrics=metrics)
            for folder, name in _REPORTS.items():
                if (run.folder / folder).is_dir():
                    self._client.log_artifacts(run_id, str(run.folder / folder), name)
            for file in ("params.yaml", "dvc.lock"):
                self._client.log_artifact(run_id, str(run.folder / file))
            uri = _log_model(run)
            self._client.set_tag(run_id, _MODEL_URI, uri)
        return uri


# Folder of the workspace: its name among the run's artifacts. Data docs are absent where the
# validation came from the DVC cache.
_REPORTS = {"outs/evaluation": "evaluation", "outs/validation": "validation", ".rcvit/data_docs": "data_docs"}


def _params(run: Run) -> "list[Param]":
    from mlflow.entities import Param

    content = load_params(run.folder / "params.yaml")
    return [Param(name, value) for name, value in flat_params(content).items()]


def _metrics(run: Run) -> "list[Metric]":
    from mlflow.entities import Metric

    summary = json.loads((run.folder / "outs/evaluation/metrics.json").read_text(encoding="utf-8"))
    metrics = [
        Metric(f"{name}{suffix}", float(estimate[part]), 0, 0)
        for name, estimate in summary["metrics"].items()
        for part, suffix in (("value", ""), ("low", "_low"), ("high", "_high"))
    ]
    return metrics + [
        Metric(f"train_{name}", float(value), 0, int(record["step"]))
        for record in _curve(run.folder)
        for name, value in record.items()
        if name != "step"
    ]


def _batches(items: list[T], size: int) -> Iterator[list[T]]:
    for start in range(0, len(items), size):
        yield items[start : start + size]


def _tags(run: Run, *, recipe_commit: str) -> dict[str, str]:
    """What ties a version to its recipe."""
    return {
        "rcvit.commit": run.commit,
        "rcvit.recipe_commit": recipe_commit,
        "rcvit.params_digest": run.params_digest,
        _RUN_DIGEST: run.digest,
        _DIRTY: str(run.dirty).lower(),
        "rcvit.dvc_lock": file_digest(run.folder / "dvc.lock"),
        "rcvit.weights": _weights_digest(run.folder / "outs/model"),
    }


def _weights_digest(model: Path) -> str:
    """SHA-256 of the safetensors files one after the other, in the order of their names."""
    digest = hashlib.sha256()
    for path in sorted(model.glob("*.safetensors")):
        with path.open("rb") as file:
            while block := file.read(1 << 20):
                digest.update(block)
    return digest.hexdigest()


def _log_model(run: Run) -> str:
    """Log the model folder as a pyfunc written as models-from-code; the URI of the logged model."""
    import mlflow

    from components.serving.signature import signature

    with tempfile.TemporaryDirectory() as folder:
        # The model carries the library's code and nothing that Python left beside it.
        code = Path(folder) / "components"
        shutil.copytree(
            run.folder / "components", code, ignore=shutil.ignore_patterns("__pycache__", "*.pyc")
        )
        logged = mlflow.pyfunc.log_model(
            name="model",
            python_model=str(code / "serving/model.py"),
            artifacts={"model": str(run.folder / "outs/model")},
            code_paths=[str(code)],
            signature=signature(),
            pip_requirements=[
                f"{name}=={metadata.version(name).split('+')[0]}" for name in _SERVING_PACKAGES
            ],
        )
    return str(logged.model_uri)


def _curve(folder: Path) -> list[dict[str, float]]:
    """The trainer's measurements; none when the model came from the DVC cache."""
    path = folder / ".rcvit/curves/curve.jsonl"
    if not path.exists():
        return []
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
