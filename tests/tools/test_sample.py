"""The synthetic head CT: what its README promises holds for the files that are committed."""

from __future__ import annotations

import gzip
from importlib.util import find_spec
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
from numpy.typing import NDArray
from scipy import ndimage

from ichseg.sample import sample_paths

VOXEL_ML = 0.45 * 0.45 * 5.0 / 1000.0
IPH, IVH = 1, 2


def load(path: Path) -> tuple[nib.Nifti1Image, NDArray[np.int16]]:
    """The image, and its voxels as [z, y, x] with y to the back and x to the patient's left."""
    image = nib.load(path)
    return image, np.asarray(image.dataobj).transpose(2, 1, 0)[:, ::-1, ::-1]


@pytest.fixture(scope="module")
def hu() -> NDArray[np.int16]:
    return load(sample_paths()[0])[1]


@pytest.fixture(scope="module")
def reference() -> NDArray[np.int16]:
    return load(sample_paths()[1])[1]


@pytest.fixture(scope="module")
def inside(hu: NDArray[np.int16]) -> NDArray[np.bool_]:
    """Inside the vault, 6 mm from bone, on the slices where the vault is a closed ring."""
    mask = np.zeros(hu.shape, bool)
    for k in range(12, 20):
        bone = ndimage.binary_closing(hu[k] > 300, iterations=3)
        cavity = ndimage.binary_fill_holes(bone) & ~bone
        mask[k] = ndimage.binary_erosion(cavity, iterations=13)
    return mask


@pytest.mark.parametrize("followup", [False, True])
def test_files_are_small_and_are_int16_hu_and_uint8_labels(followup: bool) -> None:
    ct, mask = sample_paths(followup)
    assert ct.stat().st_size <= 5_000_000
    assert mask.stat().st_size <= 100_000
    assert nib.load(ct).get_data_dtype() == np.int16
    assert nib.load(mask).get_data_dtype() == np.uint8


def test_gzip_holds_no_time_stamp_so_that_making_it_again_gives_the_same_file() -> None:
    for path in (*sample_paths(), *sample_paths(followup=True)):
        raw = path.read_bytes()
        assert raw[4:8] == b"\0\0\0\0"
        assert len(gzip.decompress(raw)) > 352


@pytest.mark.parametrize("followup", [False, True])
def test_truth_lies_on_the_scans_own_ras_grid(followup: bool) -> None:
    ct, mask = (nib.load(p) for p in sample_paths(followup))
    assert ct.shape == mask.shape == (512, 512, 30)
    assert nib.aff2axcodes(ct.affine) == ("R", "A", "S")
    np.testing.assert_allclose(ct.header.get_zooms(), (0.45, 0.45, 5.0), rtol=1e-6)
    np.testing.assert_array_equal(ct.affine, mask.affine)
    np.testing.assert_allclose(ct.get_qform(), ct.get_sform(), atol=1e-5)
    middle = ct.affine @ [255.5, 255.5, 0, 1]
    np.testing.assert_allclose(middle[:2], 0, atol=1e-3)


def test_hu_are_those_of_a_scanner(hu: NDArray[np.int16]) -> None:
    assert hu.min() == -1024
    assert 1200 < hu.max() <= 3071
    corners = hu[:, [0, 0, -1, -1], [0, -1, 0, -1]]
    assert (corners == -1024).all(), "outside the reconstruction circle"


def test_hematoma_is_30_ml_of_clotted_blood_in_one_piece(
    hu: NDArray[np.int16], reference: NDArray[np.int16]
) -> None:
    clot = reference == IPH
    assert 25 < clot.sum() * VOXEL_ML < 35
    assert 50 < hu[clot].mean() < 75
    core = ndimage.binary_erosion(clot, np.ones((1, 5, 5), bool))
    low, high = np.percentile(ndimage.gaussian_filter(hu.astype(float), (0, 2, 2))[core], [5, 95])
    assert 48 < low < high < 76
    assert high - low > 5, "a clot is not even"
    sizes = np.bincount(ndimage.label(clot)[0].ravel())[1:]
    assert sizes.max() > 0.98 * clot.sum()


