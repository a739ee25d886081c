"""Each data set's adapter on a tiny made-up copy of the set's own layout."""

from __future__ import annotations

from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
from PIL import Image

from ichseg.errors import VolumeError
from train.data.cases import (
    DATASETS,
    Case,
    DataError,
    read_cases,
    read_ct_ich_1_0_0,
    read_ct_ich_1_3,
)

COLUMNS = (
    "PatientNumber,SliceNumber,Intraventricular,Intraparenchymal,Subarachnoid,Epidural,Subdural,"
    "No_Hemorrhage,Fracture_Yes_No"
)
BLOOD_HU = 70


def table(path: Path, rows: list[str]) -> None:
    # The published 1.3 table starts with a byte order mark; both are read.
    path.write_text("\n".join([COLUMNS, *rows]) + "\n", encoding="utf-8-sig")


def head_xyz(marked: np.ndarray) -> np.ndarray:
    """HU in a NIfTI file's own order: air around a skull around a brain, with blood where marked."""
    shape = marked.shape
    hu = np.full(shape, -1000, np.int16)
    hu[1:-1, 1:-1] = 1000
    hu[2:-2, 2:-2] = 35
    hu[marked > 0] = BLOOD_HU
    return hu


def marked_xyz(labels: tuple[int, ...] = (1,)) -> np.ndarray:
    """Labels in file order [24, 20, 5], unlike in every direction: a wrong flip or turn shows."""
    marked = np.zeros((24, 20, 5), np.uint8)
    marked[4:8, 3:5, 1] = labels[0]
    marked[15:17, 12:17, 2] = labels[-1]
    return marked


# Left-handed storage with the head first and unequal spacings.
AFFINE = np.array([[-0.5, 0, 0, 6], [0, 0.4, 0, -4], [0, 0, -5, 20], [0, 0, 0, 1.0]])


def save_nifti(path: Path, array: np.ndarray, affine: np.ndarray = AFFINE) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    nib.save(nib.Nifti1Image(array, affine), path)


def check_blood_is_where_the_mask_is(case: Case, voxels: int) -> None:
    assert case.masks.sum() == voxels
    assert (case.stored[case.masks] == BLOOD_HU).all()
    assert (case.stored == BLOOD_HU).sum() == voxels


# --- CT-ICH 1.0.0 -----------------------------------------------------------------------------------------------


@pytest.fixture
def ct_ich_jpg(tmp_path: Path) -> Path:
    """Patients 049 (slices 2 and 10, the second with blood), 055 (none) and 070 (chronic)."""
    rows = []
    for patient, numbers in (("049", (2, 10)), ("055", (1,)), ("070", (1,))):
        folder = tmp_path / "Patients_CT" / patient / "brain"
        folder.mkdir(parents=True)
        for number in numbers:
            grey = np.zeros((24, 32), np.uint8)
            grey[8:16, 8:16] = 255 if number == 10 else 128
            Image.fromarray(grey).save(folder / f"{number}.jpg", quality=100)
            blood = number == 10 or patient == "070"
            rows.append(f"{int(patient)},{number},0,0,0,{int(blood)},0,{int(not blood)},0")
            if blood:
                Image.fromarray(grey).save(folder / f"{number}_HGE_Seg.jpg", quality=100)
    table(tmp_path / "hemorrhage_diagnosis.csv", rows)
    return tmp_path


def test_ct_ich_jpg_is_read_in_hu_and_in_the_order_of_its_slices(ct_ich_jpg: Path) -> None:
    first, second = read_cases("ct-ich-1.0.0", ct_ich_jpg)
    assert (first.patient_id, first.kind, first.slice_numbers) == ("049", "edh", (2, 10))
    assert first.slice_types == ((), ("edh",))
    assert first.masks.shape == first.stored.shape == (2, 24, 32)
    assert first.masks.sum(axis=(1, 2)).tolist() == [0, 64]
    hu = first.slice_hu(1)
    assert hu.dtype == np.float32
    assert hu[12, 12] == pytest.approx(100) and hu[0, 0] == pytest.approx(-20)
    assert first.slice_hu(0)[12, 12] == pytest.approx(128 * 120 / 255 - 20, abs=0.5)
    assert (second.patient_id, second.kind, second.pixel_spacing_mm) == ("055", "none", None)


def test_ct_ich_leaves_the_chronic_patient_out_unless_asked(ct_ich_jpg: Path) -> None:
    assert [case.patient_id for case in read_ct_ich_1_0_0(ct_ich_jpg)] == ["049", "055"]
    asked = read_ct_ich_1_0_0(ct_ich_jpg, with_patient_070=True)
    assert [case.patient_id for case in asked] == ["049", "055", "070"]
    assert "chronic" in (read_ct_ich_1_0_0.__doc__ or "")


