"""From prompt, image and answer to model inputs, and back from ids to text.

A thin processor of our own: transformers' Qwen2VLProcessor needs torchvision, which has no CPU build
everywhere. It saves the files that AutoProcessor and vLLM read where they run.

Text from outside never becomes a special token. The chat is a list of pieces; it is split only at the
special tokens that the template itself writes, and each run between is tokenised with special tokens
off. For texts without special-token strings the ids equal those of the whole string.
"""

from collections.abc import Sequence
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from components.rcmu import SPECIAL_TOKENS, Piece, Prompt, prompt_pieces

if TYPE_CHECKING:
    import torch
    from PIL.Image import Image
    from transformers import PreTrainedTokenizerBase, Qwen2VLImageProcessorPil

IGNORED = -100  # a label that carries no loss
SYSTEM_MESSAGE = "You are a helpful assistant."  # the chat template's default
IMAGE_PAD = "<|image_pad|>"


class Tokens(NamedTuple):
    """Ids of a chat, and as many labels: the answer's own ids, IGNORED elsewhere."""

    input_ids: list[int]
    labels: list[int]


class Pixels(NamedTuple):
    """An image as patches: values of shape (patches, 3*2*14*14), grid (time, height, width) in patches."""

    values: "torch.Tensor"
    grid: "torch.Tensor"

    @property
    def tokens(self) -> int:
        """Visual tokens after merging 2 x 2 patches."""
        return int(self.grid.prod()) // 4


def chat_pieces(prompt: Prompt, answer: str | None, *, image_tokens: int) -> list[Piece]:
    """One user turn, the image first, and the answer, as Qwen2-VL's chat template writes them.

    Joined, the pieces are the template's text with `<|image_pad|>` repeated per visual token; without an
    answer they end where the model goes on.
    """
    image = [
        Piece(text="<|vision_start|>", special=True),
        *[Piece(text=IMAGE_PAD, special=True)] * image_tokens,
        Piece(text="<|vision_end|>", special=True),
    ]
    start, end = Piece(text="<|im_start|>", special=True), Piece(text="<|im_end|>", special=True)
    pieces = [start, Piece(text=f"system\n{SYSTEM_MESSAGE}"), end, Piece(text="\n")]
    pieces += [start, Piece(text="user\n"), *image, *prompt_pieces(prompt), end, Piece(text="\n")]
    pieces += [start, Piece(text="assistant\n")]
    return pieces if answer is None else [*pieces, Piece(text=answer), end]


class Processor:
    """Tokenizer and image processor of one model folder."""

    def __init__(
        self, tokenizer: "PreTrainedTokenizerBase", image_processor: "Qwen2VLImageProcessorPil"
    ) -> None:
        self.tokenizer = tokenizer
        self.image_processor = image_processor
        self._ids_of_run = lru_cache(maxsize=100_000)(self._tokenise)
        self._special_ids = {token: tokenizer.convert_tokens_to_ids(token) for token in SPECIAL_TOKENS}

    @classmethod
    def from_folder(cls, folder: str | Path, *, revision: str | None = None) -> "Processor":
        """Read a model folder, or a hub model at a revision."""
        from transformers import AutoTokenizer, Qwen2VLImageProcessorPil

        return cls(
            AutoTokenizer.from_pretrained(folder, revision=revision),
            Qwen2VLImageProcessorPil.from_pretrained(folder, revision=revision),
        )

    def save_pretrained(self, folder: str | Path) -> None:
        """Write the tokenizer, chat template and image processor files."""
        self.tokenizer.save_pretrained(folder)
        self.image_processor.save_pretrained(folder)

    def id_of(self, special_token: str) -> int:
        """The id of a special token."""
        return int(self._special_ids[special_token])

    def pixels(self, image: "Image") -> Pixels:
        """Resize to the pixel budget, normalise and cut into patches."""
        batch = self.image_processor(images=[image], return_tensors="pt")
        return Pixels(values=batch["pixel_values"], grid=batch["image_grid_thw"][0])

    def encode(self, prompt: Prompt, answer: str | None, *, image_tokens: int) -> Tokens:
        """Ids of a chat with one image; labels on the answer and the `<|im_end|>` that closes it."""
        question = self._ids(chat_pieces(prompt, None, image_tokens=image_tokens))
        if answer is None:
            return Tokens(question, [IGNORED] * len(question))
        reply = self._ids([Piece(text=answer), Piece(text="<|im_end|>", special=True)])
        # "assistant\n" and the answer are one run for the template, but Qwen2's pre-tokenizer always
        # ends a token after a newline, so the cut does not change the ids of a normalised answer.
        return Tokens(question + reply, [IGNORED] * len(question) + reply)

    def batch_for_generation(self, requests: Sequence[tuple[Prompt, "Image"]]) -> dict[str, "torch.Tensor"]:
        """Inputs of `generate` for a batch, padded on the left; shapes (batch, longest)."""
        import torch

        pixels = [self.pixels(image) for _, image in requests]
        rows = [
            self.encode(prompt, None, image_tokens=image.tokens).input_ids
            for (prompt, _), image in zip(requests, pixels, strict=True)
        ]
        longest = max(len(row) for row in rows)
        pad = self.tokenizer.pad_token_id
        ids = torch.tensor([[pad] * (longest - len(row)) + row for row in rows])
        mask = torch.tensor([[0] * (longest - len(row)) + [1] * len(row) for row in rows])
        return {
            "input_ids": ids,
            "attention_mask": mask,
            "mm_token_type_ids": (ids == self.id_of(IMAGE_PAD)).int(),
            "pixel_values": torch.cat([image.values for image in pixels]),
            "image_grid_thw": torch.stack([image.grid for image in pixels]),
        }

    def decode(self, ids: "Sequence[int] | torch.Tensor") -> str:
        """The text of generated ids, special tokens left out, ends stripped."""
        return str(self.tokenizer.decode(ids, skip_special_tokens=True)).strip()

    def _ids(self, pieces: Sequence[Piece]) -> list[int]:
        ids: list[int] = []
        run = ""
        for piece in pieces:
            if not piece.special:
                run += piece.text
                continue
            ids += self._ids_of_run(run)
            run = ""
            ids.append(self.id_of(piece.text))
        return ids + list(self._ids_of_run(run))

    def _tokenise(self, run: str) -> tuple[int, ...]:
        if not run:
            return ()
        encoded = self.tokenizer(run, add_special_tokens=False, split_special_tokens=True)
        return tuple(encoded["input_ids"])
