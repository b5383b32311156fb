"""Texts and turns of the rich route, checked from the files with the tests' own reading of them."""

import json
import random
import re
import shutil
from collections import Counter, defaultdict
from itertools import combinations
from pathlib import Path

import pytest

from components.ablation.chance import without_link, without_texts
from components.evaluation.metrics import score
from components.generation.catalogue import named
from components.generation.shard import write_context
from components.params import SourceParams, load_params
from components.rcmu import Split, Task, Turn, mentions
from components.rcmu.tables import write_models
from components.sources import write_scenes
from components.validation import validate_data
from components.validation.shared_words import find_shared_words
from tests.generation.reading import (
    asked_kinds,
    kinds,
    looks_like,
    others,
    questions,
    read_text,
    read_yaml,
    sentences,
)
from tests.generation.rich_data import RICH, Data, make, scene_of


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("rich") / "scenes"
    folder.mkdir()
    write_models(folder, "scenes", [scene_of(number, split) for split in Split for number in range(100)])
    return folder


@pytest.fixture(scope="module")
def data(folder: Path) -> Data:
    return make(folder, folder.with_name("turns"))


def test_texts_state_their_facts_once_and_nothing_else(data: Data) -> None:
    """The reader finds the facts in order, and takes every other sentence for one that states nothing."""
    words = []
    for context, line, seen in data.lines():
        stated, _ = read_text(line.text, named(seen.label).subject, context.split)
        assert [(key, value.casefold()) for key, value in stated] == [
            (fact.key, fact.value.casefold()) for fact in line.facts
        ]
        for fact in line.facts:
            assert len(re.findall(rf"(?<!\w){re.escape(fact.value)}(?!\w)", line.text, re.IGNORECASE)) == 1
        words.append(len(line.text.split()))
    assert len(data.scenes) == 200
    assert 30 <= min(words) < 60
    assert 120 < max(words) <= 180


def test_wordings_of_the_benchmark_are_not_in_training(data: Data) -> None:
    """`read_text` takes only sentences of the text's own split; nearly all of both are seen."""
    used: defaultdict[str, set[str]] = defaultdict(set)
    for context, line, seen in data.lines():
        used[context.split] |= read_text(line.text, named(seen.label).subject, context.split)[1]
    for split in Split:
        known = {clause for kind in kinds().values() for clause in kind["clauses"][split]}
        assert used[split] <= known
        assert len(used[split]) > 0.9 * len(known)
    new = Counter(
        turn.split
        for turn in data.turns
        if any(r.fullmatch(turn.question) for _, r in questions("benchmark"))
    )
    assert new[Split.TRAIN] == 0
    assert new[Split.BENCHMARK] > 20


def test_no_benchmark_text_is_like_a_training_text(data: Data) -> None:
    """By the rule of the validate stage; what splits own is in one of them."""
    texts: defaultdict[Split, list[tuple[str, str]]] = defaultdict(list)
    owned: defaultdict[Split, set[str]] = defaultdict(set)
    for context, line, _ in data.lines():
        texts[context.split].append((context.context_id, line.text))
        owned[context.split] |= {
            fact.value
            for fact in line.facts
            if read_yaml("pools")[kinds()[fact.key]["pool"]].keys() & {"owned", "any_of"}
        }
    shared = list(find_shared_words(texts[Split.BENCHMARK], texts[Split.TRAIN]))
    assert not shared, shared
    assert all(len(values) > 100 for values in owned.values())
    assert not owned[Split.TRAIN] & owned[Split.BENCHMARK]


def test_twins_are_told_the_same_kinds_with_different_values(data: Data) -> None:
    pairs = 0
    for context in data.contexts.values():
        labels = [data.scenes[context.scene_id].regions[line.region].label for line in context.regions]
        for (one, own), (other, others_own) in combinations(zip(labels, context.regions, strict=True), 2):
            if one == other:
                assert {f.key for f in own.facts} == {f.key for f in others_own.facts}
                assert not set(own.facts) & set(others_own.facts)
                pairs += 1
    assert pairs > 50


