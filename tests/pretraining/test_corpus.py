"""The corpus of a stage: what it asks about, the same bytes each time, and readable by the trainer."""

import filecmp
from pathlib import Path

import pytest

from components.params import GenerationParams, SourceParams
from components.pretraining.corpus import Subject, write_corpus
from components.pretraining.tasks import skill_of
from components.rcmu import Split
from components.rcmu.tables import read_contexts, read_scenes, read_turns
from components.training.forest import plant, tokenizer_texts
from components.training.processor import Processor
from components.training.tokenizer import train_tokenizer

SOURCE = SourceParams(
    kind="synthetic", annotations=None, skip_broken=False,
    scenes=6, benchmark_share=0.5, max_regions=3, image_size=56,
    min_regions=2, twins_share=0.8,
)  # fmt: skip
GENERATION = GenerationParams(context_sets=2, facts_per_text=2, questions_per_task=1)
ALL: tuple[Subject, ...] = ("image", "looks", "listed", "texts", "boxes")
FILES = tuple(f"{kind}-train-00000.parquet" for kind in ("scenes", "contexts", "turns"))


def written(folder: Path, about: tuple[Subject, ...] = ALL, seed: int = 3) -> Path:
    folder.mkdir()
    write_corpus(SOURCE, GENERATION, about, seed=seed, split=Split.TRAIN, folder=folder)
    return folder


def test_the_same_seed_gives_the_same_bytes_and_another_one_others(tmp_path: Path) -> None:
    first, second = written(tmp_path / "a"), written(tmp_path / "b")
    other = written(tmp_path / "c", seed=4)
    assert filecmp.cmpfiles(first, second, FILES, shallow=False)[0] == list(FILES)
    assert filecmp.cmpfiles(first, other, FILES, shallow=False)[1] == list(FILES)


@pytest.mark.parametrize(
    ("about", "shown"),
    [
        (("image",), {"caption"}),
        (("looks",), {"box_to_looks"}),
        (("listed",), {"listed_all"}),
        (("texts",), {"quote"}),
        (("boxes",), {"index_to_box"}),
        (ALL, {"caption", "box_to_looks", "listed_all", "quote", "index_to_box"}),
    ],
)
def test_it_asks_about_what_the_stage_says(
    tmp_path: Path, about: tuple[Subject, ...], shown: set[str]
) -> None:
    folder = written(tmp_path / "corpus", about)
    skills = {skill_of(turn.turn_id) for turn in read_turns(folder)}
    assert skills & {"caption", "box_to_looks", "listed_all", "quote", "index_to_box"} == shown
    asked_of = {turn.context_id for turn in read_turns(folder)}
    assert asked_of == {context.context_id for context in read_contexts(folder)}


def test_the_trainer_takes_every_turn_of_it(tmp_path: Path) -> None:
    from transformers import Qwen2VLImageProcessorPil

    folder = written(tmp_path / "corpus")
    tokenizer = train_tokenizer(tokenizer_texts(folder, folder), vocab_size=600)
    processor = Processor(
        tokenizer, Qwen2VLImageProcessorPil(size={"shortest_edge": 784, "longest_edge": 12544})
    )
    forest = plant(folder, folder, processor, tmp_path / "forest", limit=2000)
    assert len(forest) == sum(1 for _ in read_turns(folder))
    assert len(forest.grids) == sum(1 for _ in read_scenes(folder)) == 6
    empty = forest.text_sets.lengths() == 0
    assert empty.sum() == 6 * 2  # the image alone: no line and no instruction before the question
