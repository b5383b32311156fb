"""Each filter finds what it is named for, in turns that were sound before; sound turns pass all of them."""

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from components.generation import filters, write_turns
from components.generation.catalogue import catalogue
from components.generation.filters import FILTERS, Sieve
from components.params import GenerationParams
from components.rcmu import Claim, ContextSet, Fact, Scene, Task, Turn, prompt_of, render_prompt
from components.rcmu.tables import read_contexts, read_scenes, read_turns, write_models
from tests.generation.made import drawn, make_data

GENERATION = GenerationParams(context_sets=2, facts_per_text=2, questions_per_task=1)


class Asked(NamedTuple):
    """A turn with what it is about."""

    scene: Scene
    context: ContextSet
    turn: Turn


Plant = Callable[[Asked], Asked]


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("filters")
    source = drawn(30, benchmark_share=0.3, regions=(2, 3), twins_share=1.0)
    make_data(root, source, GENERATION, seed=2)
    return root


@pytest.fixture(scope="module")
def sound(root: Path) -> list[Asked]:
    scenes = {scene.scene_id: scene for scene in read_scenes(root / "scenes")}
    contexts = {context.context_id: context for context in read_contexts(root / "turns")}
    return [
        Asked(scenes[turn.scene_id], contexts[turn.context_id], turn) for turn in read_turns(root / "turns")
    ]


def found(asked: Asked) -> dict[str, tuple[str, ...]]:
    """What was left out, by filter."""
    sieve = Sieve()
    kept = list(sieve.passing(asked.scene, asked.context, [asked.turn]))
    assert len(kept) + sum(filtered.count for filtered in sieve.found.values()) == 1
    return {name: filtered.examples for name, filtered in sieve.found.items() if filtered.count}


def changed(asked: Asked, **values: Any) -> Asked:
    return asked._replace(turn=asked.turn.model_copy(update=values))


def with_region(asked: Asked, index: int, **values: Any) -> Asked:
    regions = list(asked.scene.regions)
    regions[index] = regions[index].model_copy(update=values)
    return asked._replace(scene=asked.scene.model_copy(update={"regions": tuple(regions)}))


def with_text(asked: Asked, k: int, **values: Any) -> Asked:
    regions = list(asked.context.regions)
    regions[k - 1] = regions[k - 1].model_copy(update=values)
    return asked._replace(context=asked.context.model_copy(update={"regions": tuple(regions)}))


def own_k(asked: Asked) -> int:
    """The region that the question is about."""
    if asked.turn.claims:
        return asked.turn.claims[0].k
    named = [
        (len(asked.scene.regions[line.region].expression), k)
        for k, line in enumerate(asked.context.regions, start=1)
        if asked.scene.regions[line.region].expression in asked.turn.question
    ]
    return max(named)[1]


def other_k(asked: Asked) -> int:
    """Another region, of the same class where there is one."""
    own = asked.scene.regions[asked.context.regions[own_k(asked) - 1].region]
    others = [
        (asked.scene.regions[line.region].label != own.label, k)
        for k, line in enumerate(asked.context.regions, start=1)
        if k != own_k(asked)
    ]
    return min(others)[1]


def text_of(asked: Asked, k: int) -> str:
    return asked.context.regions[k - 1].text


def same_expression_twice(asked: Asked) -> Asked:
    region = asked.context.regions[own_k(asked) - 1].region
    other = asked.context.regions[other_k(asked) - 1].region
    return with_region(asked, other, expression=asked.scene.regions[region].expression)


def looks_fit_another(asked: Asked) -> Asked:
    """The other object gets class and visible facts of the one that is meant, and no expression of it."""
    own = asked.scene.regions[asked.context.regions[own_k(asked) - 1].region]
    other = asked.context.regions[other_k(asked) - 1].region
    return with_region(asked, other, label=own.label, facts=own.facts, expression="the other one")


def fact_of_both(asked: Asked) -> Asked:
    """The other text states all that the text of the meant object states."""
    own = asked.context.regions[own_k(asked) - 1]
    other = asked.context.regions[other_k(asked) - 1]
    same_class = with_region(asked, other.region, label=asked.scene.regions[own.region].label)
    return with_text(same_class, other_k(asked), text=own.text, facts=own.facts)


