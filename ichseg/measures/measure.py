"""What a mask measures: millilitres, diameters, ABC/2, surface, HU, overlap, and how sure the millilitres are.

Lengths are true millimetres, taken between RAS positions, so that anisotropic, tilted and unevenly spaced grids need no
case of their own. Units are in the names. Points on a slice are in pixels as Box has them: pixel (y, x) covers
[x, x + 1) by [y, y + 1). Growth between two scans is in ``growth``, the midline and the skull in ``landmarks``.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt
from scipy import ndimage
from scipy.spatial import ConvexHull, distance

from ichseg.errors import BoxError, InputError, VolumeError
from ichseg.marks.box import EIGHT_CONNECTED, Box, jitter
from ichseg.measures.landmarks import InnerTable, Landmarks, Side, extent
from ichseg.scan.volume import CTVolume, Geometry

if TYPE_CHECKING:
    from ichseg.methods.predictor import Predictor, SliceEmbedding

Mask = npt.NDArray[np.bool_]
Floats = npt.NDArray[np.float64]

#: Pieces in 3D are 26-connected: voxels that touch at a corner, also from slice to slice, are one piece.
TOUCHING = np.ones((3, 3, 3), dtype=bool)


def volume_ml(mask_zyx: npt.ArrayLike, volume: CTVolume) -> float:
    """The volume of a mask on a scan, in millilitres.

    ``mask_zyx`` is [z, y, x] of the scan's shape; every voxel that is not 0 counts. The volume is the
    sum over slices of the area times that slice's own perpendicular height, which is half the
    distance to each neighbour (an end slice counts its one neighbour twice). On an even grid
    that is the voxel count times the voxel's volume, as 3D Slicer's Segment Statistics has it; on
    a tilted or unevenly spaced series it is right too. Raises VolumeError where the shapes differ.

    Three slices at 0, 5 and 12 mm are 5, 6 and 7 mm high; ten pixels of 0.5 x 0.5 mm on each:

    >>> import numpy as np
    >>> from ichseg.scan.volume import CTVolume, Geometry
    >>> origins_mm = np.array([[0, 0, 0], [0, 0, 5], [0, 0, 12]], dtype=float)
    >>> geometry = Geometry(origins_mm, np.array([0, -0.5, 0]), np.array([-0.5, 0, 0]))
    >>> scan = CTVolume(np.zeros((3, 8, 8), dtype=np.int16), geometry, name="phantom")
    >>> mask_zyx = np.zeros((3, 8, 8), dtype=bool)
    >>> mask_zyx[:, 2:4, 1:6] = True
    >>> round(volume_ml(mask_zyx, scan), 6)
    0.045
    """
    return float(_voxels_per_slice(mask_zyx, volume) @ volume.voxel_volumes_ml)


@dataclass(frozen=True)
class SliceRow:
    """One slice's share: its index from 0, area in mm2, own height in mm, and volume in mL."""

    slice_index: int
    area_mm2: float
    height_mm: float
    volume_ml: float


def slice_table(mask_zyx: npt.ArrayLike, volume: CTVolume) -> list[SliceRow]:
    """The slices that hold some of a mask [z, y, x], from foot to head; the volumes add up to volume_ml."""
    counts = _voxels_per_slice(mask_zyx, volume)
    heights_mm, voxels_ml = volume.slice_heights_mm, volume.voxel_volumes_ml
    rows = []
    for k in map(int, np.flatnonzero(counts)):
        height_mm, ml = float(heights_mm[k]), float(counts[k] * voxels_ml[k])
        rows.append(SliceRow(k, ml * 1000 / height_mm, height_mm, ml))
    return rows


@dataclass(frozen=True)
class HUStatistics:
    """Hounsfield units inside a mask; the spread is the population's (divided by the voxel count)."""

    voxels: int
    mean: float
    sd: float
    minimum: float
    lower_quartile: float
    median: float
    upper_quartile: float
    maximum: float


