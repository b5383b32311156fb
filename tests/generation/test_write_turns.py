"""Properties of the generated turns, checked from the files with the test's own reading of the texts."""

import hashlib
import json
import re
import shutil
from collections import Counter, defaultdict
from pathlib import Path
from typing import NamedTuple

import pytest

from components.evaluation.metrics import is_refusal, score
from components.generation import write_turns
from components.generation.questions import CLOSED_VALUES
from components.params import GenerationParams, SourceParams
from components.rcmu import ContextSet, Scene, Split, Task, Turn, cited, normalise
from components.rcmu.tables import read_contexts, read_scenes, read_turns, write_models
from components.sources import write_scenes
from components.sources.geometry import POSITIONS
from components.sources.synthetic import COLORS, SIZES

SYNTHETIC = SourceParams(
    kind="synthetic",
    annotations=None,
    skip_broken=False,
    scenes=40,
    benchmark_share=0.3,
    max_regions=4,
    image_size=112,
    min_regions=1,
    twins_share=0.4,
)
# What a question asks for, in either split and (NEW) in the benchmark alone; written down apart from the
# generator's templates.
ASKED = {
    "owner": ("Who is the owner of {}?", "Who owns {}?"),
    "origin": ("Where does {} come from?", "Where was {} brought from?"),
    "year": ("When was {} bought?", "In what year was {} purchased?"),
    "price": ("How much did {} cost?", "What was paid for {}?"),
    "nickname": ("What is {} called?", "What do people call {}?"),
    "name": ("What is the name of {}?", "By what name does {} go?"),
    "job": ("What is the job of {}?", "What does {} work as?"),
    "age": ("How old is {}?", "What is the age of {}?"),
    "home": ("Where does {} live?", "In what city does {} have a flat?"),
    "hobby": ("What does {} enjoy?", "What is the hobby of {}?"),
    "color": ("What color is {}?", "What is the color of {}?"),
    "size": ("How big is {}?", "What is the size of {}?"),
    "position": ("Where in the image is {}?", "In which part of the image is {}?"),
    "appearance": ("Which one is {}?", "Which of them is {}?"),
}
NEW = {
    "owner": "Who is it that owns {}?",
    "origin": "From where does {} come?",
    "year": "In what year was {} bought?",
    "price": "How much was paid for {}?",
    "nickname": "What is it that people call {}?",
    "name": "What name does {} go by?",
    "job": "As what does {} work?",
    "age": "What age is {}?",
    "home": "In what city does {} live?",
    "hobby": "What hobby does {} enjoy?",
    "color": "What color does {} have?",
    "size": "What size is {}?",
    "position": "Where is {} in the image?",
    "appearance": "Which one of them is {}?",
}
# How the value looks, where nothing else in a text looks so.
CITIES = (
    r"Oslo|Rome|Paris|Cairo|Lima|Tokyo|Delhi|Seoul|Quito"
    r"|Accra|Hanoi|Dublin|Vienna|Prague|Boston|Sydney"
)
VALUES = {
    "owner": r"[A-Z]\w+ [A-Z]\w+", "origin": CITIES, "year": r"(?:19|20)\d\d", "price": r"\d\d dollars",
    "name": r"[A-Z]\w+ [A-Z]\w+", "age": r"\b\d\d\b",
}  # fmt: skip
VISIBLE = ("color", "size", "position", "appearance")


class Data(NamedTuple):
    folder: Path
    scenes: dict[str, Scene]
    contexts: dict[str, ContextSet]
    turns: list[Turn]

    def of(self, *tasks: Task) -> list[Turn]:
        found = [turn for turn in self.turns if turn.task in tasks]
        assert found
        return found


def load(scenes: Path, turns: Path) -> Data:
    return Data(
        turns,
        {scene.scene_id: scene for scene in read_scenes(scenes)},
        {context.context_id: context for context in read_contexts(turns)},
        list(read_turns(turns)),
    )


def generation(**changes: int) -> GenerationParams:
    return GenerationParams.model_validate(
        {"context_sets": 2, "facts_per_text": 2, "questions_per_task": 2, **changes}
    )


def make_scenes(folder: Path, source: SourceParams, workspace: Path) -> Path:
    folder.mkdir()
    write_scenes(source, seed=5, workspace=workspace, folder=folder)
    return folder


def make_turns(folder: Path, scenes: Path, *, seed: int = 5, **changes: int) -> Path:
    folder.mkdir()
    finished = folder.with_name(f"{folder.name}-shards")
    write_turns(scenes, generation(**changes), seed=seed, folder=folder, finished=finished)
    return folder


@pytest.fixture(scope="module")
def synthetic(tmp_path_factory: pytest.TempPathFactory) -> Data:
    root = tmp_path_factory.mktemp("synthetic")
    scenes = make_scenes(root / "scenes", SYNTHETIC, root)
    return load(scenes, make_turns(root / "turns", scenes))


