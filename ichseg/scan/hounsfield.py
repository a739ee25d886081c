"""Stored values to Hounsfield units, slice by slice: the scale, and what lies outside the field of view.

Every format's reader hands its slices to ``stack_hounsfield``. What is held is one array of int16 where the values are
whole HU, else of float32; a slice of any other type is in memory by itself.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from ichseg.errors import check_cancelled, refusal
from ichseg.scan.scale import (
    AIR_TO_HU,
    LOWEST_HU,
    RULE,
    SAMPLE_VALUES,
    Hounsfield,
    check_hounsfield,
)

Mask = NDArray[np.bool_]

MAX_BYTES = 1 << 30
"""Largest array of HU that is held: 1 GiB is 2,000 slices of 512 x 512 in whole HU."""

MAX_SIDE = 4096
"""Most rows, columns and slices of a scan, and frames of a file: twice what any CT has. One slice at a time is several
times in memory, in whole numbers of 64 bits."""

_HIGHEST_TISSUE_HU = 3071
_LEAST_AIR_HU = -900
_SPARE_CORNER_HU, _SPARE_SHARE = 100, 0.001
#: No scanner has such a value, not even of metal on an extended scale.
_BEYOND_HU = 32767
_WHOLE_HU = 1e-3


@dataclass(frozen=True, eq=False)
class Plane:
    """One slice as it is stored.

    Attributes:
        values: the stored values, [y, x], whole numbers or floats of any size.
        slope: HU of a step of the stored values.
        intercept: HU of a stored 0.
        padding: bool [y, x], the pixels that the file itself calls padding; None where it does not.

    """

    values: NDArray[Any]
    slope: float = 1.0
    intercept: float = 0.0
    padding: Mask | None = None


def stack_hounsfield(
    name: str,
    shape_zyx: tuple[int, int, int],
    planes: Iterable[Plane],
    *,
    held_shape: tuple[int, int, int] | None = None,
    as_planes: Callable[[Hounsfield], Hounsfield] = lambda held: held,
) -> tuple[Hounsfield, tuple[str, ...]]:
    """Slices of stored values to one checked array of HU, which is all that is held of them.

    Padding, and what is NaN or infinite outside the field of view, becomes air of -1024 HU.

    Args:
        name: the file, for the error's text.
        shape_zyx: the number of planes, and their shape.
        planes: the slices in order.
        held_shape: the shape of the array to return, where it lies otherwise in memory than the planes do.
        as_planes: a view of that array as planes of ``shape_zyx``.

    Returns:
        HU [z, y, x] of ``held_shape``, nothing below -1024, int16 where all of it is whole and in range, else float32;
        and what to say to the user.

    Raises:
        VolumeError: NaN or infinite voxels in the head, more than ``MAX_BYTES``, or values that cannot be HU.

    """
    check_size(name, math.prod(check_sides(name, shape_zyx)), 2)
    hu_zyx: Hounsfield = np.empty(held_shape or shape_zyx, dtype=np.int16)
    stacked = as_planes(hu_zyx)
    samples: list[NDArray[np.float64]] = []
    guessed: list[NDArray[np.float64]] = []  # padding that the file does not name
    step = max(1, hu_zyx.size // SAMPLE_VALUES) | 1
    holes: dict[int, Mask] = {}
    padded = 0
    ends = [np.inf, -np.inf]
    for index, plane in enumerate(planes):
        check_cancelled()
        exact, hole = _rescaled(plane)
        ends = [min(ends[0], float(exact.min())), max(ends[1], float(exact.max()))]
        outside = _padding(exact, plane.padding)
        if hole is not None:
            holes[index] = hole
            outside = hole if outside is None else outside | hole
        if outside is None:
            samples.append(exact.ravel()[::step].astype(np.float64))
        else:
            samples.append(exact[~outside][::step].astype(np.float64))
            if plane.padding is None:
                inside = outside if hole is None else outside & ~hole
                guessed.append(exact[inside][::step].astype(np.float64))
            shown = exact if hole is None else np.where(hole, LOWEST_HU, exact)
            exact = np.where(outside, LOWEST_HU, exact)
            padded += int((outside & (shown > _LEAST_AIR_HU)).sum())
        found = _narrowed(exact)
        if found.dtype != hu_zyx.dtype and hu_zyx.dtype == np.int16:
            check_size(
                name, hu_zyx.size, 4, "save it as int16, in whole HU, or crop it to the head"
            )
            hu_zyx = hu_zyx.astype(np.float32)
            stacked = as_planes(hu_zyx)
        stacked[index] = found
    sample = np.concatenate(samples)
    notes = _hole_notes(
        name, holes, shape_zyx, bool(np.count_nonzero(sample < AIR_TO_HU) > 0.01 * sample.size)
    )
    if padded:
        notes = (*notes, f"{padded:,} voxels of padding outside the field of view were set to air.")
    if ends[0] == ends[1]:
        raise refusal(name, RULE, f"every voxel is {ends[0]:g}", "give the scan itself, not a mask")
    check_hounsfield(name, hu_zyx, sample, np.concatenate([sample, *guessed]))
    hu_zyx.setflags(write=False)
    return hu_zyx, notes


def check_size(
    name: str,
    voxels: int,
    bytes_each: int,
    remedy: str = "crop it to the head or give a thicker-sliced series",
) -> None:
    """``VolumeError`` when an array of ``voxels`` would be larger than ``MAX_BYTES``."""
    if voxels * bytes_each > MAX_BYTES:
        raise refusal(
            name,
            f"a scan is at most {MAX_BYTES / 2**20:,.0f} MiB unpacked",
            f"this one has {voxels * bytes_each / 2**20:,.0f} MiB",
            remedy,
        )


def check_sides(name: str, shape: tuple[int, ...]) -> tuple[int, ...]:
    """The shape of a scan; ``VolumeError`` where a side of it is longer than any scan's."""
    if max(shape) > MAX_SIDE:
        raise refusal(
            name,
            f"a scan has at most {MAX_SIDE:,} slices, rows and columns",
            f"this one has {' x '.join(f'{side:,}' for side in shape)}",
            "give one head CT",
        )
    return shape


