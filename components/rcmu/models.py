"""The nouns of RCMU as frozen models: Box, Fact, Region, Scene, ContextSet, Turn."""

from enum import StrEnum
from typing import Annotated, Self

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, model_validator

from components.rcmu.text import LABEL_FORBIDDEN, normalise

BOX_SCALE = 1000  # boxes are integers 0..1000 of the image's width and height (RCMU, the prompt)


def _is_normalised(text: str) -> str:
    if text != normalise(text):
        raise ValueError(f"white space is not normalised in {text!r}")
    return text


def _is_label(text: str) -> str:
    if LABEL_FORBIDDEN in text:
        raise ValueError(f"a label must not hold {LABEL_FORBIDDEN!r}: {text!r}")
    return _is_normalised(text)


NormalisedText = Annotated[str, AfterValidator(_is_normalised)]
NonEmptyText = Annotated[NormalisedText, Field(min_length=1)]
Label = Annotated[str, Field(min_length=1), AfterValidator(_is_label)]


class Frozen(BaseModel):
    """Immutable, and closed: an unknown field is an error."""

    model_config = ConfigDict(frozen=True, extra="forbid")


class Split(StrEnum):
    """Training and benchmark share no image, no instance and no text."""

    TRAIN = "train"
    BENCHMARK = "benchmark"


class Task(StrEnum):
    """The sub-tasks. The first two are the generator's intermediate blocks (RCMU, steps 2 and 3)."""

    VISUAL_QA = "visual_qa"
    CONTEXTUAL_QA = "contextual_qa"
    V2C = "v2c"
    C2V = "c2v"
    UNANSWERABLE_V2C = "unanswerable_v2c"
    UNANSWERABLE_C2V = "unanswerable_c2v"
    RCID = "rcid"


UNANSWERABLE = frozenset({Task.UNANSWERABLE_V2C, Task.UNANSWERABLE_C2V})


class Box(Frozen):
    """Top-left and bottom-right corner, integers 0..1000 of the image's width (x) and height (y)."""

    x1: int = Field(ge=0, le=BOX_SCALE)
    y1: int = Field(ge=0, le=BOX_SCALE)
    x2: int = Field(ge=0, le=BOX_SCALE)
    y2: int = Field(ge=0, le=BOX_SCALE)

    @model_validator(mode="after")
    def _corners_in_order(self) -> Self:
        if self.x1 >= self.x2 or self.y1 >= self.y2:
            raise ValueError(f"box has no area: ({self.x1},{self.y1}),({self.x2},{self.y2})")
        return self

    def to_pixels(self, width: int, height: int) -> tuple[float, float, float, float]:
        """(x1, y1, x2, y2) in pixels of an image of the given size."""
        return (
            self.x1 * width / BOX_SCALE,
            self.y1 * height / BOX_SCALE,
            self.x2 * width / BOX_SCALE,
            self.y2 * height / BOX_SCALE,
        )


class Fact(Frozen):
    """One key-value statement, such as owner = "Ada Moss" or color = "red"."""

    key: NonEmptyText
    value: NonEmptyText


class Region(Frozen):
    """One boxed object of a scene: what the picture alone says about it."""

    instance_id: NonEmptyText  # the same object in another photo carries the same id
    label: Label
    box: Box
    expression: NonEmptyText  # refers to this object by its looks, uniquely in its image
    facts: tuple[Fact, ...]  # visible facts


class Mention(Frozen):
    """Where a caption speaks of a region: `caption[start:end]`."""

    region: int = Field(ge=0)  # index into Scene.regions
    start: int = Field(ge=0)
    end: int


class Scene(Frozen):
    """An image with its boxed objects. `image` is an encoded file (PNG or JPEG), never re-encoded."""

    scene_id: NonEmptyText
    split: Split
    image: bytes
    width: int = Field(gt=0)  # pixels
    height: int = Field(gt=0)  # pixels
    caption: NormalisedText = ""
    attribution: NormalisedText = ""
    license: NormalisedText = ""  # of the image, by name; empty where the source names none
    regions: tuple[Region, ...] = Field(min_length=1)
    mentions: tuple[Mention, ...] = ()  # in the caption's order; with them it is a grounded caption (RCMU)

    @model_validator(mode="after")
    def _mentions_stand_in_the_caption(self) -> Self:
        before = 0
        for mention in self.mentions:
            if not before <= mention.start < mention.end <= len(self.caption):
                raise ValueError(f"mention {mention.start}..{mention.end} does not stand in the caption")
            if mention.region >= len(self.regions):
                raise ValueError(f"a mention of region {mention.region}, and there are {len(self.regions)}")
            before = mention.end
        return self


class ContextRegion(Frozen):
    """The text given about one region, with the facts it states."""

    region: int = Field(ge=0)  # index into Scene.regions
    text: NonEmptyText
    facts: tuple[Fact, ...]


class ContextSet(Frozen):
    """One set of texts for a scene; the order of `regions` is the order `[1]`, `[2]`, ... of the prompt.

    Without any, the prompt is the question alone: what a base is asked about an image.
    """

    context_id: NonEmptyText
    scene_id: NonEmptyText
    split: Split
    regions: tuple[ContextRegion, ...]


class Claim(Frozen):
    """What a reference answer states about region `[k]`: the value an answer is scored by."""

    k: int = Field(ge=1)
    value: NonEmptyText


class Turn(Frozen):
    """One question about a scene and a context set, with its reference answer.

    `citations` are the `[k]` of the answer in order. `claims` are empty for refusals.
    `other_values` are wrong answers that stand in the same scene, its texts or the value pool.
    """

    turn_id: NonEmptyText
    context_id: NonEmptyText
    scene_id: NonEmptyText
    split: Split
    task: Task
    question: NonEmptyText
    answer: NonEmptyText
    citations: tuple[int, ...]
    claims: tuple[Claim, ...]
    other_values: tuple[str, ...] = ()


ABSTAIN = "There is not enough information to answer the question"  # RC&P-Bench's own words


class Item(Frozen):
    """A benchmark turn as multiple choice: scene, texts and question are the turn's."""

    item_id: NonEmptyText
    turn_id: NonEmptyText
    context_id: NonEmptyText
    scene_id: NonEmptyText
    split: Split
    task: Task
    question: NonEmptyText
    options: tuple[NonEmptyText, ...] = Field(min_length=4, max_length=5)
    right: int = Field(ge=0)  # index of the right option
    abstain: int = Field(ge=0)  # index of ABSTAIN: the right one where the question is unanswerable

    @model_validator(mode="after")
    def _options_fit(self) -> Self:
        if len({option.casefold() for option in self.options}) < len(self.options):
            raise ValueError(f"an option stands twice: {self.options}")
        if max(self.right, self.abstain) >= len(self.options) or self.options[self.abstain] != ABSTAIN:
            raise ValueError(f"right {self.right} or abstain {self.abstain} is none of {self.options}")
        if (self.task in UNANSWERABLE) is not (self.right == self.abstain):
            raise ValueError(f"{self.task} with {self.options[self.right]!r} as its answer")
        return self


class PersonalObject(Frozen):
    """An object that somebody registered: RC&P-Bench gives each a text and reference photos."""

    instance_id: NonEmptyText  # the same object in a scene carries the same id
    name: NonEmptyText
    label: Label
    text: NonEmptyText
    photos: tuple[bytes, ...] = Field(min_length=1)  # encoded files, never re-encoded
    attribution: NormalisedText = ""
    license: NormalisedText = ""
