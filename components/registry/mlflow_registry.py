"""MLflow as the registry: one run per training, one version per run digest, aliases for stages."""

import json
import shutil
import tempfile
from collections.abc import Iterator, Mapping
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING, Any

import yaml
from pydantic import BaseModel, ConfigDict

from components.errors import RegistryError
from components.registry.gates import GateVerdict, judge
from components.settings import Settings
from components.training.checkpoints import file_digest
from components.workspace import Run

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.entities.model_registry import ModelVersion

MODEL_NAME = "rc-qwen2-vl"
CANDIDATE, STAGING = "candidate", "staging"
# What the served model imports; pinned to the versions that trained it.
_SERVING_PACKAGES = (
    *("mlflow", "numpy", "pandas", "pillow", "psutil", "pyarrow", "pydantic"),
    *("tokenizers", "torch", "transformers"),
)


class Version(BaseModel):
    """A registered version with what the registry keeps about it."""

    model_config = ConfigDict(frozen=True)

    number: str
    aliases: tuple[str, ...]
    tags: dict[str, str]
    run_id: str  # MLflow's
    metrics: dict[str, dict[str, Any]]  # {name: {"value", "low", "high", "n"}}
    thresholds: dict[str, float]

    @property
    def verdict(self) -> GateVerdict:
        """The staging gate, judged from what is stored with the version."""
        return judge(self.metrics, self.thresholds, dirty=self.tags.get("rcvit.dirty") != "false")


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
            f"name = '{MODEL_NAME}' and tags.`rcvit.run_digest` = '{run_digest}'"
        )
        return self._read(found[0].version) if found else None

    def get(self, number: str) -> Version:
        """A version by its number. Raises RegistryError when there is none."""
        from mlflow.exceptions import MlflowException

        try:
            return self._read(number)
        except MlflowException as error:
            raise RegistryError(
                f"{MODEL_NAME} has no version {number}: {error.message}",
                hint="`rcvit status` lists the versions",
            ) from error

    def register(self, run: Run, *, recipe_commit: str) -> Version:
        """Log a finished run and register its model as `candidate`; the same run is never registered twice.

        The version gets its tags in the same write that creates it, so a crash leaves either a version that
        the next call finds, or an MLflow run without one, which the next call closes.
        """
        if (version := self.find(run.digest)) is None:
            import mlflow

            experiment = self._experiment()
            self._close_unfinished(run, experiment)
            tags = _tags(run, recipe_commit=recipe_commit)
            with mlflow.start_run(experiment_id=experiment, run_name=run.name, tags=tags) as active:
                self._log(run, active.info.run_id)
                uri = _log_model(run)
            number = mlflow.register_model(uri, MODEL_NAME, tags=tags).version
            self._client.set_registered_model_alias(MODEL_NAME, CANDIDATE, number)
            version = self._read(number)
        return version

    def promote(self, version: Version, alias: str = STAGING) -> GateVerdict:
        """Judge a version and move the alias to it when the gate passes."""
        verdict = version.verdict
        if verdict.passed:
            self._client.set_registered_model_alias(MODEL_NAME, alias, version.number)
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
            thresholds=params["gate"]["staging"],
        )

    def _experiment(self) -> str:
        known = self._client.get_experiment_by_name(MODEL_NAME)
        if known is not None:
            return str(known.experiment_id)
        return str(self._client.create_experiment(MODEL_NAME, artifact_location=self._settings.artifact_root))

    def _close_unfinished(self, run: Run, experiment: str) -> None:
        """An MLflow run of this digest without a version is one that was killed on its way."""
        query = f"tags.`rcvit.run_digest` = '{run.digest}' and attributes.status = 'RUNNING'"
        for found in self._client.search_runs([experiment], query):
            self._client.set_terminated(found.info.run_id, status="KILLED")

    def _log(self, run: Run, run_id: str) -> None:
        from mlflow.entities import Metric, Param

        params = yaml.safe_load((run.folder / "params.yaml").read_text(encoding="utf-8"))
        flat = [Param(name, str(value)) for name, value in _flat(params)]
        summary = json.loads((run.folder / "outs/evaluation/metrics.json").read_text(encoding="utf-8"))
        metrics = [
            Metric(f"{name}{suffix}", float(estimate[part]), 0, 0)
            for name, estimate in summary["metrics"].items()
            for part, suffix in (("value", ""), ("low", "_low"), ("high", "_high"))
        ]
        metrics += [
            Metric(f"train_{name}", float(value), 0, int(record["step"]))
            for record in _curve(run.folder)
            for name, value in record.items()
            if name != "step"
        ]
        self._client.log_batch(run_id, params=flat)
        for start in range(0, len(metrics), 1000):  # MLflow takes 1,000 metrics a batch
            self._client.log_batch(run_id, metrics=metrics[start : start + 1000])
        self._client.log_artifacts(run_id, str(run.folder / "outs/evaluation"), "evaluation")
        self._client.log_artifacts(run_id, str(run.folder / "outs/validation"), "validation")
        if (run.folder / ".rcvit/data_docs").is_dir():
            self._client.log_artifacts(run_id, str(run.folder / ".rcvit/data_docs"), "data_docs")
        for name in ("params.yaml", "dvc.lock"):
            self._client.log_artifact(run_id, str(run.folder / name))


def _tags(run: Run, *, recipe_commit: str) -> dict[str, str]:
    """What ties a version to its recipe."""
    return {
        "rcvit.commit": run.commit,
        "rcvit.recipe_commit": recipe_commit,
        "rcvit.params_digest": run.params_digest,
        "rcvit.run_digest": run.digest,
        "rcvit.dirty": str(run.dirty).lower(),
        "rcvit.dvc_lock": file_digest(run.folder / "dvc.lock"),
        "rcvit.weights": file_digest(run.folder / "outs/model/model.safetensors"),
    }


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


def _flat(node: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    for name, value in node.items():
        if isinstance(value, Mapping):
            yield from _flat(value, f"{prefix}{name}.")
        else:
            yield f"{prefix}{name}", value
