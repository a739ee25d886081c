"""A scan along another one's slices: a ramp of HU says where each pixel was read off."""

from __future__ import annotations

import numpy as np

from ichseg.scan.along import seen_along
from ichseg.scan.registration import Registration
from ichseg.scan.volume import CTVolume
from tests.phantoms import geometry
from tests.two_heads import moved


def test_each_pixel_is_read_where_the_motion_puts_it_and_air_is_where_there_is_nothing() -> None:
    where = geometry(np.arange(12) * 4.0, (1.0, 1.0))
    places_mm = where.to_mm(*np.indices((12, 40, 40)).reshape(3, -1))
    hu = np.rint(places_mm @ [10.0, 7.0, 5.0]).astype(np.int16).reshape(12, 40, 40)
    scan = CTVolume(hu, where, name="ramp")
    tilted = CTVolume(
        np.zeros((3, 20, 30), np.int16), geometry([8, 11, 20], (0.8, 0.9), 9), name=""
    )
    onto = Registration(moved((2, -3, 6), (1.5, -2, 3)), None)
    seen = seen_along(scan, tilted, onto, [1, 2])
    assert seen.shape_zyx == (2, 20, 30)
    there_mm = onto.to_baseline(tilted.geometry.to_mm(*np.indices((3, 20, 30)).reshape(3, -1)))
    at = where.to_index(there_mm).reshape(3, 20, 30, 3)[1:]
    inside = ((at >= 0) & (at <= np.array([11, 39, 39]))).all(axis=-1)
    true = (there_mm @ [10.0, 7.0, 5.0]).reshape(3, 20, 30)[1:]
    assert inside.sum() > 500
    np.testing.assert_allclose(seen.hu_zyx[inside], true[inside], atol=1.1)
    far = Registration(moved((0, 0, 0), (0, 0, 500)), None)
    assert (seen_along(scan, tilted, far, [0]).hu_zyx == -1000).all()
