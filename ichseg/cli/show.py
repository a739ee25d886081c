"""Printing: one JSON object, or tables and notes for people."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import numpy.typing as npt
from rich.console import Console
from rich.progress import Progress, track
from rich.table import Table

from ichseg import NOTICE
from ichseg.files.records import complete, json_bytes
from ichseg.measures.growth import Growth, PartGrowth
from ichseg.measures.timeline import Timeline
from ichseg.measures.volume import slice_table, volume_ml
from ichseg.scan.volume import CTVolume

if TYPE_CHECKING:
    pass


def print_json(record: Mapping[str, Any]) -> None:
    """One object on stdout, with versions and notice."""
    sys.stdout.write(json_bytes(complete(record)).decode())


def print_people(table: Table, notes: Iterable[str], last: str = NOTICE) -> None:
    """A table, then notes, each on a line, then the notice."""
    Console(highlight=False).print(table)
    print_lines(notes, last)


def print_lines(lines: Iterable[str], last: str = NOTICE) -> None:
    """Sentences, each on a line, then the notice."""
    console = Console(highlight=False)
    for line in (*lines, last):
        console.print(line, markup=False, soft_wrap=True)


def volume_table(mask_zyx: npt.ArrayLike, volume: CTVolume, title: str) -> Table:
    """Area, height and millilitres by slice, and the total."""
    table = Table(title=title, title_justify="left")
    for heading in ("Slice", "from 0", "mm2", "height, mm", "mL"):
        table.add_column(heading, justify="right")
    for row in slice_table(mask_zyx, volume):
        table.add_row(
            str(row.slice_index + 1),
            str(row.slice_index),
            f"{row.area_mm2:.1f}",
            f"{row.height_mm:.2f}",
            f"{row.volume_ml:.2f}",
        )
    table.add_section()
    table.add_row("Total", "", "", "", f"{volume_ml(mask_zyx, volume):.2f}")
    return table


def slice_name(k: int) -> str:
    """A slice as people count it, and as --slice takes it."""
    return f"slice {k + 1}, --slice {k}"


def with_bar(slices: Sequence[int], title: str) -> Iterable[int]:
    """The slices, one by one, with a bar on stderr."""
    console = Console(stderr=True)
    return track(
        slices,
        description=title,
        console=console,
        transient=True,
        disable=not console.is_terminal,
    )


@contextmanager
def progress_bar(title: str) -> Iterator[Callable[[float], None]]:
    """A bar on stderr, and what tells it the share that is done, 0 to 1."""
    console = Console(stderr=True)
    with Progress(console=console, transient=True, disable=not console.is_terminal) as progress:
        task = progress.add_task(title, total=1.0)
        yield lambda share: progress.update(task, completed=share)


def print_growth(found: Growth, last: Iterable[str] = ()) -> None:
    """The growth of each lesion and type, the definitions of expansion, and what is to be said with them."""
    parts = Table("", "Baseline, mL", "Follow-up, mL", "Growth, mL", "%", "mL/h")
    for one in (*found.lesions, *(found.types if len(found.types) < len(found.lesions) else ())):
        percent, rate = one.growth_percent, one.growth_ml_per_hour
        parts.add_row(
            f"{one.name} ({one.type})" if one.name else f"All {one.type}",
            f"{one.baseline_ml:.2f}",
            f"{one.followup_ml:.2f}",
            f"{one.growth_ml:+.2f}",
            "new" if one.is_new else "-" if percent is None else f"{percent:+.1f}",
            "-" if rate is None else f"{rate:+.2f}",
        )
    print_people(parts, [], "")
    table = Table("Expansion", "", "Rule", "Found", "Source")
    for verdict in found.verdicts:
        table.add_row(verdict.name, verdict.answer, verdict.rule, verdict.because, verdict.source)
    percent = found.growth_percent
    share = "the baseline is empty" if percent is None else f"{percent:+.1f} %"
    whole = f"Growth of {found.counted}: {found.growth_ml:+.2f} mL ({share}){found.pace}."
    print_people(table, [whole, found.error_sentence, *found.notes, *last], "")


def print_timeline(found: Timeline, last: Iterable[str] = ()) -> None:
    """The growth between two scans; of more the volume against time, and what each later one says of expansion."""
    if len(found.growths) == 1:
        print_growth(found.growths[0], last)
        return
    table = Table("", "Scan", "Hours", "mL", "Since baseline", "Since scan before")
    for line in found.lines:
        for point in line.points:
            table.add_row(
                found.title_of(line) if point.scan == 1 else "",
                str(point.scan),
                "-" if point.hours is None else f"{point.hours:.4g}",
                f"{point.ml:.2f}",
                _change(point.from_baseline),
                _change(point.from_previous),
            )
        table.add_section()
    print_people(table, [], "")
    scans = (f"Scan {at}" for at in range(2, len(found.hours) + 1))
    expansion = Table("Expansion since baseline", *scans, "Rule", "Source")
    for verdict in found.growths[0].verdicts:
        answers = (one.verdict(verdict.name).answer for one in found.growths)
        expansion.add_row(verdict.name, *answers, verdict.rule, verdict.source)
    print_people(expansion, [found.error_sentence, *found.notes, *last], "")


def _change(one: PartGrowth | None) -> str:
    return "" if one is None else one.in_words
