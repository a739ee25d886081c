"""What the methods share that look at the inside of a box alone, at native resolution."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from ichseg.errors import check_cancelled
from ichseg.marks.box import Box, as_boxes
from ichseg.methods.predictor import Predictor, SliceEmbedding, SliceMasks, as_slice


class InBoxPredictor(Predictor):
    """A method without weights that answers each box from the pixels inside it."""

    weights_sha256: dict[str, str] = {}  # noqa: RUF012 - shared and never written to

    @abstractmethod
    def find(self, inside_hu: npt.NDArray[np.number]) -> npt.NDArray[np.bool_]:
        """The blood in one box: HU [y, x] of its inside, and a mask [y, x] of the same size."""

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
            check_cancelled()
            mask[box.slices()] = self.find(embedding.slice_hu[box.slices()])
        return SliceMasks(masks, np.full(len(boxes), np.nan, dtype=np.float32))