def words_of_both(asked: Asked) -> Asked:
    """The other text says the same, and no fact of it is known."""
    return with_text(fact_of_both(asked), other_k(asked), facts=())


def value_not_in_text(asked: Asked) -> Asked:
    k, value = asked.turn.claims[0].k, asked.turn.claims[0].value
    # A sentence may begin with it.
    text = re.sub(re.escape(value), "somebody", text_of(asked, k), flags=re.IGNORECASE)
    return with_text(asked, k, text=text)


def value_inside_a_word(asked: Asked) -> Asked:
    k, value = asked.turn.claims[0].k, asked.turn.claims[0].value
    return with_text(asked, k, text=text_of(asked, k).replace(value, f"{value}y"))


def color_of_nothing(asked: Asked) -> Asked:
    return changed(asked, claims=(Claim(k=asked.turn.claims[0].k, value="turquoise"),))


def about_another(asked: Asked) -> Asked:
    """The other object has the same value: citation and claim fit, but it was not asked for."""
    claim, k = asked.turn.claims[0], other_k(asked)
    other = asked.context.regions[k - 1]
    both = with_region(
        asked,
        other.region,
        facts=(*asked.scene.regions[other.region].facts, Fact(key="x", value=claim.value)),
    )
    told = with_text(both, k, text=f"{text_of(asked, k)} {claim.value}.")
    told = told if asked.turn.task is Task.V2C else both
    mark = asked.turn.answer.replace(f"[{claim.k}]", f"[{k}]")
    return changed(told, claims=(Claim(k=k, value=claim.value),), citations=(k,), answer=mark)


def value_in_question(asked: Asked) -> Asked:
    return changed(asked, question=f"{asked.turn.question[:-1]}, {asked.turn.claims[0].value.upper()}?")


def seen_value_in_text(asked: Asked) -> Asked:
    k, value = asked.turn.claims[0].k, asked.turn.claims[0].value
    return with_text(asked, k, text=f"{text_of(asked, k)} It is {value}.")


def asked_fact_is_told(asked: Asked) -> Asked:
    k = own_k(asked)
    return with_text(
        asked,
        k,
        facts=tuple(
            Fact(key=key, value="anything") for key in ("owner", "origin", "year", "price", "nickname")
        ),
    )


def asked_fact_in_words(asked: Asked) -> Asked:
    """In the text alone: no fact of it is known."""
    k = own_k(asked)
    said = "It is owned by Ada Moss. It comes from Rome. In 1984 it was bought. It cost 54 dollars."
    return with_text(asked, k, text=f"{text_of(asked, k)} {said} It goes by the name Pixel.")


def fitting_object(asked: Asked) -> Asked:
    """An object of the asked class gets a text with the asked fact."""
    label = asked.turn.question.split("the ")[-1].split()[0]
    value = re.search(
        r"[A-Z]\w+ [A-Z]\w+|\d{4}|\d\d dollars|(?<=from )[A-Z]\w+|(?<=called )[A-Z]\w+", asked.turn.question
    )
    assert value is not None, asked.turn.question
    named = with_region(asked, asked.context.regions[0].region, label=label)
    return with_text(named, 1, facts=(Fact(key="x", value=value[0]),), text=f"It says {value[0]}.")


def uncited(asked: Asked) -> Asked:
    return changed(asked, citations=(), answer=asked.turn.answer.rpartition("[")[0])


def cites_nothing_there_is(asked: Asked) -> Asked:
    return changed(asked, citations=(*asked.turn.citations, 9), answer=f"{asked.turn.answer}[9]")


def cites_another(asked: Asked) -> Asked:
    k = other_k(asked)
    return changed(asked, citations=(k,), answer=f"{asked.turn.answer.rpartition('[')[0]}[{k}]")


def cites_both(asked: Asked) -> Asked:
    k = other_k(asked)
    return changed(asked, citations=(*asked.turn.citations, k), answer=f"{asked.turn.answer}[{k}]")


def refusal_cited(asked: Asked) -> Asked:
    return changed(asked, citations=(1,), answer=f"{asked.turn.answer}[1]")


