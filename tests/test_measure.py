"""Millilitres against closed forms on even, anisotropic, tilted and uneven slices; overlap; growth."""

from __future__ import annotations

import math
from itertools import pairwise
from pathlib import Path

import numpy as np
import numpy.typing as npt
import phantoms
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from ichseg.errors import VolumeError
from ichseg.measure import (
    DEFINITIONS,
    SliceRow,
    dice,
    expansion,
    hu_statistics,
    slice_table,
    volume_ml,
)
from ichseg.volume import CTVolume, read_volume

Mask = npt.NDArray[np.bool_]

# The GE HiSpeed series in small: 4 mm below, 7 mm above, a step between, the gantry tilted.
TWO_STACKS_MM = (0.0, 4.0, 8.0, 13.1, 20.1, 27.1)


def painted(volume: CTVolume, per_slice: list[int]) -> Mask:
    """A mask with so many pixels on each slice."""
    mask = np.zeros(volume.shape_zyx, dtype=bool)
    for mask_yx, count in zip(mask, per_slice, strict=True):
        mask_yx.ravel()[:count] = True
    return mask


def test_an_anisotropic_even_grid_is_voxel_count_times_voxel_volume() -> None:
    volume = phantoms.scan((0, 5, 10), spacing_yx_mm=(0.6, 0.4))
    mask = painted(volume, [10, 20, 5])
    assert volume_ml(mask, volume) == pytest.approx(35 * 0.6 * 0.4 * 5 / 1000, rel=1e-12)


def test_two_slices_of_an_even_grid_count_fully() -> None:
    volume = phantoms.scan((0, 3))
    assert volume_ml(painted(volume, [4, 4]), volume) == pytest.approx(8 * 0.25 * 3 / 1000)


@pytest.mark.parametrize("tilt_degrees", [-25.0, 18.5, 30.0])
def test_a_tilted_even_grid_is_the_determinant_of_its_affine(tilt_degrees: float) -> None:
    volume = phantoms.scan((0, 5, 10, 15), spacing_yx_mm=(0.5, 0.7), tilt_degrees=tilt_degrees)
    voxel_mm3 = abs(np.linalg.det(volume.geometry.affine[:3, :3]))
    # The table moves 5 mm; the slices, leaning, are nearer to each other than that.
    assert voxel_mm3 == pytest.approx(0.5 * 0.7 * 5 * math.cos(math.radians(tilt_degrees)))
    assert volume_ml(painted(volume, [7, 0, 9, 1]), volume) == pytest.approx(17 * voxel_mm3 / 1000)


def test_each_slice_of_an_uneven_series_counts_with_its_own_height() -> None:
    volume = phantoms.scan(TWO_STACKS_MM)
    heights_mm = [4.0, 4.0, (4 + 5.1) / 2, (5.1 + 7) / 2, 7.0, 7.0]
    counts = [10, 20, 30, 40, 50, 60]
    expected = sum(n * 0.25 * h for n, h in zip(counts, heights_mm, strict=True)) / 1000
    assert volume_ml(painted(volume, counts), volume) == pytest.approx(expected, rel=1e-12)


def test_a_tilted_uneven_series_shrinks_every_height_by_the_cosine() -> None:
    upright = phantoms.scan(TWO_STACKS_MM)
    leaning = phantoms.scan(TWO_STACKS_MM, tilt_degrees=18.5)
    mask = painted(upright, [1, 2, 3, 4, 5, 6])
    ratio = volume_ml(mask, leaning) / volume_ml(mask, upright)
    assert ratio == pytest.approx(math.cos(math.radians(18.5)), rel=1e-12)


