"""Readers that yield scenes, and the door for outside photos."""

from components.sources.import_data import import_photos
from components.sources.write import write_scenes

__all__ = ["import_photos", "write_scenes"]
