"""NIfTI scans: the display frame, the geometry in millimetres, and masks on the scan's own grid."""

from __future__ import annotations

import gzip
import itertools
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import phantoms
import pytest
import SimpleITK as sitk
from hypothesis import given, settings
from hypothesis import strategies as st

from ichseg import NOTICE, __version__
from ichseg.errors import VolumeError
from ichseg.files.nifti_mask import read_mask, write_mask
from ichseg.measures.volume import volume_ml
from ichseg.scan.geometry import Geometry
from ichseg.scan.read import read_volume
from ichseg.scan.volume import CTVolume

SHAPE_ZYX = (9, 40, 48)
AXCODES = [
    "".join(side[flip] for side, flip in zip(order, flips, strict=True))
    for order in itertools.permutations(["RL", "AP", "SI"])
    for flips in itertools.product((0, 1), repeat=3)
]


def display_affine(
    spacing_zyx: tuple[float, float, float] = (5.0, 0.9, 0.7),
    origin_xyz: tuple[float, float, float] = (31.0, 84.5, -412.25),
    tilt_degrees: float = 0.0,
) -> np.ndarray[Any, Any]:
    """(x, y, z) index in the display frame -> RAS+ mm; a tilted gantry still moves along the table."""
    dz, dy, dx = spacing_zyx
    tilt = np.radians(tilt_degrees)
    affine = np.eye(4)
    affine[:3, 0] = -dx, 0, 0
    affine[:3, 1] = 0, -dy * np.cos(tilt), -dy * np.sin(tilt)
    affine[:3, 2] = 0, 0, dz
    affine[:3, 3] = origin_xyz
    return affine


