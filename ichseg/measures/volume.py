"""The volume of a mask in millilitres, and each slice's share of it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from ichseg.errors import VolumeError
from ichseg.marks.lesion import Lesion
from ichseg.scan.volume import CTVolume


def volume_ml(mask_zyx: npt.ArrayLike, volume: CTVolume) -> float:
    """The volume of a mask on a scan, in millilitres.

    ``mask_zyx`` is [z, y, x] of the scan's shape; every voxel that is not 0 counts. The volume is the
    sum over slices of the area times that slice's own perpendicular height, which is half the
    distance to each neighbour (an end slice counts its one neighbour twice). On an even grid
    that is the voxel count times the voxel's volume, as 3D Slicer's Segment Statistics has it; on
    a tilted or unevenly spaced series it is right too. Raises VolumeError where the shapes differ.

    Three slices at 0, 5 and 12 mm are 5, 6 and 7 mm high; ten pixels of 0.5 x 0.5 mm on each:

    >>> import numpy as np
    >>> from ichseg.scan.volume import CTVolume
    >>> from ichseg.scan.geometry import Geometry
    >>> origins_mm = np.array([[0, 0, 0], [0, 0, 5], [0, 0, 12]], dtype=float)
    >>> geometry = Geometry(origins_mm, np.array([0, -0.5, 0]), np.array([-0.5, 0, 0]))
    >>> scan = CTVolume(np.zeros((3, 8, 8), dtype=np.int16), geometry, name="phantom")
    >>> mask_zyx = np.zeros((3, 8, 8), dtype=bool)
    >>> mask_zyx[:, 2:4, 1:6] = True
    >>> round(volume_ml(mask_zyx, scan), 6)
    0.045
    """
    return float(voxels_per_slice(mask_zyx, volume) @ volume.voxel_volumes_ml)


def slice_ml(mask_yx: npt.ArrayLike, volume: CTVolume, k: int) -> float:
    """The volume of one slice's mask [y, x] on slice k, in millilitres; those of all slices add up to volume_ml."""
    return float(np.count_nonzero(mask_yx) * volume.voxel_volumes_ml[k])


def blood_ml(ml_by_lesion: Mapping[int, float], lesions: Iterable[Lesion]) -> float:
    """The millilitres of those lesions that are blood, by their numbers; a lesion that is not there has none.

    >>> blood_ml({1: 2.0, 2: 0.5}, [Lesion(1, type="IPH"), Lesion(2, type="oedema"), Lesion(3)])
    2.0
    """
    return sum(ml_by_lesion.get(lesion.id, 0.0) for lesion in lesions if lesion.is_blood)


@dataclass(frozen=True)
class SliceRow:
    """One slice's share: its index from 0, area in mm2, own height in mm, and volume in mL."""

    slice_index: int
    area_mm2: float
    height_mm: float
    volume_ml: float


def slice_table(mask_zyx: npt.ArrayLike, volume: CTVolume) -> list[SliceRow]:
    """The slices that hold some of a mask [z, y, x], from foot to head; the volumes add up to volume_ml."""
    counts = voxels_per_slice(mask_zyx, volume)
    heights_mm, voxels_ml = volume.slice_heights_mm, volume.voxel_volumes_ml
    rows = []
    for k in map(int, np.flatnonzero(counts)):
        height_mm, ml = float(heights_mm[k]), float(counts[k] * voxels_ml[k])
        rows.append(SliceRow(k, ml * 1000 / height_mm, height_mm, ml))
    return rows


def in_mask(mask_zyx: npt.ArrayLike, volume: CTVolume) -> npt.NDArray[np.bool_]:
    """A mask [z, y, x] as bool, not 0 is in. Raises VolumeError for another shape than the scan's."""
    mask: npt.NDArray[np.bool_] = np.asarray(mask_zyx) != 0
    if mask.shape != volume.shape_zyx:
        raise VolumeError(
            f"A mask has its scan's shape {volume.shape_zyx}; got {mask.shape}; "
            "take the mask that was made on this scan."
        )
    return mask


def voxels_per_slice(mask_zyx: npt.ArrayLike, volume: CTVolume) -> npt.NDArray[np.int64]:
    """How many voxels of a mask [z, y, x] lie on each slice, int64 [z]."""
    return np.asarray(np.count_nonzero(in_mask(mask_zyx, volume), axis=(1, 2)), dtype=np.int64)
