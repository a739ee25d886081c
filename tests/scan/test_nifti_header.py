"""Which of a NIfTI header's statements of the voxel's size is used, and what is said where they differ."""

from __future__ import annotations

from pathlib import Path

import nibabel as nib
import numpy as np
import numpy.typing as npt
import phantoms
import pytest
import SimpleITK as sitk

from ichseg.errors import VolumeError
from ichseg.files.nifti_mask import read_mask, write_mask
from ichseg.measures.volume import volume_ml
from ichseg.scan.nifti_header import place_voxels, voxel_size_mm
from ichseg.scan.read import read_volume

TRUE_MM = (0.9, 0.9, 5.0)
DEFAULT_MM = (1.0, 1.0, 1.0)
STALE_MM = (0.5, 0.5, 2.0)


def affine(size_mm: npt.ArrayLike) -> npt.NDArray[np.float64]:
    """A grid in LPS order with an origin of its own."""
    found = np.diag([-1.0, -1.0, 1.0, 1.0]) @ np.diag([*np.asarray(size_mm), 1.0])
    found[:3, 3] = 21, 17, -40
    return found


def header(
    pixdim: npt.ArrayLike,
    sform: npt.ArrayLike | None = None,
    qform: bool = False,
    unit: int = 2,
) -> nib.nifti1.Nifti1Header:
    """A header whose coded sform has this voxel size or is this affine, and whose coded qform goes by ``pixdim``."""
    made = nib.Nifti1Header()
    made.set_data_shape((48, 40, 9))
    made.set_data_dtype(np.int16)
    if sform is not None:
        given = np.asarray(sform)
        made.set_sform(affine(given) if given.shape == (3,) else given, 1)
    if qform:
        made.set_qform(affine(pixdim), 1)
    made["pixdim"][1:4] = pixdim
    made["xyzt_units"] = unit
    return made


def save(path: Path, made: nib.nifti1.Nifti1Header, array_zyx: npt.NDArray[np.generic]) -> Path:
    made.set_data_dtype(array_zyx.dtype)
    path.write_bytes(nib.Nifti1Image(array_zyx.transpose(2, 1, 0), None, made).to_bytes())
    return path


@pytest.mark.parametrize(
    ("pixdim", "sform", "qform", "used", "said"),
    [
        (TRUE_MM, TRUE_MM, True, TRUE_MM, ""),
        (TRUE_MM, TRUE_MM, False, TRUE_MM, ""),
        (TRUE_MM, None, True, TRUE_MM, ""),
        ((0.9, 0.9, 5.01), TRUE_MM, True, TRUE_MM, ""),  # written with two digits
        (TRUE_MM, DEFAULT_MM, True, TRUE_MM, "note"),
        (TRUE_MM, DEFAULT_MM, False, TRUE_MM, "warning"),
        (DEFAULT_MM, TRUE_MM, False, TRUE_MM, "note"),
        (DEFAULT_MM, TRUE_MM, True, TRUE_MM, "warning"),
        (TRUE_MM, STALE_MM, True, STALE_MM, "warning"),
        (TRUE_MM, STALE_MM, False, STALE_MM, "warning"),
        ((5.0, 0.9, 0.9), TRUE_MM, False, TRUE_MM, "warning"),  # another order of the axes
    ],
)
def test_the_size_that_is_used(
    pixdim: tuple[float, ...],
    sform: tuple[float, ...] | None,
    qform: bool,
    used: tuple[float, ...],
    said: str,
) -> None:
    found = place_voxels("a.nii", header(pixdim, sform, qform))
    np.testing.assert_allclose(voxel_size_mm(found.affine), used, rtol=1e-6)
    np.testing.assert_allclose(found.affine[:3, 3], (21, 17, -40))
    assert (len(found.notes), len(found.warnings)) == (said == "note", said == "warning")


def test_a_warning_gives_both_sizes_and_what_the_other_would_make_of_a_volume() -> None:
    (warning,) = place_voxels("a.nii", header(TRUE_MM, STALE_MM, True)).warnings
    assert "0.5 x 0.5 x 2 mm (sform) and 0.9 x 0.9 x 5 mm (pixdim)" in warning
    assert "8.1 times this one" in warning  # 4.05 by 0.5 mm3


