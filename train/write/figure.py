"""The benchmark's figure: slices chosen by rules down, methods across, in each cell the outlines and the Dice."""

from __future__ import annotations

import itertools
import textwrap
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy import ndimage

from ichseg.arrays import EIGHT_CONNECTED
from ichseg.methods.frame import BRAIN
from ichseg.methods.predictor import crop_region
from train.data.files import replace_file
from train.data.slices import NativeSlice

Mask = npt.NDArray[np.bool_]
Scored = tuple[NativeSlice, float]

RULES_TEXT = (
    "*best*, *median*, *worst*: the highest, the middle and the lowest Dice; *small*, *irregular*: of the tenth of "
    "slices with the least blood, and of the tenth with the lowest circularity (4 pi area / perimeter squared of the "
    "largest component, holes filled), the case of median Dice; *with holes*, *several components*: of the slices "
    "whose blood encloses other tissue, and of those with three components or more (two, where none has three), the "
    "case of median Dice. No slice is taken twice."
)
RULES = ("best", "median", "worst", "small", "irregular", "with holes", "several components")
REFERENCE, ANSWER, BOX = "#0072b2", "#d55e00", "#777777"  # distinct for colour-blind readers, too


@dataclass(frozen=True)
class Case:
    """A row of the figure."""

    rule: str
    item: NativeSlice


@dataclass(frozen=True)
class Column:
    """A method: its masks [y, x] and its Dice by (scan, slice). Its title may have lines."""

    title: str
    masks: Mapping[tuple[str, int], Mask]
    dice: Mapping[tuple[str, int], float]


