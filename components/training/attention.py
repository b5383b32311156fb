"""The tree mask where it is used: dense on the CPU, FlexAttention's blocks on a GPU.

Both come from `branch_ends`: a token attends to those before it whose descendants it is among, and to
itself. transformers 5.23 refuses "flex_attention" for Qwen2-VL by name, but takes an attention function
that is registered; the vision tower, whose images are attended one by one, keeps sdpa.
"""

from functools import cache
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import torch
    from torch.nn.attention.flex_attention import BlockMask

FLEX = "rcvit_flex"
# Own choice for the CPU; which of sdpa and eager is faster there depends on the lengths.
DENSE = "sdpa"
BLOCK = 128  # tokens: sequences on a GPU are padded to a multiple


def dense_mask(ends: "torch.Tensor") -> "torch.Tensor":
    """Who attends to whom, shape (batch, 1, L, L), rows are queries; `ends` has shape (batch, L)."""
    import torch

    at = torch.arange(ends.shape[1], device=ends.device)
    return ((at[None, :] <= at[:, None]) & (at[:, None] < ends[:, None, :]))[:, None]


def block_mask(ends: "torch.Tensor") -> "BlockMask":
    """The same as FlexAttention takes it; blocks in which nobody attends to anybody are left out."""
    from torch.nn.attention.flex_attention import create_block_mask

    def attends(
        batch: "torch.Tensor", head: "torch.Tensor", query: "torch.Tensor", key: "torch.Tensor"
    ) -> "torch.Tensor":
        return (key <= query) & (query < ends[batch, key])

    batch, length = ends.shape
    return create_block_mask(attends, batch, None, length, length, device=str(ends.device))


def register_flex() -> str:
    """Make FlexAttention known to transformers under the name that is returned."""
    from transformers import AttentionInterface

    AttentionInterface.register(FLEX, _flex_attention)
    return FLEX


def _flex_attention(
    module: "torch.nn.Module",
    query: "torch.Tensor",
    key: "torch.Tensor",
    value: "torch.Tensor",
    attention_mask: "BlockMask",
    scaling: float,
    **_: Any,
) -> "tuple[torch.Tensor, None]":
    """Attention of (batch, heads, L, width) tensors; the result has shape (batch, L, heads, width)."""
    attend = _compiled() if query.is_cuda else _plain()
    out = attend(query, key, value, block_mask=attention_mask, scale=scaling, enable_gqa=True)
    return out.transpose(1, 2).contiguous(), None


def _plain() -> Any:
    """Without a compiler, as on a CPU: correct and slow, and without a backward."""
    from torch.nn.attention.flex_attention import flex_attention

    return flex_attention


@cache
def _compiled() -> Any:
    import torch

    return torch.compile(_plain(), dynamic=False)
