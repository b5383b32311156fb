"""What RCVIT owes to boxes, texts and image: trainings that lack one of them, side by side."""

from components.ablation.command import ablate

__all__ = ["ablate"]
