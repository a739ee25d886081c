"""The skull on one slice: bone, and what a closed ring of it encloses."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
from scipy import ndimage

from ichseg.arrays import EIGHT_CONNECTED
from ichseg.scan.limits import HIGHEST_BLOOD_HU

Mask = npt.NDArray[np.bool_]


def intracranial(slice_hu: npt.NDArray[np.floating]) -> Mask:
    """What a closed ring of bone encloses on a slice [y, x] in HU, bone left out; all False where no ring is closed.

    Found at about 160 pixels a side and then let out to the bone. Enclosed parts count from a sixth of
    the largest, if they are soft tissue (sinuses are air, orbits mostly fat). Slices whose largest part is
    under 8 % of the image, as of the skull base and the face, count as open.
    """
    step = max(1, round(max(slice_hu.shape) / 160))
    rows, columns = (size // step for size in slice_hu.shape)
    blocks = slice_hu[: rows * step, : columns * step].reshape(rows, step, columns, step)
    bone = np.pad((blocks >= HIGHEST_BLOOD_HU).mean(axis=(1, 3)) >= 0.25, 3)
    closed = ndimage.binary_closing(bone, EIGHT_CONNECTED, iterations=2)
    enclosed = ndimage.binary_fill_holes(closed) & ~closed
    labels, _ = ndimage.label(ndimage.binary_opening(enclosed, iterations=2)[3:-3, 3:-3])
    full = np.zeros(slice_hu.shape, dtype=bool)
    areas = np.bincount(labels.ravel())
    areas[0] = 0
    if areas.max() < 0.08 * labels.size:
        return full
    centre = slice_hu[step // 2 :: step, step // 2 :: step][:rows, :columns]
    parts = [
        i for i in np.flatnonzero(6 * areas >= areas.max()) if np.median(centre[labels == i]) > 10
    ]
    inside = ndimage.binary_dilation(np.isin(labels, parts), EIGHT_CONNECTED)
    full[: rows * step, : columns * step] = inside.repeat(step, axis=0).repeat(step, axis=1)
    inside_skull: Mask = full & (slice_hu < HIGHEST_BLOOD_HU)
    return inside_skull
