"""A command over many scans: a bar, results.csv with its dictionary, and what came of each."""

from __future__ import annotations

import math
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer
from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)
from rich.table import Table

from ichseg import cohort
from ichseg.cli.show import print_json, print_people
from ichseg.errors import InputError
from ichseg.replace_file import check_not_an_input, write_whole

if TYPE_CHECKING:
    from ichseg.cohort.run import Job

#: Where there is no terminal, how often a line says how far it is.
_SAY_EVERY_SECONDS = 60.0


@dataclass(frozen=True)
class Where:
    """Where the scans are done: here one by one, side by side on this machine, or on a Ray cluster."""

    parallel: bool = False
    processes: int | None = None
    ray_address: str | None = None

    @property
    def place(self) -> str | None:
        """As ``cohort.run`` takes it."""
        side_by_side = self.parallel or self.processes is not None
        return self.ray_address or (cohort.LOCAL if side_by_side else None)


def refuse_for_many(options: Mapping[str, object]) -> None:
    """Refuse what belongs to one scan."""
    if given := [name for name, value in options.items() if value]:
        raise InputError(
            "Of many scans each brings its own boxes, lesions or record; got "
            f"{', '.join(given)}; move it into the manifest's columns."
        )


def hours_for_many(hours: Sequence[float] | None) -> float | None:
    """The hours of all pairs, refused where they cannot be, or are not the same."""
    if not hours:
        return None
    if len(hours) > 1 or not (math.isfinite(hours[0]) and hours[0] > 0):
        raise InputError(
            "hours are a number above 0, from each baseline's scan to its follow-up; got "
            f"{', '.join(f'{one:g}' for one in hours)}; give e.g. 6.5, or leave it out."
        )
    return hours[0]


def folder_for_many(out: Path | None) -> Path:
    """The folder that --out names. Raises InputError where it names none."""
    if out is None or out.is_file():
        raise InputError(
            "The results of many scans go into a folder; got "
            f"{'no --out' if out is None else f'the file {out.name}'}; give --out FOLDER."
        )
    return out


def run_many(jobs: Sequence[Job], scans: Path, where: Where, as_json: bool) -> None:
    """Run jobs with a bar on stderr, write the tables, print what came of them; exit 1 where one was passed over."""
    folder, inputs = jobs[0].folder, cohort.inputs_of_many(scans, [job.entry for job in jobs])
    for name in cohort.TABLES:
        check_not_an_input(folder / name, inputs)
    with _progress(len(jobs)) as on_done:
        outcomes = cohort.run(
            jobs, inputs=inputs, where=where.place, processes=where.processes, on_done=on_done
        )
    compared = isinstance(jobs[0], cohort.Compare)
    growth = [] if compared else cohort.growth_rows(outcomes)
    for name, content in cohort.tables(outcomes, growth).items():
        if content is None:
            (folder / name).unlink(missing_ok=True)  # of an earlier run
        else:
            write_whole(folder / name, content, inputs=inputs)
    passed_over = [one.entry.number for one in outcomes if one.record is None]
    averages = cohort.averages(outcomes) if compared else None
    caveat = CAVEAT if any(one.entry.truth for one in outcomes) else None
    kinds = cohort.failures(outcomes)
    if as_json:
        rows = [row for one in outcomes for row in cohort.result_rows(one)]
        record: dict[str, Any] = {"scans": rows, "passed_over": len(passed_over)}
        record["failures"] = kinds
        if averages is not None:
            record |= {"models": averages, "caveat": caveat}
        else:
            record["growth"] = growth
        print_json(record)
    else:
        notes = [note for one in outcomes for note in _notes(one)]
        notes += [f"{kind}: {_numbers(numbers)}." for kind, numbers in kinds.items()]
        notes += [f"Tables and files are in {folder}.", *([caveat] if caveat else [])]
        print_people(_many_table(outcomes, averages), notes)
    if passed_over:
        # Numbers alone: what goes to a log names no file. The reasons stand in the results.
        numbers = ", ".join(map(str, passed_over))
        print(f"Passed over {len(passed_over)} of {len(jobs)} scans: {numbers}", file=sys.stderr)
        raise typer.Exit(1)


@contextmanager
def _progress(count: int) -> Iterator[Callable[[cohort.Outcome], None]]:
    """On a terminal a bar with the time that is left, elsewhere a line now and then; and what tells of a scan."""
    console = Console(stderr=True)
    failed, done, started, said = 0, 0, time.monotonic(), time.monotonic()
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TextColumn("left"),
        TimeRemainingColumn(elapsed_when_finished=False),
    )
    with Progress(
        *columns, console=console, transient=True, disable=not console.is_terminal
    ) as bar:
        task = bar.add_task("Scans", total=count)

        def on_done(one: cohort.Outcome) -> None:
            nonlocal failed, done, said
            done, failed = done + 1, failed + (one.record is None)
            bar.update(
                task,
                advance=1,
                description=f"Scans, {failed} passed over" * bool(failed) or "Scans",
            )
            now = time.monotonic()
            if not console.is_terminal and now - said >= _SAY_EVERY_SECONDS:
                said, left = now, (now - started) / done * (count - done) / 60
                print(
                    f"{done} of {count} scans, {failed} passed over, about {left:.0f} minutes left",
                    file=sys.stderr,
                    flush=True,
                )

        yield on_done


def _notes(one: cohort.Outcome) -> Iterator[str]:
    """What is said of one scan: its warnings, what has to be read with its volume, or why it was passed over."""
    number = f"Scan {one.entry.number}"
    if one.error:
        yield f"{number}: {one.error}"
    for warning in (one.record or {}).get("scan", {}).get("warnings", ()):
        yield f"{number}: Warning: {warning}"
    for note in dict.fromkeys(row["notes"] for row in (one.record or {}).get("rows", ())):
        if note:
            yield f"{number}: {note}"


def _numbers(numbers: Sequence[int]) -> str:
    scans = "scan" if len(numbers) == 1 else "scans"
    return f"{len(numbers)} {scans} passed over ({', '.join(map(str, numbers))})"


def _many_table(
    outcomes: Sequence[cohort.Outcome], averages: Sequence[Mapping[str, Any]] | None
) -> Table:
    """Each scan's lesions, or each model's means where several were compared."""
    if averages is None:
        table = Table("Scan", "", "Lesion", "of", "mL", "reference, mL", "Dice")
        for one in outcomes:
            for row in cohort.result_rows(one) if one.record else ():
                table.add_row(
                    str(row["number"]),
                    row["state"],
                    f"{row.get('lesion') or '-'} {row.get('type') or ''}".strip(),
                    row["extent"],
                    *(_two(row.get(key)) for key in ("volume_ml", "truth_ml")),
                    _two(row.get("dice"), 3),
                )
    else:
        table = Table(
            "Model", "scans", "Dice, boxed slices", "Dice, whole scan", "|difference|, mL"
        )
        for mean in averages:
            pairs = [
                f"{_two(mean[f'{key}_mean'], digits)} ± {_two(mean[f'{key}_sd'], digits)}"
                for key, digits in (("boxed_dice", 3), ("dice", 3), ("difference_ml", 2))
            ]
            table.add_row(mean["model"], str(mean["scans"]), *pairs)
    return table


def _two(value: float | None, digits: int = 2) -> str:
    return "-" if value is None else f"{value:.{digits}f}"


CAVEAT = (
    "Scored on slices where a person saw blood and drew a box: an optimistic setting, "
    "not what a model finds by itself. The whole scan's reference mask includes slices without a box."
)