def test_distractors_hold_no_value_and_stand_in_most_texts(data: Data) -> None:
    number = len(read_yaml("frames")["fillers"]["train"])
    found = 0
    for context, line, seen in data.lines():
        patterns = others(named(seen.label).subject, context.split)
        fillers = len(read_yaml("frames")["fillers"][context.split])
        said = [s for s in sentences(line.text) if any(p.fullmatch(s) for p in patterns[fillers:])]
        assert 1 <= len(said) <= 3
        assert not any(mentions(s, fact.value) for fact in line.facts for s in said)
        found += sum(
            bool(re.search(r"\d| (?:" + "|".join(read_yaml("frames")["strangers"]) + ")", s)) for s in said
        )
    assert number and found > len(data.contexts)


def test_right_answers_are_right_and_cite(data: Data) -> None:
    for turn in data.turns:
        assert score(turn, turn.answer).correct, turn
        assert set(turn.citations) == (
            {c.k for c in turn.claims} if turn.task is not Task.VISUAL_QA else set()
        )
        context = data.contexts[turn.context_id]
        if turn.task in (Task.CONTEXTUAL_QA, Task.V2C, Task.RCID):
            for claim in turn.claims:
                assert claim.value.casefold() in context.regions[claim.k - 1].text.casefold()
        for value in turn.other_values:
            assert not score(turn, turn.answer.replace(turn.claims[-1].value, value)).correct
    assert len({(turn.context_id, turn.question) for turn in data.turns}) == len(data.turns)


def object_of(turn: Turn, expression: str, data: Data) -> int:
    """The one line that an expression means, read from looks and facts."""
    context = data.contexts[turn.context_id]
    meant = set()
    for k, line in enumerate(context.regions, start=1):
        seen = data.scenes[turn.scene_id].regions[line.region]
        if expression == seen.expression:
            return k
        who = named(seen.label)
        for noun in (who.noun, who.neutral):
            head = f"the {noun} {who.relative} "
            for fact in line.facts:
                told = kinds()[fact.key]["predicate"].replace("{v}", fact.value)
                told = told.replace("{a}", f"{'an' if fact.value[0] in 'aeiou' else 'a'} {fact.value}")
                if expression == head + told:
                    meant.add(k)
    assert len(meant) == 1, (turn.question, meant)
    return meant.pop()


def pair_forms() -> list[re.Pattern[str]]:
    nouns = "|".join(kind["noun"] for kind in kinds().values())
    gaps = {"x": nouns, "y": nouns, "e": ".+"}
    return [
        re.compile(re.sub(r"\\{(\w)\\}", lambda gap: f"(?P<{gap[1]}>{gaps[gap[1]]})", re.escape(form)))
        for split in Split
        for form in read_yaml("frames")["pairs"][split]
    ]


def test_questions_for_two_facts_of_one_object(data: Data) -> None:
    asked: Counter[Task] = Counter()
    for turn in data.of(Task.V2C, Task.CONTEXTUAL_QA):
        if len(turn.claims) < 2 or turn.citations[0] != turn.citations[1]:
            continue
        (match,) = [m for form in pair_forms() if (m := form.fullmatch(turn.question))]
        k = object_of(turn, match["e"], data)
        assert turn.citations == (k, k)
        told = {fact.key: fact.value for fact in data.contexts[turn.context_id].regions[k - 1].facts}
        by_noun = {kinds()[key]["noun"]: value for key, value in told.items()}
        assert [claim.value for claim in turn.claims] == [by_noun[match["x"]], by_noun[match["y"]]]
        assert all(claim.k == k for claim in turn.claims)
        asked[turn.task] += 1
    assert min(asked[Task.V2C], asked[Task.CONTEXTUAL_QA]) > 30


