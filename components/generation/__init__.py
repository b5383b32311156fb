"""Scenes -> context sets and turns (RCMU.md, "The RCMU data set")."""

from components.generation.write import write_turns

__all__ = ["write_turns"]
