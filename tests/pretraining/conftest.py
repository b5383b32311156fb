"""A very small model of the base's kind, with a tokenizer that knows the words of drawn scenes."""

from collections.abc import Callable
from typing import TYPE_CHECKING

import pytest

from components.params import SCRATCH, GenerationParams, ModelParams, ScratchParams, SourceParams
from components.rcmu.prompt import INSTRUCTION
from components.sources.geometry import POSITIONS
from components.sources.synthetic import COLORS, SHAPES, SIZES
from components.training.model import build_from_scratch, make_processor
from components.training.processor import Processor

if TYPE_CHECKING:
    from transformers import Qwen2VLForConditionalGeneration

Fresh = Callable[[], "Qwen2VLForConditionalGeneration"]
SHAPE = ScratchParams(
    vocab_size=700, hidden_size=64, intermediate_size=96, layers=3, heads=2, kv_heads=1, text_init=0.02,
    vision_init=0.08, vision_depth=1, vision_width=64, vision_heads=2, tie_word_embeddings=True,
    rope_theta=1e4, mrope_section=(2, 6, 8),
)  # fmt: skip
SOURCE = SourceParams(
    kind="synthetic", annotations=None, skip_broken=False,
    scenes=8, benchmark_share=0.5, max_regions=3, image_size=56,
    min_regions=1, twins_share=0.5,
)  # fmt: skip
GENERATION = GenerationParams(context_sets=2, facts_per_text=1, questions_per_task=1)
LINE = "[1]: The information of the star located at (10,20),(300,400) in the image: It is on the left.\n"


@pytest.fixture(scope="session")
def processor() -> Processor:
    words = [f"the {size} {color} {shape}" for size in SIZES for color in COLORS for shape in SHAPES]
    words += [f"it is {position}" for position in POSITIONS] * 20
    params = ModelParams(base=SCRATCH, revision=None, min_pixels=784, max_pixels=12544, scratch=SHAPE)
    return make_processor(params, lambda: [*words, *[LINE + INSTRUCTION] * 20])


@pytest.fixture(scope="session")
def fresh(processor: Processor) -> Fresh:
    """The same random weights each time."""
    return lambda: build_from_scratch(SHAPE, processor, seed=5)