def test_two_hops_go_from_one_text_to_another(data: Data) -> None:
    asked: Counter[Task] = Counter()
    for turn in data.of(Task.V2C, Task.CONTEXTUAL_QA):
        if len(set(turn.citations)) < 2:
            continue
        context = data.contexts[turn.context_id]
        (first, second) = turn.claims
        asked_of = next(
            match
            for _, e in asked_kinds(turn.question)
            if (match := re.fullmatch(r"the (owner|previous owner) of (.+)", e))
        )
        assert object_of(turn, asked_of[2], data) == first.k
        key = "former" if "previous" in asked_of[1] else "owner"
        owners = [f.value for f in context.regions[first.k - 1].facts if f.key.endswith(f"_{key}")]
        assert owners == [first.value]
        told = {fact.key: fact.value for fact in context.regions[second.k - 1].facts}
        assert told["person_name"] == first.value
        assert second.value in told.values()
        assert second.value != first.value
        assert turn.citations == (first.k, second.k)
        asked[turn.task] += 1
    assert min(asked[Task.V2C], asked[Task.CONTEXTUAL_QA]) > 10


def test_objects_by_text_are_unique_in_the_set(data: Data) -> None:
    for turn in data.of(Task.C2V):
        match = re.fullmatch(r".*?(the .+? (?:that|who) .+)\?", turn.question.replace("the image is ", ""))
        assert match
        assert (
            object_of(turn, match[1].removesuffix(" in the image").removesuffix(" have"), data)
            == turn.claims[0].k
        )
        # No refusal speaks of a thing: the word would say that it can be answered.
        assert not re.search("the (?:thing|animal) that", turn.question)
    neutral = [t for t in data.of(Task.CONTEXTUAL_QA) if re.search("the (?:thing|animal) that", t.question)]
    assert len(neutral) > 10


def test_what_is_asked_in_vain_by_looks_is_told_nowhere(data: Data) -> None:
    checked: Counter[str] = Counter()
    for turn in data.of(Task.UNANSWERABLE_V2C):
        context = data.contexts[turn.context_id]
        regions = data.scenes[turn.scene_id].regions
        (line,) = [
            line
            for line in context.regions
            if turn.question.endswith(f"{regions[line.region].expression}?")
            or f"{regions[line.region].expression} " in turn.question
        ]
        subject = named(regions[line.region].label).subject
        key = next(key for key, _ in asked_kinds(turn.question) if key.startswith(subject))
        stated = dict(read_text(line.text, subject, turn.split)[0])
        near = {f"{subject}_{name}" for name in kinds()[key].get("near", ())}
        assert not {key, *near} & set(stated)
        # No value of the kind stands anywhere but in what is said of somebody or something else.
        rest = line.text
        for value in stated.values():
            rest = re.sub(re.escape(value), "", rest, flags=re.IGNORECASE)
        own = [s for s in sentences(rest) if not any(p.fullmatch(s) for p in others(subject, turn.split))]
        pattern = re.compile(rf"\b(?:{looks_like(kinds()[key]['pool'])})\b")
        assert not any(pattern.search(sentence) for sentence in own), (key, stated, own)
        # Nor does another text tell it: whose pet it is, whom one has married.
        if kinds()[key].get("mutual"):
            rest_of_set = [f.value for other in context.regions if other is not line for f in other.facts]
            assert not {fact.value for fact in line.facts} & set(rest_of_set)
        checked[key] += 1
    assert len(checked) > 30


def test_who_is_asked_for_in_vain_by_text_is_not_here(data: Data) -> None:
    hard = 0
    turns = data.of(Task.UNANSWERABLE_C2V)
    for turn in turns:
        context = data.contexts[turn.context_id]
        regions = data.scenes[turn.scene_id].regions
        for line in context.regions:
            who = named(regions[line.region].label)
            for fact in line.facts:
                told = kinds()[fact.key]["predicate"].replace("{v}", fact.value)
                told = told.replace("{a}", f"{'an' if fact.value[0] in 'aeiou' else 'a'} {fact.value}")
                assert f"the {who.noun} {who.relative} {told}" not in turn.question
        hard += any(f"the {named(region.label).noun} " in turn.question for region in regions)
    assert 0.1 < hard / len(turns) < 0.8


