"""Stored values to Hounsfield units, slice by slice: the scale, what lies outside the field of view, and the checks.

Every format's reader hands its slices to ``stack_hounsfield``. What is held is one array of int16 where the values are
whole HU, else of float32; a slice of any other type is in memory by itself.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from ichseg.errors import refusal

Hounsfield = NDArray[np.int16] | NDArray[np.float32]
Mask = NDArray[np.bool_]

LOWEST_HU = -1024
"""Air is -1000 HU; scanners pad outside the field of view with values below it, clipped to this."""

MAX_BYTES = 1 << 30
"""Largest array of HU that is held: 1 GiB is 2,000 slices of 512 x 512 in whole HU."""

AIR_HU, TISSUE_HU = -1000, 35
"""Where the two peaks of a head's histogram lie: air, and the brain."""

_USUAL_OFFSETS = (-1024, -1000, -2048, -2000, -4096, -8192, -32768, 1024, 1000, 31744, 32768)
_TISSUE_TOLERANCE = 14
_SHIFT_TOLERANCE, _CLIPPED_TOLERANCE, _NEAR_MIXED = 10, 7, 5
"""How well tissue and air agree where both are off by one offset; tissue alone, where air is clipped at -1024; and how
near to the difference of the two usual offsets what they are off by is taken to be just that."""

_TURN = 1 << 16
"""Values of 16 bits that are too large or too small come out this far off: they wrap around."""

_LEAST_GAP, _LEAST_SHARE, _AIR_WIDTH = 1 << 15, 0.02, 75
"""The empty range that values which wrapped around leave, and the share of them that is air, and how near its peak."""

_FAR = 70_000
_AIR_BELOW = (985, 1075)
"""How far below the brain the peak of air may lie."""

_RULE = "a head CT holds Hounsfield units (air -1000, brain about 35)"

