"""The discriminant between the prompted blood and what surrounds it, on made-up embeddings of few channels."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import pytest

from ichseg.methods.frame import SliceFrame
from ichseg.methods.likeness import (
    RING_CELLS,
    SHRINKAGE,
    Cells,
    Prompted,
    discriminant_of,
    fitted,
    ring_around,
)

SIDE, CELL_PX = 16, 4
SHAPE = (SIDE * CELL_PX, SIDE * CELL_PX)
FRAME = SliceFrame(SHAPE, size=SIDE * CELL_PX)


def cells_of(features: npt.ArrayLike) -> Cells:
    """Cells of a slice of which each has 4 x 4 native pixels."""
    return Cells(np.asarray(features, dtype=np.float16), FRAME)


def mask_of(rows: slice, columns: slice) -> npt.NDArray[np.bool_]:
    mask = np.zeros(SHAPE, dtype=bool)
    mask[rows, columns] = True
    return mask


def prompted(cells: Cells, mask: npt.NDArray[np.bool_]) -> Prompted:
    return Prompted(cells, mask, mask)


def test_the_share_of_a_cell_is_that_of_its_area() -> None:
    share = cells_of(np.zeros((SIDE, SIDE, 1))).share(mask_of(slice(8, 15), slice(16, 18)))
    assert share.shape == (SIDE, SIDE)
    assert share[2:4, 4] == pytest.approx([2 / 4, 3 / 4 * 2 / 4])
    assert share.sum() * CELL_PX**2 == pytest.approx(7 * 2)


def test_a_slice_that_is_not_square_leaves_cells_of_padding() -> None:
    cells = Cells(np.zeros((SIDE, SIDE, 1), np.float16), SliceFrame((30, 64), size=64))
    assert cells.seen[:8].all() and not cells.seen[8:].any()
    assert cells.share(np.ones((30, 64), bool))[7, 0] == pytest.approx(0.5)


def test_the_ring_leaves_out_what_touches_the_mask() -> None:
    share = np.zeros((SIDE, SIDE), np.float32)
    share[8, 8] = 0.1
    y, x = np.nonzero(ring_around(share))
    away = np.hypot(y - 8, x - 8)
    assert (away.min(), away.max()) == (np.sqrt(2), RING_CELLS[1])
    assert not ring_around(np.zeros_like(share)).any()


def test_it_is_one_in_the_blood_and_minus_one_around_it() -> None:
    """Two channels without correlation: the direction is the difference of means over the shrunk variances."""
    blood = np.array([[3, 1], [5, 1], [3, 3], [5, 3]], float)  # mean 4, 2; variance 1, 1
    around = np.array([[-2, -2], [2, -2], [-2, 2], [2, 2]], float)  # mean 0, 0; variance 4, 4
    found = fitted(blood, np.ones(4), around)
    variance = (
        2.5  # of both groups about their means, in each channel: shrinking leaves it as it is
    )
    direction = np.array([4, 2]) / variance
    assert found.weights == pytest.approx(2 * direction / (direction @ [4, 2]))
    assert found.weights @ [4, 2] + found.offset == pytest.approx(1)
    assert found.offset == pytest.approx(-1)


def test_the_covariance_is_shrunk_towards_a_scaled_identity() -> None:
    blood = np.array([[2.0, 4], [2, -4]])  # variance 0 and 16
    found = fitted(blood, np.ones(2), blood - [2, 1])
    low, high = SHRINKAGE * 8, (1 - SHRINKAGE) * 16 + SHRINKAGE * 8
    direction = np.array([2 / low, 1 / high])
    assert found.weights == pytest.approx(2 * direction / (direction @ [2, 1]))


def test_a_cell_counts_as_much_as_it_holds_of_the_blood() -> None:
    twice = fitted([[1.0], [1], [4]], [1, 1, 1], [[0.0], [1]])
    weighed = fitted([[1.0], [4]], [2, 1], [[0.0], [1]])
    assert (weighed.weights, weighed.offset) == (pytest.approx(twice.weights), twice.offset)


def test_groups_that_are_alike_tell_nothing() -> None:
    same = np.array([[1.0, 2], [3, 4]])
    found = fitted(same, np.ones(2), same)
    assert (found.weights.tolist(), found.offset) == ([0, 0], 0)


def test_the_mean_in_a_mask_goes_by_the_shares_of_its_cells() -> None:
    """Blood in the whole left half, nothing around it: a mask with a quarter of its area there is at -1 + 2 / 4."""
    features = np.zeros((SIDE, SIDE, 1))
    features[:, :8] = 1
    cells = cells_of(features)
    found = discriminant_of([prompted(cells, mask_of(slice(0, 64), slice(0, 32)))])
    assert found is not None
    assert found.mean_in(cells, mask_of(slice(16, 48), slice(4, 20))) == pytest.approx(1)
    assert found.mean_in(cells, mask_of(slice(4, 12), slice(30, 38))) == pytest.approx(-0.5)
    assert np.isnan(found.mean_in(cells, np.zeros(SHAPE, bool)))


def test_several_slices_are_taken_together() -> None:
    features = np.zeros((SIDE, SIDE, 1))
    features[4:8, 4:8] = 1
    one, two = cells_of(features), cells_of(3 * features)
    mask = mask_of(slice(16, 32), slice(16, 32))
    found = discriminant_of([prompted(one, mask), prompted(two, mask)])
    assert found is not None
    assert found.mean_in(one, mask) == pytest.approx(0)  # halfway between 0 and the mean, 2
    assert found.mean_in(two, mask) == pytest.approx(2)


def test_blood_that_the_box_cut_off_is_not_taken_for_what_surrounds_it() -> None:
    features = np.zeros((SIDE, SIDE, 1))
    features[4:8, 4:12] = 1
    cells = cells_of(features)
    half, whole = mask_of(slice(16, 32), slice(16, 32)), mask_of(slice(16, 32), slice(16, 48))
    cut, kept = (
        discriminant_of([prompted(cells, half)]),
        discriminant_of([Prompted(cells, half, whole)]),
    )
    assert cut is not None and kept is not None
    around = mask_of(slice(40, 48), slice(16, 48))
    assert kept.mean_in(cells, around) == pytest.approx(-1)
    assert cut.mean_in(cells, around) < -1.1


def test_too_few_cells_tell_nothing() -> None:
    cells = cells_of(np.random.default_rng(0).normal(size=(SIDE, SIDE, 3)))
    assert discriminant_of([]) is None
    for rows, columns, enough in (
        (slice(8, 10), slice(16, 19), False),  # 3/8 of a cell
        (slice(0, 64), slice(0, 64), False),  # none around it
        (slice(8, 10), slice(16, 20), True),  # half a cell
    ):
        found = discriminant_of([prompted(cells, mask_of(rows, columns))])
        assert (found is not None) == enough
