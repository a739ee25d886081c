"""What the predictor and the fine-tune need of a network that segments what is in a box."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar, Self

from torch import Tensor, nn

from ichseg.methods.frame import MODEL_SIZE, Framing


class BoxNetwork(Framing, nn.Module):
    """The seam between LiteMedSAM, SAM and MedSAM and whatever uses them.

    A slice goes through ``frame`` and ``window`` to an image in [0, 1], through ``pixels`` to what the encoder takes,
    through ``stem`` and ``body`` to an embedding, which ``decode`` turns into logits for each box and ``mask``
    into a mask at native size (``Framing`` has the two ends). As it stands, this is the way in and out of LiteMedSAM; a
    network gives its own stem, body and decode.
    """

    logits_size: int = MODEL_SIZE
    """The decoder's output in pixels a side."""
    images_at_once: ClassVar[int | None] = None
    """How many images may be encoded in one batch, where memory sets a limit."""
    stem_is_costly: ClassVar[bool] = True
    """Whether a stem's output is worth keeping for the next time that the same image comes."""

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

    def fold_batch_norm(self) -> Self:
        """Fold every batch norm into its convolution; a network without any stays as it is."""
        return self