@pytest.fixture(scope="module")
def photos(tmp_path_factory: pytest.TempPathFactory, real_regions: Path) -> Data:
    root = tmp_path_factory.mktemp("photos")
    shutil.copytree(real_regions, root / "data")
    source = SourceParams(
        kind="coco",
        annotations="data/annotations.json",
        skip_broken=False,
        scenes=None,
        benchmark_share=0.25,
        max_regions=4,
        image_size=112,
        min_regions=1,
        twins_share=0.0,
    )
    scenes = make_scenes(root / "scenes", source, root)
    return load(scenes, make_turns(root / "turns", scenes))


@pytest.fixture(params=["synthetic", "photos"])
def data(request: pytest.FixtureRequest) -> Data:
    found: Data = request.getfixturevalue(request.param)
    return found


def asked(turn: Turn) -> tuple[str, str]:
    """The key that a question asks for and the expression it names the object by."""
    forms = [(key, form) for key, forms in ASKED.items() for form in (*forms, NEW[key])]
    found = [(key, m.group(1)) for key, form in forms if (m := asks(form, turn.question))]
    assert len(found) == 1, (turn.question, found)
    return found[0]


def asks(form: str, question: str) -> re.Match[str] | None:
    """The question in this wording, with the expression as its group."""
    before, after = form.split("{}")
    return re.fullmatch(f"{re.escape(before)}(.+){re.escape(after)}", question)


def texts(data: Data, turn: Turn) -> dict[int, str]:
    return {k: line.text for k, line in enumerate(data.contexts[turn.context_id].regions, start=1)}


def seen(data: Data, turn: Turn, k: int) -> tuple[str, str, dict[str, str]]:
    """Label, visual expression and visible facts of region [k]."""
    line = data.contexts[turn.context_id].regions[k - 1]
    region = data.scenes[turn.scene_id].regions[line.region]
    return region.label, region.expression, {fact.key: fact.value for fact in region.facts}


def meant(data: Data, turn: Turn, expression: str) -> list[int]:
    """The regions [k] of the named class whose text states what the expression says."""
    return [
        k
        for k, text in texts(data, turn).items()
        if expression.startswith(f"the {seen(data, turn, k)[0]} ") and stated_by(text, expression)
    ]


def stated_by(text: str, expression: str) -> bool:
    """Whether a text states the fact of an expression such as `the circle that belongs to Ada Moss`."""
    words = re.sub(r"^the .+? (?:that|who) ", "", expression)
    value = re.search(r"[A-Z]\w+(?: [A-Z]\w+)?|\d\d\d\d|\d\d dollars|\d\d|\w+$", words)
    assert value is not None, expression
    return re.search(rf"\b{value.group()}\b", text) is not None


def test_every_reference_answer_scores_full_marks(data: Data) -> None:
    for turn in data.turns:
        given = score(turn, turn.answer)
        assert given.correct, turn
        assert given.cited_right == given.cited == given.cited_reference
        assert turn.citations == cited(turn.answer)


def test_v2c_answers_stand_in_the_text_of_the_object_that_is_meant(data: Data) -> None:
    for turn in data.of(Task.V2C):
        key, expression = asked(turn)
        (claim,) = turn.claims
        assert turn.citations == (claim.k,)
        assert turn.answer.endswith(f".[{claim.k}]")
        assert seen(data, turn, claim.k)[1] == expression
        assert re.search(rf"\b{re.escape(claim.value)}\b", texts(data, turn)[claim.k])
        if (shape := VALUES.get(key)) is not None:
            assert re.fullmatch(shape, claim.value)


def test_questions_that_join_text_and_image_are_not_answered_by_the_label(data: Data) -> None:
    """Texts about objects of one label state the same kinds of facts, and such objects are asked about."""
    for context in data.contexts.values():
        told = defaultdict(set)
        regions = data.scenes[context.scene_id].regions
        for line in context.regions:
            told[regions[line.region].label].add(frozenset(fact.key for fact in line.facts))
        assert all(len(kinds) == 1 for kinds in told.values())
    joined = 0
    for turn in data.of(Task.V2C) + data.of(Task.C2V):
        lines = data.contexts[turn.context_id].regions
        labels = [data.scenes[turn.scene_id].regions[line.region].label for line in lines]
        number = labels.count(labels[turn.claims[0].k - 1])
        # An object of the scene that has a fellow may still have no fact that is its alone.
        assert number > 1 or turn.task is Task.C2V or max(Counter(labels).values()) == 1
        joined += number > 1
    assert joined > 0