def test_a_mask_of_another_size_than_its_image_is_an_error(ct_ich_jpg: Path) -> None:
    path = ct_ich_jpg / "Patients_CT" / "049" / "brain" / "10_HGE_Seg.jpg"
    Image.new("L", (16, 12), 255).save(path)
    with pytest.raises(
        DataError, match=r"10_HGE_Seg.jpg of patient 049 is \(12, 16\) for an image"
    ):
        list(read_cases("ct-ich-1.0.0", ct_ich_jpg))


def test_a_slice_that_the_table_does_not_know_is_an_error(ct_ich_jpg: Path) -> None:
    table(ct_ich_jpg / "hemorrhage_diagnosis.csv", ["49,2,0,0,0,0,0,1,0"])
    with pytest.raises(DataError, match="patient 049 has 2 slices and 1 rows"):
        list(read_cases("ct-ich-1.0.0", ct_ich_jpg))


def test_a_table_without_its_columns_is_an_error(ct_ich_jpg: Path) -> None:
    (ct_ich_jpg / "hemorrhage_diagnosis.csv").write_text("PatientNumber,SliceNumber\n49,2\n")
    with pytest.raises(DataError, match="lacks Epidural, Intraparenchymal, Intraventricular"):
        list(read_cases("ct-ich-1.0.0", ct_ich_jpg))


def test_a_type_without_a_mask_is_still_on_record(ct_ich_jpg: Path) -> None:
    (ct_ich_jpg / "Patients_CT" / "049" / "brain" / "10_HGE_Seg.jpg").unlink()
    case = next(read_cases("ct-ich-1.0.0", ct_ich_jpg))
    assert not case.masks.any() and case.slice_types[1] == ("edh",) and case.kind == "unknown"


# --- The NIfTI sets ---------------------------------------------------------------------------------------------


def test_ct_ich_nifti_takes_types_from_the_table_counted_from_the_skull_base(
    tmp_path: Path,
) -> None:
    for patient in ("049", "070"):
        save_nifti(tmp_path / "ct_scans" / f"{patient}.nii", head_xyz(marked_xyz()))
        save_nifti(tmp_path / "masks" / f"{patient}.nii", marked_xyz())
    # The file stores the head first, so file slices 1 and 2 of 5 are slices 4 and 3 from the skull base.
    rows = [f"{p},{n},0,{int(n == 3)},0,0,{int(n == 4)},0,0" for p in (49, 70) for n in range(1, 6)]
    table(tmp_path / "hemorrhage_diagnosis_raw_ct.csv", rows)
    (case,) = read_cases("ct-ich-1.3", tmp_path)
    check_blood_is_where_the_mask_is(case, 8 + 10)
    assert case.masks.any(axis=(1, 2)).tolist() == [False, False, True, True, False]
    assert case.slice_types == ((), (), ("iph",), ("sdh",), ())
    assert case.kind == "iph"  # 10 px of it against 8
    assert case.stored.shape == (5, 20, 24) and case.stored.dtype == np.int16
    assert case.pixel_spacing_mm == pytest.approx((0.4, 0.5))
    assert case.slice_heights_mm == pytest.approx((5,) * 5)
    assert len(list(read_ct_ich_1_3(tmp_path, with_patient_070=True))) == 2


def test_ct_ich_nifti_wants_a_row_for_each_slice(tmp_path: Path) -> None:
    save_nifti(tmp_path / "ct_scans" / "049.nii", head_xyz(marked_xyz()))
    save_nifti(tmp_path / "masks" / "049.nii", marked_xyz())
    table(tmp_path / "hemorrhage_diagnosis_raw_ct.csv", ["49,1,0,0,0,0,0,1,0"])
    with pytest.raises(DataError, match="patient 049 has 5 slices and 1 rows"):
        list(read_cases("ct-ich-1.3", tmp_path))


def test_instance22_knows_blood_but_not_its_type(tmp_path: Path) -> None:
    for number in (1, 2):
        labels = marked_xyz() * (number == 1)
        save_nifti(tmp_path / "data" / f"{number:03d}.nii.gz", head_xyz(labels))
        save_nifti(tmp_path / "label" / f"{number:03d}.nii.gz", labels)
    with_blood, without = read_cases("instance22", tmp_path)
    check_blood_is_where_the_mask_is(with_blood, 18)
    assert (with_blood.patient_id, with_blood.kind) == ("001", "unknown")
    assert without.kind == "none" and not any(without.slice_types)


def test_bhsd_takes_types_from_labels_and_patients_from_names(tmp_path: Path) -> None:
    name = "ID_0237f3c9_ID_40015688b9.nii.gz"
    labels = marked_xyz((5, 3))
    labels[4, 3, 1] = 1  # one epidural pixel beside seven subdural ones
    save_nifti(tmp_path / "images" / name, head_xyz(labels))
    save_nifti(tmp_path / "ground truths" / name, labels)
    (case,) = read_cases("bhsd", tmp_path)
    check_blood_is_where_the_mask_is(case, 18)
    assert case.patient_id == "ID_0237f3c9"
    assert case.scan_id == "ID_0237f3c9_ID_40015688b9"
    assert case.slice_types == ((), (), ("ivh",), ("sdh", "edh"), ())
    labels[0, 0, 0] = 6
    save_nifti(tmp_path / "ground truths" / name, labels)
    with pytest.raises(DataError, match="labels are 0 to 5; got 6"):
        list(read_cases("bhsd", tmp_path))


