"""Where a lesion lies in the head: its side of the midline, and how far it is from the inner table of the skull.

Both come from the bone of the CT itself, and both are refused, with the reason, where it does not carry them.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import numpy.typing as npt
from scipy import ndimage, optimize
from scipy.spatial import cKDTree

from ichseg.scan.limits import SOLID_BONE_HU
from ichseg.scan.volume import CTVolume

Mask = npt.NDArray[np.bool_]
Floats = npt.NDArray[np.float64]
Indices = npt.NDArray[np.intp]

#: A connected component of less than this share of all bone is calcium, metal or dust.
LEAST_SHARE = 0.01

_GRID_MM = 2.5  # of the bone on which symmetry is looked for
_POINTS = 4000
_FAR_MM = 12.0  # a mirrored point farther than this from any bone counts as this far
_MOST_RESIDUAL_MM = 4.0
_MOST_UNCERTAIN_MM = 6.0
_MOST_TURN_DEGREES = 35.0
_ONE_SIDE = 0.95
_RAYS, _LEAST_RAYS = 72, 0.7
_FIRST_BONE = 500  # points of bone that bound how far the nearest may be


@dataclass(frozen=True)
class Midline:
    """The plane about which the skull is most nearly symmetric: (point - point_mm) . normal = 0, in RAS+ mm.

    ``normal`` is a unit vector to the patient's right. ``residual_mm`` is the mean distance from the mirrored bone
    to the bone; ``uncertainty_mm`` is that, or half the range of the midlines that the four quarters of the skull
    (front and back, low and high) give by themselves, whichever is more. It is the skull's midline: mass effect
    shifts the brain's, not this one.
    """

    point_mm: tuple[float, float, float]
    normal: tuple[float, float, float]
    uncertainty_mm: float
    residual_mm: float

    def distances_mm(self, points_mm: Floats) -> Floats:
        """Signed distances of points [n, 3], positive on the patient's right."""
        return np.asarray((points_mm - np.array(self.point_mm)) @ np.array(self.normal))


@dataclass(frozen=True)
class Side:
    """The side of a lesion: "left", "right" or "both" (it crosses the midline); None with the reason.

    ``left_share`` is the share of its volume on the patient's left; low and high are that share with the midline moved
    by its uncertainty either way. A side is named where 95 % lie on it under all three, "both" where it is under none.
    """

    side: str | None
    left_share: float | None
    left_share_low: float | None
    left_share_high: float | None
    midline_uncertainty_mm: float | None
    reason: str | None


@dataclass(frozen=True)
class InnerTable:
    """The shortest way from a lesion's border to bone's, and the lesion's slice there; or why there is none."""

    distance_mm: float | None
    slice_index: int | None
    reason: str | None


