"""The first lesson: which token shows what, and that tower and merger, and nothing else, learn it."""

import io

import torch
from PIL import Image

from components.params import SourceParams
from components.pretraining.recipe import Sight
from components.pretraining.sight import teach_sight, tokens_of
from components.rcmu import Box, Fact, Region, Scene, Split
from components.sources.synthetic import COLORS, SHAPES, SIZES, draw_scene
from components.training.processor import IGNORED, Processor
from tests.pretraining.conftest import Fresh

SOURCE = SourceParams(
    kind="synthetic", annotations=None, skip_broken=False,
    scenes=2, benchmark_share=0.5, max_regions=2, image_size=112,
    min_regions=2, twins_share=0.5,
)  # fmt: skip
LESSON = Sight(source=SOURCE, steps=40, images=16, learning_rate=1.5e-2)


def scene(*regions: Region, size: int = 112) -> Scene:
    file = io.BytesIO()
    Image.new("RGB", (size, size), "white").save(file, "PNG")
    return Scene(
        scene_id="s", split=Split.TRAIN, image=file.getvalue(), width=size, height=size, regions=regions
    )


def region(number: int, box: Box, color: str, shape: str, size: str) -> Region:
    facts = (Fact(key="color", value=color), Fact(key="size", value=size))
    return Region(
        instance_id=f"s/{number}", label=shape, box=box, expression=f"the {color} {shape}", facts=facts
    )


def test_every_token_is_labelled_with_what_is_under_it(processor: Processor) -> None:
    # Four by four tokens of 250 each: the first object fills the token at row 0, column 1 and a fifth of the
    # one to its right; the second the lower right corner, and 5 % of the two tokens above it.
    first = region(0, Box(x1=250, y1=0, x2=550, y2=250), "red", "star", "small")
    second = region(1, Box(x1=500, y1=737, x2=1000, y2=1000), "blue", "circle", "large")
    tokens = tokens_of([scene(first, second)], processor)
    words = tokens.words.reshape(4, 4, 3)

    def labels(color: str, shape: str, size: str) -> list[int]:
        return [
            1 + list(COLORS).index(color),
            1 + list(SHAPES).index(shape),
            1 + list(SIZES).index(size),
        ]

    shown = {(0, 1): labels("red", "star", "small"), (0, 2): labels("red", "star", "small")}
    shown |= {(3, column): labels("blue", "circle", "large") for column in (2, 3)}
    shown |= {(2, column): [IGNORED] * 3 for column in (2, 3)}
    for row in range(4):
        for column in range(4):
            assert words[row, column].tolist() == shown.get((row, column), [0, 0, 0])
    assert tokens.places.tolist() == [[row, column] for row in range(4) for column in range(4)]
    assert tokens.grid.tolist() == [[1, 8, 8]]


def test_labels_of_drawn_scenes_name_every_object(processor: Processor) -> None:
    scenes = [draw_scene(f"drawn-{n}", SOURCE, split=Split.TRAIN, seed=3) for n in range(20)]
    tokens = tokens_of(scenes, processor).words.reshape(20, 16, 3)
    for drawn, words in zip(scenes, tokens, strict=True):
        wanted = {1 + list(SHAPES).index(seen.label) for seen in drawn.regions}
        assert wanted <= set(words[:, 1].tolist())


def test_tower_and_merger_learn_the_colors_and_nothing_else_changes(
    processor: Processor, fresh: Fresh
) -> None:
    torch.set_num_threads(1)
    taught, same, before = fresh(), fresh(), fresh().state_dict()
    right = [teach_sight(qwen, processor, LESSON, seed=5) for qwen in (taught, same)]
    assert right[0] == right[1]
    assert right[0]["color"] > 3 / len(COLORS)
    assert right[0]["ground"] > 0.5
    for name, weights in taught.state_dict().items():
        assert torch.equal(weights, before[name]) == (".visual." not in name), name
        assert torch.equal(weights, same.state_dict()[name]), name
