"""Where the voxels of a scan are, slice by slice: axes, spacing, slice heights, from a voxel to millimetres.

The frame is the one radiologists look at: arrays are [z, y, x], z from foot to head, y from anterior to
posterior, x from the patient's right to left. World coordinates are NIfTI's RAS+, in millimetres. A slice keeps its
own place, so gantry-tilted and unevenly spaced series are held as they were scanned; nothing is resampled.
"""

from __future__ import annotations

import itertools
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

from ichseg.arrays import Float
from ichseg.errors import VolumeError, refusal

FileAxes = tuple[tuple[int, int, int], tuple[bool, bool, bool]]

POSITION_TOLERANCE_MM = 0.1
"""Less than a quarter of a head CT's pixel: closer than this two grids are one and the same."""

_DISPLAY_AXES_RAS = np.array([[0.0, 0.0, 1.0], [0.0, -1.0, 0.0], [-1.0, 0.0, 0.0]])
_SPACING_RANGE_MM = (0.01, 100.0)
_LEAST_TILT_DEGREES = 0.1


@dataclass(frozen=True, eq=False)
class Geometry:
    """Where the voxels of a scan are, slice by slice.

    Attributes:
        origins_mm: float64 [z, 3], RAS+ mm, the centre of voxel y = 0, x = 0 of each slice.
        y_step_mm: float64 [3], RAS+ mm from a voxel to the next one down (posterior).
        x_step_mm: float64 [3], RAS+ mm from a voxel to the next one right (patient's left).

    """

    origins_mm: Float
    y_step_mm: Float
    x_step_mm: Float

    @classmethod
    def from_affine(cls, affine: ArrayLike, slices: int) -> Geometry:
        """The evenly spaced grid of a 4 x 4 ``affine``, (x, y, z) index -> RAS+ mm."""
        matrix = np.asarray(affine, dtype=np.float64)
        origins = matrix[:3, 3] + np.arange(slices)[:, None] * matrix[:3, 2]
        return cls(origins, matrix[:3, 1].copy(), matrix[:3, 0].copy())

    @property
    def spacing_yx_mm(self) -> tuple[float, float]:
        """Distance between neighbouring voxel centres down and across a slice, (dy, dx) in mm."""
        return float(np.linalg.norm(self.y_step_mm)), float(np.linalg.norm(self.x_step_mm))

    @property
    def pixel_area_mm2(self) -> float:
        """Area of one pixel in the plane of its slice."""
        return float(np.linalg.norm(np.cross(self.x_step_mm, self.y_step_mm)))

    @property
    def normal(self) -> Float:
        """Unit vector, RAS+ [3], perpendicular to the slices, from foot to head."""
        normal = np.cross(self.x_step_mm, self.y_step_mm)
        towards_head = float(normal @ (self.origins_mm[-1] - self.origins_mm[0]))
        return np.asarray(normal / np.linalg.norm(normal) * (-1.0 if towards_head < 0 else 1.0))

    @property
    def slice_positions_mm(self) -> Float:
        """Position of each slice along ``normal``, float64 [z], rising."""
        return np.asarray(self.origins_mm @ self.normal)

    @property
    def slice_heights_mm(self) -> Float:
        """Height that each slice stands for, float64 [z], measured perpendicular to the slices.

        Half the distance to each neighbour; an end slice counts its one neighbour twice, so that on
        an even grid every height is the spacing.

        >>> origins = [[0, 0, 0], [0, 0, 4], [0, 0, 8], [0, 0, 15]]
        >>> grid = Geometry(np.array(origins, float), np.array([0, -1.0, 0]), np.array([-1.0, 0, 0]))
        >>> grid.slice_heights_mm.tolist()
        [4.0, 4.0, 5.5, 7.0]
        """
        gaps = np.abs(np.diff(self.slice_positions_mm))
        padded = np.concatenate([gaps[:1], gaps, gaps[-1:]])
        return np.asarray((padded[:-1] + padded[1:]) / 2)

    def to_mm(self, z: ArrayLike, y: ArrayLike, x: ArrayLike) -> Float:
        """From voxels to millimetres, and the one place that does so: RAS+ mm [n, 3] of n places.

        Args:
            z: indices of slices [n]. Between two slices a place lies on the straight line from one to the next; one
                slice beyond an end it lies as far on as that end's neighbour lies back.
            y: rows [n]; fractions are between the pixels' centres.
            x: columns [n], alike.

        >>> grid = Geometry.from_affine(np.diag([-0.5, -0.5, 4.0, 1.0]), 3)
        >>> grid.to_mm([0, 1.5, -1], [0, 2, 0], [0, 10, 0]).tolist()
        [[0.0, 0.0, 0.0], [-5.0, -1.0, 6.0], [0.0, 0.0, -4.0]]

        """
        origins, below = self.origins_mm, 0
        if len(origins) > 1:
            ends = np.stack([2 * origins[0] - origins[1], 2 * origins[-1] - origins[-2]])
            origins, below = np.concatenate([ends[:1], origins, ends[1:]]), 1
        indices = np.arange(len(origins)) - below
        slices = np.asarray(z, dtype=np.float64)
        places = np.column_stack([np.interp(slices, indices, axis) for axis in origins.T])
        down, right = (np.asarray(one, dtype=np.float64)[:, None] for one in (y, x))
        return np.asarray(places + right * self.x_step_mm + down * self.y_step_mm)

    def to_index(self, points_mm: ArrayLike) -> Float:
        """From millimetres to voxels, what ``to_mm`` undoes: (z, y, x) [n, 3], fractional, of RAS+ mm [n, 3].

        Beyond the ends slices go on as far apart as the last two are.

        >>> grid = Geometry.from_affine(np.diag([-0.5, -0.5, 4.0, 1.0]), 3)
        >>> grid.to_index(grid.to_mm([1, 1.5, -1], [1, 2, 3], [1, 10, 5])).tolist()
        [[1.0, 1.0, 1.0], [1.5, 2.0, 10.0], [-1.0, 3.0, 5.0]]

        """
        points = np.asarray(points_mm, dtype=np.float64)
        heights, positions = points @ self.normal, self.slice_positions_mm
        slices = np.interp(heights, positions, np.arange(len(positions)))
        if len(positions) > 1:
            before, after = positions[0] - heights, heights - positions[-1]
            slices -= np.maximum(before, 0) / (positions[1] - positions[0])
            slices += np.maximum(after, 0) / (positions[-1] - positions[-2])
        ends = np.clip(slices, 0, len(positions) - 1)
        low = np.minimum(ends.astype(int), max(len(positions) - 2, 0))
        step = np.diff(self.origins_mm, axis=0)[low] if len(positions) > 1 else 0 * points
        origins = self.origins_mm[low] + (slices - low)[:, None] * step
        down, right = self.to_pixels((points - origins).T)
        return np.column_stack([slices, down, right])

    def corners_mm(self, shape_zyx: tuple[int, ...]) -> Float:
        """RAS+ mm of the four corner voxels of every slice, [z, 4, 3]."""
        down = self.y_step_mm * (shape_zyx[1] - 1)
        right = self.x_step_mm * (shape_zyx[2] - 1)
        offsets = np.stack([0 * down, down, right, down + right])
        return np.asarray(self.origins_mm[:, None, :] + offsets)

    def to_pixels(self, ways_mm: Float) -> Float:
        """From millimetres to pixels: how far ways, RAS+ mm [3] or [3, n], lead down and right, [2] or [2, n].

        What of a way leads out of the slice does not count.
        """
        basis = np.stack([self.normal, self.y_step_mm, self.x_step_mm], axis=1)
        return np.asarray(np.linalg.solve(basis, ways_mm)[1:])

    @property
    def tilt_degrees(self) -> float:
        """Gantry tilt: the angle between the slices' normal and the way they are stacked, >= 0."""
        stack = self.origins_mm[-1] - self.origins_mm[0]
        across = np.linalg.norm(np.cross(self.normal, stack))
        return float(np.degrees(np.arctan2(across, self.normal @ stack)))

    @property
    def is_tilted(self) -> bool:
        """Whether the slices are stacked aslant, so that an affine of theirs is sheared, which ITK refuses."""
        return self.tilt_degrees >= _LEAST_TILT_DEGREES

    @property
    def is_even(self) -> bool:
        """Whether one affine holds every slice within ``POSITION_TOLERANCE_MM``."""
        even = np.linspace(self.origins_mm[0], self.origins_mm[-1], len(self.origins_mm))
        error = np.linalg.norm(self.origins_mm - even, axis=1).max()
        return bool(error <= POSITION_TOLERANCE_MM)

    @property
    def affine(self) -> Float:
        """4 x 4, (x, y, z) index -> RAS+ mm; ``VolumeError`` for unevenly spaced slices."""
        if not self.is_even:
            raise VolumeError(
                "An affine needs evenly spaced slices, but these are"
                f" {spacing_text(self)} apart; use origins_mm, which holds each slice's own place."
            )
        affine = np.eye(4)
        affine[:3, 0], affine[:3, 1] = self.x_step_mm, self.y_step_mm
        affine[:3, 2] = (self.origins_mm[-1] - self.origins_mm[0]) / (len(self.origins_mm) - 1)
        affine[:3, 3] = self.origins_mm[0]
        return affine


