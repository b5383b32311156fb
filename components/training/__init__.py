"""RCVIT: from RCMU turns and a Qwen2-VL to an RC-Qwen2-VL, on 1..N DeepSpeed ranks."""

from components.training.launcher import train_model
from components.training.model import generate_greedily, load_for_inference

__all__ = ["generate_greedily", "load_for_inference", "train_model"]
