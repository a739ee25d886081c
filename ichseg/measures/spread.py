"""How much a propagated volume depends on who drew the boxes: the same hematoma from other slices and other boxes.

``jittered_areas_px`` moves boxes where they were drawn. A volume that was propagated from there depends on the
slice as well, for a person might have begun on another one. So each draw begins on one of the slices on which the
hematoma is seen, with a box around what was found there as wide as the person's own, each side moved as
``jittered_areas_px`` moves it, and is propagated anew. ``ranges`` says which of the two a volume has.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, TypeAlias

import numpy as np
import numpy.typing as npt

from ichseg.marks.box import Box, box_from_mask, boxes_from_mask, jitter
from ichseg.measures.volume import volume_ml
from ichseg.methods.follow_rule import Rule
from ichseg.methods.propagation import propagate_lesions
from ichseg.scan.slabs import SliceOrSlab
from ichseg.scan.volume import CTVolume

if TYPE_CHECKING:
    from ichseg.methods.predictor import Predictor, SliceEmbedding

BoolArray = npt.NDArray[np.bool_]
#: Boxes that a propagation may begin with, by slice from 0.
Start: TypeAlias = tuple[tuple[int, tuple[Box, ...]], ...]

#: One model's ``marks.state.EdgeStep``: slice, mask [y, x], and whether that lies between two slabs', to a mask [y, x].
EdgeStep: TypeAlias = Callable[[int, BoolArray, bool], BoolArray]

#: A person might begin on a slice on which the hematoma has this share of its largest area.
LEAST_SHARE = 0.05
#: How often the boxes are drawn anew for a range, and how far each side moves at most.
DRAWS, JITTER_MM = 16, 3.0


@dataclass(frozen=True)
class VolumeRange:
    """A volume under boxes that other hands might have drawn: smallest, median and largest of the draws.

    It says how much the box matters, and nothing of what the model gets wrong whatever the box. ``carried_over`` says
    whether it was taken of a model's first answer and brought to the volume beside it in proportion. ``from_slices``
    are those, from 0, on which a propagation began (``spread``); empty where boxes moved on their own slices alone.
    """

    low_ml: float
    median_ml: float
    high_ml: float
    draws_ml: tuple[float, ...]
    jitter_mm: float
    seed: int
    carried_over: bool = False
    from_slices: tuple[int, ...] = ()

    @property
    def covers(self) -> str:
        """What was varied, and what the range is not, for people.

        >>> VolumeRange.of([9.0, 12.0], from_slices=[8, 9, 10]).covers
        'when it is propagated anew 2 times, from slices 9 to 11 (--slice 8 to 10) by turns, with each side of a box \
moved by up to 3 mm. It covers the choice of slice and box, not how far the model is from a reference'
        """
        count, move = len(self.draws_ml), f"moved by up to {self.jitter_mm:g} mm"
        times = f"{count} time{'' if count == 1 else 's'}"
        if self.from_slices:
            low, high = self.from_slices[0], self.from_slices[-1]
            where = (
                f"slice {low + 1} (--slice {low})"
                if low == high
                else f"slices {low + 1} to {high + 1} (--slice {low} to {high}) by turns"
            )
            how = (
                f"when it is propagated anew {times}, from {where}, with each side of a box {move}"
            )
            of = "the choice of slice and box"
        else:
            how = f"when the boxes are drawn anew {times} on their slices, each side {move}"
            of = "the choice of box"
        carried = (
            " It was taken before any refinement, without other lesions, and scaled to this volume."
            if self.carried_over
            else ""
        )
        return f"{how}.{carried} It covers {of}, not how far the model is from a reference"

    @classmethod
    def of(
        cls,
        draws_ml: npt.ArrayLike,
        jitter_mm: float = JITTER_MM,
        seed: int = 0,
        from_slices: Sequence[int] = (),
    ) -> VolumeRange:
        """The range of these draws, one volume each.

        >>> VolumeRange.of([9.0, 12.0, 10.0]).carried_to(20.0).high_ml
        24.0
        """
        draws = np.asarray(draws_ml, dtype=np.float64)
        return cls(
            low_ml=float(draws.min()),
            median_ml=float(np.median(draws)),
            high_ml=float(draws.max()),
            draws_ml=tuple(float(ml) for ml in draws),
            jitter_mm=jitter_mm,
            seed=seed,
            from_slices=tuple(from_slices),
        )

    @classmethod
    def together(cls, ranges: Sequence[VolumeRange]) -> VolumeRange:
        """The range of several lesions' volume: one draw moves the boxes of all alike, so that their volumes add up."""
        draws = np.sum([one.draws_ml for one in ranges], axis=0)
        slices = sorted({k for one in ranges for k in one.from_slices})
        made = cls.of(draws, ranges[0].jitter_mm, ranges[0].seed, slices)
        return replace(made, carried_over=any(one.carried_over for one in ranges))

    def carried_to(self, ml: float) -> VolumeRange:
        """The same extent about another volume: for an answer with refinement, which 16 draws of would take long.

        A range about nothing stays as it is.
        """
        return self if self.median_ml == 0 else self.scaled(ml / self.median_ml)

    def scaled(self, factor: float) -> VolumeRange:
        """Every draw times a factor."""
        draws = np.array(self.draws_ml) * factor
        made = VolumeRange.of(draws, self.jitter_mm, self.seed, self.from_slices)
        return replace(made, carried_over=True)