def marks_exchanged(asked: Asked) -> Asked:
    """The first two marks of a description change places."""
    swapped = asked.turn.answer.replace("[1]", "[0]").replace("[2]", "[1]").replace("[0]", "[2]")
    return changed(asked, answer=swapped)


def endless_text(asked: Asked) -> Asked:
    return with_text(asked, 1, text=f"{text_of(asked, 1)} {'word ' * 3000}".strip())


@pytest.mark.parametrize(
    ("name", "task", "plant"),
    [
        ("expression_not_unique", Task.VISUAL_QA, same_expression_twice),
        ("expression_not_unique", Task.V2C, same_expression_twice),
        ("expression_not_unique", Task.UNANSWERABLE_V2C, looks_fit_another),
        ("expression_not_unique", Task.V2C, looks_fit_another),
        ("expression_not_unique", Task.C2V, fact_of_both),
        ("expression_not_unique", Task.CONTEXTUAL_QA, words_of_both),
        ("answer_not_supported", Task.V2C, value_not_in_text),
        ("answer_not_supported", Task.CONTEXTUAL_QA, value_inside_a_word),
        ("answer_not_supported", Task.RCID, value_not_in_text),
        ("answer_not_supported", Task.C2V, color_of_nothing),
        ("answer_not_supported", Task.V2C, about_another),
        ("answer_not_supported", Task.C2V, about_another),
        ("answer_leaked", Task.V2C, value_in_question),
        ("answer_leaked", Task.VISUAL_QA, value_in_question),
        ("answerable_without_image", Task.C2V, seen_value_in_text),
        ("answerable_without_image", Task.VISUAL_QA, seen_value_in_text),
        ("refusal_answerable", Task.UNANSWERABLE_V2C, asked_fact_is_told),
        ("refusal_answerable", Task.UNANSWERABLE_V2C, asked_fact_in_words),
        ("refusal_answerable", Task.UNANSWERABLE_C2V, fitting_object),
        ("citation_wrong", Task.V2C, uncited),
        ("citation_wrong", Task.C2V, cites_nothing_there_is),
        ("citation_wrong", Task.V2C, cites_another),
        ("citation_wrong", Task.CONTEXTUAL_QA, cites_both),
        ("citation_wrong", Task.UNANSWERABLE_C2V, refusal_cited),
        ("citation_wrong", Task.RCID, marks_exchanged),
        ("too_long", Task.RCID, endless_text),
    ],
)
def test_a_planted_defect_is_found_by_name(sound: list[Asked], name: str, task: Task, plant: Plant) -> None:
    """In every turn of the task, not in one that suits."""
    own = [asked for asked in sound if asked.turn.task is task]
    assert len(own) > 20
    for asked in own:
        defect = plant(asked)
        left_out = found(defect)
        assert set(left_out) == {name}, (asked.turn, left_out)
        assert left_out[name][0].startswith(f"{asked.turn.turn_id} ({task}) ")


@pytest.fixture(scope="module")
def rich(root: Path, tmp_path_factory: pytest.TempPathFactory) -> list[Asked]:
    turns = tmp_path_factory.mktemp("rich") / "turns"
    turns.mkdir()
    generation = GENERATION.model_copy(update={"route": "rich"})
    write_turns(root / "scenes", generation, seed=2, folder=turns, finished=turns.with_name("shards"))
    scenes = {scene.scene_id: scene for scene in read_scenes(root / "scenes")}
    contexts = {context.context_id: context for context in read_contexts(turns)}
    return [Asked(scenes[turn.scene_id], contexts[turn.context_id], turn) for turn in read_turns(turns)]


def rich_fact_is_told(asked: Asked) -> Asked:
    """The text tells whatever a question of the rich route can ask for."""
    facts = tuple(Fact(key=key, value="anything") for key in catalogue().kinds)
    return with_text(asked, own_k(asked), facts=facts)


