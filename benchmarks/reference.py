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

from ichseg.marks.box import Box, as_boxes
from ichseg.methods import adapter, bases
from ichseg.methods import weights as weight_files
from ichseg.methods.frame import PAPER, SliceFrame
from ichseg.methods.predictor import Predictor, SliceEmbedding, SliceMasks, as_slice, crop_region


class Reference(Predictor):
    """A catalogue model of LiteMedSAM, the plain way; ``keeps`` an embedding, or encodes the slice for each box."""

    weights_sha256: dict[str, str] = {}  # noqa: RUF012 - shared and never written to

    def __init__(self, name: str, *, keeps: bool) -> None:
        self.name, self.title, self.keeps = name, f"{name}, the plain way", keeps
        self._network, _ = bases.load_litemedsam()
        if name != "litemedsam":
            adapter.merge_adapter(self._network, weight_files.WEIGHTS_DIR / name)

    def embed(self, slice_hu: npt.ArrayLike) -> SliceEmbedding:
        array = as_slice(slice_hu)
        rows, columns = array.shape
        image = SliceFrame((rows, columns)).image(array, PAPER)
        return SliceEmbedding(array, self._encode(image) if self.keeps else None)

    def predict(
        self,
        embedding: SliceEmbedding,
        boxes: Sequence[Box] | npt.ArrayLike,
        *,
        second_look: bool | None = None,
    ) -> SliceMasks:
        slice_hu, whole = embedding.slice_hu, SliceFrame(embedding.shape_yx)
        masks, iou = [], []
        for box in as_boxes(boxes, embedding.shape_yx):
            features = embedding.features
            if features is None:
                features = self._encode(whole.image(slice_hu, PAPER))
            answers = [self._decode(features, whole, whole.box(box))]
            if second_look:
                answers += self._look_closer(slice_hu, box)
            masks.append(sum(logits for logits, _ in answers) > 0)
            iou.append(np.mean([sure for _, sure in answers]))
        return SliceMasks(np.stack(masks), np.array(iou, dtype=np.float32))

    def _look_closer(
        self, slice_hu: npt.NDArray[np.number], box: Box
    ) -> list[tuple[npt.NDArray[np.float32], float]]:
        """The answers from a crop around the box, and from its mirror image turned back."""
        rows, columns = slice_hu.shape
        frame = SliceFrame((rows, columns), crop_region(box, (rows, columns)))
        image, prompt = frame.image(slice_hu, PAPER), frame.box(box)
        mirrored = np.array([frame.size - 1, 0, frame.size - 1, 0]) + prompt[[2, 1, 0, 3]] * [
            -1,
            1,
            -1,
            1,
        ]
        return [
            self._decode(self._encode(image), frame, prompt),
            self._decode(
                self._encode(image[:, ::-1].copy()), frame, mirrored.astype(np.float32), flip=True
            ),
        ]

    @torch.inference_mode()
    def _encode(self, image: npt.NDArray[np.float32]) -> npt.NDArray[Any]:
        """An image [256, 256] in [0, 1] to its embedding."""
        colour = torch.from_numpy(image)[None, None].repeat(1, 3, 1, 1)
        return self._network.image_encoder(colour).numpy()

    @torch.inference_mode()
    def _decode(
        self,
        features: npt.NDArray[Any],
        frame: SliceFrame,
        prompt_xyxy: npt.NDArray[np.float32],
        *,
        flip: bool = False,
    ) -> tuple[npt.NDArray[np.float32], float]:
        """Logits on the whole slice [y, x], -inf beyond the frame, and the IoU that the model expects."""
        logits, iou = self._network.decode(
            torch.from_numpy(features), torch.from_numpy(prompt_xyxy)[None]
        )
        rows, columns = frame.content_yx
        size = (int(frame.region.height), int(frame.region.width))
        logits = logits.flip(-1) if flip else logits
        native = F.interpolate(
            logits[..., :rows, :columns], size, mode="bilinear", align_corners=False
        )[0, 0].numpy()
        out = np.full(frame.shape_yx, -np.inf, dtype=np.float32)
        seen = frame.region.clip(frame.shape_yx)
        y, x = int(seen.y0 - frame.region.y0), int(seen.x0 - frame.region.x0)
        out[seen.slices()] = native[y : y + int(seen.height), x : x + int(seen.width)]
        return out, float(iou[0, 0])