def hu_statistics(mask_zyx: npt.ArrayLike, volume: CTVolume) -> HUStatistics | None:
    """HU statistics of the voxels of a mask [z, y, x], each voxel once; None for an empty mask."""
    values = volume.hu_zyx[_in_mask(mask_zyx, volume)].astype(np.float64)
    if values.size == 0:
        return None
    lower, median, upper = (float(value) for value in np.percentile(values, (25, 50, 75)))
    return HUStatistics(
        voxels=values.size,
        mean=float(values.mean()),
        sd=float(values.std()),
        minimum=float(values.min()),
        lower_quartile=lower,
        median=median,
        upper_quartile=upper,
        maximum=float(values.max()),
    )


@dataclass(frozen=True)
class HUHistogram:
    """Voxels by HU: ``voxels[i]`` of them lie in edges_hu[i] <= HU < edges_hu[i + 1], others below or above all."""

    edges_hu: tuple[float, ...]
    voxels: tuple[int, ...]
    below: int
    above: int


#: Every 5 HU from water to beyond what clotted blood reaches, the same for every lesion, so that two compare.
HISTOGRAM_EDGES_HU = tuple(float(hu) for hu in range(0, 125, 5))


def hu_histogram(
    mask_zyx: npt.ArrayLike, volume: CTVolume, edges_hu: Sequence[float] = HISTOGRAM_EDGES_HU
) -> HUHistogram:
    """How many voxels of a mask [z, y, x] have which HU; ``edges_hu`` rises."""
    values = volume.hu_zyx[_in_mask(mask_zyx, volume)]
    place = np.searchsorted(np.asarray(edges_hu, dtype=np.float64), values, side="right")
    counts = np.bincount(place, minlength=len(edges_hu) + 1)
    return HUHistogram(
        edges_hu=tuple(float(edge) for edge in edges_hu),
        voxels=tuple(int(count) for count in counts[1:-1]),
        below=int(counts[0]),
        above=int(counts[-1]),
    )


def dice(a: npt.ArrayLike, b: npt.ArrayLike) -> float:
    """Dice overlap of two masks of one shape, 0 to 1; NaN where both are empty. Not 0 counts as in.

    >>> dice([[1, 1, 0]], [[0, 1, 1]])
    0.5
    """
    in_a, in_b = np.asarray(a) != 0, np.asarray(b) != 0
    if in_a.shape != in_b.shape:
        raise VolumeError(
            f"Masks to compare have one shape; got {in_a.shape} and {in_b.shape}; "
            "bring them to one grid."
        )
    sizes = int(in_a.sum()) + int(in_b.sum())
    return 2 * int((in_a & in_b).sum()) / sizes if sizes else math.nan


# --- Lengths ---------------------------------------------------------------------------------------


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
    """The longest line on any slice between two points of one piece of a mask; None for an empty mask.

    It runs from a pixel's outer corner to another's, so a row of n pixels is n pixels long. Pieces are 8-connected on
    their slice: a line never spans from one to another. It may leave a piece that is bent.
    """
    mask, (z, y, x) = _cropped(_in_mask(mask_zyx, volume))
    plane = _Plane(volume.geometry)
    best: Line | None = None
    for number, mask_yx in enumerate(mask):
        for part, (top, left) in _pieces(mask_yx, EIGHT_CONNECTED):
            if best is not None and plane.diagonal_mm(part.shape) <= best.length_mm:
                continue
            ends_px = _corners_px(part, left + x, top + y)
            start, end = _farthest(plane.to_mm(ends_px))
            line = plane.line(number + z, ends_px[start], ends_px[end])
            best = line if best is None or line.length_mm > best.length_mm else best
    return best


def longest_in_3d(mask_zyx: npt.ArrayLike, volume: CTVolume) -> Span | None:
    """The longest line in 3D between two points of one piece of a mask; None for an empty mask.

    It runs between outer corners of voxels, each as high as its slice's own height. Pieces are 26-connected.
    """
    mask, (z, y, x) = _cropped(_in_mask(mask_zyx, volume))
    best: Span | None = None
    for part, (bottom, top, left) in _pieces(mask, TOUCHING):
        marked = np.flatnonzero(part.any(axis=(1, 2)))
        corners = [_corners_px(part[number], left + x, top + y) for number in marked]
        slices = np.repeat(marked + bottom + z, [len(ends_px) for ends_px in corners])
        middle_mm = _places_mm(volume.geometry, slices, np.concatenate(corners))
        up_mm = volume.geometry.normal * volume.slice_heights_mm[slices, None] / 2
        places_mm = np.concatenate([middle_mm - up_mm, middle_mm + up_mm])
        start, end = _farthest(places_mm)
        length_mm = math.dist(places_mm[start], places_mm[end])
        if best is None or length_mm > best.length_mm:
            ends = np.column_stack([slices, np.concatenate(corners)])
            (k0, x0, y0), (k1, x1, y1) = (ends[i % len(ends)].tolist() for i in (start, end))
            best = Span(int(k0), x0, y0, int(k1), x1, y1, length_mm)
    return best


