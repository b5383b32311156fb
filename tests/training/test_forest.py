"""The training split as trees: nothing of the benchmark, whole samples, ids as serving makes them."""

from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from components.errors import DataError
from components.rcmu import Split, normalise, prompt_of
from components.rcmu.tables import read_contexts, read_scenes, read_turns
from components.training.forest import TASKS, Forest, plant
from components.training.processor import Processor
from tests.training.conftest import prompt, scene, write_data

ANSWERS = ("Ada.", "It belongs to Ada Moss.[1]", "Cannot be answered. The description does not specify it.")


@pytest.fixture
def data(tmp_path: Path) -> Path:
    folder = tmp_path / "data"
    folder.mkdir()
    scenes = [scene("a", Split.TRAIN, 56), scene("b", Split.TRAIN, 112, 84), scene("z", Split.BENCHMARK, 56)]
    write_data(folder, scenes, ANSWERS)
    return folder


def planted(data: Path, processor: Processor, *, limit: int = 1000) -> Forest:
    return plant(data, data, processor, data.parent / f"forest-{limit}", limit=limit)


def sample_ids(forest: Forest, branch: int) -> list[int]:
    text_set = int(forest.text_set_of[branch])
    trunk = int(forest.trunk_of[text_set])
    parts = [(forest.trunks, trunk), (forest.text_sets, text_set), (forest.branches, branch)]
    return [token for kind, row in parts for token in forest.ids(kind, row).tolist()]


def test_only_the_training_split_is_planted(data: Path, processor: Processor) -> None:
    forest = planted(data, processor)
    assert forest.names() == {"scenes": ["a", "b"], "turns": [f"{s}/c0/t{n}" for s in "ab" for n in range(3)]}
    assert forest.grids.tolist() == [[4, 4], [6, 8]]
    assert [TASKS[task] for task in forest.tasks] == ["v2c"] * 6
    assert forest.report()["special_token_strings"]["a/c0/t0"] == ["<|im_end|>"]
    assert forest.image(1).size == (112, 84)


def test_joined_segments_are_the_sample_as_serving_makes_it(data: Path, processor: Processor) -> None:
    forest = planted(data, processor)
    scenes = {s.scene_id: s for s in read_scenes(data)}
    contexts = {c.context_id: c for c in read_contexts(data)}
    turns = {turn.turn_id: turn for turn in read_turns(data)}
    for branch, turn_id in enumerate(forest.names()["turns"]):
        turn = turns[turn_id]
        asked = prompt_of(scenes[turn.scene_id], contexts[turn.context_id], turn.question)
        answer = processor.answer_ids(turn.answer)
        tokens = {"a": 4, "b": 12}[turn.scene_id]
        assert sample_ids(forest, branch) == processor.prompt_ids(asked, image_tokens=tokens) + answer
        assert forest.answer_tokens[branch] == len(answer)


any_text = st.text(max_size=40).map(normalise).filter(bool)


@settings(max_examples=100, deadline=None)
@given(text=any_text, question=any_text)
def test_the_cut_before_the_question_changes_no_id(processor: Processor, text: str, question: str) -> None:
    """The text of the last region and the question are one run of plain text for the tokenizer."""
    run = f" in the image: {text}\nAnswer.\n{question}"
    whole = processor.tokenizer(run, add_special_tokens=False, split_special_tokens=True)["input_ids"]
    before, after = run[: -len(question)], question
    parts = [
        processor.tokenizer(part, add_special_tokens=False, split_special_tokens=True)["input_ids"]
        for part in (before, after)
    ]
    assert parts[0] + parts[1] == whole
    asked = prompt(text, question)
    cut = processor.context_ids(asked) + processor.question_ids(question)
    assert processor.prompt_ids(asked, image_tokens=1) == processor.trunk_ids(image_tokens=1) + cut


def test_a_long_sample_is_dropped_whole_and_listed(data: Path, processor: Processor) -> None:
    whole = planted(data, processor)
    lengths = [len(sample_ids(whole, branch)) for branch in range(len(whole))]
    limit = sorted(lengths)[2]
    forest = planted(data, processor, limit=limit)
    turns = whole.names()["turns"]
    dropped = [turn for turn, length in zip(turns, lengths, strict=True) if length > limit]
    assert forest.report()["dropped_too_long"] == dropped
    assert forest.names()["turns"] == [turn for turn in turns if turn not in dropped]
    assert forest.report()["samples"] == len(forest) == 6 - len(dropped)
    assert forest.report()["answer_tokens"] == forest.answer_tokens.sum()


def test_nothing_that_fits_is_an_error_and_leaves_nothing(data: Path, processor: Processor) -> None:
    with pytest.raises(DataError, match="6 are longer") as caught:
        planted(data, processor, limit=10)
    assert "sequence_tokens" in caught.value.hint
    assert not (data.parent / "forest-10").exists()


def test_what_was_planted_is_kept(data: Path, processor: Processor) -> None:
    first = planted(data, processor)
    (data / "turns-train-00000.parquet").unlink()  # a resumed training reads no text again
    assert len(planted(data, processor)) == len(first)


def test_the_same_data_gives_the_same_bytes(data: Path, processor: Processor, tmp_path: Path) -> None:
    one, two = (plant(data, data, processor, tmp_path / name, limit=1000).folder for name in ("one", "two"))
    names = {path.name for path in one.iterdir()}
    assert names == {"ids.bin", "images.bin", "index.npz", "names.json", "report.json"}
    for name in names - {"index.npz"}:  # a zip file: it holds clocks
        assert (one / name).read_bytes() == (two / name).read_bytes(), name
