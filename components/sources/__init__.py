"""Readers that yield scenes, and the door for outside photos."""

from components.sources.import_data import import_folder
from components.sources.write import write_scenes

__all__ = ["import_folder", "write_scenes"]
