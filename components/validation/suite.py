"""The expectations, as Great Expectations knows them. Importing this costs seconds."""

from typing import Literal, NamedTuple

from great_expectations.expectations.core.expect_column_pair_values_a_to_be_greater_than_b import (
    ExpectColumnPairValuesAToBeGreaterThanB,
)
from great_expectations.expectations.core.expect_column_pair_values_to_be_equal import (
    ExpectColumnPairValuesToBeEqual,
)
from great_expectations.expectations.core.expect_column_values_to_be_between import (
    ExpectColumnValuesToBeBetween,
)
from great_expectations.expectations.core.expect_column_values_to_be_null import (
    ExpectColumnValuesToBeNull,
)
from great_expectations.expectations.core.expect_column_values_to_be_unique import (
    ExpectColumnValuesToBeUnique,
)
from great_expectations.expectations.core.expect_column_values_to_match_regex import (
    ExpectColumnValuesToMatchRegex,
)
from great_expectations.expectations.core.expect_compound_columns_to_be_unique import (
    ExpectCompoundColumnsToBeUnique,
)
from great_expectations.expectations.core.expect_table_row_count_to_be_between import (
    ExpectTableRowCountToBeBetween,
)
from great_expectations.expectations.expectation import Expectation

from components.params import Bound, ValidationParams
from components.rcmu import BOX_SCALE


class Check(NamedTuple):
    """An expectation on one frame, with the words for whoever breaks it."""

    name: str
    frame: str
    expectation: Expectation
    meaning: str
    cure: str
    severity: Literal["error", "warning"] = "error"


def checks(params: ValidationParams) -> list[Check]:
    """The whole suite, in the order of the report."""
    return [*_scenes(), *_regions(), *_contexts(), *_turns(), *_distributions(params)]


def _scenes() -> list[Check]:
    remake = "repair the source and run the source stage again"
    return [
        Check("scenes_exist", "scenes", _some_rows(), "there is at least one scene", remake),
        Check("scene_ids_unique", "scenes", _unique("id"), "each scene has its own id", remake),
        Check(
            "images_decode",
            "scenes",
            _no("image_problem"),
            "every image decodes to the last pixel, in its declared size",
            "replace the image file and run the source stage again",
        ),
        Check(
            "images_in_one_split",
            "scenes",
            _one_split("splits_of_image"),
            "no image stands in both splits",
            "remove one of the copies from the source",
        ),
        Check(
            "images_unlike_training",
            "scenes",
            _no("near_copy"),
            "no benchmark image is a resized, recompressed, cropped or mirrored training image",
            "remove one of the two from the source",
        ),
        _filed("scenes"),
        Check(
            "scenes_are_valid", "scenes", _no("problem"), "every row is a Scene of components/rcmu", remake
        ),
    ]


def _regions() -> list[Check]:
    repair = "correct the box in the source and run the source stage again"
    inside = [
        Check(
            f"box_{name}_inside",
            "regions",
            ExpectColumnValuesToBeBetween(column=name, min_value=0, max_value=BOX_SCALE),
            f"{name} of every box is inside 0..{BOX_SCALE}",
            repair,
        )
        for name in ("x1", "y1", "x2", "y2")
    ]
    return [
        Check("regions_exist", "regions", _some_rows(), "there is at least one region", repair),
        *inside,
        *(
            Check(
                f"box_{axis}_ordered",
                "regions",
                ExpectColumnPairValuesAToBeGreaterThanB(column_A=f"{axis}2", column_B=f"{axis}1"),
                f"every box has {axis}2 above {axis}1",
                repair,
            )
            for axis in ("x", "y")
        ),
        Check(
            "instances_in_one_split",
            "regions",
            _one_split("splits_of_instance"),
            "no object stands in both splits",
            "give different objects different ids, or keep their images in one split",
        ),
    ]