class Landmarks:
    """The bone of one scan, found when it is first asked for and kept."""

    def __init__(self, volume: CTVolume) -> None:
        self._volume = volume

    @cached_property
    def midline(self) -> Midline | str:
        """The midline, or the sentence that says why there is none."""
        points_mm = self._bone_points_mm
        if len(points_mm) < 500:
            return f"No midline is given: hardly any voxel of the scan is bone (over {SOLID_BONE_HU:g} HU)."
        return _symmetry_plane(points_mm)

    def side(self, mask_zyx: npt.ArrayLike) -> Side:
        """On which side of the midline a lesion [z, y, x] lies, by volume."""
        if isinstance(self.midline, str):
            return Side(None, None, None, None, None, self.midline)
        mask = np.asarray(mask_zyx) != 0
        slices, rows, columns = np.nonzero(mask)
        if not slices.size:
            return Side(None, None, None, None, None, "An empty mask has no side.")
        right_mm = self.midline.distances_mm(self._places_mm(slices, rows, columns))
        weights = self._volume.voxel_volumes_ml[slices]
        width = self.midline.uncertainty_mm
        low, share, high = (
            float(weights[right_mm < shift].sum() / weights.sum()) for shift in (-width, 0.0, width)
        )
        side, reason = None, None
        if low >= _ONE_SIDE:
            side = "left"
        elif high <= 1 - _ONE_SIDE:
            side = "right"
        elif low > 1 - _ONE_SIDE and high < _ONE_SIDE:
            side = "both"
        else:
            reason = (
                f"It lies too near the midline, which is known to {width:.1f} mm, to name a side."
            )
        return Side(side, share, low, high, width, reason)

    def inner_table(self, mask_zyx: npt.ArrayLike) -> InnerTable:
        """The distance in mm from a lesion [z, y, x] inside the skull to the nearest bone around it."""
        mask = np.asarray(mask_zyx) != 0
        if not mask.any():
            return InnerTable(None, None, "An empty mask has no distance to the skull.")
        if not len(self._bone_surface_mm):
            return InnerTable(
                None,
                None,
                f"No distance is given: no voxel of the scan is bone (over {SOLID_BONE_HU:g} HU).",
            )
        seen = self._skull_in_view(mask)
        if seen < _LEAST_RAYS:
            return InnerTable(
                None,
                None,
                f"No distance is given: bone is in view in {100 * seen:.0f} % of the directions around the lesion.",
            )
        slices, rows, columns = _surface_voxels(mask)
        places = self._places_mm(slices, rows, columns)
        found, lesion, bone_mm = nearest_bone(places, self._bone_surface_mm)
        distance_mm = max(0.0, found - self._voxel_extent_mm(bone_mm - places[lesion]))
        positions = self._volume.geometry.slice_positions_mm
        to_end = min(
            positions[slices].min() - positions[0], positions[-1] - positions[slices].max()
        )
        if to_end < distance_mm:
            return InnerTable(
                None,
                None,
                f"No distance is given: the scan ends {to_end:.0f} mm from the lesion, nearer than any bone in view.",
            )
        return InnerTable(distance_mm, int(slices[lesion]), None)

    @cached_property
    def _bone_zyx(self) -> Mask:
        """Bone, without its small connected components."""
        hu = self._volume.hu_zyx
        step = self._step
        coarse, _ = ndimage.label(
            hu[:, ::step, ::step] >= SOLID_BONE_HU, np.ones((3, 3, 3), dtype=bool)
        )
        sizes = np.bincount(coarse.ravel())
        sizes[0] = 0
        large = ndimage.binary_dilation(
            np.isin(coarse, np.flatnonzero(sizes >= max(1.0, LEAST_SHARE * sizes.sum())))
        )
        rows, columns = hu.shape[1:]
        near = large.repeat(step, axis=1).repeat(step, axis=2)[:, :rows, :columns]
        return np.asarray((hu >= SOLID_BONE_HU) & near)

    @property
    def _step(self) -> int:
        """Every how many pixels the bone is looked at for its components and its symmetry."""
        return max(1, round(2.0 / min(self._volume.geometry.spacing_yx_mm)))

    @cached_property
    def _bone_points_mm(self) -> Floats:
        """RAS+ mm [n, 3] of bone voxels, some 2 mm apart in the plane."""
        step = self._step
        slices, rows, columns = np.nonzero(self._bone_zyx[:, ::step, ::step])
        return self._places_mm(slices, rows * step, columns * step)

    @cached_property
    def _bone_surface_mm(self) -> Floats:
        """RAS+ mm [n, 3] of every voxel on the bone's surface."""
        return self._places_mm(*_surface_voxels(self._bone_zyx))

    def _places_mm(
        self,
        slices: Indices,
        rows: Indices,
        columns: Indices,
    ) -> Floats:
        """RAS+ mm [n, 3] of voxels' centres."""
        return self._volume.geometry.to_mm(slices, rows, columns)

    def _voxel_extent_mm(self, way_mm: Floats) -> float:
        """How much of the way between two voxels' centres is inside the two voxels."""
        where = self._volume.geometry
        length = float(np.linalg.norm(way_mm))
        if length == 0:
            return 0.0
        axes = np.stack([where.x_step_mm, where.y_step_mm, where.normal])
        sizes = np.array([*where.spacing_yx_mm[::-1], float(np.median(where.slice_heights_mm))])
        along = np.abs(axes / np.linalg.norm(axes, axis=1)[:, None] @ (way_mm / length))
        return float((sizes / np.maximum(along, 1e-9)).min())

    def _skull_in_view(self, mask: Mask) -> float:
        """Share of the directions from the lesion's middle, on its largest slice, in which bone is met."""
        k = int(np.count_nonzero(mask, axis=(1, 2)).argmax())
        middle = np.array(ndimage.center_of_mass(mask[k]))
        bone = self._bone_zyx[k]
        angles = np.arange(_RAYS) * (2 * np.pi / _RAYS)
        reach = np.arange(0, math.hypot(*bone.shape), 0.7)
        y, x = (
            np.rint(middle[axis] + reach * way[:, None]).astype(int)
            for axis, way in enumerate((np.sin(angles), np.cos(angles)))
        )
        on_slice = (y >= 0) & (y < bone.shape[0]) & (x >= 0) & (x < bone.shape[1])
        met = bone[np.where(on_slice, y, 0), np.where(on_slice, x, 0)] & on_slice
        return float(met.any(axis=1).mean())