def range_of_areas(
    areas_px: Mapping[int, npt.NDArray[np.int64]],
    volume: CTVolume,
    jitter_mm: float = JITTER_MM,
    seed: int = 0,
) -> VolumeRange:
    """The range of the areas that ``jittered_areas_px`` gave, by slice from 0: draw i of all slices is one volume."""
    total_ml = sum(areas * volume.voxel_volumes_ml[k] for k, areas in sorted(areas_px.items()))
    return VolumeRange.of(total_ml, jitter_mm, seed)


def jittered_areas_px(
    predictor: Predictor,
    embedding: SliceEmbedding,
    boxes: Sequence[Box],
    *,
    jitter_xy_px: tuple[float, float],
    draws: int = DRAWS,
    first: int = 0,
    second_look: bool | None = False,
    edge: Callable[[BoolArray], BoolArray] | None = None,
    seed: int = 0,
) -> npt.NDArray[np.int64]:
    """How many pixels of a slice are blood under each of several draws of its boxes, int64 [draws].

    Draw i moves the sides of all boxes by the same parts of ``jitter_xy_px``, on this slice as on any other: the hand
    that draws a wide box on one slice draws wide ones on the next, and independent moves would average out. ``first``
    is the number of the first draw, for who asks for them in portions; ``edge`` the step after the model's answer.
    Without ``second_look`` a draw is the instant answer from the slice's embedding; the extent of such a range
    relative to its median is what carries over to a slower answer.
    """
    moved = [
        jitter(box, jitter_xy_px, np.random.default_rng([seed, draw]), embedding.shape_yx)
        for draw in range(first, first + draws)
        for box in boxes
    ]
    masks = predictor.predict(embedding, moved, second_look=second_look).masks
    unions = np.asarray(masks.reshape(draws, len(boxes), *embedding.shape_yx).any(axis=1))
    if edge is not None:
        unions = np.stack([edge(union) for union in unions])
    return np.asarray(np.count_nonzero(unions, axis=(1, 2)), dtype=np.int64)


def jitter_in_pixels(volume: CTVolume, jitter_mm: float = JITTER_MM) -> tuple[float, float]:
    """How far a box's sides move at most, across and down, in pixels of a scan's slices."""
    dy, dx = volume.geometry.spacing_yx_mm
    return jitter_mm / dx, jitter_mm / dy


