"""Scenes with people, animals and things, and what the rich route makes of them."""

import random
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from components.generation import write_turns
from components.params import GenerationParams
from components.rcmu import Box, ContextRegion, ContextSet, Fact, Region, Scene, Split, Task, Turn
from components.rcmu.tables import read_contexts, read_scenes, read_turns

RICH = GenerationParams(route="rich", context_sets=2, facts_per_text=5, questions_per_task=2)
LABELS = ("person", "woman", "dog", "car", "handbag", "man", "bird", "book", "skis", "chair", "boy")


class Data(NamedTuple):
    folder: Path
    scenes: dict[str, Scene]
    contexts: dict[str, ContextSet]
    turns: list[Turn]

    def lines(self) -> Iterator[tuple[ContextSet, ContextRegion, Region]]:
        for context in self.contexts.values():
            for line in context.regions:
                yield context, line, self.scenes[context.scene_id].regions[line.region]

    def of(self, *tasks: Task) -> list[Turn]:
        found = [turn for turn in self.turns if turn.task in tasks]
        assert found
        return found


def scene_of(number: int, split: Split) -> Scene:
    """Two to six objects in a row, some of one label."""
    rng = random.Random(f"{split}{number}")
    labels = [rng.choice(LABELS) for _ in range(rng.randint(2, 6))]
    thirds = ("on the left", "in the middle", "on the right")
    regions = [
        Region(
            instance_id=f"{split}-{number}-{place}",
            label=label,
            box=Box(x1=place * 150, y1=0, x2=place * 150 + 140, y2=500),
            expression=f"the {label} with badge {place + 1}",
            facts=(Fact(key="position", value=thirds[place * 3 // len(labels)]),),
        )
        for place, label in enumerate(labels)
    ]
    name = f"{split}-{number}"
    return Scene(scene_id=name, split=split, image=b"", width=9, height=9, regions=tuple(regions))


def make(scenes: Path, turns: Path, params: GenerationParams = RICH) -> Data:
    turns.mkdir()
    finished = turns.with_name(f"{turns.name}-shards")
    write_turns(scenes, params, seed=5, folder=turns, finished=finished)
    return Data(
        turns,
        {scene.scene_id: scene for scene in read_scenes(scenes)},
        {context.context_id: context for context in read_contexts(turns)},
        list(read_turns(turns)),
    )
