"""The grid of a NIfTI file, and how a [z, y, x] array is laid on it."""

# mypy: disallow-untyped-calls=False
# nibabel ships types for only some of its functions.
from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import nibabel as nib
import numpy as np
from numpy.typing import NDArray

from ichseg.arrays import Float
from ichseg.scan.geometry import Geometry, grid_geometry


@dataclass(frozen=True, eq=False)
class NiftiGrid:
    """The grid of a NIfTI file, and how a [z, y, x] array is laid on it.

    Attributes:
        header: the file's shape, affines, codes and units; nothing about the patient.
        axes: the file's axis that is z, y and x on screen.
        flips: whether that axis runs the other way.

    """

    header: nib.nifti1.Nifti1Header
    axes: tuple[int, int, int]
    flips: tuple[bool, bool, bool]

    @property
    def shape_zyx(self) -> tuple[int, int, int]:
        """The file's shape in the display frame."""
        z, y, x = (int(self.header.get_data_shape()[axis]) for axis in self.axes)
        return z, y, x

    def to_display(self, array: NDArray[Any]) -> NDArray[Any]:
        """A [z, y, x] view of the file's array."""
        spatial = array.reshape(array.shape[:3])
        return np.flip(spatial.transpose(self.axes), _where(self.flips))

    def to_file(self, array_zyx: NDArray[Any]) -> NDArray[Any]:
        """A view of a [z, y, x] array in the file's axes and shape."""
        unflipped = np.flip(array_zyx, _where(self.flips))
        return unflipped.transpose(np.argsort(self.axes)).reshape(self.header.get_data_shape())


def _where(flips: tuple[bool, ...]) -> tuple[int, ...]:
    return tuple(axis for axis, flip in enumerate(flips) if flip)


def nifti_geometry(affine: Float, grid: NiftiGrid) -> Geometry:
    """The geometry of the [z, y, x] view of a file with this affine."""
    return grid_geometry(affine, grid.header.get_data_shape()[:3], grid.axes, grid.flips)
