"""Small scans with known answers, for the tests of what is done with a scan once it is open."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import nibabel as nib
import numpy as np
import numpy.typing as npt

from ichseg.volume import CTVolume, Geometry

BRAIN_HU, BLOOD_HU = 35, 65


def geometry(
    positions_mm: Sequence[float],
    spacing_yx_mm: tuple[float, float] = (0.5, 0.5),
    tilt_degrees: float = 0.0,
) -> Geometry:
    """Slices whose centres are at these table positions, the gantry tilted about the ear-to-ear axis."""
    dy, dx = spacing_yx_mm
    tilt = np.radians(tilt_degrees)
    positions = np.asarray(positions_mm, dtype=float)
    origins_mm = np.stack([0 * positions, 0 * positions, positions], axis=1)
    y_step_mm = dy * np.array([0.0, -np.cos(tilt), -np.sin(tilt)])
    return Geometry(origins_mm, y_step_mm, np.array([-dx, 0.0, 0.0]))


def scan(
    positions_mm: Sequence[float] = (0, 5, 10, 15),
    shape_yx: tuple[int, int] = (12, 16),
    spacing_yx_mm: tuple[float, float] = (0.5, 0.5),
    tilt_degrees: float = 0.0,
    hu: float = BRAIN_HU,
    notes: tuple[str, ...] = (),
) -> CTVolume:
    """A scan of one value on such slices."""
    hu_zyx = np.full((len(positions_mm), *shape_yx), hu, dtype=np.int16)
    where = geometry(positions_mm, spacing_yx_mm, tilt_degrees)
    return CTVolume(hu_zyx, where, name="phantom", notes=notes)


def ellipsoid(
    shape_zyx: tuple[int, int, int],
    spacing_mm: tuple[float, float, float],
    centre_mm: tuple[float, float, float],
    radii_mm: tuple[float, float, float],
) -> npt.NDArray[np.bool_]:
    """The voxels [z, y, x] whose centres lie in an ellipsoid; millimetres from voxel (0, 0, 0)."""
    axes = (
        (np.arange(size) * step - centre) / radius
        for size, step, centre, radius in zip(
            shape_zyx, spacing_mm, centre_mm, radii_mm, strict=True
        )
    )
    z, y, x = np.meshgrid(*axes, indexing="ij")
    return z**2 + y**2 + x**2 <= 1


HEAD_SHAPE_ZYX, HEAD_SPACING_MM = (8, 64, 64), (5.0, 3.0, 3.0)


def head_hu(
    blood_radii_mm: tuple[float, float, float] = (9.0, 18.0, 15.0),
) -> tuple[npt.NDArray[np.int16], npt.NDArray[np.bool_]]:
    """A head of brain in air with an ellipsoid of blood, and where the blood is, both [z, y, x]."""
    hu_zyx = np.full(HEAD_SHAPE_ZYX, -1000, dtype=np.int16)
    shape, spacing = HEAD_SHAPE_ZYX, HEAD_SPACING_MM
    hu_zyx[ellipsoid(shape, spacing, (17, 96, 96), (60, 90, 75))] = BRAIN_HU
    blood = ellipsoid(shape, spacing, (17, 80, 120), blood_radii_mm)
    hu_zyx[blood] = BLOOD_HU
    return hu_zyx, blood


def save_nifti(path: Path, array_zyx: npt.NDArray[np.generic], description: str = "") -> Path:
    """Write a [z, y, x] array of the display frame as NIfTI in LPS order, as most CT converters do."""
    dz, dy, dx = HEAD_SPACING_MM
    image = nib.Nifti1Image(array_zyx.transpose(2, 1, 0), np.diag([-dx, -dy, dz, 1.0]))
    image.header["descrip"] = description.encode()
    nib.save(image, path)
    return path
