"""The ablation as a table and a picture: accuracy per sub-task with intervals, beside chance."""

import io
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from fractions import Fraction
from statistics import fmean

from components.ablation.trial import Answer, Result
from components.ablation.variants import VARIANTS
from components.evaluation.statistics import Estimate, cluster_weights, ratio, sums_by_cluster
from components.params import EvaluationParams
from components.rcmu import Task
from components.rcmu.models import Frozen

LINKED = (Task.V2C, Task.C2V)
_SHOWN = (Task.V2C, Task.C2V, Task.UNANSWERABLE_V2C, Task.UNANSWERABLE_C2V, Task.RCID)
# Okabe and Ito's palette, as in the benchmark report.
_DECODED, _CHOSEN, _CHANCE = "#0072B2", "#E69F00", "#D55E00"


class Row(Frozen):
    """A variant: its accuracy per sub-task, by decoding and by choice, over all its seeds."""

    variant: str
    title: str
    seeds: int
    citation_f1: float
    decoded: dict[Task, Estimate]
    chosen: dict[Task, Estimate]  # V2C and C2V
    guesser: str  # whom it is held against
    chance: dict[Task, float]  # what that one gets right, the mean over the questions


class Ablation(Frozen):
    """All that table and picture show."""

    rows: tuple[Row, ...]
    images: int
    questions: int  # of V2C and C2V
    odds: dict[str, dict[Task, dict[str, int]]]  # for each guesser: a question's chance -> how many have it
    chance_of_choice: dict[Task, float]  # one over the options


def summarise(results: Sequence[Result], params: EvaluationParams, *, seed: int) -> Ablation:
    """Pool the seeds of each variant; intervals are bootstrapped over images, an image's seeds together."""
    rows, odds = [], dict[str, dict[Task, dict[str, int]]]()
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
                    guesser=variant.guesser.title,
                    chance={task: _mean(_chances(own[0], task)) for task in LINKED},
                )
            )
            odds.setdefault(variant.guesser.title, {task: _odds(own[0], task) for task in LINKED})
    linked = [answer for answer in results[0].answers if answer.task in LINKED]
    return Ablation(
        rows=tuple(rows),
        images=len({answer.scene_id for answer in linked}),
        questions=len(linked),
        odds=odds,
        chance_of_choice={
            t: _mean(1 / a.options for a in linked if a.task is t and a.options) for t in LINKED
        },
    )


def table(ablation: Ablation) -> str:
    """Markdown: a row per variant, percent with intervals; then what the chance levels come from."""
    heads = ["variant", "seeds", *(task.upper().replace("_", " ") for task in _SHOWN)]
    heads += [
        *(f"chance {task.upper()}" for task in LINKED),
        *(f"{task.upper()} by choice" for task in LINKED),
    ]
    rows = [
        [
            row.title,
            str(row.seeds),
            *(_percent(row.decoded.get(task)) for task in _SHOWN),
            *(f"{row.chance[task]:.1%}" for task in LINKED),
            *(_percent(row.chosen.get(task)) for task in LINKED),
            f"{row.citation_f1:.1%}",
        ]
        for row in ablation.rows
    ]
    by_choice = [f"{ablation.chance_of_choice[task]:.1%}" for task in LINKED]
    rows.append(["*one over the options*", *[""] * (len(heads) - 3), *by_choice, ""])
    return f"{_markdown([*heads, 'citation F1'], rows)}\n{_chance_table(ablation)}"


def _chance_table(ablation: Ablation) -> str:
    """How many questions have which chance, for each guesser."""
    counted = [
        (guesser, task, counts) for guesser, tasks in ablation.odds.items() for task, counts in tasks.items()
    ]
    known = sorted({chance for _, _, counts in counted for chance in counts}, key=Fraction)
    rows = []
    for guesser, task, counts in counted:
        number = sum(counts.values())
        mean = sum(float(Fraction(chance)) * n for chance, n in counts.items()) / number
        cells = [str(counts.get(chance, "")) for chance in known]
        rows.append([guesser, task.upper(), str(number), *cells, f"{mean:.1%}"])
    return _markdown(["chance", "task", "questions", *known, "mean"], rows)


def _markdown(heads: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    lines = [heads, ["---"] * len(heads), *rows]
    return "".join(f"| {' | '.join(line)} |\n" for line in lines)


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
        axes.vlines(
            [row.chance[task] for row in rows],
            [place - 0.42 for place in range(len(rows))],
            [place + 0.42 for place in range(len(rows))],
            color=_CHANCE,
            linewidth=3,
            label="chance of a guesser",
        )
        axes.axvline(
            ablation.chance_of_choice[task], color=_CHOSEN, linestyle=":", label="one over the options"
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


def _chances(result: Result, task: Task) -> list[float]:
    return [a.chance for a in result.answers if a.task is task and a.chance is not None]


def _odds(result: Result, task: Task) -> dict[str, int]:
    """A chance is one small number over another."""
    counts = Counter(Fraction(chance).limit_denominator(1000) for chance in _chances(result, task))
    return {str(chance): counts[chance] for chance in sorted(counts)}


def _mean(values: Iterable[float]) -> float:
    return round(fmean(values), 6)


def _percent(estimate: Estimate | None) -> str:
    return f"{estimate.value:.1%} ({estimate.low:.1%} to {estimate.high:.1%})" if estimate else ""
