"""Encode a slice once, prompt it many times: slices in HU in, masks at native size out.

A predictor holds weights only. What belongs to one user's scan is in the SliceEmbedding, which the caller keeps.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from ichseg.errors import InputError, check_cancelled
from ichseg.marks.box import Box, as_boxes
from ichseg.methods.backends import AT_ONCE, Backend, HalfArray
from ichseg.methods.frame import FloatArray, SliceFrame
from ichseg.methods.likeness import Cells

#: What a setting of an identity is, as JSON takes it.
Setting = bool | float | str | None

#: A refinement's crop is this many times the box's longer side, and never under the least side in pixels.
CROP_SIDES = 3.0
LEAST_CROP_PX = 64


@dataclass(frozen=True)
class SliceEmbedding:
    """What a predictor needs to know of one slice to answer prompts on it; a value of one user's session."""

    slice_hu: npt.NDArray[np.number]
    """The slice [y, x] in HU, by reference."""
    features: npt.NDArray[Any] | None = None
    """The encoder's output [1, ...] in float16, in its predictor's own layout; of a method that takes no box, what it
    found on the slice (bool [y, x]); None for a method that keeps nothing."""

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
    """[n], the model's own estimate of its IoU with the reference mask; NaN from a method that makes none."""

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
    """Whether ``predict`` looks again, at native-resolution crops around each box, unless told not to."""
    takes_box: bool = True
    """Whether the box guides the method; otherwise it finds blood on the whole slice, and the box only cuts it out."""

    @property
    def settings(self) -> Mapping[str, Setting]:
        """What else decides an answer, beside weights, refinement and code: part of its identity."""
        return {}

    @property
    def computed_by(self) -> str:
        """The back end, its device and its precision: part of its identity."""
        return "numpy"

    @property
    def packages(self) -> tuple[str, ...]:
        """The packages whose versions can change an answer: part of its identity."""
        return ("numpy", "scipy")

    @abstractmethod
    def embed(self, slice_hu: npt.ArrayLike) -> SliceEmbedding:
        """Encode one slice.

        Args:
            slice_hu: [y, x] in HU at native size, any numeric type.

        """

    def embed_many(self, slices_hu: Sequence[npt.ArrayLike]) -> list[SliceEmbedding]:
        """Encode several slices; as many calls of ``embed``, or faster."""
        return [self.embed(slice_hu) for slice_hu in slices_hu]

    def cells(self, embedding: SliceEmbedding) -> Cells | None:
        """An embedding as cells that tell blood from what surrounds it; None from a method that has none.

        Args:
            embedding: of a slice, by this predictor.

        """
        del embedding
        return None

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
            second_look: encode a crop around each box at native resolution, too, and its mirror image: it sees thin
                blood better and costs two encodings a box. None is the model's own ``second_look``.

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
    """The square of whole pixels around a box that a refinement encodes.

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
    """LiteMedSAM, SAM or MedSAM on a back end, with or without an adapter merged into its weights."""

    def __init__(
        self,
        backend: Backend,
        name: str,
        title: str,
        weights_sha256: Mapping[str, str],
        *,
        second_look: bool = False,
        crop_sides: float = CROP_SIDES,
        tells_blood: bool = False,
        packages: Sequence[str] = (),
    ) -> None:
        """Take over a back end.

        Args:
            backend: the network, ready to compute.
            name: the catalogue's name for it.
            title: the name shown to people.
            weights_sha256: {file: sha256}.
            second_look: see Predictor.second_look.
            crop_sides: a refinement's side in units of the box's longer side.
            tells_blood: whether ``cells`` gives its embeddings, [1, cells, channels] each. An adapter's tell blood from
                what surrounds it; the un-tuned network's do so too badly to go by (train/EXPERIMENTS.md).
            packages: what the network is made of, beside the back end's own package.

        """
        self.backend = backend
        self.name = name
        self.title = title
        self.weights_sha256 = dict(weights_sha256)
        self.second_look = second_look
        self.crop_sides = crop_sides
        self._tells_blood = tells_blood
        self._packages = tuple(packages)

    @property
    def settings(self) -> Mapping[str, Setting]:
        return {"crop_sides": self.crop_sides}

    @property
    def computed_by(self) -> str:
        return f"{self.backend.name} {self.backend.device} {self.backend.precision}"

    @property
    def packages(self) -> tuple[str, ...]:
        return (*super().packages, self.backend.name, *self._packages)

    def embed(self, slice_hu: npt.ArrayLike) -> SliceEmbedding:
        return self.embed_many([slice_hu])[0]

    def embed_many(self, slices_hu: Sequence[npt.ArrayLike]) -> list[SliceEmbedding]:
        slices = [as_slice(slice_hu) for slice_hu in slices_hu]
        frames = [self.backend.framing.frame(_shape(array)) for array in slices]
        features = self._encode(frames, slices)
        return [SliceEmbedding(*pair) for pair in zip(slices, features, strict=True)]

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
        again = self.second_look if second_look is None else second_look
        look = self._look_again if again else self._look
        masks: list[npt.NDArray[np.bool_]] = []
        iou: list[npt.NDArray[np.float32]] = []
        for i in range(0, len(boxes), AT_ONCE):
            check_cancelled()
            found, sure = look(embedding, boxes[i : i + AT_ONCE])
            masks += found
            iou.append(sure)
        return SliceMasks(np.stack(masks), np.concatenate(iou))

    def cells(self, embedding: SliceEmbedding) -> Cells | None:
        if not self._tells_blood or embedding.features is None:
            return None
        places, channels = embedding.features.shape[-2:]
        side = math.isqrt(places)
        frame = self.backend.framing.frame(embedding.shape_yx)
        return Cells(embedding.features.reshape(side, side, channels), frame)

    def _look(self, embedding: SliceEmbedding, boxes: Sequence[Box]) -> _Looked:
        """Decode boxes from the embedding of the whole slice."""
        frame, logits, iou = self._whole(embedding, boxes)
        return [self.backend.framing.mask(frame, one) for one in logits], iou

    def _look_again(self, embedding: SliceEmbedding, boxes: Sequence[Box]) -> _Looked:
        """The mean of three answers: from the whole slice, from a crop around the box, from the crop's mirror image.

        A crop shows thin blood, the whole slice where in the head it is, and what differs between a crop and
        its mirror image is chance.
        """
        regions = [crop_region(box, embedding.shape_yx, self.crop_sides) for box in boxes]
        frames = [self.backend.framing.frame(embedding.shape_yx, region) for region in regions]
        images = self._images(frames, [embedding.slice_hu] * len(frames))
        images += [np.ascontiguousarray(image[:, ::-1]) for image in images]
        features = self.backend.encode(images, [frame.content_yx for frame in frames] * 2)
        straight = _in_frames(boxes, frames)
        mirrored = straight[:, [2, 1, 0, 3]]
        mirrored[:, [0, 2]] = images[0].shape[1] - 1 - mirrored[:, [0, 2]]
        near, near_iou = self.backend.decode(
            np.concatenate(features), np.concatenate([straight, mirrored])
        )
        n = len(boxes)
        near = near[:n] + near[n:, :, ::-1]
        whole, far, iou = self._whole(embedding, boxes)
        masks = [
            frame.logits(two) + whole.logits(one) > 0
            for frame, two, one in zip(frames, near, far, strict=True)
        ]
        return masks, np.mean([near_iou[:n], near_iou[n:], iou], axis=0, dtype=np.float32)

    def _whole(
        self, embedding: SliceEmbedding, boxes: Sequence[Box]
    ) -> tuple[SliceFrame, FloatArray, npt.NDArray[np.float32]]:
        """The whole slice's frame, and in it the logits [n, side, side] and the IoU [n] that the model expects."""
        if embedding.features is None:
            raise InputError(
                f"A box is answered from the slice's embedding by the same method; this one has nothing of "
                f"{self.title}; make it with that method's embed."
            )
        frame = self.backend.framing.frame(embedding.shape_yx)
        return frame, *self.backend.decode(
            embedding.features, _in_frames(boxes, [frame] * len(boxes))
        )

    def _encode(
        self, frames: Sequence[SliceFrame], slices: Sequence[npt.NDArray[np.number]]
    ) -> list[HalfArray]:
        """What each frame sees of its slice, encoded."""
        contents = [frame.content_yx for frame in frames]
        return self.backend.encode(self._images(frames, slices), contents)

    def _images(
        self, frames: Sequence[SliceFrame], slices: Sequence[npt.NDArray[np.number]]
    ) -> list[FloatArray]:
        """What each frame sees of its slice."""
        window = self.backend.framing.window
        return [
            frame.image(array, window(array)) for frame, array in zip(frames, slices, strict=True)
        ]


#: For some boxes: each one's mask [y, x], and the IoU that the model expects [n].
_Looked = tuple[list[npt.NDArray[np.bool_]], npt.NDArray[np.float32]]


def _in_frames(boxes: Sequence[Box], frames: Sequence[SliceFrame]) -> FloatArray:
    return np.stack([frame.box(box) for frame, box in zip(frames, boxes, strict=True)])


def _shape(array: npt.NDArray[np.number]) -> tuple[int, int]:
    rows, columns = array.shape
    return rows, columns
