"""How much a growth depends on who drew the boxes, and on where the registration put them.

A draw moves the sides of all boxes of both scans alike, as ``spread.jittered_areas_px`` does: the hand that draws a
wide box on one scan draws wide ones on the other. Beside that it moves the boxes of the follow-up by a step of their
own, as a registration would that is off by as much as the inner tables of the two skulls are apart.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Mapping, Sequence
from dataclasses import dataclass
from functools import cache, partial
from typing import TYPE_CHECKING, TypeAlias

import numpy as np

from ichseg.arrays import BoolArray
from ichseg.errors import BoxError
from ichseg.marks.box import Box, boxes_from_mask
from ichseg.measures.spread import DRAWS, JITTER_MM, jitter_in_pixels, jittered_areas_px
from ichseg.methods.catalogue import edge_setting
from ichseg.methods.edge_step import step_of
from ichseg.scan.volume import CTVolume

if TYPE_CHECKING:
    from ichseg.methods.predictor import Predictor, SliceEmbedding

#: How far the follow-up's boxes move where no registration says how sure it is.
SHIFT_MM = 1.0


@dataclass(frozen=True)
class GrowthRange:
    """A growth under boxes that other hands might have drawn: smallest, median and largest of the draws, in mL.

    ``draws_ml`` are the growths of all draws, scaled so that both scans' own boxes give the volumes beside them.
    """

    low_ml: float
    median_ml: float
    high_ml: float
    draws_ml: tuple[float, ...]
    jitter_mm: float
    shift_mm: float

    @property
    def sentence(self) -> str:
        """For people.

        >>> GrowthRange.of([4.0, 6.0, 5.0], 3.0, 0.5).sentence
        'The growth is +4.0 to +6.0 mL when the boxes of both scans are drawn anew 3 times, each side moved by up to \
3 mm, and those of the follow-up moved by up to 0.5 mm more. It covers box and registration, not how far the method is \
from a reference.'
        """
        return (
            f"The growth is {self.low_ml:+.1f} to {self.high_ml:+.1f} mL when the boxes of both scans are drawn anew "
            f"{len(self.draws_ml)} times, each side moved by up to {self.jitter_mm:g} mm, and those of the follow-up "
            f"moved by up to {self.shift_mm:.2g} mm more. It covers box and registration, not how far the method is "
            "from a reference."
        )

    @classmethod
    def of(cls, draws_ml: Sequence[float], jitter_mm: float, shift_mm: float) -> GrowthRange:
        """From the growths of the draws."""
        low, median, high = (float(np.percentile(draws_ml, part)) for part in (0, 50, 100))
        return cls(low, median, high, tuple(map(float, draws_ml)), jitter_mm, shift_mm)


@dataclass(frozen=True, eq=False)
class Boxed:
    """One of the two scans: its mask [z, y, x] of the blood that is counted, and the boxes that it is asked with.

    Without ``boxes`` (by slice from 0) they are drawn around each connected component of the mask.
    """

    volume: CTVolume
    mask_zyx: BoolArray
    boxes: Mapping[int, Sequence[Box]] | None = None
    embed: Callable[[int], SliceEmbedding] | None = None

    def asked(self) -> dict[int, list[Box]]:
        """The boxes of every slice with blood."""
        if self.boxes is not None:
            return {k: list(boxes) for k, boxes in self.boxes.items() if boxes}
        margin_px = 1.0 / min(self.volume.geometry.spacing_yx_mm)
        slices = map(int, np.flatnonzero(self.mask_zyx.any(axis=(1, 2))))
        return {k: boxes_from_mask(self.mask_zyx[k], margin_px) for k in slices}


#: The blood in the boxes of a slice in mL, by the scan (0 or 1), the draw (None: the boxes as they are) and the slice.
Known: TypeAlias = dict[tuple[int, int | None, int], float]


def growth_range(
    predictor: Predictor,
    baseline: Boxed,
    followup: Boxed,
    *,
    edge: bool = True,
    shift_mm: float = SHIFT_MM,
    draws: int = DRAWS,
    progress: Callable[[float], None] | None = None,
) -> GrowthRange:
    """The growth again, with the boxes of both scans drawn anew.

    Args:
        predictor: the model that answers the boxes, without refinement.
        baseline: the first scan.
        followup: the second.
        edge: whether the edge at half height is drawn, where the method takes it.
        shift_mm: how far all boxes of the follow-up move at most, across and down, beside their sides' own moves.
        draws: how often.
        progress: called with the share that is done, 0 to 1.

    Raises:
        BoxError: a scan without blood.

    """
    work = growth_portions(predictor, baseline, followup, edge=edge, shift_mm=shift_mm, draws=draws)
    while True:
        try:
            share = next(work)
        except StopIteration as end:
            found: GrowthRange = end.value
            return found
        if progress is not None:
            progress(share)


def growth_portions(
    predictor: Predictor,
    baseline: Boxed,
    followup: Boxed,
    *,
    edge: bool = True,
    shift_mm: float = SHIFT_MM,
    draws: int = DRAWS,
    known: Known | None = None,
) -> Generator[float, None, GrowthRange]:
    """The work of ``growth_range`` in portions of one slice; gives the share that is done, and returns the range.

    ``known`` is what an earlier call with the same scans, boxes and settings has found; what is found goes there.
    """
    areas: Known = {} if known is None else known
    sides = [
        _Side(predictor, one, edge, moved_mm)
        for one, moved_mm in ((baseline, 0.0), (followup, shift_mm))
    ]
    asked = [
        (at, draw, k)
        for draw in (None, *range(draws))
        for at, side in enumerate(sides)
        for k in side.boxes
    ]
    for done, key in enumerate(asked, 1):
        if key not in areas:
            at, draw, k = key
            areas[key] = sides[at].slice_ml(k, draw)
            yield done / len(asked)
    own, *drawn = (
        [sum(areas[at, draw, k] for k in side.boxes) for at, side in enumerate(sides)]
        for draw in (None, *range(draws))
    )
    # What other slices hold, or a refinement or a hand has changed, stands beside in proportion.
    scales = [side.mask_ml / ml if ml else 1.0 for side, ml in zip(sides, own, strict=True)]
    found = [after * scales[1] - before * scales[0] for before, after in drawn]
    return GrowthRange.of(found, JITTER_MM, shift_mm)


class _Side:
    """One scan whose boxes are drawn anew."""

    def __init__(self, predictor: Predictor, one: Boxed, edge: bool, shift_mm: float) -> None:
        self.predictor, self.one, self.shift_mm = predictor, one, shift_mm
        self.boxes = one.asked()
        if not self.boxes:
            raise BoxError(
                "A range of growth is that of blood in boxes on both scans; one of them has none; mark it."
            )
        self.embed = one.embed or cache(lambda k: predictor.embed(one.volume.hu_zyx[k]))
        self.step = step_of(one.volume) if edge_setting(predictor.name, edge) else None
        areas_px = np.count_nonzero(one.mask_zyx, axis=(1, 2))
        self.mask_ml = float(areas_px @ one.volume.voxel_volumes_ml)

    def slice_ml(self, k: int, draw: int | None) -> float:
        """The blood in a slice's boxes, in mL, as they are (None) or as a draw has them."""
        volume, name = self.one.volume, self.predictor.name
        areas_px = jittered_areas_px(
            self.predictor,
            self.embed(k),
            self.boxes[k] if draw is None else self._moved(self.boxes[k], draw),
            jitter_xy_px=(0.0, 0.0) if draw is None else jitter_in_pixels(volume),
            draws=1,
            first=draw or 0,
            edge=None if self.step is None else partial(self.step, name, k),
        )
        return float(areas_px[0] * volume.voxel_volumes_ml[k])

    def _moved(self, boxes: Sequence[Box], draw: int) -> list[Box]:
        """The boxes as a registration has them that is off by this draw's step."""
        shift = np.random.default_rng([1, draw]).uniform(-self.shift_mm, self.shift_mm, 2)
        dy, dx = self.one.volume.geometry.spacing_yx_mm
        right, down = shift[0] / dx, shift[1] / dy
        rows_columns = self.one.volume.shape_zyx[1:]
        there = [
            Box(box.x0 + right, box.y0 + down, box.x1 + right, box.y1 + down).clip(rows_columns)
            for box in boxes
        ]
        return [
            new if new.width >= 1 and new.height >= 1 else old
            for new, old in zip(there, boxes, strict=True)
        ]
