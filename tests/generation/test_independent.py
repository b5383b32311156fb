"""Two thousand turns of each block, judged by a reader of our own that knows nothing of how they were made.

It sees what a model sees: the pixels, the prompt, the question, the answer. Colour is read at the centre of a
box, size and place off the box, facts out of the texts by expressions that are written down here. Facts and
referring expressions that the files hold beside these are never looked at.
"""

import io
import re
from collections import Counter, defaultdict
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pyarrow.parquet as pq
import pytest
from PIL import Image
from scipy.stats import chisquare

from components.evaluation.items import ITEMS_FILE, write_items
from components.params import GenerationParams
from components.rcmu import parse_prompt
from tests.generation.made import drawn, make_data

SCENES, SETS = 350, 6
BLOCKS = ("visual_qa", "contextual_qa", "v2c", "c2v", "unanswerable_v2c", "unanswerable_c2v", "rcid")

# The usual colours of these names (CSS), not those that the scenes are drawn in.
COLORS = {
    "red": (255, 0, 0),
    "green": (0, 128, 0),
    "blue": (0, 0, 255),
    "yellow": (255, 255, 0),
    "purple": (128, 0, 128),
    "black": (0, 0, 0),
}
SHAPES = r"circle|square|triangle|diamond|star|cross"
LOOKS = re.compile(
    rf"\bthe (?:(small|large) )?(?:({'|'.join(COLORS)}) )?({SHAPES})\b(?! that)"
    r"(?: (on the left|in the middle|on the right))?",
    re.IGNORECASE,
)
BY_TEXT = re.compile(rf"\bthe ({SHAPES}) that (.+)", re.IGNORECASE)
NAME = r"[A-Z][a-z]+ [A-Z][a-z]+"
WORD = r"[A-Z][a-z]+"
# What a text, or a clause about an object, says of each attribute; the object is `it` or a shape.
OBJECT = rf"(?:it|the (?:{SHAPES}))"
STATED = {
    "owner": rf"belongs to ({NAME})|({NAME}) owns|owned by ({NAME})|owner of (?i:{OBJECT}) is ({NAME})",
    "origin": rf"comes from ({WORD})|brought from ({WORD})"
    rf"|({WORD}) is where (?i:{OBJECT}) (?:comes|was brought)",
    "year": r"\b(\d{4})\b",
    "price": r"(\d+ dollars)",
    "nickname": rf"called ({WORD})|call (?i:{OBJECT}) ({WORD})|the name ({WORD})"
    rf"|({WORD}) is what people call",
}
# What questions ask for, by the words that give it away.
ASKED = {
    "owner": r"\bowns\b|\bowner\b",
    "origin": r"\bcomes? from\b|\bbrought from\b|^From where\b",
    "year": r"^When\b|^In what year\b",
    "price": r"^How much\b|\bpaid\b",
    "nickname": r"^What is .+ called\?|\bpeople call\b",
}
SEEN = {
    "color": r"\bcolor\b",
    "size": r"^How big\b|\bsize\b",
    "position": r"^Where (?:in the image )?is\b|^In which part\b",
}
VALUES = {
    "color": tuple(COLORS),
    "size": ("small", "large"),
    "position": ("on the left", "in the middle", "on the right"),
}


class Object(NamedTuple):
    """Line `[k]` of a prompt, with what the pixels show at its box."""

    k: int
    label: str
    text: str
    color: str
    size: str
    position: str

    def says(self, attribute: str) -> str | None:
        """The value that the text states."""
        found = re.search(STATED[attribute], self.text)
        return next(filter(None, found.groups())) if found else None

    def fits(self, size: str | None, color: str | None, label: str, position: str | None) -> bool:
        return self.label == label.lower() and all(
            said is None or said.lower() == own
            for said, own in ((size, self.size), (color, self.color), (position, self.position))
        )


class Asked(NamedTuple):
    """A turn as a model sees it."""

    objects: Sequence[Object]
    question: str
    answer: str

    @property
    def cited(self) -> list[int]:
        return [int(k) for k in re.findall(r"\[(\d+)\]", self.answer)]

    def by_looks(self) -> Object:
        """The one object that the question names by its looks."""
        found = LOOKS.search(self.question)
        assert found, self.question
        fitting = [thing for thing in self.objects if thing.fits(*found.groups())]
        assert len(fitting) == 1, (self.question, self.objects)
        return fitting[0]

    def by_text(self) -> list[Object]:
        """The objects whose texts state what the question names its object by."""
        label, attribute, value = self.clause()
        return [thing for thing in self.objects if thing.label == label and thing.says(attribute) == value]

    def clause(self) -> tuple[str, str, str]:
        """Label, attribute and value of `the circle that belongs to Ada Moss`."""
        found = BY_TEXT.search(self.question)
        assert found, self.question
        label, clause = found.groups()
        for attribute, form in STATED.items():
            stated = re.search(form, clause)
            if stated:
                return label.lower(), attribute, next(filter(None, stated.groups()))
        raise AssertionError(self.question)