@pytest.mark.parametrize("suffix", [".nii.gz", ".npy"])
def test_a_folder_of_ones_own_takes_masks_as_nifti_or_in_the_files_array_order(
    tmp_path: Path, suffix: str
) -> None:
    save_nifti(tmp_path / "images" / "p1__a.nii.gz", head_xyz(marked_xyz()))
    mask = tmp_path / "masks" / f"p1__a{suffix}"
    if suffix == ".npy":
        mask.parent.mkdir()
        np.save(mask, marked_xyz().astype(np.float64))
    else:
        save_nifti(mask, marked_xyz())
    (case,) = read_cases("folder", tmp_path)
    check_blood_is_where_the_mask_is(case, 18)
    assert (case.patient_id, case.scan_id, case.kind) == ("p1", "p1__a", "unknown")


def test_an_npy_mask_of_another_shape_or_kind_is_an_error(tmp_path: Path) -> None:
    save_nifti(tmp_path / "images" / "p1.nii.gz", head_xyz(marked_xyz()))
    mask = tmp_path / "masks" / "p1.npy"
    mask.parent.mkdir()
    np.save(mask, marked_xyz().transpose(2, 1, 0))
    with pytest.raises(DataError, match=r"p1.npy is \(5, 20, 24\)"):
        list(read_cases("folder", tmp_path))
    np.save(mask, np.array([{"a": 1}], dtype=object), allow_pickle=True)
    with pytest.raises(DataError, match=r"p1\.npy is not"):
        list(read_cases("folder", tmp_path))


def test_a_nifti_mask_on_another_grid_is_an_error(tmp_path: Path) -> None:
    save_nifti(tmp_path / "data" / "001.nii.gz", head_xyz(marked_xyz()))
    save_nifti(tmp_path / "label" / "001.nii.gz", np.pad(marked_xyz(), ((0, 4), (0, 0), (0, 0))))
    with pytest.raises(VolumeError, match=r"001\.nii\.gz: "):
        list(read_cases("instance22", tmp_path))


def test_a_scan_without_a_mask_is_an_error(tmp_path: Path) -> None:
    save_nifti(tmp_path / "data" / "001.nii.gz", head_xyz(marked_xyz()))
    (tmp_path / "label").mkdir()
    with pytest.raises(DataError, match="mask of its own name in 'label'; 001 has none"):
        list(read_cases("instance22", tmp_path))


# --- What is common ---------------------------------------------------------------------------------------------


def test_an_unknown_set_or_folder_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"one of ct-ich-1\.0\.0, .*; got 'ct-ich'"):
        read_cases("ct-ich", tmp_path)
    with pytest.raises(DataError, match="'nowhere' is not one"):
        read_cases("folder", tmp_path / "nowhere")


@pytest.mark.parametrize("dataset", list(DATASETS))
def test_an_empty_folder_is_an_error_that_names_what_is_missing(
    dataset: str, tmp_path: Path
) -> None:
    with pytest.raises(DataError, match="; give the folder that holds"):
        list(read_cases(dataset, tmp_path))


@pytest.mark.parametrize("dataset", list(DATASETS))
def test_every_adapter_says_its_licence(dataset: str) -> None:
    assert DATASETS[dataset].licence
    said = (DATASETS[dataset].read.__doc__ or "").lower()
    if dataset != "folder":
        assert "licence" in said or "license" in said or "agreement" in said


def test_a_case_whose_parts_do_not_fit_is_refused() -> None:
    fields = {"patient_id": "p", "scan_id": "p", "kind": "none", "slice_types": ((),)}
    image = np.zeros((1, 4, 6), np.uint8)
    with pytest.raises(DataError, match=r"image of \(1, 4, 6\) and a mask of \(1, 6, 4\)"):
        Case(stored=image, masks=np.zeros((1, 6, 4), bool), slice_numbers=(1,), **fields)
    with pytest.raises(DataError, match=r"got lengths \[1, 2\]"):
        Case(stored=image, masks=image > 0, slice_numbers=(1, 2), **fields)


@pytest.mark.slow
def test_the_real_set_is_as_its_readme_says(shared_data: Path) -> None:
    cases = read_ct_ich_1_0_0(shared_data / "ct-ich-1.0.0", with_patient_070=True)
    patients = slices = marked = with_blood = 0
    for case in cases:
        patients += 1
        slices += len(case.masks)
        marked += int(case.masks.any(axis=(1, 2)).sum())
        with_blood += bool(case.masks.any())
        both = [
            bool(types) == mask.any()
            for types, mask in zip(case.slice_types, case.masks, strict=True)
        ]
        assert all(both), case.patient_id
    assert (patients, slices, marked, with_blood) == (67, 2043, 250, 29)
