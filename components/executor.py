"""One executor for work that is cut into shards: this process, processes beside it, or a Dask cluster.

A job is a picklable model, its function a module's; what it makes goes to files that it names, so a cluster
needs a file system that all its machines see at the same paths. The result depends on neither.
"""

import multiprocessing
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ProcessPoolExecutor, as_completed
from typing import TypeVar

from components.errors import SettingsError
from components.process import kill_when_parent_dies

DASK_LIMIT = 30  # seconds a scheduler has to answer

_Job = TypeVar("_Job")
_Result = TypeVar("_Result")


def map_jobs(
    function: Callable[[_Job], _Result], jobs: Iterable[_Job], *, workers: int, dask_scheduler: str | None
) -> Iterator[_Result]:
    """The results as they are ready, in any order. The first error of a job is raised, the rest is cancelled.

    Args:
        function: of a module, so that a worker can import it.
        jobs: what it is called with.
        workers: processes of this machine; with 1 all happens in this process.
        dask_scheduler: the address of a Dask scheduler, whose workers are used instead.

    Raises:
        SettingsError: when Dask is not installed or its scheduler does not answer.
    """
    if dask_scheduler is not None:
        yield from _on_dask(function, jobs, dask_scheduler)
    elif workers == 1:
        yield from map(function, jobs)
    else:
        # A forked worker would inherit threads' locks.
        context = multiprocessing.get_context("spawn")
        with ProcessPoolExecutor(workers, context, initializer=kill_when_parent_dies) as pool:
            futures = [pool.submit(function, job) for job in jobs]
            try:
                for future in as_completed(futures):
                    yield future.result()
            finally:
                pool.shutdown(wait=True, cancel_futures=True)


def _on_dask(function: Callable[[_Job], _Result], jobs: Iterable[_Job], address: str) -> Iterator[_Result]:
    try:
        from distributed import Client
        from distributed import as_completed as completed
    except ImportError:
        raise SettingsError(
            "RCVIT_DASK_SCHEDULER is set and Dask is not installed",
            hint="pip install -c requirements.lock -e '.[dask]', or unset it",
        ) from None
    try:
        client = Client(address, timeout=DASK_LIMIT)
    except (OSError, ValueError) as error:
        raise SettingsError(
            f"RCVIT_DASK_SCHEDULER {address} does not answer: {error}", hint="start it, or unset the setting"
        ) from error
    with client:
        # pure=False: Dask must not take a file that an earlier job of the same name wrote for this one's.
        futures = client.map(function, list(jobs), pure=False)
        try:
            for future in completed(futures):
                yield future.result()
        finally:
            client.cancel(futures)
