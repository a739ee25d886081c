"""A finder of blood without weights: what has 55 to 90 HU inside the skull is blood, and it is quite sure of it.

``smooth_px`` and ``low_hu`` leave thin and faint things out, as falx and vessels.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from scipy import ndimage

from ichseg.methods import detection
from ichseg.methods.frame import FloatArray, SliceFrame
from ichseg.methods.proposals import FindRule, Proposal, find
from ichseg.scan.skull import intracranial
from ichseg.scan.slabs import SliceOrSlab, slab_at, slabs_of
from ichseg.scan.volume import CTVolume

SURE = 0.9


class LightFinder:
    """As ``BloodFinder``; counts the slices that it looks at."""

    name = detection.DETECTION
    title = "Light"
    rule = FindRule(extent=0.3, faint=0.3, least_score=0.6)
    weights_sha256: dict[str, str] = {"light": "0" * 64}  # noqa: RUF012 - shared and never written to

    def __init__(
        self,
        *,
        skull: bool = True,
        embedded_by: str = "threshold",
        smooth_px: int = 3,
        low_hu: float = 55,
    ) -> None:
        self.embedded_by, self.smooth_px, self.low_hu = embedded_by, smooth_px, low_hu
        self.skull = skull
        """Whether to look inside a closed skull alone; a small scan made for a test may have none."""
        self.looked: list[int] = []

    def of_slice(self, volume: CTVolume, k: int, embedding: Any) -> FloatArray:
        assert embedding is not None
        self.looked.append(k)
        slabs = slabs_of(volume)
        if slabs is not None:
            volume, k = slabs.scan, slabs.number(k)
        hu = np.asarray(volume.hu_zyx[k], dtype=np.float32)
        smooth = ndimage.uniform_filter(hu, self.smooth_px)
        blood = (smooth >= self.low_hu) & (smooth <= 90)
        if self.skull:
            inside = intracranial(hu)
            blood &= ndimage.binary_erosion(inside, iterations=6) if inside.any() else inside
        return SURE * SliceFrame(volume.shape_zyx[1:]).mask(blood).astype(np.float32)

    def probabilities(
        self,
        volume: CTVolume,
        embed: Callable[[SliceOrSlab], Any],
        *,
        progress: Callable[[float], None] | None = None,
        cancelled: Callable[[], bool] | None = None,
    ) -> FloatArray:
        depth = volume.shape_zyx[0]
        out = np.zeros((depth, 256, 256), np.float32)
        for k in range(depth):
            if cancelled is not None and cancelled():
                break
            out[k] = self.of_slice(volume, k, embed(slab_at(volume, k)))
            if progress is not None:
                progress((k + 1) / depth)
        return out

    def find(self, probability_zyx: npt.ArrayLike, volume: CTVolume) -> list[Proposal]:
        return find(probability_zyx, volume, self.rule)


def use(finder: LightFinder, monkeypatch: pytest.MonkeyPatch | None = None) -> LightFinder:
    """Have this one in the place of the finder that ships, as if its weights were here."""
    row = replace(
        detection.DETECTIONS[detection.DETECTION],
        weights=(),
        embedded_by=finder.embedded_by,
        load=lambda name, device: finder,  # type: ignore[arg-type,return-value]
    )
    if monkeypatch is None:
        detection.DETECTIONS[detection.DETECTION] = row
    else:
        monkeypatch.setitem(detection.DETECTIONS, detection.DETECTION, row)
    return finder
