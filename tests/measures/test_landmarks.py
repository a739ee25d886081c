"""The midline and the distance to the skull on drawn skulls with known answers, on the sample, and their refusals."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import numpy.typing as npt
import phantoms
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ichseg.files.nifti_mask import read_mask
from ichseg.measures.landmarks import Landmarks, Midline, nearest_bone
from ichseg.sample import sample_paths
from ichseg.scan.read import read_volume
from ichseg.scan.volume import CTVolume
from tools.phantom.sample import BASELINE, FOLLOWUP, HEAD_CENTRE, HEAD_SCALE, rotation

Mask = npt.NDArray[np.bool_]
SHAPE_ZYX, SPACING_MM = (28, 130, 120), (5.0, 1.6, 1.6)
INNER_MM, OUTER_MM = (62.0, 84.0, 66.0), (68.0, 91.0, 73.0)


def skull(
    turn_degrees: float = 0.0, shift_mm: float = 0.0, tilt_degrees: float = 0.0
) -> tuple[CTVolume, npt.NDArray[np.float64]]:
    """A skull longer than it is wide, turned and moved; with the head's own coordinates of every voxel [3, z, y, x].

    Coordinates are right, front and top of the head's middle in mm. A bump at its back tells the back from the front.
    """
    dz, dy, dx = SPACING_MM
    where = phantoms.geometry([dz * k for k in range(SHAPE_ZYX[0])], (dy, dx), tilt_degrees)
    k, y, x = np.meshgrid(*(np.arange(n) for n in SHAPE_ZYX), indexing="ij")
    places = where.origins_mm[k] + y[..., None] * where.y_step_mm + x[..., None] * where.x_step_mm
    middle = where.origins_mm[14] + 64.5 * where.y_step_mm + 59.5 * where.x_step_mm
    away = places - middle - np.array([shift_mm, 0, 0])
    turn = math.radians(turn_degrees)
    right = away[..., 0] * math.cos(turn) + away[..., 1] * math.sin(turn)
    front = -away[..., 0] * math.sin(turn) + away[..., 1] * math.cos(turn)
    head = np.stack([right, front, away[..., 2]])

    def inside(radii_mm: tuple[float, float, float]) -> Mask:
        z, y, x = radii_mm
        back = np.where(front < 0, 1.08, 1.0)
        return (right / x) ** 2 + (front / y / back) ** 2 + (head[2] / z) ** 2 <= 1

    hu = np.full(SHAPE_ZYX, -1000, dtype=np.int16)
    hu[inside(OUTER_MM)] = 900
    hu[inside(INNER_MM)] = 35
    return CTVolume(hu, where, name="skull"), head


def ball(head: npt.NDArray[np.float64], centre_mm: tuple[float, ...], radius_mm: float) -> Mask:
    away = head - np.reshape(centre_mm, (3, 1, 1, 1))
    return (away**2).sum(axis=0) <= radius_mm**2


def midline_of(volume: CTVolume) -> Midline:
    found = Landmarks(volume).midline
    assert isinstance(found, Midline), found
    return found


@pytest.mark.parametrize(
    ("turn", "shift", "tilt"), [(0.0, 0.0, 0.0), (12.0, 7.0, 0.0), (-20.0, -9.0, 15.0)]
)
def test_the_midline_is_where_the_head_was_laid(turn: float, shift: float, tilt: float) -> None:
    volume, _ = skull(turn, shift, tilt)
    found = midline_of(volume)
    angle = math.radians(turn)
    assert np.dot(found.normal, [math.cos(angle), math.sin(angle), 0]) > math.cos(math.radians(1.5))
    where = volume.geometry
    middle = where.origins_mm[14] + 64.5 * where.y_step_mm + 59.5 * where.x_step_mm
    off_mm = found.distances_mm(middle[None] + [[shift, 0, 0]])[0]
    assert abs(off_mm) < found.uncertainty_mm < 3


@pytest.mark.parametrize(
    ("right_mm", "side"),
    [(30.0, "right"), (-30.0, "left"), (3.0, "both"), (0.0, "both"), (-13.8, "left")],
)
def test_a_lesions_side(right_mm: float, side: str) -> None:
    volume, head = skull(8.0, 5.0)
    found = Landmarks(volume).side(ball(head, (right_mm, 10, 0), 10))
    assert found.reason is None
    assert found.side == side
    assert found.left_share_low <= found.left_share <= found.left_share_high


def test_the_share_on_the_left_is_that_of_a_cut_ball() -> None:
    volume, head = skull()
    found = Landmarks(volume).side(ball(head, (6, 0, 0), 20))
    height = 20 - 6  # of the cap on the left
    cap = math.pi * height**2 * (3 * 20 - height) / 3
    assert found.left_share == pytest.approx(cap / (4 / 3 * math.pi * 20**3), abs=0.05)


def test_a_lesion_at_the_midline_by_less_than_it_is_known_has_no_side() -> None:
    volume, head = skull()
    found = Landmarks(volume).side(ball(head, (-6.4, 0, 0), 8))
    assert found.side is None
    assert found.reason is not None and "too near the midline" in found.reason
    assert found.left_share is not None and found.left_share > 0.9


@pytest.mark.parametrize("tilt", [0.0, 15.0])
def test_the_distance_to_the_inner_table(tilt: float) -> None:
    volume, head = skull(5.0, 3.0, tilt)
    # The cavity's half-width is 66 mm: to a ball of 10 mm whose middle is 36 mm to the left there are 20 mm left.
    found = Landmarks(volume).inner_table(ball(head, (-36, 0, 0), 10))
    assert found.reason is None
    assert found.distance_mm == pytest.approx(20, abs=2)
    touching = Landmarks(volume).inner_table(ball(head, (-60, 0, 0), 12) & (volume.hu_zyx < 100))
    assert touching.distance_mm == pytest.approx(0, abs=0.5)


@settings(deadline=None)
@given(
    seed=st.integers(0, 10**6),
    lesion=st.integers(1, 40),
    bone=st.sampled_from([1, 7, 499, 500, 501, 3000]),
    apart_mm=st.floats(0, 90),
)
def test_the_nearest_bone_is_that_of_all_pairs(
    seed: int, lesion: int, bone: int, apart_mm: float
) -> None:
    """Bone on a shell about a lesion that may touch or cross it, against every distance there is."""
    rng = np.random.default_rng(seed)
    places = rng.normal(0, 12, (lesion, 3)) + np.array([apart_mm, 0, 0])
    ways = rng.normal(0, 1, (bone, 3))
    shell = ways / np.linalg.norm(ways, axis=1)[:, None] * [[70, 90, 75]]
    found, at, bone_mm = nearest_bone(places, shell)
    gaps = np.linalg.norm(places[:, None] - shell, axis=2)
    assert found == pytest.approx(gaps.min())
    assert np.linalg.norm(places[at] - bone_mm) == pytest.approx(found)


def test_calcium_is_not_the_inner_table() -> None:
    volume, head = skull()
    hu = volume.hu_zyx.copy()
    hu[ball(head, (-20, 0, 0), 4)] = 400
    found = Landmarks(CTVolume(hu, volume.geometry, name="skull")).inner_table(
        ball(head, (-36, 0, 0), 10)
    )
    assert found.distance_mm == pytest.approx(20, abs=2)


def test_both_are_refused_without_bone() -> None:
    volume, head = skull()
    clipped = CTVolume(np.clip(volume.hu_zyx, -20, 100), volume.geometry, name="clipped")
    lesion, where = ball(head, (-36, 0, 0), 10), Landmarks(clipped)
    side, table = where.side(lesion), where.inner_table(lesion)
    assert side.side is None and "hardly any voxel of the scan is bone" in str(side.reason)
    assert table.distance_mm is None and "no voxel of the scan is bone" in str(table.reason)


def test_both_are_refused_where_half_of_the_skull_is_out_of_view() -> None:
    volume, head = skull()
    hu = volume.hu_zyx.copy()
    hu[head[0] > -10] = -1000
    where = Landmarks(CTVolume(hu, volume.geometry, name="half"))
    lesion = ball(head, (-36, 0, 0), 10)
    side, table = where.side(lesion), where.inner_table(lesion)
    assert side.side is None and str(side.reason).startswith("No midline is given")
    assert table.distance_mm is None and "directions around the lesion" in str(table.reason)


def test_a_distance_is_refused_where_the_scan_ends_nearer() -> None:
    volume, head = skull()
    found = Landmarks(volume).inner_table(ball(head, (0, 0, 0), 3))
    assert found.distance_mm == pytest.approx(59, abs=3)
    origins = volume.geometry.origins_mm
    few = CTVolume(
        volume.hu_zyx[11:18], replace(volume.geometry, origins_mm=origins[11:18]), name="few"
    )
    cut = Landmarks(few).inner_table(ball(head, (0, 0, 0), 3)[11:18])
    assert cut.distance_mm is None and "the scan ends" in str(cut.reason)


def test_nothing_has_no_side_and_no_distance() -> None:
    volume, _ = skull()
    empty, where = np.zeros(SHAPE_ZYX, dtype=bool), Landmarks(volume)
    assert where.side(empty).reason == "An empty mask has no side."
    assert where.inner_table(empty).distance_mm is None


@pytest.mark.parametrize("followup", [False, True])
def test_the_samples_midline_and_side(followup: bool) -> None:
    """The sample was made with a known pose; its skull is warped by 2 mm, as nobody is symmetric."""
    volume = read_volume(sample_paths(followup)[0])
    labels = read_mask(sample_paths(followup)[1], volume)
    where = Landmarks(volume)
    pose = FOLLOWUP if followup else BASELINE
    turned = rotation(pose.rotation_degrees)
    found = midline_of(volume)
    assert np.dot(found.normal, turned @ [1, 0, 0]) > math.cos(math.radians(2.5))
    middle = turned @ ((np.zeros(3) - HEAD_CENTRE) * HEAD_SCALE) + pose.translation_mm
    assert abs(found.distances_mm(middle[None])[0]) < 2.5
    assert where.side(labels == 1).side == "left"
    assert where.side(labels == 2).side == "both"
    table = where.inner_table(labels == 1)
    assert table.distance_mm is not None and 5 < table.distance_mm < 20
