"""Corrections by hand: what a brush, an eraser and their helpers make of a mask. Pure functions.

Masks are bool, [y, x] unless it is said otherwise; every function returns a new one. Points are (x, y) in native pixels
of the slice, as boxes are: pixel (y, x) covers [x, x + 1) by [y, y + 1), so its centre is (x + 0.5, y + 0.5). Sizes are
in mm with the pixel's ``spacing_yx_mm``; with a spacing of (1, 1) they are in pixels.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Mapping

import numpy as np
import numpy.typing as npt
from scipy import ndimage

from ichseg.arrays import EIGHT_CONNECTED
from ichseg.errors import InputError
from ichseg.marks.box import box_from_mask

BoolArray = npt.NDArray[np.bool_]
FloatArray = npt.NDArray[np.float64]

#: Beyond so many of its standard deviations a Gaussian is nothing (below 1e-4 of its peak).
_GAUSSIAN_REACH = 4.5


def stroke(
    shape_yx: tuple[int, int],
    points_xy: npt.ArrayLike,
    radius_mm: float,
    spacing_yx_mm: tuple[float, float] = (1.0, 1.0),
) -> BoolArray:
    """The pixels that a round tip touches on its way along a polyline.

    Args:
        shape_yx: the slice's (rows, columns).
        points_xy: [n, 2], n >= 1; may lie off the slice, as a hand that slips over the edge does.
        radius_mm: of the tip. One under half the pixel's longer side is taken as that, so that the thinnest stroke
            has no gaps.
        spacing_yx_mm: (dy, dx).

    Returns:
        bool [y, x]: the pixels whose centres are within the radius of the line, and those that its points are in.

    Raises:
        InputError: no points, points that are not pairs of finite numbers, or a radius or spacing that is not above 0.

    A tip of 2 mm on pixels of 1 mm by 0.5 mm:

    >>> int(stroke((20, 40), [(20.5, 10.5)], 2.0, (1.0, 0.5)).sum())
    25

    """
    rows, columns = shape_yx
    points = _points(points_xy)
    spacing = np.array([_above_0(mm, "A pixel's spacing") for mm in spacing_yx_mm[::-1]])
    radius = max(_above_0(radius_mm, "A brush's radius"), spacing.max() / 2)
    touched = np.zeros(shape_yx, dtype=bool)
    for start, end in itertools.pairwise(points if len(points) > 1 else points[[0, 0]]):
        reach = radius / spacing + 1
        x0, y0 = np.clip(np.floor(np.minimum(start, end) - reach), 0, (columns, rows)).astype(int)
        x1, y1 = np.clip(np.ceil(np.maximum(start, end) + reach), 0, (columns, rows)).astype(int)
        x_mm = ((np.arange(x0, x1) + 0.5 - start[0]) * spacing[0])[None, :]
        y_mm = ((np.arange(y0, y1) + 0.5 - start[1]) * spacing[1])[:, None]
        along_x, along_y = (end - start) * spacing
        length2 = along_x**2 + along_y**2
        # The nearest point of the segment, as the part of the way from its start to its end.
        part = np.clip((x_mm * along_x + y_mm * along_y) / length2, 0, 1) if length2 > 0 else 0.0
        distance2 = (x_mm - part * along_x) ** 2 + (y_mm - part * along_y) ** 2
        touched[y0:y1, x0:x1] |= distance2 <= radius**2
    x, y = np.floor(points).astype(int).T
    on_slice = (x >= 0) & (x < columns) & (y >= 0) & (y < rows)
    touched[y[on_slice], x[on_slice]] = True
    return touched


def brush(
    mask_yx: BoolArray,
    points_xy: npt.ArrayLike,
    radius_mm: float,
    spacing_yx_mm: tuple[float, float] = (1.0, 1.0),
    *,
    slice_hu: npt.NDArray[np.number] | None = None,
    hu_range: tuple[float, float] | None = None,
) -> BoolArray:
    """A mask with a ``stroke`` added; with a range, only where the slice's own HU is in it (both ends count).

    Raises InputError as ``stroke`` does, and for a range without a slice, upside down, or a slice of another shape.
    """
    touched = stroke(_shape(mask_yx), points_xy, radius_mm, spacing_yx_mm)
    if hu_range is not None:
        touched &= _in_range(mask_yx, slice_hu, hu_range)
    return mask_yx | touched


def erase(
    mask_yx: BoolArray,
    points_xy: npt.ArrayLike,
    radius_mm: float,
    spacing_yx_mm: tuple[float, float] = (1.0, 1.0),
) -> BoolArray:
    """A mask with a ``stroke`` taken away."""
    return mask_yx & ~stroke(_shape(mask_yx), points_xy, radius_mm, spacing_yx_mm)


def component_at(mask: BoolArray, index: tuple[int, ...]) -> BoolArray:
    """The connected component of a mask that holds a voxel; empty where the voxel is not in the mask.

    ``mask`` is [y, x] or [z, y, x] and ``index`` a voxel's place in it; voxels that touch at a corner are connected.
    Raises InputError for a voxel that is not on the mask's grid.
    """
    if len(index) != mask.ndim or not all(
        0 <= i < n for i, n in zip(index, mask.shape, strict=True)
    ):
        raise InputError(
            f"A component is pointed at on its own grid, {mask.shape}; got {tuple(index)}; point inside it."
        )
    if not mask[tuple(index)]:
        return np.zeros_like(mask)
    labels, _ = ndimage.label(mask, structure=np.ones((3,) * mask.ndim, dtype=bool))
    return np.equal(labels, labels[tuple(index)])


def erase_component(mask: BoolArray, index: tuple[int, ...]) -> BoolArray:
    """A mask without its connected component at a voxel (``component_at``); unchanged where the voxel is not in it."""
    return mask & ~component_at(mask, index)


def fill_holes(mask_yx: BoolArray) -> BoolArray:
    """A mask with every hole filled: background that cannot reach the slice's edge by up, down, left and right."""
    return np.asarray(ndimage.binary_fill_holes(mask_yx), dtype=bool)


