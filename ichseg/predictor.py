"""Encode a slice once, prompt it many times: slices in HU in, masks at native size out.

A predictor holds weights only. What belongs to one user's scan is in the SliceEmbedding, which the caller keeps.
"""

from __future__ import annotations

import threading
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch

from ichseg.errors import InputError
from ichseg.network import BoxNetwork
from ichseg.preprocess import FloatArray, SliceFrame
from ichseg.prompt import Box, as_boxes

#: A second look's crop is this many times the box's longer side, and never under the least side in pixels.
CROP_SIDES = 3.0
LEAST_CROP_PX = 64


@dataclass(frozen=True)
class SliceEmbedding:
    """What a predictor needs to know of one slice to answer prompts on it; a value of one user's session."""

    slice_hu: npt.NDArray[np.number]
    """The slice [y, x] in HU, by reference."""
    features: torch.Tensor | None = None
    """The encoder's output [1, 256, 64, 64], on the predictor's device; of a method that takes no box, what it found
    on the slice (bool [y, x]); None for a method that keeps nothing."""

    @property
    def shape_yx(self) -> tuple[int, int]:
        """The slice's (rows, columns)."""
        rows, columns = self.slice_hu.shape
        return rows, columns

    @property
    def nbytes(self) -> int:
        """Bytes that keeping this costs, without the slice, which belongs to the volume."""
        return 0 if self.features is None else self.features.nbytes


@dataclass(frozen=True)
class SliceMasks:
    """One mask a box, at the slice's native size."""

    masks: npt.NDArray[np.bool_]
    """[n, y, x]"""
    iou: npt.NDArray[np.float32]
    """[n], the model's own estimate of its IoU with the truth; NaN from a method that makes none."""

    @property
    def union(self) -> npt.NDArray[np.bool_]:
        """[y, x]: all boxes' masks together."""
        return np.any(self.masks, axis=0)


class Predictor(ABC):
    """What every method of the comparison offers: embed a slice, then predict from boxes. Thread-safe."""

    name: str
    title: str
    weights_sha256: Mapping[str, str]
    """{file: sha256} of the weights behind it; empty for a method without weights."""
    second_look: bool = False
    """Whether ``predict`` looks again at a native-resolution crop around each box unless told not to."""
    takes_box: bool = True
    """Whether the box guides the method; otherwise it finds blood on the whole slice, and the box only cuts it out."""

    @abstractmethod
    def embed(self, slice_hu: npt.ArrayLike) -> SliceEmbedding:
        """Encode one slice.

        Args:
            slice_hu: [y, x] in HU at native size, any numeric type.

        """

    def embed_many(self, slices_hu: Sequence[npt.ArrayLike]) -> list[SliceEmbedding]:
        """Encode several slices; as many calls of ``embed``, or faster."""
        return [self.embed(slice_hu) for slice_hu in slices_hu]

    @abstractmethod
    def predict(
        self,
        embedding: SliceEmbedding,
        boxes: Sequence[Box] | npt.ArrayLike,
        *,
        second_look: bool | None = None,
    ) -> SliceMasks:
        """Segment what is in each box.

        Args:
            embedding: of the slice, by this predictor.
            boxes: n boxes, or an [n, 4] array of x0, y0, x1, y1; half-open, native pixels.
            second_look: encode a crop around each box at native resolution and decode from that, which
                sees thin blood better and costs an encoding a box. None is the model's own ``second_look``.

        Raises:
            BoxError: a box that is not on the slice.

        """


def as_slice(slice_hu: npt.ArrayLike) -> npt.NDArray[np.number]:
    """Check that a slice is a two-dimensional numeric array."""
    array = np.asarray(slice_hu)
    if array.ndim != 2 or array.size == 0 or not np.issubdtype(array.dtype, np.number):
        raise InputError(
            f"A slice is a two-dimensional array of HU [y, x]; got shape {array.shape} of {array.dtype}; "
            "pass one slice of the volume."
        )
    return array


def crop_region(box: Box, shape_yx: tuple[int, int], sides: float = CROP_SIDES) -> Box:
    """The square of whole pixels around a box that a second look encodes.

    Its side is ``sides`` times the box's longer side, at least LEAST_CROP_PX and at most the slice's longer side;
    it is moved to lie on the slice as far as it can.
    """
    rows, columns = shape_yx
    longest = max(box.width, box.height)
    side = int(np.ceil(min(max(sides * longest, LEAST_CROP_PX), max(rows, columns))))
    x0 = _place((box.x0 + box.x1) / 2, side, columns)
    y0 = _place((box.y0 + box.y1) / 2, side, rows)
    return Box(x0, y0, x0 + side, y0 + side)


def _place(centre: float, side: int, size: int) -> int:
    start = round(centre - side / 2)
    return min(max(start, 0), size - side) if side <= size else 0


