"""The edge at half height as a step after a method's answer, for the methods that take it."""

from __future__ import annotations

from collections.abc import Callable

from ichseg.arrays import BoolArray
from ichseg.marks.edge import half_height_edge
from ichseg.methods import catalogue
from ichseg.scan.volume import CTVolume


def step_of(
    volume: CTVolume | Callable[[], CTVolume],
) -> Callable[[str, int, BoolArray], BoolArray]:
    """The default edge as a step of a ``Segmentation`` of a scan: model, slice, mask [y, x] to mask [y, x].

    Args:
        volume: the scan, or what gives it, for a caller who does not hold it all the time.

    """

    def step(model: str, k: int, mask_yx: BoolArray) -> BoolArray:
        if not catalogue.takes_edge(model) or not mask_yx.any():
            return mask_yx
        scan = volume() if callable(volume) else volume
        return half_height_edge(mask_yx, scan.hu_zyx[k], scan.geometry.spacing_yx_mm)[0]

    return step
