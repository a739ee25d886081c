"""Drawing with signed distances: shapes, what they cover, and fields of values on a grid.

Points are float32 arrays [3, n] in mm; a distance is negative inside its shape. `cover` turns it into the
share of each point that is covered, so that edges are soft as wide as a pixel.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

Floats = NDArray[np.floating[Any]]  # float32 in practice
Vector = tuple[float, float, float]
Path3D = tuple[Vector, ...]


def column(vector: Sequence[float]) -> Floats:
    """A vector as [3, 1], to be combined with points."""
    return np.array(vector, np.float32)[:, None]


def cover(distance: Floats, width_mm: float = 0.7) -> Floats:
    """Share of a point that lies inside: 1 deep inside, 0 outside, linear over `width_mm`."""
    return np.clip(0.5 - distance / width_mm, 0.0, 1.0)


def paint(hu: Floats, share: Floats, value: float | Floats) -> None:
    """Let `value` cover `share` of each point of `hu`, in place."""
    hu += share * (value - hu)


def ellipsoid(p: Floats, centre: Vector, radii: Vector) -> Floats:
    """Approximate signed distance to an ellipsoid (exact on its surface)."""
    q = (p - column(centre)) / column(radii)
    length = np.sqrt((q * q).sum(0)) + 1e-6
    gradient = np.sqrt(((q / column(radii)) ** 2).sum(0)) + 1e-6
    return length * (length - 1.0) / gradient


def tube(p: Floats, path: Path3D, radius: float, end_radius: float | None = None) -> Floats:
    """Signed distance to a tube along a polyline; the radius may change evenly along each segment."""
    last = radius if end_radius is None else end_radius
    best = np.full(p.shape[1], np.inf, np.float32)
    for start, stop in pairwise(path):
        along = column(stop) - column(start)
        gap = p - column(start)
        t = np.clip((along * gap).sum(0) / (along * along).sum(), 0.0, 1.0)
        gap = gap - along * t
        best = np.minimum(best, np.sqrt((gap * gap).sum(0)) - (radius + t * (last - radius)))
    return best


def blob(p: Floats, centre: Vector, widths: Vector) -> Floats:
    """A smooth bump: 1 at the centre, a Gaussian of these standard deviations around it."""
    q = (p - column(centre)) / column(widths)
    return np.exp(-0.5 * (q * q).sum(0))


def rounded(*parts: Floats, radius_mm: float = 2.0) -> Floats:
    """The intersection of shapes, its edges rounded off."""
    return radius_mm * np.logaddexp.reduce(np.stack(parts) / np.float32(radius_mm), axis=0)


def joined(*parts: Floats, radius_mm: float = 2.0) -> Floats:
    """The union of shapes, the grooves between them filled."""
    return -rounded(*(-part for part in parts), radius_mm=radius_mm)


def mirrored(p: Floats) -> Floats:
    """The points folded onto the right half, for structures that come in pairs."""
    return np.stack([np.abs(p[0]), p[1], p[2]])


@dataclass(frozen=True)
class Field:
    """Values on an even grid in head coordinates, read between grid points by linear interpolation."""

    values: Floats
    origin: Vector
    step_mm: float
    periodic: bool = False

    def at(self, p: Floats) -> Floats:
        index = (p - column(self.origin)) / np.float32(self.step_mm)
        mode = "grid-wrap" if self.periodic else "nearest"
        return ndimage.map_coordinates(self.values, index, order=1, mode=mode)


def noise(rng: np.random.Generator, correlation_mm: float, step_mm: float) -> Field:
    """Periodic smooth Gaussian noise of unit standard deviation."""
    values = ndimage.gaussian_filter(
        rng.standard_normal((96, 96, 96)), correlation_mm / step_mm, mode="wrap"
    )
    return Field((values / values.std()).astype(np.float32), (0, 0, 0), step_mm, periodic=True)