def extent(mask_zyx: Mask) -> tuple[slice, slice, slice]:
    """The smallest box that holds all of a mask [z, y, x], to index it with; empty for an empty mask."""
    slices = np.flatnonzero(mask_zyx.any(axis=(1, 2)))
    if not slices.size:
        return slice(0, 0), slice(0, 0), slice(0, 0)
    z = slice(int(slices[0]), int(slices[-1]) + 1)
    flat: Mask = np.any(mask_zyx[z], axis=0)
    rows, columns = np.flatnonzero(flat.any(axis=1)), np.flatnonzero(flat.any(axis=0))
    y, x = (slice(int(at[0]), int(at[-1]) + 1) for at in (rows, columns))
    return z, y, x


def _surface_voxels(mask: Mask) -> tuple[Indices, Indices, Indices]:
    """Slices, rows and columns of the voxels of a mask that have a face outside it; ends of the array are outside."""
    where = extent(mask)
    cut = mask[where]
    inner = cut.copy()
    for axis in range(3):
        there, own = np.moveaxis(cut, axis, 0), np.moveaxis(inner, axis, 0)
        own[1:] &= there[:-1]
        own[:-1] &= there[1:]
        own[:1] = own[-1:] = False
    at = np.nonzero(cut & ~inner)
    slices, rows, columns = (index + side.start for index, side in zip(at, where, strict=True))
    return slices, rows, columns


def nearest_bone(places: Floats, bone: Floats) -> tuple[float, int, Floats]:
    """The least distance from places [n, 3] to bone [m, 3], the place's index and the bone's point.

    The lesion is small and the bone lies all around it, so bone looks for the lesion: first what is nearest to the
    lesion's bounding box, which bounds how near the rest has to be to matter.
    """
    tree = cKDTree(places)
    beyond = np.maximum(places.min(axis=0) - bone, bone - places.max(axis=0))
    squares = (np.maximum(beyond, 0) ** 2).sum(axis=1)
    some = bone[np.argpartition(squares, min(_FIRST_BONE, len(squares)) - 1)[:_FIRST_BONE]]
    bound = float(tree.query(some)[0].min())
    near = bone[squares <= bound**2 * (1 + 1e-9)]
    gaps, index = tree.query(near, distance_upper_bound=bound * (1 + 1e-9) + 1e-9)
    best = int(gaps.argmin())
    return float(gaps[best]), int(index[best]), near[best]


