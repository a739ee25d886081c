"""What a scan's values say of their scale: whether they are HU, and which offset, wrap or slice is wrong.

A head's histogram has two narrow peaks, brain and air, about 1,035 HU apart. Where they lie tells how it was stored.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ichseg.errors import refusal

Hounsfield = NDArray[np.int16] | NDArray[np.float32]

LOWEST_HU = -1024
"""Air is -1000 HU; scanners pad outside the field of view with values below it, clipped to this."""

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

_SCALE_AIR_HU, _SCALE_SLICES, _SCALE_STEP = -500, 3, 0.2
"""What ``scale_doubts`` calls air, how many slices it looks at on either side, and the difference in doubt."""
_SCALE_NO_AIR, _SCALE_ALL_AIR = 0.01, 0.8
RULE = "a head CT holds Hounsfield units (air -1000, brain about 35)"

AIR_TO_HU = -300
"""Below this is air, for whether there is any."""

SAMPLE_VALUES = 1 << 20
"""About how many of a scan's values are looked at."""


def offset_doubts(hu_zyx: Hounsfield, add_offset: int) -> tuple[str, ...]:
    """A warning where tissue and air are off their places, and another offset would put both there."""
    step = max(1, hu_zyx.size // SAMPLE_VALUES) | 1
    found = tissue_and_air(hu_zyx.ravel()[::step].astype(np.float64))
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


def mixed_scale_doubts(
    hu_zyx: Hounsfield, scales: Sequence[tuple[float, float]]
) -> tuple[str, ...]:
    """A warning where slices with another slope and intercept have their soft tissue elsewhere than the rest.

    Args:
        hu_zyx: the scan in HU.
        scales: slope and intercept of each slice.

    """
    slices: dict[tuple[float, float], list[int]] = {}
    for index, scale in enumerate(scales):
        slices.setdefault(scale, []).append(index)
    if len(slices) < 2:
        return ()
    found = []
    for members in slices.values():
        step = max(1, len(members) * hu_zyx[0].size // SAMPLE_VALUES) | 1
        sample = np.concatenate([hu_zyx[one].ravel()[::step] for one in members])
        peaks = tissue_and_air(sample.astype(np.float64))
        if peaks is not None:
            found.append((peaks[0], members))
    found.sort(key=lambda one: len(one[1]))
    if len(found) < 2 or abs(found[0][0] - found[-1][0]) <= _TISSUE_TOLERANCE:
        return ()
    (tissue, members), (usual, _) = found[0], found[-1]
    which = ", ".join(str(one + 1) for one in members[:8]) + (", ..." if len(members) > 8 else "")
    return (
        f"Slices {which} are stored with another slope or intercept than the rest, and their soft tissue lies at"
        f" {tissue} HU where that of the rest lies at {usual} HU: HU there, and what goes by them, are in doubt.",
    )


def check_hounsfield(
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
        raise refusal(name, RULE, "all of it is what the file calls padding", remedy)
    first, last = float(with_padding.min()), float(with_padding.max())
    low = max(low, first)
    received = f"its values run from {first:g} to {max(last, high) if high > LOWEST_HU else last:g}"
    found = tissue_and_air(sample) if sample.size else None
    if with_padding.size > sample.size and not (found and 0 <= found[0] <= 80):
        found = tissue_and_air(with_padding) or found
    if not (found and 0 <= found[0] <= 80):
        _check_not_wrapped(name, with_padding)
    if found and not 0 <= found[0] <= 80:
        offer = _offer(*found)
        raise refusal(name, RULE, f"{received}, with soft tissue near {found[0]:g}", offer)
    sample = np.maximum(sample, LOWEST_HU)
    above = sample[sample > 0]
    centre = float(np.median(above)) if above.size else 0.0
    windowed = low >= 0 and high <= 255 and (high >= 250 or centre > 80)
    if windowed:
        raise refusal(
            name,
            RULE,
            f"{received}, like an already windowed picture",
            "export the CT with its original values",
        )
    # Without air nothing but brain is left, whose values are centred in soft tissue; with air the
    # rest may be bone, but some soft tissue must be there.
    tissue = 5 <= centre <= 80 if low >= 0 else centre >= 5 and _share(sample, 0, 100) > 0.001
    if not tissue:
        raise refusal(
            name,
            RULE,
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
    found = tissue_and_air(np.where(values >= inner[at], values - _TURN, values))
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
        RULE,
        f"its values wrapped around at 16 bits (soft tissue is at {tissue}, air at {air + _TURN})",
        f"subtract {_TURN} from those above {between:g}{added}, and save it as int16",
    )


def tissue_and_air(sample: NDArray[np.float64]) -> tuple[int, int] | None:
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
