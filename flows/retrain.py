"""The retrain flow: the DVC stages one by one, then push, recipe, registration and the staging gate.

`rcvit run` calls it, and infra/prefect.yaml deploys it. Every task reads and writes the run's workspace
and the registry; what passes between tasks is names and digests.
"""

from pathlib import Path
from typing import Any

from prefect import flow, task
from prefect.artifacts import create_markdown_artifact, create_table_artifact
from prefect.client.schemas.objects import State, TaskRun
from prefect.logging import get_run_logger
from prefect.tasks import Task

from components.errors import RcvitError, SettingsError
from components.registry import CANDIDATE, Registry, Version
from components.settings import Settings, load_settings
from components.stages import STAGES
from components.workspace import REMOTE, Run, commit_recipe, describe_run, opened
from flows import dvc


async def _retry_helps(_: Task[..., Any], __: TaskRun, state: State[Any]) -> bool:
    """The error's class decides; a data error stays one however often it is tried."""
    try:
        await state.aresult()
    except RcvitError as error:
        return error.retry_helps
    return False


@flow(name="retrain", log_prints=False)
def retrain(profile: str | None = None) -> str:
    """Make, judge and register the version of this checkout's commit and a profile; its number.

    Args:
        profile: a name of infra/profiles or a path; none takes the checkout's params.yaml.
    """
    checkout = Path.cwd()
    settings = load_settings(checkout)
    run = describe_run(checkout, profile, settings)
    with opened(run, settings):
        get_run_logger().info("workspace %s", run.folder)
        fetch_data(run)
        outcomes = {stage: run_stage.with_options(name=stage)(run, stage) for stage in STAGES}
        if settings.dvc_remote:
            push(run, settings)
        recipe = keep_recipe(run)
        number = register(run, settings, recipe)
        judge(settings, number)
        _publish(run, outcomes, Registry(settings).get(number))
    return number


@task(name="fetch-data")
def fetch_data(run: Run) -> None:
    """Bring imported data into the workspace, from the cache or else the remote."""
    tracked = sorted(str(path.relative_to(run.folder)) for path in run.folder.glob("data/*.dvc"))
    if tracked and dvc.call(run, "checkout", *tracked) and dvc.call(run, "pull", *tracked):
        raise SettingsError(
            f"imported data is neither in the DVC cache nor in a remote: {', '.join(tracked)}",
            hint="set RCVIT_DVC_REMOTE to where it was pushed, or `rcvit data import` it again",
        )


@task(retries=1, retry_delay_seconds=2, retry_condition_fn=_retry_helps)
def run_stage(run: Run, stage: str) -> str:
    """One DVC stage: "ran" or "skipped"."""
    outcome = dvc.repro(run, stage)
    get_run_logger().info("stage %s %s", stage, outcome)
    return outcome


@task(name="push")
def push(run: Run, settings: Settings) -> None:
    """Send every out to the DVC remote, before anything is registered that needs it."""
    remote = settings.dvc_remote or ""
    if dvc.call(run, "push", "--remote", REMOTE if "://" in remote else remote):
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
    verdict = registry.promote(registry.get(number))
    for line in verdict.lines:
        get_run_logger().info("gate: %s", line)
    return verdict.passed


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
        f"{', '.join(version.aliases) or CANDIDATE}\n\nworkspace: `{run.folder}`",
    )
