"""Boxes around the sample's blood as a person draws them, and what else several test files say of it."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import numpy.typing as npt

from ichseg.marks.box import Box, boxes_from_mask
from ichseg.marks.lesion import Lesion
from ichseg.scan.volume import CTVolume
from tests.e2e.driver import PATIENCE_MS, Viewer

Visit = Callable[..., Viewer]


Mask = npt.NDArray[np.bool_]


#: Of the first lesion, in both panes: a colour is a lesion's, not a method's.
LESION_RGB = Lesion(1).rgb


NOTICE = "Research software. Not a medical device. Not for clinical use."


def boxes_on(reference: Mask, k: int) -> list[tuple[float, float, float, float]]:
    """A box with a margin around each sizeable component of blood on slice k, as a person would draw them."""
    components = [box for box in boxes_from_mask(reference[k]) if box.width * box.height > 150]
    return [box.grow(4, reference.shape[1:]).xyxy for box in components]


def largest(reference: Mask, count: int) -> list[int]:
    """The slices with most blood, in order."""
    return sorted(np.argsort(reference.sum(axis=(1, 2)))[-count:].tolist())


def away_from_lines(shape_yx: tuple[int, int], boxes: list[Box], px: int = 3) -> Mask:
    """The pixels that no box's line comes near."""
    free = np.ones(shape_yx, dtype=bool)
    for box in boxes:
        x0, y0, x1, y1 = (int(v) for v in box.xyxy)
        for x in (x0, x1):
            free[max(0, y0 - px) : y1 + px, max(0, x - px) : x + px] = False
        for y in (y0, y1):
            free[max(0, y - px) : y + px, max(0, x0 - px) : x1 + px] = False
    return free


def largest_slice(mask_zyx: Mask) -> tuple[int, Box]:
    """The slice where a lesion is largest, and a person's box around it there."""
    k = int(mask_zyx.sum(axis=(1, 2)).argmax())
    components = boxes_from_mask(mask_zyx[k])
    return k, max(components, key=lambda box: box.width * box.height).grow(5, mask_zyx.shape[1:])


def ml(mask_zyx: Mask, scan: CTVolume) -> float:
    return float((mask_zyx.sum(axis=(1, 2)) * scan.voxel_volumes_ml).sum())


def wait_for_measures(viewer: Viewer) -> None:
    viewer.settle().page.wait_for_selector(".ich-measure[data-ready=true]", timeout=PATIENCE_MS)
