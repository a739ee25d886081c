"""The way that everything here is measured against: LiteMedSAM as its authors' inference script runs it.

Eager torch in float32, the checkpoint's own layers, one slice and one box at a time, logits interpolated to the whole
native slice (github.com/bowang-lab/MedSAM, branch LiteMedSAM, CVPR24_LiteMedSAM_infer.py). Windowing and resizing are
ours, so that both see the same image.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
import torch.nn.functional as F

from ichseg import models
from ichseg.predictor import Predictor, SliceEmbedding, SliceMasks, as_slice, crop_region
from ichseg.preprocess import PAPER, SliceFrame
from ichseg.prompt import Box, as_boxes


class Reference(Predictor):
    """A catalogue model of LiteMedSAM, the plain way; ``keeps`` an embedding, or encodes the slice for each box."""

    weights_sha256: dict[str, str] = {}  # noqa: RUF012 - shared and never written to

    def __init__(self, name: str, *, keeps: bool) -> None:
        self.name, self.title, self.keeps = name, f"{name}, the plain way", keeps
        self._network, _ = models.load_litemedsam()
        if name != "litemedsam":
            models.merge_adapter(self._network, models.WEIGHTS_DIR / name)

    def embed(self, slice_hu: npt.ArrayLike) -> SliceEmbedding:
        array = as_slice(slice_hu)
        rows, columns = array.shape
        return SliceEmbedding(
            array, self._encode(array, SliceFrame((rows, columns))) if self.keeps else None
        )

    def predict(
        self,
        embedding: SliceEmbedding,
        boxes: Sequence[Box] | npt.ArrayLike,
        *,
        second_look: bool | None = None,
    ) -> SliceMasks:
        masks, iou = [], []
        for box in as_boxes(boxes, embedding.shape_yx):
            region = crop_region(box, embedding.shape_yx) if second_look else None
            frame = SliceFrame(embedding.shape_yx, region)  # type: ignore[arg-type]
            features = embedding.features if self.keeps and not second_look else None
            if features is None:
                features = self._encode(embedding.slice_hu, frame)
            mask, sure = self._decode(features, frame, box)
            masks.append(mask)
            iou.append(sure)
        return SliceMasks(np.stack(masks), np.array(iou, dtype=np.float32))

    @torch.inference_mode()
    def _encode(self, slice_hu: npt.NDArray[np.number], frame: SliceFrame) -> npt.NDArray[Any]:
        image = torch.from_numpy(frame.image(slice_hu, PAPER))
        return self._network.image_encoder(image[None, None].repeat(1, 3, 1, 1)).numpy()

    @torch.inference_mode()
    def _decode(
        self, features: npt.NDArray[Any], frame: SliceFrame, box: Box
    ) -> tuple[npt.NDArray[np.bool_], float]:
        logits, iou = self._network.decode(
            torch.from_numpy(features), torch.from_numpy(frame.box(box))[None]
        )
        rows, columns = frame.content_yx
        size = (int(frame.region.height), int(frame.region.width))
        native = F.interpolate(
            logits[..., :rows, :columns], size, mode="bilinear", align_corners=False
        )
        inside = (torch.sigmoid(native)[0, 0] > 0.5).numpy()
        mask = np.zeros(frame.shape_yx, dtype=bool)
        seen = frame.region.clip(frame.shape_yx)
        y, x = int(seen.y0 - frame.region.y0), int(seen.x0 - frame.region.x0)
        mask[seen.slices()] = inside[y : y + int(seen.height), x : x + int(seen.width)]
        return mask, float(iou[0, 0])