def display_axes(directions: Float) -> tuple[tuple[int, int, int], tuple[bool, bool, bool]]:
    """Which array axis runs along z, y and x of the display frame, and which run backwards.

    Args:
        directions: [3, 3], column i is the RAS+ direction in which array axis i rises; independent.

    Returns:
        For z, y and x: the array axis closest to it (each used once), and whether to flip it.

    >>> display_axes(np.diag([1.0, 1.0, 1.0]))  # NIfTI's RAS
    ((2, 1, 0), (False, True, True))

    """
    cosines = _DISPLAY_AXES_RAS @ (directions / np.linalg.norm(directions, axis=0))
    z, y, x = max(
        itertools.permutations(range(3)),
        key=lambda axes: float(sum(abs(cosines[row, axis]) for row, axis in enumerate(axes))),
    )
    return (z, y, x), (bool(cosines[0, z] < 0), bool(cosines[1, y] < 0), bool(cosines[2, x] < 0))


def check_spacing(name: str, geometry: Geometry) -> None:
    """``VolumeError`` for voxel distances that no head CT has (0.01 to 100 mm are taken)."""
    least, most = _SPACING_RANGE_MM
    spacings = list(geometry.spacing_yx_mm)
    if min(spacings) > 0:  # else the slices have no normal to measure along
        spacings += np.diff(geometry.slice_positions_mm).tolist()
    wrong = [value for value in spacings if not least <= value <= most]
    if wrong:
        raise refusal(
            name,
            f"the distance between voxels is {least:g} to {most:g} mm",
            f"this file says {wrong[0]:.4g} mm",
            "correct its header or export the scan again",
        )


