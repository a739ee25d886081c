"""Measures as people read them, each as a table for people has it (``fields.Shown``)."""

from __future__ import annotations

import math
from collections.abc import Callable

from ichseg.measures.values import Measures


def ml(value: float) -> str:
    """Millilitres as the page has them."""
    return f"{value:.2f}" if value < 10 else f"{value:.1f}"


def short_ml(value: float) -> str:
    """Millilitres as a narrow column of the report has them."""
    return f"{value:.1f}" if value < 100 else f"{value:.0f}"


def slice_text(k: int) -> str:
    """A slice as people count it, and as --slice takes it."""
    return f"slice {k + 1}, --slice {k}"


def range_text(number: Callable[[float], str], between: str) -> Callable[[Measures], str | None]:
    """The smallest and the largest volume of its range."""

    def text(one: Measures) -> str | None:
        given = one.range
        return None if given is None else f"{number(given.low_ml)}{between}{number(given.high_ml)}"

    return text


def components_on_page(one: Measures) -> str:
    """How many connected components, and the largest where there are several."""
    return f"{one.pieces} ({ml(one.largest_piece_ml)})" if one.pieces > 1 else f"{one.pieces}"


def longest_in_3d(one: Measures) -> str | None:
    """Its longest line in 3D, in mm."""
    return None if one.longest_in_3d is None else f"{one.longest_in_3d.length_mm:.1f}"


def surface_cm2(one: Measures) -> str:
    """The area of its surface."""
    return f"{one.surface_area_mm2 / 100:.1f}"


def abc2_text(number: Callable[[float], str]) -> Callable[[Measures], str | None]:
    """Its ABC/2 in mL."""
    return lambda one: None if one.abc2 is None else number(one.abc2.volume_ml)


def lines_on_terminal(one: Measures) -> str | None:
    """A, B and C in mm, and their slice."""
    abc = one.abc2
    if abc is None:
        return None
    lengths = f"{abc.a.length_mm:.1f} x {abc.b.length_mm:.1f} x {abc.c_mm:.1f}"
    return f"{lengths} ({slice_text(abc.a.slice_index)})"


def lines_in_report(one: Measures) -> str | None:
    """A, B and C in mm, and which of them a person has set."""
    abc = one.abc2
    if abc is None:
        return None
    hand = f" ({', '.join(abc.edited).upper()} set by hand)" if abc.edited else ""
    return f"{abc.a.length_mm:.0f} × {abc.b.length_mm:.0f} × {abc.c_mm:.0f}{hand}"


def lines_on_page(one: Measures) -> str | None:
    """A, B and C in mm."""
    abc = one.abc2
    if abc is None:
        return None
    return f"{abc.a.length_mm:.1f} × {abc.b.length_mm:.1f} × {abc.c_mm:.1f}"


def weights(one: Measures) -> str | None:
    """The slices of each weight, from 1: "1: 12, 13; 0.5: 10, 11; 0: 9"."""
    if one.abc2 is None:
        return None
    by_weight: dict[float, list[int]] = {}
    for share in one.abc2.slices:
        by_weight.setdefault(share.weight, []).append(share.slice_index + 1)
    return "; ".join(
        f"{weight:g}: {', '.join(map(str, by_weight[weight]))}"
        for weight in sorted(by_weight, reverse=True)
    )


def mean_and_sd(form: str) -> Callable[[Measures], str | None]:
    """Mean and SD of its HU, in a form with two places."""
    return lambda one: None if one.hu is None else form.format(one.hu.mean, one.hu.sd)


def quartiles(between: str) -> Callable[[Measures], str | None]:
    """Lower quartile, median and upper quartile of its HU."""

    def text(one: Measures) -> str | None:
        hu = one.hu
        if hu is None:
            return None
        return between.join(f"{at:.0f}" for at in (hu.lower_quartile, hu.median, hu.upper_quartile))

    return text


def bars(one: Measures) -> str:
    """The histogram in one line of text."""
    counts = one.histogram.voxels
    most = max(counts) or 1
    return "".join(" ▁▂▃▄▅▆▇█"[math.ceil(8 * count / most)] for count in counts)


def side_on_terminal(one: Measures) -> str | None:
    """Its side in words, with the share on the left."""
    side = one.side
    if side is None or side.left_share is None:
        return None
    names = {"both": "crosses the midline", None: "not certain"}
    return f"{names.get(side.side, side.side)} ({100 * side.left_share:.0f} %)"


def side_on_page(one: Measures) -> str | None:
    """Its side in words."""
    side = one.side.side if one.side else None
    return "crosses the midline" if side == "both" else side


def to_skull(one: Measures) -> str | None:
    """Its distance to the inner table in mm."""
    distance_mm = one.inner_table.distance_mm if one.inner_table else None
    return None if distance_mm is None else f"{distance_mm:.1f}"


def side_in_report(one: Measures) -> str | None:
    """Its side in one word."""
    return one.side.side if one.side else None
