"""Random weights that begin with induction heads, so that a small model learns early to look things up.

Reading a fact off a text takes a head that carries each token to the one after it, and a later head that
finds the tokens which followed the present one before, and copies them (Olsson et al., arXiv 2209.11895).
From plain random weights a model of this size spends most of its training on a plateau before these two
form. To begin near what attention looks like once trained is due to Trockman and Kolter (arXiv 2305.09828);
these weights are our own choice. Nothing is frozen: training changes them as all others.
"""

from collections.abc import Sequence
from itertools import cycle
from typing import TYPE_CHECKING, Any, NamedTuple

import torch

if TYPE_CHECKING:
    from transformers import Qwen2VLForConditionalGeneration

_EMBEDDING = 0.1  # standard deviation: clear of what the random parts of the layers add to it
_POSITIONAL = 5.0  # biases of a head that looks one to three tokens back
_CARRIED = 0.15  # how loudly it writes what it saw there
# Queries and keys of the heads that match tokens. At 3.0 a token that finds itself leaves no gradient to find
# another by, and what a word fits in the image is then never learned (docs/LOG.md).
_SHARP = 1.35
_COPIED = 0.7  # how loudly these write what they found
_FAINT = 0.3  # what is left there of the random weights
_BACK = 3  # tokens
# Digits lie on a curve by their size, so that a linear map can read how large a number is.
_CURVE = 0.6
_HARMONICS = 3
# Radians a token: fast turns tell neighbours apart, slow ones let words match over a distance.
_FAST, _SLOW = 0.02, 0.0101
# The subspaces are the same in all models of one shape, so that `carried` knows them of a trained one.
_SUBSPACES = 20260101


class _Subspaces(NamedTuple):
    """Orthonormal rows of the width of the model; as many as a head has that match, but for `copied`."""

    read: torch.Tensor  # what is seen of a token
    slots: Sequence[torch.Tensor]  # where that is written one, two, three tokens behind
    copied: torch.Tensor  # (width, width)


