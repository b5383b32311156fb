"""A small data set of the real generator."""

import random

import pytest

from components.ablation.variants import Data
from components.generation.questions import ask, strangers_of
from components.generation.shard import write_context
from components.params import GenerationParams, SourceParams
from components.rcmu import Split
from components.sources.synthetic import draw_scene

SOURCE = SourceParams(
    kind="synthetic", annotations=None, skip_broken=False,
    scenes=2, benchmark_share=0.5, max_regions=3, image_size=56,
    min_regions=2, twins_share=0.8,
)  # fmt: skip
GENERATION = GenerationParams(context_sets=1, facts_per_text=2, questions_per_task=2)


def generated(train: int, benchmark: int) -> Data:
    scenes = [draw_scene(f"t{n}", SOURCE, split=Split.TRAIN, seed=5) for n in range(train)]
    scenes += [draw_scene(f"b{n}", SOURCE, split=Split.BENCHMARK, seed=5) for n in range(benchmark)]
    contexts = [write_context(scene, 0, GENERATION, seed=5) for scene in scenes]
    strangers = {
        split: [
            s for a, c in zip(scenes, contexts, strict=True) if a.split is split for s in strangers_of(a, c)
        ]
        for split in Split
    }
    turns = [
        turn
        for scene, context in zip(scenes, contexts, strict=True)
        for turn in ask(scene, context, strangers[scene.split], per_task=2, rng=random.Random(scene.scene_id))
    ]
    return Data(scenes=tuple(scenes), contexts=tuple(contexts), turns=tuple(turns))


@pytest.fixture(scope="session")
def data() -> Data:
    return generated(24, 12)
