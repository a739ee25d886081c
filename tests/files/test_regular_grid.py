"""A copy on a regular grid: that other programs open it, that it lies where the scan lies, and what it is off by."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import numpy.typing as npt
import phantoms
import pytest
import SimpleITK as sitk

from ichseg.files.mask import read_labelled_mask
from ichseg.files.regular_grid import (
    aslant_note,
    needs_regular_grid,
    regular_grid,
    regular_grid_files,
)
from ichseg.marks.lesion import Lesion
from ichseg.measures.volume import volume_ml
from ichseg.scan.geometry import Geometry
from ichseg.scan.read import read_volume
from ichseg.scan.volume import CTVolume

EVEN_MM = tuple(5.0 * k for k in range(10))
UNEVEN_MM = (*(4.0 * k for k in range(6)), *(21.1 + 7.0 * k for k in range(5)))
RADIUS_MM = 14.0


def sphere(geometry: Geometry, shape_zyx: tuple[int, int, int]) -> npt.NDArray[np.bool_]:
    """A ball in the patient, 14 mm in radius, about the middle of the stack."""
    z, y, x = np.indices(shape_zyx)
    places = (
        geometry.origins_mm[z]
        + y[..., None] * geometry.y_step_mm
        + x[..., None] * geometry.x_step_mm
    )
    middle = geometry.origins_mm.mean(axis=0) + 20 * (geometry.y_step_mm + geometry.x_step_mm)
    return np.asarray(np.linalg.norm(places - middle, axis=-1) <= RADIUS_MM)


def scan(
    positions_mm: tuple[float, ...], tilt_degrees: float
) -> tuple[CTVolume, npt.NDArray[np.uint8]]:
    where = phantoms.geometry(positions_mm, (1.2, 1.0), tilt_degrees)
    shape = (len(positions_mm), 40, 44)
    ball = sphere(where, shape)
    hu_zyx = np.full(shape, -1000, dtype=np.int16)
    hu_zyx[:, 4:36, 4:40] = 35
    hu_zyx[ball] = 65
    return CTVolume(hu_zyx, where, "phantom", warnings=("In doubt.",)), ball.astype(np.uint8)


@pytest.mark.parametrize("positions_mm", [EVEN_MM, UNEVEN_MM])
@pytest.mark.parametrize("tilt_degrees", [0.0, 18.5, -25.0])
def test_the_copy_lies_where_the_scan_lies(
    positions_mm: tuple[float, ...], tilt_degrees: float
) -> None:
    volume, labels = scan(positions_mm, tilt_degrees)
    copy, laid = regular_grid(volume, labels)
    assert not needs_regular_grid(copy)
    assert copy.warnings == volume.warnings and "resampled" in copy.notes[0]
    assert copy.geometry.spacing_yx_mm == pytest.approx((1.2, 1.0))
    ball = sphere_like(volume, copy)
    dice = 2 * (laid & ball).sum() / (laid.sum() + ball.sum())
    assert dice > (0.97 if positions_mm == EVEN_MM else 0.9)
    assert volume_ml(laid, copy) == pytest.approx(volume_ml(labels, volume), rel=0.04)
    # The blood is where the mask is, and the head is whole.
    assert np.abs(copy.hu_zyx[laid == 1].mean() - 65) < 3
    brain = (volume.hu_zyx > 0).sum(axis=(1, 2)) @ volume.voxel_volumes_ml
    assert (copy.hu_zyx > -400).sum(axis=(1, 2)) @ copy.voxel_volumes_ml == pytest.approx(
        brain, rel=0.03
    )


def sphere_like(volume: CTVolume, copy: CTVolume) -> npt.NDArray[np.bool_]:
    """The scan's ball on the copy's voxels."""
    z, y, x = np.indices(copy.shape_zyx)
    where = copy.geometry
    places = where.origins_mm[z] + y[..., None] * where.y_step_mm + x[..., None] * where.x_step_mm
    own = volume.geometry
    middle = own.origins_mm.mean(axis=0) + 20 * (own.y_step_mm + own.x_step_mm)
    return np.asarray(np.linalg.norm(places - middle, axis=-1) <= RADIUS_MM)


def test_an_even_stack_keeps_every_millilitre_and_value() -> None:
    volume, labels = scan(EVEN_MM, 18.5)
    copy, laid = regular_grid(volume, labels)
    assert laid.sum() == labels.sum()
    assert volume_ml(laid, copy) == pytest.approx(volume_ml(labels, volume), rel=1e-9)
    np.testing.assert_allclose(copy.slice_heights_mm, volume.slice_heights_mm)
    upright, labels = scan(EVEN_MM, 0.0)
    copy, laid = regular_grid(upright, labels)
    np.testing.assert_array_equal(copy.hu_zyx, upright.hu_zyx)
    np.testing.assert_array_equal(laid, labels)


def test_simpleitk_opens_both_and_they_overlay(tmp_path: Path) -> None:
    volume, labels = scan(EVEN_MM, 18.5)
    lesions = [Lesion(1, name="Left", type="IPH")]
    files, note = regular_grid_files(volume, labels, lesions, method="threshold")
    for name, content in files.items():
        (tmp_path / name).write_bytes(content)
    scan_path, mask_path = (tmp_path / name for name in files)
    ct, mask = sitk.ReadImage(scan_path), sitk.ReadImage(mask_path)
    assert ct.GetSize() == mask.GetSize()
    assert ct.GetOrigin() == mask.GetOrigin()
    assert ct.GetDirection() == mask.GetDirection()
    statistics = sitk.LabelIntensityStatisticsImageFilter()
    statistics.Execute(mask, ct)
    assert statistics.GetMean(1) == pytest.approx(65, abs=3)
    assert statistics.GetPhysicalSize(1) / 1000 == pytest.approx(
        volume_ml(labels, volume), rel=1e-3
    )
    expected = volume.geometry.origins_mm.mean(axis=0) + 20 * (
        volume.geometry.y_step_mm + volume.geometry.x_step_mm
    )
    centroid = np.array(statistics.GetCentroid(1)) * (-1, -1, 1)
    np.testing.assert_allclose(centroid, expected, atol=0.6)
    for image in (ct, mask):
        assert "resampled to a regular grid" in image.GetMetaData("descrip")
    again = read_volume(scan_path)
    assert again.sha256 == regular_grid(volume, labels)[0].sha256
    read = read_labelled_mask(mask_path, again)
    assert read.lesions[0].type == "IPH" and (read.labels_zyx == 1).sum() == labels.sum()
    ml = volume_ml(labels, volume)
    assert f"{ml:.2f} mL on it and {ml:.2f} mL on the scan's own grid" in note


def test_the_note_is_for_slices_that_are_aslant() -> None:
    assert aslant_note(scan(EVEN_MM, 0.0)[0]) == ""
    note = aslant_note(scan(EVEN_MM, 18.5)[0])
    assert "ITK" in note and "--regular-grid FOLDER" in note and "DICOM-SEG" not in note
