"""How well two masks agree: overlap, surface and volume, of a method with the reference mask or of two methods.

The overlap and surface scores take boolean arrays of one shape, of any number of axes. Both masks empty: they are
NaN, as there was nothing to find and nothing was found. One mask empty: they are 0.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from ichseg.errors import InputError, VolumeError
from ichseg.measures.volume import volume_ml
from ichseg.scan.volume import CTVolume

BoolArray = npt.NDArray[np.bool_]

#: How far apart two boundaries may be and still match: the tolerance of the CVPR 2024 laptop challenge.
TOLERANCE_MM = 2.0


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


@dataclass(frozen=True)
class Agreement:
    """A mask held against a reference, on some slices of a scan or on all of it."""

    volume_ml: float
    reference_ml: float
    dice: float
    """2 |A and B| / (|A| + |B|) over voxels; NaN where both are empty."""
    jaccard: float
    """|A and B| / |A or B|; NaN where both are empty."""
    surface_dice: float
    """Share of both boundaries within the tolerance of the other; NaN where both are empty."""

    @property
    def difference_ml(self) -> float:
        """Millilitres more than the reference has; negative where it is less."""
        return self.volume_ml - self.reference_ml

    @property
    def difference_percent(self) -> float:
        """The difference in percent of the reference; NaN where that is empty."""
        return 100 * self.difference_ml / self.reference_ml if self.reference_ml else math.nan


def compare(
    mask_zyx: npt.ArrayLike,
    reference_zyx: npt.ArrayLike,
    volume: CTVolume,
    slices: Sequence[int] | None = None,
    *,
    tolerance_mm: float = TOLERANCE_MM,
) -> Agreement:
    """Hold a mask against a reference on one scan.

    Args:
        mask_zyx: [z, y, x] of the scan's shape; not 0 is in.
        reference_zyx: likewise: the reference mask, or another method's mask.
        volume: the scan, for millilitres (each slice by its own height) and spacing.
        slices: only these slices, from 0. Their boundaries are those in the plane, counted together, since
            the neighbours that a boundary in depth would need are left out. None is the whole scan, whose boundaries
            are in all three directions, at the median height of a slice where heights differ.
        tolerance_mm: of the surface Dice.

    Raises:
        InputError: masks that are not of the scan's shape, or a slice that is not on the scan.

    """
    mask, reference = paired(mask_zyx, reference_zyx)
    if slices is None:
        surface = surface_dice(
            mask, reference, spacing_mm=volume.spacing_mm, tolerance_mm=tolerance_mm
        )
    else:
        wrong = [k for k in slices if not 0 <= k < len(mask)]
        if wrong:
            raise InputError(
                f"The scan has slices 0 to {len(mask) - 1}; got {wrong[0]}; choose among them."
            )
        chosen = np.zeros((len(mask), 1, 1), dtype=bool)
        chosen[list(slices)] = True
        mask, reference = mask & chosen, reference & chosen
        found = [
            _matched(mask[k], reference[k], volume.spacing_mm[1:], tolerance_mm)
            for k in sorted(set(slices))
        ]
        surface = _ratio(sum(part for part, _ in found), sum(whole for _, whole in found))
    return Agreement(
        volume_ml=volume_ml(mask, volume),
        reference_ml=volume_ml(reference, volume),
        dice=dice(mask, reference),
        jaccard=jaccard(mask, reference),
        surface_dice=surface,
    )


def jaccard(prediction: npt.ArrayLike, reference: npt.ArrayLike) -> float:
    """|A and B| / |A or B|, also called IoU; NaN when both are empty.

    >>> jaccard([1, 1, 0, 0], [1, 1, 1, 1])
    0.5
    """
    a, b = paired(prediction, reference)
    return _ratio(np.count_nonzero(a & b), np.count_nonzero(a | b))


def surface_dice(
    prediction: npt.ArrayLike,
    reference: npt.ArrayLike,
    *,
    spacing_mm: Sequence[float],
    tolerance_mm: float = TOLERANCE_MM,
) -> float:
    """Normalised surface Dice: the share of both boundaries that lies within a tolerance of the other.

    ``spacing_mm`` has one value an axis, in the arrays' order ((dy, dx) or (height, dy, dx)). A boundary is
    the mask's voxels with a face neighbour outside it, or outside the array; distances run between voxel
    centres. Boundary voxels count alike whatever their spacing, as in MONAI's ``SurfaceDiceMetric``
    without ``use_subvoxels``. NaN when both masks are empty, 0 when one is.
    """
    a, b = paired(prediction, reference)
    return _ratio(*_matched(a, b, spacing_mm, tolerance_mm))


def paired(prediction: npt.ArrayLike, reference: npt.ArrayLike) -> tuple[BoolArray, BoolArray]:
    """Two masks as boolean arrays of one shape, or InputError."""
    a, b = np.asarray(prediction), np.asarray(reference)
    if a.shape != b.shape:
        raise InputError(
            f"Two masks are compared on one grid; got shapes {a.shape} and {b.shape}; resample neither, but "
            "compare at the scan's own size."
        )
    return a.astype(bool), b.astype(bool)


def _matched(
    a: BoolArray, b: BoolArray, spacing_mm: Sequence[float], tolerance_mm: float
) -> tuple[int, int]:
    """Of the boundary voxels of both masks: how many lie within the tolerance of the other, and how many there are."""
    from scipy import ndimage

    if len(spacing_mm) != a.ndim or min(spacing_mm, default=0) <= 0:
        raise InputError(
            f"A surface needs one positive spacing in mm for each of the {a.ndim} axes; got "
            f"{tuple(spacing_mm)}; leave the surface score out where the spacing is unknown."
        )
    if tolerance_mm < 0:
        raise InputError(f"A tolerance is 0 mm or more; got {tolerance_mm}; give e.g. 2.")
    either = a | b
    if not either.any():
        return 0, 0
    # What lies outside both masks' common bounding box has no boundary: the distances are the same within it.
    a, b = (mask[ndimage.find_objects(either.view(np.uint8), 1)[0]] for mask in (a, b))
    edge_a, edge_b = (mask & ~ndimage.binary_erosion(mask) for mask in (a, b))
    whole = int(np.count_nonzero(edge_a)) + int(np.count_nonzero(edge_b))
    if not a.any() or not b.any():
        return 0, whole
    near_b = ndimage.distance_transform_edt(~edge_b, sampling=spacing_mm) <= tolerance_mm
    near_a = ndimage.distance_transform_edt(~edge_a, sampling=spacing_mm) <= tolerance_mm
    return int(np.count_nonzero(edge_a & near_b)) + int(np.count_nonzero(edge_b & near_a)), whole


def _ratio(part: float | np.integer, whole: float | np.integer) -> float:
    return float(part) / float(whole) if whole else math.nan
