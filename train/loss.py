"""What every training minimises."""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor


def segmentation_loss(logits: Tensor, targets: Tensor, kind: str) -> Tensor:
    """One loss an example [n] for logits and 0/1 targets [n, y, x].

    "bce" is the mean binary cross-entropy over the frame; "bce+dice" adds one minus the soft Dice, with one
    pixel added above and below so that an empty target is met by an empty prediction.
    """
    loss = F.binary_cross_entropy_with_logits(logits, targets, reduction="none").mean(dim=(1, 2))
    if kind == "bce+dice":
        chance = logits.sigmoid()
        overlap = (chance * targets).sum(dim=(1, 2))
        loss = loss + 1 - (2 * overlap + 1) / (chance.sum(dim=(1, 2)) + targets.sum(dim=(1, 2)) + 1)
    return loss
