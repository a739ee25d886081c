"""Thresholding in the box: what a reader would do with a region-growing tool, as a floor for the comparison."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
from scipy import ndimage

from ichseg.methods.in_box import InBoxPredictor
from ichseg.methods.method import Method

#: Above grey matter (about 37 HU) and below clotted blood (50 to 75 HU).
THRESHOLD_HU = 45.0
MEDIAN_PX = 3


class ThresholdPredictor(InBoxPredictor):
    """Median filter, more than 45 HU, holes filled, within each box."""

    name = "threshold"
    title = "Threshold in the box"

    def find(self, inside_hu: npt.NDArray[np.number]) -> npt.NDArray[np.bool_]:
        smooth = ndimage.median_filter(inside_hu, size=MEDIAN_PX, mode="nearest")
        filled: npt.NDArray[np.bool_] = ndimage.binary_fill_holes(smooth > THRESHOLD_HU)
        return filled


def load(method: Method, device: str, backend: str) -> ThresholdPredictor:
    """The loader of its row: there is nothing to read."""
    del method, device, backend
    return ThresholdPredictor()
