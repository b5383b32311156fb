"""The ablation in MLflow: a parent run with table and picture, a child for every variant."""

import hashlib
from pathlib import Path

from components.ablation.report import Ablation, Row
from components.settings import Settings
from components.workspace import Run

EXPERIMENT = "rc-qwen2-vl-ablation"
_WHOLE = "rcvit.ablation"  # digest of the figures; written last, on the parent


def record(ablation: Ablation, folder: Path, run: Run, settings: Settings) -> str:
    """Log what lies in `folder` and every variant's figures, once; the id of the parent run."""
    import mlflow

    mlflow.set_tracking_uri(settings.tracking_uri)
    client = mlflow.MlflowClient(tracking_uri=settings.tracking_uri)
    known = client.get_experiment_by_name(EXPERIMENT)
    experiment = (
        known.experiment_id
        if known
        else client.create_experiment(EXPERIMENT, artifact_location=settings.artifact_root)
    )
    content = hashlib.sha256(ablation.model_dump_json().encode()).hexdigest()
    for found in client.search_runs([experiment], f"tags.`{_WHOLE}` = '{content}'"):
        return str(found.info.run_id)
    tags = {"rcvit.run_digest": run.digest, "rcvit.commit": run.commit}
    with mlflow.start_run(experiment_id=experiment, run_name=run.name, tags=tags) as parent:
        for path in sorted(path for path in folder.iterdir() if path.is_file()):
            mlflow.log_artifact(str(path))
        for row in ablation.rows:
            with mlflow.start_run(
                experiment_id=experiment,
                run_name=row.variant,
                nested=True,
                tags={**tags, "rcvit.variant": row.variant},
            ):
                mlflow.log_params({"variant": row.variant, "seeds": row.seeds})
                mlflow.log_metrics(_metrics(row))
        client.set_tag(parent.info.run_id, _WHOLE, content)
        return str(parent.info.run_id)


def _metrics(row: Row) -> dict[str, float]:
    metrics = {"citation_f1": row.citation_f1}
    for kind, estimates in (("accuracy", row.decoded), ("choice", row.chosen)):
        for task, estimate in estimates.items():
            metrics[f"{kind}_{task}"] = estimate.value
            metrics[f"{kind}_{task}_low"] = estimate.low
            metrics[f"{kind}_{task}_high"] = estimate.high
    return metrics
