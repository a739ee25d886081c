"""Jobs one by one, side by side on this machine's cores, or through Ray. A job that fails costs no other job."""

from __future__ import annotations

import logging
import multiprocessing
import os
from collections import deque
from collections.abc import Callable, Generator, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, TypeVar

from ichseg.errors import BoxError, InputError, LesionError, VolumeError, WeightsError

Job = TypeVar("Job")
Result = TypeVar("Result")

#: This machine's own cores.
LOCAL = "local"


@dataclass(frozen=True)
class Failure:
    """Why a job could not be done, in a sentence, and of what kind that is."""

    sentence: str
    kind: str = "input"


#: Of what kind an error is, for a summary over many scans; the first that fits.
_KINDS: tuple[tuple[type[Exception], str], ...] = (
    (VolumeError, "scan or mask"),
    (BoxError, "boxes or lesions"),
    (LesionError, "boxes or lesions"),
    (WeightsError, "model"),
    (InputError, "input"),
    (Exception, "internal error"),
)

#: That of a job whose process ended, out of memory for example.
PROCESS_ENDED = "process ended"


def each(
    work: Callable[[Job], Result],
    jobs: Sequence[Job],
    *,
    where: str | None = None,
    processes: int | None = None,
) -> Iterator[tuple[int, Result | Failure]]:
    """(A job's place, its result or Failure) as they come: ``work`` on every job.

    Args:
        work: what is done with a job.
        jobs: what it is done with.
        where: None for this process, one job after the other; ``LOCAL`` for processes on this machine's cores; else
            the address of a Ray cluster. In the latter two jobs must not depend on each other, and ``work``, jobs and
            results must pickle. A cluster's machines need this project installed and the same files under the same
            paths.
        processes: how many on this machine; one for each core unless given.

    Raises:
        InputError: Ray is asked for and is not installed, or no cluster answers at the address.

    """
    if where is None:
        return ((i, _attempt(work, job)) for i, job in enumerate(jobs))
    if where == LOCAL:
        return _on_cores(work, jobs, max(1, min(processes or cores(), len(jobs))))
    return _on_ray(work, jobs, where)


def cores() -> int:
    """How many cores this process may use."""
    if hasattr(os, "sched_getaffinity"):  # a container may have some of the machine's
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def _on_cores(
    work: Callable[[Job], Result], jobs: Sequence[Job], count: int
) -> Iterator[tuple[int, Result | Failure]]:
    todo = deque(range(len(jobs)))
    while todo:
        suspects = yield from _until_one_dies(work, jobs, todo, count)
        for i in suspects:  # each alone, so that who dies again is known
            with _processes(1) as pool:
                try:
                    yield i, pool.submit(_attempt, work, jobs[i]).result()
                except BrokenProcessPool as error:
                    yield i, Failure(_internal(error), PROCESS_ENDED)


def _until_one_dies(
    work: Callable[[Job], Result], jobs: Sequence[Job], todo: deque[int], count: int
) -> Generator[tuple[int, Result | Failure], None, list[int]]:
    """Do jobs from ``todo`` on some processes; when a process dies, those that were under way are returned.

    A process that ends, e.g. out of memory, takes the pool with it. Few jobs are given out at a time, so that few are
    under suspicion then.
    """
    waiting: dict[Future[Result | Failure], int] = {}
    with _processes(count) as pool:
        try:
            while todo or waiting:
                while todo and len(waiting) < 2 * count:
                    waiting[pool.submit(_attempt, work, jobs[todo[0]])] = todo[0]
                    todo.popleft()
                for future in wait(waiting, return_when=FIRST_COMPLETED).done:
                    yield waiting[future], future.result()
                    del waiting[future]
        except BrokenProcessPool:
            return sorted(waiting.values())
        finally:
            pool.shutdown(wait=False, cancel_futures=True)
    return []


def _processes(count: int) -> ProcessPoolExecutor:
    # A forked process would inherit torch's threads, and hang.
    return ProcessPoolExecutor(
        count,
        multiprocessing.get_context("spawn"),
        initializer=_share_cores,
        initargs=(max(1, cores() // count),),
    )


def _share_cores(threads: int) -> None:
    """Let each process compute on its part of the cores, or on fewer where the environment says so."""
    for name in _THREADS:  # read when torch, OpenVINO and numpy's libraries are loaded
        said = os.environ.get(name, "")
        os.environ[name] = str(min(threads, int(said)) if said.isdecimal() else threads)


_THREADS = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")


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
                yield i, Failure(_internal(error), PROCESS_ENDED)


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
    except Exception as error:  # one scan's surprise must not cost the others their night
        kind = next(kind for of, kind in _KINDS if isinstance(error, of))
        return Failure(str(error) if isinstance(error, InputError) else _internal(error), kind)


def _internal(error: Exception) -> str:
    return (
        f"A scan is read and segmented without an internal error; this one ended in {type(error).__name__} "
        f"({' '.join(str(error).split())[:200]}); run it alone, and report it."
    )
