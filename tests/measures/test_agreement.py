"""Agreement of two masks against answers worked out by hand, on grids whose spacings and heights differ."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ichseg.errors import InputError
from ichseg.measures.agreement import compare, dice, jaccard, surface_dice
from tests import phantoms


def square(y0: int, y1: int, x0: int, x1: int, shape: tuple[int, int] = (10, 12)) -> np.ndarray:
    mask = np.zeros(shape, dtype=bool)
    mask[y0:y1, x0:x1] = True
    return mask


# The scores


@settings(deadline=None, max_examples=30)
@given(st.integers(0, 2**18 - 1), st.integers(0, 2**18 - 1))
def test_jaccard_and_dice_are_the_same_score_read_differently(first: int, second: int) -> None:
    a, b = (np.array([n >> i & 1 for i in range(18)], bool) for n in (first, second))
    d, j = dice(a, b), jaccard(a, b)
    assert math.isnan(j) if math.isnan(d) else j == pytest.approx(d / (2 - d))


def test_surface_dice_of_a_bar_moved_one_pixel_on_anisotropic_spacing() -> None:
    # A 1 px high, 4 px wide bar is all boundary. Moved by one row it is dy away, by one column dx.
    bar = square(4, 5, 3, 7)
    down, right = square(5, 6, 3, 7), square(4, 5, 4, 8)
    spacing = (3.0, 0.5)
    assert surface_dice(bar, down, spacing_mm=spacing, tolerance_mm=2.9) == 0.0
    assert surface_dice(bar, down, spacing_mm=spacing, tolerance_mm=3.0) == 1.0
    assert surface_dice(bar, right, spacing_mm=spacing, tolerance_mm=0.5) == 1.0
    # Without tolerance 3 of 4 pixels of either bar coincide.
    assert surface_dice(bar, right, spacing_mm=spacing, tolerance_mm=0) == 0.75
    # In (x, y) order the same numbers say something else: the axes are taken in the array's order.
    assert surface_dice(bar, down, spacing_mm=(0.5, 3.0), tolerance_mm=0.5) == 1.0


def test_surface_dice_counts_the_boundary_and_not_the_inside() -> None:
    # Squares of 5 x 5 and 3 x 3 about one centre: boundaries of 16 and 8 px. Every px of the inner one is
    # 1 px from the outer one; of the outer one all but the 4 corners (at sqrt 2) are 1 px from the inner one.
    outer, inner = square(2, 7, 2, 7), square(3, 6, 3, 6)
    score = surface_dice(outer, inner, spacing_mm=(1, 1), tolerance_mm=1)
    assert score == pytest.approx((12 + 8) / 24)
    assert surface_dice(outer, inner, spacing_mm=(1, 1), tolerance_mm=1.5) == 1.0


def test_surface_dice_in_three_dimensions_uses_the_slice_height() -> None:
    reference = np.zeros((4, 5, 5), bool)
    reference[1, 1:4, 1:4] = True
    moved = np.roll(reference, 1, axis=0)
    assert surface_dice(reference, moved, spacing_mm=(5, 1, 1), tolerance_mm=4) == 0.0
    assert surface_dice(reference, moved, spacing_mm=(5, 1, 1), tolerance_mm=5) == 1.0


def test_a_mask_at_the_edge_of_the_array_has_its_boundary_there() -> None:
    whole = np.ones((4, 4), bool)
    corner = square(0, 1, 0, 1, (4, 4))  # one of the 12 pixels round the inner four
    assert surface_dice(whole, corner, spacing_mm=(1, 1), tolerance_mm=0) == pytest.approx(2 / 13)


def test_where_the_masks_lie_on_the_slice_does_not_matter() -> None:
    a, b = square(2, 6, 2, 6, (40, 40)), square(3, 8, 2, 5, (40, 40))
    here = surface_dice(a, b, spacing_mm=(0.7, 0.4), tolerance_mm=0.5)
    for shift in ((20, 3), (32, 34), (-2, -2)):
        moved = [np.roll(mask, shift, (0, 1)) for mask in (a, b)]
        assert surface_dice(*moved, spacing_mm=(0.7, 0.4), tolerance_mm=0.5) == here


# A mask against a reference on a scan


def test_whole_scan_and_slices_differ_by_what_was_left_out() -> None:
    """Slices 4, 5, 6 and 7 mm high; pixels of 0.25 mm2. The mask is on slice 1 alone, the reference mask on 1 and 2."""
    scan = phantoms.scan((0, 4, 10, 16), (10, 12))
    heights_mm = scan.slice_heights_mm
    mask, reference = np.zeros((2, *scan.shape_zyx), bool)
    mask[1] = square(2, 6, 2, 6)
    reference[1] = square(2, 6, 4, 8)
    reference[2] = square(2, 6, 4, 8)
    on_slice = compare(mask, reference, scan, [1])
    ml = 16 * 0.25 / 1000
    assert on_slice.volume_ml == pytest.approx(ml * heights_mm[1])
    assert on_slice.reference_ml == pytest.approx(ml * heights_mm[1])
    assert on_slice.difference_ml == on_slice.difference_percent == 0
    assert (on_slice.dice, on_slice.jaccard) == (0.5, pytest.approx(1 / 3))
    assert on_slice.surface_dice == 1.0  # moved by 2 px, which is 1 mm
    whole = compare(mask, reference, scan)
    assert whole.reference_ml == pytest.approx(ml * (heights_mm[1] + heights_mm[2]))
    assert whole.difference_ml == pytest.approx(-ml * heights_mm[2])
    assert whole.difference_percent == pytest.approx(
        -100 * heights_mm[2] / (heights_mm[1] + heights_mm[2])
    )
    assert (whole.dice, whole.jaccard) == (pytest.approx(16 / 48), pytest.approx(8 / 40))
    # In depth each square is all boundary; slice 2 lies further from the mask than the tolerance.
    assert whole.surface_dice == pytest.approx(32 / 48)
    both = compare(mask, reference, scan, [1, 2])
    assert both.dice == whole.dice and both.surface_dice == pytest.approx(24 / 36)


def test_slices_with_nothing_on_them_have_no_score() -> None:
    scan = phantoms.scan((0, 5, 10), (10, 12))
    empty = np.zeros(scan.shape_zyx, bool)
    found = compare(empty, empty, scan, [0, 2])
    assert found.volume_ml == found.reference_ml == found.difference_ml == 0
    scores = (found.dice, found.jaccard, found.surface_dice, found.difference_percent)
    assert all(math.isnan(score) for score in scores)


def test_what_cannot_be_compared_is_refused() -> None:
    scan = phantoms.scan((0, 5, 10), (10, 12))
    mask = np.zeros(scan.shape_zyx, bool)
    with pytest.raises(InputError, match=r"one grid; got shapes"):
        compare(mask, mask[:2], scan)
    with pytest.raises(InputError, match="slices 0 to 2; got 3"):
        compare(mask, mask, scan, [0, 3])
    with pytest.raises(InputError, match="shape"):
        compare(mask[:, :5], mask[:, :5], scan)


@pytest.mark.parametrize("spacing", [(1.0,), (1.0, 0.0), (1.0, -1.0), ()])
def test_a_surface_needs_a_spacing_for_each_axis(spacing: tuple[float, ...]) -> None:
    with pytest.raises(InputError, match="one positive spacing in mm for each of the 2 axes"):
        surface_dice(np.ones((3, 3)), np.ones((3, 3)), spacing_mm=spacing)
    with pytest.raises(InputError, match="0 mm or more; got -1"):
        surface_dice(np.ones((3, 3)), np.ones((3, 3)), spacing_mm=(1, 1), tolerance_mm=-1)