def test_hematoma_is_irregular(reference: NDArray[np.int16]) -> None:
    """It is clearly not the ellipsoid of its own second moments (which would give a Dice of 1)."""
    index = np.argwhere(reference == IPH) * [5.0, 0.45, 0.45]
    middle, covariance = index.mean(0), np.cov(index.T)
    grid = np.moveaxis(np.indices(reference.shape), 0, -1) * [5.0, 0.45, 0.45] - middle
    squared = np.einsum("...i,ij,...j", grid, np.linalg.inv(covariance), grid)
    ellipsoid = squared <= 5.0  # a solid ellipsoid's semi-axis is sqrt(5) standard deviations
    overlap = (
        2 * (ellipsoid & (reference == IPH)).sum() / (ellipsoid.sum() + (reference == IPH).sum())
    )
    assert 0.6 < overlap < 0.93


def test_hematoma_lies_deep_on_the_left(reference: NDArray[np.int16]) -> None:
    z, y, x = (c.mean() for c in np.nonzero(reference == IPH))
    assert 10 < z < 16
    assert 200 < y < 290
    assert 290 < x < 350, "the patient's left is on the right of the image"


def test_blood_in_the_ventricles_is_there_and_lies_low(
    hu: NDArray[np.int16], reference: NDArray[np.int16]
) -> None:
    ventricular = reference == IVH
    assert 1.5 < ventricular.sum() * VOXEL_ML < 8
    assert 42 < hu[ventricular].mean() < 70
    rows = np.nonzero(ventricular)[1]
    assert np.percentile(rows, 90) > 310, "some has sunk to the occipital horns"
    assert set(np.unique(reference)) == {0, IPH, IVH}


def test_blood_is_brighter_than_the_brain_around_it_and_has_a_dark_rim(
    hu: NDArray[np.int16], reference: NDArray[np.int16]
) -> None:
    rim, beyond = [], []
    for k in range(11, 15):
        gap_mm = ndimage.distance_transform_edt(reference[k] == 0) * 0.45
        rim.append(hu[k][(gap_mm > 1.5) & (gap_mm < 4)])
        beyond.append(hu[k][(gap_mm > 6) & (gap_mm < 10)])
    assert np.median(np.concatenate(rim)) < np.median(np.concatenate(beyond)) - 2
    assert hu[reference == IPH].mean() > np.median(np.concatenate(beyond)) + 20


def test_brain_has_the_hu_and_the_noise_of_a_clinical_scan(
    hu: NDArray[np.int16], reference: NDArray[np.int16], inside: NDArray[np.bool_]
) -> None:
    brain = inside & ~ndimage.binary_dilation(reference > 0, iterations=20)
    smooth = ndimage.gaussian_filter(hu.astype(float), (0, 2.5, 2.5))
    p5, p50, p95 = np.percentile(smooth[brain], [5, 50, 95])
    assert 29 < p50 < 36
    assert p5 > 8
    assert p95 < 45
    # The noise is what changes from a pixel to the one 8 pixels away in even tissue.
    even = brain & (np.abs(smooth - 31) < 2)
    step = hu[:, :, 8:].astype(float) - hu[:, :, :-8]
    pairs = step[even[:, :, 8:] & even[:, :, :-8]] / np.sqrt(2)
    assert 2.5 < pairs.std() < 5.0


def test_noise_is_correlated_as_reconstructed_noise_is(hu: NDArray[np.int16]) -> None:
    patch = hu[19, 235:275, 170:210].astype(float)
    patch -= ndimage.gaussian_filter(patch, 6)
    neighbour = (patch[:, 1:] * patch[:, :-1]).mean() / patch.var()
    assert 0.3 < neighbour < 0.95


def test_skull_has_two_tables_with_diploe_between(hu: NDArray[np.int16]) -> None:
    """Along rays from the middle of a high slice the bone is hard, softer, and hard again."""
    middle = ndimage.center_of_mass(ndimage.binary_fill_holes(hu[15] > 300))
    sandwiches = 0
    for angle in np.linspace(0, 2 * np.pi, 72, endpoint=False):
        r = np.arange(0, 250, 0.5)
        ray = ndimage.map_coordinates(
            hu[15].astype(float),
            [middle[0] + r * np.sin(angle), middle[1] + r * np.cos(angle)],
            order=1,
            mode="nearest",
        )
        hard = np.flatnonzero(ray > 300)
        assert 3.0 < np.ptp(hard) * 0.5 * 0.45 < 14.0, "thickness in mm"
        bone = ray[hard[0] : hard[-1] + 1]
        third = len(bone) // 3
        sandwiches += bone[third:-third].min() < min(bone[:third].max(), bone[-third:].max()) - 150
    assert sandwiches > 45


