"""From a slice in HU to the model's square frame and back: window, resampling, boxes, logits, masks.

Everything here is numpy on the CPU and takes a few milliseconds. Resampling is a pair of small
matrices (rows, columns), so that the image, the box and the logits share one geometry.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import lru_cache
from typing import ClassVar

import numpy as np
import numpy.typing as npt

from ichseg.errors import BoxError
from ichseg.marks.box import Box

FloatArray = npt.NDArray[np.float32]

#: The side of LiteMedSAM's input in pixels.
MODEL_SIZE = 256


@dataclass(frozen=True)
class Window:
    """A display or model window in HU, as radiologists name it: width and level (its centre)."""

    width: float
    level: float

    @property
    def low(self) -> float:
        """The HU shown black."""
        return self.level - self.width / 2

    @property
    def high(self) -> float:
        """The HU shown white."""
        return self.level + self.width / 2

    def apply(self, hu: npt.ArrayLike) -> FloatArray:
        """HU of any shape to float32 in [0, 1], by the fixed window and never by the slice's own range.

        >>> PAPER.apply([0, 30, 65, 100, 300]).tolist()
        [0.0, 0.0, 0.5, 1.0, 1.0]
        """
        values = np.asarray(hu, dtype=np.float32)
        return np.clip((values - np.float32(self.low)) / np.float32(self.width), 0.0, 1.0)


#: 30 to 100 HU: Guo, Law, Park 2024, the window of the fine-tune and of every segmentation here.
PAPER = Window(width=70, level=65)
BRAIN = Window(width=80, level=40)
SUBDURAL = Window(width=200, level=80)
BONE = Window(width=2000, level=500)

#: The presets offered to people, by the name that is shown.
WINDOWS = {"paper": PAPER, "brain": BRAIN, "subdural": SUBDURAL, "bone": BONE}


@dataclass(frozen=True)
class SliceFrame:
    """The geometry between a native slice (or a square crop of it) and the model's square frame.

    ``shape_yx`` is the slice's (rows, columns). ``region`` is the part of it that the model sees, in whole
    native pixels; it may overhang the slice, and what lies outside is black. By default it is the
    whole slice. The region's longer side fills the frame, the aspect ratio is kept, and the rest of the frame
    (right or bottom) is black, as in LiteMedSAM's own inference code; ``stretch`` fills the frame with both sides
    instead, as in MedSAM's. ``size`` is the frame's side in pixels.
    """

    shape_yx: tuple[int, int]
    region: Box = field(default=None)  # type: ignore[assignment]
    size: int = MODEL_SIZE
    stretch: bool = False

    def __post_init__(self) -> None:
        if self.region is None:
            object.__setattr__(self, "region", Box(0, 0, self.shape_yx[1], self.shape_yx[0]))
        if any(value != int(value) for value in self.region.xyxy):
            raise BoxError(
                f"A frame's region is whole pixels; got {self.region.xyxy}; round it outward."
            )

    @property
    def scale(self) -> float:
        """Model pixels per native pixel, along the region's longer side."""
        return self.size / max(self.region.width, self.region.height)

    @property
    def scale_yx(self) -> tuple[float, float]:
        """Model pixels per native pixel along y and x; both are ``scale`` unless the frame is stretched."""
        if self.stretch:
            return self.size / self.region.height, self.size / self.region.width
        return self.scale, self.scale

    @property
    def content_yx(self) -> tuple[int, int]:
        """Rows and columns of the frame that the region fills, from the upper left."""
        along_y, along_x = self.scale_yx
        return (
            max(1, int(self.region.height * along_y + 0.5)),
            max(1, int(self.region.width * along_x + 0.5)),
        )

    def image(self, slice_hu: npt.ArrayLike, window: Window = PAPER) -> FloatArray:
        """A slice [y, x] in HU to the model's image: float32 [size, size] in [0, 1], windowed then resized.

        Pixels are averaged over their area where the frame is coarser than the slice, and interpolated
        linearly where it is finer.
        """
        values = np.asarray(slice_hu)
        if values.shape != tuple(self.shape_yx):
            raise BoxError(
                f"This frame is for a slice of {self.shape_yx}; got {values.shape}; make a new one."
            )
        seen = self.region.clip(self.shape_yx)
        to_rows, to_columns = self._matrices()
        # Cutting the matrices to what lies on the slice is the same as padding it with black.
        rows = slice(int(seen.y0 - self.region.y0), int(seen.y1 - self.region.y0))
        columns = slice(int(seen.x0 - self.region.x0), int(seen.x1 - self.region.x0))
        windowed = window.apply(values[seen.slices()])
        small = to_rows[:, rows] @ windowed @ to_columns[:, columns].T
        out = np.zeros((self.size, self.size), dtype=np.float32)
        out[: small.shape[0], : small.shape[1]] = small
        return out

    def mask(self, mask_yx: npt.NDArray[np.bool_]) -> npt.NDArray[np.bool_]:
        """A mask [y, x] to the model frame: a pixel is in where at least half of its area is."""
        unit = Window(width=1, level=0.5)
        return self.image(mask_yx.astype(np.float32), unit) >= 0.5

    def box(self, box: Box) -> FloatArray:
        """A native box to the model frame: float32 (x0, y0, x1, y1), with the last pixel included.

        SAM's prompt encoder takes the centres of the first and the last pixel (it adds 0.5 itself), where a
        Box runs to the last pixel's far edge: hence the one taken off.
        """
        along_y, along_x = self.scale_yx
        x0, x1 = (box.x0 - self.region.x0) * along_x, (box.x1 - self.region.x0) * along_x
        y0, y1 = (box.y0 - self.region.y0) * along_y, (box.y1 - self.region.y0) * along_y
        return np.array([x0, y0, max(x1 - 1, x0), max(y1 - 1, y0)], dtype=np.float32)

    def logits(self, logits: FloatArray) -> FloatArray:
        """Model logits, a square [n, n], to the native slice [y, x] by linear interpolation; outside the region -inf.

        The square may be coarser than the frame: SAM decodes at a quarter of it.
        """
        from_rows, from_columns = self._to_native(len(logits))
        seen = self.region.clip(self.shape_yx)
        content = np.asarray(
            logits[: from_rows.shape[1], : from_columns.shape[1]], dtype=np.float32
        )
        out = np.full(self.shape_yx, -np.inf, dtype=np.float32)
        out[seen.slices()] = from_rows @ content @ from_columns.T
        return out

    def positive(self, logits: FloatArray) -> npt.NDArray[np.bool_]:
        """Where ``logits`` is above zero on the native slice, bool [y, x].

        Only the rows and columns that see a positive value are interpolated: weights are never negative, so
        there is none elsewhere. A mask may reach beyond its box; its values say how far.
        """
        from_rows, from_columns = self._to_native(len(logits))
        content = np.asarray(
            logits[: from_rows.shape[1], : from_columns.shape[1]], dtype=np.float32
        )
        above = content > 0
        rows = _reached(from_rows, np.any(above, axis=1))
        columns = _reached(from_columns, np.any(above, axis=0))
        seen = self.region.clip(self.shape_yx)
        y, x = int(seen.y0) + rows.start, int(seen.x0) + columns.start
        part = from_rows[rows] @ content @ from_columns[columns].T
        out = np.zeros(self.shape_yx, dtype=np.bool_)
        out[y : y + part.shape[0], x : x + part.shape[1]] = part > 0
        return out

    def _to_native(self, side: int) -> tuple[FloatArray, FloatArray]:
        """Weights [native, coarse] of rows and of columns that take logits to what the region has of the slice."""
        rows, columns = self.content_yx
        from_rows = self._back(side, rows, int(self.region.height))
        from_columns = self._back(side, columns, int(self.region.width))
        seen = self.region.clip(self.shape_yx)
        y, x = int(seen.y0 - self.region.y0), int(seen.x0 - self.region.x0)
        return from_rows[y : y + int(seen.height)], from_columns[x : x + int(seen.width)]

    def _back(self, side: int, content: int, native: int) -> FloatArray:
        """Weights [native, side or content] that take one axis of logits back to the region's pixels."""
        if self.stretch:
            return _linear(side, native)
        if side == self.size:
            return _linear(content, native)
        # By way of the frame's pixels, as SAM does: where padding begins need not be a whole coarse one.
        return _linear(content, native) @ _linear(side, self.size)[:content]

    def _matrices(self) -> tuple[FloatArray, FloatArray]:
        rows, columns = self.content_yx
        return _area(int(self.region.height), rows), _area(int(self.region.width), columns)


