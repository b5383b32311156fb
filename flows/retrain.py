"""The retrain flow: the DVC stages one by one, then push, recipe, registration and the staging gate.

`rcvit run` calls it, and infra/prefect.yaml deploys it. Every task reads and writes the run's workspace
and the registry; what passes between tasks is names and digests.
"""

import json
import sys
from pathlib import Path
from typing import Any
from uuid import UUID

from prefect import flow, task
from prefect.artifacts import create_link_artifact, create_markdown_artifact, create_table_artifact
from prefect.client.orchestration import get_client
from prefect.client.schemas.filters import FlowRunFilter
from prefect.client.schemas.objects import State, TaskRun
from prefect.logging import get_run_logger
from prefect.runtime import flow_run, task_run
from prefect.states import Crashed
from prefect.tasks import Task

from components.errors import RcvitError, SettingsError
from components.git import find_checkout
from components.registry import CANDIDATE, Registry, Version
from components.settings import Settings, load_settings
from components.stages import DATA_DOCS, STAGES, VALIDATION
from components.workspace import Run, commit_recipe, describe_run, end_strays, opened
from flows import dvc


async def _retry_helps(_: Task[..., Any], __: TaskRun, state: State[Any]) -> bool:
    """The error's class decides; a data error stays one however often it is tried."""
    error = await state.aresult(raise_on_failure=False)
    return isinstance(error, RcvitError) and error.retry_helps


# No result is kept: what a task made is in the workspace, and a task that is called again must run again.
@flow(name="retrain", persist_result=False)
def retrain(profile: str | None = None) -> str:
    """Make, judge and register the version of this checkout's commit and a profile; its number.

    Args:
        profile: a name of infra/profiles or a path; none takes the checkout's params.yaml.
    """
    checkout = find_checkout(Path.cwd())
    settings = load_settings(checkout)
    run = describe_run(checkout, profile, settings)
    with opened(run, settings):
        get_run_logger().info("workspace %s", run.folder)
        _close_killed(run)
        fetch_data(run, settings)
        outcomes = {stage: run_stage.with_options(name=stage)(run, stage) for stage in STAGES}
        if settings.dvc_remote:
            push(run, settings)
        recipe = keep_recipe(run)
        number = register(run, settings, recipe)
        judge(settings, number)
        _publish(run, outcomes, Registry(settings).get(number))
    return number


@task(name="fetch-data")
def fetch_data(run: Run, settings: Settings) -> None:
    """Bring the imported data that the params name into the workspace."""
    dvc.fetch_data(run, settings)


@task(retries=1, retry_delay_seconds=2, retry_condition_fn=_retry_helps)
def run_stage(run: Run, stage: str) -> str:
    """One DVC stage: "ran" or "skipped"."""
    if task_run.run_count > 1:
        _say(f"stage {stage} is tried once more")
        end_strays(run.folder)
    try:
        outcome = dvc.repro(run, stage)
    finally:
        if stage == "validate":
            _show_validation(run)
    _say(f"stage {stage} {outcome}")
    return outcome


def _show_validation(run: Run) -> None:
    """What was checked, and Data Docs, on the Prefect pages: also of data that broke the suite."""
    result = run.folder / VALIDATION / "result.json"
    if not result.exists():  # the stage got no further than its input
        return
    checks = json.loads(result.read_text(encoding="utf-8"))["expectations"]
    shown = ("name", "severity", "success", "checked", "unexpected", "meaning")
    create_table_artifact(key="validation", table=[{key: check[key] for key in shown} for check in checks])
    create_link_artifact(
        key="data-docs",
        link=_data_docs(run),
        link_text="Data Docs, on the machine that ran it",
    )


def _data_docs(run: Run) -> str:
    return (run.folder / DATA_DOCS / "index.html").as_uri()


def _say(line: str) -> None:
    """To the terminal, between the stages' own progress, and to Prefect's pages."""
    print(line, file=sys.stderr, flush=True)
    get_run_logger().info(line)


@task(name="push")
def push(run: Run, settings: Settings) -> None:
    """Send every out to the DVC remote, before anything is registered that needs it."""
    if dvc.call(run, "push", "--remote", dvc.remote_of(settings)):
        raise SettingsError(
            "the outs could not be pushed; nothing was registered",
            hint="check RCVIT_DVC_REMOTE and its credentials, then run again: the stages are kept",
        )


@task(name="keep-recipe")
def keep_recipe(run: Run) -> str:
    """Commit params and lock on the run's branch."""
    return commit_recipe(run)


@task(name="register")
def register(run: Run, settings: Settings, recipe: str) -> str:
    """The MLflow run and the candidate version; an earlier one of the same digest is found again."""
    return Registry(settings).register(run, recipe_commit=recipe).number


@task(name="staging-gate")
def judge(settings: Settings, number: str) -> bool:
    """Move the alias `staging` when the gate passes; a refusal is a result, not a failure."""
    registry = Registry(settings)
    version = registry.get(number)
    # A version that was judged before keeps its place: `staging` may be another's by now.
    verdict = version.verdict if version.is_gated else registry.promote(version)
    for line in verdict.lines:
        get_run_logger().info("gate: %s", line)
    return verdict.passed


def _close_killed(run: Run) -> None:
    """Name this flow run after the run, and end the earlier ones of it that a kill left "Running"."""
    own = flow_run.id
    with get_client(sync_client=True) as client:
        client.update_flow_run(UUID(own), name=run.name)
        unended = FlowRunFilter.model_validate(
            {"name": {"any_": [run.name]}, "state": {"type": {"any_": ["RUNNING"]}}}
        )
        for found in client.read_flow_runs(flow_run_filter=unended):
            if str(found.id) != own:  # we hold the run's lock: nobody works for it
                client.set_flow_run_state(found.id, Crashed(message="the process was killed"), force=True)


def _publish(run: Run, outcomes: dict[str, str], version: Version) -> None:
    """Tables and a summary for the Prefect pages."""
    rows = [{"stage": stage, "outcome": outcome} for stage, outcome in outcomes.items()]
    create_table_artifact(key="stages", table=rows)
    metrics = [{"metric": name, **values} for name, values in version.metrics.items()]
    create_table_artifact(key="metrics", table=metrics, description="intervals: bootstrap over images")
    verdict = "passed" if version.verdict.passed else "refused"
    lines = "\n".join(f"- {line}" for line in version.verdict.lines)
    create_markdown_artifact(
        key="summary",
        markdown=f"## {version.number}: gate {verdict}\n\n{lines}\n\naliases: "
        f"{', '.join(version.aliases) or CANDIDATE}\n\n[Data Docs]({_data_docs(run)}), as artifacts of the "
        f"MLflow run {version.run_id} too\n\nworkspace: `{run.folder}`",
    )
