"""What the base is taught: every answer is true, and none joins a text with the image."""

import random
import re
from collections.abc import Iterator

import pytest

from components.generation.facts import KINDS
from components.generation.shard import write_context
from components.params import GenerationParams, SourceParams
from components.pretraining.tasks import (
    asked_of,
    box_turns,
    image_turns,
    listed_turns,
    looks_turns,
    skill_of,
    text_turns,
)
from components.rcmu import ContextSet, Scene, Split, Task, Turn
from components.sources.synthetic import draw_scene

SOURCE = SourceParams(
    kind="synthetic", annotations=None, skip_broken=False,
    scenes=2, benchmark_share=0.5, max_regions=3, image_size=112,
    min_regions=2, twins_share=0.8,
)  # fmt: skip
GENERATION = GenerationParams(context_sets=2, facts_per_text=2, questions_per_task=1)
NUMBERS = range(40)
ASKING = {"color": ("color",), "size": ("big", "size"), "position": ("here", "hich part")}
COORDINATES = r"\(\d+,\d+\),\(\d+,\d+\)"


def drawn(number: int) -> tuple[Scene, ContextSet]:
    scene = draw_scene(f"tasks-{number}", SOURCE, split=Split.TRAIN, seed=5)
    return scene, write_context(scene, 0, GENERATION, seed=5)


def turns_about(scene: Scene, context: ContextSet, number: int) -> list[Turn]:
    return [
        *image_turns(scene, "bare", random.Random(number)),
        *looks_turns(scene, "bare/looks", random.Random(number)),
        *listed_turns(scene, context, random.Random(number)),
        *text_turns(scene, context, random.Random(number)),
        *box_turns(scene, context, random.Random(number)),
    ]


def all_turns() -> Iterator[tuple[Scene, ContextSet, Turn]]:
    for number in NUMBERS:
        scene, context = drawn(number)
        for turn in turns_about(scene, context, number):
            yield scene, context, turn


def recoloured(scene: Scene) -> Scene:
    """The same labels and boxes, other looks."""
    regions = []
    for region in scene.regions:
        facts = tuple(fact.model_copy(update={"value": f"other {fact.value}"}) for fact in region.facts)
        regions.append(region.model_copy(update={"facts": facts, "expression": "the other one"}))
    return scene.model_copy(update={"regions": tuple(regions), "caption": "Other."})


def retold(scene: Scene, context: ContextSet) -> ContextSet:
    """Other texts about the same regions in the same order."""
    texts = {told.region: told for told in write_context(scene, 1, GENERATION, seed=5).regions}
    return context.model_copy(update={"regions": tuple(texts[told.region] for told in context.regions)})


@pytest.mark.parametrize("number", NUMBERS)
def test_what_the_texts_answer_does_not_depend_on_the_looks(number: int) -> None:
    scene, context = drawn(number)
    for ask in (text_turns, box_turns):
        turns = list(ask(scene, context, random.Random(number)))
        assert turns == list(ask(recoloured(scene), context, random.Random(number)))
        assert len(turns) >= 2
        assert {turn.task for turn in turns} == {Task.CONTEXTUAL_QA}


@pytest.mark.parametrize("number", NUMBERS)
def test_what_the_image_answers_does_not_depend_on_the_texts(number: int) -> None:
    scene, context = drawn(number)
    turns = list(listed_turns(scene, context, random.Random(number)))
    other = retold(scene, context)
    assert other != context
    assert turns == list(listed_turns(scene, other, random.Random(number)))
    told = {fact.value for line in context.regions for fact in line.facts}
    words = " ".join(f"{turn.question} {turn.answer}" for turn in turns)
    for ask in (image_turns, looks_turns):
        words += " ".join(f"{turn.question} {turn.answer}" for turn in ask(scene, "b", random.Random(1)))
    assert not [value for value in told if re.search(rf"\b{re.escape(value)}\b", words)]


def test_every_skill_is_taught_and_no_question_twice() -> None:
    skills = {skill_of(turn.turn_id) for _, _, turn in all_turns()}
    assert skills == {
        *("caption", "count", "box_to_object", "object_to_box", "looks", "box_to_looks"),
        *("listed_all", "listed_looks", "listed_which"),
        *(
            "restate",
            "quote",
            "index_to_fact",
            "fact_to_index",
            "fact_to_fact",
            "index_to_box",
            "box_to_fact",
            "fact_to_box",
        ),
        *("missing_fact", "missing_object"),
    }
    asked = [(turn.scene_id, turn.context_id, turn.question) for _, _, turn in all_turns()]
    ids = [turn.turn_id for _, _, turn in all_turns() if "bare" not in turn.context_id]
    assert len(set(asked)) == len(asked)
    assert len(set(ids)) == len(ids)


def test_boxes_stand_beside_the_object_they_hold() -> None:
    checked = 0
    for scene, _, turn in all_turns():
        at = {(r.box.x1, r.box.y1, r.box.x2, r.box.y2): r for r in scene.regions}
        pairs: list[tuple[str, str]] = []
        if skill_of(turn.turn_id) == "caption":
            pairs = re.findall(rf"(\w+ \w+ \w+) at ({COORDINATES})", turn.answer)
            assert len(pairs) == len(scene.regions)
            lefts = [int(re.findall(r"\d+", box)[0]) for _, box in pairs]
            assert lefts == sorted(lefts)
        elif skill_of(turn.turn_id) == "box_to_object":
            pairs = [(turn.answer[4:-1], turn.question)]
        for words, box in pairs:
            region = at[tuple(map(int, re.findall(r"\d+", box)))]  # type: ignore[index]
            facts = {fact.key: fact.value for fact in region.facts}
            assert words.casefold() == f"{facts['size']} {facts['color']} {region.label}"
            checked += 1
    assert checked > 100


