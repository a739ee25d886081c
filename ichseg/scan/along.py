"""A scan read off along the slices of another one, to look at both side by side. Nothing is measured on it."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from scipy import ndimage

from ichseg.scan.geometry import Geometry
from ichseg.scan.registration import Registration
from ichseg.scan.volume import CTVolume

_AIR_HU = -1000


def seen_along(
    scan: CTVolume, slices_of: CTVolume, onto: Registration, slices: Sequence[int]
) -> CTVolume:
    """A scan along slices of another one, on that one's grid.

    Args:
        scan: the scan that is drawn; linear between its voxels, air where it has none.
        slices_of: the scan whose slices it is drawn along.
        onto: from the mm of ``slices_of`` to those of ``scan``.
        slices: indices of ``slices_of``, from foot to head.

    """
    where = slices_of.geometry
    grid = Geometry(where.origins_mm[list(slices)], where.y_step_mm, where.x_step_mm)
    shape = slices_of.shape_zyx[1:]
    rows, columns = (a.ravel() for a in np.indices(shape))
    # Half a slice beyond the middle of the first and the last one is still theirs.
    ends = np.array(scan.shape_zyx)[:, None] - 0.5
    seen = []
    for k in slices:
        mm = onto.to_baseline(where.to_mm(np.full(rows.size, k), rows, columns))
        at = scan.geometry.to_index(mm).T
        inside = ((at >= -0.5) & (at <= ends)).all(axis=0)
        hu = ndimage.map_coordinates(scan.hu_zyx, at, order=1, mode="nearest", output=np.float32)
        seen.append(np.where(inside, hu, _AIR_HU).reshape(shape))
    whole = np.rint(np.stack(seen)).astype(np.int16)
    return CTVolume(whole, grid, name=scan.name, label=scan.label)
