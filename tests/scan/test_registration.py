"""Rigid registration by the skull: known motions, other people's heads, and what has no skull."""

from __future__ import annotations

import numpy as np
import pytest

from ichseg.errors import Cancelled, UnsureError, VolumeError, cancelling
from ichseg.scan import registration
from ichseg.scan.geometry import Geometry
from ichseg.scan.registration import Registration, register
from tests.phantoms import geometry, scan
from tests.two_heads import MOTION, baseline, followup, moved, scanned

PLACES_MM = np.array([[30, 0, 10], [-30, 20, 20], [0, -40, 0], [0, 30, 30.0]])


def test_a_known_motion_is_found_through_other_slices_tilt_and_coverage() -> None:
    shares: list[float] = []
    found = register(baseline()[0], followup()[0], progress=shares.append)
    there_mm = PLACES_MM @ MOTION[:3, :3].T + MOTION[:3, 3]
    np.testing.assert_allclose(found.to_baseline(PLACES_MM), there_mm, atol=1.0)
    np.testing.assert_allclose(found.to_followup(there_mm), PLACES_MM, atol=1.0)
    found.check_sure()
    assert "apart in the median" in found.sentence
    true = Registration(MOTION, None)
    assert found.angle_degrees == pytest.approx(true.angle_degrees, abs=1)
    assert shares == sorted(shares) and shares[-1] == 1.0


@pytest.mark.parametrize(
    "when", [0.1, 0.42, *(pytest.param(when, marks=pytest.mark.slow) for when in (0.4, 0.9))]
)
def test_it_ends_soon_after_it_is_cancelled(when: float) -> None:
    """The first part alone takes seconds on a usual head: nobody waits for its end."""
    shares: list[float] = []
    asked = lambda: any(share >= when for share in shares)  # noqa: E731
    with cancelling(asked), pytest.raises(Cancelled):
        register(baseline()[0], followup()[0], progress=shares.append)
    assert sum(share >= when for share in shares) <= 2


def test_another_persons_head_is_unsure_and_the_sentence_says_what_to_do() -> None:
    lengths = (1.06, 0.93, 1.0)
    other, _ = scanned(moved((0, 0, 0), (0, 0, 0)), np.arange(-55, 82, 5), lengths=lengths)
    found = register(baseline()[0], other)
    with pytest.raises(UnsureError, match=r"unsure: the inner tables .* are of one person\.$"):
        found.check_sure()


def test_the_same_scans_give_the_same_motion_to_the_last_digit() -> None:
    heads = [registration._Head.of(one) for one in (baseline()[0], followup()[0])]
    start = np.linalg.inv(moved((0.5, 0, 0), (1, 0, 0))) @ MOTION
    first, again = (
        registration._mutual_information(heads[0], heads[1], start, lambda share: None)
        for _ in range(2)
    )
    assert (first == again).all() and not (first == start).all()


def test_a_scan_without_a_skull_is_refused_by_name() -> None:
    with pytest.raises(VolumeError, match=r"phantom: a registration goes by the skull, but hardly"):
        register(baseline()[0], scan())


def test_too_little_of_the_inner_table_is_unsure() -> None:
    found = Registration(np.eye(4), None)
    assert not found.is_sure and "on 0 cm2, and 60 are needed" in found.sentence


def test_an_index_is_where_millimetres_came_from_on_a_tilted_uneven_stack() -> None:
    where = geometry([0, 4, 8, 15], (0.5, 0.4), tilt_degrees=18)
    index = np.array([[0.3, 5, 7], [2.7, 1, 2.5], [3.5, 3, 3], [-1, 2, 2], [1, 0, 0]])
    np.testing.assert_allclose(where.to_index(where.to_mm(*index.T)), index, atol=1e-9)
    one = Geometry(where.origins_mm[:1], where.y_step_mm, where.x_step_mm)
    np.testing.assert_allclose(one.to_index(one.to_mm([0], [2], [3])), [[0, 2, 3]], atol=1e-9)
