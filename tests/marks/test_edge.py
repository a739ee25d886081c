"""The edge at half height, against discs and bands whose blurred edge is known in closed form."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy import ndimage

from ichseg.marks.edge import Edge, _step_across, half_height_edge

SPACING = (0.5, 0.4)
SHAPE = (160, 200)  # 80 mm each way
TISSUE, BLOOD = 35.0, 65.0
Mask = NDArray[np.bool_]


def radius_mm(centre_mm: tuple[float, float] = (40.0, 40.0)) -> NDArray[np.float64]:
    """Distance of each pixel to a centre in mm (y, x)."""
    y, x = np.indices(SHAPE)
    return np.hypot((y + 0.5) * SPACING[0] - centre_mm[0], (x + 0.5) * SPACING[1] - centre_mm[1])


def blurred(hu: NDArray[np.float64], sigma_mm: float) -> NDArray[np.float64]:
    return np.asarray(ndimage.gaussian_filter(hu, [sigma_mm / step for step in SPACING]))


def disc_hu(radius: float, sigma_mm: float = 0.8, blood: float = BLOOD) -> NDArray[np.float64]:
    return blurred(np.where(radius_mm() < radius, blood, TISSUE), sigma_mm)


def area_mm2(mask: Mask) -> float:
    return float(mask.sum()) * SPACING[0] * SPACING[1]


def raised_mm(sigma_mm: float) -> float:
    """How far inside ``level_up`` puts an edge: over a blurred step's steepness, 1 / (s sqrt(2 pi)) a mm."""
    return (
        Edge().level_up
        * float(np.hypot(sigma_mm, Edge().fine.smooth_mm))
        * float(np.sqrt(2 * np.pi))
    )


@pytest.mark.parametrize("radius", [6.0, 10.0, 18.0])
@pytest.mark.parametrize("off_mm", [-1.2, 0.6, 1.2])
def test_a_blurred_disc_gets_its_own_edge_back(radius: float, off_mm: float) -> None:
    """Whatever its curvature: plain half height of a disc of radius R, blurred by s, is smaller by s^2 / 2 R.

    A tenth of a millimetre, a quarter of a pixel, is let through.
    """
    sigma = 0.8
    after, (judged,) = half_height_edge(
        radius_mm() < radius + off_mm, disc_hu(radius, sigma), SPACING
    )
    found = np.sqrt(area_mm2(after) / np.pi)
    assert found == pytest.approx(radius - raised_mm(sigma), abs=0.11)
    assert judged.left_alone is None
    assert judged.outline == 1
    assert judged.pixels_after == after.sum()


@pytest.mark.parametrize("radius", [8.0, 14.0])
def test_oedema_and_a_pale_rim_do_not_move_the_edge(radius: float) -> None:
    """Blood is palest and oedema darkest at the edge: the middle between core and ring would lie too high there."""
    inside = np.maximum(radius - radius_mm(), 0)
    outside = np.maximum(radius_mm() - radius, 0)
    blood = 55 - 6 * np.exp(-inside / 2)
    tissue = 35 - 12 * np.exp(-((outside / 4) ** 2))
    hu = blurred(np.where(radius_mm() < radius, blood, tissue), 0.9)
    after, (judged,) = half_height_edge(radius_mm() < radius + 0.6, hu, SPACING)
    assert judged.left_alone is None
    assert np.sqrt(area_mm2(after) / np.pi) == pytest.approx(radius, abs=0.2)


def test_a_profile_gives_back_the_slopes_and_the_blurred_step_it_was_made_of() -> None:
    """Closed form: a step of blur s at a place c, blood 0.9 - 0.05 a mm inside, tissue -0.1 + 0.03 a mm outside."""
    fine = np.arange(-8, 8, 0.01)
    place, sigma = 0.3, 1.2
    off = fine - place
    ideal = np.where(off < 0, 0.9 - 0.05 * off, -0.1 + 0.03 * off)
    seen = ndimage.gaussian_filter1d(ideal, sigma / 0.01, mode="nearest")
    at = np.arange(-4.0, 4.01, 0.25)
    profile = np.interp(at, fine, seen)
    blood, tissue, blur = _step_across(at, profile, np.full(at.size, 10.0), 1e-6)
    assert (blood, tissue) == pytest.approx((0.9, -0.1), abs=0.01)
    assert blur == sigma