class NetworkPredictor(Predictor):
    """LiteMedSAM, SAM or MedSAM in torch, with or without an adapter merged into its weights."""

    def __init__(
        self,
        network: BoxNetwork,
        name: str,
        title: str,
        weights_sha256: Mapping[str, str],
        *,
        device: str = "auto",
        precision: str = "auto",
        second_look: bool = False,
        crop_sides: float = CROP_SIDES,
    ) -> None:
        """Take over a network in evaluation mode.

        Args:
            network: weights in float32.
            name: the catalogue's name for it.
            title: the name shown to people.
            weights_sha256: {file: sha256}.
            device: "auto", "cpu" or "cuda".
            precision: of the image encoder: "float32", "bfloat16" or "float16"; "auto" is half precision where the
                hardware computes in it (a test holds its masks to a Dice of 0.995 with full precision).
            second_look: see Predictor.second_look.
            crop_sides: a second look's side in units of the box's longer side.

        """
        self.name = name
        self.title = title
        self.weights_sha256 = dict(weights_sha256)
        self.second_look = second_look
        self.crop_sides = crop_sides
        self.device = pick_device(device)
        self.precision = _precision(self.device) if precision == "auto" else precision
        self._network = network.to(self.device).eval()
        # One caller at a time on the accelerator: two at once are slower together than in turn.
        self._lock = threading.Lock()

    def embed(self, slice_hu: npt.ArrayLike) -> SliceEmbedding:
        return self.embed_many([slice_hu])[0]

    def embed_many(self, slices_hu: Sequence[npt.ArrayLike]) -> list[SliceEmbedding]:
        slices = [as_slice(slice_hu) for slice_hu in slices_hu]
        frames = [self._network.frame(_shape(array)) for array in slices]
        features = self._encode(frames, slices)
        return [SliceEmbedding(array, features[i : i + 1].half()) for i, array in enumerate(slices)]

    def predict(
        self,
        embedding: SliceEmbedding,
        boxes: Sequence[Box] | npt.ArrayLike,
        *,
        second_look: bool | None = None,
    ) -> SliceMasks:
        boxes = as_boxes(boxes, embedding.shape_yx)
        if not boxes:
            return SliceMasks(np.zeros((0, *embedding.shape_yx), bool), np.zeros(0, np.float32))
        if self.second_look if second_look is None else second_look:
            regions = [crop_region(box, embedding.shape_yx, self.crop_sides) for box in boxes]
            frames = [self._network.frame(embedding.shape_yx, region) for region in regions]
            features = self._encode(frames, [embedding.slice_hu] * len(frames))
        else:
            frames = [self._network.frame(embedding.shape_yx)] * len(boxes)
            assert embedding.features is not None
            features = embedding.features
        model_boxes = np.stack([frame.box(box) for frame, box in zip(frames, boxes, strict=True)])
        logits, iou = self._decode(features, model_boxes)
        masks = [self._network.mask(frame, one) for frame, one in zip(frames, logits, strict=True)]
        return SliceMasks(np.stack(masks), iou)

    def _encode(
        self, frames: Sequence[SliceFrame], slices: Sequence[npt.NDArray[np.number]]
    ) -> torch.Tensor:
        """What each frame sees of its slice to features [n, 256, 64, 64] in float32 on the device."""
        network = self._network
        images = np.stack(
            [
                frame.image(array, network.window(array))
                for frame, array in zip(frames, slices, strict=True)
            ]
        )
        contents = [frame.content_yx for frame in frames]
        step = network.images_at_once or len(frames)
        parts = [
            self._encode_images(images[i : i + step], contents[i : i + step])
            for i in range(0, len(frames), step)
        ]
        return torch.cat(parts)

    def _encode_images(
        self, images: FloatArray, contents_yx: Sequence[tuple[int, int]]
    ) -> torch.Tensor:
        half = self.precision != "float32"
        with self._lock, torch.inference_mode():
            pixels = self._network.pixels(torch.from_numpy(images).to(self.device), contents_yx)
            with torch.autocast(
                self.device.type, dtype=getattr(torch, self.precision), enabled=half
            ):
                features = self._network.body(self._network.stem(pixels))
            return features.float()

    def _decode(
        self, features: torch.Tensor, boxes: npt.NDArray[np.float32]
    ) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.float32]]:
        """Logits [n, side, side] and IoU [n] for n boxes in the model frame."""
        with self._lock, torch.inference_mode():
            logits, iou = self._network.decode(
                features.to(self.device, torch.float32), torch.from_numpy(boxes).to(self.device)
            )
            return logits[:, 0].float().cpu().numpy(), iou[:, 0].float().cpu().numpy()


def _shape(array: npt.NDArray[np.number]) -> tuple[int, int]:
    rows, columns = array.shape
    return rows, columns


def pick_device(name: str) -> torch.device:
    """The device of a name: "auto" (CUDA where there is one, else the CPU), "cpu" or "cuda", as torch has it."""
    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "cpu"
    if name == "cuda" and not torch.cuda.is_available():
        raise InputError(
            "Device 'cuda' needs a CUDA GPU; this machine has none; use 'auto' or 'cpu'."
        )
    if name not in ("cpu", "cuda"):
        raise InputError(f"A device is auto, cpu or cuda; got '{name}'; choose one of them.")
    return torch.device(name)


def _precision(device: torch.device) -> str:
    if device.type == "cuda":
        return "float16"
    capability = torch.backends.cpu.get_cpu_capability()
    has_bfloat16 = capability == "AVX512" and torch.cpu._is_avx512_bf16_supported()
    return "bfloat16" if has_bfloat16 else "float32"