class _Plane:
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
    return _Plane(volume.geometry).matrix.copy()


def _cropped(mask_zyx: Mask) -> tuple[Mask, tuple[int, int, int]]:
    """The smallest box around a mask, and where it begins; of an empty mask, nothing."""
    z, y, x = extent(mask_zyx)
    return mask_zyx[z, y, x], (z.start, y.start, x.start)


def _pieces(mask: Mask, structure: npt.NDArray[np.bool_]) -> Iterator[tuple[Mask, tuple[int, ...]]]:
    """A mask's connected pieces, the largest box first: each cut out, and where its box begins."""
    if not mask.size:
        return
    labels, _ = ndimage.label(mask, structure=structure)
    boxes = [(i, box) for i, box in enumerate(ndimage.find_objects(labels), 1)]
    boxes.sort(key=lambda item: -math.prod(side.stop - side.start for side in item[1]))
    for i, box in boxes:
        yield labels[box] == i, tuple(side.start for side in box)


def _corners_px(mask_yx: Mask, left: int = 0, top: int = 0) -> Floats:
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
    x, y = (points_px - 0.5).T[:, :, None]
    return np.asarray(geometry.origins_mm[slices] + x * geometry.x_step_mm + y * geometry.y_step_mm)


def _farthest(points_mm: Floats) -> tuple[int, int]:
    """The two points [n, d] that are farthest apart: they are on the convex hull, which has few."""
    hull = ConvexHull(points_mm).vertices
    apart = distance.squareform(distance.pdist(points_mm[hull]))
    start, end = np.unravel_index(apart.argmax(), apart.shape)
    return int(hull[start]), int(hull[end])


