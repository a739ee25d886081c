"""Boxes: what a person draws on a slice, and what the reference mask's box would have been."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy import ndimage

from ichseg.arrays import EIGHT_CONNECTED
from ichseg.errors import BoxError


@dataclass(frozen=True)
class Box:
    """A rectangle on one slice, half-open, in native pixels: columns x0 <= x < x1, rows y0 <= y < y1.

    Pixel (y, x) covers [x, x + 1) by [y, y + 1), so a box that just holds pixel (2, 3) is
    ``Box(3, 2, 4, 3)``. Coordinates may be fractions.
    """

    x0: float
    y0: float
    x1: float
    y1: float

    @property
    def xyxy(self) -> tuple[float, float, float, float]:
        """The four numbers in the order x0, y0, x1, y1."""
        return (self.x0, self.y0, self.x1, self.y1)

    @property
    def text(self) -> str:
        """The four numbers as ``--box`` and ``parse`` take them.

        >>> Box(10, 20, 30, 45.5).text
        '10,20,30,45.5'
        """
        return ",".join(f"{value:.10g}" for value in self.xyxy)

    @property
    def width(self) -> float:
        """Extent along x in pixels."""
        return self.x1 - self.x0

    @property
    def height(self) -> float:
        """Extent along y in pixels."""
        return self.y1 - self.y0

    @classmethod
    def parse(cls, text: str) -> Box:
        """Read "x0,y0,x1,y1", as the command line takes it.

        >>> Box.parse("10,20,30,45.5").xyxy
        (10.0, 20.0, 30.0, 45.5)

        Between semicolons a comma is a decimal one, as spreadsheets of most of Europe write it:

        >>> Box.parse("10;20;30;45,5").xyxy
        (10.0, 20.0, 30.0, 45.5)
        """
        parts = text.replace(",", ".").split(";") if ";" in text else text.split(",")
        try:
            numbers = [float(part) for part in parts]
        except ValueError:
            numbers = []
        if len(numbers) != 4:
            raise BoxError(
                f"A box is four numbers x0,y0,x1,y1; got '{text}'; give e.g. 120,80,180,140."
            )
        return cls(*numbers)

    def validate(self, shape_yx: tuple[int, int]) -> Box:
        """Return the box cut to the slice, or raise BoxError where no part of it can be meant.

        ``shape_yx`` is the slice's (rows, columns). A box that overhangs the edge is cut to it, as a
        drag past the border means the border; one that is NaN, reversed, empty or wholly outside is refused.
        """
        rows, columns = shape_yx
        got = ", ".join(f"{value:g}" for value in self.xyxy)
        if not all(math.isfinite(value) for value in self.xyxy):
            raise BoxError(
                f"A box is four finite numbers x0, y0, x1, y1; got {got}; draw it again."
            )
        if self.x1 <= self.x0 or self.y1 <= self.y0:
            raise BoxError(
                f"A box runs from its upper left to its lower right corner (x0 < x1, y0 < y1); got {got}; "
                "exchange the corners or draw it again."
            )
        if self.x1 <= 0 or self.y1 <= 0 or self.x0 >= columns or self.y0 >= rows:
            raise BoxError(
                f"A box lies on its slice, {columns} columns by {rows} rows; got {got}, wholly outside; "
                "draw it on the slice."
            )
        return self.clip(shape_yx)

    def clip(self, shape_yx: tuple[int, int]) -> Box:
        """The part of the box that lies on a slice of (rows, columns)."""
        rows, columns = shape_yx
        return Box(max(self.x0, 0), max(self.y0, 0), min(self.x1, columns), min(self.y1, rows))

    def grow(self, margin_px: float, shape_yx: tuple[int, int]) -> Box:
        """The box with ``margin_px`` added on each side, cut to the slice."""
        return Box(
            self.x0 - margin_px, self.y0 - margin_px, self.x1 + margin_px, self.y1 + margin_px
        ).clip(shape_yx)

    def slices(self) -> tuple[slice, slice]:
        """The (rows, columns) of the pixels that the box touches, to index a [y, x] array."""
        return (
            slice(math.floor(self.y0), math.ceil(self.y1)),
            slice(math.floor(self.x0), math.ceil(self.x1)),
        )


def as_boxes(boxes: Sequence[Box] | npt.ArrayLike, shape_yx: tuple[int, int]) -> list[Box]:
    """Boxes given as Box, as rows of x0, y0, x1, y1, or as an [n, 4] array, each validated.

    Raises BoxError with the box's number where one is not four numbers or not on the slice.
    """
    out = []
    items: Iterable[Any] = boxes  # type: ignore[assignment]  # rows of an array, or Box
    for number, item in enumerate(items):
        if not isinstance(item, Box):
            values = np.asarray(item, dtype=np.float64).ravel()
            if values.size != 4:
                raise BoxError(
                    f"A box is four numbers x0, y0, x1, y1; box {number} has {values.size}; "
                    "pass one row of four a box."
                )
            item = Box(*(float(value) for value in values))
        out.append(item.validate(shape_yx))
    return out


def box_from_mask(mask_yx: npt.NDArray[np.bool_], margin_px: float = 0) -> Box | None:
    """The smallest box that holds all of a mask [y, x], grown by a margin; None for an empty mask."""
    rows, columns = np.flatnonzero(mask_yx.any(axis=1)), np.flatnonzero(mask_yx.any(axis=0))
    if rows.size == 0:
        return None
    tight = Box(int(columns[0]), int(rows[0]), int(columns[-1]) + 1, int(rows[-1]) + 1)
    return tight.grow(margin_px, mask_yx.shape)


def boxes_from_mask(mask_yx: npt.NDArray[np.bool_], margin_px: float = 0) -> list[Box]:
    """One box for each 8-connected component of a mask [y, x], in scan order, each grown by a margin."""
    labels, _ = ndimage.label(mask_yx, structure=EIGHT_CONNECTED)
    shape_yx = mask_yx.shape
    return [
        Box(columns.start, rows.start, columns.stop, rows.stop).grow(margin_px, shape_yx)
        for rows, columns in ndimage.find_objects(labels)
    ]


def jitter(
    box: Box,
    extent_px: float | tuple[float, float],
    rng: np.random.Generator,
    shape_yx: tuple[int, int],
) -> Box:
    """Move each side of a box by its own uniform draw from [-extent_px, extent_px], as a hurried hand would.

    ``extent_px`` is one number, or that along x and that along y. Sides that would cross are kept one pixel
    apart about their middle; the result lies on the slice.
    """
    extents = np.resize(np.atleast_1d(extent_px), 4)  # of x0, y0, x1, y1
    x0, y0, x1, y1 = np.asarray(box.xyxy) + rng.uniform(-extents, extents)
    x0, x1 = _apart(x0, x1, shape_yx[1])
    y0, y1 = _apart(y0, y1, shape_yx[0])
    return Box(x0, y0, x1, y1)


def _apart(low: float, high: float, size: int) -> tuple[float, float]:
    """Two sides in order, on [0, size] and at least one pixel apart."""
    if high - low < 1:
        middle = (low + high) / 2
        low, high = middle - 0.5, middle + 0.5
    low, high = max(low, 0.0), min(high, float(size))
    if high - low < 1:
        low = min(low, size - 1.0)
        high = max(high, low + 1.0)
    return float(low), float(high)