def test_an_outline_moves_no_farther_than_the_reach() -> None:
    off_mm = Edge().reach_mm + 0.6
    model = radius_mm() < 10 + off_mm
    after, (judged,) = half_height_edge(model, disc_hu(10), SPACING)
    assert judged.left_alone is None
    assert np.sqrt(area_mm2(after) / np.pi) == pytest.approx(10.6, abs=0.2)


def test_noise_is_judged_on_the_mean() -> None:
    rng = np.random.default_rng(0)
    hu = disc_hu(12) + rng.normal(0, 8, SHAPE)
    after, _ = half_height_edge(radius_mm() < 13, hu, SPACING)
    assert area_mm2(after) == pytest.approx(np.pi * 12**2, rel=0.03)
    assert ndimage.label(after)[1] == 1
    assert not (ndimage.binary_fill_holes(after) & ~after).any()


def test_a_part_of_pale_blood_that_the_model_missed_in_noise_comes_back() -> None:
    """A bite of 5 mm out of a disc 12 HU above its tissue, in noise of 5 HU."""
    rng = np.random.default_rng(1)
    noise = ndimage.gaussian_filter(rng.normal(size=SHAPE), [0.5 / step for step in SPACING])
    hu = disc_hu(14, blood=TISSUE + 12) + noise * (5 / noise.std())
    model = (radius_mm() < 14) & (radius_mm((40.0, 54.0)) > 5)
    after, (judged,) = half_height_edge(model, hu, SPACING)
    assert judged.left_alone is None
    assert area_mm2(model) < 0.95 * np.pi * 14**2
    assert area_mm2(after) == pytest.approx(np.pi * 14**2, rel=0.03)
    outline = after & ~ndimage.binary_erosion(after)
    assert np.abs(radius_mm()[outline] - 14).mean() < 0.8


def test_fluid_near_the_blood_is_not_taken_for_tissue() -> None:
    """A ventricle 3 mm beside a disc: with it in the mean of the tissue the middle would lie too low."""
    x = (np.indices(SHAPE)[1] + 0.5) * SPACING[1]
    ideal = np.where(radius_mm() < 10, 50.0, np.where(x > 53, 8.0, TISSUE))
    after, (judged,) = half_height_edge(radius_mm() < 11, blurred(ideal, 0.8), SPACING)
    assert judged.left_alone is None
    assert area_mm2(after) == pytest.approx(np.pi * 10**2, rel=0.03)


def test_the_tissue_is_that_beside_each_place() -> None:
    """Half of the disc lies in oedema, the other in tissue: each side has a middle of its own."""
    ideal = np.where(radius_mm() < 12, BLOOD, TISSUE)
    left = np.indices(SHAPE)[1] < SHAPE[1] // 2
    ideal[left & (radius_mm() >= 12)] = 15
    after, _ = half_height_edge(radius_mm() < 13.2, blurred(ideal, 0.8), SPACING)
    for side in (left, ~left):
        assert area_mm2(after & side) == pytest.approx(np.pi * 12**2 / 2, rel=0.04)


def test_thin_blood_is_left_alone() -> None:
    y = (np.indices(SHAPE)[0] + 0.5) * SPACING[0]
    band = np.abs(y - 40) < 2.5
    hu = blurred(np.where(np.abs(y - 40) < 2, BLOOD, TISSUE), 0.8)
    after, (judged,) = half_height_edge(band, hu, SPACING)
    np.testing.assert_array_equal(after, band)
    assert judged.left_alone == "thin"


@pytest.mark.parametrize(
    ("hu", "reason"), [(1000.0, "bone"), (-1000.0, "bone")], ids=["bone", "air"]
)
def test_blood_along_bone_is_left_alone(hu: float, reason: str) -> None:
    """A half disc that lies on bone, as an epidural hematoma does, with less of its outline in tissue."""
    flat = (np.indices(SHAPE)[0] + 0.5) * SPACING[0] < 40
    distance = radius_mm((40.0, 40.0))
    model = (distance < 20) & ~flat & (np.indices(SHAPE)[0] * SPACING[0] < 49)
    image = np.where(
        flat,
        hu,
        np.where((distance < 19) & (np.indices(SHAPE)[0] * SPACING[0] < 48), BLOOD, TISSUE),
    )
    after, (judged,) = half_height_edge(model, blurred(image, 0.5), SPACING)
    np.testing.assert_array_equal(after, model)
    assert judged.left_alone == reason