@pytest.mark.parametrize("length_z", [5.0, 5.0 / np.cos(0.3)])
def test_a_tilted_grid_agrees_by_its_columns_or_by_its_volume(length_z: float) -> None:
    sheared = affine(TRUE_MM)
    sheared[1, 2] = 5.0 * np.tan(0.3)
    found = place_voxels("a.nii", header((0.9, 0.9, length_z), sheared))
    assert found.notes == found.warnings == ()
    np.testing.assert_allclose(found.affine, sheared, rtol=1e-6)


@pytest.mark.parametrize("unit, factor", [(1, 1e-3), (3, 1e3)])
def test_metres_and_micrometres_are_taken_as_such_where_that_is_a_head_ct(
    unit: int, factor: float
) -> None:
    size = np.array(TRUE_MM) * factor
    found = place_voxels("a.nii", header(size, size, True, unit))
    np.testing.assert_allclose(voxel_size_mm(found.affine), TRUE_MM, rtol=1e-6)
    found = place_voxels("a.nii", header(TRUE_MM, TRUE_MM, True, unit))
    np.testing.assert_allclose(voxel_size_mm(found.affine), TRUE_MM, rtol=1e-6)
    (note,) = found.notes
    assert "taken as millimetres" in note


def test_an_empty_sform_gives_way_to_the_qform() -> None:
    made = header(TRUE_MM, TRUE_MM, True)
    for row in ("srow_x", "srow_y", "srow_z"):
        made[row] = 0
    found = place_voxels("a.nii", made)
    np.testing.assert_allclose(voxel_size_mm(found.affine), TRUE_MM, rtol=1e-6)
    assert found.notes == ("The file's sform is empty: the qform was used.",)
    made["qform_code"] = 0
    with pytest.raises(VolumeError, match="the voxel spacing is 0 x 0 x 0 mm"):
        place_voxels("a.nii", made)


@pytest.mark.parametrize(
    "made",
    [
        header(TRUE_MM, DEFAULT_MM, True),
        header(TRUE_MM, DEFAULT_MM),
        header(TRUE_MM, STALE_MM, True),
        header(DEFAULT_MM, TRUE_MM),
        header(np.array(TRUE_MM) / 1000, np.array(TRUE_MM) / 1000, True, unit=1),
        header(TRUE_MM, TRUE_MM, True, unit=3),
    ],
)
def test_a_mask_overlays_whichever_statement_another_program_goes_by(
    tmp_path: Path, made: nib.nifti1.Nifti1Header
) -> None:
    hu_zyx = phantoms.speckled_head()
    scan = save(tmp_path / "scan.nii", made, hu_zyx)
    volume = read_volume(scan)
    mask = np.zeros(volume.shape_zyx, dtype=np.uint8)
    mask[2, 30, 5] = 1
    write_mask(tmp_path / "mask.nii.gz", mask, volume)
    np.testing.assert_array_equal(read_mask(tmp_path / "mask.nii.gz", volume), mask)
    assert volume_ml(mask != 0, volume) == pytest.approx(volume.voxel_volumes_ml[2])

    ours, theirs = nib.load(tmp_path / "mask.nii.gz"), nib.load(scan)
    np.testing.assert_array_equal(ours.affine, theirs.affine)
    itk_ours, itk_theirs = sitk.ReadImage(tmp_path / "mask.nii.gz"), sitk.ReadImage(scan)
    assert itk_ours.GetSpacing() == itk_theirs.GetSpacing()
    assert itk_ours.GetOrigin() == itk_theirs.GetOrigin()

    # And their masks of it are masks of it: each wrote down the one size that it knows.
    nib.save(nib.Nifti1Image(np.asarray(ours.dataobj), ours.affine), tmp_path / "nibabel.nii.gz")
    sitk.WriteImage(itk_ours, tmp_path / "itk.nii.gz")
    for name in ("nibabel.nii.gz", "itk.nii.gz"):
        np.testing.assert_array_equal(read_mask(tmp_path / name, volume), mask)


