"""Thresholding in the box: what a reader would do with a region-growing tool, as a floor for the comparison."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
from scipy import ndimage

from ichseg.predictor import Predictor, SliceEmbedding, SliceMasks, as_slice
from ichseg.prompt import Box, as_boxes

#: Above grey matter (about 37 HU) and below clotted blood (50 to 75 HU).
THRESHOLD_HU = 45.0
MEDIAN_PX = 3


class ThresholdPredictor(Predictor):
    """Median filter, more than 45 HU, holes filled, within each box."""

    name = "threshold"
    title = "Threshold in the box"
    weights_sha256: dict[str, str] = {}  # noqa: RUF012 - shared and never written to

    def embed(self, slice_hu: npt.ArrayLike) -> SliceEmbedding:
        return SliceEmbedding(as_slice(slice_hu))

    def predict(
        self,
        embedding: SliceEmbedding,
        boxes: Sequence[Box] | npt.ArrayLike,
        *,
        second_look: bool | None = None,
    ) -> SliceMasks:
        del second_look  # the method works at native resolution already
        boxes = as_boxes(boxes, embedding.shape_yx)
        masks = np.zeros((len(boxes), *embedding.shape_yx), dtype=bool)
        for mask, box in zip(masks, boxes, strict=True):
            inside = box.slices()
            smooth = ndimage.median_filter(
                embedding.slice_hu[inside], size=MEDIAN_PX, mode="nearest"
            )
            mask[inside] = ndimage.binary_fill_holes(smooth > THRESHOLD_HU)
        return SliceMasks(masks, np.full(len(boxes), np.nan, dtype=np.float32))
