"""The ablation as a table and a picture: accuracy per sub-task with intervals, beside chance."""

import io
from collections.abc import Callable, Iterable, Sequence
from statistics import fmean

from components.ablation.measure import Answer, Result
from components.ablation.variants import VARIANTS
from components.evaluation.statistics import Estimate, cluster_weights, ratio, sums_by_cluster
from components.params import EvaluationParams
from components.rcmu import Task
from components.rcmu.models import Frozen

LINKED = (Task.V2C, Task.C2V)
_SHOWN = (Task.V2C, Task.C2V, Task.UNANSWERABLE_V2C, Task.UNANSWERABLE_C2V, Task.RCID)
# Okabe and Ito's palette, as in the benchmark report.
_DECODED, _CHOSEN = "#0072B2", "#E69F00"


class Row(Frozen):
    """A variant: its accuracy per sub-task, by decoding and by choice, over all its seeds."""

    variant: str
    title: str
    seeds: int
    citation_f1: float
    decoded: dict[Task, Estimate]
    chosen: dict[Task, Estimate]  # V2C and C2V


class Ablation(Frozen):
    """All that table and picture show."""

    rows: tuple[Row, ...]
    images: int
    questions: int  # of V2C and C2V
    chance: dict[Task, float]  # without a link between text and object
    chance_of_choice: dict[Task, float]  # one over the options


def summarise(results: Sequence[Result], params: EvaluationParams, *, seed: int) -> Ablation:
    """Pool the seeds of each variant; intervals are bootstrapped over images, an image's seeds together."""
    rows = []
    for variant in VARIANTS:
        own = [result for result in results if result.variant == variant.name]
        if own:
            rows.append(
                Row(
                    variant=variant.name,
                    title=variant.title,
                    seeds=len(own),
                    citation_f1=round(fmean(result.citation_f1 for result in own), 6),
                    decoded=_estimates(own, _SHOWN, lambda a: a.correct, params, seed=seed),
                    chosen=_estimates(own, LINKED, lambda a: a.chosen, params, seed=seed),
                )
            )
    answers = results[0].answers
    linked = [answer for answer in answers if answer.task in LINKED]
    return Ablation(
        rows=tuple(rows),
        images=len({answer.scene_id for answer in linked}),
        questions=len(linked),
        chance={t: _mean(a.chance for a in linked if a.task is t and a.chance is not None) for t in LINKED},
        chance_of_choice={
            t: _mean(1 / a.options for a in linked if a.task is t and a.options) for t in LINKED
        },
    )


def table(ablation: Ablation) -> str:
    """Markdown: a row per variant, percent with intervals."""
    heads = ["variant", "seeds", *(task.upper().replace("_", " ") for task in _SHOWN)]
    heads += [*(f"{task.upper()} by choice" for task in LINKED), "citation F1"]
    lines = [" | ".join(["", *heads, ""]).strip(), "|" + " --- |" * len(heads)]
    for row in ablation.rows:
        cells = [row.title, str(row.seeds), *(_percent(row.decoded.get(task)) for task in _SHOWN)]
        cells += [*(_percent(row.chosen.get(task)) for task in LINKED), f"{row.citation_f1:.1%}"]
        lines.append(" | ".join(["", *cells, ""]).strip())
    chance = ["*chance*", "", *(_share(ablation.chance.get(task)) for task in _SHOWN)]
    chance += [*(_share(ablation.chance_of_choice[task]) for task in LINKED), ""]
    lines.append(" | ".join(["", *chance, ""]).strip())
    return "\n".join(lines) + "\n"


def picture(ablation: Ablation) -> bytes:
    """A PNG: for V2C and C2V the variants' bars with intervals, and the lines of chance."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    rows = ablation.rows[::-1]
    figure = Figure(figsize=(10, 0.62 * len(rows) + 1.6), layout="constrained")
    FigureCanvasAgg(figure)
    panels = figure.subplots(1, len(LINKED), sharey=True)
    for axes, task in zip(panels, LINKED, strict=True):
        for offset, colour, kind, label in (
            (0.2, _DECODED, "decoded", "answered, greedy"),
            (-0.2, _CHOSEN, "chosen", "chosen among options"),
        ):
            estimates = [getattr(row, kind)[task] for row in rows]
            values = [e.value for e in estimates]
            errors = [
                [max(e.value - e.low, 0) for e in estimates],
                [max(e.high - e.value, 0) for e in estimates],
            ]
            at = [place + offset for place in range(len(rows))]
            axes.barh(at, values, 0.36, xerr=errors, color=colour, ecolor="black", capsize=2, label=label)
        axes.axvline(ablation.chance[task], color=_DECODED, linestyle="--", label="chance without a link")
        axes.axvline(
            ablation.chance_of_choice[task], color=_CHOSEN, linestyle=":", label="chance among options"
        )
        axes.set_title(
            {Task.V2C: "V2C: seen in the image, asked of the text"}.get(
                task, "C2V: known by the text, asked of the image"
            )
        )
        axes.set_xlim(0, 1)
        axes.set_xlabel("share of right answers")
        axes.spines[["top", "right"]].set_visible(False)
    panels[0].set_yticks(range(len(rows)), [row.title for row in rows])
    handles, labels = panels[0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center", ncols=4, frameon=False)
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=110)
    return buffer.getvalue()


def _estimates(
    results: Sequence[Result],
    tasks: Sequence[Task],
    judged: Callable[[Answer], bool | None],
    params: EvaluationParams,
    *,
    seed: int,
) -> dict[Task, Estimate]:
    answers = [a for result in results for a in result.answers]
    index = {scene: i for i, scene in enumerate(dict.fromkeys(a.scene_id for a in answers))}
    weights = cluster_weights(len(index), resamples=params.bootstrap_resamples, seed=seed)
    estimates = {}
    for task in tasks:
        own = [
            (a.scene_id, float(right)) for a in answers if a.task is task and (right := judged(a)) is not None
        ]
        clusters = [scene for scene, _ in own]
        estimates[task] = ratio(
            sums_by_cluster(clusters, [right for _, right in own], index),
            sums_by_cluster(clusters, [1.0] * len(own), index),
            weights,
            confidence=params.confidence,
        )
    return estimates


def _mean(values: Iterable[float]) -> float:
    return round(fmean(values), 6)


def _percent(estimate: Estimate | None) -> str:
    return f"{estimate.value:.1%} ({estimate.low:.1%} to {estimate.high:.1%})" if estimate else ""


def _share(value: float | None) -> str:
    return "" if value is None else f"{value:.1%}"
