"""Corrections by hand, against closed forms on anisotropic pixels and against the plainest possible account."""

from __future__ import annotations

import math
import re
from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt
import phantoms
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from scipy import ndimage

from ichseg.errors import InputError
from ichseg.marks import edit

Mask = npt.NDArray[np.bool_]
SHAPE = (40, 60)
spacings = st.tuples(st.floats(0.3, 2.0), st.floats(0.3, 2.0))
masks = hnp.arrays(bool, st.tuples(st.integers(1, 24), st.integers(1, 24)))


def disc(
    shape_yx: tuple[int, int],
    centre_yx: tuple[float, float],
    radii_mm: tuple[float, float],
    spacing_yx_mm: tuple[float, float] = (1.0, 1.0),
) -> Mask:
    """The pixels whose centres are in an ellipse; its centre in pixels, that of pixel (0, 0) being (0, 0)."""
    y, x = np.ogrid[: shape_yx[0], : shape_yx[1]]
    dy, dx = spacing_yx_mm
    return (
        ((y - centre_yx[0]) * dy / radii_mm[0]) ** 2 + ((x - centre_yx[1]) * dx / radii_mm[1]) ** 2
    ) <= 1


# The brush


@settings(deadline=None, max_examples=50)
@given(
    st.floats(0, SHAPE[0]),
    st.floats(0, SHAPE[1]),
    st.floats(0.5, 12.0),
    spacings,
)
def test_a_dab_is_the_pixels_within_the_radius(
    y: float, x: float, radius_mm: float, spacing: tuple[float, float]
) -> None:
    dab = edit.stroke(SHAPE, [(x, y)], radius_mm, spacing)
    radius_mm = max(radius_mm, max(spacing) / 2)
    i, j = np.indices(SHAPE)
    distance_mm = np.hypot((j + 0.5 - x) * spacing[1], (i + 0.5 - y) * spacing[0])
    sure = np.abs(distance_mm - radius_mm) > 1e-9  # a pixel exactly on the rim may be either
    inside = distance_mm <= radius_mm
    if y < SHAPE[0] and x < SHAPE[1]:
        inside[int(y), int(x)] = True
    np.testing.assert_array_equal(dab[sure], inside[sure])


@pytest.mark.parametrize("spacing", [(1.0, 1.0), (0.9, 0.4), (0.35, 0.7)])
def test_a_large_dab_has_the_area_of_a_disc(spacing: tuple[float, float]) -> None:
    dab = edit.stroke((200, 200), [(100.2, 99.7)], 30.0, spacing)
    assert dab.sum() * math.prod(spacing) == pytest.approx(math.pi * 30**2, rel=0.01)


@pytest.mark.parametrize("spacing", [(1.0, 1.0), (0.9, 0.5)])
def test_a_long_stroke_has_the_area_of_a_stadium(spacing: tuple[float, float]) -> None:
    start, end = np.array([50.0, 60.0]), np.array([150.0, 140.0])  # x, y
    drawn = edit.stroke((200, 200), [start, end], 12.0, spacing)
    length_mm = math.hypot(*((end - start) * spacing[::-1]))
    expected = math.pi * 12**2 + 2 * 12 * length_mm
    assert drawn.sum() * math.prod(spacing) == pytest.approx(expected, rel=0.01)


points = st.lists(st.tuples(st.floats(-5, 65), st.floats(-5, 45)), min_size=1, max_size=5)


@settings(deadline=None, max_examples=50)
@given(points, st.floats(0.3, 5.0), spacings)
def test_a_stroke_is_that_of_its_parts_and_goes_either_way(
    line: list[tuple[float, float]], radius_mm: float, spacing: tuple[float, float]
) -> None:
    whole = edit.stroke(SHAPE, line, radius_mm, spacing)
    np.testing.assert_array_equal(
        edit.stroke(SHAPE, line[::-1], radius_mm * (1 + 1e-9), spacing) & whole, whole
    )
    parts = [edit.stroke(SHAPE, line[i : i + 2], radius_mm, spacing) for i in range(len(line) - 1)]
    if parts:
        np.testing.assert_array_equal(np.any(parts, axis=0), whole)
    for x, y in line:
        if 0 <= x < 60 and 0 <= y < 40:
            assert whole[int(y), int(x)]


