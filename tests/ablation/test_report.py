"""What table, picture and MLflow show of results that are written down here."""

import io
from pathlib import Path

import pytest
from PIL import Image

from components.ablation.record import EXPERIMENT, record
from components.ablation.report import Ablation, picture, summarise, table
from components.ablation.trial import Answer, Result
from components.params import load_params
from components.rcmu import Task
from components.settings import Settings
from components.workspace import Run

IMAGES = 40


def result(variant: str, seed: int, right_of_ten: int) -> Result:
    """Every image has a V2C and a C2V question; so many of ten images are answered right."""
    answers = [
        Answer(
            turn_id=f"{image}/{task}", scene_id=f"s{image}", task=task, correct=image % 10 < right_of_ten,
            chosen=image % 10 < right_of_ten if task is Task.C2V or image % 2 else None,
            chance=0.5 if task is Task.V2C else 0.25, options=4 if task is Task.C2V or image % 2 else None,
        )
        for image in range(IMAGES)
        for task in (Task.V2C, Task.C2V)
    ]  # fmt: skip
    answers.append(
        Answer(
            turn_id="d",
            scene_id="another",
            task=Task.RCID,
            correct=False,
            chosen=None,
            chance=None,
            options=None,
        )
    )
    return Result(variant=variant, seed=seed, citation_f1=right_of_ten / 10, answers=tuple(answers))


RESULTS = [result("base", 7, 2), result("rcvit", 7, 9), result("rcvit", 8, 7), result("without_boxes", 7, 5)]


@pytest.fixture(scope="module")
def summary(repo: Path) -> Ablation:
    return summarise(RESULTS, load_params(repo / "params.yaml").evaluation, seed=1)


def test_the_seeds_of_a_variant_are_pooled_and_chance_stands_beside(summary: Ablation) -> None:
    rows = {row.variant: row for row in summary.rows}
    assert list(rows) == ["base", "rcvit", "without_boxes"]
    assert rows["rcvit"].seeds == 2
    assert rows["rcvit"].citation_f1 == pytest.approx(0.8)
    both = rows["rcvit"].decoded[Task.V2C]
    assert both.value == pytest.approx(0.8)
    assert both.n == 2 * IMAGES
    assert both.low > rows["base"].decoded[Task.V2C].high
    assert rows["rcvit"].chosen[Task.V2C].n == IMAGES  # half of the questions have options
    assert rows["rcvit"].chance == {Task.V2C: 0.5, Task.C2V: 0.25}
    assert summary.odds == {"without a link": {Task.V2C: {"1/2": IMAGES}, Task.C2V: {"1/4": IMAGES}}}
    assert summary.chance_of_choice == {Task.V2C: 0.25, Task.C2V: 0.25}
    assert (summary.images, summary.questions) == (IMAGES, 2 * IMAGES)


def test_table_and_picture_show_every_variant(summary: Ablation) -> None:
    lines, chances = (part.splitlines() for part in table(summary).split("\n\n"))
    assert len({line.count("|") for line in lines}) == 1
    assert [line.split("|")[1].strip() for line in lines[2:]] == [
        "base, no RCVIT",
        "RCVIT",
        "without boxes",
        "*one over the options*",
    ]
    assert "80.0%" in lines[3]
    assert "| 50.0% | 25.0% |" in lines[3]
    assert "| 25.0% | 25.0% |" in lines[-1]
    assert chances == [
        "| chance | task | questions | 1/4 | 1/2 | mean |",
        "| --- | --- | --- | --- | --- | --- |",
        f"| without a link | V2C | {IMAGES} |  | {IMAGES} | 50.0% |",
        f"| without a link | C2V | {IMAGES} | {IMAGES} |  | 25.0% |",
    ]
    image = Image.open(io.BytesIO(picture(summary)))
    assert image.width > 900
    assert len(image.convert("RGB").getcolors(1 << 20) or []) > 50


def test_it_is_recorded_once_with_a_child_for_every_variant(summary: Ablation, tmp_path: Path) -> None:
    from mlflow import MlflowClient

    uri = f"sqlite:///{tmp_path}/mlflow.db"
    settings = Settings(home=tmp_path, tracking_uri=uri)
    shown = tmp_path / "shown"
    shown.mkdir()
    (shown / "ablation.md").write_text(table(summary))
    run = Run(
        checkout=tmp_path, folder=tmp_path, params_file=tmp_path, commit="c", params_digest="p",
        digest="d" * 64, dirty=False,
    )  # fmt: skip
    parent = record(summary, shown, run, settings)
    assert record(summary, shown, run, settings) == parent
    client = MlflowClient(uri)
    experiment = client.get_experiment_by_name(EXPERIMENT)
    assert experiment is not None
    runs = client.search_runs([experiment.experiment_id])
    children = {r.info.run_name: r for r in runs if r.data.tags.get("mlflow.parentRunId") == parent}
    assert set(children) == {"base", "rcvit", "without_boxes"}
    assert len(runs) == 4
    assert children["rcvit"].data.metrics["accuracy_v2c"] == pytest.approx(0.8)
    assert [file.path for file in client.list_artifacts(parent)] == ["ablation.md"]