def choose(scored: Sequence[Scored]) -> list[Case]:
    """The figure's slices by the rules of ``RULES_TEXT``; a rule that no slice is left for has no row.

    ``scored`` is each slice with its Dice by the method that chooses; equal scores go by their order there.
    """
    left = sorted((pair for pair in scored if not np.isnan(pair[1])), key=lambda pair: pair[1])
    groups: list[Callable[[list[Scored]], list[Scored]]] = [
        lambda all_: all_[-1:],
        lambda all_: all_,
        lambda all_: all_[:1],
        lambda all_: _tenth(all_, lambda item: int(item.mask.sum())),
        lambda all_: _tenth(all_, lambda item: circularity(item.mask)),
        lambda all_: [pair for pair in all_ if has_hole(pair[0].mask)],
        _several,
    ]
    cases = []
    for name, rule in zip(RULES, groups, strict=True):
        if group := rule(left):
            chosen = group[(len(group) - 1) // 2]
            cases.append(Case(name, chosen[0]))
            left = [pair for pair in left if pair is not chosen]
    return cases


def _tenth(scored: list[Scored], measure: Callable[[NativeSlice], float]) -> list[Scored]:
    """The tenth of the slices, at least one, with the lowest measure, still in the order of their Dice."""
    values = [measure(item) for item, _ in scored]
    lowest = set(np.argsort(values, kind="stable")[: max(1, len(values) // 10)].tolist())
    return [pair for i, pair in enumerate(scored) if i in lowest]


def _several(scored: list[Scored]) -> list[Scored]:
    return next(
        (
            group
            for least in (3, 2)
            if (group := [pair for pair in scored if len(pair[0].component_boxes) >= least])
        ),
        [],
    )


def has_hole(mask: Mask) -> bool:
    """Whether blood encloses other tissue: a hole of at least a hundredth of its area, not of a few pixels."""
    holes = np.count_nonzero(ndimage.binary_fill_holes(mask)) - np.count_nonzero(mask)
    return bool(holes >= max(4, 0.01 * np.count_nonzero(mask)))


def circularity(mask: Mask) -> float:
    """4 pi area / perimeter squared of a mask's largest component, holes filled: 1 for a disc, near 0 for a thread.

    The perimeter is Crofton's estimate from the changes along rows, columns and both diagonals (Serra 1982).
    """
    labels, count = ndimage.label(mask, EIGHT_CONNECTED)
    if count == 0:
        return 0.0
    largest = labels == 1 + np.argmax(np.bincount(labels.ravel())[1:])
    component = np.pad(ndimage.binary_fill_holes(largest), 1)
    straight = np.count_nonzero(component[1:] ^ component[:-1]) + np.count_nonzero(
        component[:, 1:] ^ component[:, :-1]
    )
    slanted = np.count_nonzero(component[1:, 1:] ^ component[:-1, :-1])
    slanted += np.count_nonzero(component[1:, :-1] ^ component[:-1, 1:])
    perimeter = np.pi / 8 * (straight + slanted / np.sqrt(2))
    return float(4 * np.pi * np.count_nonzero(component) / perimeter**2)


def draw(
    path: Path,
    cases: Sequence[Case],
    columns: Sequence[Column],
    *,
    chosen_by: str,
    with_images: bool = False,
) -> None:
    """Write the figure as PNG; cells of slices that a method has no mask of say so."""
    from matplotlib.figure import Figure

    side = 1.35
    sheet = Figure(figsize=(0.9 + side * (len(columns) + 1), 1.15 + 1.06 * side * len(cases)))
    grid = sheet.subplots(len(cases), len(columns) + 1, squeeze=False)
    sheet.subplots_adjust(
        left=0.9 / sheet.get_figwidth(), right=0.995, bottom=0.02, wspace=0.05, hspace=0.06,
        top=1 - 1.1 / sheet.get_figheight(),
    )  # fmt: skip
    for i, case in enumerate(cases):
        where = (case.item.scan_id, case.item.slice_index)
        grid[i, 0].set_ylabel(
            f"{case.rule}\n{case.item.patient_id}, slice {case.item.slice_index + 1}", fontsize=9
        )
        _cell(grid[i, 0], case.item, None, with_images)
        for axes, column in zip(grid[i, 1:], columns, strict=True):
            mask = column.masks.get(where)
            _cell(axes, case.item, mask, with_images)
            said = "not scored" if mask is None else f"{column.dice[where]:.2f}"
            axes.text(
                0.04, 0.95, said, transform=axes.transAxes, fontsize=10, va="top",
                bbox={"facecolor": "white", "alpha": 0.8, "edgecolor": "none", "pad": 1},
            )  # fmt: skip
    for axes, title in zip(
        grid[0], ["reference mask", *(one.title for one in columns)], strict=True
    ):
        short = (textwrap.wrap(line, 14) for line in title.splitlines())
        axes.set_title("\n".join(itertools.chain.from_iterable(short)), fontsize=9)
    told = f"Rows by the Dice of {chosen_by}. Blue: reference mask; orange: the method; dashed: the box; number: Dice."
    if empty := [rule for rule in RULES if rule not in {case.rule for case in cases}]:
        told += f" No slice for: {', '.join(empty)}."
    lines = textwrap.wrap(f"{told} Research only.", int(14 * sheet.get_figwidth()))
    sheet.text(0.005, 0.997, "\n".join(lines), fontsize=9, va="top")
    replace_file(path, lambda part: sheet.savefig(part, dpi=120, metadata={"Software": None}))


def _cell(axes: Any, item: NativeSlice, mask: Mask | None, with_images: bool) -> None:
    """One crop: the reference mask's outline, the method's where there is one, and the box."""
    rows, columns = item.mask.shape
    region = crop_region(item.slice_box, (rows, columns), sides=1.2)
    axes.set_facecolor("#f6f6f6")
    if with_images:
        low, high = BRAIN.low, BRAIN.low + BRAIN.width
        axes.imshow(item.slice_hu, cmap="gray", vmin=low, vmax=high, interpolation="nearest")
    if mask is not None and mask.any():
        axes.contourf(mask, levels=[0.5, 1], colors=[ANSWER], alpha=0.15 if with_images else 0.35)
        axes.contour(mask, levels=[0.5], colors=[ANSWER], linewidths=0.9)
    elif mask is None and not with_images:
        axes.contourf(item.mask, levels=[0.5, 1], colors=[REFERENCE], alpha=0.2)
    axes.contour(item.mask, levels=[0.5], colors=[REFERENCE], linewidths=1.1)
    box = item.slice_box
    axes.plot(
        np.array([box.x0, box.x1, box.x1, box.x0, box.x0]) - 0.5,
        np.array([box.y0, box.y0, box.y1, box.y1, box.y0]) - 0.5,
        color=BOX, linewidth=0.6, linestyle=(0, (3, 2)),
    )  # fmt: skip
    axes.set_xlim(region.x0 - 0.5, region.x1 - 0.5)
    axes.set_ylim(region.y1 - 0.5, region.y0 - 0.5)
    axes.set_aspect("equal")
    axes.set_xticks([])
    axes.set_yticks([])
    for spine in axes.spines.values():
        spine.set_linewidth(0.4)