def test_contextual_questions_name_their_object_by_another_fact(data: Data) -> None:
    for turn in data.of(Task.CONTEXTUAL_QA):
        _, expression = asked(turn)
        (claim,) = turn.claims
        assert turn.citations == (claim.k,)
        assert claim.value not in turn.question
        assert meant(data, turn, expression) == [claim.k]
        assert claim.value in texts(data, turn)[claim.k]


def test_c2v_answers_are_true_to_the_picture(data: Data) -> None:
    for turn in data.of(Task.C2V):
        key, expression = asked(turn)
        (claim,) = turn.claims
        label, _, facts = seen(data, turn, claim.k)
        assert key in VISIBLE
        assert facts[key] == claim.value
        assert expression.startswith(f"the {label} ")
        assert turn.citations == (claim.k,)
        assert meant(data, turn, expression) == [claim.k]
        assert claim.value not in turn.other_values


def test_visual_questions_use_no_text_and_do_not_answer_themselves(data: Data) -> None:
    for turn in data.of(Task.VISUAL_QA):
        key, expression = asked(turn)
        (claim,) = turn.claims
        _, own, facts = seen(data, turn, claim.k)
        assert own == expression
        assert facts[key] == claim.value
        assert not turn.citations
        assert claim.value not in turn.question


def test_unanswerable_v2c_asks_for_what_the_text_does_not_say(data: Data) -> None:
    for turn in data.of(Task.UNANSWERABLE_V2C):
        key, expression = asked(turn)
        context = data.contexts[turn.context_id]
        (line,) = [
            line
            for line in context.regions
            if data.scenes[turn.scene_id].regions[line.region].expression == expression
        ]
        assert key not in VISIBLE
        assert key not in {fact.key for fact in line.facts}
        if (shape := VALUES.get(key)) is not None:
            assert not re.search(shape, line.text.replace(f"the {expression}", "")), (key, line.text)
        assert turn.answer.startswith("Cannot be answered. The description does not specify ")
        assert not turn.claims and not turn.citations


def test_unanswerable_c2v_asks_for_an_object_of_another_image(data: Data) -> None:
    hard = 0
    everyone: defaultdict[Split, str] = defaultdict(str)
    for context in data.contexts.values():
        everyone[context.split] += " ".join(line.text for line in context.regions)
    for turn in data.of(Task.UNANSWERABLE_C2V):
        key, expression = asked(turn)
        label = expression.removeprefix("the ").split(" that ")[0].split(" who ")[0]
        assert key in VISIBLE
        assert turn.answer == f"The {label} is not in the image."
        assert is_refusal(turn.answer)
        assert stated_by(everyone[turn.split], expression)  # another instance of the same split
        context = data.contexts[turn.context_id]
        here = [
            (data.scenes[turn.scene_id].regions[line.region].label, line.text) for line in context.regions
        ]
        assert not any(stated_by(text, expression) for own, text in here if own == label)
        hard += label in {own for own, _ in here}
    assert 0.2 < hard / len(data.of(Task.UNANSWERABLE_C2V)) < 0.8


def test_descriptions_state_and_cite_every_fact(data: Data) -> None:
    for turn in data.of(Task.RCID):
        context = data.contexts[turn.context_id]
        stated = Counter((k, fact.value) for k, line in enumerate(context.regions, 1) for fact in line.facts)
        assert turn.question == "Describe the image."
        assert Counter((claim.k, claim.value) for claim in turn.claims) == stated
        assert sorted(turn.citations) == list(range(1, len(context.regions) + 1))


def test_texts_state_their_facts_and_are_short(data: Data) -> None:
    for context in data.contexts.values():
        assert sorted(line.region for line in context.regions) == list(
            range(len(data.scenes[context.scene_id].regions))
        )
        for line in context.regions:
            assert len({fact.key for fact in line.facts}) == len(line.facts) == 2
            assert all(re.search(rf"\b{fact.value}\b", line.text) for fact in line.facts)
            assert 6 <= len(line.text.split()) <= 17
            assert line.text == normalise(line.text)


def test_splits_share_no_text_and_no_full_name(data: Data) -> None:
    held: dict[Split, set[str]] = {split: set() for split in Split}
    names: dict[Split, set[str]] = {split: set() for split in Split}
    for context in data.contexts.values():
        held[context.split] |= {line.text for line in context.regions}
        names[context.split] |= {
            fact.value for line in context.regions for fact in line.facts if fact.key in ("owner", "name")
        }
    assert all(held.values()) and all(names.values())
    assert not held[Split.TRAIN] & held[Split.BENCHMARK]
    assert not names[Split.TRAIN] & names[Split.BENCHMARK]


