"""Windows, and the one geometry that image, box and logits share."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ichseg.errors import BoxError
from ichseg.marks.box import Box, box_from_mask
from ichseg.methods.frame import BONE, BRAIN, PAPER, SUBDURAL, SliceFrame, Window

UNIT = Window(width=1, level=0.5)


@pytest.mark.parametrize(
    ("window", "low", "high"),
    [(PAPER, 30, 100), (BRAIN, 0, 80), (SUBDURAL, -20, 180), (BONE, -500, 1500)],
)
def test_a_window_maps_its_ends_to_black_and_white(window: Window, low: float, high: float) -> None:
    assert (window.low, window.high) == (low, high)
    assert window.apply([low - 1, low, (low + high) / 2, high, high + 1]).tolist() == [
        0,
        0,
        0.5,
        1,
        1,
    ]


def test_a_window_does_not_look_at_the_slices_own_range() -> None:
    dim = PAPER.apply(np.full((4, 4), 37))
    assert np.allclose(dim, 0.1)


def test_512_to_256_is_the_mean_of_four_pixels() -> None:
    values = np.random.default_rng(0).random((512, 512))
    expected = values.reshape(256, 2, 256, 2).mean(axis=(1, 3))
    np.testing.assert_allclose(SliceFrame((512, 512)).image(values, UNIT), expected, atol=1e-6)


@given(st.integers(20, 700), st.integers(20, 700))
@settings(max_examples=30, deadline=None)
def test_a_constant_slice_stays_constant_and_keeps_its_shape(rows: int, columns: int) -> None:
    frame = SliceFrame((rows, columns))
    image = frame.image(np.full((rows, columns), 0.4), UNIT)
    high, wide = (round(side * frame.scale) for side in (rows, columns))
    assert max(high, wide) == 256
    filled = np.argwhere(image > 0.2)
    assert abs(filled[:, 0].max() + 1 - high) <= 1
    assert abs(filled[:, 1].max() + 1 - wide) <= 1
    np.testing.assert_allclose(image[image > 0.2], 0.4, atol=1e-5)


def test_a_wide_slice_fills_the_top_of_the_frame() -> None:
    image = SliceFrame((100, 200)).image(np.ones((100, 200)), UNIT)
    assert image[:128].min() == 1
    assert image[128:].max() == 0


def test_a_box_and_the_image_agree() -> None:
    """A painted rectangle lies in the frame where its box says, its last pixel included."""
    slice_hu = np.zeros((300, 512))
    slice_hu[40:120, 200:360] = 1
    frame = SliceFrame((300, 512))
    small = frame.image(slice_hu, UNIT) >= 0.5
    x0, y0, x1, y1 = frame.box(Box(200, 40, 360, 120))
    rows, columns = np.flatnonzero(small.any(1)), np.flatnonzero(small.any(0))
    assert (columns[0], rows[0], columns[-1], rows[-1]) == (x0, y0, x1, y1)


def test_logits_come_back_to_where_they_were_seen() -> None:
    shape = (300, 512)
    reference = np.zeros(shape, bool)
    reference[40:120, 200:360] = True
    frame = SliceFrame(shape)
    logits = np.where(frame.mask(reference), 5, -5).astype(np.float32)
    back = frame.logits(logits) > 0
    assert np.logical_xor(back, reference).sum() <= 4 * (80 + 160)  # within a pixel of the edge
    assert box_from_mask(back[50:110, 210:350]) == Box(0, 0, 140, 60)


@given(
    st.integers(-40, 260),
    st.integers(-40, 260),
    st.integers(16, 200),
    st.floats(0.2, 0.8),
    st.floats(0.2, 0.8),
)
@settings(max_examples=40, deadline=None)
def test_a_crops_frame_is_the_slices_own_place(
    x: int, y: int, side: int, part_x: float, part_y: float
) -> None:
    """A bright native pixel shows in the crop's frame where the frame's box of it lies, or not at all."""
    shape = (280, 280)
    region = Box(x, y, x + side, y + side)
    point_x, point_y = int(x + part_x * side), int(y + part_y * side)
    slice_hu = np.zeros(shape)
    if not (0 <= point_x < 280 and 0 <= point_y < 280):
        return
    slice_hu[point_y, point_x] = 1
    frame = SliceFrame(shape, region)
    image = frame.image(slice_hu, UNIT)
    row, column = np.unravel_index(image.argmax(), image.shape)
    x0, y0, x1, y1 = frame.box(Box(point_x, point_y, point_x + 1, point_y + 1))
    assert x0 - 1 <= column <= x1 + 1
    assert y0 - 1 <= row <= y1 + 1


def test_outside_a_crop_there_is_no_answer() -> None:
    frame = SliceFrame((100, 100), Box(20, 30, 60, 70))
    native = frame.logits(np.ones((256, 256), np.float32))
    assert np.isneginf(native[:30]).all() and np.isneginf(native[:, 60:]).all()
    assert (native[30:70, 20:60] == 1).all()


@given(
    st.integers(20, 600),
    st.integers(20, 600),
    st.sampled_from([64, 256]),
    st.integers(0, 1000),
    st.booleans(),
)
@settings(max_examples=40, deadline=None)
def test_what_is_positive_is_the_same_found_in_part_or_in_whole(
    rows: int, columns: int, side: int, seed: int, stretch: bool
) -> None:
    """Blobs anywhere, of a slice, of a crop and of one that overhangs, from logits of the frame's size and coarser."""
    rng = np.random.default_rng(seed)
    logits = np.full((side, side), -3.0, np.float32)
    for _ in range(rng.integers(0, 3)):
        y, x = rng.integers(0, side, 2)
        logits[y : y + rng.integers(1, side), x : x + rng.integers(1, side)] = rng.uniform(0.1, 5)
    x0, y0 = rng.integers(-20, columns - 10), rng.integers(-20, rows - 10)
    crop = Box(float(x0), float(y0), float(x0 + 64), float(y0 + 64))
    for region in (Box(0, 0, columns, rows), crop):
        frame = SliceFrame((rows, columns), region, 256, stretch)
        whole = frame.logits(logits)
        differs = frame.positive(logits) != (whole > 0)
        assert not differs[np.abs(whole) > 1e-5].any()  # where rounding cannot decide
        assert frame.positive(logits).dtype == bool


def test_nothing_positive_is_an_empty_mask() -> None:
    assert not SliceFrame((90, 70)).positive(np.full((256, 256), -1, np.float32)).any()


def test_a_frame_refuses_another_slices_shape_and_half_pixels() -> None:
    with pytest.raises(BoxError, match=r"\(10, 10\)"):
        SliceFrame((10, 10)).image(np.zeros((10, 11)))
    with pytest.raises(BoxError, match="whole pixels"):
        SliceFrame((10, 10), Box(0.5, 0, 5, 5))
