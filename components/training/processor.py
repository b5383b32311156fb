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
_START, _END = Piece(text="<|im_start|>", special=True), Piece(text="<|im_end|>", special=True)


class Pixels(NamedTuple):
    """An image as patches: values of shape (patches, 3*2*14*14), grid (time, height, width) in patches."""

    values: "torch.Tensor"
    grid: "torch.Tensor"

    @property
    def tokens(self) -> int:
        """Visual tokens after merging 2 x 2 patches."""
        return int(self.grid.prod()) // 4


def trunk_pieces(image_tokens: int) -> list[Piece]:
    """The chat up to and with the image, as Qwen2-VL's chat template writes it, one pad per visual token."""
    return [
        *(_START, Piece(text=f"system\n{SYSTEM_MESSAGE}"), _END, Piece(text="\n"), _START),
        *(Piece(text="user\n"), Piece(text="<|vision_start|>", special=True)),
        *[Piece(text=IMAGE_PAD, special=True)] * image_tokens,
        Piece(text="<|vision_end|>", special=True),
    ]


def context_pieces(prompt: Prompt) -> list[Piece]:
    """The prompt up to its question: the same for every question about these texts."""
    *lines, last = prompt_pieces(prompt)
    return [*lines, Piece(text=last.text.removesuffix(prompt.question))]


def question_pieces(question: str) -> list[Piece]:
    """The question to where the model goes on."""
    return [Piece(text=question), _END, Piece(text="\n"), _START, Piece(text="assistant\n")]


class Processor:
    """Tokenizer and image processor of one model folder."""

    def __init__(
        self, tokenizer: "PreTrainedTokenizerBase", image_processor: "Qwen2VLImageProcessorPil"
    ) -> None:
        self.tokenizer = tokenizer
        self.image_processor = image_processor
        self._ids_of_run = lru_cache(maxsize=100_000)(self._tokenise)
        self.image_pad = int(tokenizer.convert_tokens_to_ids(IMAGE_PAD))
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

    def digits(self) -> list[int]:
        """The ids of 0 to 9: Qwen2's pre-tokenizer lets digits stand alone."""
        return [int(self.tokenizer.convert_tokens_to_ids(str(digit))) for digit in range(10)]

    def pixels(self, image: "Image") -> Pixels:
        """Resize to the pixel budget, normalise and cut into patches."""
        batch = self.image_processor(images=[image], return_tensors="pt")
        return Pixels(values=batch["pixel_values"], grid=batch["image_grid_thw"][0])

    def grid(self, *, width: int, height: int) -> tuple[int, int]:
        """Height and width in patches that `pixels` gives an image of this size, without the image."""
        from transformers.models.qwen2_vl.image_processing_pil_qwen2_vl import smart_resize

        processor = self.image_processor
        patch, budget = processor.patch_size, processor.size
        resized = smart_resize(
            height,
            width,
            factor=patch * processor.merge_size,
            min_pixels=budget["shortest_edge"],
            max_pixels=budget["longest_edge"],
        )
        return resized[0] // patch, resized[1] // patch

    # A chat is cut in four: trunk, context, question, answer. The first cut lies at a special token, the
    # others behind a newline, where Qwen2's pre-tokenizer always ends a token and NFC joins nothing: for
    # normalised texts the ids of the parts are those of the whole.

    def trunk_ids(self, *, image_tokens: int) -> list[int]:
        """Ids of the chat up to and with the image."""
        return self._ids(trunk_pieces(image_tokens))

    def context_ids(self, prompt: Prompt) -> list[int]:
        """Ids of the prompt up to its question."""
        return self._ids(context_pieces(prompt))

    def question_ids(self, question: str) -> list[int]:
        """Ids of the question, to where the model goes on."""
        return self._ids(question_pieces(question))

    def answer_ids(self, answer: str) -> list[int]:
        """Ids of the answer and the `<|im_end|>` that closes it: all that is learned."""
        return self._ids([Piece(text=answer), _END])

    def prompt_ids(self, prompt: Prompt, *, image_tokens: int) -> list[int]:
        """Ids of the whole chat, to where the model goes on."""
        before = self.trunk_ids(image_tokens=image_tokens) + self.context_ids(prompt)
        return before + self.question_ids(prompt.question)

    def batch_for_generation(self, requests: Sequence[tuple[Prompt, "Image"]]) -> dict[str, "torch.Tensor"]:
        """Inputs of `generate` for a batch, padded on the left; shapes (batch, longest)."""
        return self.batch_for_scoring(requests, [()] * len(requests))

    def batch_for_scoring(
        self, requests: Sequence[tuple[Prompt, "Image"]], answers: Sequence[Sequence[int]]
    ) -> dict[str, "torch.Tensor"]:
        """The same with the ids of an answer behind each prompt: all answers end where the batch ends."""
        import torch

        pixels = [self.pixels(image) for _, image in requests]
        rows = [
            [*self.prompt_ids(prompt, image_tokens=image.tokens), *answer]
            for (prompt, _), image, answer in zip(requests, pixels, answers, strict=True)
        ]
        longest = max(len(row) for row in rows)
        pad = self.tokenizer.pad_token_id
        ids = torch.tensor([[pad] * (longest - len(row)) + row for row in rows])
        mask = torch.tensor([[0] * (longest - len(row)) + [1] * len(row) for row in rows])
        return {
            "input_ids": ids,
            "attention_mask": mask,
            "mm_token_type_ids": (ids == self.image_pad).int(),
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