def test_the_benchmark_alone_has_wordings_of_its_own(data: Data) -> None:
    new: Counter[Split] = Counter()
    for turn in data.turns:
        new[turn.split] += any(asks(form, turn.question) for form in NEW.values())
    assert new[Split.TRAIN] == 0
    questions = [t for t in data.turns if t.split is Split.BENCHMARK and t.task is not Task.RCID]
    assert 0.2 < new[Split.BENCHMARK] / len(questions) < 0.5
    sentences: defaultdict[Split, set[str]] = defaultdict(set)
    for context in data.contexts.values():
        for line in context.regions:
            values = "|".join(re.escape(fact.value) for fact in line.facts)
            label = data.scenes[context.scene_id].regions[line.region].label
            told = re.sub(rf"\b(?:{values})\b", "V", line.text)
            told = re.sub(rf"(?i)\b(?:the {re.escape(label)}|it|this person)\b", "S", told)
            sentences[context.split] |= set(told.split(". "))
    wordings = {split: {sentence.rstrip(".") for sentence in said} for split, said in sentences.items()}
    assert len(wordings[Split.BENCHMARK] - wordings[Split.TRAIN]) >= 5


def test_ids_are_readable_and_the_order_of_regions_is_random(synthetic: Data) -> None:
    for turn in synthetic.turns:
        assert re.fullmatch(rf"{turn.context_id}/t\d+", turn.turn_id)
        assert re.fullmatch(rf"{turn.scene_id}/c\d", turn.context_id)
        assert turn.split == synthetic.scenes[turn.scene_id].split
    assert len({turn.turn_id for turn in synthetic.turns}) == len(synthetic.turns)
    orders = {tuple(line.region for line in context.regions) for context in synthetic.contexts.values()}
    assert {(0, 1), (1, 0)} <= orders


def test_no_more_questions_than_asked_for_and_all_counted(data: Data) -> None:
    per_set = Counter((turn.context_id, turn.task) for turn in data.turns)
    assert max(per_set.values()) == 2
    assert len({(turn.context_id, turn.question) for turn in data.turns}) == len(data.turns)
    summary = json.loads((data.folder / "summary.json").read_text())
    counted = {split: Counter(turn.task for turn in data.turns if turn.split == split) for split in Split}
    assert summary["turns"] == {s: {t: counted[s][t] for t in Task} for s in Split}
    filtered = sum(found["count"] for found in summary["filtered"].values())
    for task in Task:
        wanted = len(data.contexts) * (1 if task is Task.RCID else 2)
        lacking = wanted - sum(counted[s][task] for s in Split) - summary["wanting"][task]
        assert lacking >= 0
        filtered -= lacking
    assert filtered == 0
    refused = sum(is_refusal(turn.answer) for turn in data.turns if turn.split is Split.TRAIN)
    assert summary["refusals_share"]["train"] == pytest.approx(
        refused / counted[Split.TRAIN].total(), abs=1e-4
    )


def test_same_seed_same_bytes_another_seed_others(synthetic: Data, tmp_path: Path) -> None:
    def digests(folder: Path) -> dict[str, str]:
        return {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in folder.iterdir()}

    scenes = synthetic.folder.parent / "scenes"
    again = digests(make_turns(tmp_path / "again", scenes))
    other = digests(make_turns(tmp_path / "other", scenes, seed=6))
    assert again == digests(synthetic.folder)
    for kind in ("turns", "contexts"):
        assert other[f"{kind}-train-00000.parquet"] != again[f"{kind}-train-00000.parquet"]


@pytest.mark.parametrize("facts", [1, 4])
def test_other_numbers_of_facts(synthetic: Data, tmp_path: Path, facts: int) -> None:
    scenes = synthetic.folder.parent / "scenes"
    made = load(scenes, make_turns(tmp_path / "turns", scenes, facts_per_text=facts, questions_per_task=1))
    assert all(len(line.facts) == facts for context in made.contexts.values() for line in context.regions)
    assert all(score(turn, turn.answer).correct for turn in made.turns)
    summary = json.loads((made.folder / "summary.json").read_text())
    # One fact names an object, and leaves none to ask for.
    assert summary["wanting"]["contextual_qa"] == (len(made.contexts) if facts == 1 else 0)


def test_a_lonely_scene_of_a_split_gets_no_strangers(synthetic: Data, tmp_path: Path) -> None:
    scene = next(iter(synthetic.scenes.values()))
    (tmp_path / "scenes").mkdir()
    write_models(tmp_path / "scenes", "scenes", [scene])
    made = load(tmp_path / "scenes", make_turns(tmp_path / "turns", tmp_path / "scenes"))
    assert not [turn for turn in made.turns if turn.task is Task.UNANSWERABLE_C2V]
    summary = json.loads((made.folder / "summary.json").read_text())
    assert summary["wanting"]["unanswerable_c2v"] == 4


def test_the_closed_values_are_those_that_sources_give() -> None:
    assert {key: set(values) for key, values in CLOSED_VALUES.items()} == {
        "color": set(COLORS),
        "size": set(SIZES),
        "position": set(POSITIONS),
    }