# --- ABC/2 -----------------------------------------------------------------------------------------


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

    A is the longest line of the largest piece on the slice with the largest area, B the longest chord of that piece at
    right angles to A, from its first blood to its last. Of each slice's own height C takes all where its area is over
    75 % of the largest slice's, half from 25 to 75 %, nothing below (Kothari et al., Stroke 1996; the weights were not
    read at the source, so they are given with the answer). Reports of its error run from -19 % to +45 %; an ellipsoid
    on thin slices comes to 65 % of its volume, for the weights leave 68 % of its length.

    ``a_px`` and ``b_px`` (x0, y0, x1, y1 in pixels of the slice) and ``c_mm`` take the place of what is found, as a
    person moves them; B follows a new A. Raises InputError for an end that is not a finite number, a line without
    length, or a C that is not more than 0.
    """
    mask = _in_mask(mask_zyx, volume)
    counts = np.count_nonzero(mask, axis=(1, 2))
    if not counts.any():
        return None
    k = int(counts.argmax())
    plane = _Plane(volume.geometry)
    piece, (top, left) = max(_pieces(mask[k], EIGHT_CONNECTED), key=lambda item: item[0].sum())
    if a_px is None:
        ends_px = _corners_px(piece, left, top)
        start, end = _farthest(plane.to_mm(ends_px))
        a = plane.line(k, ends_px[start], ends_px[end])
    else:
        a = _given_line("A", k, plane, a_px)
    b = _across(a, piece, (left, top), plane) if b_px is None else _given_line("B", k, plane, b_px)
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


def _given_line(name: str, k: int, plane: _Plane, ends_px: Sequence[float]) -> Line:
    x0, y0, x1, y1 = (float(value) for value in ends_px)
    line = plane.line(k, (x0, y0), (x1, y1))
    if not (math.isfinite(line.length_mm) and line.length_mm > 0):
        raise InputError(
            f"{name} runs between two points of the slice; got {x0:g}, {y0:g} to {x1:g}, {y1:g}; "
            "draw it again."
        )
    return line


def _across(a: Line, piece: Mask, corner_px: tuple[int, int], plane: _Plane) -> Line:
    """The longest chord of a piece at right angles to A, read off at a quarter of a pixel.

    Where A was moved off the piece there is none, and the answer is a line without length at A's start.
    """
    start, end = plane.to_mm([(a.x0_px, a.y0_px), (a.x1_px, a.y1_px)])
    along = (end - start) / np.linalg.norm(end - start)
    beside = np.array([-along[1], along[0]])
    step = plane.finest_mm / 4
    reach = plane.to_mm(_corners_px(piece, *corner_px)) - start
    u = np.arange((reach @ along).min() + step / 2, (reach @ along).max(), step)
    v = np.arange((reach @ beside).min() + step / 2, (reach @ beside).max(), step)
    grid_mm = start + u[:, None, None] * along + v[None, :, None] * beside
    x, y = np.floor(plane.to_px(grid_mm.reshape(-1, 2)) - corner_px).astype(int).T
    rows, columns = piece.shape
    on_box = (x >= 0) & (x < columns) & (y >= 0) & (y < rows)
    hit = np.zeros(len(x), dtype=bool)
    hit[on_box] = piece[y[on_box], x[on_box]]
    inside = hit.reshape(len(u), len(v))
    first, last = inside.argmax(axis=1), len(v) - 1 - inside[:, ::-1].argmax(axis=1)
    lengths = np.where(inside.any(axis=1), last - first + 1, 0)
    # Of equally long chords, the middle one: on a box or a disc that is where a person draws it.
    longest = np.flatnonzero(lengths == lengths.max())
    i = longest[len(longest) // 2]
    low, high = v[first[i]] - step / 2, v[last[i]] + step / 2
    ends_mm = start + u[i] * along + np.array([[low], [high]]) * beside
    return plane.line(a.slice_index, *plane.to_px(ends_mm))


# --- Surface ---------------------------------------------------------------------------------------


def surface_mesh(
    mask_zyx: npt.ArrayLike, volume: CTVolume
) -> tuple[Floats, npt.NDArray[np.int64]] | None:
    """A closed triangle mesh of a mask's surface: vertices [n, 3] in RAS+ mm and faces [m, 3]; None where empty.

    Between slices the surface goes over from one outline to the next in a straight line (the in-plane distances to the
    outlines are interpolated, a little smoothed in the plane, and cut at 0 by marching cubes: scikit-image's, after
    Lewiner et al. 2003), and closes within half a slice above the last one and below the first.
    """
    from skimage.measure import marching_cubes  # takes a while to import: only when it is asked for

    mask, (z, y, x) = _cropped(_in_mask(mask_zyx, volume))
    if not mask.size:
        return None
    distance_mm = _outline_distances(np.pad(mask, 2), volume.geometry.spacing_yx_mm)
    points, faces, _, _ = marching_cubes(distance_mm, level=0.0)  # type: ignore[no-untyped-call]
    k, down, right = (points - 2.0 + (z, y, x)).T.astype(np.float64)
    origins = volume.geometry.origins_mm
    ends = np.stack([2 * origins[0] - origins[1], 2 * origins[-1] - origins[-2]])
    origins = np.concatenate([ends[:1], origins, ends[1:]])
    lowest = np.arange(-1, len(origins) - 1)
    places = np.column_stack([np.interp(k, lowest, origins[:, axis]) for axis in range(3)])
    places += down[:, None] * volume.geometry.y_step_mm + right[:, None] * volume.geometry.x_step_mm
    return places, faces.astype(np.int64)


def surface_area_mm2(mask_zyx: npt.ArrayLike, volume: CTVolume) -> float:
    """The area of ``surface_mesh``; 0 for an empty mask.

    On spheres of 8 to 20 mm radius it is within 3 % of the truth with slices of 1 mm, and within 8 % with slices of 5
    mm, where the poles are cut (tests/test_measure.py). What a resolution does not show is not in it: the surface of an
    irregular hematoma grows with finer slices. Compare it between scans of one slice thickness only.
    """
    mesh = surface_mesh(mask_zyx, volume)
    if mesh is None:
        return 0.0
    a, b, c = (mesh[0][mesh[1][:, corner]] for corner in range(3))
    return float(np.linalg.norm(np.cross(b - a, c - a), axis=1).sum() / 2)


def _outline_distances(mask: Mask, spacing_yx_mm: tuple[float, float]) -> npt.NDArray[np.float32]:
    """In-plane distance in mm to the mask's outline on each slice [z, y, x], negative inside."""
    marked = mask.any(axis=(1, 2))
    deepest = np.zeros(len(mask))
    out = np.empty(mask.shape, dtype=np.float32)
    for k in np.flatnonzero(marked):
        inside = ndimage.distance_transform_edt(mask[k], sampling=spacing_yx_mm)
        outside = ndimage.distance_transform_edt(~mask[k], sampling=spacing_yx_mm)
        deepest[k] = inside.max()
        smooth = ndimage.gaussian_filter(outside - inside, 1.0)
        # Smoothing takes the pixels' steps off the outline, but moves no pixel across it.
        least = 0.01 * min(spacing_yx_mm)
        out[k] = np.where(mask[k], np.minimum(smooth, -least), np.maximum(smooth, least))
    # A piece that ends between two slices does so within half of the way.
    np.minimum(out, deepest.max(), out=out)
    beside = np.maximum(np.roll(deepest, 1), np.roll(deepest, -1))  # the ends are padding
    for k in np.flatnonzero(~marked):
        out[k] = beside[k] or deepest.max()
    return out