def smooth(
    mask_yx: BoolArray, radius_mm: float, spacing_yx_mm: tuple[float, float] = (1.0, 1.0)
) -> BoolArray:
    """A mask with a calmer outline, each connected component as large as before.

    Every 8-connected component is blurred by a Gaussian of standard deviation ``radius_mm``, and as many pixels as
    it had are kept, those with the highest values: corners and threads go, dents fill. Nothing is lost for being small.
    Drift: a component's pixel count changes only where pixels tie at the cut (in or out together, whichever is nearer),
    and the total where two components grow into each other; on discs and ellipses of 3 to 20 mm it stays below 2 %.

    Raises InputError for a radius or a spacing that is not above 0.
    """
    sigma_px = [
        _above_0(radius_mm, "A smoothing radius") / _above_0(mm, "A pixel's spacing")
        for mm in spacing_yx_mm
    ]
    reach_yx = [math.ceil(_GAUSSIAN_REACH * sigma) for sigma in sigma_px]
    labels, _ = ndimage.label(mask_yx, structure=EIGHT_CONNECTED)
    out = np.zeros_like(mask_yx)
    for number, tight in enumerate(ndimage.find_objects(labels), 1):
        window = tuple(
            slice(max(0, side.start - reach), side.stop + reach)
            for side, reach in zip(tight, reach_yx, strict=True)
        )
        component = labels[window] == number
        blurred = ndimage.gaussian_filter(
            component.astype(np.float32), sigma_px, mode="nearest", truncate=_GAUSSIAN_REACH
        )
        out[window] |= _highest(blurred, int(component.sum()))
    return out


def _highest(values: npt.NDArray[np.float32], count: int) -> BoolArray:
    """The ``count`` pixels of the highest values; pixels that tie at the cut are in or out together."""
    values = np.round(
        values, 5
    )  # so that what mirrors each other ties, whatever the order of summation
    cut = np.partition(values.ravel(), values.size - count)[values.size - count]
    with_ties, without = values >= cut, values > cut
    more, fewer = int(with_ties.sum()) - count, count - int(without.sum())
    return with_ties if more <= fewer or not without.any() else without


def copy_to_slice(
    mask_yx: BoolArray,
    slice_hu: npt.NDArray[np.number] | None = None,
    hu_range: tuple[float, float] | None = None,
) -> BoolArray:
    """What of a slice's mask holds on a neighbouring slice.

    Without a range, all of it. With a range, the pixels whose HU on that slice (``slice_hu``, [y, x]) is in it, by the
    median of the 3 x 3 pixels around each, so that noise does not pepper the copy; then holes are filled. Raises
    InputError for a range without a slice, upside down, or a slice of another shape.
    """
    if hu_range is None:
        return mask_yx.copy()
    _in_range(mask_yx, slice_hu, hu_range)  # refuses what cannot be meant
    assert slice_hu is not None
    out = np.zeros_like(mask_yx)
    tight = box_from_mask(mask_yx)
    if tight is None:
        return out
    wide = tight.grow(1, _shape(mask_yx)).slices()
    calm = ndimage.median_filter(slice_hu[wide], size=3, mode="nearest")
    kept = mask_yx[wide] & (calm >= hu_range[0]) & (calm <= hu_range[1])
    out[wide] = ndimage.binary_fill_holes(kept)
    return out


