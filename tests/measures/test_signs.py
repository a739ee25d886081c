"""Signs as measurements: on balls and boxes, on two values, and on parts at known distances."""

from __future__ import annotations

import numpy as np
import pytest
from phantoms import ellipsoid, geometry, scan

from ichseg.measures.signs import hu_variation_percent, irregularity_percent, satellites
from ichseg.measures.values import Subject
from ichseg.scan.volume import CTVolume

SHAPE = (40, 60, 60)


def volume() -> CTVolume:
    where = geometry(np.arange(SHAPE[0]) * 1.0, (1.0, 1.0))
    return CTVolume(np.full(SHAPE, 60, dtype=np.int16), where, name="one")


def test_a_ball_is_regular_and_a_rod_is_not() -> None:
    ball = ellipsoid(SHAPE, (1, 1, 1), (20, 30, 30), (15, 15, 15))
    assert irregularity_percent(Subject(ball, volume())) == pytest.approx(100, abs=2)
    rod = np.zeros(SHAPE, dtype=bool)
    rod[16:24, 26:34, 5:55] = True
    area, ml = 4 * 8 * 50 + 2 * 64, 64 * 50
    index = 100 * np.sqrt(area / (4 * np.pi)) / np.cbrt(3 * ml / (4 * np.pi))
    assert irregularity_percent(Subject(rod, volume())) == pytest.approx(index, rel=0.05)
    assert irregularity_percent(Subject(rod, volume(), is_several=True)) is None
    assert irregularity_percent(Subject(np.zeros(SHAPE, bool), volume())) is None


def test_the_variation_of_two_values_is_their_distance_over_their_sum() -> None:
    ct = scan((0, 5), (2, 2))
    ct.hu_zyx[:] = 50
    ct.hu_zyx[1] = 70
    assert hu_variation_percent(Subject(np.ones((2, 2, 2), bool), ct)) == pytest.approx(
        100 * 10 / 60
    )
    assert hu_variation_percent(Subject(np.zeros((2, 2, 2), bool), ct)) is None


def test_satellites_are_small_and_near() -> None:
    mask = np.zeros(SHAPE, dtype=bool)
    mask[15:25, 20:35, 10:25] = True  # the largest
    assert satellites(Subject(mask, volume())) == 0
    mask[20, 25:28, 30:33] = True  # 3 mm wide, 6 mm off
    mask[20, 20:35, 40:44] = True  # 15 mm long
    mask[20, 5, 5] = True  # near, on the other side
    mask[0, 0, 55] = True  # 40 mm off
    mask[15, 19, 9] = True  # touches at a corner: no component of its own
    assert satellites(Subject(mask, volume())) == 2
    assert satellites(Subject(mask, volume(), is_several=True)) is None
