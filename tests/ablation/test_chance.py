"""Chance levels against a guesser that is simulated, and options that differ in the value alone."""

import random
from collections import defaultdict

import pytest

from components.ablation.chance import without_image, without_link, without_texts
from components.ablation.choice import options_of
from components.ablation.variants import Data
from components.generation.facts import KINDS
from components.rcmu import Task, Turn, without_citations


def test_the_chance_level_is_what_a_guesser_without_a_link_gets(data: Data) -> None:
    """It takes any object of the asked label that has the asked kind of fact."""
    scenes = {scene.scene_id: scene for scene in data.scenes}
    contexts = {context.context_id: context for context in data.contexts}
    rng = random.Random(1)
    right, expected, guesses = defaultdict[Task, int](int), defaultdict[Task, float](float), 400
    for turn in data.turns:
        scene, context = scenes[turn.scene_id], contexts[turn.context_id]
        chance = without_link(turn, scene, context)
        if turn.task not in (Task.V2C, Task.C2V):
            assert chance is None
            continue
        assert chance is not None
        told = context.regions[turn.claims[0].k - 1]
        facts_of = {
            line.region: {
                f.key: f.value
                for f in (line.facts if turn.task is Task.V2C else scene.regions[line.region].facts)
            }
            for line in context.regions
        }
        key = next(k for k, v in facts_of[told.region].items() if v == turn.claims[0].value)
        label = scene.regions[told.region].label
        pool = [f[key] for r, f in facts_of.items() if scene.regions[r].label == label and key in f]
        right[turn.task] += sum(rng.choice(pool) == turn.claims[0].value for _ in range(guesses))
        expected[turn.task] += guesses * chance
    for task in (Task.V2C, Task.C2V):
        assert right[task] == pytest.approx(expected[task], rel=0.03)
        assert expected[task] > 0


def test_without_the_image_a_box_still_tells_size_and_part_of_the_image(data: Data) -> None:
    scenes = {scene.scene_id: scene for scene in data.scenes}
    contexts = {context.context_id: context for context in data.contexts}
    seen = set()
    for turn in data.turns:
        scene, context = scenes[turn.scene_id], contexts[turn.context_id]
        chance, linkless = without_image(turn, scene, context), without_link(turn, scene, context)
        if turn.task not in (Task.V2C, Task.C2V):
            assert chance is None
            continue
        assert chance is not None
        assert linkless is not None
        (claim,) = turn.claims
        told = context.regions[claim.k - 1]
        asked = scene.regions[told.region]
        if turn.task is Task.C2V:
            colors = ("red", "green", "blue", "yellow", "purple", "black")
            assert chance == (pytest.approx(1 / 6) if claim.value in colors else 1.0)
            continue
        key = next(fact.key for fact in told.facts if fact.value == claim.value)
        looks = {fact.key: fact.value for fact in asked.facts}
        values = []
        for line in context.regions:
            other = scene.regions[line.region]
            same = {fact.key: fact.value for fact in other.facts}
            fits = other.label == asked.label
            for told_by_box in ("size", "position"):
                if looks[told_by_box] in turn.question:
                    fits = fits and same[told_by_box] == looks[told_by_box]
            values += [fact.value for fact in line.facts if fits and fact.key == key]
        assert chance == pytest.approx(values.count(claim.value) / len(values))
        if linkless < 1:
            seen.add((looks["size"] in turn.question, looks["color"] in turn.question, chance == 1.0))
    assert {(True, False, True), (False, True, False)} <= seen


def test_without_the_texts_a_fact_is_one_of_its_kind_and_tells_no_object_apart(data: Data) -> None:
    scenes = {scene.scene_id: scene for scene in data.scenes}
    contexts = {context.context_id: context for context in data.contexts}
    checked = 0
    for turn in data.turns:
        scene, context = scenes[turn.scene_id], contexts[turn.context_id]
        chance = without_texts(turn, scene, context)
        if turn.task is Task.V2C:
            kinds = [k for k in KINDS.values() if turn.claims[0].value in k.values]
            assert chance in [1 / len(kind.values) for kind in kinds]
            checked += 1
        elif turn.task is Task.C2V:
            assert chance == without_link(turn, scene, context)
        else:
            assert chance is None
    assert checked > 20


def test_two_kinds_of_fact_may_have_one_value(data: Data) -> None:
    (turn, *_) = [turn for turn in data.turns if turn.task is Task.V2C]
    scene = {scene.scene_id: scene for scene in data.scenes}[turn.scene_id]
    context = {context.context_id: context for context in data.contexts}[turn.context_id]
    told = context.regions[turn.claims[0].k - 1]
    same = tuple(fact.model_copy(update={"value": turn.claims[0].value}) for fact in told.facts)
    regions = tuple(
        line.model_copy(update={"facts": same}) if line is told else line for line in context.regions
    )
    chance = without_link(turn, scene, context.model_copy(update={"regions": regions}))
    assert chance is not None
    assert 0 < chance <= 1


def test_options_differ_in_the_value_alone(data: Data) -> None:
    checked = 0
    for turn in data.turns:
        options = options_of(turn)
        if turn.task not in (Task.V2C, Task.C2V):
            continue
        (claim,) = turn.claims
        assert options[0] == without_citations(turn.answer)
        assert len(set(options)) == len(options) == 1 + len(turn.other_values)
        for option, value in zip(options[1:], turn.other_values, strict=True):
            head, _, tail = options[0].rpartition(claim.value)
            assert option == head + value + tail
        checked += len(options) > 1
    assert checked > 30


def test_a_refusal_and_a_description_have_no_options(data: Data) -> None:
    others = [t for t in data.turns if t.task in (Task.UNANSWERABLE_V2C, Task.RCID) and len(t.claims) != 1]
    assert others
    assert {options_of(turn) for turn in others} == {()}


def test_a_value_that_stands_twice_is_exchanged_at_its_last_place(data: Data) -> None:
    (turn, *_) = [turn for turn in data.turns if turn.task is Task.C2V]
    twice = turn.model_copy(update={"answer": "The red one is red.[1]", "other_values": ("blue",)})
    claim = turn.claims[0].model_copy(update={"value": "red"})
    asked: Turn = twice.model_copy(update={"claims": (claim,)})
    assert options_of(asked) == ("The red one is red.", "The red one is blue.")
