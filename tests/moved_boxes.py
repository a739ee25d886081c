"""The range of boxes that are moved on their slices, in one go: what the range that is made in portions is held to."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import partial

from ichseg.marks.box import Box
from ichseg.measures.spread import (
    DRAWS,
    JITTER_MM,
    EdgeStep,
    VolumeRange,
    jitter_in_pixels,
    jittered_areas_px,
    range_of_areas,
)
from ichseg.methods.predictor import Predictor, SliceEmbedding
from ichseg.scan.volume import CTVolume


def volume_range(
    predictor: Predictor,
    volume: CTVolume,
    boxes: Mapping[int, Sequence[Box]],
    *,
    embedding: Callable[[int], SliceEmbedding] | None = None,
    draws: int = DRAWS,
    jitter_mm: float = JITTER_MM,
    edge: EdgeStep | None = None,
    seed: int = 0,
) -> VolumeRange:
    areas_px = {
        k: jittered_areas_px(
            predictor,
            predictor.embed(volume.hu_zyx[k]) if embedding is None else embedding(k),
            drawn,
            jitter_xy_px=jitter_in_pixels(volume, jitter_mm),
            draws=draws,
            edge=None if edge is None else partial(edge, k),
            seed=seed,
        )
        for k, drawn in sorted(boxes.items())
        if drawn
    }
    return range_of_areas(areas_px, volume, jitter_mm, seed)
