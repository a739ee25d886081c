"""A plain method, and scans of brain with blood: it takes the blood in the box, as far as its HU say so."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
import phantoms

from ichseg.marks.box import Box, as_boxes, boxes_from_mask
from ichseg.methods.predictor import Predictor, SliceEmbedding, SliceMasks
from ichseg.scan.volume import CTVolume

BoolArray = npt.NDArray[np.bool_]
BRAIN, BLOOD = phantoms.BRAIN_HU, phantoms.BLOOD_HU


class BloodInBox(Predictor):
    """Everything from so many HU up in the box; its estimate is the share of that from 55 HU up."""

    name = title = "blood in the box"
    weights_sha256: dict[str, str] = {}  # noqa: RUF012

    def __init__(self, least_hu: float = 44) -> None:
        self.least_hu = least_hu
        self.batches: list[int] = []
        self.asked = 0

    def embed(self, slice_hu: npt.ArrayLike) -> SliceEmbedding:
        return SliceEmbedding(np.asarray(slice_hu))

    def embed_many(self, slices_hu: Sequence[npt.ArrayLike]) -> list[SliceEmbedding]:
        self.batches.append(len(slices_hu))
        return super().embed_many(slices_hu)

    def predict(
        self,
        embedding: SliceEmbedding,
        boxes: Sequence[Box] | npt.ArrayLike,
        *,
        second_look: bool | None = None,
    ) -> SliceMasks:
        self.asked += 1
        masks, iou = [], []
        for box in as_boxes(boxes, embedding.shape_yx):
            mask = np.zeros(embedding.shape_yx, bool)
            mask[box.slices()] = embedding.slice_hu[box.slices()] >= self.least_hu
            masks.append(mask)
            iou.append(float((embedding.slice_hu[mask] >= 55).mean()) if mask.any() else 0.0)
        return SliceMasks(np.array(masks), np.array(iou, np.float32))


def scan_of(
    blood: BoolArray,
    positions_mm: Sequence[float] | None = None,
    *,
    hu: npt.ArrayLike = BLOOD,
    tilt_degrees: float = 0.0,
    spacing_yx_mm: tuple[float, float] = (0.5, 0.5),
) -> CTVolume:
    """Brain with blood where the mask [z, y, x] is; ``hu`` may be one value a slice."""
    positions = np.arange(len(blood)) * 5.0 if positions_mm is None else positions_mm
    where = phantoms.geometry(list(positions), spacing_yx_mm, tilt_degrees)
    values = np.broadcast_to(np.reshape(hu, (-1, 1, 1)), blood.shape)
    return CTVolume(np.where(blood, values, BRAIN).astype(np.int16), where, name="phantom")


def boxed(mask_yx: BoolArray, margin_px: float = 2) -> list[Box]:
    """A box around each connected component of a mask."""
    return boxes_from_mask(mask_yx, margin_px)