def spacing_notes(geometry: Geometry) -> tuple[str, ...]:
    """What to say of the slices: their tilt and their distances, where they are out of the usual.

    Distances are perpendicular, those that occur more than once (the step between two stacks of
    slices is no slice spacing).
    """
    notes = []
    tilt = f"gantry tilt {geometry.tilt_degrees:.1f} degrees, "
    tilted = geometry.is_tilted
    if tilted or not geometry.is_even:
        notes.append(f"{tilt if tilted else ''}slices {spacing_text(geometry)}")
    if not geometry.is_even:
        notes.append(
            "The slices are not evenly spaced: each counts with its own height"
            f" ({geometry.slice_heights_mm.min():.1f} to {geometry.slice_heights_mm.max():.1f} mm),"
            " and the mask is exported slice by slice, for NIfTI cannot hold it."
        )
    return tuple(notes)


def spacing_text(geometry: Geometry) -> str:
    """Slice distances for people: "5.0 mm", "4.0 and 7.0 mm" or "2.1 to 6.8 mm"."""
    gaps_mm = np.diff(geometry.slice_positions_mm)
    if geometry.is_even:
        return f"{gaps_mm.mean():.1f} mm"
    counts = Counter(f"{gap:.1f}" for gap in gaps_mm)
    stacks = sorted((text for text, count in counts.items() if count > 1), key=float)
    if len(stacks) in (2, 3):
        return f"{', '.join(stacks[:-1])} and {stacks[-1]} mm"
    return f"{gaps_mm.min():.1f} to {gaps_mm.max():.1f} mm"


def grid_geometry(
    affine: Float,
    shape_ijk: Sequence[int],
    axes: tuple[int, int, int],
    flips: tuple[bool, bool, bool],
) -> Geometry:
    """The geometry of the [z, y, x] view (``display_axes``) of a file's array of this affine, (i, j, k) -> RAS+ mm."""
    lengths = np.array(shape_ijk)[list(axes)]
    steps = affine[:3, list(axes)].T * np.where(flips, -1.0, 1.0)[:, None]
    first = affine[:3, 3] - np.where(flips, lengths - 1, 0) @ steps
    origins = first + np.arange(lengths[0])[:, None] * steps[0]
    return Geometry(origins, steps[1], steps[2])
