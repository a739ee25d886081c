"""The document and the table of ``python -m train coverage``."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import asdict, fields
from pathlib import Path

import numpy as np

from ichseg.measures.spread import DRAWS, JITTER_MM
from ichseg.replace_file import write_whole
from train.data.files import write_table
from train.scores.coverage import MOVES, Row


def write_coverage(out: Path, rows: Sequence[Row], title: str) -> None:
    """Write coverage.csv, a row for each patient, and coverage.md into a folder."""
    columns = [*(item.name for item in fields(Row)), "covered"]
    values = [{**asdict(row), "covered": int(row.covered)} for row in rows]
    write_table(out / "coverage.csv", values, columns)
    write_whole(out / "coverage.md", report(rows, title).encode())


def table(rows: Sequence[Row]) -> str:
    """Coverage as a Markdown table, a row for each of MOVES."""
    lines = [
        "| boxes of one draw move | patients | reference volume in range | below | above "
        "| width / median | slices | reference area in the slice's range |",
        "|---|---:|---:|---:|---:|---:|---:|---:|",
    ]
    for moves in MOVES:
        mine = [row for row in rows if row.moves == moves]
        if not mine:
            continue
        inside = sum(row.covered for row in mine)
        low, high = wilson(inside, len(mine))
        below, above = (
            sum(row.reference < row.low for row in mine),
            sum(row.reference > row.high for row in mine),
        )
        widths = [(row.high - row.low) / row.median for row in mine if row.median > 0]
        slices = sum(row.slices for row in mine)
        covered = sum(row.slices_covered for row in mine)
        lines.append(
            f"| {moves} | {len(mine)} | {inside} ({100 * low:.0f} to {100 * high:.0f} %) | {below} | {above} "
            f"| {float(np.median(widths)) if widths else math.nan:.2f} | {slices} "
            f"| {covered} ({100 * covered / slices:.0f} %) |"
        )
    return "\n".join(lines)


def report(rows: Sequence[Row], title: str) -> str:
    """The table with what it says, as Markdown."""
    return f"""# The range under other boxes: {title}

Printed by `python -m train coverage`; a row for each patient is in the CSV file beside this one.

For each patient the boxes around the reference mask's components are drawn anew {DRAWS} times, each side up to
{JITTER_MM:g} mm elsewhere, as the page and the command line do it, without refinement; the least and the
greatest volume are the range. It says how much the box matters. Whether the labelled volume lies in it is
counted here; it is no interval for the reference volume, and is not called one anywhere.

{table(rows)}
"""


def wilson(hits: int, of: int) -> tuple[float, float]:
    """The 95 % interval of a share (Wilson 1927).

    >>> [round(bound, 3) for bound in wilson(5, 10)]
    [0.237, 0.763]
    """
    z = 1.959964
    share, spread = hits / of, z * z / of
    middle = (share + spread / 2) / (1 + spread)
    half = z / (1 + spread) * math.sqrt(share * (1 - share) / of + spread / (4 * of))
    return middle - half, middle + half