@pytest.mark.parametrize("spacing_mm", [(1.0, 1.0, 1.0), (5.0, 0.45, 0.45), (2.5, 0.4, 0.7)])
def test_an_ellipsoid_is_four_thirds_pi_abc(spacing_mm: tuple[float, float, float]) -> None:
    radii_mm = (14.0, 11.0, 9.0)
    shape = tuple(math.ceil(32 / step) + 1 for step in spacing_mm)
    dz, dy, dx = spacing_mm
    volume = phantoms.scan([dz * k for k in range(shape[0])], shape[1:], (dy, dx))
    mask = phantoms.ellipsoid(shape, spacing_mm, (16.0, 16.0, 16.0), radii_mm)
    expected_ml = 4 / 3 * math.pi * math.prod(radii_mm) / 1000
    assert volume_ml(mask, volume) == pytest.approx(expected_ml, rel=0.02)


def test_a_full_mask_of_the_real_tilted_uneven_series(shared_data: Path) -> None:
    folder = shared_data / "ge-head-ct"
    volume = read_volume(folder)
    full = np.ones(volume.shape_zyx, dtype=bool)
    # Straight from the headers: origins along the normal, each gap split between its two slices.
    import pydicom

    headers = [
        pydicom.dcmread(p, stop_before_pixels=True) for p in folder.rglob("*") if is_dicom(p)
    ]
    rows, columns = (float(step) for step in headers[0].PixelSpacing)
    across, down = np.reshape(np.array(headers[0].ImageOrientationPatient, dtype=float), (2, 3))
    normal = np.cross(across, down)
    places = sorted(float(normal @ np.array(h.ImagePositionPatient, float)) for h in headers)
    gaps = [b - a for a, b in pairwise(places)]
    height_mm = sum(gaps) + (gaps[0] + gaps[-1]) / 2
    expected_ml = 512 * 512 * rows * columns * height_mm / 1000
    assert volume_ml(full, volume) == pytest.approx(expected_ml, rel=1e-6)
    assert volume_ml(full, volume) == pytest.approx(
        sum(r.volume_ml for r in slice_table(full, volume))
    )


def is_dicom(path: Path) -> bool:
    return path.is_file() and path.read_bytes()[128:132] == b"DICM"


def test_any_label_counts_and_none_is_nothing() -> None:
    volume = phantoms.scan((0, 5))
    labels = np.zeros(volume.shape_zyx, dtype=np.uint8)
    labels[0, 0, :3] = (1, 2, 255)
    assert volume_ml(labels, volume) == pytest.approx(3 * 0.25 * 5 / 1000)
    assert volume_ml(np.zeros_like(labels), volume) == 0.0


def test_the_table_has_a_row_for_each_slice_with_blood() -> None:
    volume = phantoms.scan((0, 4, 8, 15), spacing_yx_mm=(0.5, 0.4))
    rows = slice_table(painted(volume, [0, 10, 0, 20]), volume)
    assert [row.slice_index for row in rows] == [1, 3]
    assert rows[0] == SliceRow(1, pytest.approx(2.0), pytest.approx(4.0), pytest.approx(0.008))
    assert rows[1] == SliceRow(3, pytest.approx(4.0), pytest.approx(7.0), pytest.approx(0.028))


@given(
    hnp.arrays(bool, (6, 3, 4)),
    st.lists(st.floats(0.5, 9.0), min_size=5, max_size=5),
    st.floats(-30, 30),
)
def test_the_table_adds_up_to_the_volume(mask: Mask, gaps: list[float], tilt: float) -> None:
    volume = phantoms.scan(np.cumsum([0.0, *gaps]).tolist(), (3, 4), tilt_degrees=tilt)
    assert sum(row.volume_ml for row in slice_table(mask, volume)) == pytest.approx(
        volume_ml(mask, volume), rel=1e-9, abs=1e-12
    )


def test_a_mask_of_another_shape_is_refused_in_one_sentence() -> None:
    volume = phantoms.scan()
    for measured in (volume_ml, slice_table, hu_statistics):
        with pytest.raises(VolumeError, match=r"\(4, 12, 16\); got \(4, 16, 12\); take"):
            measured(np.zeros((4, 16, 12)), volume)


