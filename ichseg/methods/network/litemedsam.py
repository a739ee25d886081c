"""LiteMedSAM: a TinyViT image encoder with SAM's prompt encoder and mask decoder.

After Ma et al., MedSAM (Nature Communications 2024) and its LiteMedSAM branch. 9,791,300 parameters; the
state dict is that of the public checkpoint, so that it loads with ``strict=True``.
"""

from __future__ import annotations

from typing import Self

from torch import Tensor, nn

from ichseg.methods.network.box_network import BoxNetwork
from ichseg.methods.network.mask_decoder import MaskDecoder
from ichseg.methods.network.prompt_encoder import PromptEncoder
from ichseg.methods.network.tiny_vit import ConvNorm, TinyViT

#: Linear layers that the paper adapts, by the end of their names: 10 in the encoder, 14 in the decoder.
LORA_TARGETS = ("qkv", "q_proj", "v_proj")


class LiteMedSAM(BoxNetwork):
    """Encode a slice once, decode many boxes. Box coordinates are pixels of the 256 x 256 frame."""

    def __init__(self) -> None:
        super().__init__()
        self.image_encoder = TinyViT()
        self.prompt_encoder = PromptEncoder()
        self.mask_decoder = MaskDecoder()

    def fold_batch_norm(self) -> Self:
        """Fold every batch norm into its convolution, which computes the same in one pass fewer.

        For a network whose encoder is frozen or only used; the state dict no longer is the checkpoint's.
        """
        for module in list(self.modules()):
            if isinstance(module, ConvNorm) and isinstance(module.bn, nn.BatchNorm2d):
                module.fold()
        return self

    def stem(self, pixels: Tensor) -> Tensor:
        """[n, 3, 256, 256] in [0, 1] to [n, 128, 128, 128] (channels, y, x)."""
        return self.image_encoder.stem(pixels)

    def body(self, features: Tensor) -> Tensor:
        """The stem's output to the embedding [n, 256, 64, 64]."""
        return self.image_encoder.body(features)

    def decode(self, embedding: Tensor, boxes_xyxy: Tensor) -> tuple[Tensor, Tensor]:
        """Embeddings [n or 1, 256, 64, 64] and boxes [n, 4] to logits [n, 1, 256, 256] and IoU [n, 1]."""
        decoded: tuple[Tensor, Tensor] = self.mask_decoder(
            embedding,
            self.prompt_encoder.grid_encoding(),
            self.prompt_encoder.boxes(boxes_xyxy),
            self.prompt_encoder.dense(),
        )
        return decoded

    def forward(self, image: Tensor, boxes_xyxy: Tensor) -> tuple[Tensor, Tensor]:
        """Images [n, 3, 256, 256] in [0, 1] and one box each [n, 4] to logits and IoU, as ``decode``."""
        return self.decode(self.image_encoder(image), boxes_xyxy)