def starts(mask_zyx: BoolArray, drawn: Mapping[int, Sequence[Box]]) -> tuple[Start, ...]:
    """Where other hands might have drawn a lesion's boxes: as they are, and on other slices.

    Args:
        mask_zyx: what was propagated from ``drawn``, bool [z, y, x].
        drawn: a person's boxes by slice, from 0.

    Returns:
        The drawn boxes, then what lies farthest from them, from both ends inwards. All drawn slices move together, by
        no more than half of the way to each other, and only onto slices with LEAST_SHARE of the largest area. A box
        there is around what was found, wider by the mean that the drawn boxes are wider. Where a slice was given
        several boxes, each connected component has its own.

    """
    areas = np.count_nonzero(mask_zyx, axis=(1, 2))
    seen = {int(k) for k in np.flatnonzero(areas >= max(1, LEAST_SHARE * areas.max(initial=0)))}
    slices = sorted(drawn)
    halves = [(high - low) // 2 for low, high in itertools.pairwise(slices)]
    most = min(halves, default=len(areas))
    moves = [
        step for step in range(-most, most + 1) if step and all(k + step in seen for k in slices)
    ]
    margin_px = _margin_px(mask_zyx, drawn)
    found: list[Start] = [tuple((k, tuple(drawn[k])) for k in slices)]
    for step in _from_the_ends(moves):
        found.append(
            tuple(
                (k + step, _boxes_around(mask_zyx[k + step], margin_px, len(drawn[k]) > 1))
                for k in slices
            )
        )
    return tuple(found)


def _from_the_ends(values: Sequence[int]) -> Iterator[int]:
    """The first, the last, the second, the last but one, and so on."""
    low, high = 0, len(values) - 1
    while low <= high:
        yield values[low]
        if low < high:
            yield values[high]
        low, high = low + 1, high - 1


def _boxes_around(mask_yx: BoolArray, margin_px: float, several: bool) -> tuple[Box, ...]:
    if several:
        return tuple(boxes_from_mask(mask_yx, margin_px))
    box = box_from_mask(mask_yx, margin_px)
    assert box is not None  # the slice has some of the mask
    return (box,)


def _margin_px(mask_zyx: BoolArray, drawn: Mapping[int, Sequence[Box]]) -> float:
    """How far a side of the drawn boxes lies outside of what was found in them, on average, in pixels."""
    margins = []
    for k, boxes in drawn.items():
        for box in boxes:
            inside = np.zeros_like(mask_zyx[k])
            inside[box.slices()] = mask_zyx[k][box.slices()]
            tight = box_from_mask(inside)
            if tight is not None:
                low = (tight.x0 - box.x0, tight.y0 - box.y0)
                margins += [*low, box.x1 - tight.x1, box.y1 - tight.y1]
    return max(0.0, float(np.mean(margins))) if margins else 0.0


def propagated_ml(
    predictor: Predictor,
    volume: CTVolume,
    options: Sequence[Start],
    draw: int | None,
    *,
    rule: Rule | None = None,
    edge: EdgeStep | None = None,
    embed: Callable[[SliceOrSlab], SliceEmbedding] | None = None,
    cancelled: Callable[[], bool] | None = None,
) -> float | None:
    """The volume of one draw in mL, from ``options`` (``starts``) by turns; None where it was cancelled.

    Draw i moves the sides of all boxes by the same parts as ``jittered_areas_px`` does; None is the person's own
    boxes as they are, to which the others compare.
    """

    def moved(box: Box) -> Box:
        if draw is None:
            return box
        hand = np.random.default_rng([0, draw])
        return jitter(box, jitter_in_pixels(volume), hand, volume.shape_zyx[1:])

    start = options[0 if draw is None else draw % len(options)]
    boxes = {k: [moved(box) for box in drawn] for k, drawn in start}
    found = propagate_lesions(
        predictor, volume, {1: boxes}, rule=rule, embed=embed, cancelled=cancelled
    )
    if found.cancelled:
        return None
    mask_zyx = found.mask_zyx()
    if edge is not None:
        for k, one in found.found[1].items():
            if cancelled is not None and cancelled():
                return None
            if one.mask_yx.any():
                mask_zyx[k] = edge(k, one.mask_yx, not one.boxes)
    return volume_ml(mask_zyx, volume)


def range_of(
    draws_ml: Sequence[float], own_ml: float, now_ml: float, options: Sequence[Start]
) -> VolumeRange:
    """The range of draws about a volume.

    Args:
        draws_ml: of ``propagated_ml``, draw by draw.
        own_ml: what the person's own boxes give in the same way.
        now_ml: the volume that the range stands beside. Where it is another than ``own_ml``, for it was refined or
            gave way to another lesion, the range is scaled to it.
        options: the ``starts``.

    """
    slices = sorted({k for start in options[: len(draws_ml)] for k, _ in start})
    found = VolumeRange.of(draws_ml, JITTER_MM, from_slices=slices)
    same = own_ml == 0 or math.isclose(own_ml, now_ml, rel_tol=1e-6)
    return found if same else found.scaled(now_ml / own_ml)
