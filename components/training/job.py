"""What the launcher hands to every rank, as one JSON file."""

from pathlib import Path

from pydantic import BaseModel, ConfigDict

from components.params import ModelParams, TrainingParams


class Job(BaseModel):
    """A training job; all paths are absolute."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    model: ModelParams
    training: TrainingParams
    seed: int
    inputs: str  # digest of everything that the result depends on
    processor: Path  # tokenizer and image processor
    forest: Path  # the training split, tokenised
    deepspeed: Path  # a DeepSpeed config file
    checkpoints: Path  # of these inputs
    curve: Path  # JSON lines
    folder: Path  # for the export
    failure: Path  # a rank that fails writes its error here