def _symmetry_plane(points_mm: Floats) -> Midline | str:
    """The plane that mirrors a skull's bone best onto itself, within 35 degrees of straight ahead; or why none is."""
    centre = points_mm.mean(axis=0)
    points = points_mm[:: max(1, len(points_mm) // _POINTS)] - centre
    gap_mm = _distance_to(points_mm - centre)

    def residual(parameters: Floats, some: Floats = points) -> float:
        offset, turn, lean = parameters
        if max(abs(turn), abs(lean)) > _MOST_TURN_DEGREES:
            return _FAR_MM
        normal = _normal(turn, lean)
        mirrored = some - 2 * (some @ normal - offset)[:, None] * normal
        return float(np.minimum(gap_mm(mirrored), _FAR_MM).mean())

    starts = [np.array([o, t, 0.0]) for t in range(-30, 31, 6) for o in (-6.0, 0.0, 6.0)]
    start = min(starts, key=lambda one: residual(one, points[::4]))
    simplex = start + np.array([[0, 0, 0], [4.0, 0, 0], [0, 4.0, 0], [0, 0, 4.0]])
    found = optimize.minimize(
        residual,
        start,
        method="Nelder-Mead",
        options={"initial_simplex": simplex, "xatol": 0.05, "fatol": 1e-3, "maxfev": 200},
    )
    if found.fun > _MOST_RESIDUAL_MM:
        return (
            "No midline is given: the skull in view is not symmetric enough "
            f"(its mirror image is {found.fun:.1f} mm off on average)."
        )
    offset, turn, lean = found.x
    own = [offset + shift for shift in _shifts_of_quarters(points, found.x, residual)]
    uncertainty = max(float(found.fun), (max(own) - min(own)) / 2)
    if uncertainty > _MOST_UNCERTAIN_MM:
        return (
            "No midline is given: the parts of the skull in view do not agree on one "
            f"(within {uncertainty:.1f} mm)."
        )
    normal = _normal(turn, lean)
    point = centre + offset * normal
    x, y, z = (float(value) for value in point)
    nx, ny, nz = (float(value) for value in normal)
    return Midline((x, y, z), (nx, ny, nz), float(uncertainty), float(found.fun))


def _shifts_of_quarters(
    points: Floats, parameters: Floats, residual: Callable[[Floats, Floats], float]
) -> list[float]:
    """How far each quarter of the skull, front and back, low and high, would move the plane sideways."""
    _, y, z = points.T
    front, high = y > np.median(y), z > np.median(z)
    shifts = np.arange(-10.0, 10.5, 0.5)
    out = []
    for quarter in (front & high, front & ~high, ~front & high, ~front & ~high):
        costs = [residual(parameters + np.array([s, 0, 0]), points[quarter]) for s in shifts]
        out.append(float(shifts[int(np.argmin(costs))]))
    return out


def _normal(turn_degrees: float, lean_degrees: float) -> Floats:
    """The unit vector to the patient's right, turned about the body's axis and leaned about the line of sight."""
    turn, lean = math.radians(turn_degrees), math.radians(lean_degrees)
    return np.array(
        [math.cos(turn) * math.cos(lean), math.sin(turn) * math.cos(lean), math.sin(lean)]
    )


def _distance_to(points_mm: Floats) -> Callable[[Floats], Floats]:
    """A function from points [n, 3] to their distance in mm to the nearest of ``points_mm``, off a coarse grid."""
    corner = points_mm.min(axis=0) - 2 * _FAR_MM
    size = np.ceil((points_mm.max(axis=0) + 2 * _FAR_MM - corner) / _GRID_MM).astype(int) + 1
    free = np.ones(size, dtype=bool)
    free[tuple(np.rint((points_mm - corner) / _GRID_MM).astype(int).T)] = False
    distances = ndimage.distance_transform_edt(free, sampling=_GRID_MM).astype(np.float32)

    def distance(points: Floats) -> Floats:
        at = (points - corner) / _GRID_MM
        return np.asarray(
            ndimage.map_coordinates(distances, at.T, order=1, mode="nearest"), dtype=np.float64
        )

    return distance
