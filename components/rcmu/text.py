"""Text from outside is data: normalised at the door, never able to look like structure."""

import re
from collections.abc import Iterator

# Qwen2-VL's special tokens, as its published tokenizer_config.json lists them.
SPECIAL_TOKENS = (
    "<|endoftext|>",
    "<|im_start|>",
    "<|im_end|>",
    "<|object_ref_start|>",
    "<|object_ref_end|>",
    "<|box_start|>",
    "<|box_end|>",
    "<|quad_start|>",
    "<|quad_end|>",
    "<|vision_start|>",
    "<|vision_end|>",
    "<|vision_pad|>",
    "<|image_pad|>",
    "<|video_pad|>",
)
LABEL_FORBIDDEN = "<|"

_SPECIAL = re.compile("|".join(re.escape(token) for token in SPECIAL_TOKENS))
_CITATION_MARK = re.compile(r"\[(\d+)\]")


def normalise(text: str) -> str:
    """Every run of Unicode white space becomes one space and the ends are stripped.

    A newline in a region's text could otherwise fake another region's line.
    """
    return " ".join(text.split())


def special_token_strings(text: str) -> tuple[str, ...]:
    """The special-token strings a text holds, in order. Such text passes, but is counted and listed."""
    return tuple(_SPECIAL.findall(text))


def without_citation_marks(text: str) -> str:
    """`[3]` becomes `(3)`: outside text that is quoted in an answer must not look like a citation."""
    return _CITATION_MARK.sub(r"(\1)", text)


def mentions(text: str, value: str) -> bool:
    """Whether `value` stands in `text` as whole words, whatever the case."""
    return next(_places(text, value), None) is not None


def count_mentions(text: str, value: str) -> int:
    """How often `value` stands in `text` as whole words, whatever the case."""
    return sum(1 for _ in _places(text, value))


def _places(text: str, value: str) -> Iterator[int]:
    text, value = text.casefold(), value.casefold()
    start = text.find(value)
    while start >= 0:
        end = start + len(value)
        if not (start and _is_word(text[start - 1])) and not (end < len(text) and _is_word(text[end])):
            yield start
        start = text.find(value, start + 1)


def _is_word(letter: str) -> bool:
    return letter.isalnum() or letter == "_"
