"""SAM's prompt encoder: boxes, clicks and a coarse mask become tokens and a dense map.

After Kirillov et al., Segment Anything (2023). Coordinates are pixels of the 256 x 256 model frame.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from ichseg.methods.network.tiny_vit import EMBEDDING_DIM, LayerNorm2d

IMAGE_SIZE = 256
GRID_SIZE = 64


class PositionEncoding(nn.Module):
    """Random Fourier features of a position in [0, 1] x [0, 1] (x, y)."""

    positional_encoding_gaussian_matrix: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer(
            "positional_encoding_gaussian_matrix", torch.randn(2, EMBEDDING_DIM // 2)
        )

    def forward(self, position: Tensor) -> Tensor:
        """[..., 2] to [..., 256], always in float32: the frequencies are too high for half precision."""
        angles = (2 * position.float() - 1) @ self.positional_encoding_gaussian_matrix.float()
        angles = 2 * math.pi * angles
        return torch.cat([angles.sin(), angles.cos()], dim=-1)


class PromptEncoder(nn.Module):
    """Prompts to sparse tokens [n, tokens, 256] and a dense map [n or 1, 256, 64, 64]."""

    def __init__(self) -> None:
        super().__init__()
        self.pe_layer = PositionEncoding()
        # The order in the checkpoint: a negative click, a positive click, a box's two corners.
        self.point_embeddings = nn.ModuleList([nn.Embedding(1, EMBEDDING_DIM) for _ in range(4)])
        self.not_a_point_embed = nn.Embedding(1, EMBEDDING_DIM)
        self.mask_downscaling = nn.Sequential(
            nn.Conv2d(1, 4, kernel_size=2, stride=2),
            LayerNorm2d(4),
            nn.GELU(),
            nn.Conv2d(4, 16, kernel_size=2, stride=2),
            LayerNorm2d(16),
            nn.GELU(),
            nn.Conv2d(16, EMBEDDING_DIM, kernel_size=1),
        )
        self.no_mask_embed = nn.Embedding(1, EMBEDDING_DIM)

    def grid_encoding(self) -> Tensor:
        """The position encoding of the embedding's grid: [1, 256, 64, 64]."""
        centres = (torch.arange(GRID_SIZE, device=self._device) + 0.5) / GRID_SIZE
        y, x = torch.meshgrid(centres, centres, indexing="ij")
        encoded: Tensor = self.pe_layer(torch.stack([x, y], dim=-1))
        return encoded.permute(2, 0, 1)[None]

    def boxes(self, boxes_xyxy: Tensor) -> Tensor:
        """Boxes [n, 4] (x0, y0, x1, y1; the last pixel included) to two tokens each: [n, 2, 256]."""
        corners = self.pe_layer((boxes_xyxy.view(-1, 2, 2) + 0.5) / IMAGE_SIZE)
        kinds = self._kinds(2, 3)
        return corners + kinds

    def points(self, points_xy: Tensor, labels: Tensor) -> Tensor:
        """Clicks [n, k, 2] with labels [n, k] to tokens [n, k, 256]; 1 is in, 0 is out, -1 is no click."""
        encoded = self.pe_layer((points_xy + 0.5) / IMAGE_SIZE)
        kinds = self._kinds(0, 1)
        tokens = encoded + kinds[labels.clamp(min=0)]
        return torch.where((labels < 0)[..., None], self.not_a_point_embed.weight[0], tokens)

    def dense(self, mask_logits: Tensor | None = None) -> Tensor:
        """A coarse mask [n, 1, 256, 256] to the dense map [n, 256, 64, 64]; without one, the learned blank."""
        if mask_logits is None:
            return self.no_mask_embed.weight.view(1, -1, 1, 1)
        mapped: Tensor = self.mask_downscaling(mask_logits)
        return mapped

    def _kinds(self, *which: int) -> Tensor:
        """The learned embeddings of some kinds of point: [len(which), 256]."""
        return torch.cat([self.point_embeddings[i].weight for i in which])  # type: ignore[misc]

    @property
    def _device(self) -> torch.device:
        return self.no_mask_embed.weight.device
