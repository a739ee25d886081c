"""Jobs one by one, side by side on this machine's cores, or through Ray. A job that fails costs no other job."""

from __future__ import annotations

import logging
import multiprocessing
import os
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, TypeVar

from ichseg.errors import InputError

Job = TypeVar("Job")
Result = TypeVar("Result")

#: This machine's own cores.
LOCAL = "local"


@dataclass(frozen=True)
class Failure:
    """Why a job could not be done, in a sentence."""

    sentence: str


def each(
    work: Callable[[Job], Result], jobs: Sequence[Job], *, where: str | None = None
) -> Iterator[tuple[int, Result | Failure]]:
    """(A job's place, its result or Failure) as they come: ``work`` on every job.

    Args:
        work: what is done with a job.
        jobs: what it is done with.
        where: None for this process, one job after the other; ``LOCAL`` for a process for each core of this machine;
            else the address of a Ray cluster. In the latter two jobs must not depend on each other, and ``work``,
            jobs and results must pickle. A cluster's machines need this project installed and the same files under
            the same paths.

    Raises:
        InputError: Ray is asked for and is not installed, or no cluster answers at the address.

    """
    if where is None:
        return ((i, _attempt(work, job)) for i, job in enumerate(jobs))
    return _on_cores(work, jobs) if where == LOCAL else _on_ray(work, jobs, where)


def _on_cores(
    work: Callable[[Job], Result], jobs: Sequence[Job]
) -> Iterator[tuple[int, Result | Failure]]:
    broken = []
    with _processes(min(os.cpu_count() or 1, len(jobs) or 1)) as pool:
        waiting = {pool.submit(_attempt, work, job): i for i, job in enumerate(jobs)}
        for future in as_completed(waiting):
            try:
                yield waiting[future], future.result()
            except (
                BrokenProcessPool
            ):  # one process died, e.g. out of memory, and took the pool with it
                broken.append(waiting[future])
    for i in sorted(broken):  # so each of the others is done alone, and who dies again is known
        with _processes(1) as pool:
            try:
                yield i, pool.submit(_attempt, work, jobs[i]).result()
            except BrokenProcessPool as error:
                yield i, Failure(_internal(error))


def _processes(count: int) -> ProcessPoolExecutor:
    # A forked process would inherit torch's threads, and hang.
    return ProcessPoolExecutor(
        count, multiprocessing.get_context("spawn"), initializer=_share_cores, initargs=(count,)
    )


def _share_cores(processes: int) -> None:
    """Let each process compute on its part of the cores."""
    threads = max(1, (os.cpu_count() or 1) // processes)
    os.environ.setdefault("OMP_NUM_THREADS", str(threads))  # read when torch is imported


def _on_ray(
    work: Callable[[Job], Result], jobs: Sequence[Job], address: str
) -> Iterator[tuple[int, Result | Failure]]:
    with _ray(address) as engine:
        remote = engine.remote(max_retries=0)(_attempt)
        waiting = {remote.remote(work, job): i for i, job in enumerate(jobs)}
        while waiting:
            (ready,), _ = engine.wait(list(waiting), num_returns=1)
            i = waiting.pop(ready)
            try:
                yield i, engine.get(ready)
            except engine.exceptions.RayError as error:  # the worker died, e.g. out of memory
                yield i, Failure(_internal(error))


@contextmanager
def _ray(address: str) -> Iterator[Any]:
    """The ray module, connected; what is started here is stopped again. Nothing of Ray's is sent or logged here."""
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    try:
        import ray
    except ImportError as error:
        raise InputError(
            "Running on a Ray cluster needs the package ray, which is not installed here; "
            "pip install -r requirements-ray.txt, or use this machine's cores: --parallel."
        ) from error
    if ray.is_initialized():
        yield ray
        return
    try:  # what a worker prints could name a scan
        ray.init(address=address, log_to_driver=False, logging_level=logging.ERROR)
    except (ConnectionError, ValueError, RuntimeError) as error:
        raise InputError(
            f"A Ray cluster answers at its address; '{address}' does not ({type(error).__name__}); "
            "start it with ray start --head, or use this machine's cores: --parallel."
        ) from error
    try:
        yield ray
    finally:
        ray.shutdown()


def _attempt(work: Callable[[Job], Result], job: Job) -> Result | Failure:
    try:
        return work(job)
    except InputError as error:
        return Failure(str(error))
    except Exception as error:  # one scan's surprise must not cost the others their night
        return Failure(_internal(error))


def _internal(error: Exception) -> str:
    return (
        f"A scan is read and segmented without an internal error; this one ended in {type(error).__name__} "
        f"({' '.join(str(error).split())[:200]}); run it alone, and report it."
    )
