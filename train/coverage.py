"""python -m train coverage: how often the truth lies in the range that jittered boxes give (spread.volume_range).

The range is computed by the function that the page and the command line use, on patients the adapter never saw, from
boxes around the truth's pieces. Where a set gives no pixel size, CT_ICH_ASSUMED_PIXEL_MM stands for it; where it gives
no slice heights, areas summed over slices stand for volumes, as all slices of a patient count alike.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict, dataclass, fields
from pathlib import Path

import numpy as np
import numpy.typing as npt

from ichseg.measures.spread import DRAWS, JITTER_MM, jittered_areas_px
from ichseg.methods.predictor import Predictor
from train.cases import CT_ICH_ASSUMED_PIXEL_MM
from train.dataset import NativeSlice, write_table

#: How the boxes of a patient's slices move in one draw: all by the same parts, as volume_range has it, or each slice's
#: by their own, beside it.
MOVES = ("together", "apart")


@dataclass(frozen=True)
class Row:
    """One patient's truth and range, in pixels weighted by slice height where that is known.

    ``slices_covered`` counts the slices whose own truth lies in their own range.
    """

    patient: str
    moves: str
    slices: int
    truth: float
    low: float
    median: float
    high: float
    slices_covered: int
    key: str = ""
    """Of what it came from (``cache_key``)."""

    @property
    def covered(self) -> bool:
        """Whether the truth lies in the range."""
        return self.low <= self.truth <= self.high


def cover(
    predictor: Predictor,
    slices: Iterable[NativeSlice],
    *,
    draws: int = DRAWS,
    jitter_mm: float = JITTER_MM,
    second_look: bool | None = False,
    seed: int = 0,
    on_slice: Callable[[], None] | None = None,
) -> list[Row]:
    """The range of each patient under each of MOVES; a slice is encoded once. ``on_slice`` shows progress."""
    found: dict[tuple[str, str], list[tuple[float, npt.NDArray[np.float64]]]] = {}
    for item in slices:
        embedding = predictor.embed(item.slice_hu)
        dy, dx = item.pixel_spacing_mm or (CT_ICH_ASSUMED_PIXEL_MM, CT_ICH_ASSUMED_PIXEL_MM)
        height = item.slice_height_mm or 1.0
        for moves in MOVES:
            own = (
                [seed] if moves == "together" else [seed, *item.scan_id.encode(), item.slice_index]
            )
            areas = jittered_areas_px(
                predictor,
                embedding,
                item.piece_boxes,
                jitter_xy_px=(jitter_mm / dx, jitter_mm / dy),
                draws=draws,
                second_look=second_look,
                seed=int(np.random.SeedSequence(own).generate_state(1)[0]),
            )
            pair = (height * float(item.mask.sum()), height * areas.astype(np.float64))
            found.setdefault((item.patient_id, moves), []).append(pair)
        if on_slice is not None:
            on_slice()
    return [_row(*key, pairs) for key, pairs in found.items()]


def _row(patient: str, moves: str, pairs: Sequence[tuple[float, npt.NDArray[np.float64]]]) -> Row:
    total = np.sum([areas for _, areas in pairs], axis=0)
    return Row(
        patient=patient,
        moves=moves,
        slices=len(pairs),
        truth=sum(truth for truth, _ in pairs),
        low=float(total.min()),
        median=float(np.median(total)),
        high=float(total.max()),
        slices_covered=sum(bool(areas.min() <= truth <= areas.max()) for truth, areas in pairs),
    )


def write_rows(path: Path, rows: Sequence[Row]) -> None:
    """The rows as CSV, whole or not at all."""
    columns = [*(item.name for item in fields(Row)), "covered"]
    write_table(path, [{**asdict(row), "covered": int(row.covered)} for row in rows], columns)


def table(rows: Sequence[Row]) -> str:
    """Coverage as a Markdown table, a row for each of MOVES."""
    lines = [
        "| boxes of one draw move | patients | truth in range | truth below | truth above "
        "| width / median | slices | truth in the slice's range |",
        "|---|---:|---:|---:|---:|---:|---:|---:|",
    ]
    for moves in MOVES:
        mine = [row for row in rows if row.moves == moves]
        if not mine:
            continue
        inside = sum(row.covered for row in mine)
        low, high = wilson(inside, len(mine))
        below, above = (
            sum(row.truth < row.low for row in mine),
            sum(row.truth > row.high for row in mine),
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

Printed by `python -m train coverage`; a row a patient is in the CSV file beside this one.

For each patient the boxes around the truth's pieces are drawn anew {DRAWS} times, each side up to
{JITTER_MM:g} mm elsewhere, as the page and the command line do it, without a second look; the least and the
greatest volume are the range. It says how much the box matters. Whether the labelled volume lies in it is
counted here; it is no interval for the truth, and is not called one anywhere.

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
