"""The RCMU prompt, byte for byte (RCMU.md, "The prompt"), and its parser."""

import re

from pydantic import Field

from components.rcmu.models import Box, ContextSet, Frozen, Label, NonEmptyText, NormalisedText, Scene

INSTRUCTION = (
    "Answer the following question based on the information above and the given image, "
    "and provide citations for your response."
)
BOX_START, BOX_END = "<|box_start|>", "<|box_end|>"

# A label holds no "<|", so the first box token of a line is the prompt's own.
_LINE = re.compile(
    r"\[(?P<k>\d+)\]: The information of the (?P<label>(?:(?!<\|).)+?) located at "
    r"<\|box_start\|>\((?P<x1>\d+),(?P<y1>\d+)\),\((?P<x2>\d+),(?P<y2>\d+)\)<\|box_end\|>"
    r" in the image: (?P<text>.*)"
)


class PromptRegion(Frozen):
    """One line of the prompt: region `[k]` is the k-th of `Prompt.regions`."""

    label: Label
    box: Box
    text: NormalisedText


class Prompt(Frozen):
    """The user's turn without the image: regions with their texts, and the question."""

    regions: tuple[PromptRegion, ...] = ()
    question: NonEmptyText = Field(description="one line")


class Piece(Frozen):
    """A run of the prompt: a special token that the format itself writes, or plain text."""

    text: str
    special: bool = False


def prompt_pieces(prompt: Prompt) -> tuple[Piece, ...]:
    """The prompt cut at its own special tokens; whatever the texts hold stays plain text."""
    if not prompt.regions:
        return (Piece(text=prompt.question),)
    pieces = []
    for k, region in enumerate(prompt.regions, start=1):
        box = region.box
        pieces += [
            Piece(text=f"[{k}]: The information of the {region.label} located at "),
            Piece(text=BOX_START, special=True),
            Piece(text=f"({box.x1},{box.y1}),({box.x2},{box.y2})"),
            Piece(text=BOX_END, special=True),
            Piece(text=f" in the image: {region.text}\n"),
        ]
    return (*pieces, Piece(text=f"{INSTRUCTION}\n{prompt.question}"))


def prompt_of(scene: Scene, context: ContextSet, question: str) -> Prompt:
    """The prompt that asks `question` about a scene under one set of texts."""
    lines = [
        PromptRegion(
            label=scene.regions[line.region].label, box=scene.regions[line.region].box, text=line.text
        )
        for line in context.regions
    ]
    return Prompt(regions=tuple(lines), question=question)


def render_prompt(prompt: Prompt) -> str:
    """The prompt text. Without regions it is the question alone (own choice)."""
    return "".join(piece.text for piece in prompt_pieces(prompt))


def parse_prompt(text: str) -> Prompt:
    """The inverse of `render_prompt`.

    Raises:
        ValueError: with the line's number, for any text that `render_prompt` cannot have made.
    """
    lines = text.split("\n")
    if len(lines) == 1:
        return Prompt(question=text)
    if len(lines) < 3 or lines[-2] != INSTRUCTION:
        raise ValueError(f"line {len(lines) - 1} is not the instruction: {lines[-2]!r}")
    regions = []
    for number, line in enumerate(lines[:-2], start=1):
        match = _LINE.fullmatch(line)
        if match is None or match["k"] != str(number):
            raise ValueError(f"line {number} does not describe region [{number}]: {line!r}")
        corners = {name: int(match[name]) for name in ("x1", "y1", "x2", "y2")}
        regions.append(PromptRegion(label=match["label"], box=Box(**corners), text=match["text"]))
    prompt = Prompt(regions=tuple(regions), question=lines[-1])
    if render_prompt(prompt) != text:
        raise ValueError("a number is not written as the prompt writes it, such as 012 for 12")
    return prompt