def test_hu_statistics_of_four_voxels() -> None:
    volume = phantoms.scan()
    hu_zyx = volume.hu_zyx.copy()
    mask = painted(volume, [4, 0, 0, 0])
    hu_zyx[mask] = (50, 60, 60, 70)
    found = hu_statistics(mask, CTVolume(hu_zyx, volume.geometry, "phantom"))
    assert found is not None
    assert (found.voxels, found.mean, found.minimum, found.median, found.maximum) == (
        4,
        60,
        50,
        60,
        70,
    )
    assert found.sd == pytest.approx(math.sqrt(50))
    assert hu_statistics(np.zeros_like(mask), volume) is None


def test_dice_by_hand() -> None:
    a = np.array([[1, 1, 1, 0], [0, 0, 0, 0]])
    b = np.array([[0, 1, 1, 1], [1, 0, 0, 0]])
    assert dice(a, b) == pytest.approx(2 * 2 / (3 + 4))
    assert dice(a, a) == 1.0
    assert dice(a, np.zeros_like(a)) == 0.0
    assert math.isnan(dice(np.zeros_like(a), np.zeros_like(a)))
    with pytest.raises(VolumeError, match="one shape"):
        dice(a, b.T)


@pytest.mark.parametrize(
    ("before", "after", "growth_ml", "percent", "classic", "absolute"),
    [
        (20.0, 20.0, 0.0, 0.0, False, False),
        (20.0, 25.9, 5.9, 29.5, False, False),  # just under both thresholds of the classic one
        (20.0, 26.0, 6.0, 30.0, True, False),  # exactly 6 mL
        (20.1, 26.1, 6.0, 29.8507, True, False),  # exactly, but for binary fractions
        (10.0, 13.3, 3.3, 33.0, True, False),  # exactly 33 %
        (10.0, 13.2, 3.2, 32.0, False, False),
        (40.0, 52.5, 12.5, 31.25, True, True),  # exactly 12.5 mL
        (40.0, 52.4, 12.4, 31.0, True, False),
        (30.0, 12.0, -18.0, -60.0, False, False),  # evacuated
    ],
)
def test_expansion_at_its_thresholds(
    before: float, after: float, growth_ml: float, percent: float, classic: bool, absolute: bool
) -> None:
    found = expansion(before, after)
    assert found.growth_ml == pytest.approx(growth_ml)
    assert found.growth_percent == pytest.approx(percent, abs=1e-3)
    assert (found.classic, found.absolute, found.revised) == (classic, absolute, None)


def test_a_threshold_that_must_be_exceeded_is_not_met_by_reaching_it() -> None:
    assert not expansion(20.0, 26.0, inclusive=False).classic
    assert not expansion(40.0, 52.5, inclusive=False).absolute
    assert expansion(40.0, 52.6, inclusive=False).absolute


def test_from_nothing_only_millilitres_count() -> None:
    assert expansion(0.0, 5.0).growth_percent is None
    assert not expansion(0.0, 5.0).classic
    assert expansion(0.0, 6.0).classic


@pytest.mark.parametrize(
    ("ivh_ml", "revised"),
    [
        ((0.0, 0.0), False),
        ((0.0, 0.01), True),
        ((3.0, 3.9), False),
        ((3.0, 4.0), True),
        ((4.0, 0.0), False),
    ],
)
def test_the_revised_definition_adds_new_or_growing_ivh(
    ivh_ml: tuple[float, float], revised: bool
) -> None:
    assert expansion(20.0, 21.0, ivh_ml=ivh_ml).revised is revised
    assert expansion(20.0, 30.0, ivh_ml=ivh_ml).revised is True


def test_every_definition_has_a_rule_and_a_source() -> None:
    assert list(DEFINITIONS) == ["classic", "absolute", "revised"]
    for definition in DEFINITIONS.values():
        assert "mL" in definition.rule
        assert "20" in definition.source
