"""The validate stage: a Great Expectations run over the flat frames, its JSON and its pages."""

import html
import json
import shutil
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from components.params import ValidationParams
from components.rcmu.models import Frozen
from components.rcmu.tables import Kind
from components.validation.frames import KINDS, build_frames

if TYPE_CHECKING:
    from components.validation.suite import Check

_SHOWN = 10  # rows named per broken expectation
_SITE = "rcvit"


class ValidationResult(Frozen):
    """One text per broken expectation: its rows by file, number and id, and the cure."""

    success: bool
    failures: tuple[str, ...]
    warnings: tuple[str, ...]  # of bounds that are no error


class _Outcome(Frozen):
    """One expectation's part of result.json."""

    name: str
    expectation: str  # Great Expectations' own name
    meaning: str
    severity: str  # error or warning
    files: str
    success: bool
    checked: int  # rows
    unexpected: int  # rows
    examples: tuple[dict[str, Any], ...]


def validate_data(
    scenes_folder: Path, turns_folder: Path, params: ValidationParams, *, folder: Path, data_docs: Path
) -> ValidationResult:
    """Check scenes, context sets and turns; write the result whether they pass or not.

    Args:
        scenes_folder: holds the shards of scenes.
        turns_folder: holds the shards of context sets and turns.
        params: the bounds of distributions.
        folder: gets result.json, which depends on the data alone.
        data_docs: replaced by Great Expectations' pages, index.html first. They hold clocks.

    Raises:
        DataError: when a file is missing, no Parquet, or has other columns.
    """
    from components.validation.suite import checks

    folders: dict[Kind, Path] = {"scenes": scenes_folder, "contexts": turns_folder, "turns": turns_folder}
    suite = checks(params)
    frames = build_frames(folders)
    results = _run(suite, frames, data_docs)
    outcomes: list[_Outcome] = []
    failures: list[str] = []
    warnings: list[str] = []
    for check in suite:
        kind = KINDS[check.frame]
        files = f"{folders[kind].name}/{kind}-*.parquet"
        outcome = _outcome(check, results[check.name], files)
        outcomes.append(outcome)
        if not outcome.success:
            found = failures if check.severity == "error" else warnings
            found.append(_failure(check, outcome, folders[kind] / f"{kind}-*.parquet"))
    content = {
        "success": not failures,
        "expectations": [outcome.model_dump() for outcome in outcomes],
    }
    text = json.dumps(content, indent=1, sort_keys=True) + "\n"
    (folder / "result.json").write_text(text, encoding="utf-8")
    return ValidationResult(success=not failures, failures=tuple(failures), warnings=tuple(warnings))


def _run(suite: "list[Check]", frames: dict[str, pd.DataFrame], data_docs: Path) -> dict[str, dict[str, Any]]:
    """Each check's result as plain JSON, and the pages."""
    import great_expectations as gx
    from great_expectations.data_context.types.base import ProgressBarsConfig
    from great_expectations.expectations.metadata_types import FailureSeverity

    context = gx.get_context(mode="ephemeral")
    context.variables.progress_bars = ProgressBarsConfig(globally=False)
    shutil.rmtree(data_docs, ignore_errors=True)
    context.add_data_docs_site(
        _SITE,
        {
            "class_name": "SiteBuilder",
            "site_index_builder": {"class_name": "DefaultSiteIndexBuilder"},
            "store_backend": {
                "class_name": "TupleFilesystemStoreBackend",
                "base_directory": str(data_docs.absolute()),
            },
        },
    )
    source = context.data_sources.add_pandas("outs")
    results: dict[str, dict[str, Any]] = {}
    for name, frame in frames.items():
        members = [check for check in suite if check.frame == name]
        for check in members:
            check.expectation.meta = {"check": check.name}
            check.expectation.notes = check.meaning
            if check.severity == "warning":
                check.expectation.severity = FailureSeverity.WARNING  # else critical
        data = source.add_dataframe_asset(name).add_batch_definition_whole_dataframe("all rows")
        definition = context.validation_definitions.add(
            gx.ValidationDefinition(
                name=name,
                data=data,
                suite=context.suites.add(
                    gx.ExpectationSuite(name, expectations=[check.expectation for check in members])
                ),
            )
        )
        run = definition.run(
            batch_parameters={"dataframe": _escaped(frame)},
            result_format={
                "result_format": "SUMMARY",
                "unexpected_index_column_names": ["file", "row", "id"],
                "partial_unexpected_count": _SHOWN,
            },
        )
        for result in run.results:
            plain: dict[str, Any] = dict(result.to_json_dict())
            results[plain["expectation_config"]["meta"]["check"]] = plain
    context.build_data_docs(site_names=[_SITE])
    return results


def _escaped(frame: pd.DataFrame) -> pd.DataFrame:
    """Texts escaped: Great Expectations writes values into its pages as they are."""
    return frame.map(lambda value: html.escape(value) if isinstance(value, str) else value)


def _outcome(check: "Check", result: dict[str, Any], files: str) -> _Outcome:
    exception = _exception(result)
    found = result.get("result", {})
    success = bool(result["success"])
    rows = found.get("partial_unexpected_index_list", [])
    examples = [_example(row) for row in rows]
    if exception:
        examples.append({"exception": exception})
    return _Outcome(
        name=check.name,
        expectation=result["expectation_config"]["type"],
        meaning=check.meaning,
        severity=check.severity,
        files=files,
        success=success,
        checked=found.get("element_count", found.get("observed_value", 0)),
        unexpected=found.get("unexpected_count", 0 if success else 1),
        examples=tuple(examples),
    )


def _exception(result: dict[str, Any]) -> str | None:
    """The message, where Great Expectations could not evaluate the expectation."""
    info = result.get("exception_info", {})
    inner = [info] if "raised_exception" in info else [v for v in info.values() if isinstance(v, dict)]
    messages = [str(item.get("exception_message")) for item in inner if item.get("raised_exception")]
    return "; ".join(messages) or None


def _example(row: dict[str, Any]) -> dict[str, Any]:
    """File, row number, id and the unexpected values, as they are in the file; long ones cut."""
    return {key: _plain(value) for key, value in row.items()}


def _plain(value: Any) -> Any:
    if isinstance(value, np.generic):
        return value.item()
    if isinstance(value, str):
        text = html.unescape(value)
        return f"{text[:200]}..." if len(text) > 200 else text
    return value


def _failure(check: "Check", outcome: _Outcome, files: Path) -> str:
    lines = [f"{check.name}: {check.meaning}; {outcome.unexpected} of {outcome.checked} do not"]
    for example in outcome.examples:
        values = ", ".join(f"{k}={v!r}" for k, v in example.items() if k not in ("file", "row", "id"))
        place = f"{files}, the whole file"
        if "row" in example:
            row = f", row {example['row']}" if example["row"] else ""  # 0: of many rows together
            place = f"{files.parent / example['file']}{row} ({example['id']})"
        lines.append(f"  {place}: {values}" if values else f"  {place}")
    if not outcome.examples:
        lines.append(f"  {files}: no rows")
    if outcome.unexpected > len(outcome.examples) > 0:
        lines.append(f"  ... and {outcome.unexpected - len(outcome.examples)} more")
    lines.append(f"  cure: {check.cure}")
    return "\n".join(lines)
