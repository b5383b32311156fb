"""What the tiny base learns from: scenes, sets of texts and turns of its own, as the trainer reads them."""

import random
import sys
from collections.abc import Collection, Iterator
from pathlib import Path
from typing import Literal

from tqdm import tqdm

from components.generation.shard import write_context
from components.params import GenerationParams, SourceParams
from components.pretraining.tasks import box_turns, image_turns, listed_turns, looks_turns, text_turns
from components.rcmu import ContextSet, Scene, Split, Turn
from components.rcmu.tables import write_models
from components.sources.synthetic import draw_scene

# The image alone, what is at each of its boxes, the image with listed boxes, the texts alone, their boxes.
Subject = Literal["image", "looks", "listed", "texts", "boxes"]


def write_corpus(
    source: SourceParams,
    generation: GenerationParams,
    about: Collection[Subject],
    *,
    seed: int,
    split: Split,
    folder: Path,
) -> None:
    """Write scenes, context sets and turns into `folder`, an existing one.

    Every scene has a set without texts for each kind of questions about the image that is wanted, and
    `generation.context_sets` with texts. The scenes are others than those of any run of the flow: their ids,
    which with the seed decide all about them, are of another form.
    """
    scenes: list[Scene] = []
    contexts: list[ContextSet] = []
    turns: list[Turn] = []
    for number in tqdm(range(source.scenes or 0), desc=f"{split} scenes", unit="scene", mininterval=2):
        scene = draw_scene(f"base-{split}-{number:06d}", source, split=split, seed=seed)
        scenes.append(scene)
        for context, asked in _about(scene, generation, about, seed=seed):
            contexts.append(context)
            turns += asked
    write_models(folder, "scenes", scenes)
    write_models(folder, "contexts", contexts)
    write_models(folder, "turns", turns)
    print(f"{len(turns):,} turns about {len(scenes):,} scenes", file=sys.stderr, flush=True)


def _about(
    scene: Scene, generation: GenerationParams, about: Collection[Subject], *, seed: int
) -> Iterator[tuple[ContextSet, list[Turn]]]:
    rng = random.Random(f"{seed}:base:{scene.scene_id}")  # noqa: S311 - makes data, not keys
    for subject, ask in (("image", image_turns), ("looks", looks_turns)):
        if subject in about:
            bare = ContextSet(
                context_id=f"{scene.scene_id}/{subject}",
                scene_id=scene.scene_id,
                split=scene.split,
                regions=(),
            )
            yield bare, list(ask(scene, bare.context_id, rng))
    for number in range(generation.context_sets if set(about) - {"image", "looks"} else 0):
        context = write_context(scene, number, generation, seed=seed)
        turns = [*listed_turns(scene, context, rng)] if "listed" in about else []
        turns += text_turns(scene, context, rng) if "texts" in about else []
        turns += box_turns(scene, context, rng) if "boxes" in about else []
        yield context, turns
