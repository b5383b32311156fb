"""The third lesson: the labels of packed lines are theirs, and the language model alone learns."""

import math
from pathlib import Path

import pytest
import torch

from components.pretraining.answers import lines_in, teach_answers
from components.pretraining.corpus import Subject, write_corpus
from components.pretraining.lessons import Report
from components.pretraining.lines import labels_of, lines_of
from components.pretraining.recipe import Answers
from components.rcmu import Split
from components.rcmu.tables import read_contexts, read_scenes
from components.training.collator import Assembler, Collator
from components.training.forest import plant
from components.training.packing import Stream
from components.training.processor import Processor
from tests.pretraining.conftest import GENERATION, SOURCE, Fresh


@pytest.fixture(scope="module")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("corpus")
    write_corpus(SOURCE, GENERATION, ("listed", "texts"), seed=3, split=Split.TRAIN, folder=folder)
    return folder


LOOKS: tuple[Subject, ...] = ("looks",)


def lesson(steps: int) -> Answers:
    return Answers(
        about=("listed", "texts"), source=SOURCE, generation=GENERATION, layers=2, word_layers=2,
        asked_layers=3, steps=steps, sequences=1, sequence_tokens=900, copies=2, learning_rate=8e-3,
        query_key_decay=None,
    )  # fmt: skip


def test_lines_of_packed_trees_are_labelled_as_their_own(
    processor: Processor, corpus: Path, tmp_path: Path
) -> None:
    forest = plant(corpus, corpus, processor, tmp_path / "forest", limit=900)
    scenes = {scene.scene_id: scene for scene in read_scenes(corpus)}
    contexts = list(read_contexts(corpus))
    lines = [lines_of(scenes[context.scene_id], context, processor) for context in contexts]
    told = {(k, region.text) for context in contexts for k, region in enumerate(context.regions, start=1)}
    stream, assemble = Stream(forest, budget=900, seed=1), Assembler(forest, processor)
    packed = [stream[number] for number in range(12)]
    batch = Collator(processor, length=None)([assemble(sequence) for sequence in packed])
    found = [lines_in(sequence, forest, lines) for sequence in packed]
    labels = labels_of(batch["input_ids"], found, processor)
    assert len(labels.looks) == int(labels.ends.sum()) == sum(map(len, found)) > 20
    for ids, ends, numbers, own in zip(batch["input_ids"], labels.ends, labels.numbers, found, strict=True):
        for end, line in zip(ends.nonzero().flatten().tolist(), own, strict=True):
            behind = end + 1 + len(line.kinds)
            rest = processor.tokenizer.decode(ids[end:behind])
            assert rest.startswith("<|box_end|> in the image: ")
            assert rest.endswith("\n")
            assert (line.number, rest.removeprefix("<|box_end|> in the image: ").rstrip("\n")) in told
            assert set(numbers[end:behind].tolist()) == {line.number}


def test_the_language_model_learns_and_nothing_else_changes(
    processor: Processor, corpus: Path, fresh: Fresh, tmp_path: Path
) -> None:
    torch.set_num_threads(1)
    before = fresh().state_dict()
    reports: list[Report] = []
    for steps in (4, 4, 140):
        taught = fresh()
        folder = tmp_path / str(len(reports))
        folder.mkdir()
        reports.append(teach_answers(taught, processor, corpus, lesson(steps), seed=5, work=folder))
    assert reports[0] == reports[1]
    assert reports[2]["answers"] > 0.4 > reports[0]["answers"]
    assert not taught.model.language_model.layers[1]._forward_hooks
    for name, weights in taught.state_dict().items():
        assert torch.equal(weights, before[name]) == ("language_model.layers." not in name), name


def test_questions_about_the_image_alone_have_no_lines(
    processor: Processor, fresh: Fresh, tmp_path: Path
) -> None:
    bare = tmp_path / "corpus"
    bare.mkdir()
    write_corpus(SOURCE, GENERATION, LOOKS, seed=3, split=Split.TRAIN, folder=bare)
    taught = fresh()
    report = teach_answers(taught, processor, bare, lesson(3), seed=5, work=tmp_path)
    assert math.isnan(report["color"])
    assert report["answers"] >= 0.0
    assert all(torch.isfinite(weights).all() for weights in taught.state_dict().values())