@torch.no_grad()
def begin_with_circuits(
    model: "Qwen2VLForConditionalGeneration", *, rope_theta: float, digits: Sequence[int]
) -> None:
    """Overwrite embeddings and parts of the first layer and of the upper half of a random model.

    Layer 0: three heads look one, two and three tokens back, by their biases alone, and write some of what
    they see into subspaces of their own. The upper half of the layers: a query is the token itself, a key
    what stood before it, and what is found is copied into the answer's embedding, a part by each head. Every
    second key-value head begins as like finds like, and copies nothing yet. What the layers below come to
    write is then looked up like any word.

    The numbers are torch's: its seed decides, but for the subspaces.

    Args:
        model: with its random weights.
        rope_theta: base of the rotary frequencies.
        digits: ids of 0 to 9, in order.
    """
    text: Any = model.model.language_model
    config = text.config
    width, half = config.hidden_size, config.hidden_size // config.num_attention_heads // 2
    speed = _speed(rope_theta, half)
    matching = _matching(rope_theta, half)
    read, slots, copied = _subspaces(width, len(matching))
    text.embed_tokens.weight.normal_(std=_EMBEDDING)
    _put_in_order(text.embed_tokens.weight, digits)
    _look_back(text.layers[0].self_attn, config, speed, read, slots)
    parts = cycle(torch.split(copied, 2 * half))
    for layer in text.layers[1:][-((len(text.layers) + 1) // 2) :]:
        for kv in range(config.num_key_value_heads):
            if kv % 2 == 0:
                _match(layer.self_attn, config, kv, matching, read, slots[0])
                _copy(layer.self_attn, config, kv, next(parts))
            else:
                _match(layer.self_attn, config, kv, matching, read, read)


def carried(embeddings: torch.Tensor, *, heads: int, rope_theta: float) -> torch.Tensor:
    """What marks a token as standing behind another: as the head that looks one token back writes it.

    A match head finds a token that has such a mark of a word as if the word stood before it.

    Args:
        embeddings: of the words, shape (words, width).
        heads: of the model's attention.
        rope_theta: as above.

    Returns:
        The marks, shape (words, width), as long as the embeddings are on average.
    """
    width = embeddings.shape[1]
    read, slots, _ = _subspaces(width, len(_matching(rope_theta, width // heads // 2)))
    marks: torch.Tensor = embeddings @ read.to(embeddings.device).T @ slots[0].to(embeddings.device)
    scaled: torch.Tensor = marks / marks.norm(dim=1, keepdim=True) * embeddings.norm(dim=1).mean()
    return scaled


def _speed(rope_theta: float, half: int) -> torch.Tensor:
    return torch.as_tensor(rope_theta ** (-torch.arange(half) / half))


def _matching(rope_theta: float, half: int) -> torch.Tensor:
    """The rows of a head that hardly turn with the distance."""
    slow = (_speed(rope_theta, half) <= _SLOW).nonzero().flatten()
    return torch.cat([slow, slow + half])


def _subspaces(width: int, number: int) -> _Subspaces:
    generator = torch.Generator().manual_seed(_SUBSPACES)
    read, written, copied = (_orthonormal(width, generator) for _ in range(3))
    return _Subspaces(read[:number], torch.split(written, number), copied)


def _put_in_order(embeddings: torch.Tensor, digits: Sequence[int]) -> None:
    """Cosines and sines of the first harmonics: neighbours lie near each other, and no two digits as one."""
    angles = torch.pi * (torch.arange(len(digits)) + 0.5) / len(digits)
    waves = torch.arange(1, _HARMONICS + 1) * angles[:, None]
    curve = torch.cat([waves.cos(), waves.sin()], dim=1)
    directions = _orthonormal(embeddings.shape[1])[: curve.shape[1]]
    embeddings[list(digits)] = _FAINT * embeddings[list(digits)] + _CURVE * curve @ directions


def _look_back(
    attention: Any, config: Any, speed: torch.Tensor, read: torch.Tensor, slots: Sequence[torch.Tensor]
) -> None:
    """Scores rise with the cosine of how far a key lies from the wanted distance, at every fast frequency."""
    half, size = len(speed), 2 * len(speed)
    fast = (speed > _FAST).nonzero().flatten()
    for kv in range(config.num_key_value_heads):
        attention.k_proj.bias[kv * size + fast] = _POSITIONAL
        values = attention.v_proj.weight[kv * size : (kv + 1) * size]
        values *= _FAINT
        values[: len(read)] = read
    for head in range(min(_BACK, config.num_attention_heads, len(slots))):
        angle = -(head + 1) * speed[fast]
        attention.q_proj.bias[head * size + fast] = _POSITIONAL * angle.cos()
        attention.q_proj.bias[head * size + half + fast] = _POSITIONAL * angle.sin()
        output = attention.o_proj.weight[:, head * size : (head + 1) * size]
        output *= _FAINT
        output[:, : len(read)] = _CARRIED * slots[head].T


def _match(
    attention: Any, config: Any, kv: int, rows: torch.Tensor, read: torch.Tensor, seen: torch.Tensor
) -> None:
    """One key-value head and the query heads that share it; `seen` is what keys tell of their token."""
    size, per = _sizes(config)
    keys = attention.k_proj.weight[kv * size : (kv + 1) * size]
    keys *= _FAINT
    keys[rows] = _SHARP * seen
    queries = attention.q_proj.weight.view(-1, size, read.shape[1])[kv * per : (kv + 1) * per]
    queries *= _FAINT
    queries[:, rows] = _SHARP * read


def _copy(attention: Any, config: Any, kv: int, part: torch.Tensor) -> None:
    """The same heads: of what they find, this part of the embedding."""
    size, per = _sizes(config)
    attention.v_proj.weight[kv * size : (kv + 1) * size] = part
    for head in range(kv * per, (kv + 1) * per):
        output = attention.o_proj.weight[:, head * size : (head + 1) * size]
        output *= _FAINT
        output += _COPIED / per * part.T


def _sizes(config: Any) -> tuple[int, int]:
    """Of a head, and how many query heads share a key-value head."""
    heads = config.num_attention_heads
    return config.hidden_size // heads, heads // config.num_key_value_heads


def _orthonormal(size: int, generator: torch.Generator | None = None) -> torch.Tensor:
    basis: torch.Tensor = torch.linalg.qr(torch.randn(size, size, generator=generator)).Q
    return basis