# --- All of it -------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Measures:
    """What there is to say of one lesion, or of all blood together (``label`` None); plain values for JSON.

    ``pieces`` are 26-connected in 3D. ``abc2`` is None for the whole of several lesions: add theirs. ``side`` and
    ``inner_table`` are None where they were not asked for, and otherwise give their number or say why there is none.
    """

    label: int | None
    voxels: int
    volume_ml: float
    pieces: int
    largest_piece_ml: float
    slices: tuple[SliceRow, ...]
    longest_in_plane: Line | None
    longest_in_3d: Span | None
    abc2: ABC2 | None
    surface_area_mm2: float
    hu: HUStatistics | None
    histogram: HUHistogram
    side: Side | None
    inner_table: InnerTable | None


def measure(
    labels_zyx: npt.ArrayLike, volume: CTVolume, landmarks: Landmarks | None = None
) -> tuple[Measures, tuple[Measures, ...]]:
    """Everything about a mask: all that is not 0 together, and each label by itself.

    Args:
        labels_zyx: [z, y, x] of the scan's shape, bool or whole numbers; each number but 0 is a lesion.
        volume: the scan.
        landmarks: ``Landmarks(volume)``, to have the side and the distance to the skull too; made once for a scan.

    """
    labels = np.asarray(labels_zyx)
    in_any = _in_mask(labels, volume)
    values = np.unique(labels[in_any])
    lesions = tuple(_measures(labels == value, volume, landmarks, int(value)) for value in values)
    whole = (
        replace(lesions[0], label=None)
        if len(lesions) == 1
        else replace(_measures(in_any, volume, landmarks, None), abc2=None)
    )
    return whole, lesions


def _measures(
    mask: Mask, volume: CTVolume, landmarks: Landmarks | None, label: int | None
) -> Measures:
    cut, (lowest, _, _) = _cropped(mask)
    labels, pieces = ndimage.label(cut, structure=TOUCHING) if cut.size else (cut, 0)
    pieces_ml = np.zeros(pieces + 1)
    for k, labels_yx in enumerate(labels, lowest):
        counts = np.bincount(labels_yx.ravel(), minlength=pieces + 1)
        pieces_ml += counts * volume.voxel_volumes_ml[k]
    return Measures(
        label=label,
        voxels=int(np.count_nonzero(mask)),
        volume_ml=volume_ml(mask, volume),
        pieces=int(pieces),
        largest_piece_ml=float(pieces_ml[1:].max(initial=0.0)),
        slices=tuple(slice_table(mask, volume)),
        longest_in_plane=longest_in_plane(mask, volume),
        longest_in_3d=longest_in_3d(mask, volume),
        abc2=abc2(mask, volume),
        surface_area_mm2=surface_area_mm2(mask, volume),
        hu=hu_statistics(mask, volume),
        histogram=hu_histogram(mask, volume),
        side=None if landmarks is None else landmarks.side(mask),
        inner_table=None if landmarks is None else landmarks.inner_table(mask),
    )


