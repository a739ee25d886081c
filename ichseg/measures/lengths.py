"""The longest lines of a mask, on a slice and in 3D.

Lengths are true millimetres, taken between RAS positions, so that anisotropic, tilted and unevenly spaced grids need no
case of their own. Points on a slice are in pixels as Box has them: pixel (y, x) covers [x, x + 1) by [y, y + 1).
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy import ndimage
from scipy.spatial import ConvexHull, distance

from ichseg.arrays import EIGHT_CONNECTED
from ichseg.measures.landmarks import extent
from ichseg.measures.volume import in_mask
from ichseg.scan.geometry import Geometry
from ichseg.scan.volume import CTVolume

Mask = npt.NDArray[np.bool_]
Floats = npt.NDArray[np.float64]

#: Connected components in 3D are 26-connected: voxels that touch at a corner, also from slice to slice, are one.
TOUCHING = np.ones((3, 3, 3), dtype=bool)


@dataclass(frozen=True)
class Line:
    """A straight line on one slice: where to draw it, in pixels of the slice, and how long it is."""

    slice_index: int
    x0_px: float
    y0_px: float
    x1_px: float
    y1_px: float
    length_mm: float


@dataclass(frozen=True)
class Span:
    """The longest straight line in 3D: each end's slice and place on it, in pixels, and its length.

    An end lies half a slice's own height above or below the middle of the slice it is on.
    """

    start_slice_index: int
    start_x_px: float
    start_y_px: float
    end_slice_index: int
    end_x_px: float
    end_y_px: float
    length_mm: float


def longest_in_plane(mask_zyx: npt.ArrayLike, volume: CTVolume) -> Line | None:
    """The longest line on any slice between two points of one connected component of a mask; None for an empty mask.

    It runs from a pixel's outer corner to another's, so a row of n pixels is n pixels long. Components are 8-connected
    on their slice: a line never spans from one to another. It may leave a component that is bent.
    """
    mask, (z, y, x) = cropped(in_mask(mask_zyx, volume))
    plane = Plane(volume.geometry)
    best: Line | None = None
    for number, mask_yx in enumerate(mask):
        for part, (top, left) in components(mask_yx, EIGHT_CONNECTED):
            if best is not None and plane.diagonal_mm(part.shape) <= best.length_mm:
                continue
            ends_px = corners_px(part, left + x, top + y)
            start, end = farthest(plane.to_mm(ends_px))
            line = plane.line(number + z, ends_px[start], ends_px[end])
            best = line if best is None or line.length_mm > best.length_mm else best
    return best


def longest_in_3d(mask_zyx: npt.ArrayLike, volume: CTVolume) -> Span | None:
    """The longest line in 3D between two points of one connected component of a mask; None for an empty mask.

    It runs between outer corners of voxels, each as high as its slice's own height. Components are 26-connected.
    """
    mask, (z, y, x) = cropped(in_mask(mask_zyx, volume))
    best: Span | None = None
    for part, (bottom, top, left) in components(mask, TOUCHING):
        marked = np.flatnonzero(part.any(axis=(1, 2)))
        corners = [corners_px(part[number], left + x, top + y) for number in marked]
        slices = np.repeat(marked + bottom + z, [len(ends_px) for ends_px in corners])
        middle_mm = _places_mm(volume.geometry, slices, np.concatenate(corners))
        up_mm = volume.geometry.normal * volume.slice_heights_mm[slices, None] / 2
        places_mm = np.concatenate([middle_mm - up_mm, middle_mm + up_mm])
        start, end = farthest(places_mm)
        length_mm = math.dist(places_mm[start], places_mm[end])
        if best is None or length_mm > best.length_mm:
            ends = np.column_stack([slices, np.concatenate(corners)])
            (k0, x0, y0), (k1, x1, y1) = (ends[i % len(ends)].tolist() for i in (start, end))
            best = Span(int(k0), x0, y0, int(k1), x1, y1, length_mm)
    return best


class Plane:
    """Pixels of a slice as millimetres in its plane, in which lengths and right angles are true."""

    def __init__(self, geometry: Geometry) -> None:
        across, down = geometry.x_step_mm, geometry.y_step_mm
        right = across / np.linalg.norm(across)
        below = down - (down @ right) * right
        below /= np.linalg.norm(below)
        self.matrix = np.array([[across @ right, down @ right], [0.0, down @ below]])
        self._inverse = np.linalg.inv(self.matrix)
        self.finest_mm = min(geometry.spacing_yx_mm)

    def to_mm(self, points_px: npt.ArrayLike) -> Floats:
        """Points [n, 2] of x, y in pixels to millimetres."""
        return np.asarray(np.asarray(points_px, dtype=np.float64) @ self.matrix.T)

    def to_px(self, points_mm: Floats) -> Floats:
        """And back."""
        return np.asarray(points_mm @ self._inverse.T)

    def diagonal_mm(self, shape_yx: tuple[int, ...]) -> float:
        """The longest line that a rectangle of so many rows and columns has room for."""
        rows, columns = shape_yx
        ends = self.to_mm([(columns, rows), (columns, -rows)])
        return float(np.linalg.norm(ends, axis=1).max())

    def line(self, k: int, start_px: npt.ArrayLike, end_px: npt.ArrayLike) -> Line:
        """The line between two points x, y of slice k."""
        (x0, y0), (x1, y1) = np.asarray(start_px).tolist(), np.asarray(end_px).tolist()
        return Line(k, x0, y0, x1, y1, math.dist(*self.to_mm([(x0, y0), (x1, y1)])))


def in_plane_mm(volume: CTVolume) -> Floats:
    """The matrix [2, 2] that makes x, y steps in pixels of a slice into mm in its plane, where lengths are true."""
    return Plane(volume.geometry).matrix.copy()


def cropped(mask_zyx: Mask) -> tuple[Mask, tuple[int, int, int]]:
    """The smallest box around a mask, and where it begins; of an empty mask, nothing."""
    z, y, x = extent(mask_zyx)
    return mask_zyx[z, y, x], (z.start, y.start, x.start)


def components(
    mask: Mask, structure: npt.NDArray[np.bool_]
) -> Iterator[tuple[Mask, tuple[int, ...]]]:
    """A mask's connected components, the largest box first: each cut out, and where its box begins."""
    if not mask.size:
        return
    labels, _ = ndimage.label(mask, structure=structure)
    boxes = [(i, box) for i, box in enumerate(ndimage.find_objects(labels), 1)]
    boxes.sort(key=lambda item: -math.prod(side.stop - side.start for side in item[1]))
    for i, box in boxes:
        yield labels[box] == i, tuple(side.start for side in box)


