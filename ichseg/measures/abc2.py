"""ABC/2, the bedside estimate of a volume, of a mask or of lines that a person has drawn."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from ichseg.arrays import EIGHT_CONNECTED
from ichseg.errors import InputError
from ichseg.measures.lengths import Line, Mask, Plane, components, corners_px, farthest
from ichseg.measures.volume import in_mask
from ichseg.scan.volume import CTVolume

#: A line that a person moved has a direction; where its ends nearly meet, rounding decides which.
SHORTEST_MM = 0.01


@dataclass(frozen=True)
class WeightedSlice:
    """A slice's part in C: its area relative to the largest slice's, and what its height counts."""

    slice_index: int
    area_ratio: float
    weight: float
    height_mm: float


@dataclass(frozen=True)
class ABC2:
    """Kothari's bedside estimate, A x B x C / 2, with the lines to draw and the weights that were used.

    ``a`` and ``b`` lie on the slice with the largest area. ``c_mm`` is the sum of the slices' own heights times their
    weights, unless it was given. ``edited`` names what a person has set: "a", "b", "c".
    """

    a: Line
    b: Line
    c_mm: float
    volume_ml: float
    slices: tuple[WeightedSlice, ...]
    edited: tuple[str, ...] = ()

    @property
    def angle_degrees(self) -> float:
        """Unsigned angle on the screen between A and B; 90 unless B was set by hand, on square pixels."""
        a, b = (
            math.atan2(line.y1_px - line.y0_px, line.x1_px - line.x0_px)
            for line in (self.a, self.b)
        )
        between = abs(math.degrees(a - b)) % 180
        return min(between, 180 - between)


def abc2(
    mask_zyx: npt.ArrayLike,
    volume: CTVolume,
    *,
    a_px: Sequence[float] | None = None,
    b_px: Sequence[float] | None = None,
    c_mm: float | None = None,
) -> ABC2 | None:
    """Estimate a hematoma's volume as A x B x C / 2; None for an empty mask.

    A is the longest line of the largest connected component on the slice with the largest area, B its longest chord at
    right angles to A, from its first blood to its last. Of each slice's own height C takes all where its area is over
    75 % of the largest slice's, half from 25 to 75 %, nothing below (Kothari et al., Stroke 1996; the weights were not
    read at the source, so they are given with the answer). Reports of its error run from -19 % to +45 %; an ellipsoid
    on thin slices comes to 65 % of its volume, for the weights leave 68 % of its length.

    ``a_px`` and ``b_px`` (x0, y0, x1, y1 in pixels of the slice) and ``c_mm`` take the place of what is found, as a
    person moves them; B follows a new A. Raises InputError for an end that is not a finite number, a line shorter than
    SHORTEST_MM, or a C that is not more than 0.
    """
    mask = in_mask(mask_zyx, volume)
    counts = np.count_nonzero(mask, axis=(1, 2))
    if not counts.any():
        return None
    k = int(counts.argmax())
    plane = Plane(volume.geometry)
    component, (top, left) = max(
        components(mask[k], EIGHT_CONNECTED), key=lambda item: item[0].sum()
    )
    if a_px is None:
        ends_px = corners_px(component, left, top)
        start, end = farthest(plane.to_mm(ends_px))
        a = plane.line(k, ends_px[start], ends_px[end])
    else:
        a = _given_line("A", k, plane, a_px)
    b = (
        _across(a, component, (left, top), plane)
        if b_px is None
        else _given_line("B", k, plane, b_px)
    )
    slices = tuple(
        WeightedSlice(
            int(j),
            float(counts[j] / counts[k]),
            _weight(float(counts[j] / counts[k])),
            float(volume.slice_heights_mm[j]),
        )
        for j in np.flatnonzero(counts)
    )
    if c_mm is not None and not (math.isfinite(c_mm) and c_mm > 0):
        raise InputError(f"C is a length of more than 0 mm; got {c_mm:g}; correct it.")
    c = sum(one.weight * one.height_mm for one in slices) if c_mm is None else c_mm
    given = {"a": a_px, "b": b_px, "c": c_mm}
    return ABC2(
        a=a,
        b=b,
        c_mm=c,
        volume_ml=a.length_mm * b.length_mm * c / 2000,
        slices=slices,
        edited=tuple(name for name, value in given.items() if value is not None),
    )


def _weight(area_ratio: float) -> float:
    return 1.0 if area_ratio > 0.75 else 0.5 if area_ratio >= 0.25 else 0.0


def _given_line(name: str, k: int, plane: Plane, ends_px: Sequence[float]) -> Line:
    x0, y0, x1, y1 = (float(value) for value in ends_px)
    line = plane.line(k, (x0, y0), (x1, y1))
    if not (math.isfinite(line.length_mm) and line.length_mm >= SHORTEST_MM):
        raise InputError(
            f"{name} runs between two points of the slice; got {x0:g}, {y0:g} to {x1:g}, {y1:g}; "
            "draw it again."
        )
    return line


def _across(a: Line, component: Mask, corner_px: tuple[int, int], plane: Plane) -> Line:
    """The longest chord of a component at right angles to A, read off at a quarter of a pixel.

    Where A was moved off the component there is none, and the answer is a line without length at A's start.
    """
    start, end = plane.to_mm([(a.x0_px, a.y0_px), (a.x1_px, a.y1_px)])
    along = (end - start) / np.linalg.norm(end - start)
    beside = np.array([-along[1], along[0]])
    step = plane.finest_mm / 4
    reach = plane.to_mm(corners_px(component, *corner_px)) - start
    u = np.arange((reach @ along).min() + step / 2, (reach @ along).max(), step)
    v = np.arange((reach @ beside).min() + step / 2, (reach @ beside).max(), step)
    grid_mm = start + u[:, None, None] * along + v[None, :, None] * beside
    x, y = np.floor(plane.to_px(grid_mm.reshape(-1, 2)) - corner_px).astype(int).T
    rows, columns = component.shape
    on_box = (x >= 0) & (x < columns) & (y >= 0) & (y < rows)
    hit = np.zeros(len(x), dtype=bool)
    hit[on_box] = component[y[on_box], x[on_box]]
    inside = hit.reshape(len(u), len(v))
    first, last = inside.argmax(axis=1), len(v) - 1 - inside[:, ::-1].argmax(axis=1)
    lengths = np.where(inside.any(axis=1), last - first + 1, 0)
    # Of equally long chords, the middle one: on a box or a disc that is where a person draws it.
    longest = np.flatnonzero(lengths == lengths.max())
    i = longest[len(longest) // 2]
    low, high = v[first[i]] - step / 2, v[last[i]] + step / 2
    ends_mm = start + u[i] * along + np.array([[low], [high]]) * beside
    return plane.line(a.slice_index, *plane.to_px(ends_mm))
