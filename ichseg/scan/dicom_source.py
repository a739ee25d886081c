"""Where a scan's slices stand in their DICOM series, and how stored slices lie in the patient.

DICOM's LPS patient coordinates become RAS+ here. Identifiers are those of images only, nothing about the patient.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ichseg.arrays import Float
from ichseg.scan.geometry import Geometry, display_axes

LPS_TO_RAS = np.array([-1.0, -1.0, 1.0])


def direction_columns(orientation: Sequence[float]) -> Float:
    """RAS+ unit vectors as columns: the normal towards the head, down a column, along a row."""
    row, column = np.array(orientation[:3]), np.array(orientation[3:])
    normal = np.cross(row, column)
    columns: Float = np.stack([normal * math.copysign(1.0, normal[2]), column, row], axis=1)
    columns *= LPS_TO_RAS[:, None] / np.linalg.norm(columns, axis=0)
    return columns


def stored_grid(
    positions_mm: Sequence[Sequence[float]],
    orientation: Sequence[float],
    spacing_mm: Sequence[float],
    shape: tuple[int, int],
) -> tuple[tuple[int, int, int], tuple[bool, bool, bool], Geometry]:
    """How to turn stored axial slices to the display frame (``display_axes``), and the geometry of the result.

    Args:
        positions_mm: Image Position (Patient) of each slice, LPS mm.
        orientation: Image Orientation (Patient), six numbers.
        spacing_mm: Pixel Spacing, between rows and between columns.
        shape: stored rows and columns.

    """
    directions = direction_columns(orientation)
    axes, flips = display_axes(directions)
    steps = [directions[:, 1] * spacing_mm[0], directions[:, 2] * spacing_mm[1]]
    origins = np.array(positions_mm, dtype=np.float64) * LPS_TO_RAS
    turned = []
    for axis, flip in zip(axes[1:], flips[1:], strict=True):
        step = steps[axis - 1]
        if flip:
            origins = origins + step * (shape[axis - 1] - 1)
        turned.append(-step if flip else step)
    return axes, flips, Geometry(origins, turned[0], turned[1])


@dataclass(frozen=True)
class SourceSlice:
    """One slice of a scan as its DICOM image: which image, its frame (from 0) of how many, and its place (LPS, mm).

    Where the image does not say how thick it is, that is the slice's own height.
    """

    sop_class_uid: str
    sop_instance_uid: str
    frame: int
    frames: int
    position_lps_mm: tuple[float, ...]
    thickness_mm: float


@dataclass(frozen=True)
class DicomSource:
    """What a DICOM-SEG needs of the series that a scan was read from: UIDs, and the stored grid.

    ``axes`` and ``flips`` say how stored slices are turned to the display frame (``display_axes``). A UID that the
    files lack is an empty string.
    """

    study_uid: str
    series_uid: str
    frame_of_reference_uid: str
    slices: tuple[SourceSlice, ...]
    shape: tuple[int, int]
    orientation: tuple[float, ...]
    spacing_mm: tuple[float, ...]
    axes: tuple[int, int, int]
    flips: tuple[bool, bool, bool]

    @property
    def is_multi_frame(self) -> bool:
        """Whether the slices are frames of one file."""
        return self.slices[0].frames > 1

    def to_stored(self, labels_zyx: NDArray[Any]) -> NDArray[Any]:
        """A [z, y, x] array of the display frame, turned back to stored rows and columns."""
        flipped = tuple(axis for axis, flip in enumerate(self.flips) if flip and axis)
        order = (0, *self.axes[1:])  # a swap of rows and columns is its own inverse
        return np.flip(labels_zyx, flipped).transpose(order)