# --- How sure --------------------------------------------------------------------------------------

#: How often the boxes are drawn anew for ``volume_range``, and how far each side moves at most.
DRAWS, JITTER_MM = 16, 3.0


@dataclass(frozen=True)
class VolumeRange:
    """A volume under boxes that other hands might have drawn: smallest, median and largest of the draws.

    It says how much the box matters, and nothing of what the model gets wrong whatever the box. ``carried_over`` says
    whether it was taken of a model's first answer and brought to the volume beside it in proportion. ``from_slices``
    are those, from 0, on which a propagation began (``spread``); empty where boxes moved on their own slices alone.
    """

    low_ml: float
    median_ml: float
    high_ml: float
    draws_ml: tuple[float, ...]
    jitter_mm: float
    seed: int
    carried_over: bool = False
    from_slices: tuple[int, ...] = ()

    @property
    def covers(self) -> str:
        """What was varied, and what the range is not, for people.

        >>> VolumeRange.of([9.0, 12.0], from_slices=[8, 9, 10]).covers
        'when it is propagated anew 2 times, from slices 9 to 11 (--slice 8 to 10) by turns, with each side of a box \
moved by up to 3 mm. It covers the choice of slice and box, not how far the model is from a reference'
        """
        count, move = len(self.draws_ml), f"moved by up to {self.jitter_mm:g} mm"
        times = f"{count} time{'' if count == 1 else 's'}"
        if self.from_slices:
            low, high = self.from_slices[0], self.from_slices[-1]
            where = (
                f"slice {low + 1} (--slice {low})"
                if low == high
                else f"slices {low + 1} to {high + 1} (--slice {low} to {high}) by turns"
            )
            how = (
                f"when it is propagated anew {times}, from {where}, with each side of a box {move}"
            )
            of = "the choice of slice and box"
        else:
            how = f"when the boxes are drawn anew {times} on their slices, each side {move}"
            of = "the choice of box"
        carried = (
            " It was taken before any refinement, without other lesions, and scaled to this volume."
            if self.carried_over
            else ""
        )
        return f"{how}.{carried} It covers {of}, not how far the model is from a reference"

    @classmethod
    def of(
        cls,
        draws_ml: npt.ArrayLike,
        jitter_mm: float = JITTER_MM,
        seed: int = 0,
        from_slices: Sequence[int] = (),
    ) -> VolumeRange:
        """The range of these draws, one volume each.

        >>> VolumeRange.of([9.0, 12.0, 10.0]).carried_to(20.0).high_ml
        24.0
        """
        draws = np.asarray(draws_ml, dtype=np.float64)
        return cls(
            low_ml=float(draws.min()),
            median_ml=float(np.median(draws)),
            high_ml=float(draws.max()),
            draws_ml=tuple(float(ml) for ml in draws),
            jitter_mm=jitter_mm,
            seed=seed,
            from_slices=tuple(from_slices),
        )

    @classmethod
    def together(cls, ranges: Sequence[VolumeRange]) -> VolumeRange:
        """The range of several lesions' volume: one draw moves the boxes of all alike, so that their volumes add up."""
        draws = np.sum([one.draws_ml for one in ranges], axis=0)
        slices = sorted({k for one in ranges for k in one.from_slices})
        made = cls.of(draws, ranges[0].jitter_mm, ranges[0].seed, slices)
        return replace(made, carried_over=any(one.carried_over for one in ranges))

    def carried_to(self, ml: float) -> VolumeRange:
        """The same extent about another volume: for an answer with a second look, which 16 draws of would take long.

        A range about nothing stays as it is.
        """
        return self if self.median_ml == 0 else self.scaled(ml / self.median_ml)

    def scaled(self, factor: float) -> VolumeRange:
        """Every draw times a factor."""
        draws = np.array(self.draws_ml) * factor
        made = VolumeRange.of(draws, self.jitter_mm, self.seed, self.from_slices)
        return replace(made, carried_over=True)


