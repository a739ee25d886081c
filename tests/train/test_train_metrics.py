"""Scores against answers worked out by hand, on grids whose spacings differ."""

from __future__ import annotations

import math

import numpy as np
import pytest

from ichseg.errors import InputError
from train.scores import metrics


def square(y0: int, y1: int, x0: int, x1: int, shape: tuple[int, int] = (10, 12)) -> np.ndarray:
    mask = np.zeros(shape, dtype=bool)
    mask[y0:y1, x0:x1] = True
    return mask


def test_overlap_of_two_shifted_squares() -> None:
    a, b = square(2, 6, 2, 6), square(2, 6, 4, 8)  # 16 px each, 8 in common
    assert metrics.dice(a, b) == 0.5
    assert metrics.jaccard(a, b) == pytest.approx(8 / 24)


def test_both_empty_is_nan_and_one_empty_is_zero() -> None:
    empty, full = np.zeros((4, 4), bool), np.ones((4, 4), bool)
    assert math.isnan(metrics.dice(empty, empty)) and math.isnan(metrics.jaccard(empty, empty))
    assert metrics.dice(empty, full) == metrics.jaccard(full, empty) == 0.0
    assert math.isnan(metrics.surface_dice(empty, empty, spacing_mm=(1, 1)))
    assert metrics.surface_dice(empty, full, spacing_mm=(1, 1)) == 0.0


def test_masks_of_two_sizes_are_refused() -> None:
    for score in (metrics.dice, metrics.jaccard, metrics.volume_difference):
        with pytest.raises(
            InputError, match=r"got (shapes )?\(4, 4\) and \(4, 5\).*one grid|one grid; got"
        ):
            score(np.ones((4, 4)), np.ones((4, 5)))


def test_pooled_scores_weigh_pixels_within_a_batch_and_batches_alike() -> None:
    one, four = square(0, 1, 0, 1), square(0, 2, 0, 2)
    wrong, empty = square(5, 6, 5, 6), np.zeros((10, 12), bool)
    # First batch: 1 px missed entirely, 4 px right: Dice 2*4 / (5 + 5), Jaccard 4 / 6. Second: perfect.
    references, predictions = [one, four, four, empty], [wrong, four, four, empty]
    pooled_dice, pooled_jaccard = metrics.batch_pooled(predictions, references, batch_size=2)
    assert pooled_dice == pytest.approx((0.8 + 1) / 2)
    assert pooled_jaccard == pytest.approx((4 / 6 + 1) / 2)
    per_slice = np.nanmean(
        [metrics.dice(a, b) for a, b in zip(predictions, references, strict=True)]
    )
    assert per_slice == pytest.approx(2 / 3)  # the harder reading of the same masks


def test_a_batch_with_nothing_in_it_is_left_out() -> None:
    empty, full = np.zeros((2, 2), bool), np.ones((2, 2), bool)
    assert metrics.batch_pooled([empty, full], [empty, full], batch_size=1) == (1.0, 1.0)
    assert all(math.isnan(value) for value in metrics.batch_pooled([empty], [empty]))
    assert all(math.isnan(value) for value in metrics.batch_pooled([], []))
    with pytest.raises(InputError, match="1 predictions and 2 references"):
        metrics.batch_pooled([full], [full, full])
    with pytest.raises(InputError, match="at least one slice; got 0"):
        metrics.batch_pooled([full], [full], batch_size=0)


def test_volume_difference_is_signed_and_weighs_each_slice_by_its_height() -> None:
    reference = np.zeros((2, 4, 4), bool)
    reference[:, :2, :2] = True  # 4 px on each slice
    prediction = reference.copy()
    prediction[1] = False
    assert metrics.volume_difference(prediction, reference) == -0.5
    assert metrics.volume_difference(reference, prediction) == 1.0
    heights_mm = np.array([4.0, 12.0])[
        :, None, None
    ]  # the lost slice is three quarters of the volume
    assert metrics.volume_difference(prediction, reference, heights_mm) == -0.75
    assert math.isnan(metrics.volume_difference(reference, np.zeros_like(reference)))


def test_summary_of_known_values() -> None:
    summary = metrics.summarise([1, 2, 3, 4, float("nan")])
    assert (summary.mean, summary.median, summary.quartiles) == (2.5, 2.5, (1.75, 3.25))
    assert summary.sd == pytest.approx(math.sqrt(5 / 3))
    assert (summary.n, summary.n_left_out, summary.n_patients) == (4, 1, 4)
    assert 1 <= summary.interval[0] < 2.5 < summary.interval[1] <= 4


def test_summary_of_nothing_and_of_one_value() -> None:
    nothing = metrics.summarise([float("nan")])
    assert math.isnan(nothing.mean) and (nothing.n, nothing.n_left_out) == (0, 1)
    one = metrics.summarise([0.7])
    assert one.mean == one.median == 0.7
    assert math.isnan(one.sd) and math.isnan(one.interval[0])


def test_bootstrap_draws_patients_and_not_slices() -> None:
    # Two patients, each the same on all of its slices: a resample is both (0.5), or one twice (0 or 1), a quarter each.
    values, patients = [0.0] * 50 + [1.0] * 50, ["a"] * 50 + ["b"] * 50
    by_patient = metrics.summarise(values, patients)
    assert by_patient.interval == (0.0, 1.0)
    by_slice = metrics.summarise(values)
    assert by_slice.interval[1] - by_slice.interval[0] < 0.25
    # The normal approximation of 100 independent draws: 0.5 +- 1.96 * 0.05.
    assert by_slice.interval == pytest.approx((0.402, 0.598), abs=0.02)
    assert metrics.summarise(values, patients) == by_patient  # the same seed, the same interval


def test_paired_difference_is_narrow_where_two_methods_differ_alike() -> None:
    rng = np.random.default_rng(0)
    base = rng.uniform(0, 1, 60)
    better = base + 0.1 + rng.normal(0, 0.01, 60)
    better[0] = np.nan
    difference = metrics.paired_difference(better, base)
    assert difference.mean == pytest.approx(0.1, abs=0.01)
    assert difference.interval[0] > 0.09 and difference.interval[1] < 0.11
    assert (difference.n, difference.n_left_out) == (59, 1)
    with pytest.raises(InputError, match="got 2 and 3 values"):
        metrics.paired_difference([1, 2], [1, 2, 3])


def test_mean_of_each_patient() -> None:
    means = metrics.per_patient([1, 3, float("nan"), float("nan")], ["b", "b", "a", "b"])
    assert means["b"] == 2 and math.isnan(means["a"])
    with pytest.raises(InputError, match="2 values and 1 patients"):
        metrics.per_patient([1, 2], ["a"])
