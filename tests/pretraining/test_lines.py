"""The second lesson: which token is to say what, and that the lower layers, and nothing else, learn it."""

import random
import re
from collections.abc import Sequence

import pytest
import torch

from components.generation.shard import write_context
from components.pretraining.lines import (
    LINES,
    Labels,
    judge_lines,
    judge_words,
    likeness_of,
    prompts_of,
    repeated,
    teach_lines,
)
from components.pretraining.recipe import Lines
from components.rcmu import ContextSet, Scene, Split
from components.sources.geometry import POSITIONS
from components.sources.synthetic import COLORS, SHAPES, SIZES, draw_scene
from components.training.processor import IGNORED, Processor
from tests.pretraining.conftest import GENERATION, SOURCE, Fresh

LABELLED = (
    "color", "shape", "size", "position", "owner", "origin", "year", "price", "nickname",
)  # fmt: skip
KINDS = ("color", "shape", "size", "position")


def labelled(
    drawn: Sequence[tuple[Scene, ContextSet]], processor: Processor
) -> tuple[torch.Tensor, Labels, torch.Tensor]:
    inputs, labels, words = prompts_of(drawn, processor, random.Random(1))
    return inputs["input_ids"], labels, words


def test_labels_stand_where_a_box_ends_and_along_its_line(processor: Processor) -> None:
    scenes = [draw_scene(f"drawn-{n}", SOURCE, split=Split.TRAIN, seed=3) for n in range(12)]
    contexts = [write_context(scene, 0, GENERATION, seed=3) for scene in scenes]
    rows, labels, _ = labelled(list(zip(scenes, contexts, strict=True)), processor)
    looks = iter(labels.looks.tolist())
    for scene, context, ids, ends, numbers in zip(
        scenes, contexts, rows, labels.ends, labels.numbers, strict=True
    ):
        for k, told in enumerate(context.regions, start=1):
            region = scene.regions[told.region]
            rest = processor.tokenizer.decode(ids[numbers == k])
            assert rest == f"<|box_end|> in the image: {told.text}\n"
            color, shape, size, position = next(looks)
            seen = {fact.key: fact.value for fact in region.facts}
            assert list(COLORS)[color] == seen["color"]
            assert list(SHAPES)[shape] == region.label
            assert list(SIZES)[size] == seen["size"]
            assert POSITIONS[position] == seen["position"]
        assert int(numbers.max()) == int(ends.sum()) == len(scene.regions)
        assert set(numbers[ends].tolist()) == set(range(1, len(scene.regions) + 1))
    assert next(looks, None) is None


def test_values_in_a_text_are_labelled_with_their_kind(processor: Processor) -> None:
    scenes = [draw_scene(f"drawn-{n}", SOURCE, split=Split.TRAIN, seed=3) for n in range(12)]
    two = GENERATION.model_copy(update={"facts_per_text": 2})
    contexts = [write_context(scene, 0, two, seed=3) for scene in scenes]
    rows, labels, _ = labelled(list(zip(scenes, contexts, strict=True)), processor)
    found = set()
    for context, ids, numbers, kinds in zip(contexts, rows, labels.numbers, labels.kinds, strict=True):
        assert ((kinds == IGNORED) | (numbers > 0)).all()
        for k, told in enumerate(context.regions, start=1):
            own = {
                LABELLED[n]: processor.tokenizer.decode(ids[(numbers == k) & (kinds == n)]).strip()
                for n in range(len(LABELLED))
                if ((numbers == k) & (kinds == n)).any()
            }
            assert [own.pop(kind) for kind in KINDS] == ["in", "the", "image", ":"]
            assert own == {fact.key: fact.value for fact in told.facts}
            found |= set(own)
    assert found == set(LABELLED) - set(KINDS)


def test_each_attribute_is_asked_of_its_own_token(processor: Processor, fresh: Fresh) -> None:
    scene = draw_scene("drawn", SOURCE, split=Split.TRAIN, seed=3)
    rows, labels, _ = labelled([(scene, write_context(scene, 0, GENERATION, seed=3))], processor)
    likeness = likeness_of(fresh(), processor)
    tokens = processor.tokenizer.convert_ids_to_tokens(rows[0])
    ends = labels.ends[0].nonzero().flatten().tolist()
    assert [tokens[end + 1 : end + 5] for end in ends] == [["Ġin", "Ġthe", "Ġimage", ":"]] * len(ends)
    hidden = torch.zeros(1, len(tokens), likeness.words["line"].shape[0])
    for number in range(1, len(ends) + 1):
        hidden[labels.numbers == number] = likeness.words["line"][:, number - 1]
    assert judge_lines(hidden, labels, likeness)[1]["line"] == 1.0
    for number in range(len(LABELLED)):
        hidden[labels.kinds == number] = likeness.words["kind"][:, number]
    assert judge_lines(hidden, labels, likeness)[1]["kind"] == 1.0
    for end, looks in zip(ends, labels.looks.tolist(), strict=True):
        for token, (kind, word) in enumerate(zip(KINDS, looks, strict=True), start=end + 1):
            hidden[0, token] = likeness.words[kind][:, word]
    report = judge_lines(hidden, labels, likeness)[1]
    assert {report[kind] for kind in KINDS} == {1.0}
    assert {report[f"found {kind}"] for kind in KINDS} != {1.0}
    for end, looks in zip(ends, labels.looks.tolist(), strict=True):
        for token, (kind, word) in enumerate(zip(KINDS, looks, strict=True), start=end + 1):
            hidden[0, token] = likeness.before[:, likeness.tokens[kind][word]]
    report = judge_lines(hidden, labels, likeness)[1]
    assert {report[f"found {kind}"] for kind in KINDS} == {1.0}


