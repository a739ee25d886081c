"""Where slices of a stack are lost, and what to say of it. The rules are on numbers alone: nothing reads a file."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ichseg.scan.series import Traits

MOST_GAP_MM = 22.0
"""Widest gap that lost slices may leave: a ball that fits into it has 5.6 mL, less than the 5.8 mL by which two readers
of one scan differ (minimal detectable difference between raters, Rodriguez-Luna 2016). At 5 mm: 3 lost slices."""

_SAME_SPACING = 0.2
_MOST_PARTS = 4

_FEWEST_NUMBERED, _MOST_LOST_AT_END = 4, 3
"""Slices that their numbers say something of, and how many lost at an end that is told from another way to number."""


@dataclass(frozen=True)
class Hole:
    """A gap where slices are lost: after slice ``index`` (from 0), how wide, and the spacing around it, in mm."""

    index: int
    gap_mm: float
    spacing_mm: float

    @property
    def lost(self) -> int:
        """About how many slices are lost, one at least."""
        return max(1, round(self.gap_mm / self.spacing_mm) - 1)

    @property
    def text(self) -> str:
        """The place and the widths, for people, who count slices from 1."""
        return (
            f"between slices {self.index + 1} and {self.index + 2}"
            f" ({self.gap_mm:.1f} mm where {self.spacing_mm:.1f} mm is usual)"
        )


def holes(gaps_mm: NDArray[np.float64], thickness_mm: Sequence[float | None]) -> list[Hole]:
    """The gaps where slices are lost.

    A hole is a gap of about 2, 3, ... times the spacing around it, or a single one of 1.5 times and more of both its
    neighbours. Series in two stacks, such as 5 mm through the skull base and 10 mm above, are whole all the same. What
    tells them apart: a hole lies between gaps of one spacing, while a second stack goes on to the end of the series. At
    an end, 1 or 2 wide gaps are a hole unless their slices are thicker as well.
    """
    runs: list[tuple[int, int, float]] = []  # first gap, number of gaps, spacing
    for index, gap in enumerate(gaps_mm):
        if runs and abs(gap - runs[-1][2]) <= _SAME_SPACING * min(gap, runs[-1][2]):
            start, count, spacing = runs[-1]
            runs[-1] = start, count + 1, (spacing * count + gap) / (count + 1)
        else:
            runs.append((index, 1, float(gap)))
    found = []
    for place, (start, count, spacing) in enumerate(runs):
        beside = runs[max(place - 1, 0) : place] + runs[place + 1 : place + 2]
        around = [one for _, _, one in beside] or [spacing]
        at_end, evidence = len(beside) == 1, sum(number for _, number, _ in beside)
        if count == 1 and not at_end and spacing >= 1.5 * max(around):
            found.append(Hole(start, float(gaps_mm[start]), max(around)))
            continue
        regular = float(np.mean(around))
        alike = all(abs(one - regular) <= _SAME_SPACING * regular for one in around)
        multiple = spacing / regular
        if multiple < 1.5 or abs(multiple - round(multiple)) > _SAME_SPACING or not alike:
            continue
        if at_end and (
            count > 2 or evidence < 2 or _thicker(thickness_mm, start, count, place == 0)
        ):
            continue
        found += [
            Hole(index, float(gaps_mm[index]), regular) for index in range(start, start + count)
        ]
    return found


def _thicker(thickness_mm: Sequence[float | None], start: int, count: int, first: bool) -> bool:
    """Whether the slices at the outer end of a run of gaps are thicker than those next to it."""
    outer = thickness_mm[0 if first else -1]
    inner = thickness_mm[start + count if first else start]
    return outer is not None and inner is not None and outer > 1.2 * inner


def frame_warnings(traits: Sequence[Traits]) -> tuple[str, ...]:
    """What to say of a stack, in order of place, that states several frames of reference."""
    named = [one.frame_of_reference for one in traits]
    frames = len({one for one in named if one})
    if frames < 2:
        return ()
    runs = [len(list(run)) for _, run in itertools.groupby(named)]
    ends = np.cumsum(runs)
    parts = [
        f"{end - run + 1} to {end}" if run > 1 else f"{end}"
        for run, end in zip(runs, ends, strict=True)
    ]
    where = f" (slices {'; '.join(parts)})" if len(parts) <= _MOST_PARTS else ""
    return (
        f"The slices state {frames} frames of reference{where}, though they lie as one stack: that the head lay alike"
        " in all of them is not said, and a volume that reaches across is in doubt.",
    )


@dataclass(frozen=True)
class Count:
    """What a series says of how many images it has.

    Attributes:
        numbers: InstanceNumber of each slice of a stack, in order of place; None where there is none.
        elsewhere: those of other images of the series, and of the study's localizers.
        promised: how many images the series, or the acquisition, is said to have; None where nothing says it.

    """

    numbers: tuple[int | None, ...]
    elsewhere: frozenset[int] = frozenset()
    promised: int | None = None


def end_warnings(count: Count, found: Iterable[Hole]) -> tuple[str, ...]:
    """What to say where the images' numbers, or what the header counts, tell of a slice lost at an end.

    Only numbers that rise or fall by 1 with the slices' places tell of it, but for the holes that are ``found``.
    """
    numbers = [one for one in count.numbers if one is not None]
    here, lost_within = len(numbers), sum(hole.lost for hole in found)
    if here < len(count.numbers) or here < _FEWEST_NUMBERED:
        return ()
    first, last = min(numbers), max(numbers)
    rising = numbers == sorted(numbers)
    in_order = rising or numbers == sorted(numbers, reverse=True)
    if not in_order or len({*numbers}) < here or last - first + 1 - here != lost_within:
        return ()
    before = [one for one in range(1, first) if one not in count.elsewhere]
    said = f"the images are numbered from {first} on"
    lost, at_first = len(before), True
    if count.promised is not None:
        total = here + lost_within + sum(first > one or one > last for one in count.elsewhere)
        lost, at_first = count.promised - total, count.promised - total <= len(before)
        said = f"the header counts {count.promised} images"
    if not 0 < lost <= _MOST_LOST_AT_END:
        return ()
    where = "below slice 1" if at_first == rising else f"above slice {here}"
    lacking = "1 image" if lost == 1 else f"{lost} images"
    return (
        f"{lacking} may be missing {where}, for {said} and {here} are here: blood there is not counted.",
    )


def hole_warnings(found: Iterable[Hole]) -> tuple[str, ...]:
    """What to say of lost slices that are few enough for the rest to be measured."""
    found = list(found)
    if not found:
        return ()
    lost = sum(hole.lost for hole in found)
    places = "; ".join(hole.text for hole in found[:4]) + ("; and more" if len(found) > 4 else "")
    count = "1 slice is" if lost == 1 else f"{lost} slices are"
    return (
        f"{count} missing {places}. Blood there is counted as on the neighbouring slices, each of which stands for"
        " half of the gap.",
    )
