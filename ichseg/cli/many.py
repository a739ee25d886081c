"""A command over many scans: a bar, results.csv, and what came of each."""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer
from rich.console import Console
from rich.progress import Progress
from rich.table import Table

from ichseg import cohort
from ichseg.cli.show import print_json, print_people
from ichseg.errors import InputError
from ichseg.replace_file import check_not_an_input, write_whole

if TYPE_CHECKING:
    pass


def refuse_for_many(options: Mapping[str, object]) -> None:
    """Refuse what belongs to one scan."""
    if given := [name for name, value in options.items() if value]:
        raise InputError(
            "Of many scans each brings its own boxes, record, series and offset; got "
            f"{', '.join(given)}; move it into the manifest's columns."
        )


def folder_for_many(out: Path | None) -> Path:
    """The folder that --out names. Raises InputError where it names none."""
    if out is None or out.is_file():
        raise InputError(
            "The results of many scans go into a folder; got "
            f"{'no --out' if out is None else f'the file {out.name}'}; give --out FOLDER."
        )
    return out


def run_many(
    jobs: Sequence[cohort.Segment | cohort.Compare],
    scans: Path,
    parallel: bool,
    ray_address: str | None,
    as_json: bool,
) -> None:
    """Run jobs with a bar on stderr, write results.csv, print what came of them; exit 1 where one was passed over."""
    folder, inputs = jobs[0].folder, cohort.inputs_of_many(scans, [job.entry for job in jobs])
    check_not_an_input(folder / cohort.RESULTS_NAME, inputs)
    console = Console(stderr=True)
    with Progress(console=console, transient=True, disable=not console.is_terminal) as progress:
        task = progress.add_task("Scans", total=len(jobs))
        outcomes = cohort.run(
            jobs,
            inputs=inputs,
            where=ray_address or (cohort.LOCAL if parallel else None),
            on_done=lambda _: progress.advance(task),
        )
    write_whole(folder / cohort.RESULTS_NAME, cohort.results_csv(outcomes), inputs=inputs)
    passed_over = [one.entry.number for one in outcomes if one.record is None]
    averages = cohort.averages(outcomes) if isinstance(jobs[0], cohort.Compare) else None
    caveat = CAVEAT if any(one.entry.truth for one in outcomes) else None
    if as_json:
        rows = [row for one in outcomes for row in cohort.result_rows(one)]
        record: dict[str, Any] = {"scans": rows, "passed_over": len(passed_over)}
        if averages is not None:
            record |= {"models": averages, "caveat": caveat}
        print_json(record)
    else:
        notes = [
            f"Scan {one.entry.number}: Warning: {warning}"
            for one in outcomes
            for warning in (one.record or {}).get("scan", {}).get("warnings", ())
        ]
        notes += [f"Scan {one.entry.number}: {one.error}" for one in outcomes if one.error]
        notes += [f"Tables and files are in {folder}.", *([caveat] if caveat else [])]
        print_people(_many_table(outcomes, averages), notes)
    if passed_over:
        # Numbers alone: what goes to a log names no file. The reasons stand in the results.
        numbers = ", ".join(map(str, passed_over))
        print(f"Passed over {len(passed_over)} of {len(jobs)} scans: {numbers}", file=sys.stderr)
        raise typer.Exit(1)


def _many_table(
    outcomes: Sequence[cohort.Outcome], averages: Sequence[Mapping[str, Any]] | None
) -> Table:
    """Each scan's row, or each model's where several were compared."""
    if averages is None:
        table = Table("Scan", "", "mL", "truth, mL", "Dice")
        rows = [row for one in outcomes if one.record for row in cohort.result_rows(one)]
        for row in rows:
            cells = (_two(row.get(key)) for key in ("volume_ml", "truth_ml"))
            table.add_row(str(row["number"]), row["state"], *cells, _two(row.get("dice"), 3))
    else:
        table = Table(
            "Model", "scans", "Dice, boxed slices", "Dice, whole scan", "|difference|, mL"
        )
        for one in averages:
            pairs = [
                f"{_two(one[f'{key}_mean'], digits)} ± {_two(one[f'{key}_sd'], digits)}"
                for key, digits in (("boxed_dice", 3), ("dice", 3), ("difference_ml", 2))
            ]
            table.add_row(one["model"], str(one["scans"]), *pairs)
    return table


def _two(value: float | None, digits: int = 2) -> str:
    return "-" if value is None else f"{value:.{digits}f}"


CAVEAT = (
    "Scored on slices where a person saw blood and drew a box: an optimistic setting, "
    "not what a model finds by itself. The whole scan's truth includes slices without a box."
)
