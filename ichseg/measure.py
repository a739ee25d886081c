"""Millilitres, areas, HU statistics, overlap and growth. Plain numpy; units are in the names."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from ichseg.errors import VolumeError
from ichseg.volume import CTVolume

#: Labels of a mask that tells intraparenchymal from intraventricular blood.
IPH, IVH = 1, 2


def volume_ml(mask_zyx: npt.ArrayLike, volume: CTVolume) -> float:
    """The volume of a mask on a scan, in millilitres.

    ``mask_zyx`` is [z, y, x] of the scan's shape; every voxel that is not 0 counts. The volume is the
    sum over slices of the area times that slice's own perpendicular height, which is half the
    distance to each neighbour (an end slice counts its one neighbour twice). On an even grid
    that is the voxel count times the voxel's volume, as 3D Slicer's Segment Statistics has it; on
    a tilted or unevenly spaced series it is right too. Raises VolumeError where the shapes differ.

    Three slices at 0, 5 and 12 mm are 5, 6 and 7 mm high; ten pixels of 0.5 x 0.5 mm on each:

    >>> import numpy as np
    >>> from ichseg.volume import CTVolume, Geometry
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
    median: float
    maximum: float


def hu_statistics(mask_zyx: npt.ArrayLike, volume: CTVolume) -> HUStatistics | None:
    """HU statistics of the voxels of a mask [z, y, x], each voxel once; None for an empty mask."""
    values = volume.hu_zyx[_in_mask(mask_zyx, volume)].astype(np.float64)
    if values.size == 0:
        return None
    return HUStatistics(
        voxels=values.size,
        mean=float(values.mean()),
        sd=float(values.std()),
        minimum=float(values.min()),
        median=float(np.median(values)),
        maximum=float(values.max()),
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


@dataclass(frozen=True)
class Definition:
    """A published definition of hematoma expansion, in words, with where it comes from."""

    rule: str
    source: str


#: By name. Papers mix "more than" and "at least": ``expansion`` takes it as a setting.
DEFINITIONS = {
    "classic": Definition(
        "growth of 6 mL or of 33 %",
        "Yogendrakumar et al., Stroke 2020;51:1120-1127 (the standard definition there)",
    ),
    "absolute": Definition(
        "growth of 12.5 mL", "cited to Dowlatshahi et al., Neurology 2011 (not read at the source)"
    ),
    "revised": Definition(
        "classic, or any new intraventricular blood, or its growth by 1 mL",
        "Yogendrakumar et al., Stroke 2020;51:1120-1127",
    ),
}

#: The smallest change in mL that manual volumetry by two raters can tell from its own error, for blood
#: in the parenchyma alone. Rodriguez-Luna et al. 2016.
DETECTABLE_CHANGE_ML = 5.8


@dataclass(frozen=True)
class Expansion:
    """Growth from a baseline scan to a follow-up, and whether each definition calls it expansion.

    ``growth_percent`` is of the baseline; None where the baseline is empty, and the definitions
    then go by millilitres alone. ``revised`` is None where intraventricular blood was not told apart.
    """

    growth_ml: float
    growth_percent: float | None
    classic: bool
    absolute: bool
    revised: bool | None


def expansion(
    baseline_ml: float,
    followup_ml: float,
    *,
    ivh_ml: tuple[float, float] | None = None,
    inclusive: bool = True,
) -> Expansion:
    """Judge the growth between two scans by the DEFINITIONS.

    The two volumes are of the intraparenchymal blood where it is told apart, else of all; ``ivh_ml``
    is that of the intraventricular blood on the (baseline, follow-up) scan. ``inclusive`` takes a
    threshold as reached when it is met (>=), otherwise only when it is exceeded (>).

    >>> expansion(20.0, 26.0)
    Expansion(growth_ml=6.0, growth_percent=30.0, classic=True, absolute=False, revised=None)
    >>> expansion(20.0, 26.0, inclusive=False).classic
    False
    """

    def reaches(value: float, threshold: float) -> bool:
        value = round(value, 6)  # so that 26.1 - 20.1 is 6 mL
        return value >= threshold if inclusive else value > threshold

    growth_ml = followup_ml - baseline_ml
    percent = 100 * growth_ml / baseline_ml if baseline_ml > 0 else None
    classic = reaches(growth_ml, 6.0) or (percent is not None and reaches(percent, 33.0))
    revised = None
    if ivh_ml is not None:
        before, after = ivh_ml
        revised = classic or (before == 0 < after) or reaches(after - before, 1.0)
    return Expansion(growth_ml, percent, classic, reaches(growth_ml, 12.5), revised)


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
