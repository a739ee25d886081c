"""The edge at half height as a step after a method's answer, for the methods that take it.

On a slice of a thin series that was followed by slabs, the mask lies between those of two slabs and is near the edge,
and the slice has three times the noise of a thick one. So the edge is drawn on a mean of the slices about it; and with
one pass of each stage, for there are ten such slices where there is one of 5 mm.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

from ichseg.arrays import BoolArray
from ichseg.marks.edge import Edge, half_height_edge
from ichseg.marks.state import EdgeStep
from ichseg.methods import catalogue
from ichseg.scan.slabs import mean_about
from ichseg.scan.volume import CTVolume

_USUAL = Edge()
_OF_SLABS = replace(
    _USUAL, rough=replace(_USUAL.rough, passes=1), fine=replace(_USUAL.fine, passes=1)
)


def step_of(
    volume: CTVolume | Callable[[], CTVolume],
) -> EdgeStep:
    """The default edge as a step of a ``Segmentation`` of a scan (``marks.state.EdgeStep``).

    Args:
        volume: the scan, or what gives it, for a caller who does not hold it all the time.

    """

    def step(model: str, k: int, mask_yx: BoolArray, of_slabs: bool = False) -> BoolArray:
        if not catalogue.takes_edge(model) or not mask_yx.any():
            return mask_yx
        scan = volume() if callable(volume) else volume
        spacing_yx_mm = scan.geometry.spacing_yx_mm
        if of_slabs:
            return half_height_edge(mask_yx, mean_about(scan, k), spacing_yx_mm, _OF_SLABS)[0]
        return half_height_edge(mask_yx, scan.hu_zyx[k], spacing_yx_mm)[0]

    return step