def test_descriptions_state_the_first_two_facts_of_every_text(data: Data) -> None:
    for turn in data.of(Task.RCID):
        context = data.contexts[turn.context_id]
        first = Counter((k, f.value) for k, line in enumerate(context.regions, 1) for f in line.facts[:2])
        assert Counter((claim.k, claim.value) for claim in turn.claims) == first
        assert sorted(turn.citations) == list(range(1, len(context.regions) + 1))


def test_the_same_bytes_each_time(data: Data, folder: Path, tmp_path: Path) -> None:
    again = make(folder, tmp_path / "turns")
    for path in data.folder.iterdir():
        assert (again.folder / path.name).read_bytes() == path.read_bytes()
    other = random.Random(0).choice(list(data.scenes.values()))
    assert write_context(other, 0, RICH, seed=1) != write_context(other, 0, RICH, seed=2)


@pytest.mark.parametrize("facts", [1, 8])
def test_other_numbers_of_facts(facts: int) -> None:
    params = RICH.model_copy(update={"facts_per_text": facts})
    for number in range(30):
        context = write_context(scene_of(number, Split.BENCHMARK), 0, params, seed=1)
        for line in context.regions:
            assert len(line.facts) == facts
            assert 30 <= len(line.text.split()) <= 180


def test_twenty_objects_of_one_label_and_a_label_of_many_words() -> None:
    scene = scene_of(0, Split.BENCHMARK)
    region = scene.regions[0]
    for label in ("dog", "word " * 40 + "end"):
        twins = tuple(region.model_copy(update={"label": label, "instance_id": str(n)}) for n in range(20))
        context = write_context(scene.model_copy(update={"regions": twins}), 0, RICH, seed=1)
        assert len({line.text for line in context.regions}) == 20


def test_chance_levels_know_the_pools(data: Data) -> None:
    checked = 0
    for turn in data.of(Task.V2C):
        context, scene = data.contexts[turn.context_id], data.scenes[turn.scene_id]
        chances = [chance(turn, scene, context) for chance in (without_link, without_texts)]
        if len(turn.claims) == 1:
            assert all(chance is not None and 0 < chance <= 1 for chance in chances)
            checked += 1
        else:
            assert chances == [None, None]
    assert checked > 100


def test_real_photos_give_all_blocks_and_pass(repo: Path, real_regions: Path, tmp_path: Path) -> None:
    shutil.copytree(real_regions, tmp_path / "data")
    source = SourceParams(
        kind="coco",
        annotations="data/annotations.json",
        skip_broken=False,
        scenes=None,
        benchmark_share=0.3,
        max_regions=8,
        image_size=112,
        min_regions=1,
        twins_share=0.0,
    )
    (tmp_path / "scenes").mkdir()
    write_scenes(source, seed=5, workspace=tmp_path, folder=tmp_path / "scenes")
    made = make(tmp_path / "scenes", tmp_path / "turns")
    summary = json.loads((made.folder / "summary.json").read_text())
    for split in Split:
        assert all(summary["turns"][split][task] > 0 for task in Task)
        assert 0.15 < summary["refusals_share"][split] < 0.45
    assert all(score(turn, turn.answer).correct for turn in made.turns)
    for name in ("validation", "docs"):
        (tmp_path / name).mkdir()
    bounds = load_params(repo / "infra/profiles/2b.yaml").validation
    result = validate_data(
        tmp_path / "scenes",
        made.folder,
        bounds,
        folder=tmp_path / "validation",
        data_docs=tmp_path / "docs",
    )
    assert result.success, result.failures
