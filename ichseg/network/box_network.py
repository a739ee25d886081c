"""What the predictor and the fine-tune need of a network that segments what is in a box."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar, Self

import numpy as np
import numpy.typing as npt
from torch import Tensor, nn

from ichseg.preprocess import MODEL_SIZE, PAPER, FloatArray, SliceFrame, Window
from ichseg.prompt import Box


class BoxNetwork(nn.Module):
    """The seam between LiteMedSAM, SAM and MedSAM and whatever uses them.

    A slice goes through ``frame`` and ``window`` to an image in [0, 1], through ``pixels`` to what the encoder takes,
    through ``stem`` and ``body`` to an embedding, which ``decode`` turns into logits for each box and ``mask``
    into a mask at native size. As it stands, this is the way in and out of LiteMedSAM; a network gives its
    own stem, body and decode.
    """

    image_size: int = MODEL_SIZE
    """The encoder's input in pixels a side."""
    logits_size: int = MODEL_SIZE
    """The decoder's output in pixels a side."""
    stretch: ClassVar[bool] = False
    """Whether a slice that is not square fills the frame all the same."""
    images_at_once: ClassVar[int | None] = None
    """How many images may be encoded in one batch, where memory sets a limit."""
    stem_is_costly: ClassVar[bool] = True
    """Whether a stem's output is worth keeping for the next time that the same image comes."""

    def frame(self, shape_yx: tuple[int, int], region: Box | None = None) -> SliceFrame:
        """The geometry between a slice of (rows, columns), or a square region of it, and the encoder's input."""
        whole = Box(0, 0, shape_yx[1], shape_yx[0])
        return SliceFrame(shape_yx, region or whole, self.image_size, self.stretch)

    def window(self, slice_hu: npt.NDArray[np.number]) -> Window:
        """The HU that are black and white to the network on this slice [y, x]."""
        del slice_hu
        return PAPER

    def pixels(self, images: Tensor, contents_yx: Sequence[tuple[int, int]]) -> Tensor:
        """Images [n, y, x] in [0, 1], each with the (rows, columns) that are no padding, to [n, 3, y, x]."""
        del contents_yx
        return images[:, None].expand(-1, 3, -1, -1)

    def stem(self, pixels: Tensor) -> Tensor:
        """The part of the encoder that has nothing to adapt: [n, 3, y, x] to features that ``body`` takes."""
        raise NotImplementedError

    def body(self, features: Tensor) -> Tensor:
        """The rest of the encoder: the embedding [n, channels, y, x]."""
        raise NotImplementedError

    def decode(self, embedding: Tensor, boxes_xyxy: Tensor) -> tuple[Tensor, Tensor]:
        """An embedding for all boxes or for each, and boxes [n, 4] in the frame: logits [n, 1, y, x], IoU [n, 1]."""
        raise NotImplementedError

    def mask(self, frame: SliceFrame, logits: FloatArray) -> npt.NDArray[np.bool_]:
        """One box's logits [y, x] to its mask at the slice's native size."""
        return frame.logits(logits) > 0

    def fold_batch_norm(self) -> Self:
        """Fold every batch norm into its convolution; a network without any stays as it is."""
        return self
