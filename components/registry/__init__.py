"""The model registry: versions of rc-qwen2-vl in MLflow, and the gate between candidate and staging."""

from components.registry.gates import GateVerdict, judge
from components.registry.mlflow_registry import CANDIDATE, MODEL_NAME, STAGING, Registry, Version

__all__ = ["CANDIDATE", "MODEL_NAME", "STAGING", "GateVerdict", "Registry", "Version", "judge"]
