"""Slabs of a thin series: means of its slices along the stack, as thick as the slices that the networks learned from.

Scanners send slices of 0.5 to 1 mm. A slab holds what five or ten of them hold, at a third of their noise. Nothing is
measured on slabs: what is found on them is brought back to the scan's own slices (``methods.follow_slabs``).
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import TypeAlias
from weakref import WeakKeyDictionary

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from ichseg.arrays import Float
from ichseg.scan.geometry import Geometry
from ichseg.scan.scale import Hounsfield
from ichseg.scan.volume import CTVolume

#: How thick a slab is at most. The networks learned from slices of 5 mm.
SLAB_MM = 5.0
#: A stack of fewer slabs is gone through slice by slice.
LEAST_SLABS = 4
#: Over so much of the stack a mean has little of a thin slice's noise, and still the shape that it has there.
MEAN_MM = 2.5
#: A slice that lies less than this aside of its slab's middle is not moved.
_STRAIGHT_PX = 0.05


@dataclass(frozen=True)
class Slab:
    """The mean of some neighbouring slices."""

    slices: range
    """Which of the scan's slices it is the mean of, from 0. A slab of the same slices is the same one."""
    hu_yx: Hounsfield = field(compare=False, repr=False)
    """[y, x] in HU."""

    @property
    def middle(self) -> int:
        """The slice that stands for it."""
        return self.slices[len(self.slices) // 2]


#: Where an embedding is of: a slice's number from 0, or a slab.
SliceOrSlab: TypeAlias = int | Slab


@dataclass(frozen=True, eq=False)
class Slabs:
    """All slabs of a scan, from foot to head."""

    scan: CTVolume
    """Whose slices are the slabs; each lies in the middle of its slices."""
    each: tuple[Slab, ...]

    def number(self, k: int) -> int:
        """Which slab holds slice k.

        >>> import numpy as np
        >>> grid = Geometry.from_affine(np.diag([-0.5, -0.5, 1.0, 1.0]), 22)
        >>> found = slabs_of(CTVolume(np.zeros((22, 4, 4), dtype=np.int16), grid, name="thin"))
        >>> [slab.slices for slab in found.each]
        [range(0, 4), range(4, 9), range(9, 13), range(13, 18), range(18, 22)]
        >>> found.number(9)
        2
        """
        return next(n for n, slab in enumerate(self.each) if k in slab.slices)


#: Made once for each scan that is held somewhere.
_made: WeakKeyDictionary[CTVolume, dict[float, Slabs | None]] = WeakKeyDictionary()


def slabs_of(volume: CTVolume, slab_mm: float = SLAB_MM) -> Slabs | None:
    """The slabs of a thin series; None where its slices are to be taken as they are.

    That is where they are half of a slab or thicker (their median), or where there are fewer than LEAST_SLABS slabs.
    A slab is as many slices as fit into ``slab_mm``, and what is left over is shared among all of them. Under a tilted
    gantry slices are moved so that a slab is a mean at right angles to them, as a thick slice is.
    """
    known = _made.setdefault(volume, {})
    if slab_mm not in known:
        groups = _groups(volume.slice_heights_mm, slab_mm)
        known[slab_mm] = _slabs(volume, groups) if len(groups) >= LEAST_SLABS else None
    return known[slab_mm]


def slab_at(volume: CTVolume, k: int) -> SliceOrSlab:
    """Where slice k is looked at as the networks know slices: the slab that holds it, or k where there are no slabs."""
    slabs = slabs_of(volume)
    return k if slabs is None else slabs.each[slabs.number(k)]


def mean_about(volume: CTVolume, k: int) -> NDArray[np.float32]:
    """The mean HU of slice k and of those within ``MEAN_MM`` / 2 of it, [y, x], as they lie along its own pixels."""
    positions_mm = volume.geometry.slice_positions_mm
    near = np.flatnonzero(np.abs(positions_mm - positions_mm[k]) <= MEAN_MM / 2)
    return _mean(volume, range(int(near[0]), int(near[-1]) + 1), volume.geometry.origins_mm[k])


def hu_of(volume: CTVolume, where: SliceOrSlab) -> Hounsfield:
    """A slice's or a slab's HU, [y, x]."""
    return where.hu_yx if isinstance(where, Slab) else volume.hu_zyx[where]


def slices_of(where: SliceOrSlab) -> range:
    """The scan's slices that a slab is the mean of, or the one slice.

    >>> slices_of(7)
    range(7, 8)
    """
    return where.slices if isinstance(where, Slab) else range(where, where + 1)


def _groups(heights_mm: Float, slab_mm: float) -> list[range]:
    """Which slices make a slab, by the slices' heights; nothing where they are too few or too thick for slabs."""
    if len(heights_mm) < LEAST_SLABS or np.median(heights_mm) > 0.499 * slab_mm:
        return []
    height_mm = float(np.median(heights_mm))
    most = math.floor(slab_mm / height_mm + 1e-3)
    total_mm = float(heights_mm.sum())
    count = math.ceil(total_mm / (most * height_mm) - 1e-3)
    middles_mm = np.cumsum(heights_mm) - heights_mm / 2
    number = np.floor(middles_mm / total_mm * count)
    starts = np.flatnonzero(np.diff(number, prepend=-1.0))
    ends = [*starts[1:], len(heights_mm)]
    return [range(int(start), int(end)) for start, end in zip(starts, ends, strict=True)]


def _slabs(volume: CTVolume, groups: list[range]) -> Slabs:
    where, heights_mm = volume.geometry, volume.slice_heights_mm
    origins = np.stack(
        [np.average(where.origins_mm[group], axis=0, weights=heights_mm[group]) for group in groups]
    )
    hu = np.empty((len(groups), *volume.shape_zyx[1:]), dtype=volume.hu_zyx.dtype)
    for n, group in enumerate(groups):
        mean = _mean(volume, group, origins[n])
        hu[n] = np.rint(mean) if hu.dtype.kind == "i" else mean
    hu.flags.writeable = False
    scan = CTVolume(hu, Geometry(origins, where.y_step_mm, where.x_step_mm), name=volume.name)
    return Slabs(scan, tuple(Slab(group, hu[n]) for n, group in enumerate(groups)))


def _mean(volume: CTVolume, slices: range, origin_mm: Float) -> NDArray[np.float32]:
    """The mean of slices by their heights, [y, x], along the pixels of a slice of another origin."""
    where, heights_mm = volume.geometry, volume.slice_heights_mm[slices]
    out = np.zeros(volume.shape_zyx[1:], dtype=np.float32)
    for k, share in zip(slices, heights_mm / heights_mm.sum(), strict=True):
        shift_px = where.to_pixels(where.origins_mm[k] - origin_mm)
        hu = volume.hu_zyx[k].astype(np.float32)
        if np.abs(shift_px).max() > _STRAIGHT_PX:
            hu = ndimage.shift(hu, shift_px, order=1, mode="nearest")
        out += np.float32(share) * hu
    return out
