"""The benchmark report: one HTML file with the figures, and photos with boxes, texts and answers."""

import io
from collections.abc import Mapping, Sequence
from pathlib import Path

from components.evaluation.statistics import Estimate
from components.pages import COLOURS, data_uri, image_uri, render_page
from components.rcmu import ContextSet, Scene, Span, Turn, parse_spans
from components.rcmu.models import Frozen


class Answered(Frozen):
    """A benchmark question with the model's answer."""

    turn: Turn
    answer: str
    correct: bool

    @property
    def spans(self) -> tuple[Span, ...]:
        """The model's answer cut at its citations, for colouring."""
        return parse_spans(self.answer)

    @property
    def reference_spans(self) -> tuple[Span, ...]:
        """The reference cut at its citations."""
        return parse_spans(self.turn.answer)


def write_report(
    path: Path,
    *,
    scenes: Sequence[Scene],
    contexts: Mapping[str, ContextSet],
    answered: Sequence[Answered],
    metrics: Mapping[str, Estimate],
    confidence: float,
) -> None:
    """Write the page: every metric with its interval, then each of `scenes` with its context sets."""
    page = render_page(
        "components.evaluation",
        "report.html.j2",
        metrics=metrics,
        confidence=confidence,
        plot=data_uri(_accuracy_plot(metrics), "image/png"),
        scenes=[(scene, image_uri(scene), _sets_of(scene, contexts, answered)) for scene in scenes],
    )
    path.write_text(page, encoding="utf-8")


def _sets_of(
    scene: Scene, contexts: Mapping[str, ContextSet], answered: Sequence[Answered]
) -> list[tuple[ContextSet, list[Answered]]]:
    """The scene's context sets in use, each with its questions."""
    own = [item for item in answered if item.turn.scene_id == scene.scene_id]
    ids = dict.fromkeys(item.turn.context_id for item in own)
    return [(contexts[id_], [item for item in own if item.turn.context_id == id_]) for id_ in ids]


def _accuracy_plot(metrics: Mapping[str, Estimate]) -> bytes:
    """A PNG of every accuracy with its interval."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    shown = {name: estimate for name, estimate in metrics.items() if name != "accuracy"}
    names = [name.removeprefix("accuracy_") for name in reversed(shown)]
    values = [estimate.value for estimate in reversed(shown.values())]
    below = [max(e.value - e.low, 0.0) for e in reversed(shown.values())]
    above = [max(e.high - e.value, 0.0) for e in reversed(shown.values())]
    figure = Figure(figsize=(7, 0.36 * len(names) + 0.8), layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.add_subplot()
    axes.barh(names, values, xerr=[below, above], color=COLOURS[5], ecolor="black", capsize=3, height=0.65)
    axes.set_xlim(0, 1)
    axes.set_xlabel("share, with interval")
    axes.spines[["top", "right"]].set_visible(False)
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=110)
    return buffer.getvalue()
