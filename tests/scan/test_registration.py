"""Rigid registration by the skull: known motions, other people's heads, and what has no skull."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import pytest
from scipy.spatial.transform import Rotation

from ichseg.errors import VolumeError
from ichseg.scan.geometry import Geometry
from ichseg.scan.registration import Registration, register
from ichseg.scan.volume import CTVolume
from tests.phantoms import geometry, scan

SIZE, PIXEL_MM = 100, 2.2
PLACES_MM = np.array([[30, 0, 10], [-30, 20, 20], [0, -40, 0], [0, 30, 30.0]])

Points = npt.NDArray[np.float64]


def head_at(p: Points, lengths: tuple[float, float, float]) -> npt.NDArray[np.int16]:
    """HU at points [n, 3] in the head's mm: a shell of bone that is wider behind, with petrous bones and a base."""
    x, y, z = (p / np.array(lengths)).T
    wide = 66 - 0.12 * y
    radius = np.sqrt((x / wide) ** 2 + (y / 84) ** 2 + (np.where(z > 0, z / 78, z / 62)) ** 2)
    inner = (x / (wide - 7)) ** 2 + (y / 77) ** 2 + (np.where(z > 0, z / 71, z / 55)) ** 2
    hu = np.where(radius < 1, np.where(inner < 1, 35, 1000), -1000)
    petrous = (np.abs(x) - 34) ** 2 / 24**2 + (y + 15 + 0.4 * np.abs(x)) ** 2 / 8**2
    hu[(petrous + (z + 34) ** 2 / 9**2 < 1) & (inner < 1)] = 1000
    nose = (x - 2) ** 2 / 10**2 + (y - 78) ** 2 / 16**2 + (z + 30) ** 2 / 18**2
    hu[nose < 1] = 900
    return hu.astype(np.int16)


def scanned(
    motion: Points,
    positions_mm: npt.ArrayLike,
    tilt_degrees: float = 0.0,
    lengths: tuple[float, float, float] = (1, 1, 1),
) -> CTVolume:
    """The head moved by a 4 x 4 of its mm to the table's, with noise."""
    where = geometry(np.asarray(positions_mm, float).tolist(), (PIXEL_MM, PIXEL_MM), tilt_degrees)
    to_corner = -(SIZE - 1) / 2 * (where.y_step_mm + where.x_step_mm)
    where = Geometry(where.origins_mm + to_corner, where.y_step_mm, where.x_step_mm)
    index = np.indices((len(where.origins_mm), SIZE, SIZE)).reshape(3, -1)
    back = np.linalg.inv(motion)
    hu = head_at(where.to_mm(*index) @ back[:3, :3].T + back[:3, 3], lengths).astype(float)
    noise = np.random.default_rng(len(hu)).normal(0, 4, hu.shape) * (hu > -1000)
    shape = (len(where.origins_mm), SIZE, SIZE)
    return CTVolume(np.rint(hu + noise).astype(np.int16).reshape(shape), where, name="head")


def moved(degrees: tuple[float, float, float], shift_mm: tuple[float, float, float]) -> Points:
    motion = np.eye(4)
    motion[:3, :3] = Rotation.from_euler("xyz", degrees, degrees=True).as_matrix()
    motion[:3, 3] = shift_mm
    return motion


BASELINE = scanned(moved((2, 0, 3), (1, -2, 0)), np.arange(-55, 82, 5))


def test_a_known_motion_is_found_through_other_slices_tilt_and_coverage() -> None:
    own, other = moved((2, 0, 3), (1, -2, 0)), moved((8, -7, -12), (12, -9, 16))
    followup = scanned(other, np.arange(-35, 75, 3), tilt_degrees=12)
    shares: list[float] = []
    found = register(BASELINE, followup, progress=shares.append)
    true = own @ np.linalg.inv(other)
    there_mm = PLACES_MM @ true[:3, :3].T + true[:3, 3]
    np.testing.assert_allclose(found.to_baseline(PLACES_MM), there_mm, atol=1.0)
    np.testing.assert_allclose(found.to_followup(there_mm), PLACES_MM, atol=1.0)
    assert found.is_sure and "apart in the median" in found.sentence
    assert found.angle_degrees == pytest.approx(
        np.degrees(Rotation.from_matrix(true[:3, :3]).magnitude()), abs=1
    )
    assert shares == sorted(shares) and shares[-1] == 1.0
    assert (register(BASELINE, followup).matrix == found.matrix).all()  # to the last digit


def test_another_persons_head_is_unsure_and_the_sentence_says_what_to_do() -> None:
    other = scanned(moved((0, 0, 0), (0, 0, 0)), np.arange(-55, 82, 5), lengths=(1.06, 0.93, 1.0))
    found = register(BASELINE, other)
    assert not found.is_sure
    assert found.sentence.startswith("The registration is unsure: the inner tables")
    assert found.sentence.endswith("check that both scans are of one person.")


def test_a_scan_without_a_skull_is_refused_by_name() -> None:
    with pytest.raises(VolumeError, match=r"phantom: a registration goes by the skull, but hardly"):
        register(BASELINE, scan())


def test_too_little_of_the_inner_table_is_unsure() -> None:
    found = Registration(np.eye(4), None)
    assert not found.is_sure and "on 0 cm2, and 60 are needed" in found.sentence


def test_an_index_is_where_millimetres_came_from_on_a_tilted_uneven_stack() -> None:
    where = geometry([0, 4, 8, 15], (0.5, 0.4), tilt_degrees=18)
    index = np.array([[0.3, 5, 7], [2.7, 1, 2.5], [3.5, 3, 3], [-1, 2, 2], [1, 0, 0]])
    np.testing.assert_allclose(where.to_index(where.to_mm(*index.T)), index, atol=1e-9)
    one = Geometry(where.origins_mm[:1], where.y_step_mm, where.x_step_mm)
    np.testing.assert_allclose(one.to_index(one.to_mm([0], [2], [3])), [[0, 2, 3]], atol=1e-9)