def interpolate(
    masks: Mapping[int, BoolArray],
    positions_mm: npt.ArrayLike,
    spacing_yx_mm: tuple[float, float] = (1.0, 1.0),
) -> dict[int, BoolArray]:
    """The masks of the slices between those that are given, by their shapes.

    Signed distances to the two outlines, in mm, are mixed by where the slice lies between the two, and what is inside
    on the mixture is in (Raya and Udupa, IEEE Trans Med Imaging 1990;9:32-42). The two shapes are first moved onto
    the line between their centres, so that a hematoma that runs obliquely is followed.

    Args:
        masks: slice index -> mask, all of one shape. Between a mask and an empty one nothing is made: there it ends.
        positions_mm: [z], each slice's place along the stack, such as ``Geometry.slice_positions_mm``; uneven is fine.
        spacing_yx_mm: (dy, dx).

    Returns:
        slice index -> mask, for the slices strictly between two given ones that are neighbours in the order.

    Raises:
        InputError: masks of several shapes, or a slice that has no position.

    >>> square, larger = np.zeros((2, 9, 9), dtype=bool)
    >>> square[3:6, 3:6] = True
    >>> larger[1:8, 1:8] = True
    >>> between = interpolate({0: square, 2: larger}, [0, 5, 10])
    >>> list(between), int(between[1].sum())
    ([1], 25)

    """
    places = np.asarray(positions_mm, dtype=np.float64)
    if len({mask.shape for mask in masks.values()}) > 1 or any(
        k not in range(len(places)) for k in masks
    ):
        raise InputError(
            f"Masks to interpolate have one shape and lie on slices 0 to {len(places) - 1}; got slices "
            f"{sorted(masks)} of {sorted({mask.shape for mask in masks.values()})}; take masks of one scan."
        )
    out: dict[int, BoolArray] = {}
    for low, high in itertools.pairwise(sorted(masks)):
        whole = box_from_mask(masks[low] | masks[high])
        if high - low < 2 or whole is None or not (masks[low].any() and masks[high].any()):
            continue
        window = whole.grow(1, _shape(masks[low])).slices()
        shapes = [_Shape(masks[k][window], spacing_yx_mm) for k in (low, high)]
        for k in range(low + 1, high):
            part = float((places[k] - places[low]) / (places[high] - places[low]))
            out[k] = np.zeros_like(masks[low])
            out[k][window] = _between(shapes[0], shapes[1], part)
    return out


class _Shape:
    """A mask's signed distance in mm, above 0 inside, and its centre (y, x) in pixels."""

    def __init__(self, mask_yx: BoolArray, spacing_yx_mm: tuple[float, float]) -> None:
        # What lies beyond the window's edge is outside, and stays so when the shape is moved.
        padded = np.pad(mask_yx, 1)
        inside = ndimage.distance_transform_edt(padded, sampling=spacing_yx_mm)
        outside = ndimage.distance_transform_edt(~padded, sampling=spacing_yx_mm)
        self.distance_mm: FloatArray = inside - outside
        self.centre_yx = np.array(ndimage.center_of_mass(mask_yx))


def _between(low: _Shape, high: _Shape, part: float) -> BoolArray:
    way = high.centre_yx - low.centre_yx
    moved_low = ndimage.shift(low.distance_mm, part * way, order=1, mode="nearest")
    moved_high = ndimage.shift(high.distance_mm, (part - 1) * way, order=1, mode="nearest")
    return np.asarray((1 - part) * moved_low + part * moved_high > 0)[1:-1, 1:-1]


# Checks


def _points(points_xy: npt.ArrayLike) -> FloatArray:
    try:
        points = np.asarray(points_xy, dtype=np.float64)
    except (TypeError, ValueError):
        points = np.empty(0)
    if points.ndim != 2 or points.shape[1] != 2 or not len(points) or not np.isfinite(points).all():
        raise InputError(
            "A stroke is one point or more, each two finite numbers x, y; got "
            f"{np.shape(points_xy)} numbers{'' if np.isfinite(points).all() else ', not all finite'}; draw it again."
        )
    return points


def _above_0(value: float, what: str) -> float:
    if not (math.isfinite(value) and value > 0):
        raise InputError(f"{what} is above 0 mm; got {value:g}; give e.g. 2.")
    return float(value)


def _in_range(
    mask_yx: BoolArray, slice_hu: npt.NDArray[np.number] | None, hu_range: tuple[float, float]
) -> BoolArray:
    """Where the slice's HU is in the range, both ends in."""
    low, high = hu_range
    if not low <= high:
        raise InputError(
            f"A range of HU runs from its lower to its upper end; got {low:g} to {high:g}; exchange them."
        )
    if slice_hu is None or slice_hu.shape != mask_yx.shape:
        got = "none" if slice_hu is None else f"one of {slice_hu.shape}"
        raise InputError(
            f"A range of HU needs the slice itself, of the mask's shape {mask_yx.shape}; got {got}; give it."
        )
    return np.asarray((slice_hu >= low) & (slice_hu <= high))


def _shape(mask_yx: BoolArray) -> tuple[int, int]:
    rows, columns = mask_yx.shape
    return rows, columns