def test_head_is_not_symmetric(hu: NDArray[np.int16]) -> None:
    bone = hu[14] > 300
    mirrored = bone[:, ::-1]
    shift = round(2 * (255.5 - np.nonzero(bone)[1].mean()))
    overlap = bone & np.roll(mirrored, -shift, axis=1)
    assert 2 * overlap.sum() / (2 * bone.sum()) < 0.9


def test_lowest_slices_hold_air_cells_in_bone_and_the_highest_little(
    hu: NDArray[np.int16],
) -> None:
    bone = ndimage.binary_closing(hu > 250, np.ones((1, 9, 9), bool))
    cells = bone & (hu < -200)
    assert cells[:7].sum() > 600
    assert (hu[29] > -200).sum() < 0.35 * (hu[14] > -200).sum()


def test_readme_says_that_it_is_synthetic_and_names_its_source() -> None:
    text = (sample_paths()[0].parent / "README.md").read_text(encoding="utf-8")
    first = text.split("|", maxsplit=1)[0]
    assert "synthetic" in first
    assert "not made from any patient's images" in " ".join(first.split())
    assert "Copyright (C) 1993-2004 Louis Collins" in text


def test_readmes_figures_are_those_of_the_files(reference: NDArray[np.int16]) -> None:
    text = (sample_paths()[0].parent / "README.md").read_text(encoding="utf-8")
    later_hu, later = (load(path)[1] for path in sample_paths(followup=True))
    for name, labels in (("", reference), ("follow-up: ", later)):
        for label, kind in ((IPH, "IPH"), (IVH, "IVH")):
            voxels = int((labels == label).sum())
            slices = np.flatnonzero((labels == label).any((1, 2)))
            row = f"| {name}{label}, {kind} | {voxels:,} | {voxels * VOXEL_ML:.1f} mL "
            assert f"{row}| {slices.min()} to {slices.max()} |" in text
    assert f"| {later_hu[later == IPH].mean():.0f} |" in text
    before, after = ((labels == IPH).sum() * VOXEL_ML for labels in (reference, later))
    grown = f"grown by\n{after - before:.1f} mL ({100 * (after / before - 1):.1f} %)"
    assert grown in text
    ivh_grown = ((later == IVH).sum() - (reference == IVH).sum()) * VOXEL_ML
    assert f"the IVH has\ngrown by {ivh_grown:.1f} mL" in text
    best = int((reference == IPH).sum((1, 2)).argmax())
    rows, columns = np.nonzero(reference[best] == IPH)
    box = f"{columns.min()},{rows.min()},{columns.max() + 1},{rows.max() + 1}"
    assert f"slice {best} " in text
    assert box in text


def test_maker_writes_a_file_that_nibabel_reads_as_it_was(tmp_path: Path) -> None:
    from tools.phantom.sample import write_nifti

    array = np.arange(30 * 512 * 512, dtype=np.int32).reshape(30, 512, 512).astype(np.int16)
    write_nifti(tmp_path / "a.nii.gz", array)
    write_nifti(tmp_path / "b.nii.gz", array)
    assert (tmp_path / "a.nii.gz").read_bytes() == (tmp_path / "b.nii.gz").read_bytes()
    image, again = load(tmp_path / "a.nii.gz")
    np.testing.assert_array_equal(again, array)
    np.testing.assert_array_equal(image.affine, nib.load(sample_paths()[0]).affine)


def test_pose_turns_about_the_heads_centre_and_keeps_lengths_up_to_the_heads_scale() -> None:
    from tools.phantom.sample import HEAD_CENTRE, HEAD_SCALE, HeadPhantom

    phantom = HeadPhantom(rotation_degrees=(10, -5, 20), translation_mm=(4, -3, 2))
    points = np.float32([[4, -3, 2], [14, -3, 2], [4, 17, 2], [4, -3, 32]]).T
    head = phantom.to_head(points)
    np.testing.assert_allclose(head[:, 0], HEAD_CENTRE, atol=1e-4)
    lengths = np.linalg.norm(head[:, 1:] - head[:, :1], axis=0) * HEAD_SCALE
    np.testing.assert_allclose(lengths, [10, 20, 30], rtol=1e-4)