def _contexts() -> list[Check]:
    remake = "run the generate stage again"
    return [
        Check("context_ids_unique", "contexts", _unique("id"), "each context set has its own id", remake),
        Check(
            "contexts_have_a_scene",
            "contexts",
            _no("reference_problem"),
            "every context set belongs to a scene of its split",
            remake,
        ),
        Check(
            "texts_have_a_region",
            "texts",
            _no("region_problem"),
            "every text belongs to a region of its scene, one text each",
            remake,
        ),
        Check(
            "texts_in_one_split",
            "texts",
            _one_split("splits_of_text"),
            "no text stands in both splits",
            "reword one of the two texts, or remove its context set",
        ),
        Check(
            "texts_unlike_training",
            "texts",
            _no("shared"),
            "no benchmark text is a training text in other words or with other names",
            "reword one of the two texts, or remove its context set",
        ),
        _filed("contexts"),
        Check(
            "contexts_are_valid",
            "contexts",
            _no("problem"),
            "every row is a ContextSet of components/rcmu",
            remake,
        ),
    ]


def _turns() -> list[Check]:
    remake = "run the generate stage again"
    return [
        Check("turns_exist", "turns", _some_rows(), "there is at least one turn", remake),
        Check("turn_ids_unique", "turns", _unique("id"), "each turn has its own id", remake),
        Check(
            "turns_unique",
            "turns",
            ExpectCompoundColumnsToBeUnique(column_list=["context_id", "question"]),
            "no question is asked twice of a context set",
            "remove the duplicate turn",
        ),
        Check(
            "turns_have_a_context",
            "turns",
            _no("reference_problem"),
            "every turn belongs to a context set of its scene and split",
            remake,
        ),
        Check(
            "answers_not_empty",
            "turns",
            ExpectColumnValuesToMatchRegex(column="answer", regex=r"\S"),
            "every answer says something",
            "write an answer, or remove the turn",
        ),
        Check(
            "citations_resolve",
            "turns",
            _no("unresolved"),
            "every citation and claim names a region [k] of the prompt",
            "cite a region that the context set has, or remove the citation",
        ),
        Check(
            "citations_match_answer",
            "turns",
            ExpectColumnPairValuesToBeEqual(column_A="citations", column_B="citations_in_answer"),
            "the citations column holds the marks of the answer, in order",
            "write the same citations in both",
        ),
        Check(
            "refusals_uncited",
            "turns",
            _no("refusal_citations"),
            "a refusal cites nothing",
            "remove the citation from the refusal",
        ),
        _filed("turns"),
        Check("turns_are_valid", "turns", _no("problem"), "every row is a Turn of components/rcmu", remake),
    ]


def _distributions(params: ValidationParams) -> list[Check]:
    ask = "make more or fewer questions of the kind (generation), or move the bound in params.yaml"
    return [
        _bounded("refusals_share", "splits", params.refusals_share, "the share of refusals", ask),
        _bounded("task_share", "tasks", params.task_share, "the share of each sub-task", ask),
        _bounded(
            "first_citation",
            "splits",
            params.first_citation,
            "the mean place of what answers cite first, 0 the first text and 1 the last,",
            "put the texts into random order: a model could learn where answers stand",
        ),
        _bounded(
            "text_words",
            "texts",
            params.text_words,
            "the number of words of every text",
            "change what the texts are made of, or the bound in params.yaml",
        ),
        _bounded(
            "box_area",
            "regions",
            params.box_area,
            "the share of the image in every box",
            "leave such boxes out of the source, or move the bound in params.yaml",
        ),
        _bounded("turns_per_scene", "scenes", params.turns_per_scene, "the number of turns of a scene", ask),
    ]


def _bounded(column: str, frame: str, bound: Bound, meaning: str, cure: str) -> Check:
    low = "" if bound.least is None else f" at least {bound.least:g}"
    high = "" if bound.most is None else f" at most {bound.most:g}"
    return Check(
        f"{column}_in_bounds",
        frame,
        ExpectColumnValuesToBeBetween(column=column, min_value=bound.least, max_value=bound.most),
        f"{meaning} is{low}{' and' if low and high else ''}{high}",
        cure,
        bound.severity,
    )


def _filed(frame: str) -> Check:
    return Check(
        f"{frame}_in_their_file",
        frame,
        _no("misfiled"),
        "every row has the split that its file's name says",
        "run the stage that writes the file again",
    )


def _no(column: str) -> Expectation:
    return ExpectColumnValuesToBeNull(column=column)


def _unique(column: str) -> Expectation:
    return ExpectColumnValuesToBeUnique(column=column)


def _one_split(column: str) -> Expectation:
    return ExpectColumnValuesToBeBetween(column=column, min_value=1, max_value=1)


def _some_rows() -> Expectation:
    return ExpectTableRowCountToBeBetween(min_value=1)
