"""What is labelled at questions and answers, read back off their words, and that the labels are judged."""

import random
import re
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

from components.generation.shard import write_context
from components.pretraining.corpus import write_corpus
from components.pretraining.lines import KINDS, LINES, likeness_of
from components.pretraining.routes import Route, Routes, judge_asked, route_of, routes_in
from components.pretraining.tasks import asked_of, listed_turns, skill_of, text_turns
from components.rcmu import ContextSet, Scene, Split, Turn
from components.rcmu.tables import read_contexts, read_scenes, read_turns
from components.sources.synthetic import draw_scene
from components.training.collator import Assembler, Collator
from components.training.forest import plant
from components.training.packing import Stream
from components.training.processor import IGNORED, Processor
from tests.pretraining.conftest import GENERATION, SOURCE, Fresh

TWO = GENERATION.model_copy(update={"facts_per_text": 2})
THREE = SOURCE.model_copy(update={"min_regions": 2})


def drawn(processor: Processor) -> Iterator[tuple[Scene, ContextSet, Turn, Route]]:
    for number in range(25):
        scene = draw_scene(f"routes-{number}", THREE, split=Split.TRAIN, seed=3)
        context = write_context(scene, 0, TWO, seed=3)
        rng = random.Random(number)
        for turn in (*listed_turns(scene, context, rng), *text_turns(scene, context, rng)):
            yield scene, context, turn, route_of(turn, scene, context, processor)


def said(scene: Scene, context: ContextSet, line: int) -> str:
    """All that is stated of a line less one or seen there, and its index."""
    told = context.regions[line]
    seen = scene.regions[told.region]
    return " ".join([told.text, seen.label, *(fact.value for fact in seen.facts), str(line + 1)])


def test_a_word_is_labelled_with_all_lines_that_it_fits_and_with_no_other(processor: Processor) -> None:
    one, several = 0, 0
    for scene, context, turn, route in drawn(processor):
        for word in re.findall(r"circle|square|star|red|blue|large|small", turn.question):
            fits = [n for n in range(len(context.regions)) if word in said(scene, context, n)]
            encoded = processor.tokenizer(
                turn.question, add_special_tokens=False, return_offsets_mapping=True
            )
            start = turn.question.index(word)
            tokens = [
                token
                for token, (first, last) in enumerate(encoded["offset_mapping"])
                if first < start + len(word) and last > start
            ]
            labelled = dict(route.words)
            assert tokens
            if fits:
                assert {labelled[token] for token in tokens} == {tuple(fits)}
            one, several = one + (len(fits) == 1), several + (len(fits) > 1)
    assert one > 20
    assert several > 20


def test_the_words_alone_tell_which_line_is_meant(processor: Processor) -> None:
    checked = 0
    for _, _, turn, route in drawn(processor):
        if skill_of(turn.turn_id) in ("listed_which", "index_to_fact", "fact_to_fact", "missing_fact"):
            line, _ = asked_of(turn.turn_id)
            meant = set.intersection(*(set(fits) for _, fits in route.words))
            # Looks are told apart by all their words, a fact by its own.
            assert line - 1 in meant
            assert len(meant) == 1
            checked += 1
    assert checked > 50


def test_along_an_answer_stand_the_line_and_the_kind_that_it_tells(processor: Processor) -> None:
    skills = set()
    for scene, context, turn, route in drawn(processor):
        tokens = processor.tokenizer(turn.answer, add_special_tokens=False)["input_ids"]
        assert len(route.lines) == len(route.kinds) == len(tokens) + 1
        asked, kind = asked_of(turn.turn_id)
        if asked:
            assert set(route.lines) == {asked - 1}
            assert set(route.kinds) == {KINDS.index(kind) if kind else IGNORED}
        for n, told in enumerate(context.regions):
            seen = scene.regions[told.region]
            facts = {f.key: f.value for f in (*told.facts, *seen.facts)} | {"shape": seen.label}
            own = [at for at, line in enumerate(route.lines[:-1]) if line == n]
            if not asked and own:
                parts = re.findall(rf"\[{n + 1}\] (\w[^\[]*)", turn.answer)
                text = processor.tokenizer.decode([tokens[at] for at in own])
                assert text.strip().rstrip("[").strip() == " ".join(parts).strip()
                for key, value in facts.items():
                    labelled = [tokens[at] for at in own if route.kinds[at] == KINDS.index(key)]
                    found = processor.tokenizer.decode(labelled).strip()
                    assert found == (value if re.search(rf"\b{value}\b", text) else "")
                skills.add(skill_of(turn.turn_id))
    assert skills == {"listed_all", "restate", "quote"}


@pytest.fixture(scope="module")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("corpus")
    write_corpus(SOURCE, TWO, ("looks", "listed", "texts"), seed=3, split=Split.TRAIN, folder=folder)
    return folder


def test_labels_of_a_batch_stand_at_their_own_tokens(
    processor: Processor, corpus: Path, tmp_path: Path
) -> None:
    forest = plant(corpus, corpus, processor, tmp_path / "forest", limit=900)
    scenes = {scene.scene_id: scene for scene in read_scenes(corpus)}
    contexts = {context.context_id: context for context in read_contexts(corpus)}
    turns = {turn.turn_id: turn for turn in read_turns(corpus)}
    ordered = [turns[turn_id] for turn_id in forest.names()["turns"]]
    routes = [route_of(t, scenes[t.scene_id], contexts[t.context_id], processor) for t in ordered]
    stream, assemble = Stream(forest, budget=900, seed=1), Assembler(forest, processor)
    batch = Collator(processor, length=None)([assemble(stream[number]) for number in range(6)])
    labels = routes_in(batch["branch_of"], routes)
    assert labels.words.shape == (*batch["branch_of"].shape, LINES)
    for row, own in enumerate(batch["branch_of"]):
        for branch in own[own >= 0].unique().tolist():
            here = own == branch
            question = processor.question_ids(ordered[branch].question)
            answer = processor.answer_ids(ordered[branch].answer)
            assert batch["input_ids"][row, here].tolist() == question + answer
            words = labels.words[row, here]
            assert [
                (token, tuple(fits.nonzero().flatten().tolist()))
                for token, fits in enumerate(words)
                if fits.sum() > 0
            ] == list(routes[branch].words)
            before = len(question) - 1
            for wanted, told in ((labels.lines, "lines"), (labels.kinds, "kinds")):
                found = wanted[row, here].tolist()
                assert tuple(found[before:-1]) == getattr(routes[branch], told)
                assert set(found[:before] + found[-1:]) == {IGNORED}
    bare = batch["branch_of"] < 0
    assert labels.words[bare].sum() == 0
    assert set(labels.lines[bare].tolist()) == set(labels.kinds[bare].tolist()) == {IGNORED}


def test_what_is_labelled_is_judged(processor: Processor, fresh: Fresh) -> None:
    likeness = likeness_of(fresh(), processor)
    asked = torch.tensor([[IGNORED, IGNORED, 2, 1]])
    kinds = torch.tensor([[IGNORED, IGNORED, 4, IGNORED]])
    routes = Routes(torch.zeros(1, 4, LINES), asked, kinds)
    line, kind = likeness.words["line"].T, likeness.words["kind"].T
    right = torch.stack([line[0], line[1], line[2] + kind[4], line[1]])[None]
    good, report = judge_asked(right, routes, likeness)
    bad, other = judge_asked(right.roll(1, dims=1), routes, likeness)
    assert report == {"asked line": 1.0, "asked kind": 1.0}
    assert other["asked line"] < 1
    assert bad > good