@pytest.mark.parametrize(
    ("name", "task", "plant"),
    [
        ("refusal_answerable", Task.UNANSWERABLE_V2C, rich_fact_is_told),
        ("expression_not_unique", Task.C2V, fact_of_both),
        ("answer_not_supported", Task.V2C, value_not_in_text),
        ("citation_wrong", Task.V2C, uncited),
    ],
)
def test_a_defect_of_the_rich_route_is_found(rich: list[Asked], name: str, task: Task, plant: Plant) -> None:
    own = [asked for asked in rich if asked.turn.task is task and len(asked.turn.claims) < 2]
    assert len(own) > 20
    for asked in own:
        assert set(found(plant(asked))) == {name}, asked.turn


def test_sound_turns_of_the_rich_route_pass(rich: list[Asked]) -> None:
    assert not any(found(asked) for asked in rich)


def test_sound_turns_pass(sound: list[Asked]) -> None:
    assert {asked.turn.task for asked in sound} == set(Task)
    assert not any(found(asked) for asked in sound)


def test_a_refusal_in_no_known_wording_is_judged_by_what_it_says_is_missing(sound: list[Asked]) -> None:
    asked = next(asked for asked in sound if "specify the owner" in asked.turn.answer)
    expression = asked.scene.regions[asked.context.regions[own_k(asked) - 1].region].expression
    other = changed(asked, question=f"Whose is {expression}, please?")
    assert not found(other)
    assert set(found(asked_fact_in_words(other))) == {"refusal_answerable"}


def test_the_length_is_that_of_the_whole_branch(sound: list[Asked], monkeypatch: pytest.MonkeyPatch) -> None:
    for asked in sound[:50]:
        prompt = render_prompt(prompt_of(asked.scene, asked.context, asked.turn.question))
        words = len(f"{prompt} {asked.turn.answer}".split())
        monkeypatch.setattr(filters, "MAX_WORDS", words)
        assert not found(asked)
        monkeypatch.setattr(filters, "MAX_WORDS", words - 1)
        assert set(found(asked)) == {"too_long"}


def test_a_phrase_from_outside_may_place_its_object_among_others(sound: list[Asked]) -> None:
    """`the circle on the left` of a photo is the one further left, whatever thirds they lie in."""
    asked = next(asked for asked in sound if asked.turn.task is Task.V2C)
    k = own_k(asked)
    own, other = (asked.context.regions[n - 1].region for n in (k, other_k(asked)))
    label = asked.scene.regions[own].label
    phrase = f"the {label} on the left"
    photo = with_region(
        with_region(
            asked,
            own,
            expression=phrase,
            facts=(Fact(key="appearance", value=phrase), Fact(key="position", value="on the left")),
        ),
        other,
        label=label,
        expression="the striped one",
        facts=(Fact(key="position", value="on the left"),),
    )
    question = asked.turn.question.replace(asked.scene.regions[own].expression, phrase)
    assert not found(changed(photo, question=question))


def test_the_summary_counts_all_and_names_five(
    root: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    summary = json.loads((root / "turns/summary.json").read_text())
    assert summary["filtered"] == {name: {"count": 0, "examples": []} for name in sorted(FILTERS)}
    scenes = [
        scene.model_copy(
            update={"regions": tuple(r.model_copy(update={"expression": "the thing"}) for r in scene.regions)}
        )
        for scene in read_scenes(root / "scenes")
    ]
    for name in ("scenes", "turns"):
        (tmp_path / name).mkdir()
    write_models(tmp_path / "scenes", "scenes", scenes)
    write_turns(
        tmp_path / "scenes", GENERATION, seed=2, folder=tmp_path / "turns", finished=tmp_path / "shards"
    )
    summary = json.loads((tmp_path / "turns/summary.json").read_text())
    ambiguous = summary["filtered"]["expression_not_unique"]
    assert ambiguous["count"] == 30 * 2 * 3  # three tasks ask by looks
    assert len(ambiguous["examples"]) == 5
    assert all("'the thing' fits synthetic-" in example for example in ambiguous["examples"])
    assert summary["wanting"]["v2c"] == summary["turns"]["train"]["v2c"] == 0
    assert not {turn.task for turn in read_turns(tmp_path / "turns")} & {Task.V2C, Task.VISUAL_QA}
    line = capfd.readouterr().err.splitlines()[-1]
    assert "expression_not_unique 180" in line
    assert "refusal_answerable 0" in line
