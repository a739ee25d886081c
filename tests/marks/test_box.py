"""Boxes: half-open, native pixels, validated with one sentence."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ichseg.errors import BoxError
from ichseg.marks.box import Box, as_boxes, box_from_mask, boxes_from_mask, jitter

SHAPE = (40, 60)


def test_one_pixel_has_a_box_of_one_pixel() -> None:
    mask = np.zeros(SHAPE, bool)
    mask[2, 3] = True
    assert box_from_mask(mask) == Box(3, 2, 4, 3)
    assert box_from_mask(mask, 3) == Box(0, 0, 7, 6)


def test_an_empty_mask_has_no_box() -> None:
    assert box_from_mask(np.zeros(SHAPE, bool)) is None
    assert boxes_from_mask(np.zeros(SHAPE, bool)) == []


def test_components_that_touch_at_a_corner_are_one() -> None:
    mask = np.zeros(SHAPE, bool)
    mask[5, 5] = mask[6, 6] = True
    mask[20:25, 30:33] = True
    assert boxes_from_mask(mask) == [Box(5, 5, 7, 7), Box(30, 20, 33, 25)]


@pytest.mark.parametrize(
    ("box", "rule", "received"),
    [
        (Box(math.nan, 0, 5, 5), "finite", "nan"),
        (Box(0, 0, math.inf, 5), "finite", "inf"),
        (Box(10, 5, 4, 8), "x0 < x1", "10, 5, 4, 8"),
        (Box(4, 5, 4, 8), "x0 < x1", "4, 5, 4, 8"),
        (Box(70, 5, 80, 8), "60 columns by 40 rows", "70, 5, 80, 8"),
        (Box(-9, -9, -1, -1), "60 columns by 40 rows", "-9, -9, -1, -1"),
    ],
)
def test_a_bad_box_is_refused_in_a_sentence(box: Box, rule: str, received: str) -> None:
    with pytest.raises(BoxError) as error:
        box.validate(SHAPE)
    assert rule in str(error.value)
    assert received in str(error.value)
    assert str(error.value).endswith(".")


def test_a_box_that_overhangs_is_cut_to_the_slice() -> None:
    assert Box(-5, 30, 20, 90).validate(SHAPE) == Box(0, 30, 20, 40)


@pytest.mark.parametrize("text", ["", "1,2,3", "1,2,3,4,5", "a,b,c,d", "1 2 3 4"])
def test_text_that_is_no_box_is_refused(text: str) -> None:
    with pytest.raises(BoxError, match="four numbers"):
        Box.parse(text)


def test_rows_of_the_wrong_length_are_refused_by_number() -> None:
    with pytest.raises(BoxError, match="box 1 has 3"):
        as_boxes([(0, 0, 5, 5), (1, 2, 3)], SHAPE)


def test_an_array_of_boxes_is_taken() -> None:
    assert as_boxes(np.array([[1, 2, 3, 4]]), SHAPE) == [Box(1, 2, 3, 4)]


sides = st.tuples(st.integers(0, 58), st.integers(0, 38), st.integers(1, 30), st.integers(1, 30))


@given(sides, st.floats(0, 25), st.integers(0, 1000))
def test_a_jittered_box_stays_a_box_on_the_slice(
    place: tuple[int, int, int, int], extent: float, seed: int
) -> None:
    x, y, width, height = place
    box = Box(x, y, x + width, y + height).clip(SHAPE)
    moved = jitter(box, extent, np.random.default_rng(seed), SHAPE)
    assert moved.validate(SHAPE) == moved
    for before, after in zip(box.xyxy, moved.xyxy, strict=True):
        assert (
            abs(before - after) <= extent + 1.5
        )  # one pixel is kept between sides that would cross


@given(st.lists(st.tuples(st.integers(0, 39), st.integers(0, 59)), min_size=1, max_size=30))
def test_the_box_of_a_mask_is_tight(points: list[tuple[int, int]]) -> None:
    mask = np.zeros(SHAPE, bool)
    mask[tuple(np.array(points).T)] = True
    box = box_from_mask(mask)
    assert box is not None
    inside = mask[box.slices()]
    assert inside.sum() == mask.sum()
    assert inside[0].any() and inside[-1].any() and inside[:, 0].any() and inside[:, -1].any()
    components = boxes_from_mask(mask)
    assert min(component.x0 for component in components) == box.x0
    assert max(component.y1 for component in components) == box.y1


def test_jitter_may_reach_farther_along_one_axis() -> None:
    rng = np.random.default_rng(4)
    boxes = [jitter(Box(100, 100, 200, 200), (20.0, 2.0), rng, (300, 300)) for _ in range(200)]
    moved = np.abs([np.subtract(box.xyxy, (100, 100, 200, 200)) for box in boxes]).max(axis=0)
    assert (moved[[0, 2]] > 15).all() and (moved[[0, 2]] <= 20).all()
    assert (moved[[1, 3]] > 1.5).all() and (moved[[1, 3]] <= 2).all()
    same = [
        jitter(Box(9, 9, 20, 20), extent, np.random.default_rng(1), (40, 40))
        for extent in (3.0, (3.0, 3.0))
    ]
    assert same[0] == same[1]
