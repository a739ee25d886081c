"""How much a propagated volume depends on who drew the boxes: the same hematoma from other slices and other boxes.

``measure.volume_range`` moves boxes where they were drawn. A volume that was propagated from there depends on the
slice as well, for a person might have begun on another one. So each draw begins on one of the slices on which the
hematoma is seen, with a box around what was found there as wide as the person's own, each side moved as
``volume_range`` moves it, and is propagated anew.
"""

from __future__ import annotations

import itertools
import math
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, TypeAlias

import numpy as np
import numpy.typing as npt

from ichseg.marks.box import Box, box_from_mask, boxes_from_mask, jitter
from ichseg.measures.measure import DRAWS, JITTER_MM, VolumeRange, jitter_in_pixels, volume_ml
from ichseg.methods.follow import Rule, propagate_lesions
from ichseg.scan.volume import CTVolume

if TYPE_CHECKING:
    from ichseg.methods.predictor import Predictor, SliceEmbedding

BoolArray = npt.NDArray[np.bool_]
#: Boxes that a propagation may begin with, by slice from 0.
Start: TypeAlias = tuple[tuple[int, tuple[Box, ...]], ...]

#: A person might begin on a slice on which the hematoma has this share of its largest area.
LEAST_SHARE = 0.05
#: ``propagated_range`` begins no further draw after so long.
MOST_SECONDS = 120.0


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
    embed: Callable[[int], SliceEmbedding] | None = None,
    cancelled: Callable[[], bool] | None = None,
) -> float | None:
    """The volume of one draw in mL, from ``options`` (``starts``) by turns; None where it was cancelled.

    Draw i moves the sides of all boxes by the same parts as ``measure.volume_range`` does; None is the person's own
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
    return None if found.cancelled else volume_ml(found.mask_zyx(), volume)


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


def propagated_range(
    predictor: Predictor,
    volume: CTVolume,
    mask_zyx: BoolArray,
    drawn: Mapping[int, Sequence[Box]],
    *,
    rule: Rule | None = None,
    embed: Callable[[int], SliceEmbedding] | None = None,
    progress: Callable[[float], None] | None = None,
    most_seconds: float = MOST_SECONDS,
) -> VolumeRange:
    """The millilitres of a propagated mask from other boxes on other slices.

    Args:
        predictor: the model that the mask is from.
        volume: the scan.
        mask_zyx: what was propagated, bool [z, y, x].
        drawn: the boxes that it was propagated from, by slice from 0.
        rule: of the propagation.
        embed: slice index to its embedding by this predictor, for a caller that keeps them; else they are kept here.
        progress: called with the share that is done, 0 to 1.
        most_seconds: no draw is begun after so long; one at least is done.

    """
    kept: dict[int, SliceEmbedding] = {}

    def keep(k: int) -> SliceEmbedding:
        if k not in kept:
            kept[k] = predictor.embed(volume.hu_zyx[k])
        return kept[k]

    options, end = starts(mask_zyx, drawn), time.monotonic() + most_seconds

    def one(draw: int | None) -> float:
        ml = propagated_ml(predictor, volume, options, draw, rule=rule, embed=embed or keep)
        assert ml is not None  # nobody cancels it
        return ml

    own_ml, draws_ml = one(None), [one(0)]
    while len(draws_ml) < DRAWS and time.monotonic() < end:
        draws_ml.append(one(len(draws_ml)))
        if progress is not None:
            progress(len(draws_ml) / DRAWS)
    return range_of(draws_ml, own_ml, volume_ml(mask_zyx, volume), options)
