"""Do many scans; one that cannot be done is reported and passed over."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TypeAlias

from ichseg.cohort.corrections import CORRECTED_NAME
from ichseg.cohort.jobs import Compare, Measure, Outcome, Segment
from ichseg.cohort.pool import Failure, each
from ichseg.errors import InputError
from ichseg.replace_file import Inputs, check_not_an_input, output_key, sweep_parts

Job: TypeAlias = Segment | Compare | Measure


def run(
    jobs: Sequence[Job],
    *,
    inputs: Iterable[Path] = (),
    where: str | None = None,
    processes: int | None = None,
    on_done: Callable[[Outcome], None] | None = None,
) -> list[Outcome]:
    """Do all jobs and return what became of each, in their order; a scan that cannot be done is passed over.

    Args:
        jobs: each writes its own files; their folder is made here. One that would write over what any of them reads,
            or over another's file, is passed over before any work is done.
        inputs: what the run reads beside the jobs' own scans, such as their manifest.
        where: as of ``pool.each``.
        processes: likewise.
        on_done: called with each outcome as it comes, in any order.

    """
    read = Inputs([*inputs, *(path for job in jobs for path in job.entry.inputs)])
    refused = _refused(jobs, read)
    for folder in {job.folder for job in jobs}:
        _make(folder)
    _sweep(jobs)
    here = {job.folder: _inside(job.folder, read) for job in jobs}
    todo = [i for i in range(len(jobs)) if i not in refused]
    outcomes: dict[int, Outcome] = {}

    def done(i: int, found: Outcome | Failure) -> None:
        if isinstance(found, Failure):
            found = Outcome(
                jobs[i].entry, "passed over", error=found.sentence, error_kind=found.kind
            )
        outcomes[i] = found
        if on_done is not None:
            on_done(found)

    for i, failure in refused.items():
        done(i, failure)
    work = [replace(jobs[i], inputs=here[jobs[i].folder]) for i in todo]
    for number, found in each(_do, work, where=where, processes=processes):
        done(todo[number], found)
    return [outcomes[i] for i in range(len(jobs))]


def _refused(jobs: Sequence[Job], read: Inputs) -> dict[int, Failure]:
    """Which jobs would write where they must not: onto what any of them reads, or onto an earlier one's file."""
    found = dict[int, Failure]()
    taken = dict[str, int]()
    for i, job in enumerate(jobs):
        try:
            for output in job.outputs:
                check_not_an_input(output, read)
                if (first := taken.setdefault(output_key(output), i)) != i:
                    raise InputError(
                        f"Each scan's files are its own; {output.name} is written for scans "
                        f"{jobs[first].entry.number} and {job.entry.number}; give another name as out."
                    )
        except InputError as error:
            found[i] = Failure(str(error), "output")
    return found


def _inside(folder: Path, read: Inputs) -> tuple[Path, ...]:
    """What is read from below a folder."""
    place = folder.resolve()
    return tuple(path for path in read if path.resolve().is_relative_to(place))


def _do(job: Job) -> Outcome:
    return job()


def _sweep(jobs: Sequence[Job]) -> None:
    """Delete what a killed run, or a killed page that corrects its results, left half written in the jobs' folders."""
    written = {(job.folder, output.parent) for job in jobs for output in job.outputs}
    below = {one for own, one in written if one.resolve().is_relative_to(own.resolve())}
    for folder in below | {job.folder / CORRECTED_NAME for job in jobs}:
        sweep_parts(folder)


def _make(folder: Path) -> None:
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise InputError(
            f"The results of many scans go into a folder; {folder.name} cannot be made "
            f"({error.strerror or error}); give another --out."
        ) from error