def world_mm(volume: CTVolume, zyx: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    """RAS+ mm of voxels [n, 3] by the scan's geometry."""
    where = volume.geometry
    z, y, x = zyx.T
    return where.origins_mm[z] + y[:, None] * where.y_step_mm + x[:, None] * where.x_step_mm


# --- The display frame -----------------------------------------------------------------------------


@pytest.mark.parametrize("axcodes", AXCODES)
def test_any_axis_order_comes_out_in_the_display_frame(tmp_path: Path, axcodes: str) -> None:
    hu_zyx, affine = phantoms.speckled_head(SHAPE_ZYX), display_affine()
    path = phantoms.store_nifti(tmp_path / "scan.nii", hu_zyx, affine, axcodes)
    volume = read_volume(path)
    np.testing.assert_array_equal(volume.hu_zyx, np.maximum(hu_zyx, -1024))
    np.testing.assert_allclose(volume.geometry.affine, affine, atol=1e-4)
    assert volume.shape_zyx == SHAPE_ZYX
    assert volume.spacing_mm == pytest.approx((5.0, 0.9, 0.7), abs=1e-5)
    assert volume.notes == ()


def test_what_a_volume_promises(tmp_path: Path) -> None:
    path = phantoms.store_nifti(
        tmp_path / "case 7.nii.gz", phantoms.speckled_head(), display_affine()
    )
    volume = read_volume(str(path))
    assert volume.name == "case 7"
    assert volume.hu_zyx.dtype == np.int16
    assert volume.hu_zyx.flags.c_contiguous
    assert not volume.hu_zyx.flags.writeable
    assert volume.series == ()


def test_gzip_is_recognised_by_content(tmp_path: Path) -> None:
    path = phantoms.store_nifti(tmp_path / "a.nii", phantoms.speckled_head(), display_affine())
    swapped = tmp_path / "b.nii.gz"
    swapped.write_bytes(path.read_bytes())
    squeezed = tmp_path / "c.nii"
    squeezed.write_bytes(gzip.compress(path.read_bytes()))
    expected = read_volume(path).hu_zyx
    np.testing.assert_array_equal(read_volume(swapped).hu_zyx, expected)
    np.testing.assert_array_equal(read_volume(squeezed).hu_zyx, expected)


def test_a_list_of_one_path_is_that_path(tmp_path: Path) -> None:
    path = phantoms.store_nifti(tmp_path / "a.nii", phantoms.speckled_head(), display_affine())
    assert read_volume([path]).shape_zyx == read_volume(path).shape_zyx


# --- Values ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", ["<i2", ">i2", "<i4", "<f4", ">f8", "<i8"])
def test_whole_values_come_out_as_int16(tmp_path: Path, dtype: str) -> None:
    hu_zyx = phantoms.speckled_head()
    image = nib.Nifti1Image(hu_zyx.transpose(2, 1, 0).astype(dtype), display_affine(), dtype=dtype)
    nib.save(image, tmp_path / "a.nii.gz")
    volume = read_volume(tmp_path / "a.nii.gz")
    assert volume.hu_zyx.dtype == np.int16
    np.testing.assert_array_equal(volume.hu_zyx, hu_zyx)


def test_fractions_come_out_as_float32(tmp_path: Path) -> None:
    hu_zyx = phantoms.speckled_head() + np.float32(0.25)
    volume = read_volume(phantoms.store_nifti(tmp_path / "a.nii", hu_zyx, display_affine()))
    assert volume.hu_zyx.dtype == np.float32
    np.testing.assert_array_equal(volume.hu_zyx, hu_zyx)


@pytest.mark.parametrize(
    ("slope", "intercept", "dtype"),
    [(1, -1024, "int16"), (2, -1024, "int16"), (0.25, 0.3, "float32")],
)
def test_stored_scaling_is_applied(
    tmp_path: Path, slope: float, intercept: float, dtype: str
) -> None:
    hu_zyx = phantoms.speckled_head()
    stored = np.rint((hu_zyx.astype(float) - intercept) / slope).astype(np.int16)
    path = phantoms.store_nifti(tmp_path / "a.nii", stored, display_affine())
    data = bytearray(path.read_bytes())
    data[112:120] = np.array([slope, intercept], "<f4").tobytes()  # scl_slope, scl_inter
    path.write_bytes(data)
    volume = read_volume(path)
    assert volume.hu_zyx.dtype == dtype
    np.testing.assert_allclose(
        volume.hu_zyx, np.maximum(stored * slope + intercept, -1024), rtol=1e-6
    )


@pytest.mark.parametrize("padding", [-1025, -2000, -3024, -32768])
def test_padding_is_clipped_to_the_lowest_hu(tmp_path: Path, padding: int) -> None:
    hu_zyx = phantoms.speckled_head()
    hu_zyx[:, :4] = padding
    volume = read_volume(phantoms.store_nifti(tmp_path / "a.nii", hu_zyx, display_affine()))
    assert (volume.hu_zyx[:, :4] == -1024).all()
    np.testing.assert_array_equal(volume.hu_zyx[:, 4:], hu_zyx[:, 4:])


def test_metal_above_int16_is_kept_as_float(tmp_path: Path) -> None:
    hu_zyx = phantoms.speckled_head().astype(np.int32)
    hu_zyx[4, 20, 20] = 40_000
    volume = read_volume(phantoms.store_nifti(tmp_path / "a.nii", hu_zyx, display_affine()))
    assert volume.hu_zyx.dtype == np.float32
    assert volume.hu_zyx[4, 20, 20] == 40_000


def test_a_missing_offset_is_added_only_when_asked_for(tmp_path: Path) -> None:
    hu_zyx = phantoms.speckled_head()
    stored = (hu_zyx + 1024).astype(np.uint16)
    path = phantoms.store_nifti(tmp_path / "a.nii", stored, display_affine())
    with pytest.raises(VolumeError, match=r"a\.nii: .*open it with add_offset=-1024\."):
        read_volume(path)
    volume = read_volume(path, add_offset=-1024)
    np.testing.assert_array_equal(volume.hu_zyx, hu_zyx)
    assert volume.notes == ("-1024 HU were added to every voxel, as asked.",)


def brain_only(background: int) -> np.ndarray[Any, Any]:
    hu_zyx = phantoms.speckled_head()
    return np.where((hu_zyx > 0) & (hu_zyx < 100), hu_zyx, background).astype(np.int16)


def drawn_head(bone: int) -> np.ndarray[Any, Any]:
    """Flat values without noise or partial volume."""
    hu_zyx = phantoms.speckled_head()
    flat = np.where(hu_zyx < -500, -1000, np.where(hu_zyx > 500, bone, 35))
    flat[:, :, 5] = -100
    return flat.astype(np.int16)


@pytest.mark.parametrize(
    "hu_zyx",
    [
        pytest.param(brain_only(0), id="brain extracted, background 0"),
        pytest.param(brain_only(-1024), id="brain extracted, background air"),
        pytest.param(brain_only(-3024), id="brain extracted, padded"),
        pytest.param(brain_only(0)[:, 12:24, 20:32], id="cropped to brain"),
        pytest.param(phantoms.speckled_head()[2:7, 8:30], id="cropped to the head"),
        pytest.param(np.clip(phantoms.speckled_head(), -1000, 300), id="bone clipped"),
        pytest.param(brain_only(0) * np.float32(1.001), id="brain extracted, resampled"),
        pytest.param(drawn_head(1060), id="drawn, with bone where an offset CT has brain"),
        pytest.param(drawn_head(100), id="drawn, with soft bone"),
    ],
)
def test_true_hounsfield_units_are_taken(tmp_path: Path, hu_zyx: np.ndarray[Any, Any]) -> None:
    volume = read_volume(phantoms.store_nifti(tmp_path / "a.nii", hu_zyx, display_affine()))
    np.testing.assert_allclose(volume.hu_zyx, np.maximum(hu_zyx, -1024))


# --- Geometry --------------------------------------------------------------------------------------


def test_a_tilted_sform_has_perpendicular_heights(tmp_path: Path) -> None:
    affine = display_affine(tilt_degrees=18.5)
    path = phantoms.store_nifti(
        tmp_path / "a.nii", phantoms.speckled_head(), affine, "RAS", qform_code=0
    )
    volume = read_volume(path)
    np.testing.assert_allclose(volume.slice_heights_mm, 5 * np.cos(np.radians(18.5)), rtol=1e-6)
    assert volume.geometry.tilt_degrees == pytest.approx(18.5, abs=1e-4)
    assert volume.notes == ("gantry tilt 18.5 degrees, slices 4.7 mm",)
    voxel_ml = abs(np.linalg.det(affine[:3, :3])) / 1000
    np.testing.assert_allclose(volume.voxel_volumes_ml, voxel_ml, rtol=1e-6)


def test_a_rigidly_turned_head_is_not_a_tilted_gantry(tmp_path: Path) -> None:
    turn = np.eye(4)
    turn[:3, :3] = rotation((0.2, -0.1, 0.15))
    path = phantoms.store_nifti(
        tmp_path / "a.nii", phantoms.speckled_head(), turn @ display_affine(), "LAS"
    )
    volume = read_volume(path)
    assert volume.geometry.tilt_degrees < 0.01
    assert volume.notes == ()


def test_geometry_of_uneven_slices_by_hand() -> None:
    where = phantoms.geometry((0, 4, 8, 12, 13, 20, 27), (0.6, 0.4), tilt_degrees=0)
    assert where.slice_heights_mm.tolist() == [4, 4, 4, 2.5, 4, 7, 7]
    assert where.spacing_yx_mm == pytest.approx((0.6, 0.4))
    assert where.pixel_area_mm2 == pytest.approx(0.24)
    assert where.normal.tolist() == [0, 0, 1]
    assert not where.is_even
    with pytest.raises(VolumeError, match=r"evenly spaced slices, but .* 4\.0 and 7\.0 mm apart"):
        _ = where.affine


def test_rounded_positions_are_still_even() -> None:
    where = phantoms.geometry(np.round(np.arange(40) * 0.625, 1).tolist())
    assert where.is_even
    assert where.affine[2, 2] == pytest.approx(where.slice_positions_mm[-1] / 39)


def test_from_affine_is_the_inverse_of_affine() -> None:
    affine = display_affine(tilt_degrees=12)
    np.testing.assert_allclose(Geometry.from_affine(affine, 7).affine, affine, atol=1e-12)


@pytest.mark.parametrize("tilt_degrees", [0.0, 18.5, -25.0])
@pytest.mark.parametrize("positions_mm", [np.arange(12) * 5.0, [0, 2.5, 5, 7.5, 9, 16, 23, 30]])
def test_the_volume_of_a_slab_in_closed_form(positions_mm: Any, tilt_degrees: float) -> None:
    """A block of 11 x 7 pixels through all slices: its prism has a known base and a known height."""
    volume = phantoms.scan(positions_mm, (30, 44), (0.8, 0.45), tilt_degrees)
    mask = np.zeros(volume.shape_zyx, bool)
    mask[:, 5:16, 30:37] = True
    ends = (positions_mm[1] - positions_mm[0] + positions_mm[-1] - positions_mm[-2]) / 2
    along_table_mm = positions_mm[-1] - positions_mm[0] + ends
    expected = (11 * 0.8) * (7 * 0.45) * along_table_mm * np.cos(np.radians(tilt_degrees)) / 1000
    assert volume_ml(mask, volume) == pytest.approx(expected, rel=1e-12)


def test_the_volume_of_an_ellipsoid_in_closed_form(tmp_path: Path) -> None:
    """Non-square pixels, off centre, stored sagittally: within 1 % of 4/3 pi abc."""
    shape, spacing = (30, 90, 110), (1.5, 0.5, 0.4)
    hu_zyx = np.full(shape, -1000, np.int16)
    ball = phantoms.ellipsoid(shape, spacing, (20.0, 25.0, 15.0), (16.0, 12.0, 9.0))
    hu_zyx[ball] = 60
    path = phantoms.store_nifti(tmp_path / "a.nii", hu_zyx, display_affine(spacing), "PSR")
    volume = read_volume(path)
    assert volume_ml(volume.hu_zyx == 60, volume) == pytest.approx(
        4 / 3 * np.pi * 16 * 12 * 9 / 1000, rel=0.01
    )


def test_a_file_without_orientation_says_so(tmp_path: Path) -> None:
    path = phantoms.store_nifti(
        tmp_path / "a.nii", phantoms.speckled_head(), display_affine(), sform_code=0, qform_code=0
    )
    (note,) = read_volume(path).notes
    assert note.endswith("left and right may be swapped.")


def test_an_sform_and_qform_at_odds_are_said(tmp_path: Path) -> None:
    path = phantoms.store_nifti(tmp_path / "a.nii", phantoms.speckled_head(), display_affine())
    image = nib.load(path)
    image.set_qform(display_affine() @ np.diag([-1, 1, 1, 1]), code=1)
    nib.save(image, tmp_path / "b.nii")
    (note,) = read_volume(tmp_path / "b.nii").notes
    assert note == "The file's sform and qform name different directions: the sform was used."


# --- Geometry, for any grid ------------------------------------------------------------------------


def rotation(angles: tuple[float, float, float]) -> np.ndarray[Any, Any]:
    """About x, then y, then z."""
    turn = np.eye(3)
    for axis, angle in enumerate(angles):
        one = np.eye(3)
        a, b = (axis + 1) % 3, (axis + 2) % 3
        one[[a, a, b, b], [a, b, a, b]] = (
            np.cos(angle),
            -np.sin(angle),
            np.sin(angle),
            np.cos(angle),
        )
        turn = one @ turn
    return turn


angle = st.floats(-np.pi, np.pi)
step = st.floats(0.3, 6.0)
coordinate = st.floats(-300, 300)


@st.composite
def affines(draw: st.DrawFn) -> np.ndarray[Any, Any]:
    """Any placement: rotated by any angle, anisotropic, sheared, off centre."""
    shear = np.eye(3)
    shear[1, 2], shear[0, 2] = draw(st.floats(-0.5, 0.5)), draw(st.floats(-0.1, 0.1))
    affine = np.eye(4)
    affine[:3, :3] = rotation(draw(st.tuples(angle, angle, angle))) @ shear
    affine[:3, :3] *= draw(st.tuples(step, step, step))
    affine[:3, 3] = draw(st.tuples(coordinate, coordinate, coordinate))
    return affine


@settings(max_examples=60, deadline=None)
@given(
    affine=affines(),
    shape=st.tuples(st.integers(2, 12), st.integers(2, 12), st.integers(2, 12)),
    suffix=st.sampled_from([".nii", ".nii.gz"]),
    seed=st.integers(0, 2**16),
)
def test_every_voxel_keeps_its_place(
    tmp_path_factory: pytest.TempPathFactory,
    affine: np.ndarray[Any, Any],
    shape: tuple[int, int, int],
    suffix: str,
    seed: int,
) -> None:
    rng = np.random.default_rng(seed)
    folder = tmp_path_factory.mktemp("grid")
    data = rng.integers(20, 60, shape).astype(np.int16)
    image = nib.Nifti1Image(data, affine)
    image.set_sform(affine, code=1)
    image.set_qform(None, code=0)
    nib.save(image, folder / "scan.nii")
    stored = nib.load(folder / "scan.nii")

    volume = read_volume(folder / "scan.nii")
    mask = rng.random(volume.shape_zyx) < 0.2
    mask.flat[0] = True
    write_mask(folder / f"mask{suffix}", mask, volume)
    written = nib.load(folder / f"mask{suffix}")

    # On the scan's own grid ...
    assert written.shape == stored.shape
    np.testing.assert_array_equal(written.affine, stored.affine)
    # ... the marked voxels are those of the display frame: by value and by place in the world.
    ijk = np.argwhere(np.asarray(written.dataobj))
    zyx = np.argwhere(mask)
    assert len(ijk) == len(zyx)
    in_file = nib.affines.apply_affine(stored.affine, ijk)
    on_screen = world_mm(volume, zyx)
    nearest = np.linalg.norm(in_file[:, None] - on_screen[None], axis=-1)
    assert nearest.min(axis=1).max() < 1e-3
    assert sorted(nearest.argmin(axis=1)) == list(range(len(zyx)))
    np.testing.assert_array_equal(
        data[tuple(ijk.T)], volume.hu_zyx[tuple(zyx[nearest.argmin(axis=1)].T)]
    )
    # And millilitres are those of the affine.
    voxel_ml = abs(np.linalg.det(stored.affine[:3, :3])) / 1000
    assert volume_ml(mask, volume) == pytest.approx(voxel_ml * mask.sum(), rel=1e-6)
    np.testing.assert_array_equal(read_mask(folder / f"mask{suffix}", volume), mask)


@settings(max_examples=40, deadline=None)
@given(affine=affines())
def test_the_display_frame_is_the_closest_to_the_patient(affine: np.ndarray[Any, Any]) -> None:
    from ichseg.scan.geometry import display_axes

    axes, flips = display_axes(affine[:3, :3])
    assert sorted(axes) == [0, 1, 2]
    unit = affine[:3, :3] / np.linalg.norm(affine[:3, :3], axis=0)
    anatomical = np.array([[0, 0, 1], [0, -1, 0], [-1, 0, 0]])  # z to head, y to back, x to left
    cosines = [
        anatomical[i] @ unit[:, axis] * (-1 if flip else 1)
        for i, (axis, flip) in enumerate(zip(axes, flips, strict=True))
    ]
    assert min(cosines) >= 0


# --- Masks -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("axcodes", ["LPS", "RAS", "LAS", "PSR", "RSA"])
@pytest.mark.parametrize("codes", [(1, 1), (2, 0), (0, 1), (4, 2)])
def test_a_mask_has_the_files_own_grid_in_every_reader(
    tmp_path: Path, axcodes: str, codes: tuple[int, int]
) -> None:
    scan = phantoms.store_nifti(
        tmp_path / "scan.nii.gz",
        phantoms.speckled_head(),
        display_affine(),
        axcodes,
        sform_code=codes[0],
        qform_code=codes[1],
    )
    volume = read_volume(scan)
    mask = np.zeros(volume.shape_zyx, bool)
    mask[2, 30, 5] = True
    write_mask(tmp_path / "mask.nii.gz", mask, volume)

    ours, theirs = nib.load(tmp_path / "mask.nii.gz"), nib.load(scan)
    assert ours.shape == theirs.shape
    assert ours.get_data_dtype() == np.uint8
    np.testing.assert_array_equal(ours.affine, theirs.affine)
    for form in ("sform", "qform"):
        matrix, code = getattr(ours.header, f"get_{form}")(coded=True)
        expected, expected_code = getattr(theirs.header, f"get_{form}")(coded=True)
        assert code == expected_code
        np.testing.assert_array_equal(matrix, expected)
    assert ours.header.get_zooms() == theirs.header.get_zooms()
    assert ours.header.get_xyzt_units() == theirs.header.get_xyzt_units()

    itk_mask, itk_scan = sitk.ReadImage(tmp_path / "mask.nii.gz"), sitk.ReadImage(scan)
    assert itk_mask.GetSize() == itk_scan.GetSize()
    assert itk_mask.GetSpacing() == itk_scan.GetSpacing()
    assert itk_mask.GetOrigin() == itk_scan.GetOrigin()
    assert itk_mask.GetDirection() == itk_scan.GetDirection()
    (index,) = np.argwhere(sitk.GetArrayViewFromImage(itk_mask))
    lps = itk_mask.TransformIndexToPhysicalPoint([int(i) for i in index[::-1]])
    expected_ras = world_mm(volume, np.array([[2, 30, 5]]))[0]
    np.testing.assert_allclose(np.array(lps) * (-1, -1, 1), expected_ras, atol=1e-3)


@pytest.mark.parametrize("trailing", [1, 2])
def test_trailing_axes_of_length_one_are_kept_in_the_mask(tmp_path: Path, trailing: int) -> None:
    hu_zyx = phantoms.speckled_head()
    path = phantoms.store_nifti(
        tmp_path / "a.nii", hu_zyx, display_affine(), "RAS", trailing=trailing
    )
    volume = read_volume(path)
    np.testing.assert_array_equal(volume.hu_zyx, hu_zyx)
    write_mask(tmp_path / "m.nii", hu_zyx > 500, volume)
    assert nib.load(tmp_path / "m.nii").shape == nib.load(path).shape
    np.testing.assert_array_equal(read_mask(tmp_path / "m.nii", volume), hu_zyx > 500)


def test_a_nifti_2_scan_has_a_nifti_2_mask(tmp_path: Path) -> None:
    path = phantoms.store_nifti(
        tmp_path / "a.nii",
        phantoms.speckled_head(),
        display_affine(),
        image_class=nib.Nifti2Image,
    )
    volume = read_volume(path)
    write_mask(tmp_path / "m.nii.gz", volume.hu_zyx > 500, volume)
    written = nib.load(tmp_path / "m.nii.gz")
    assert isinstance(written, nib.Nifti2Image)
    np.testing.assert_array_equal(written.affine, nib.load(path).affine)


def test_a_mask_carries_no_text_of_the_scan(tmp_path: Path) -> None:
    path = phantoms.store_nifti(tmp_path / "a.nii", phantoms.speckled_head(), display_affine())
    image = nib.load(path)
    for field in ("descrip", "aux_file", "db_name", "intent_name"):
        image.header[field] = phantoms.PATIENT
    nib.save(image, tmp_path / "b.nii")
    assert phantoms.PATIENT.encode() in (tmp_path / "b.nii").read_bytes()
    volume = read_volume(tmp_path / "b.nii")
    write_mask(tmp_path / "m.nii", volume.hu_zyx > 500, volume)
    assert phantoms.PATIENT.encode() not in (tmp_path / "m.nii").read_bytes()
    header = nib.load(tmp_path / "m.nii").header
    said = f"scan {volume.sha256[:12]}; not for clinical use"
    assert header["descrip"].item().decode() == said
    (comment,) = header.extensions
    assert json.loads(comment.text) == {
        "ichseg_mask": __version__,
        "scan_sha256": volume.sha256,
        **{"scan_label": "", "method": None, "identity": "", "lesions": []},
        **{"warnings": [], "notice": NOTICE},
    }


def test_labels_are_kept(tmp_path: Path) -> None:
    path = phantoms.store_nifti(tmp_path / "a.nii", phantoms.speckled_head(), display_affine())
    volume = read_volume(path)
    labels = np.zeros(volume.shape_zyx, np.int64)
    labels[1, 2, 3], labels[4, 5, 6] = 1, 255
    write_mask(tmp_path / "m.nii.gz", labels, volume)
    np.testing.assert_array_equal(read_mask(tmp_path / "m.nii.gz", volume), labels)
    again = (tmp_path / "m.nii.gz").read_bytes()
    write_mask(tmp_path / "m.nii.gz", labels, volume)
    assert (tmp_path / "m.nii.gz").read_bytes() == again


@pytest.mark.parametrize("axcodes", ["RAS", "LIP", "SRA"])
@pytest.mark.parametrize("dtype", [np.uint8, np.int16, np.float32])
def test_a_mask_is_read_in_any_axis_order_and_type(
    tmp_path: Path, axcodes: str, dtype: type
) -> None:
    path = phantoms.store_nifti(tmp_path / "a.nii", phantoms.speckled_head(), display_affine())
    volume = read_volume(path)
    mask = volume.hu_zyx > 500
    drawn = phantoms.store_nifti(tmp_path / "m.nii", mask.astype(dtype), display_affine(), axcodes)
    read = read_mask(drawn, volume)
    assert read.dtype == np.uint8
    np.testing.assert_array_equal(read, mask)


def test_a_mask_saved_by_another_program_is_read(tmp_path: Path) -> None:
    path = phantoms.store_nifti(
        tmp_path / "a.nii", phantoms.speckled_head(), display_affine(), "LAS"
    )
    volume = read_volume(path)
    itk = sitk.ReadImage(path) > 500
    sitk.WriteImage(itk, tmp_path / "m.nii.gz")
    np.testing.assert_array_equal(read_mask(tmp_path / "m.nii.gz", volume), volume.hu_zyx > 500)


@pytest.mark.parametrize("tilt_degrees", [0.0, 18.5])
def test_a_mask_of_an_even_series_without_a_file_of_its_own(
    tmp_path: Path, tilt_degrees: float
) -> None:
    volume = phantoms.scan(np.arange(6) * 4.0, (20, 24), (0.8, 0.6), tilt_degrees)
    mask = np.zeros(volume.shape_zyx, np.uint8)
    mask[4, 3, 17] = 1
    write_mask(tmp_path / "m.nii.gz", mask, volume)
    image = nib.load(tmp_path / "m.nii.gz")
    (ijk,) = np.argwhere(np.asarray(image.dataobj))
    expected = world_mm(volume, np.array([[4, 3, 17]]))[0]
    np.testing.assert_allclose(nib.affines.apply_affine(image.affine, ijk), expected, atol=1e-4)
    assert image.header.get_qform(coded=True)[1] == (1 if tilt_degrees == 0 else 0)
    assert image.header.get_sform(coded=True)[1] == 1
    np.testing.assert_array_equal(read_mask(tmp_path / "m.nii.gz", volume), mask)
    if tilt_degrees == 0:
        assert sitk.ReadImage(tmp_path / "m.nii.gz").GetSize() == (24, 20, 6)


def test_an_uneven_series_has_no_nifti_mask(tmp_path: Path) -> None:
    volume = phantoms.scan((0, 4, 8, 12, 13, 20, 27))
    with pytest.raises(VolumeError) as error:
        write_mask(tmp_path / "m.nii", np.zeros(volume.shape_zyx, bool), volume)
    assert str(error.value) == (
        "m.nii: a NIfTI mask needs evenly spaced slices, but this series has 4.0 and 7.0 mm;"
        " export the slice-wise CSV and PNG instead."
    )
    assert not (tmp_path / "m.nii").exists()


def test_a_voxel_to_millimetres_and_back_wherever_the_slices_lie() -> None:
    """In closed form, of a tilted and uneven stack: a slice's origin, and so many steps; between slices, a share."""
    tilt = np.radians(20.0)
    y_step = 0.5 * np.array([0.0, -np.cos(tilt), -np.sin(tilt)])
    x_step = np.array([-0.4, 0.0, 0.0])
    origins = np.array([[1.0, 2.0, 0.0], [1.0, 2.0, 4.0], [1.0, 2.0, 11.0]])
    grid = Geometry(origins, y_step, x_step)
    np.testing.assert_array_equal(grid.to_mm([0, 1, 2], [0, 0, 0], [0, 0, 0]), origins)
    np.testing.assert_allclose(grid.to_mm([1], [3], [-2])[0], origins[1] + 3 * y_step - 2 * x_step)
    np.testing.assert_allclose(grid.to_mm([1.25], [0], [0]), [[1.0, 2.0, 4.0 + 7.0 / 4]])
    np.testing.assert_allclose(grid.to_mm([-0.5, 2.5], [0, 0], [0, 0])[:, 2], [-2.0, 14.5])
    way = 3 * y_step - 2 * x_step + 7 * grid.normal
    np.testing.assert_allclose(grid.to_pixels(way), [3.0, -2.0], atol=1e-12)
    np.testing.assert_allclose(
        grid.to_pixels(np.stack([y_step, x_step], axis=1)), np.eye(2), atol=1e-12
    )
    corners = grid.corners_mm((3, 9, 5))
    np.testing.assert_allclose(corners[2, 3], origins[2] + 8 * y_step + 4 * x_step)


def test_a_scan_says_itself_in_a_line() -> None:
    volume = phantoms.scan((0, 5, 10), (64, 48), (0.5, 0.25))
    assert repr(volume) == "<CTVolume: 3 slices of 64 x 48 pixels, 5.00 x 0.50 x 0.25 mm (z, y, x)>"
    told = repr(replace(volume, label="ward-3", warnings=("a", "b")))
    assert told.startswith("<CTVolume ward-3: 3 slices") and "warnings: 2" in told