_HIGHEST_TISSUE_HU = 3071
_LEAST_AIR_HU = -900
_AIR_TO_HU = -300
_SPARE_CORNER_HU, _SPARE_SHARE = 100, 0.001
#: No scanner has such a value, not even of metal on an extended scale.
_BEYOND_HU = 32767
_WHOLE_HU = 1e-3
_SCALE_AIR_HU, _SCALE_SLICES, _SCALE_STEP = -500, 3, 0.2
"""What ``scale_doubts`` calls air, how many slices it looks at on either side, and the difference in doubt."""
_SCALE_NO_AIR, _SCALE_ALL_AIR = 0.01, 0.8
_SAMPLE_VALUES = 1 << 20


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
    name: str, shape_zyx: tuple[int, int, int], planes: Iterable[Plane]
) -> tuple[Hounsfield, tuple[str, ...]]:
    """Slices of stored values to one checked array of HU.

    Padding, and what is NaN or infinite outside the field of view, becomes air of -1024 HU.

    Args:
        name: the file, for the error's text.
        shape_zyx: the number of planes, and their shape.
        planes: the slices in order.

    Returns:
        HU [z, y, x], nothing below -1024, int16 where all of it is whole and in range, else float32; and what to say
        to the user.

    Raises:
        VolumeError: NaN or infinite voxels in the head, more than ``MAX_BYTES``, or values that cannot be HU.

    """
    check_size(name, shape_zyx[0] * shape_zyx[1] * shape_zyx[2], 2)
    hu_zyx: Hounsfield = np.empty(shape_zyx, dtype=np.int16)
    samples: list[NDArray[np.float64]] = []
    guessed: list[NDArray[np.float64]] = []  # padding that the file does not name
    step = max(1, hu_zyx.size // _SAMPLE_VALUES) | 1
    holes: dict[int, Mask] = {}
    padded = 0
    ends = [np.inf, -np.inf]
    for index, plane in enumerate(planes):
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
        hu_zyx[index] = found
    sample = np.concatenate(samples)
    notes = _hole_notes(
        name, holes, shape_zyx, bool(np.count_nonzero(sample < _AIR_TO_HU) > 0.01 * sample.size)
    )
    if padded:
        notes = (*notes, f"{padded:,} voxels of padding outside the field of view were set to air.")
    if ends[0] == ends[1]:
        raise refusal(
            name, _RULE, f"every voxel is {ends[0]:g}", "give the scan itself, not a mask"
        )
    _check_hounsfield(name, hu_zyx, sample, np.concatenate([sample, *guessed]))
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


def offset_notes(add_offset: int) -> tuple[str, ...]:
    """What to say when the user asked for an offset."""
    return (f"{add_offset:+d} HU were added to every voxel, as asked.",) if add_offset else ()


def offset_doubts(hu_zyx: Hounsfield, add_offset: int) -> tuple[str, ...]:
    """A warning where tissue and air are off their places, and another offset would put both there."""
    step = max(1, hu_zyx.size // _SAMPLE_VALUES) | 1
    found = _tissue_and_air(hu_zyx.ravel()[::step].astype(np.float64))
    if found is None or abs(found[0] - TISSUE_HU) <= _TISSUE_TOLERANCE:
        return ()
    tissue, air = found
    if not add_offset:
        return _mixture_doubts(tissue, air)
    better = _usual_offset(tissue - add_offset, air - add_offset)
    moved = tissue - add_offset + better
    if abs(moved - TISSUE_HU) > _TISSUE_TOLERANCE:
        return ()
    return (
        f"With the offset of {add_offset} HU soft tissue lies at {tissue} HU and air at {air} HU; with {better} they"
        f" would lie at {moved} and {air - add_offset + better}: HU, and what goes by them, are in doubt.",
    )


def _mixture_doubts(tissue: int, air: int) -> tuple[str, ...]:
    """A warning where tissue and air are off by one and the same, as with an intercept of -1000 in place of -1024.

    Air lies at -1000 HU, or at -1024 where the scanner masked it; nothing lies below -1024 here, for there it is
    clipped, so that air tells of 24 HU too few alone.
    """
    clipped = air <= LOWEST_HU
    mixed = AIR_HU - LOWEST_HU
    shifts = (mixed,) if clipped else (AIR_HU - air, LOWEST_HU - air)
    better = min(shifts, key=lambda shift: abs(tissue + shift - TISSUE_HU))
    if abs(abs(better) - mixed) <= _NEAR_MIXED:
        better = mixed if better > 0 else -mixed
    tolerance = _CLIPPED_TOLERANCE if clipped else _SHIFT_TOLERANCE
    if abs(tissue + better - TISSUE_HU) > tolerance:
        return ()
    known = ""
    if abs(better) == mixed:
        stored, read = (1024, 1000) if better < 0 else (1000, 1024)
        known = f", as where values stored as HU + {stored} are read with an intercept of -{read}"
    return (
        f"Soft tissue lies at {tissue} HU and air at {air} HU{known}; with add_offset={better} soft tissue would lie at"
        f" {tissue + better} HU: HU, and what goes by them, are in doubt.",
    )


def scale_doubts(hu_zyx: Hounsfield) -> tuple[str, ...]:
    """A warning for slices whose values lie off those of the slices around them, as where one lost its intercept.

    From slice to slice of a head the share of air changes little, and mostly one way. A slice is in doubt where its
    share lies below, or above, that of slices near it on either side, by more than any head's shape makes it. The first
    and the last slice are in doubt only where they have no air at all, for a vertex may be nearly all air.
    """
    air = np.array([float((plane[::2, ::2] < _SCALE_AIR_HU).mean()) for plane in hu_zyx])
    odd = []
    for index, share in enumerate(air):
        around = air[max(index - _SCALE_SLICES, 0) : index], air[index + 1 :][:_SCALE_SLICES]
        sides = [side for side in around if side.size]
        is_between = len(sides) == len(around)
        is_low = all(side.max() - share > _SCALE_STEP for side in sides)
        is_high = all(share - side.min() > _SCALE_STEP for side in sides)
        low = is_low and (is_between or share < _SCALE_NO_AIR)
        high = is_high and is_between and share > _SCALE_ALL_AIR
        if low or high:
            odd.append(str(index + 1))
    if not odd:
        return ()
    return (
        f"The values of slice {', '.join(odd)} lie off those of the slices around, as where a slice has lost its scale"
        " or its intercept: what is measured or found there is in doubt.",
    )


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


# --- Values ----------------------------------------------------------------------------------------


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


def _check_hounsfield(
    name: str, hu_zyx: NDArray[Any], sample: NDArray[np.float64], with_padding: NDArray[np.float64]
) -> None:
    """Refuse values that cannot be a head's Hounsfield units.

    Brain is 20 to 45 HU, blood up to 80, fat -100, air -1000, and all but brain may have been set
    to 0 by brain extraction. So: a picture of 0..255 has its values above 0 centred outside soft
    tissue or runs up to white, and a CT stored with another offset has air and soft tissue as far
    apart as they are, but elsewhere. ``sample`` is of values that are not yet clipped, without
    padding, which says nothing of the values' scale; ``with_padding`` has what was taken for padding
    without the file's word too, for where the offset is wrong, that may be air.
    """
    low, high = float(hu_zyx.min()), float(hu_zyx.max())
    if not with_padding.size:
        remedy = "correct its padding value, or export the CT with its original values"
        raise refusal(name, _RULE, "all of it is what the file calls padding", remedy)
    first, last = float(with_padding.min()), float(with_padding.max())
    low = max(low, first)
    received = f"its values run from {first:g} to {max(last, high) if high > LOWEST_HU else last:g}"
    found = _tissue_and_air(sample) if sample.size else None
    if with_padding.size > sample.size and not (found and 0 <= found[0] <= 80):
        found = _tissue_and_air(with_padding) or found
    if not (found and 0 <= found[0] <= 80):
        _check_not_wrapped(name, with_padding)
    if found and not 0 <= found[0] <= 80:
        offer = _offer(*found)
        raise refusal(name, _RULE, f"{received}, with soft tissue near {found[0]:g}", offer)
    sample = np.maximum(sample, LOWEST_HU)
    above = sample[sample > 0]
    centre = float(np.median(above)) if above.size else 0.0
    windowed = low >= 0 and high <= 255 and (high >= 250 or centre > 80)
    if windowed:
        raise refusal(
            name,
            _RULE,
            f"{received}, like an already windowed picture",
            "export the CT with its original values",
        )
    # Without air nothing but brain is left, whose values are centred in soft tissue; with air the
    # rest may be bone, but some soft tissue must be there.
    tissue = 5 <= centre <= 80 if low >= 0 else centre >= 5 and _share(sample, 0, 100) > 0.001
    if not tissue:
        raise refusal(
            name,
            _RULE,
            f"{received} with hardly any soft tissue among them",
            "give a CT with its original values, not MR or a rescaled image",
        )


def _check_not_wrapped(name: str, values: NDArray[np.float64]) -> None:
    """Refuse values of 16 bits that wrapped around: those too low for the type came out at its upper end.

    On a circle of 65536 values a CT takes up one arc. It wrapped where the circle was cut open within that arc: then
    both ends of the range are taken, and most of what lies between is empty.
    """
    inner = np.sort(values[np.abs(values) <= _TURN])
    gaps = np.diff(inner)
    if not gaps.size or inner[-1] - inner[0] >= _TURN or gaps.max() < _LEAST_GAP:
        return
    at = int(gaps.argmax()) + 1
    found = _tissue_and_air(np.where(values >= inner[at], values - _TURN, values))
    if found is None or found[0] < inner[0]:
        return
    tissue, air = found
    wrapped_air = np.abs(inner[at:] - _TURN - air) <= _AIR_WIDTH
    if np.count_nonzero(wrapped_air) < _LEAST_SHARE * len(values):  # the other side is padding
        return
    offset = 0 if 0 <= tissue <= 80 else _best_offset(tissue, air)
    added = f", then {'add' if offset > 0 else 'subtract'} {abs(offset)}" if offset else ""
    between = next((one for one in (32767, 0) if inner[at - 1] <= one < inner[at]), inner[at - 1])
    raise refusal(
        name,
        _RULE,
        f"its values wrapped around at 16 bits (soft tissue is at {tissue}, air at {air + _TURN})",
        f"subtract {_TURN} from those above {between:g}{added}, and save it as int16",
    )


def _tissue_and_air(sample: NDArray[np.float64]) -> tuple[int, int] | None:
    """Where the peaks of soft tissue and of air lie; None for values that have no such two.

    The histogram is searched for two peaks as far apart as brain and air are, first of all where they belong. The one
    of tissue must be narrow, which that of MR is not.
    """
    values = np.rint(np.clip(sample, -_FAR, _FAR)).astype(np.int64)
    lowest = int(values.min())
    counts = np.bincount(values - lowest)
    below = np.concatenate([[0], np.cumsum(counts)]) / len(values)

    def share(first: NDArray[np.int64] | int, last: NDArray[np.int64] | int) -> NDArray[np.float64]:
        """Of the values from ``first`` to ``last``, both included."""
        upper = np.clip(np.asarray(last) - lowest + 1, 0, len(counts))
        return np.asarray(below[upper] - below[np.clip(np.asarray(first) - lowest, 0, len(counts))])

    tissue = np.arange(lowest, lowest + len(counts))
    around = share(tissue - 12, tissue + 12)
    score = np.minimum(around, share(tissue - _AIR_BELOW[1], tissue - _AIR_BELOW[0]))
    usual = np.where((tissue >= 0) & (tissue <= 80), score, 0)
    best = int((usual if 3 * usual.max() >= score.max() else score).argmax())
    is_narrow = around[best] >= 0.25 * share(tissue[best] - 150, tissue[best] + 150)
    if score[best] < 0.02 or not is_narrow:
        return None
    first = max(int(tissue[best]) - _AIR_BELOW[1], lowest)
    air = first + int(counts[first - lowest : tissue[best] - _AIR_BELOW[0] - lowest + 1].argmax())
    near_tissue = values[np.abs(values - tissue[best]) <= 24]
    near_air = values[np.abs(values - air) <= 24]
    return int(np.median(near_tissue)), int(np.median(near_air))


def _offer(tissue: int, air: int) -> str:
    """The remedy for tissue and air at these values: the offset that puts both where they belong."""
    offset = _best_offset(tissue, air)
    if offset == -1024:
        return f"if the usual offset is missing, open it with add_offset={offset}"
    return f"if it holds HU {-offset:+d}, open it with add_offset={offset}"


def _best_offset(tissue: int, air: int) -> int:
    """The usual offset that puts tissue and air where they belong; where none does, that of air, or of tissue alone."""
    shift, offset = TISSUE_HU - tissue, _usual_offset(tissue, air)
    own = min((AIR_HU - air, LOWEST_HU - air), key=lambda one: abs(one - shift))
    fit = (one for one in (offset, own) if abs(one - shift) <= _TISSUE_TOLERANCE)
    return next(fit, shift)


def _usual_offset(tissue: int, air: int) -> int:
    """Of the offsets that programs use, the one that brings tissue and air nearest to where they belong."""
    hundreds = round((TISSUE_HU - tissue) / 100) * 100

    def error(offset: int) -> float:
        return abs(tissue + offset - TISSUE_HU) + abs(air + offset - AIR_HU) / 2

    return min((*_USUAL_OFFSETS, hundreds), key=error)


def _share(values: NDArray[Any], above: float, up_to: float) -> float:
    """Fraction of ``values`` in the half-open range (above, up_to]."""
    return float(np.count_nonzero((values > above) & (values <= up_to)) / values.size)
