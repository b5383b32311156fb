"""What the terminal shows: the last screen of a run, and the table of versions."""

from collections.abc import Mapping, Sequence
from typing import Any

from rich.console import Console
from rich.table import Table
from rich.text import Text

from components.registry import MODEL_NAME, Version
from components.stages import DATA_DOCS
from components.workspace import Run


def show_outcome(run: Run, version: Version) -> None:
    """Version, alias, metrics with intervals, verdict, where to look, what to type next."""
    console = Console(soft_wrap=True)
    console.print(f"\n[bold]{MODEL_NAME} version {version.number}[/]  alias: {_aliases(version)}")
    if run.dirty:
        console.print("made from a dirty checkout: it cannot leave candidate")
    console.print(metrics_table(version.metrics, confidence=version.confidence))
    verdict = version.verdict
    word = "[green]passed[/]" if verdict.passed else "[yellow]refused[/]"
    console.print(f"staging gate: {word}")
    for line in verdict.lines:
        console.print(Text(f"  {line}"))
    evaluation = run.folder / "outs/evaluation"
    console.print(Text(f"\nreport     {evaluation / 'report.html'}"))
    data_docs = run.folder / DATA_DOCS / "index.html"
    if data_docs.exists():  # not where the validation came from the DVC cache
        console.print(Text(f"data docs  {data_docs}"))
    console.print("\nnext:")
    console.print(Text("  .venv/bin/rcvit ui        MLflow's and Prefect's pages"))
    console.print(Text('  .venv/bin/rcvit ask PHOTO --regions r.json "question"'))
    console.print(Text("  .venv/bin/rcvit status    all versions"))


def metrics_table(metrics: Mapping[str, Mapping[str, Any]], *, confidence: float) -> Table:
    """One row per metric, in per cent."""
    table = Table()
    for column in ("metric", "value", f"{100 * confidence:g} % interval", "n"):
        table.add_column(column, justify="left" if column == "metric" else "right")
    for name, values in metrics.items():
        value, low, high = (f"{100 * values[part]:.1f}" for part in ("value", "low", "high"))
        table.add_row(name, f"{value} %", f"{low} to {high}", str(values["n"]))
    return table


def show_versions(versions: Sequence[Version]) -> None:
    """Every version with aliases, accuracy and what the gate says."""
    table = Table(title=MODEL_NAME)
    for column in ("version", "alias", "accuracy", "staging gate", "commit", "recipe"):
        table.add_column(column, overflow="fold")
    for version in versions:
        accuracy = version.metrics["accuracy"]
        shown = f"{accuracy['value']:.3f} ({accuracy['low']:.3f} to {accuracy['high']:.3f})"
        verdict = version.verdict
        gate = "passed" if verdict.passed else "refused: " + "; ".join(verdict.lines)
        commit = version.tags["rcvit.commit"][:10]
        dirty = " (dirty)" if version.tags["rcvit.dirty"] == "true" else ""
        recipe = version.tags["rcvit.recipe_commit"][:10]
        table.add_row(version.number, _aliases(version), shown, gate, commit + dirty, recipe)
    Console().print(table)


def _aliases(version: Version) -> str:
    return ", ".join(version.aliases) or "none (a later version took it)"