def offset_notes(add_offset: int) -> tuple[str, ...]:
    """What to say when the user asked for an offset."""
    return (f"{add_offset:+d} HU were added to every voxel, as asked.",) if add_offset else ()


def padding_mask(
    values: NDArray[Any], first: int, last: int | None, bits_stored: int
) -> Mask | None:
    """The pixels of one DICOM slice that are padding, bool [y, x]; None where there are none.

    The padding value's element may be written signed or unsigned, whatever the pixels are: it stands for the same
    bits, so the two are compared by their bits, of all that are allocated and of those that are stored.

    Args:
        values: the stored values, [y, x], of the type they were allocated in.
        first: PixelPaddingValue.
        last: PixelPaddingRangeLimit: all from one to the other is padding; None for the one value.
        bits_stored: how many bits of a pixel are its value.

    """
    if values.dtype.kind not in "iu":
        return None
    bounds = np.iinfo(values.dtype)
    allocated = values.dtype.itemsize * 8
    found = np.zeros(values.shape, dtype=bool)
    for bits in {allocated, min(bits_stored, allocated)}:
        span = 1 << bits
        lowest = -(span // 2) if bounds.min < 0 else 0
        ends = [(one - lowest) % span + lowest for one in (first, first if last is None else last)]
        found |= (values >= min(ends)) & (values <= max(ends))
    return found if found.any() else None


# --- Outside of the field of view ------------------------------------------------------------------


def _padding(exact: NDArray[Any], said: Mask | None) -> Mask | None:
    """The pixels of a slice in HU that are padding: those the file says, and those that nothing else can be.

    What the file calls padding is that where it is below all tissue or above it. A value of tissue is padding only
    where it reaches the edge of the image, for some files name a value that their tissue has, too. Without a word in
    the file, one and the same value in all four corners, of more than 100 HU, is padding as far as it reaches, and so
    is a highest value that is beyond any scanner's.
    """
    found = None
    if said is not None:
        values = exact[said]
        possible = (values > _LEAST_AIR_HU) & (values <= _HIGHEST_TISSUE_HU)
        found = _reaching_the_edge(said) if possible.any() else said
    corners, highest = exact[[0, 0, -1, -1], [0, -1, 0, -1]], exact.max()
    spare = corners[0] if corners.min() == corners.max() else -np.inf
    if spare > _SPARE_CORNER_HU or highest > _BEYOND_HU:
        same = exact == (spare if spare > _SPARE_CORNER_HU else highest)
        if _SPARE_SHARE <= same.mean() < 1:
            same = _reaching_the_edge(same)
            found = same if found is None else found | same
    return found if found is not None and found.any() else None


def _reaching_the_edge(mask: Mask) -> Mask:
    """The parts of a mask [y, x] that touch the edge of the image."""
    labels, _ = ndimage.label(mask)
    edge = np.concatenate([labels[0], labels[-1], labels[:, 0], labels[:, -1]])
    return np.asarray(np.isin(labels, np.unique(edge[edge > 0])))


def _hole_notes(
    name: str, holes: dict[int, Mask], shape_zyx: tuple[int, int, int], has_air: bool
) -> tuple[str, ...]:
    """Refuse a scan with NaN or infinite voxels inside its field of view; say how many lie outside.

    A field of view is convex, a disc or a box: what lies between finite voxels along any of the three axes is inside.
    Where there is no air at all, as after brain extraction, the brain is not convex: there all is outside that
    reaches the edge of its slice.
    """
    if not holes:
        return ()
    count = sum(int(hole.sum()) for hole in holes.values())
    finite_below = np.zeros(shape_zyx[1:], dtype=bool)
    last_finite = np.zeros(shape_zyx[1:], dtype=np.int64)
    for index in range(shape_zyx[0]):
        last_finite[_finite(holes, index, shape_zyx)] = index
    inside = 0
    for index in range(shape_zyx[0]):
        finite = _finite(holes, index, shape_zyx)
        if (hole := holes.get(index)) is not None:
            between = finite_below & (last_finite > index)
            if has_air:
                between |= _between(finite, 0) | _between(finite, 1)
            elif not hole.all():
                between = ~_reaching_the_edge(hole)
            inside += int((hole & between).sum())
        finite_below |= finite
    if inside:
        raise refusal(
            name,
            "every voxel needs a finite number",
            f"{inside:,} voxels are NaN or infinite",
            f"set voxels outside the scan to {LOWEST_HU} and save it again",
        )
    return (
        f"{count:,} voxels outside the field of view held no number (NaN) and were set to air.",
    )


def _finite(holes: dict[int, Mask], index: int, shape_zyx: tuple[int, int, int]) -> Mask:
    hole = holes.get(index)
    return np.ones(shape_zyx[1:], dtype=bool) if hole is None else ~hole


def _between(mask: Mask, axis: int) -> Mask:
    """The pixels that have pixels of the mask on both sides along an axis, or are of it."""
    before = np.logical_or.accumulate(mask, axis)
    after = np.flip(np.logical_or.accumulate(np.flip(mask, axis), axis), axis)
    return np.asarray(before & after)


# --- Scale ----------------------------------------------------------------------------------------


def _rescaled(plane: Plane) -> tuple[NDArray[Any], Mask | None]:
    """A slice in HU, int64 where it is exact, else float64 with 0 for what is not finite; and where that is."""
    slope, intercept, values = float(plane.slope), float(plane.intercept), plane.values
    whole = slope.is_integer() and intercept.is_integer() and max(abs(slope), abs(intercept)) < 1e9
    if values.dtype.kind in "iu" and values.dtype.itemsize <= 4 and whole:
        return values.astype(np.int64) * int(slope) + int(intercept), None
    with np.errstate(over="ignore", invalid="ignore"):
        exact = values.astype(np.float64) * slope + intercept
    hole = ~np.isfinite(exact)
    if not hole.any():
        return exact, None
    return np.where(hole, 0.0, exact), hole


def _narrowed(exact: NDArray[Any]) -> Hounsfield:
    """HU clipped below at -1024; int16 where they are whole and in range, else float32."""
    exact = np.maximum(exact, LOWEST_HU)
    in_range = exact.max() <= np.iinfo(np.int16).max
    if exact.dtype.kind == "i":
        return exact.astype(np.int16) if in_range else exact.astype(np.float32)
    nearest = np.rint(exact)
    if in_range and np.abs(exact - nearest).max() <= _WHOLE_HU:
        return nearest.astype(np.int16)
    return np.minimum(exact, np.finfo(np.float32).max).astype(np.float32)
