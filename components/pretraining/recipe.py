"""recipe.yaml as frozen models: everything that decides the tiny base's weights."""

from pathlib import Path

import yaml
from pydantic import BaseModel, ConfigDict, Field

from components.params import GenerationParams, ScratchParams, SourceParams
from components.pretraining.corpus import Subject

RECIPE = Path(__file__).with_name("recipe.yaml")


class _Section(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class Sight(_Section):
    """The first lesson, of tower and merger alone."""

    source: SourceParams  # of its scenes; how many follows from the steps, each of which draws new ones
    steps: int = Field(ge=1)
    images: int = Field(ge=1)  # a step
    learning_rate: float = Field(gt=0)


class Lines(_Section):
    """The second lesson, of the language model alone."""

    source: SourceParams  # as above
    generation: GenerationParams
    layers: int = Field(ge=1)  # after so many the labels along the lines stand
    # After so many more a question's words know the lines that they fit; null: they are not asked yet.
    word_layers: int | None = Field(ge=1)
    steps: int = Field(ge=1)
    images: int = Field(ge=1)  # a step, each with one set of texts
    copies: int = Field(ge=1)  # sequences of random tokens a step
    learning_rate: float = Field(gt=0)
    query_key_decay: float | None = Field(ge=0)  # of what makes the attention's scores; null: as of the rest


class Answers(_Section):
    """The third lesson, of the language model too."""

    about: tuple[Subject, ...] = Field(min_length=1)  # what its questions are about
    source: SourceParams
    generation: GenerationParams
    layers: int = Field(ge=1)  # as above
    word_layers: int = Field(ge=1)
    asked_layers: int = Field(ge=1)  # after so many more it is known what is asked for
    steps: int = Field(ge=1)
    sequences: int = Field(ge=1)  # a step
    sequence_tokens: int = Field(ge=1)
    copies: int = Field(ge=1)
    learning_rate: float = Field(gt=0)
    query_key_decay: float | None = Field(ge=0)


class Recipe(_Section):
    """A whole recipe."""

    seed: int = Field(ge=0)
    pixels: tuple[int, int]  # smallest and largest image after resizing
    model: ScratchParams
    sight: Sight
    lines: tuple[Lines, ...] = Field(min_length=1)  # given one after the other
    answers: Answers
    held_out_scenes: int = Field(ge=1)  # of the third lesson's kind, which the skills are measured on


def load_recipe(path: Path = RECIPE) -> Recipe:
    """Read and check a recipe."""
    return Recipe.model_validate(yaml.safe_load(path.read_text(encoding="utf-8")))