def volume_range(
    predictor: Predictor,
    volume: CTVolume,
    boxes: Mapping[int, Sequence[Box]],
    *,
    embedding: Callable[[int], SliceEmbedding] | None = None,
    draws: int = DRAWS,
    jitter_mm: float = JITTER_MM,
    second_look: bool | None = False,
    seed: int = 0,
) -> VolumeRange:
    """The millilitres again, with every side of every box moved by up to ``jitter_mm``.

    Args:
        predictor: the model that the number beside the range is from.
        volume: the scan.
        boxes: by slice, from 0.
        embedding: gives a slice's embedding by this predictor, for who has it already; else the slice is encoded.
        draws: how often; all draws of a slice are one batch.
        jitter_mm: each side moves by its own uniform draw of up to this. One draw moves all boxes alike, as the hand
            that draws a wide box on one slice draws wide ones on the next: independent moves would average out.
        second_look: False is the instant answer from the slice's embedding, as fast as 16 boxes at once; the range is
            then of that answer, and its extent relative to its median is what carries over to a slower one.
        seed: the same seed, the same range.

    Raises:
        BoxError: no box, or one that is not on its slice.

    """
    if not any(boxes.values()):
        raise BoxError(
            "A range is that of the volume in boxes; got none; draw a box around the blood."
        )
    total_ml = np.zeros(draws)
    for k in sorted(boxes):
        if not boxes[k]:
            continue
        here = predictor.embed(volume.hu_zyx[k]) if embedding is None else embedding(k)
        voxels = jittered_areas_px(
            predictor,
            here,
            boxes[k],
            jitter_xy_px=jitter_in_pixels(volume, jitter_mm),
            draws=draws,
            second_look=second_look,
            seed=seed,
        )
        total_ml += voxels * volume.voxel_volumes_ml[k]
    return VolumeRange.of(total_ml, jitter_mm, seed)


def jittered_areas_px(
    predictor: Predictor,
    embedding: SliceEmbedding,
    boxes: Sequence[Box],
    *,
    jitter_xy_px: tuple[float, float],
    draws: int = DRAWS,
    first: int = 0,
    second_look: bool | None = False,
    seed: int = 0,
) -> npt.NDArray[np.int64]:
    """How many pixels of a slice are blood under each of several draws of its boxes, int64 [draws].

    Draw i moves the sides of all boxes by the same parts of ``jitter_xy_px``, on this slice as on any other. ``first``
    is the number of the first draw, for who asks for them in portions.
    """
    moved = [
        jitter(box, jitter_xy_px, np.random.default_rng([seed, draw]), embedding.shape_yx)
        for draw in range(first, first + draws)
        for box in boxes
    ]
    masks = predictor.predict(embedding, moved, second_look=second_look).masks
    unions = masks.reshape(draws, len(boxes), *embedding.shape_yx).any(axis=1)
    return np.asarray(np.count_nonzero(unions, axis=(1, 2)), dtype=np.int64)


def jitter_in_pixels(volume: CTVolume, jitter_mm: float = JITTER_MM) -> tuple[float, float]:
    """How far a box's sides move at most, across and down, in pixels of a scan's slices."""
    dy, dx = volume.geometry.spacing_yx_mm
    return jitter_mm / dx, jitter_mm / dy


# --- Shared ---------------------------------------------------------------------------------------


def _in_mask(mask_zyx: npt.ArrayLike, volume: CTVolume) -> npt.NDArray[np.bool_]:
    mask: npt.NDArray[np.bool_] = np.asarray(mask_zyx) != 0
    if mask.shape != volume.shape_zyx:
        raise VolumeError(
            f"A mask has its scan's shape {volume.shape_zyx}; got {mask.shape}; "
            "take the mask that was made on this scan."
        )
    return mask


def _voxels_per_slice(mask_zyx: npt.ArrayLike, volume: CTVolume) -> npt.NDArray[np.int64]:
    return np.asarray(np.count_nonzero(_in_mask(mask_zyx, volume), axis=(1, 2)), dtype=np.int64)