def test_larger_hematoma_is_larger_by_its_scale_and_has_the_same_shape() -> None:
    from tools.phantom.head import Hematoma, Texture

    texture, step = Texture(), 1.5
    axes = [np.arange(c - 45, c + 45, step) for c in Hematoma().centre]
    points = np.stack([g.ravel() for g in np.meshgrid(*axes, indexing="ij")])
    small, large = (
        (Hematoma(scale).distance(points, texture.medium, texture.fine) < 0).sum() * step**3
        for scale in (1.0, 1.4)
    )
    assert large / small == pytest.approx(1.4, rel=0.01)
    # The head is scaled down by 0.94: these are millilitres in the scan.
    assert small * 0.94**3 / 1000 == pytest.approx(29, abs=4)


def test_followup_is_the_same_head_turned_and_moved_with_a_hematoma_40_percent_larger(
    hu: NDArray[np.int16], reference: NDArray[np.int16]
) -> None:
    from tools.phantom.sample import BASELINE, FOLLOWUP, HEAD_CENTRE, HEAD_SCALE, rotation

    later_hu, later = (load(path)[1] for path in sample_paths(followup=True))
    assert (later == IPH).sum() / (reference == IPH).sum() == pytest.approx(1.4, abs=0.03)

    # Hard bone of the first scan is, where the two poses put it, bone in the second.
    bone = np.argwhere(hu[8:22] > 900)[::50] + np.array([8, 0, 0])
    z, y, x = (bone - [0, 255.5, 255.5]).T * [[5.0], [-0.45], [-0.45]]
    head = BASELINE.to_head(np.stack([x, y, z - 54]).astype(np.float32))
    centred = (head - np.float32(HEAD_CENTRE)[:, None]) * HEAD_SCALE
    there = rotation(FOLLOWUP.rotation_degrees) @ centred
    there += np.float32(FOLLOWUP.translation_mm)[:, None]

    def is_bone(x: NDArray[np.float32], y: NDArray[np.float32], z: NDArray[np.float32]) -> float:
        at = np.rint([(z + 54) / 5, 255.5 - y / 0.45, 255.5 - x / 0.45]).astype(int)
        return float((later_hu[tuple(at)] > 300).mean())

    assert is_bone(*there) > 0.9
    assert is_bone(x, y, z - 54) < 0.75, "the head has moved"


def test_scanner_shows_water_as_water_with_noise_and_no_cupping() -> None:
    from tools.phantom.scanner import scan

    size, pixel_mm = 256, 0.9
    axis = (np.arange(size) - (size - 1) / 2) * pixel_mm
    radius = np.hypot(*np.meshgrid(axis, axis))
    water = np.where(radius < 80, 0.0, -1000.0)[None]
    seen = scan(water, pixel_mm, seed=3)[0]
    assert seen[radius < 25].mean() == pytest.approx(0, abs=1)
    assert seen[(radius > 60) & (radius < 75)].mean() == pytest.approx(0, abs=1)
    assert 1 < seen[radius < 60].std() < 6
    assert (seen[radius > 116] == -1024).all()
    np.testing.assert_array_equal(seen, scan(water, pixel_mm, seed=3)[0])
    assert not np.array_equal(seen, scan(water, pixel_mm, seed=4)[0])


def test_only_bone_hardens_the_beam_and_makes_what_is_behind_it_too_dark() -> None:
    from tools.phantom.scanner import hardening

    water_cm, bone_cm = np.array([15.0, 15.0, 15.0]), np.array([0.0, 1.0, 3.0])
    error, attenuation = hardening(water_cm, bone_cm)
    assert error[0] == pytest.approx(0, abs=1e-4)
    assert error[2] < error[1] < 0
    assert (np.diff(attenuation) > 0).all()


@pytest.mark.slow
@pytest.mark.skipif(find_spec("nilearn") is None, reason="the MNI152 maps of nilearn are not here")
@pytest.mark.parametrize("followup", [False, True])
def test_one_slice_made_again_is_the_committed_one(followup: bool) -> None:
    """The reference mask of the middle slice, voxel for voxel (the whole scan takes minutes)."""
    from tools.phantom.head import Head, Hematoma
    from tools.phantom.sample import BASELINE, FOLLOWUP, ideal_slice, reference_of

    phantom = FOLLOWUP if followup else BASELINE
    _, iph, ivh = ideal_slice(Head(Hematoma(phantom.hematoma_scale)), phantom, 12)
    np.testing.assert_array_equal(reference_of(iph, ivh), load(sample_paths(followup)[1])[1][12])