def test_every_box_is_asked_about_with_its_own_looks() -> None:
    for number in NUMBERS:
        scene, _ = drawn(number)
        turns = list(looks_turns(scene, "b", random.Random(number)))
        assert [skill_of(turn.turn_id) for turn in turns] == ["box_to_object", "box_to_looks"] * len(
            scene.regions
        )
        for turn in turns[1::2]:
            x1, y1, x2, y2 = map(int, re.findall(r"\d+", turn.question))
            (region,) = (
                r for r in scene.regions if (r.box.x1, r.box.y1, r.box.x2, r.box.y2) == (x1, y1, x2, y2)
            )
            (key,) = (key for key, words in ASKING.items() if any(word in turn.question for word in words))
            assert turn.answer == f"It is {next(f.value for f in region.facts if f.key == key)}."


def test_an_object_that_is_asked_for_by_looks_is_the_only_such() -> None:
    checked = 0
    for scene, context, turn in all_turns():
        if skill_of(turn.turn_id) == "listed_which":
            ((k),) = map(int, re.findall(r"\[(\d)\]", turn.answer))
            region = scene.regions[context.regions[k - 1].region]
            asked = turn.question.removeprefix("Which one is ").removesuffix("?")
            facts = {fact.key: fact.value for fact in region.facts}
            assert asked in (region.expression, f"the {facts['size']} {facts['color']} {region.label}")
            checked += 1
    assert checked > 20


def test_values_of_the_texts_stand_with_their_index() -> None:
    checked = 0
    for _, context, turn in all_turns():
        skill = skill_of(turn.turn_id)
        if skill == "restate":
            parts = re.findall(r"\[(\d)\] (.+?)\.\[(\d)\]", turn.answer)
            assert len(parts) == len(context.regions)
        elif skill in ("index_to_fact", "box_to_fact", "fact_to_fact"):
            parts = re.findall(r"()(.+?)\.\[(\d)\]$", turn.answer)
            assert len(parts) == 1
        else:
            continue
        for first, said, last in parts:
            assert first in ("", last)
            facts = context.regions[int(last) - 1].facts
            stated = [fact for fact in facts if KINDS[fact.key].states(fact.value) in said]
            assert len(stated) == (len(facts) if skill == "restate" else 1)
            checked += 1
    assert checked > 100


def test_an_id_tells_the_line_and_the_kind_of_fact_that_are_asked_for() -> None:
    kinds, several = set(), 0
    for scene, context, turn in all_turns():
        line, kind = asked_of(turn.turn_id)
        if len(set(turn.citations)) == 1 and len(context.regions) > 1 and "bare" not in turn.context_id:
            assert line == turn.citations[0]
        elif skill_of(turn.turn_id) != "missing_fact":
            assert (line, kind) == (0, "")
            several += 1
        if kind:
            told = context.regions[line - 1]
            facts = {fact.key: fact.value for fact in (*told.facts, *scene.regions[told.region].facts)}
            assert (kind not in facts) == (skill_of(turn.turn_id) == "missing_fact")
            assert facts.get(kind, KINDS[kind].noun if kind in KINDS else "") in turn.answer
            kinds.add(kind)
    assert kinds == {"color", "size", "position", "owner", "origin", "year", "price", "nickname"}
    assert several > 100


def test_a_fact_of_two_texts_asks_for_none_of_them() -> None:
    scene, context = drawn(0)
    same = context.regions[0].facts
    regions = tuple(told.model_copy(update={"facts": same}) for told in context.regions)
    shared = context.model_copy(update={"regions": regions})
    rng = random.Random(1)
    turns = [*text_turns(scene, shared, rng), *box_turns(scene, shared, rng)]
    skills = {skill_of(turn.turn_id) for turn in turns}
    assert not skills & {"fact_to_index", "fact_to_fact", "fact_to_box"}
    assert {"quote", "index_to_box"} <= skills


def test_an_object_that_is_there_is_not_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    scene, context = drawn(0)
    told = context.regions[0].facts[0]
    monkeypatch.setattr("components.pretraining.tasks.draw_facts", lambda *_, **__: (told,))
    turns = list(text_turns(scene, context, random.Random(1)))
    assert "missing_object" not in {skill_of(turn.turn_id) for turn in turns}
    assert "missing_fact" in {skill_of(turn.turn_id) for turn in turns}


def test_what_is_refused_is_not_there() -> None:
    checked = 0
    for _, context, turn in all_turns():
        if skill_of(turn.turn_id) == "missing_object":
            told = [KINDS[fact.key].states(fact.value) for line in context.regions for fact in line.facts]
            assert not [phrase for phrase in told if f"that {phrase}?" in turn.question]
            checked += 1
        elif skill_of(turn.turn_id) == "missing_fact":
            noun = re.search(r"specify the (.+?) of ", turn.answer)
            assert noun is not None
            assert not turn.citations
            checked += 1
    assert checked > 40
