"""Model FLOPs of a training step and the share of the hardware's peak that they are (MFU).

A matrix product of N weights costs 2 N operations a token forward, 2 N for the gradient of its input
where something below trains, and 2 N for its own gradient where it trains itself; attention costs
4 x width operations per pair of a query and a key it sees, forward, and twice that backward (Chowdhery et
al., PaLM, appendix B, with the mask's true pairs instead of all). Recomputation does not count.
"""

from typing import TYPE_CHECKING, NamedTuple

from components.training.parts import part_of

if TYPE_CHECKING:
    from transformers import Qwen2VLForConditionalGeneration

# Dense bfloat16, FLOP/s, from the makers' data sheets; by a part of the device's name.
PEAKS = {"H100": 989e12, "H200": 989e12, "A100": 312e12, "A800": 312e12, "L40S": 362e12}


class Work(NamedTuple):
    """What a step has to do; sums over ranks and micro-batches."""

    tokens: int = 0
    labels: int = 0
    questions: int = 0
    pairs: int = 0  # query and key of the language model's attention
    patches: int = 0
    patch_pairs: int = 0


class Cost:
    """The operations of a model, trained as its parameters say."""

    def __init__(self, qwen: "Qwen2VLForConditionalGeneration") -> None:
        config = qwen.config
        weights = {"vision": 0, "merger": 0, "language": 0}
        trained = dict.fromkeys(weights, 0)
        for name, parameter in qwen.named_parameters():
            shape = getattr(parameter, "ds_shape", parameter.shape)  # whole also under ZeRO-3
            if len(shape) > 1 and not name.endswith(("embed_tokens.weight", "lm_head.weight")):
                size = 1
                for side in shape:
                    size *= side
                weights[part_of(name)] += size
                trained[part_of(name)] += size * parameter.requires_grad
        self.weights, self.trained = weights, trained
        text, vision = config.text_config, config.vision_config
        self.head = text.hidden_size * text.vocab_size
        self.head_trained = self.head * qwen.lm_head.weight.requires_grad
        self.text_width = text.hidden_size * text.num_hidden_layers
        self.vision_width = vision.embed_dim * vision.depth
        self.merged = vision.spatial_merge_size**2

    def operations(self, work: Work) -> float:
        """FLOPs of forward and backward."""
        below = self.trained["vision"] > 0
        vision = self._products("vision", work.patches, passes_on=below)
        vision += 4 * self.vision_width * work.patch_pairs * (3 if below else 1)
        below = below or self.trained["merger"] > 0
        merger = self._products("merger", work.patches / self.merged, passes_on=below)
        # The embedding lies below, and trains when the head does.
        below = below or self.trained["language"] > 0
        language = self._products("language", work.tokens, passes_on=below)
        language += 4 * self.text_width * work.pairs * (3 if below else 1)
        head = 2.0 * work.labels * (self.head * (1 + below) + self.head_trained)
        return float(vision + merger + language + head)

    def _products(self, part: str, rows: float, *, passes_on: bool) -> float:
        return 2.0 * rows * (self.weights[part] * (1 + passes_on) + self.trained[part])


def peak() -> float | None:
    """FLOP/s of this rank's device, None where it is not known, as on a CPU."""
    import torch

    if not torch.cuda.is_available():
        return None
    name = torch.cuda.get_device_name()
    return next((value for part, value in PEAKS.items() if part in name), None)