@settings(deadline=None, max_examples=100)
@given(
    st.tuples(st.floats(2, 58), st.floats(2, 38)),
    st.tuples(st.floats(2, 58), st.floats(2, 38)),
    spacings,
)
def test_the_thinnest_stroke_has_no_gaps(
    start: tuple[float, float], end: tuple[float, float], spacing: tuple[float, float]
) -> None:
    drawn = edit.stroke(SHAPE, [start, end], 1e-6, spacing)
    # The coarser axis always gets a pixel; on the finer one a line may be several wide, never broken.
    _, components = ndimage.label(drawn, structure=np.ones((3, 3)))
    assert components == 1


def test_brush_and_eraser_touch_the_stroke_alone() -> None:
    mask = disc(SHAPE, (20, 20), (8, 8))
    line = [(25, 18), (40, 22)]
    drawn = edit.stroke(SHAPE, line, 3.0)
    before = mask.copy()
    np.testing.assert_array_equal(edit.brush(mask, line, 3.0), mask | drawn)
    np.testing.assert_array_equal(edit.erase(mask, line, 3.0), mask & ~drawn)
    np.testing.assert_array_equal(mask, before)
    assert not edit.erase(edit.brush(np.zeros_like(mask), line, 3.0), line, 3.0).any()


def test_a_brush_off_the_slice_touches_nothing() -> None:
    assert not edit.stroke(SHAPE, [(-30, 5), (-20, 60)], 4.0).any()
    assert not edit.stroke(SHAPE, [(70, 5)], 4.0).any()
    assert edit.stroke(SHAPE, [(-2, 5)], 4.0).any()


def test_a_threshold_brush_adds_only_what_is_in_its_range_and_takes_nothing_away() -> None:
    hu = np.arange(40 * 60, dtype=np.int16).reshape(SHAPE) % 100
    mask = disc(SHAPE, (10, 10), (5, 5))
    line = [(30, 20), (50, 20)]
    got = edit.brush(mask, line, 6.0, slice_hu=hu, hu_range=(45, 80))
    drawn = edit.stroke(SHAPE, line, 6.0)
    np.testing.assert_array_equal(got, mask | (drawn & (hu >= 45) & (hu <= 80)))
    added = hu[got & ~mask]
    assert (added.min(), added.max()) == (45, 80)


@pytest.mark.parametrize(
    ("call", "sentence"),
    [
        (lambda m: edit.brush(m, [], 2.0), "got (0,) numbers; draw it again"),
        (lambda m: edit.brush(m, [(1, 2, 3)], 2.0), "got (1, 3) numbers"),
        (lambda m: edit.brush(m, [(1, math.nan)], 2.0), "(1, 2) numbers, not all finite"),
        (lambda m: edit.brush(m, [(1, "a")], 2.0), "two finite numbers"),
        (lambda m: edit.erase(m, [(1, 2)], 0.0), "A brush's radius is above 0 mm; got 0; give"),
        (lambda m: edit.erase(m, [(1, 2)], math.inf), "got inf"),
        (lambda m: edit.erase(m, [(1, 2)], 2.0, (0.5, -1)), "A pixel's spacing is above 0 mm; got -1"),
        (lambda m: edit.brush(m, [(1, 2)], 2.0, hu_range=(40, 80)), "got none; give it"),
        (
            lambda m: edit.brush(m, [(1, 2)], 2.0, slice_hu=np.zeros((3, 3)), hu_range=(40, 80)),
            "shape (40, 60); got one of (3, 3)",
        ),
        (
            lambda m: edit.copy_to_slice(m, np.zeros(SHAPE), (80, 40)),
            "got 80 to 40; exchange them",
        ),
        (lambda m: edit.component_at(m, (40, 0)), "(40, 60); got (40, 0); point inside"),
        (lambda m: edit.component_at(m, (1, 1, 1)), "got (1, 1, 1)"),
        (lambda m: edit.smooth(m, math.nan), "A smoothing radius is above 0 mm; got nan"),
        (lambda m: edit.interpolate({0: m, 2: m[1:]}, [0, 5, 10]), "[(39, 60), (40, 60)]; take"),
        (lambda m: edit.interpolate({0: m, 3: m}, [0, 5, 10]), "0 to 2; got slices [0, 3]"),
    ],
)  # fmt: skip
def test_what_cannot_be_meant_is_refused_in_one_sentence(
    call: Callable[[Mask], Any], sentence: str
) -> None:
    with pytest.raises(InputError, match=re.escape(sentence)) as refused:
        call(np.zeros(SHAPE, dtype=bool))
    assert str(refused.value).replace("e.g. ", "").count(". ") == 0


# Components and holes