def corners_px(mask_yx: Mask, left: int = 0, top: int = 0) -> Floats:
    """The outer corners [n, 2] of x, y of the first and last pixel of each row: their hull is the mask's.

    ``left`` and ``top`` are where the mask begins on its slice.
    """
    rows = np.flatnonzero(mask_yx.any(axis=1))
    first = mask_yx[rows].argmax(axis=1) + left
    last = mask_yx.shape[1] - mask_yx[rows, ::-1].argmax(axis=1) + left
    xs = np.concatenate([first, first, last, last])
    ys = np.concatenate([rows, rows + 1] * 2) + top
    return np.column_stack([xs, ys]).astype(np.float64)


def _places_mm(geometry: Geometry, slices: npt.NDArray[np.integer], points_px: Floats) -> Floats:
    """RAS+ mm [n, 3] of points x, y in pixels on slices; a pixel's centre is half a pixel from its corner."""
    x, y = (points_px - 0.5).T
    return geometry.to_mm(slices, y, x)


def farthest(points_mm: Floats) -> tuple[int, int]:
    """The two points [n, d] that are farthest apart: they are on the convex hull, which has few."""
    hull = ConvexHull(points_mm).vertices
    apart = distance.squareform(distance.pdist(points_mm[hull]))
    start, end = np.unravel_index(apart.argmax(), apart.shape)
    return int(hull[start]), int(hull[end])
