"""What the methods share that take no box: they find blood on the whole slice, and the box cuts it out."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from ichseg.marks.box import Box, as_boxes
from ichseg.methods.predictor import Predictor, SliceEmbedding, SliceMasks, as_slice


class WholeSlicePredictor(Predictor):
    """A method that takes no box: it runs once per slice, in ``embed``, and ``predict`` cuts its answer to each box.

    Blood that it finds outside of every box is not shown, which flatters it: tables say that it takes no box.
    """

    takes_box = False

    @abstractmethod
    def find(self, slice_hu: npt.NDArray[np.number]) -> npt.NDArray[np.bool_]:
        """All blood on a slice [y, x] in HU, wherever it is: a mask [y, x]."""

    def embed(self, slice_hu: npt.ArrayLike) -> SliceEmbedding:
        array = as_slice(slice_hu)
        return SliceEmbedding(array, self.find(array))

    def predict(
        self,
        embedding: SliceEmbedding,
        boxes: Sequence[Box] | npt.ArrayLike,
        *,
        second_look: bool | None = None,
    ) -> SliceMasks:
        del second_look  # there is nothing to look at again: the box is no part of the question
        boxes = as_boxes(boxes, embedding.shape_yx)
        assert embedding.features is not None
        found = embedding.features
        masks = np.zeros((len(boxes), *embedding.shape_yx), dtype=bool)
        for mask, box in zip(masks, boxes, strict=True):
            mask[box.slices()] = found[box.slices()]
        return SliceMasks(masks, np.full(len(boxes), np.nan, dtype=np.float32))