def flood(mask: Mask, index: tuple[int, int]) -> Mask:
    """The component by walking it, pixel by pixel."""
    found = np.zeros_like(mask)
    todo = [index] if mask[index] else []
    while todo:
        y, x = todo.pop()
        if 0 <= y < mask.shape[0] and 0 <= x < mask.shape[1] and mask[y, x] and not found[y, x]:
            found[y, x] = True
            todo += [(y + j, x + i) for j in (-1, 0, 1) for i in (-1, 0, 1)]
    return found


@settings(deadline=None, max_examples=50)
@given(masks, st.data())
def test_a_component_is_what_can_be_walked_to(mask: Mask, data: st.DataObject) -> None:
    index = tuple(data.draw(st.integers(0, size - 1)) for size in mask.shape)
    component = flood(mask, (index[0], index[1]))
    np.testing.assert_array_equal(edit.component_at(mask, index), component)
    np.testing.assert_array_equal(edit.erase_component(mask, index), mask & ~component)


def test_a_component_may_run_through_the_slices() -> None:
    mask = np.zeros((3, 4, 4), dtype=bool)
    mask[0, 0, 0] = mask[1, 1, 1] = mask[2, 2, 2] = mask[0, 3, 3] = True
    assert edit.component_at(mask, (1, 1, 1)).sum() == 3
    assert np.argwhere(edit.erase_component(mask, (2, 2, 2))).tolist() == [[0, 3, 3]]


@settings(deadline=None)
@given(masks)
def test_holes_are_what_the_edge_does_not_reach(mask: Mask) -> None:
    background = np.pad(~mask, 1, constant_values=True)
    labels, _ = ndimage.label(background)  # by up, down, left and right
    outside = labels == labels[0, 0]
    filled = edit.fill_holes(mask)
    np.testing.assert_array_equal(filled, ~outside[1:-1, 1:-1])
    np.testing.assert_array_equal(edit.fill_holes(filled), filled)


# Smoothing


@pytest.mark.parametrize("spacing", [(1.0, 1.0), (0.9, 0.45), (0.45, 0.8)])
@pytest.mark.parametrize("radius_mm", [0.5, 1.0, 2.0])
@pytest.mark.parametrize("size_mm", [(3.0, 3.0), (8.0, 5.0), (20.0, 12.0)])
def test_smoothing_keeps_the_size_and_place_of_what_is_smooth(
    spacing: tuple[float, float], radius_mm: float, size_mm: tuple[float, float]
) -> None:
    mask = disc((120, 120), (60.3, 59.6), size_mm, spacing)
    got = edit.smooth(mask, radius_mm, spacing)
    assert got.sum() == pytest.approx(mask.sum(), rel=0.02)  # the drift that its docstring states
    overlap = 2 * (got & mask).sum() / (got.sum() + mask.sum())
    assert overlap > 0.9
    shift = np.subtract(ndimage.center_of_mass(got), ndimage.center_of_mass(mask)) * spacing
    assert np.abs(shift).max() < 0.2


def test_smoothing_takes_off_a_spike_and_fills_a_dent() -> None:
    mask = disc((80, 80), (40, 40), (15, 15))
    mask[40, 55:66] = True  # a spike, one pixel wide
    mask[38:43, 27:30] = False  # a dent in the other side
    got = edit.smooth(mask, 2.0)
    assert not got[40, 59:].any() and got[38:43, 28:30].all()


def test_smoothing_loses_no_component_for_being_small() -> None:
    mask = disc((80, 80), (40, 30), (15, 15))
    mask[40, 60:63] = True
    got = edit.smooth(mask, 1.5)
    assert got[:, :50].sum() == pytest.approx(mask[:, :50].sum(), abs=8)
    assert 1 <= got[:, 50:].sum() <= 5


@settings(deadline=None, max_examples=50)
@given(masks, st.floats(0.3, 3.0), spacings)
def test_smoothing_any_mask_is_never_empty_for_it_and_mirrors_with_it(
    mask: Mask, radius_mm: float, spacing: tuple[float, float]
) -> None:
    got = edit.smooth(mask, radius_mm, spacing)
    _, components = ndimage.label(mask, np.ones((3, 3)))
    assert got.any() == mask.any()
    if mask.all():
        assert got.all()
    if components == 1:
        np.testing.assert_array_equal(
            edit.smooth(mask[::-1, ::-1], radius_mm, spacing)[::-1, ::-1], got
        )


# From slice to slice


