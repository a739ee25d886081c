"""Masks that were made before: one reader for the command line, the page, cohorts and the library.

A mask is read onto the scan that it belongs to, with what the file says of its labels. What comes of it never has
another grid than the scan's: nothing is resampled.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from ichseg.export import read_lesions
from ichseg.segmentation import Lesion
from ichseg.volume import CTVolume, ScanPath, read_mask


@dataclass(frozen=True, eq=False)
class LabelledMask:
    """A mask on a scan's grid, and what its file says of it.

    Attributes:
        labels_zyx: uint8 [z, y, x] of the scan's shape; 0 is background.
        lesions: what the labels stand for, as the file itself or the sidecar beside it says; empty where neither does.
        scan_sha256: ``content_sha256`` of the HU of the scan that it was made on, where the file says so.
        notes: sentences to say to the user.

    """

    labels_zyx: npt.NDArray[np.uint8]
    lesions: tuple[Lesion, ...] = ()
    scan_sha256: str | None = None
    notes: tuple[str, ...] = ()


def read_labelled_mask(path: ScanPath, volume: CTVolume) -> LabelledMask:
    """Read a mask that was drawn on ``volume``, with what its labels stand for.

    Raises:
        VolumeError: no mask, a mask of another scan or another grid, or labels other than whole numbers 0..255.
        InputError: the sidecar beside it cannot be read.

    """
    path = Path(path)
    return LabelledMask(read_mask(path, volume), tuple(read_lesions(path)))