def test_beside_bone_the_outline_stays_and_elsewhere_it_moves() -> None:
    y = (np.indices(SHAPE)[0] + 0.5) * SPACING[0]
    bone = y < 29
    model = (radius_mm() < 11) & ~bone
    image = np.where(bone, 1000.0, np.where(radius_mm() < 10, BLOOD, TISSUE))
    after, (judged,) = half_height_edge(
        model, blurred(image, 0.5), SPACING, replace(Edge(), least_judged=0.5)
    )
    assert judged.left_alone is None
    assert 0.5 < judged.outline < 1
    near = y < 31
    np.testing.assert_array_equal(after[near], model[near])
    low = y > 40
    assert area_mm2(after & low) == pytest.approx(np.pi * 10**2 / 2, rel=0.03)


def test_bone_of_an_8_bit_scan_that_ends_at_100_hu_is_bone() -> None:
    y = (np.indices(SHAPE)[0] + 0.5) * SPACING[0]
    bone = y < 29
    model = (radius_mm() < 11) & ~bone
    image = np.where(bone, 1000.0, np.where(radius_mm() < 10, BLOOD, TISSUE))
    hu = np.clip(blurred(image, 0.5), -20, 100)
    after, (judged,) = half_height_edge(model, hu, SPACING, replace(Edge(), least_judged=0.5))
    assert judged.left_alone is None
    np.testing.assert_array_equal(after[y < 31], model[y < 31])


def test_blood_that_is_like_its_tissue_is_left_alone() -> None:
    model = radius_mm() < 11
    after, (judged,) = half_height_edge(model, disc_hu(10, blood=TISSUE + 6), SPACING)
    np.testing.assert_array_equal(after, model)
    assert judged.left_alone == "contrast"


@pytest.mark.parametrize("at_mm", [(2.0, 40.0), (40.0, 77.0)])
def test_an_outline_at_the_slices_side_stays_and_elsewhere_it_moves(
    at_mm: tuple[float, float],
) -> None:
    """A disc that lies partly beyond the slice, where there is no ring of tissue."""
    distance = radius_mm(at_mm)
    y, x = np.indices(SHAPE)
    from_side = (y + 0.5) * SPACING[0] if at_mm[0] < 10 else 80 - (x + 0.5) * SPACING[1]
    model = distance < 11
    hu = blurred(np.where(distance < 10, BLOOD, TISSUE), 0.8)
    after, (judged,) = half_height_edge(model, hu, SPACING, replace(Edge(), least_judged=0.3))
    assert judged.left_alone is None
    assert judged.outline < 0.9
    np.testing.assert_array_equal(after[from_side < 2.5], model[from_side < 2.5])
    far = from_side > 5
    disc = distance < 10 - raised_mm(0.8)
    assert area_mm2(after & far) == pytest.approx(area_mm2(disc & far), rel=0.03)


def test_each_component_is_judged_for_itself() -> None:
    large, small = radius_mm((30.0, 30.0)) < 11, radius_mm((60.0, 60.0)) < 2
    hu = blurred(np.where(radius_mm((30.0, 30.0)) < 10, BLOOD, TISSUE), 0.8)
    after, judged = half_height_edge(large | small, hu, SPACING)
    assert [one.left_alone for one in judged] == [None, "thin"]
    np.testing.assert_array_equal(after[small], True)
    assert area_mm2(after & ~small) == pytest.approx(np.pi * 10**2, rel=0.03)


def test_neighbouring_blood_is_not_taken_for_tissue() -> None:
    """Two discs 3 mm apart: the ring of one holds the other, which must not raise its middle."""
    a, b = radius_mm((40.0, 29.0)), radius_mm((40.0, 50.0))
    hu = blurred(np.where((a < 9) | (b < 9), BLOOD, TISSUE), 0.6)
    after, judged = half_height_edge((a < 9.8) | (b < 9.8), hu, SPACING)
    assert [one.left_alone for one in judged] == [None, None]
    assert area_mm2(after) == pytest.approx(2 * np.pi * 9**2, rel=0.03)


def test_an_empty_mask_stays_empty_and_integers_are_taken() -> None:
    hu = np.rint(disc_hu(10)).astype(np.int16)
    nothing, judged = half_height_edge(np.zeros(SHAPE, np.uint8), hu, SPACING)
    assert not nothing.any()
    assert judged == ()
    after, _ = half_height_edge((radius_mm() < 11).astype(np.uint8), hu, SPACING)
    assert after.dtype == bool
    assert area_mm2(after) == pytest.approx(np.pi * 10**2, rel=0.03)