class Framing:
    """How a slice goes into a network and its logits come out: LiteMedSAM's way, from which others differ in parts."""

    image_size: int = MODEL_SIZE
    """The encoder's input in pixels a side."""
    stretch: ClassVar[bool] = False
    """Whether a slice that is not square fills the frame all the same."""

    def frame(self, shape_yx: tuple[int, int], region: Box | None = None) -> SliceFrame:
        """The geometry between a slice of (rows, columns), or a square region of it, and the encoder's input."""
        whole = Box(0, 0, shape_yx[1], shape_yx[0])
        return SliceFrame(shape_yx, region or whole, self.image_size, self.stretch)

    def window(self, slice_hu: npt.NDArray[np.number]) -> Window:
        """The HU that are black and white to the network on this slice [y, x]."""
        del slice_hu
        return PAPER

    def mask(self, frame: SliceFrame, logits: FloatArray) -> npt.NDArray[np.bool_]:
        """One box's logits [y, x] to its mask at the slice's native size."""
        return frame.positive(logits)


def _reached(weights: FloatArray, positive: npt.NDArray[np.bool_]) -> slice:
    """The rows of weights [native, coarse] with one on any coarse pixel from the first to the last positive."""
    if not positive.any():
        return slice(0, 0)
    first, last = np.flatnonzero(positive)[[0, -1]]
    native = np.flatnonzero(weights[:, first : last + 1].any(axis=1))
    return slice(int(native[0]), int(native[-1]) + 1) if native.size else slice(0, 0)


@lru_cache(maxsize=64)
def _area(size_in: int, size_out: int) -> FloatArray:
    """Weights [size_out, size_in] of one axis: the mean over each output pixel's area when shrinking."""
    if size_out >= size_in:
        return _linear(size_in, size_out)
    edges = np.linspace(0, size_in, size_out + 1)
    pixels = np.arange(size_in)
    upper = np.minimum(edges[1:, None], pixels[None] + 1)
    lower = np.maximum(edges[:-1, None], pixels[None])
    return (np.clip(upper - lower, 0, None) * (size_out / size_in)).astype(np.float32)


@lru_cache(maxsize=64)
def _linear(size_in: int, size_out: int) -> FloatArray:
    """Weights [size_out, size_in] of one axis: linear interpolation between pixel centres, flat at the ends."""
    centres = np.clip((np.arange(size_out) + 0.5) * (size_in / size_out) - 0.5, 0, size_in - 1)
    left = np.minimum(np.floor(centres).astype(int), max(size_in - 2, 0))
    weights = np.zeros((size_out, size_in), dtype=np.float32)
    fraction = (centres - left).astype(np.float32)
    rows = np.arange(size_out)
    weights[rows, left] = 1 - fraction
    if size_in > 1:
        weights[rows, left + 1] = fraction
    return weights