def test_a_copy_is_limited_to_where_the_slice_itself_has_blood() -> None:
    rng = np.random.default_rng(3)
    mask = disc(SHAPE, (20, 30), (14, 14))
    blood = disc(SHAPE, (20, 34), (8, 8))
    hu = np.where(blood, phantoms.BLOOD_HU, phantoms.BRAIN_HU) + rng.normal(0, 4, SHAPE)
    np.testing.assert_array_equal(edit.copy_to_slice(mask), mask)
    got = edit.copy_to_slice(mask, hu, (50, 90))
    expected = mask & blood
    assert 2 * (got & expected).sum() / (got.sum() + expected.sum()) > 0.97
    assert not (got & ~mask).any()
    np.testing.assert_array_equal(edit.fill_holes(got), got)
    assert not edit.copy_to_slice(mask, hu, (200, 300)).any()
    assert not edit.copy_to_slice(np.zeros_like(mask), hu, (50, 90)).any()


def test_a_copy_at_the_edge_of_the_slice() -> None:
    mask = np.zeros(SHAPE, dtype=bool)
    mask[:4, 55:] = True
    np.testing.assert_array_equal(edit.copy_to_slice(mask, np.full(SHAPE, 60), (50, 90)), mask)


@pytest.mark.parametrize("spacing", [(1.0, 1.0), (0.9, 0.5), (0.5, 0.9)])
def test_between_two_discs_the_radius_goes_by_position(spacing: tuple[float, float]) -> None:
    shape, centre = (140, 140), (70, 70)
    positions = [0.0, 3.0, 5.0, 12.0, 20.0]  # uneven
    ends = {0: disc(shape, centre, (10, 10), spacing), 4: disc(shape, centre, (26, 26), spacing)}
    got = edit.interpolate(ends, positions, spacing)
    assert list(got) == [1, 2, 3]
    for k, mask in got.items():
        radius_mm = 10 + 16 * positions[k] / 20
        assert mask.sum() * math.prod(spacing) == pytest.approx(math.pi * radius_mm**2, rel=0.04)
        expected = disc(shape, centre, (radius_mm, radius_mm), spacing)
        assert 2 * (mask & expected).sum() / (mask.sum() + expected.sum()) > 0.97


def test_an_oblique_hematoma_is_followed() -> None:
    spacing = (0.8, 0.5)
    ends = {
        2: disc((60, 120), (20, 20), (6, 5), spacing),
        6: disc((60, 120), (40, 100), (6, 5), spacing),
    }
    got = edit.interpolate(ends, 5.0 * np.arange(9), spacing)
    for k, mask in got.items():
        part = (k - 2) / 4
        expected = disc((60, 120), (20 + 20 * part, 20 + 80 * part), (6, 5), spacing)
        assert 2 * (mask & expected).sum() / (mask.sum() + expected.sum()) > 0.95


@settings(deadline=None, max_examples=50)
@given(hnp.arrays(bool, (2, 12, 14)), spacings, st.lists(st.floats(0.5, 9), min_size=3, max_size=3))
def test_between_two_equal_masks_is_that_mask_and_turning_the_stack_turns_the_answer(
    pair: Mask, spacing: tuple[float, float], heights: list[float]
) -> None:
    positions = np.cumsum([0.0, *heights])
    first, second = pair
    for k, mask in edit.interpolate({0: first, 3: first}, positions, spacing).items():
        np.testing.assert_array_equal(mask, first, err_msg=str(k))
    both = first.any() and second.any()
    got = edit.interpolate({0: first, 3: second}, positions, spacing)
    assert list(got) == ([1, 2] if both else [])
    turned = edit.interpolate({3: first, 0: second}, (positions[-1] - positions)[::-1], spacing)
    for k, mask in got.items():
        assert (mask != turned[3 - k]).mean() < 0.02  # but where the mixture is 0 within rounding


def test_neighbours_and_single_masks_leave_nothing_to_make() -> None:
    mask = disc(SHAPE, (20, 30), (6, 6))
    assert edit.interpolate({}, [0, 5]) == {}
    assert edit.interpolate({1: mask}, [0, 5, 10]) == {}
    assert edit.interpolate({0: mask, 1: mask}, [0, 5, 10]) == {}
    assert list(edit.interpolate({0: mask, 2: mask, 5: mask}, 5 * np.arange(6))) == [1, 3, 4]


def test_a_mask_that_touches_the_edge_stays_on_the_slice() -> None:
    first, last = (np.zeros(SHAPE, dtype=bool) for _ in range(2))
    first[:10, :10] = True
    last[:10, :20] = True
    got = edit.interpolate({0: first, 2: last}, [0, 5, 10])[1]
    assert got.sum() == pytest.approx(150, rel=0.1) and got[1:9, 2:13].all()
