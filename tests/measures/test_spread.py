"""The range of a propagated volume: from other slices and other boxes, on a phantom whose answers are known."""

from __future__ import annotations

from typing import Any

import numpy as np
import phantoms
import pytest

from ichseg.marks.box import Box
from ichseg.measures import spread
from ichseg.measures.ranges import Drawn, Ranges
from ichseg.measures.spread import DRAWS
from ichseg.measures.volume import volume_ml
from ichseg.methods.follow_rule import Rule
from ichseg.methods.propagation import propagate_lesions
from ichseg.methods.threshold import ThresholdPredictor
from ichseg.scan.volume import CTVolume
from tests.moved_boxes import volume_range


def a_spindle() -> tuple[CTVolume, np.ndarray[Any, np.dtype[np.bool_]]]:
    """Blood on slices 2 to 8 of 11 that widens to the middle, and its mask."""
    volume = phantoms.scan(tuple(5.0 * k for k in range(11)), (64, 64), (1.0, 1.0))
    mask = np.zeros(volume.shape_zyx, dtype=bool)
    for k, half in zip(range(2, 9), (3, 6, 9, 11, 9, 6, 3), strict=True):
        mask[k, 30 - half : 30 + half, 32 - half : 32 + half] = True
    hu = np.where(mask, 65, volume.hu_zyx).astype(np.int16)
    return CTVolume(hu, volume.geometry, "spindle"), mask


def test_a_propagation_might_have_begun_on_any_slice_with_a_box_as_wide_as_the_persons() -> None:
    _, mask = a_spindle()
    drawn = Box(19, 17, 45, 43)  # 2 px around the largest slice
    options = spread.starts(mask, {5: [drawn]})
    assert [start[0][0] for start in options] == [5, 2, 8, 3, 7, 4, 6]
    assert options[0] == ((5, (drawn,)),)
    assert options[1] == ((2, (Box(27, 25, 37, 35),)),)


def test_a_tip_is_no_place_to_begin() -> None:
    _, mask = a_spindle()
    mask[9, 30:33, 30:33] = True  # 9 of the 484 pixels of the largest slice
    assert 9 not in {start[0][0] for start in spread.starts(mask, {5: [Box(19, 17, 45, 43)]})}


def test_boxes_on_several_slices_move_together_and_no_more_than_half_way() -> None:
    _, mask = a_spindle()
    drawn = {3: [Box(24, 22, 40, 38)], 6: [Box(21, 19, 43, 41)]}
    options = spread.starts(mask, drawn)
    assert [tuple(k for k, _ in start) for start in options] == [(3, 6), (2, 5), (4, 7)]


def test_several_boxes_on_a_slice_are_one_for_each_connected_component() -> None:
    mask = np.zeros((3, 20, 20), dtype=bool)
    mask[:, 2:6, 2:6] = mask[:, 12:18, 12:18] = True
    drawn = {1: [Box(2, 2, 6, 6), Box(12, 12, 18, 18)]}
    for start in spread.starts(mask, drawn):
        assert start[0][1] == (Box(2, 2, 6, 6), Box(12, 12, 18, 18))


def within(
    volume: CTVolume,
    mask_zyx: np.ndarray[Any, np.dtype[np.bool_]],
    drawn: dict[int, list[Box]],
    most_seconds: float = 600.0,
) -> spread.VolumeRange:
    """The range of a mask that was propagated by thresholding, in so much time."""
    predictor = ThresholdPredictor()
    of = Drawn(
        model="threshold",
        refined=False,
        edge=False,
        labels_zyx=mask_zyx.astype(np.uint8),
        blood=(1,),
        boxes={1: {k: tuple(boxes) for k, boxes in drawn.items()}},
        rules={1: Rule()},
        clipped=frozenset(),
        no_range={},
    )
    found = Ranges().within(
        of,
        volume,
        {1: volume_ml(mask_zyx, volume)},
        predictor,
        lambda k: predictor.embed(volume.hu_zyx[k]),
        most_seconds=most_seconds,
    )
    assert found[None].draws_ml == found[1].draws_ml
    return found[1]


