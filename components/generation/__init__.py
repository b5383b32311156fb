"""Scenes -> context sets and turns (RCMU.md, "The RCMU data set")."""

from components.generation.publish import publish_data
from components.generation.samples import write_samples
from components.generation.write import data_set_id, estimate_turns, write_turns

__all__ = ["data_set_id", "estimate_turns", "publish_data", "write_samples", "write_turns"]
