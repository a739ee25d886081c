"""Real blood of one head laid into another, where it could have been."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy import ndimage

from ichseg.marks.box import Box, box_from_mask
from ichseg.scan.limits import HIGHEST_BLOOD_HU
from train.data.cache import REFERENCE_SIDE, Mask, Slice
from train.data.placement import turn

#: Distances to the skull, for implants, are measured on every fourth pixel.
_STEP = 4


def paste(
    donor_hu: Slice,
    component: Mask,
    inside_donor: Mask,
    hu: Slice,
    inside: Mask,
    rng: np.random.Generator,
) -> tuple[Slice, Mask] | None:
    """Lay a donor's component of blood into another head: (HU, mask of the blood), or None where it does not fit."""
    head_donor, head, extent = (box_from_mask(mask) for mask in (inside_donor, inside, component))
    if head_donor is None or head is None or extent is None:
        return None
    size_donor, size = (np.array([box.height, box.width]) for box in (head_donor, head))
    gap_donor, _ = _nearest(component[::_STEP, ::_STEP], inside_donor[::_STEP, ::_STEP])
    # What lies along the bone stays along it; what lies free may turn and move more.
    most_degrees, most_shift = (5, 0.02) if gap_donor <= 1.5 else (15, 0.04)
    mirror = np.array([1.0, rng.choice([-1.0, 1.0])])
    scale = size / size_donor * rng.uniform(0.8, 1.25)
    from_centre = (_centre(extent) - _centre(head_donor)) / size_donor * mirror
    centre = _centre(head) + (from_centre + rng.uniform(-most_shift, most_shift, size=2)) * size
    matrix, _ = turn((1, 1), rng.uniform(-most_degrees, most_degrees))
    patch = _Patch(
        np.diag(mirror / scale) @ matrix, _centre(extent), _reach(extent, scale), hu.shape
    )

    centre = centre + _way_to_bone(patch, centre, component, inside, gap_donor)
    window = patch.window(centre)
    if min(hu[window].shape) < 3:
        return None
    donor = patch.warp(donor_hu, centre)
    room = inside[window] & (hu[window] < HIGHEST_BLOOD_HU) & (donor < HIGHEST_BLOOD_HU)
    soft = patch.warp(component, centre) * room
    blood = np.zeros(hu.shape, dtype=bool)
    blood[window] = soft >= 0.5
    if blood.sum() < 0.5 * component.sum() * scale.prod():
        return None
    edge_px = 1.2 * max(hu.shape) / REFERENCE_SIDE
    weight = np.clip(ndimage.gaussian_filter(soft, edge_px), 0, 1) * room
    shift = _brain_median(hu, inside) - _brain_median(donor_hu, inside_donor)
    mixed = hu.copy()
    mixed[window] += weight * (donor + np.float32(shift) - hu[window])
    return mixed, blood


@dataclass(frozen=True)
class _Patch:
    """A part of one slice to be drawn on another, about a centre: ``matrix`` leads from (y, x) there to (y, x) here."""

    matrix: npt.NDArray[np.float64]
    centre_here: npt.NDArray[np.float64]
    reach_px: int
    shape_there: tuple[int, ...]

    def window(self, centre: npt.NDArray[np.float64]) -> tuple[slice, slice]:
        """The (rows, columns) there that the patch covers."""
        rows, columns = (
            slice(
                max(0, int(middle) - self.reach_px), min(size, max(0, int(middle) + self.reach_px))
            )
            for middle, size in zip(centre, self.shape_there, strict=True)
        )
        return rows, columns

    def warp(self, array: npt.NDArray[Any], centre: npt.NDArray[np.float64]) -> Slice:
        """An array from here in the window there, by linear interpolation; 0 beyond its edge."""
        rows, columns = self.window(centre)
        offset = self.centre_here + self.matrix @ (np.array([rows.start, columns.start]) - centre)
        warped: Slice = ndimage.affine_transform(
            array.astype(np.float32),
            self.matrix,
            offset,
            output_shape=(max(0, rows.stop - rows.start), max(0, columns.stop - columns.start)),
            order=1,
        )
        return warped


def _way_to_bone(
    patch: _Patch,
    centre: npt.NDArray[np.float64],
    component: Mask,
    inside: Mask,
    gap_donor: float,
) -> npt.NDArray[np.float64]:
    """How far to move a patch, (y, x) in pixels, so that its blood is as close to bone as it was in the donor.

    Blood that would lie in the bone is moved half of the way out (the rest is cut off, for skulls bend
    unlike each other), and blood with a wider gap to the bone than in the donor towards it. ``gap_donor`` is in steps
    of ``_STEP`` pixels, in which all of this is measured; one step either way is left as it is.
    """
    landed = np.zeros(inside.shape, dtype=bool)
    landed[patch.window(centre)] = patch.warp(component, centre) >= 0.5
    landed, inside = landed[::_STEP, ::_STEP], inside[::_STEP, ::_STEP]
    depth, inward = _farthest(landed, ~inside)
    if depth > 1:
        return _STEP * inward / 2
    gap, outward = _nearest(landed, inside)
    if gap > gap_donor + 1:
        return _STEP * outward * (1 - gap_donor / gap)
    return np.zeros(2)


def _farthest(blood: Mask, region: Mask) -> tuple[float, npt.NDArray[np.float64]]:
    """How deep blood lies in a region at most, in pixels, and the way (y, x) out of it from there."""
    return _way_out(blood & region, region, np.argmax, 0.0)


def _nearest(blood: Mask, region: Mask) -> tuple[float, npt.NDArray[np.float64]]:
    """How deep blood lies in a region at least, in pixels, and the way (y, x) out of it from there."""
    return _way_out(blood, region, np.argmin, np.inf)


def _way_out(
    blood: Mask, region: Mask, choose: Callable[..., Any], elsewhere: float
) -> tuple[float, npt.NDArray[np.float64]]:
    if not blood.any() or region.all():
        return 0.0, np.zeros(2)
    distance, nearest = ndimage.distance_transform_edt(region, return_indices=True)
    at = np.unravel_index(choose(np.where(blood, distance, elsewhere)), blood.shape)
    way = np.array([nearest[0][at] - at[0], nearest[1][at] - at[1]], dtype=np.float64)
    return float(distance[at]), way


def _centre(box: Box) -> npt.NDArray[np.float64]:
    return np.array([(box.y0 + box.y1) / 2, (box.x0 + box.x1) / 2])


def _reach(box: Box, scale: npt.NDArray[np.float64]) -> int:
    """Half the side of a square that holds a scaled box however it is turned, with room for a blended edge."""
    return int(np.hypot(box.height, box.width) / 2 * scale.max()) + 8


def _brain_median(slice_hu: Slice, inside: Mask) -> float:
    """The median HU inside the skull between water and blood, from every fourth row and column."""
    sample = slice_hu[::4, ::4][inside[::4, ::4]]
    sample = sample[(sample > 5) & (sample < 55)]
    return float(np.median(sample)) if sample.size else 35.0