def test_the_range_is_of_propagations_from_all_of_them() -> None:
    volume, _ = a_spindle()
    predictor, drawn = ThresholdPredictor(), {5: [Box(19, 17, 45, 43)]}
    found = propagate_lesions(predictor, volume, {1: drawn}).mask_zyx()
    options = spread.starts(found, drawn)
    given = within(volume, found, drawn)
    expected = [spread.propagated_ml(predictor, volume, options, draw) for draw in range(DRAWS)]
    assert given.draws_ml == pytest.approx(expected)
    assert given.from_slices == tuple(sorted(start[0][0] for start in options))
    assert f"slices {given.from_slices[0] + 1} to {given.from_slices[-1] + 1} " in given.covers
    assert "the choice of slice and box" in given.covers and not given.carried_over
    assert spread.propagated_ml(predictor, volume, options, None) == volume_ml(found, volume)


def test_it_is_bounded_in_time_and_says_how_often_it_drew() -> None:
    volume, _ = a_spindle()
    predictor, drawn = ThresholdPredictor(), {5: [Box(19, 17, 45, 43)]}
    found = propagate_lesions(predictor, volume, {1: drawn}).mask_zyx()
    given = within(volume, found, drawn, most_seconds=0)
    assert len(given.draws_ml) == 1 and given.from_slices == (5,)
    assert given.covers.startswith(
        "when it is propagated anew 1 time, from slice 6 (--slice 5), with"
    )


def upper_half(
    k: int, mask_yx: np.ndarray[Any, Any], of_slabs: bool = False
) -> np.ndarray[Any, Any]:
    """A step after the model's answer: what lies above row 30, and nothing on slice 2."""
    return mask_yx & (np.arange(mask_yx.shape[0])[:, None] < 30) & (k != 2)


def test_the_range_has_the_step_that_its_volume_has() -> None:
    """With a step that keeps three of seven equal slices the range is three sevenths of the one without."""
    volume = phantoms.scan(tuple(5.0 * k for k in range(7)), (64, 64), (1.0, 1.0))
    hu = volume.hu_zyx.copy()
    hu[:, 20:40, 20:40] = 65
    volume = CTVolume(hu, volume.geometry, "column")
    boxes = {k: [Box(18, 18, 42, 42)] for k in range(7)}
    whole = volume_range(ThresholdPredictor(), volume, boxes)
    three = volume_range(
        ThresholdPredictor(), volume, boxes, edge=lambda k, mask_yx: mask_yx & (k < 3)
    )
    assert three.draws_ml == pytest.approx(np.array(whole.draws_ml) * 3 / 7)


def test_the_range_of_a_propagation_has_the_step_that_its_volume_has() -> None:
    volume, _ = a_spindle()
    predictor, drawn = ThresholdPredictor(), {5: [Box(19, 17, 45, 43)]}
    found = propagate_lesions(predictor, volume, {1: drawn}).mask_zyx()
    edged = np.stack([upper_half(k, mask_yx) for k, mask_yx in enumerate(found)])
    options = spread.starts(edged, drawn)
    own_ml, first_ml = (
        spread.propagated_ml(predictor, volume, options, draw, edge=upper_half)
        for draw in (None, 0)
    )
    assert own_ml == pytest.approx(volume_ml(edged, volume))
    assert first_ml == pytest.approx(own_ml, rel=0.2)


def test_beside_a_volume_that_was_refined_or_clipped_it_is_in_proportion() -> None:
    start: spread.Start = ((3, (Box(0, 0, 4, 4),)),)
    given = spread.range_of([9.0, 12.0, 10.0], 10.0, 5.0, [start])
    assert (given.low_ml, given.high_ml, given.carried_over) == (4.5, 6.0, True)
    assert "scaled to this volume" in given.covers
    nothing = spread.range_of([0.0, 1.0], 0.0, 2.0, [start])
    assert (nothing.low_ml, nothing.high_ml) == (0.0, 1.0)
