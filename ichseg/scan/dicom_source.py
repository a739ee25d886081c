"""Where a scan's slices stand in their DICOM series, for what refers to them; identifiers of images only."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray


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
