"""Slabs of a thin series: which slices make one, and that each is their mean where it lies."""

from __future__ import annotations

import numpy as np
import phantoms
import pytest

from ichseg.scan.slabs import SLAB_MM, Slab, hu_of, slabs_of
from ichseg.scan.volume import CTVolume


def ramp(positions_mm: list[float], tilt_degrees: float = 0.0) -> CTVolume:
    """Slices whose HU are ten times their number."""
    where = phantoms.geometry(positions_mm, tilt_degrees=tilt_degrees)
    numbers = np.arange(len(positions_mm), dtype=np.int16)[:, None, None]
    return CTVolume(np.broadcast_to(10 * numbers, (len(positions_mm), 8, 6)), where, name="ramp")


@pytest.mark.parametrize(
    ("slices", "spacing_mm", "sizes"),
    [
        (300, 0.5, {10}),
        (307, 0.5, {9, 10}),  # what is left over is shared among all
        (200, 0.625, {8}),
        (100, 1.0, {5}),
        (101, 1.25, {4, 3}),
        (60, 2.0, {2}),
    ],
)
def test_a_slab_is_of_as_many_slices_as_fit_into_5_mm(
    slices: int, spacing_mm: float, sizes: set[int]
) -> None:
    found = slabs_of(ramp([k * spacing_mm for k in range(slices)]))
    assert found is not None
    groups = [slab.slices for slab in found.each]
    assert [k for group in groups for k in group] == list(range(slices))
    assert {len(group) for group in groups} == sizes
    assert max(sizes) * spacing_mm <= SLAB_MM
    assert all(found.number(k) == n for n, group in enumerate(groups) for k in group)


@pytest.mark.parametrize(("slices", "spacing_mm"), [(60, 2.5), (30, 5.0), (29, 0.5)])
def test_thick_slices_and_short_stacks_have_none(slices: int, spacing_mm: float) -> None:
    assert slabs_of(ramp([k * spacing_mm for k in range(slices)])) is None


def test_a_slab_is_the_mean_of_its_slices_in_their_middle() -> None:
    volume = ramp([float(k) for k in range(20)])
    found = slabs_of(volume)
    assert found is not None
    assert found.scan.hu_zyx[:, 0, 0].tolist() == [20, 70, 120, 170]
    assert found.scan.geometry.slice_positions_mm.tolist() == [2, 7, 12, 17]
    assert hu_of(volume, found.each[1])[0, 0] == 70 and hu_of(volume, 7)[0, 0] == 70
    assert slabs_of(volume) is found, "made once"


def test_slabs_are_known_by_their_slices() -> None:
    one, other = (Slab(range(5, 10), np.zeros((2, 2), np.int16) + n) for n in (0, 1))
    assert one == other and {one: 1}[other] == 1


def test_uneven_slices_count_with_their_heights() -> None:
    """Slices of 1 mm, then of 5 mm: these are slabs by themselves."""
    found = slabs_of(ramp([*map(float, range(30)), 34.5, 39.5, 44.5]))
    assert found is not None
    groups = [slab.slices for slab in found.each]
    assert groups[-3:] == [range(30, 31), range(31, 32), range(32, 33)]
    assert max(map(len, groups)) <= 5


@pytest.mark.parametrize("tilt_degrees", [-20.0, 20.0])
def test_a_slab_of_a_tilted_stack_is_a_mean_at_right_angles_to_its_slices(
    tilt_degrees: float,
) -> None:
    """A rod at right angles to the slices stays as thin as it is."""
    positions_mm = np.arange(40) * 1.0
    where = phantoms.geometry(list(positions_mm), tilt_degrees=tilt_degrees)
    hu = np.zeros((40, 96, 16), np.int16)
    wander_px = np.sin(np.radians(tilt_degrees)) / 0.5
    for k in range(40):
        middle = round(48 + wander_px * (k - 20))
        hu[k, middle - 3 : middle + 4] = 100
    found = slabs_of(CTVolume(hu, where, name="rod"))
    assert found is not None
    for slab in found.each:
        assert (slab.hu_yx[:, 8] > 50).sum() == 7
        assert (slab.hu_yx[:, 8] > 90).sum() >= 5, "an unmoved mean has 3"