def test_the_question_is_of_all_words_for_looks_and_each_has_the_lines_that_it_fits(
    processor: Processor,
) -> None:
    scenes = [draw_scene(f"drawn-{n}", SOURCE, split=Split.TRAIN, seed=3) for n in range(12)]
    drawn = [(scene, write_context(scene, 0, GENERATION, seed=3)) for scene in scenes]
    rows, _, fitting = labelled(drawn, processor)
    orders, several = set(), 0
    for (scene, context), ids, words in zip(drawn, rows, fitting, strict=True):
        shown = [scene.regions[told.region] for told in context.regions]
        seen = [{region.label, *(fact.value.split()[-1] for fact in region.facts)} for region in shown]
        at = (words.sum(-1) > 0).nonzero().flatten().tolist()
        asked = [processor.tokenizer.decode(ids[token]).strip() for token in at]
        assert set(asked) == set().union(*seen)
        for token, word in zip(at, asked, strict=True):
            fits = [line for line, looks in enumerate(seen) if word in looks]
            assert words[token].nonzero().flatten().tolist() == fits
            assert words[token, fits].tolist() == pytest.approx([1 / len(fits)] * len(fits))
            several += len(fits) > 1
        question = processor.tokenizer.decode(ids).split("Which is")[1].split("<|im_end|>")[0]
        every = [*COLORS, *SHAPES, *SIZES, *(position.split()[-1] for position in POSITIONS)]
        assert sorted(question.split()) == sorted(every)
        orders.add(tuple(question.split()))
    assert fitting.shape == (*rows.shape, LINES)
    assert len(orders) == len(scenes)
    assert several > 5


def test_a_word_is_right_where_its_likeliest_line_is_one_that_it_fits(
    processor: Processor, fresh: Fresh
) -> None:
    likeness = likeness_of(fresh(), processor)
    words = torch.zeros(1, 4, LINES)
    words[0, 0, 0], words[0, 1, 1:3] = 1.0, 0.5
    line = likeness.words["line"].T
    right = torch.stack([line[0], line[1] + line[2], line[2], line[1]])[None]
    good, report = judge_words(right, words, likeness)
    bad, other = judge_words(right.roll(2, dims=1), words, likeness)
    assert report == {"word": 1.0}
    assert other["word"] < 1
    assert bad > good


def test_repeated_tokens_are_plain_and_end_as_they_began(processor: Processor) -> None:
    lengths = set()
    for seed in range(20):
        ids = repeated(processor, 3, random.Random(seed))
        assert torch.equal(ids[:, :40], ids[:, -40:])
        assert not set(ids.flatten().tolist()) & set(processor.tokenizer.all_special_ids)
        assert torch.equal(ids, repeated(processor, 3, random.Random(seed)))
        lengths.add(ids.shape[1])
    assert min(lengths) >= 80
    assert max(lengths) > 100


def test_the_language_model_learns_and_nothing_else_changes(processor: Processor, fresh: Fresh) -> None:
    torch.set_num_threads(1)
    taught, same, before = fresh(), fresh(), fresh().state_dict()
    lesson = Lines(
        source=SOURCE, generation=GENERATION, layers=2, word_layers=3, steps=80, images=8, copies=4,
        learning_rate=8e-3, query_key_decay=None,
    )  # fmt: skip
    right = [teach_lines(qwen, processor, lesson, seed=5) for qwen in (taught, same)]
    assert right[0] == right[1]
    assert right[0]["shape"] > 0.9  # it stands in the line
    assert right[0]["found shape"] > 0.9
    assert right[0]["copy"] > 0.05
    assert len(taught.model.language_model.layers) == 3
    assert all(parameter.requires_grad for parameter in taught.parameters())
    for name, parameter in taught.named_parameters():
        assert (parameter.grad is None) == ("language_model.layers." not in name), name
    for name, weights in taught.state_dict().items():
        trained = "language_model.layers." in name
        assert torch.equal(weights, before[name]) == (not trained), name
        assert torch.equal(weights, same.state_dict()[name]), name


def test_words_are_not_asked_before_their_layer_is_named(processor: Processor, fresh: Fresh) -> None:
    lesson = Lines(
        source=SOURCE, generation=GENERATION, layers=2, word_layers=None, steps=2, images=2, copies=2,
        learning_rate=8e-3, query_key_decay=None,
    )  # fmt: skip
    right = teach_lines(fresh(), processor, lesson, seed=5)
    assert "word" not in right
    asked = teach_lines(fresh(), processor, lesson.model_copy(update={"word_layers": 3}), seed=5)
    assert set(asked) == {"word", *right}


def test_queries_and_keys_alone_are_kept_short(processor: Processor, fresh: Fresh) -> None:
    lesson = Lines(
        source=SOURCE, generation=GENERATION, layers=2, word_layers=None, steps=1, images=2, copies=2,
        learning_rate=8e-3, query_key_decay=None,
    )  # fmt: skip
    free, short, before = fresh(), fresh(), fresh().state_dict()
    teach_lines(free, processor, lesson, seed=5)
    teach_lines(short, processor, lesson.model_copy(update={"query_key_decay": 50.0}), seed=5)
    rate = 8e-3 / 30  # of the first step
    for name, weights in short.state_dict().items():
        kept = before[name] * (1 - 50.0 * rate) if re.search(r"[qk]_proj", name) else before[name]
        freely = free.state_dict()[name] - before[name] * (1 - 0.01 * rate * (weights.dim() == 2))
        if "language_model.layers." in name:
            torch.testing.assert_close(weights - kept, freely, rtol=0, atol=1e-5)