def test_a_sheared_file_is_no_disagreement(shared_data: Path) -> None:
    path = shared_data / "sheared-nifti" / "shear_scanner_origin.nii.gz"
    found = place_voxels(path.name, nib.load(path).header)
    assert found.warnings == ()
    determinant = abs(np.linalg.det(found.affine[:3, :3]))
    assert determinant == pytest.approx(0.482422 * 0.482422 * 2.370809, rel=1e-5)


def test_a_damaged_qform_is_refused_where_there_is_nothing_else() -> None:
    made = header(TRUE_MM, qform=True)
    made["quatern_b"] = 2
    with pytest.raises(VolumeError, match="its qform is damaged"):
        place_voxels("a.nii", made)
    beside = header(TRUE_MM, TRUE_MM, qform=True)
    beside["quatern_b"] = 2
    np.testing.assert_allclose(voxel_size_mm(place_voxels("a.nii", beside).affine), TRUE_MM)


def test_a_header_that_says_nothing_is_a_warning(tmp_path: Path) -> None:
    """pixdim of 1 and no code: NIfTI's own default."""
    hu_zyx = phantoms.speckled_head()
    volume = read_volume(save(tmp_path / "a.nii", header(DEFAULT_MM), hu_zyx))
    assert "exactly 1 x 1 x 1 mm" in volume.warnings[0]
    nib.save(nib.Nifti1Image(hu_zyx.transpose(2, 1, 0), np.eye(4)), tmp_path / "b.nii")
    assert "exactly 1 x 1 x 1 mm" in read_volume(tmp_path / "b.nii").warnings[0]
    nib.save(nib.Nifti1Image(hu_zyx, np.eye(4)), tmp_path / "c.nii")  # [z, y, x] as x, y, z
    assert "which no axial head CT has" in read_volume(tmp_path / "c.nii").warnings[1]


@pytest.mark.parametrize("qform", [True, False])
@pytest.mark.parametrize("stale", [(0.45, 0.45, 5.0), (1.8, 1.8, 20.0), (9.0, 9.0, 5.0)])
def test_of_two_sizes_the_one_that_makes_a_head_is_used(
    tmp_path: Path, stale: tuple[float, ...], qform: bool
) -> None:
    """A skull 146 mm wide, by 1.8 mm; by 0.45 mm it would be 37 mm wide."""
    size_mm, shape = (1.8, 1.8, 5.0), (24, 128, 128)
    hu_zyx = np.full(shape, -1000, dtype=np.int16)
    for hu, axes_mm in ((900, (80, 93, 73)), (35, (73, 86, 66))):
        inside = phantoms.ellipsoid(shape, (5.0, 1.8, 1.8), (30.0, 115.0, 115.0), axes_mm)
        hu_zyx[inside] = hu
    for pixdim, sform in ((size_mm, stale), (stale, size_mm)):
        made = header(pixdim, sform, qform)
        made.set_data_shape(shape[::-1])
        volume = read_volume(save(tmp_path / "scan.nii", made, hu_zyx))
        np.testing.assert_allclose(volume.voxel_volumes_ml, 1.8 * 1.8 * 5 / 1000, rtol=1e-6)
        (warning,) = volume.warnings
        assert "two voxel sizes" in warning and "1.8 x 1.8 x 5 mm" in warning
        mask = np.zeros(shape, dtype=np.uint8)
        mask[12, 60, 60] = 1
        write_mask(tmp_path / "mask.nii.gz", mask, volume)
        np.testing.assert_array_equal(read_mask(tmp_path / "mask.nii.gz", volume), mask)
        ours = nib.load(tmp_path / "mask.nii.gz")
        assert abs(np.linalg.det(ours.affine[:3, :3])) in (
            pytest.approx(np.prod(size_mm), rel=1e-5),
            pytest.approx(np.prod(stale), rel=1e-5),
        )