def attribute_of(question: str, forms: dict[str, str]) -> str:
    """The one attribute that a question asks for; what names its object is taken out first."""
    plain = question
    if found := BY_TEXT.search(question):
        ends = [stated.end() for form in STATED.values() if (stated := re.search(form, found[2]))]
        plain = f"{question[: found.start()]}it{found[2][max(ends) :]}"
    asked = [attribute for attribute, form in forms.items() if re.search(form, plain)]
    assert len(asked) == 1, (question, asked)
    return asked[0]


def perceived(pixels: "np.typing.NDArray[np.uint8]", box: tuple[int, int, int, int]) -> tuple[str, str, str]:
    """Colour, size and place of what is in a box."""
    height, width = pixels.shape[:2]
    x1, y1, x2, y2 = box
    column, row = round((x1 + x2) / 2000 * width), round((y1 + y2) / 2000 * height)
    mean = pixels[row - 1 : row + 1, column - 1 : column + 1].reshape(-1, 3).mean(0)
    color = min(COLORS, key=lambda name: float(np.square(mean - COLORS[name]).sum()))
    size = "small" if max(x2 - x1, y2 - y1) < 270 else "large"
    third = min(2, (x1 + x2) * 3 // 2000)
    return color, size, VALUES["position"][third]


def prompt_text(scene: dict[str, Any], context: dict[str, Any], question: str) -> str:
    """The prompt as RCMU.md has it."""
    lines = []
    for k, told in enumerate(context["regions"], start=1):
        seen = scene["regions"][told["region"]]
        box = f"({seen['x1']},{seen['y1']}),({seen['x2']},{seen['y2']})"
        lines.append(
            f"[{k}]: The information of the {seen['label']} located at <|box_start|>{box}<|box_end|> "
            f"in the image: {told['text']}"
        )
    lines.append(
        "Answer the following question based on the information above and the given image, "
        "and provide citations for your response."
    )
    return "\n".join([*lines, question])


def rows(folder: Path, kind: str) -> list[dict[str, Any]]:
    return [
        row for path in sorted(folder.glob(f"{kind}-*.parquet")) for row in pq.read_table(path).to_pylist()
    ]


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("independent")
    source = drawn(SCENES, benchmark_share=0.4, regions=(2, 4), twins_share=0.7)
    generation = GenerationParams(context_sets=SETS, facts_per_text=2, questions_per_task=1)
    make_data(root, source, generation, seed=11)
    return root


@pytest.fixture(scope="module")
def turns(root: Path) -> dict[str, list[Asked]]:
    """The turns of each block."""
    scenes = {row["scene_id"]: row for row in rows(root / "scenes", "scenes")}
    pixels = {
        scene_id: np.asarray(Image.open(io.BytesIO(row["image"])).convert("RGB"))
        for scene_id, row in scenes.items()
    }
    contexts = {row["context_id"]: row for row in rows(root / "turns", "contexts")}
    objects: dict[str, list[Object]] = {}
    found: defaultdict[str, list[Asked]] = defaultdict(list)
    for row in rows(root / "turns", "turns"):
        context_id = row["context_id"]
        if context_id not in objects:
            prompt = parse_prompt(prompt_text(scenes[row["scene_id"]], contexts[context_id], row["question"]))
            objects[context_id] = [
                Object(
                    k,
                    region.label,
                    region.text,
                    *perceived(
                        pixels[row["scene_id"]], (region.box.x1, region.box.y1, region.box.x2, region.box.y2)
                    ),
                )
                for k, region in enumerate(prompt.regions, start=1)
            ]
        found[row["task"]].append(Asked(objects[context_id], row["question"], row["answer"]))
    return found


def test_there_are_two_thousand_of_each_block(turns: dict[str, list[Asked]]) -> None:
    assert set(turns) == set(BLOCKS)
    assert all(len(own) >= 2000 for own in turns.values()), {task: len(own) for task, own in turns.items()}


def states(text: str, value: str) -> bool:
    return re.search(rf"\b{re.escape(value)}\b", text, re.IGNORECASE) is not None


def assert_shown(asked: Asked, thing: Object) -> None:
    """The answer states the asked looks of the object as the picture has them, and no others."""
    attribute = attribute_of(asked.question, SEEN)
    right = getattr(thing, attribute)
    said = asked.answer.partition(" is ")[2]
    assert [value for value in VALUES[attribute] if states(said, value)] == [right], (asked, right)


def test_visual_answers_are_true_in_the_picture(turns: dict[str, list[Asked]]) -> None:
    for asked in turns["visual_qa"]:
        assert_shown(asked, asked.by_looks())
        assert not asked.cited


def test_c2v_answers_are_true_in_the_picture_and_cite_the_text_that_names_the_object(
    turns: dict[str, list[Asked]],
) -> None:
    for asked in turns["c2v"]:
        (thing,) = asked.by_text()
        assert_shown(asked, thing)
        assert asked.cited == [thing.k]
        assert not states(thing.text, asked.answer.partition(" is ")[2].partition(".")[0])


def test_v2c_answers_stand_in_the_text_of_the_object_that_is_meant(turns: dict[str, list[Asked]]) -> None:
    for asked in turns["v2c"]:
        thing = asked.by_looks()
        value = thing.says(attribute_of(asked.question, ASKED))
        assert value and states(asked.answer, value), (asked, value)
        assert not states(asked.question, value)
        assert asked.cited == [thing.k]


def test_contextual_answers_stand_in_the_text_that_names_the_object(turns: dict[str, list[Asked]]) -> None:
    for asked in turns["contextual_qa"]:
        (thing,) = asked.by_text()
        value = thing.says(attribute_of(asked.question, ASKED))
        assert value and states(asked.answer, value), (asked, value)
        assert asked.cited == [thing.k]


def test_what_v2c_refuses_the_text_does_not_say(turns: dict[str, list[Asked]]) -> None:
    for asked in turns["unanswerable_v2c"]:
        thing = asked.by_looks()
        assert thing.says(attribute_of(asked.question, ASKED)) is None, asked
        assert asked.answer.startswith("Cannot be answered. ")
        assert not asked.cited


def test_what_c2v_refuses_fits_no_object(turns: dict[str, list[Asked]]) -> None:
    for asked in turns["unanswerable_c2v"]:
        label, attribute, value = asked.clause()
        attribute_of(asked.question, SEEN)
        same = [thing for thing in asked.objects if thing.label == label]
        assert not any(states(thing.text, value) for thing in same), asked
        # Each says something else of it: none is left that could be meant.
        assert all(thing.says(attribute) for thing in same), asked
        assert asked.answer == f"The {label} is not in the image."


def test_descriptions_say_of_each_object_what_its_picture_and_its_text_say(
    turns: dict[str, list[Asked]],
) -> None:
    for asked in turns["rcid"]:
        phrases = re.findall(r"([^\[\]]+)\[(\d+)\]", asked.answer)
        assert sorted(int(k) for _, k in phrases) == [thing.k for thing in asked.objects]
        for phrase, k in phrases:
            thing = asked.objects[int(k) - 1]
            looks = LOOKS.search(phrase)
            assert looks and thing.fits(*looks.groups()), (phrase, thing)
            assert sum(other.fits(*looks.groups()) for other in asked.objects) == 1
            told = {attribute: thing.says(attribute) for attribute in STATED}
            said = {
                attribute: next(filter(None, found.groups()))
                for attribute, form in STATED.items()
                if (found := re.search(form, phrase))
            }
            assert said == {attribute: value for attribute, value in told.items() if value}, (phrase, thing)


def test_this_reader_tells_true_from_false(turns: dict[str, list[Asked]]) -> None:
    for asked in turns["visual_qa"]:
        attribute = attribute_of(asked.question, SEEN)
        own = getattr(asked.by_looks(), attribute)
        for value in VALUES[attribute]:
            if value != own:
                changed: dict[str, Any] = {attribute: value}
                with pytest.raises(AssertionError):
                    assert_shown(asked, asked.by_looks()._replace(**changed))
    # What each text states of five attributes: two.
    for asked in turns["rcid"]:
        for thing in asked.objects:
            assert sum(thing.says(attribute) is not None for attribute in STATED) == 2, thing


@pytest.mark.parametrize("task", ["v2c", "c2v", "contextual_qa"])
def test_each_line_of_the_prompt_is_cited_equally_often(turns: dict[str, list[Asked]], task: str) -> None:
    """A chi-square test for each number of objects; seeds are fixed, so it fails or it does not."""
    counted: defaultdict[int, Counter[int]] = defaultdict(Counter)
    for asked in turns[task]:
        counted[len(asked.objects)][asked.cited[0]] += 1
    assert set(counted) == {2, 3, 4}
    for objects, places in counted.items():
        observed = [places[k] for k in range(1, objects + 1)]
        assert sum(observed) > 500
        assert chisquare(observed).pvalue > 0.01, (task, objects, observed)


def test_each_place_among_the_options_is_right_equally_often(root: Path, tmp_path: Path) -> None:
    write_items(root / "scenes", root / "turns", objects=(), seed=11, folder=tmp_path / "items")
    counted: defaultdict[tuple[str, int], Counter[int]] = defaultdict(Counter)
    for row in pq.read_table(tmp_path / "items" / ITEMS_FILE).to_pylist():
        counted[row["task"], len(row["options"])][row["right"]] += 1
    assert len(counted) == 8
    for (task, options), places in counted.items():
        observed = [places[place] for place in range(options)]
        assert chisquare(observed).pvalue > 0.99, (task, options, observed)
