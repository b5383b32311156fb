"""RCVIT: from RCMU turns and a Qwen2-VL to an RC-Qwen2-VL, on 1..N DeepSpeed ranks."""

from components.training.launcher import train_model
from components.training.model import load_for_inference

__all__ = ["load_for_inference", "train_model"]
