"""Scenes -> context sets and turns (RCMU.md, "The RCMU data set")."""

from components.generation.samples import write_samples
from components.generation.write import write_turns

__all__ = ["write_samples", "write_turns"]
