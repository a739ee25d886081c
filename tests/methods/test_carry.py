"""What is marked on a baseline, on its follow-up: where it lies there, and what the method finds from there on."""

from __future__ import annotations

import numpy as np
import pytest

from ichseg.errors import InputError
from ichseg.marks.lesion import Lesion
from ichseg.measures.volume import volume_ml
from ichseg.methods.carry import carried_labels, carry
from ichseg.methods.threshold import ThresholdPredictor
from ichseg.scan.geometry import Geometry
from ichseg.scan.registration import Registration
from ichseg.scan.volume import CTVolume
from tests.two_heads import MOTION, baseline, followup

TRUE = Registration(MOTION, None)


def grid(spacing_mm: tuple[float, float, float], shape: tuple[int, int, int]) -> CTVolume:
    """An empty scan whose voxel 0, 0, 0 has its corner at the origin."""
    dz, dy, dx = spacing_mm
    affine = np.diag([-dx, -dy, dz, 1.0])
    affine[:3, 3] = (-dx / 2, -dy / 2, dz / 2)
    return CTVolume(np.zeros(shape, np.int16), Geometry.from_affine(affine, shape[0]), name="grid")


def test_a_block_lies_on_a_finer_grid_where_the_motion_puts_it() -> None:
    own, other = grid((4, 2, 2), (6, 20, 20)), grid((2, 1, 1), (12, 40, 40))
    labels = np.zeros(own.shape_zyx, np.uint8)
    labels[1:3, 5:10, 4:8] = 3
    motion = np.eye(4)
    motion[:3, 3] = (
        -5,
        0,
        4,
    )  # the follow-up lies 5 voxels of its own to the right of x, and 2 slices lower
    there = carried_labels(labels, own, other, Registration(motion, None))
    expected = np.zeros(other.shape_zyx, np.uint8)
    expected[0:4, 10:20, 3:11] = 3
    np.testing.assert_array_equal(there, expected)


def test_a_clot_that_grew_is_found_whole_and_one_that_is_gone_is_named() -> None:
    (own, clot), (later, grown) = baseline(16.0), followup(20.0)
    labels = clot.astype(np.uint8) * 4
    labels[14, 40:46, 34:40] = 2  # marked where there is no blood
    lesions = [Lesion(4, "Left putamen", type="IPH", locked=True), Lesion(2, "Ghost", type="SDH")]
    shares: list[float] = []
    found = carry(ThresholdPredictor(), (own, labels, lesions), later, TRUE, progress=shares.append)
    (lesion,) = found.marked.lesions
    assert (lesion.id, lesion.name, lesion.type) == (4, "Left putamen", "IPH")
    assert not lesion.locked  # a person is to adjust it
    assert [one.name for one in found.lost] == ["Ghost"]
    assert "Nothing was found of Ghost where it was" in found.notes[1]
    ml = volume_ml(found.marked.mask_zyx("threshold", 4), later)
    assert ml == pytest.approx(volume_ml(grown, later), rel=0.05)
    assert shares == sorted(shares) and shares[-1] == pytest.approx(1.0)
    assert all(
        value == int(value)
        for boxes in found.marked.prompts().values()
        for box in boxes
        for value in box.xyxy
    )


def test_an_unmarked_baseline_is_refused() -> None:
    own, clot = baseline()
    with pytest.raises(InputError, match="nothing is marked on it; mark the blood there first"):
        carry(ThresholdPredictor(), (own, 0 * clot, [Lesion(1)]), own, TRUE)
