"""The loss of RCVIT on packed trees, around transformers' own Qwen2-VL."""

from typing import Any

import torch
from torch.nn.functional import cross_entropy
from torch.utils.checkpoint import checkpoint
from transformers import Qwen2VLForConditionalGeneration

from components.training.attention import FLEX, block_mask, dense_mask
from components.training.processor import IGNORED

# Own choice. In float32 with Qwen2-VL's vocabulary the logits of 1,024 positions are 0.6 GB.
POSITIONS_PER_CHUNK = 1024


class Rcvit(torch.nn.Module):
    """Qwen2-VL with the training loss; `qwen` is the model that is exported.

    The vision tower runs in every forward on every rank, on a dummy where a batch has no image, whose
    features count zero times: under ZeRO-3 a rank without an image would otherwise wait for ever for the
    others' gathering of the tower's weights.
    """

    accepts_loss_kwargs = True  # Trainer hands in the count of answer tokens over ranks and accumulation

    def __init__(self, qwen: Qwen2VLForConditionalGeneration, *, loss_chunks: int = 1) -> None:
        """Computes logits in `loss_chunks` parts: a fixed number, as every rank must ask for the head's
        weights equally often."""
        super().__init__()
        self.qwen = qwen
        self.config = qwen.config  # read by DeepSpeed's integration
        self.loss_chunks = loss_chunks

    def forward(
        self,
        input_ids: torch.Tensor,
        labels: torch.Tensor,
        position_ids: torch.Tensor,
        branch_ends: torch.Tensor,
        pixel_values: torch.Tensor | None = None,
        image_grid_thw: torch.Tensor | None = None,
        num_items_in_batch: torch.Tensor | None = None,
    ) -> dict[str, torch.Tensor]:
        """The loss, and the loss of every label alone.

        Args:
            input_ids: shape (batch, L).
            labels: shape (batch, L), already shifted: what each position is to predict.
            position_ids: shape (3, batch, L).
            branch_ends: shape (batch, L); `components.training.collator` says what they are.
            pixel_values: patches of all images in a row, shape (patches, 1176).
            image_grid_thw: shape (images, 3).
            num_items_in_batch: labels of the step over all ranks; those of this batch without it.

        Returns:
            loss: the sum over labels by their number.
            label_losses: shape (labels of this batch,), without a graph.
        """
        hidden = self.hidden_states(input_ids, position_ids, branch_ends, pixel_values, image_grid_thw)
        kept = labels != IGNORED
        losses = self._label_losses(hidden[kept], labels[kept])
        count = kept.sum() if num_items_in_batch is None else num_items_in_batch
        return {"loss": losses.sum() / count, "label_losses": losses.detach()}

    def hidden_states(
        self,
        input_ids: torch.Tensor,
        position_ids: torch.Tensor,
        branch_ends: torch.Tensor,
        pixel_values: torch.Tensor | None,
        image_grid_thw: torch.Tensor | None,
    ) -> torch.Tensor:
        """The language model's last hidden states, shape (batch, L, hidden)."""
        embedded = self.qwen.get_input_embeddings()(input_ids)
        if pixel_values is None:
            embedded = embedded + 0.0 * self._features(*self._dummy(embedded)).sum()
        else:
            is_image = (input_ids == self.config.image_token_id)[..., None]
            features = self._features(pixel_values, image_grid_thw)
            embedded = embedded.masked_scatter(is_image, features.to(embedded.dtype))
        text = self.qwen.model.language_model
        flex = text.config._attn_implementation == FLEX
        hidden: torch.Tensor = text(
            inputs_embeds=embedded,
            position_ids=position_ids,
            attention_mask=block_mask(branch_ends) if flex else dense_mask(branch_ends),
            use_cache=False,
        ).last_hidden_state
        return hidden

    def _features(self, pixel_values: torch.Tensor, grid: torch.Tensor | None) -> torch.Tensor:
        """Image tokens, shape (tokens, hidden). A frozen tower keeps no graph: nothing in it needs one."""
        visual: Any = self.qwen.model.visual
        features: torch.Tensor = visual(pixel_values.to(visual.dtype), grid_thw=grid).pooler_output
        return features

    def _dummy(self, like: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """The smallest image, four patches for one token."""
        vision = self.config.vision_config
        width = vision.in_channels * vision.temporal_patch_size * vision.patch_size**2
        return like.new_zeros(4, width), torch.tensor([[1, 2, 2]], device=like.device)

    def _label_losses(self, hidden: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
        """Cross entropy of every label, in float32, shape (labels,)."""

        def of_chunk(hidden: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
            return cross_entropy(self.qwen.lm_head(hidden).float(), labels, reduction="none")

        if self.loss_chunks == 1:
            return of_chunk(hidden, labels)
        parts = zip(
            torch.tensor_split(hidden, self.loss_chunks),
            torch.tensor_split(labels, self.loss_chunks),
            strict=True,
        )
        # The logits of a chunk are thrown away and made again in the backward.
        return torch.cat([checkpoint(of_chunk, *part, use_reentrant=False) for part in parts])
