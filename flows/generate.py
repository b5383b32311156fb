"""The data stages alone, on this machine's cores or on a Dask cluster that is started for them."""

import os
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

from components.errors import ParamsError
from components.generation import estimate_turns
from components.llm import journal_of
from components.params import load_params
from components.process import free_port
from components.settings import Settings
from components.stages import SCENES, SHARDS
from components.workspace import Run, opened
from flows import dvc
from flows.server import running

STAGES = ("source", "generate", "validate")


def generate(run: Run, settings: Settings, *, dask_workers: int | None) -> dict[str, str]:
    """Make and check the data of a run in its workspace: what became of each stage.

    Args:
        run: as `describe_run` gives it.
        settings: of the checkout.
        dask_workers: so many workers of a Dask cluster; none leaves it to RCVIT_WORKERS and
            RCVIT_DASK_SCHEDULER.

    Raises:
        RcvitError: of the stage that failed.
    """
    with ExitStack() as stack:
        stack.enter_context(opened(run, settings))
        if dask_workers:
            address = stack.enter_context(dask_cluster(dask_workers, settings.home / "dask"))
            os.environ["RCVIT_DASK_SCHEDULER"] = address  # for the stages
        dvc.fetch_data(run, settings)
        outcomes = {}
        for stage in STAGES:
            outcomes[stage] = dvc.repro(run, stage)
            print(f"stage {stage} {outcomes[stage]}", file=sys.stderr, flush=True)
        return outcomes


def estimate(run: Run, settings: Settings) -> Iterator[str]:
    """What the LLM would be asked for the data of a run, line by line. The source stage runs, no other.

    Raises:
        RcvitError: of the source stage.
        ParamsError: when the run asks no LLM.
    """
    params = load_params(run.params_file)
    if params.generation.route != "llm":
        raise ParamsError(
            f"generation.route is {params.generation.route}: no LLM is asked",
            hint="set `generation.route: llm` in the params",
        )
    with opened(run, settings):
        dvc.fetch_data(run, settings)
        dvc.repro(run, "source")
        found = estimate_turns(
            run.folder / SCENES,
            params.generation,
            seed=params.seed,
            finished=run.folder / SHARDS,
            llm=params.llm,
            journal=journal_of(settings),
        )
    usd = "unknown: the params give no prices" if found.usd is None else f"about ${found.usd:.2f}"
    yield f"model      {params.llm.model}"
    yield f"calls      {found.calls} to make, {found.answered} answered before"
    yield f"tokens     about {found.input_tokens} in, {found.output_tokens} out (four characters each)"
    yield f"cost       {usd}"


@contextmanager
def dask_cluster(workers: int, logs: Path) -> Iterator[str]:
    """A Dask scheduler with workers of one thread on loopback; yields its address.

    They are processes of their own, so that none outlives a killed run. Whoever reaches the ports of a Dask
    cluster can run code in it: these are open to the users of this machine.
    """
    port, pages = free_port(), free_port()
    address = f"tcp://127.0.0.1:{port}"
    scheduler = ["--host", "127.0.0.1", "--port", str(port), "--dashboard-address", f"127.0.0.1:{pages}"]
    with ExitStack() as stack:
        stack.enter_context(
            running(
                [sys.executable, "-m", "distributed.cli.dask_scheduler", *scheduler],
                log=logs / "scheduler.log",
                ready=f"http://127.0.0.1:{pages}/health",
            )
        )
        for number in range(workers):
            pages = free_port()
            own = ["--dashboard-address", f"127.0.0.1:{pages}", "--local-directory", str(logs)]
            own += ["--nthreads", "1", "--memory-limit", "0", "--no-nanny"]
            stack.enter_context(
                running(
                    [sys.executable, "-m", "distributed.cli.dask_worker", address, *own],
                    log=logs / f"worker-{number}.log",
                    ready=f"http://127.0.0.1:{pages}/health",
                )
            )
        yield address
