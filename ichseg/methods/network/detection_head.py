"""A head on LiteMedSAM's embedding that finds blood without a prompt: the encoder stays as it is, only this is trained.

The embedding [256, 64, 64] says what the encoder saw; the slice itself and its two neighbours, through three small
convolutions, add what it lost at a quarter of the resolution. Four dilated convolutions mix both, and pixel shuffles
bring the answer to 256 x 256. Heads are nearly symmetric and blood is not: what lies at the mirror place, across the
head's own midline, is given beside each place.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ichseg.methods.network.tiny_vit import EMBEDDING_DIM

#: What the images' channels are: the slice below, the slice, the slice above, and where the inside of the skull is.
CHANNELS = ("below", "slice", "above", "inside")
_SLICE = CHANNELS.index("slice")
_DILATIONS = (1, 2, 4, 1)
_FINE = 16
#: From the images to half their side, and from the embedding's grid to that.
_STEP = 2
_GROUPS = 8
#: The log odds of blood that an untrained head gives every pixel.
_PRIOR_LOGIT = -4.0
#: Values of a window of 0..1 are centred about what brain is in it: 35 of -20 to 100 HU.
_BRAIN = 0.46


class DetectionHead(nn.Module):
    """The chance of blood at each pixel of a slice, from its embedding and its images."""

    def __init__(self, width: int = 48, dropout: float = 0.1) -> None:
        super().__init__()
        self.width = width
        seen = (
            len(CHANNELS) + 1
        ) * _STEP**2  # the images and the slice's mirror image, four pixels to a place
        self.dropout = nn.Dropout2d(dropout)
        self.embedding = nn.Conv2d(EMBEDDING_DIM, width, 1)
        self.image = nn.Sequential(
            nn.Conv2d(seen, _FINE, 3, padding=1),
            nn.GroupNorm(_GROUPS, _FINE),
            nn.GELU(),
            nn.Conv2d(_FINE, 2 * _FINE, 3, stride=2, padding=1),
            nn.GroupNorm(_GROUPS, 2 * _FINE),
            nn.GELU(),
            nn.Conv2d(2 * _FINE, width, 3, padding=1),
        )
        self.both_sides = nn.Sequential(
            nn.GroupNorm(_GROUPS, 2 * width), nn.GELU(), nn.Conv2d(2 * width, width, 1)
        )
        self.mix = nn.ModuleList(
            nn.Sequential(
                nn.GroupNorm(_GROUPS, width),
                nn.GELU(),
                nn.Conv2d(width, width, 3, padding=dilation, dilation=dilation),
            )
            for dilation in _DILATIONS
        )
        self.up = nn.Conv2d(width, _FINE * _STEP**2, 1)
        last = nn.Conv2d(_FINE, _STEP**2, 3, padding=1)
        nn.init.constant_(last.bias, _PRIOR_LOGIT)  # type: ignore[arg-type]  # it has a bias
        self.fine = nn.Sequential(nn.Conv2d(_FINE + seen, _FINE, 3, padding=1), nn.GELU(), last)

    def forward(self, embedding: Tensor, images: Tensor, reflection: Tensor) -> Tensor:
        """The log odds of blood [n, 256, 256].

        Args:
            embedding: of LiteMedSAM's encoder, [n, 256, 64, 64].
            images: [n, 4, 256, 256], the CHANNELS in [0, 1].
            reflection: [n, 2, 3], from a place to its mirror place, as ``torch.nn.functional.affine_grid`` has it.

        """
        mirrored = across(images[:, _SLICE : _SLICE + 1], reflection)
        seen = F.pixel_unshuffle(torch.cat([images, mirrored], dim=1) - _BRAIN, _STEP)
        x = self.embedding(self.dropout(embedding)) + self.image(seen)
        x = x + self.both_sides(torch.cat([x, across(x, reflection)], dim=1))
        for layer in self.mix:
            x = x + layer(x)
        x = F.pixel_shuffle(self.up(x), _STEP)
        return F.pixel_shuffle(self.fine(torch.cat([x, seen], dim=1)), _STEP)[:, 0]


def across(x: Tensor, affine: Tensor, side: int | None = None) -> Tensor:
    """What lies at each place's image under an affine map [n, 2, 3]: [n, channels, y, x] in and out, 0 beyond.

    ``side`` is that of what comes out in pixels, as large as what goes in without it.

    In float32 whatever comes: in 16 bits a place would be off by a pixel.
    """
    size = [*x.shape[:2], side or x.shape[2], side or x.shape[3]]
    grid = F.affine_grid(affine.float(), size, align_corners=False)
    sampled = F.grid_sample(x.float(), grid, mode="bilinear", align_corners=False)
    return sampled.to(x.dtype)
