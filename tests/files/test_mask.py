"""Masks that were made before, read onto their scan."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import numpy.typing as npt
import phantoms
import pytest
import SimpleITK as sitk
from hypothesis import given, settings
from hypothesis import strategies as st

from ichseg.errors import InputError, VolumeError
from ichseg.files.archive import slices_zip
from ichseg.files.mask import LabelledMask, read_labelled_mask
from ichseg.files.mask_grid import whole_labels
from ichseg.files.mask_header import short_text
from ichseg.files.names import lesions_path
from ichseg.files.write import save_mask
from ichseg.marks.lesion import Lesion
from ichseg.measures.volume import volume_ml
from ichseg.scan.read import read_volume
from ichseg.scan.volume import CTVolume

LESIONS = (Lesion(1, "Ventricle", "IVH"), Lesion(3, "Putamen", "IPH", colour="#123456"))
AFFINE = np.array([[-0.5, 0, 0, 11], [0, -0.6, 0, 13], [0, 0, 5, -20], [0, 0, 0, 1]])
Labels = npt.NDArray[np.uint8]


def labels_of(volume: CTVolume, seed: int = 0) -> Labels:
    """Two lesions of random voxels, so that no turn or shift looks like another."""
    labels = np.zeros(volume.shape_zyx, np.uint8)
    part = labels[1:-1, 2:-3, 4:-2]
    part[:] = np.random.default_rng(seed).choice([0, 0, 1, 3], part.shape)
    return labels


@pytest.fixture
def scan(tmp_path: Path) -> CTVolume:
    return read_volume(
        phantoms.store_nifti(tmp_path / "scan.nii.gz", phantoms.speckled_head(), AFFINE)
    )


# --- What its file says -----------------------------------------------------------------------------


def test_a_mask_says_itself_which_scan_and_what_its_labels_are(
    tmp_path: Path, scan: CTVolume
) -> None:
    path, labels = tmp_path / "m.nii.gz", labels_of(scan)
    save_mask(path, labels, scan, LESIONS, method="threshold", made="threshold 1.0")
    lesions_path(path).unlink()
    given = read_labelled_mask(path, scan)
    np.testing.assert_array_equal(given.labels_zyx, labels)
    assert given.lesions == LESIONS
    assert given.scan_sha256 == scan.sha256
    assert (given.method, given.identity, given.notes) == ("threshold", "threshold 1.0", ())
    said = nib.load(path).header["descrip"].item().decode()
    assert said == f"scan {scan.sha256[:12]}, threshold threshold 1.0; not for clinical use"
    np.testing.assert_array_equal(
        sitk.GetArrayFromImage(sitk.ReadImage(path)), np.asarray(nib.load(path).dataobj).T
    )


def test_the_sidecar_adds_what_is_locked_and_must_agree(tmp_path: Path, scan: CTVolume) -> None:
    path, labels = tmp_path / "m.nii.gz", labels_of(scan)
    locked = (Lesion(1, "Ventricle", "IVH", locked=True), LESIONS[1])
    save_mask(path, labels, scan, locked)
    assert read_labelled_mask(path, scan).lesions == locked
    beside = lesions_path(path)
    document = json.loads(beside.read_text())
    document["lesions"][1]["type"] = "SDH"
    beside.write_text(json.dumps(document))
    with pytest.raises(VolumeError) as error:
        read_labelled_mask(path, scan)
    assert str(error.value) == (
        "m.nii.gz: a mask and the file beside it say the same of its labels, but label 3 is 'Putamen' of type IPH in "
        "the mask and 'Putamen' of type SDH in m-lesions.json; delete the file that is wrong, or save the mask again."
    )
    beside.write_text("[")
    with pytest.raises(InputError, match="delete it, or save the mask again"):
        read_labelled_mask(path, scan)


def test_a_mask_of_before_has_its_sidecar_and_a_note(tmp_path: Path, scan: CTVolume) -> None:
    path, labels = tmp_path / "m.nii.gz", np.minimum(labels_of(scan), 1)
    phantoms.store_nifti(path, labels, AFFINE)
    row = {"id": 1, "name": "Ventricle", "type": "IVH", "colour": "#E69F00"}
    rows = [{**row, "locked": False, "visible": True, "volume_ml": volume_ml(labels == 1, scan)}]
    lesions_path(path).write_text(json.dumps({"lesions": rows, "notice": ""}))
    given = read_labelled_mask(path, scan)
    assert given.lesions == (Lesion(1, "Ventricle", "IVH"),)
    assert given.scan_sha256 is None
    assert given.notes == (
        "Nothing in m.nii.gz says which scan it belongs to: its voxels lie where this scan's lie, and that is all that "
        "could be checked.",
    )


@pytest.mark.parametrize("kept", ["header", "sidecar"])
def test_a_mask_of_another_scan_is_refused(tmp_path: Path, scan: CTVolume, kept: str) -> None:
    path, labels = tmp_path / "m.nii.gz", labels_of(scan)
    other = phantoms.speckled_head(seed=1)
    second = read_volume(phantoms.store_nifti(tmp_path / "second.nii.gz", other, AFFINE))
    save_mask(path, labels, second, LESIONS)
    if kept == "header":
        lesions_path(path).unlink()
    else:
        phantoms.store_nifti(path, labels, AFFINE)
    with pytest.raises(VolumeError) as error:
        read_labelled_mask(path, scan)
    assert str(error.value) == (
        "m.nii.gz: a mask belongs to the scan that it was made on, but it was made on one whose voxels have SHA-256 "
        f"{second.sha256[:12]}, and those of this scan have {scan.sha256[:12]}; give that scan, with the same series "
        "and offset, or this scan's own mask."
    )


@pytest.mark.parametrize(
    "comment",
    ["a thought", '{"ichseg_mask": "1", "lesions": []}', '{"other": 1}', "[1]", "[" * 100_000],
)
def test_other_peoples_comments_are_passed_over(
    tmp_path: Path, scan: CTVolume, comment: str
) -> None:
    image = nib.Nifti1Image(np.zeros((48, 40, 9), np.uint8), AFFINE)
    image.header.extensions.append(nib.nifti1.Nifti1Extension("comment", comment.encode()))
    nib.save(image, tmp_path / "m.nii")
    assert read_labelled_mask(tmp_path / "m.nii", scan).lesions == ()


@pytest.mark.parametrize(
    "rows", ["[1]", '[{"id": 1}]', '"x"', '[{"id": 0, "name": "a"}]', "[[[]]]", '{"a": 1}']
)
def test_a_header_whose_lesions_are_none_is_refused(
    tmp_path: Path, scan: CTVolume, rows: str
) -> None:
    image = nib.Nifti1Image(np.zeros((48, 40, 9), np.uint8), AFFINE)
    text = f'{{"ichseg_mask": "1", "lesions": {rows}}}'
    image.header.extensions.append(nib.nifti1.Nifti1Extension("comment", text.encode()))
    nib.save(image, tmp_path / "m.nii")
    with pytest.raises(VolumeError, match="what this one says cannot be read"):
        read_labelled_mask(tmp_path / "m.nii", scan)


@pytest.mark.parametrize("size", [0, 3, 8, -16, 1 << 30])
def test_a_damaged_extension_is_passed_over(tmp_path: Path, scan: CTVolume, size: int) -> None:
    path = tmp_path / "m.nii"
    save_mask(path, labels_of(scan), scan)
    content = bytearray(path.read_bytes())
    content[352:356] = size.to_bytes(4, "little", signed=True)
    path.write_bytes(content)
    assert read_labelled_mask(path, scan).scan_sha256 is None


@given(st.text(max_size=60), st.text(max_size=200))
def test_the_short_text_fits_its_field(method: str, identity: str) -> None:
    text = short_text({"scan_sha256": "ab" * 32, "method": method, "identity": identity})
    assert len(text.encode()) < 80 and text.startswith("scan abababababab")


# --- Values ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", [np.uint8, np.int16, np.uint16, np.float32, np.float64])
@pytest.mark.parametrize("most", [1, 3])
def test_labels_that_were_saved_with_a_scale(
    tmp_path: Path, scan: CTVolume, dtype: Any, most: int
) -> None:
    """nibabel scales floating-point labels to the whole range of the type that they are saved in."""
    labels = labels_of(scan)
    labels[labels > most] = most
    image = nib.Nifti1Image(labels.astype(np.float64).transpose(2, 1, 0), AFFINE)
    image.set_data_dtype(dtype)
    nib.save(image, tmp_path / "m.nii.gz")
    np.testing.assert_array_equal(
        read_labelled_mask(tmp_path / "m.nii.gz", scan).labels_zyx, labels
    )


def test_a_label_keeps_its_number_whatever_it_is(tmp_path: Path, scan: CTVolume) -> None:
    mask = labels_of(scan) == 1
    path = phantoms.store_nifti(tmp_path / "m.nii", mask * np.uint8(255), AFFINE)
    np.testing.assert_array_equal(read_labelled_mask(path, scan).labels_zyx, mask * 255)


def test_oedema_in_a_reference_mask_is_no_blood(tmp_path: Path, scan: CTVolume) -> None:
    labels = labels_of(scan)
    present = [int(value) for value in np.unique(labels) if value]
    lesions = [Lesion(k, type="oedema" if k == present[0] else "IPH") for k in present]
    save_mask(tmp_path / "m.nii", labels, scan, lesions)
    given = read_labelled_mask(tmp_path / "m.nii", scan)
    np.testing.assert_array_equal(given.blood_zyx, labels > present[0])
    assert (given.labels_zyx != 0).sum() > given.blood_zyx.sum() > 0


@pytest.mark.parametrize(
    ("values", "quantum"),
    [
        ([0.0, 1.0001], 0),
        ([0.0, 0.5, 1.0], 1 / 255),
        ([0.0, 1 / 255], 1 / 255),
        ([0.0, 0.9], 0.9),
        ([0.0, np.nan], 0),
        ([0.0, np.inf], 0),
        ([0.0, 256.0], 0),
        ([-1.0, 0.0], 0),
    ],
)
def test_a_map_of_probabilities_is_no_mask(values: list[float], quantum: float) -> None:
    with pytest.raises(VolumeError, match="whole numbers from 0 to 255"):
        whole_labels("mask", np.array(values), quantum)


# --- Cropped -----------------------------------------------------------------------------------------


@settings(max_examples=30, deadline=None)
@given(st.data())
def test_a_mask_cropped_to_a_box_is_put_in_place(
    tmp_path_factory: pytest.TempPathFactory, data: st.DataObject
) -> None:
    folder = tmp_path_factory.mktemp("crop")
    axcodes = data.draw(st.sampled_from(["LPS", "RAS", "PSR", "IAL"]))
    hu = phantoms.speckled_head((9, 20, 24))
    volume = read_volume(phantoms.store_nifti(folder / "scan.nii", hu, AFFINE, axcodes))
    labels = labels_of(volume)
    box = []
    for length in labels.shape:
        start = data.draw(st.integers(0, length - 1))
        box.append(slice(start, data.draw(st.integers(start + 1, length))))
    cropped = AFFINE.copy()
    cropped[:3, 3] += AFFINE[:3, :3] @ [box[2].start, box[1].start, box[0].start]
    drawn = data.draw(st.sampled_from(["LPS", "RAS", "SAR"]))
    path = phantoms.store_nifti(folder / "m.nii", labels[tuple(box)], cropped, drawn)
    expected = np.zeros_like(labels)
    expected[tuple(box)] = labels[tuple(box)]
    np.testing.assert_array_equal(read_labelled_mask(path, volume).labels_zyx, expected)


@pytest.mark.parametrize("shift", [(-1, 0, 0), (0, 0, -1), (0, 36, 0), (46, 0, 0), (0, 0, 8)])
def test_a_cropped_mask_that_sticks_out_is_refused(
    tmp_path: Path, scan: CTVolume, shift: tuple[int, int, int]
) -> None:
    moved = AFFINE.copy()
    moved[:3, 3] += AFFINE[:3, :3] @ shift
    path = phantoms.store_nifti(tmp_path / "m.nii", np.ones((2, 5, 4), np.uint8), moved)
    with pytest.raises(VolumeError, match="sticks out of them; crop it to the scan"):
        read_labelled_mask(path, scan)


@pytest.mark.parametrize(
    "change",
    [
        np.diag([1.0, 1.0, 2.0, 1.0]),
        np.diag([1.02, 1.0, 1.0, 1.0]),
        np.array([[1, 0, 0, 0.4], [0, 1, 0, 0], [0, 0, 1, 0], [0, 0, 0, 1.0]]),
        np.array([[1, 0, 0, 0], [0, 1, 0, 0], [0, 0, 1, 0.5], [0, 0, 0, 1.0]]),
    ],
)
def test_a_mask_of_other_voxels_is_refused(
    tmp_path: Path, scan: CTVolume, change: npt.NDArray[np.float64]
) -> None:
    path = phantoms.store_nifti(tmp_path / "m.nii", np.ones((4, 20, 30), np.uint8), AFFINE @ change)
    with pytest.raises(VolumeError, match="all of its 48 x 40 x 9 or a box of them, but "):
        read_labelled_mask(path, scan)


def test_a_mask_cropped_to_one_stack_of_an_uneven_series(tmp_path: Path) -> None:
    positions = [0.0, 4, 8, 12, 16, 23, 30, 37, 44]
    images = phantoms.dicom_slices(phantoms.speckled_head(), positions)
    volume = read_volume(phantoms.save_dicom(tmp_path / "ct", images))
    labels = labels_of(volume)
    geometry = volume.geometry
    affine = np.eye(4)
    affine[:3, 0], affine[:3, 1] = geometry.x_step_mm, geometry.y_step_mm
    affine[:3, 2], affine[:3, 3] = [0, 0, 7], geometry.origins_mm[4]
    nib.save(nib.Nifti1Image(labels[4:].transpose(2, 1, 0), affine), tmp_path / "m.nii")
    expected = labels.copy()
    expected[:4] = 0
    np.testing.assert_array_equal(
        read_labelled_mask(tmp_path / "m.nii", volume).labels_zyx, expected
    )


# --- Archives ----------------------------------------------------------------------------------------


def uneven(folder: Path) -> CTVolume:
    positions = [0.0, 4, 8, 12, 16, 23, 30, 37, 44]
    images = phantoms.dicom_slices(phantoms.speckled_head(), positions, tilt_degrees=12)
    return read_volume(phantoms.save_dicom(folder, images))


@pytest.mark.parametrize("lesions", [LESIONS, ()])
def test_our_archive_of_slices_is_read_on_any_series(
    tmp_path: Path, lesions: tuple[Lesion, ...]
) -> None:
    volume = uneven(tmp_path / "ct")
    labels = labels_of(volume)
    if not lesions:
        labels[labels != 0] = 1
    save_mask(tmp_path / "m.zip", labels, volume, lesions, method="threshold")
    given = read_labelled_mask(tmp_path / "m.zip", volume)
    np.testing.assert_array_equal(given.labels_zyx, labels)
    assert (given.lesions, given.notes, given.method) == (lesions, (), "threshold")
    assert given.scan_sha256 == volume.sha256


def test_an_archive_of_another_scan_is_refused(tmp_path: Path, scan: CTVolume) -> None:
    volume = uneven(tmp_path / "ct")
    save_mask(tmp_path / "m.zip", labels_of(volume), volume, LESIONS)
    with pytest.raises(VolumeError, match=r"m\.zip: a mask belongs to the scan"):
        read_labelled_mask(tmp_path / "m.zip", phantoms.scan(range(9), (40, 48)))
    with pytest.raises(VolumeError, match=r"each of the scan's 4 slices, but this one has 9"):
        read_labelled_mask(tmp_path / "m.zip", phantoms.scan())
    with pytest.raises(VolumeError, match=r"is 16 x 12 in grey, but that of slice 1 is 48 x 40"):
        read_labelled_mask(tmp_path / "m.zip", phantoms.scan(range(9)))


def test_a_mask_that_somebody_zipped(tmp_path: Path, scan: CTVolume) -> None:
    (tmp_path / "z").mkdir()
    labels = labels_of(scan)
    save_mask(tmp_path / "z" / "m.nii.gz", labels, scan, LESIONS)
    given = read_labelled_mask(phantoms.save_zip(tmp_path / "z.zip", tmp_path / "z"), scan)
    np.testing.assert_array_equal(given.labels_zyx, labels)
    assert given.lesions == LESIONS
    (tmp_path / "z" / "other.nii.gz").write_bytes(b"")
    with pytest.raises(VolumeError, match="or one mask file, but this one has 2 other files; give"):
        read_labelled_mask(phantoms.save_zip(tmp_path / "z.zip", tmp_path / "z"), scan)


def test_a_damaged_archive_gives_a_mask_or_one_sentence(tmp_path: Path) -> None:
    volume = uneven(tmp_path / "ct")
    content = slices_zip(labels_of(volume), volume, LESIONS)
    random = np.random.default_rng(0)
    for number in range(120):
        damaged = bytearray(content)
        for _ in range(random.integers(1, 5)):
            damaged[random.integers(2, len(damaged))] = random.integers(256)
        if number % 4 == 0:
            damaged = damaged[: random.integers(2, len(damaged))]
        (tmp_path / "m.zip").write_bytes(damaged)
        try:
            read_labelled_mask(tmp_path / "m.zip", volume)
        except InputError as error:
            assert "\n" not in str(error)


def test_a_label_that_the_list_beside_a_mask_does_not_name_is_refused(
    tmp_path: Path, scan: CTVolume
) -> None:
    path, labels = tmp_path / "m.nii.gz", labels_of(scan)
    for strange, words in ((255, "also has 255"), (2, "also has 2")):
        save_mask(path, labels, scan, LESIONS)
        phantoms.store_nifti(path, np.where(labels == 3, np.uint8(strange), labels), AFFINE)
        with pytest.raises(VolumeError, match=words) as refused:
            read_labelled_mask(path, scan)
        assert "names, 1, 3" in str(refused.value)


def test_a_list_beside_a_mask_that_has_changed_is_noted_or_refused(
    tmp_path: Path, scan: CTVolume
) -> None:
    labels = np.zeros(scan.shape_zyx, np.uint8)
    labels[1, 3, 2:12], labels[2, 4:6, 2:5] = 1, 3
    path = tmp_path / "m.nii.gz"

    def again(changed: npt.NDArray[np.uint8]) -> LabelledMask:
        save_mask(path, labels, scan, LESIONS)
        sidecar = lesions_path(path).read_bytes()
        save_mask(path, changed, scan)
        phantoms.store_nifti(path, changed, AFFINE)
        lesions_path(path).write_bytes(sidecar)
        return read_labelled_mask(path, scan)

    assert again(labels).lesions == LESIONS
    grown = labels.copy()
    grown[1, 4, 2:12] = 1
    given = again(grown)
    assert given.lesions == LESIONS
    ml = 10 * math.prod(scan.spacing_mm) / 1000
    assert f"label 1 {ml:.2f} mL, now {2 * ml:.2f} mL" in given.notes[-1]
    swapped = np.select([labels == 1, labels == 3], [np.uint8(3), np.uint8(1)], np.uint8(0))
    for other in (swapped, np.where(labels == 3, np.uint8(0), labels)):
        with pytest.raises(VolumeError, match="the list of lesions beside it was saved with"):
            again(other)
