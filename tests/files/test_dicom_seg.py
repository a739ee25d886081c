"""DICOM-SEG: what pydicom and highdicom read back, from every kind of source."""

from __future__ import annotations

import io
import logging
import warnings
from dataclasses import replace
from pathlib import Path
from typing import Any

import highdicom.seg
import numpy as np
import numpy.typing as npt
import phantoms
import pydicom
import pytest
from pydicom.uid import JPEG2000Lossless, JPEGLosslessSV1, generate_uid

from ichseg import NOTICE, __version__
from ichseg.errors import VolumeError
from ichseg.files.dicom_seg import segmentation_bytes
from ichseg.marks.lesion import TYPES, Lesion
from ichseg.scan.read import read_volume
from ichseg.scan.volume import CTVolume

EVEN_MM = [-20.0 + 5 * k for k in range(9)]
UNEVEN_MM = [0.0, 4, 8, 12, 16, 23, 30, 37, 44]
LESIONS = (Lesion(1, "Left thalamus", type="IPH"), Lesion(2), Lesion(5, type="IVH"))
Labels = npt.NDArray[np.uint8]


def labels_of(volume: CTVolume, seed: int = 0) -> Labels:
    """Two lesions of random voxels, on some slices only, so that no turn or shift looks like another."""
    random = np.random.default_rng(seed)
    labels = np.zeros(volume.shape_zyx, dtype=np.uint8)
    part = labels[:, 5:33, 8:46]
    part[:] = random.choice([0, 0, 1, 5], part.shape)
    labels[[0, 3, -1]] = 0
    labels[2][labels[2] == 5] = 0
    return labels


def written(volume: CTVolume, labels: Labels, **options: Any) -> pydicom.Dataset:
    content = segmentation_bytes(labels, volume, LESIONS, model="litemedsam", **options)
    return pydicom.dcmread(io.BytesIO(content))


def check_frames(dataset: pydicom.Dataset, images: list[pydicom.Dataset], volume: CTVolume) -> None:
    """Every frame lies where its source image lies, refers to it, and holds that image's voxels alone.

    Independent of the reader: the mask is looked up through millimetres, from the SEG's own geometry.
    """
    labels = labels_of(volume)
    numbers = {1: 1, 2: 5}  # segment -> lesion
    by_uid = {image.SOPInstanceUID: image for image in images}
    frames = dataset.pixel_array
    seen = np.zeros_like(labels)
    shared = dataset.SharedFunctionalGroupsSequence[0]
    for frame, groups in zip(frames, dataset.PerFrameFunctionalGroupsSequence, strict=True):
        (reference,) = groups.DerivationImageSequence[0].SourceImageSequence
        image = by_uid[reference.ReferencedSOPInstanceUID]
        assert reference.ReferencedSOPClassUID == image.SOPClassUID
        measures = (groups if "PixelMeasuresSequence" in groups else shared).PixelMeasuresSequence[
            0
        ]
        position = np.array(groups.PlanePositionSequence[0].ImagePositionPatient, dtype=float)
        turn = np.array(shared.PlaneOrientationSequence[0].ImageOrientationPatient, dtype=float)
        if "NumberOfFrames" in image:
            source = image.PerFrameFunctionalGroupsSequence[reference.ReferencedFrameNumber - 1]
            place = source.PlanePositionSequence[0].ImagePositionPatient
        else:
            place = image.ImagePositionPatient
            assert measures.SliceThickness == image.SliceThickness
            np.testing.assert_allclose(turn, np.array(image.ImageOrientationPatient, float))
            np.testing.assert_allclose(measures.PixelSpacing, image.PixelSpacing)
        np.testing.assert_allclose(position, np.array(place, dtype=float), atol=1e-6)

        rows, columns = np.nonzero(frame)
        down, right = (float(value) for value in measures.PixelSpacing)
        lps = position + rows[:, None] * turn[3:] * down + columns[:, None] * turn[:3] * right
        k, y, x = voxels(volume, lps * (-1, -1, 1))
        segment = groups.SegmentIdentificationSequence[0].ReferencedSegmentNumber
        assert not seen[k, y, x].any()
        seen[k, y, x] = numbers[segment]
    np.testing.assert_array_equal(seen, labels)


def voxels(volume: CTVolume, places_mm: npt.NDArray[np.float64]) -> tuple[Any, Any, Any]:
    """The voxels [n] at RAS+ places [n, 3], which must be their centres."""
    geometry = volume.geometry
    heights = places_mm @ geometry.normal
    k = np.abs(heights[:, None] - geometry.slice_positions_mm).argmin(axis=1)
    offsets = places_mm - geometry.origins_mm[k]
    basis = np.stack([geometry.normal, geometry.y_step_mm, geometry.x_step_mm], axis=1)
    found = np.linalg.solve(basis, offsets.T).T
    np.testing.assert_allclose(found[:, 0], 0, atol=1e-3)
    np.testing.assert_allclose(found[:, 1:], np.rint(found[:, 1:]), atol=1e-3)
    return k, *np.rint(found[:, 1:]).astype(int).T


@pytest.mark.parametrize("stored", ["yx", "YX", "xY"])
@pytest.mark.parametrize(("positions", "tilt"), [(EVEN_MM, 0.0), (EVEN_MM, 18.5), (UNEVEN_MM, -20)])
def test_it_lies_where_the_scan_lies(
    tmp_path: Path, positions: list[float], tilt: float, stored: str
) -> None:
    images = phantoms.dicom_slices(
        phantoms.speckled_head(), positions, tilt_degrees=tilt, stored=stored
    )
    for image, position in zip(images, positions, strict=True):
        image.SliceThickness = 4 if positions is UNEVEN_MM and position < 20 else 7
    volume = read_volume(phantoms.save_dicom(tmp_path / "ct", images))
    check_frames(written(volume, labels_of(volume)), images, volume)


def test_on_the_real_tilted_series_with_its_two_thicknesses(shared_data: Path) -> None:
    folder = shared_data / "ge-head-ct"
    volume = read_volume(folder)
    images = [pydicom.dcmread(file) for file in sorted(folder.rglob("*.dcm"))]
    dataset = written(volume, labels_of(volume))
    check_frames(dataset, images, volume)
    (references,) = dataset.ReferencedSeriesSequence
    assert references.SeriesInstanceUID == images[0].SeriesInstanceUID
    assert len(references.ReferencedInstanceSequence) == len(images) == 28
    assert dataset.StudyInstanceUID == images[0].StudyInstanceUID
    assert dataset.FrameOfReferenceUID == images[0].FrameOfReferenceUID


@pytest.mark.parametrize("syntax", [JPEG2000Lossless, JPEGLosslessSV1])
def test_a_compressed_source_and_highdicom_reads_the_mask_back(tmp_path: Path, syntax: str) -> None:
    images = phantoms.dicom_slices(phantoms.speckled_head(), UNEVEN_MM, tilt_degrees=12.0)
    folder = phantoms.save_dicom(tmp_path / "ct", images)
    for file in folder.iterdir():
        phantoms.compress(file, syntax)
    volume = read_volume(folder)
    labels = labels_of(volume)
    check_frames(written(volume, labels), images, volume)
    content = segmentation_bytes(labels, volume, LESIONS)
    found = highdicom.seg.segread(io.BytesIO(content))
    stored = found.get_pixels_by_source_instance(
        [image.SOPInstanceUID for image in images],
        combine_segments=True,
        assert_missing_frames_are_empty=True,
    )
    np.testing.assert_array_equal(stored, np.where(labels == 5, 2, labels))


def test_a_multi_frame_source(tmp_path: Path) -> None:
    images = phantoms.dicom_slices(phantoms.speckled_head(), UNEVEN_MM, stored="Yx")
    shuffled = [images[index] for index in np.random.default_rng(3).permutation(len(images))]
    multi = phantoms.enhanced_ct(shuffled)
    volume = read_volume(phantoms.save_dicom(tmp_path / "ct", [multi], ["one.dcm"]))
    labels = labels_of(volume)
    check_frames(written(volume, labels), [multi], volume)
    content = segmentation_bytes(labels, volume, LESIONS)
    found = highdicom.seg.segread(io.BytesIO(content)).get_pixels_by_source_frame(
        multi.SOPInstanceUID,
        [shuffled.index(image) + 1 for image in images],
        combine_segments=True,
        assert_missing_frames_are_empty=True,
    )
    np.testing.assert_array_equal(found[:, ::-1], np.where(labels == 5, 2, labels))


def test_several_multi_frame_files_are_refused(tmp_path: Path) -> None:
    images = phantoms.dicom_slices(phantoms.speckled_head(), EVEN_MM)
    parts = [phantoms.enhanced_ct(images[:4]), phantoms.enhanced_ct(images[4:])]
    volume = read_volume(phantoms.save_dicom(tmp_path / "ct", parts, ["a.dcm", "b.dcm"]))
    with pytest.raises(VolumeError, match=r"one multi-frame file, but .* 2 multi-frame files; "):
        written(volume, labels_of(volume))


# --- What it says ------------------------------------------------------------------------------------


def a_scan(tmp_path: Path, **elements: Any) -> CTVolume:
    images = phantoms.dicom_slices(phantoms.speckled_head(), EVEN_MM, **elements)
    return read_volume(phantoms.save_dicom(tmp_path / "ct", images))


def test_a_segment_a_lesion_with_name_type_colour_and_algorithm(tmp_path: Path) -> None:
    volume = a_scan(tmp_path)
    sha = {"litemedsam/model.safetensors": "ab" * 32}
    dataset = written(volume, labels_of(volume), weights_sha256=sha)
    said = f"scan {volume.sha256[:12]}, litemedsam; not for clinical use"
    assert dataset.ContentDescription == said
    assert dataset.SegmentsOverlap == "NO"
    first, second = dataset.SegmentSequence
    assert [first.SegmentLabel, second.SegmentLabel] == ["Left thalamus", "Lesion 5"]
    assert [first.SegmentNumber, second.SegmentNumber] == [1, 2]
    assert first.SegmentedPropertyTypeCodeSequence[0].CodeValue == "274100004"
    assert second.SegmentedPropertyTypeCodeSequence[0].CodeValue == "50960005"
    assert second.AnatomicRegionSequence[0].CodeMeaning == "Brain ventricle"
    for segment in (first, second):
        assert NOTICE in segment.SegmentDescription
        assert segment.SegmentAlgorithmType == "SEMIAUTOMATIC"
        (algorithm,) = segment.SegmentationAlgorithmIdentificationSequence
        assert algorithm.AlgorithmName == "litemedsam"
        assert algorithm.AlgorithmVersion == __version__
        assert "ab" * 32 in algorithm.AlgorithmParameters
    lightness, a, b = first.RecommendedDisplayCIELabValue  # of the orange #E69F00
    assert lightness / 65535 * 100 == pytest.approx(70.9, abs=0.5)
    assert a / 257 - 128 > 10 and b / 257 - 128 > 50


def test_every_type_has_a_code_that_says_it(tmp_path: Path) -> None:
    volume = a_scan(tmp_path)
    names = {}
    for number, kind in enumerate(TYPES, 1):
        labels = np.full(volume.shape_zyx, number, dtype=np.uint8)
        content = segmentation_bytes(labels, volume, [Lesion(number, type=kind)])
        (segment,) = pydicom.dcmread(io.BytesIO(content)).SegmentSequence
        assert segment.SegmentAlgorithmType == "MANUAL"
        names[kind] = " ".join(
            sequence[0].CodeMeaning.lower()
            for sequence in (
                segment.SegmentedPropertyTypeCodeSequence,
                segment.AnatomicRegionSequence,
            )
        )
        assert segment.SegmentedPropertyTypeCodeSequence[0].CodingSchemeDesignator == "SCT"
    words = {
        "unspecified": "intracranial hemorrhage",
        "IPH": "cerebral hemorrhage",
        "IVH": "hemorrhage brain ventricle",
        "SDH": "subdural",
        "EDH": "epidural",
        "SAH": "subarachnoid",
        "oedema": "edema brain",
    }
    assert names.keys() == words.keys()
    assert all(words[kind] in name for kind, name in names.items())


# --- Whose it is -------------------------------------------------------------------------------------


def test_it_carries_no_identity_unless_asked(tmp_path: Path) -> None:
    volume = a_scan(tmp_path, StudyDate="20240203", AccessionNumber="A1")
    content = segmentation_bytes(labels_of(volume), volume, LESIONS)
    assert phantoms.PATIENT.encode() not in content
    dataset = pydicom.dcmread(io.BytesIO(content))
    for keyword in ("PatientName", "PatientID", "StudyDate", "AccessionNumber"):
        assert dataset[keyword].is_empty
    assert dataset.PatientIdentityRemoved == "YES"


@pytest.mark.filterwarnings("ignore:Invalid value for VR DA")  # writing the phantom
@pytest.mark.parametrize("zipped", [False, True])
def test_asked_for_the_identity_is_that_of_the_files(
    tmp_path: Path, zipped: bool, caplog: pytest.LogCaptureFixture
) -> None:
    volume = a_scan(
        tmp_path,
        StudyDate="20240203",
        AccessionNumber="A1",
        SpecificCharacterSet="ISO_IR 100",
        PatientName="Åström",
        PatientBirthDate="not a date",
    )
    files = tmp_path / "ct"
    files = phantoms.save_zip(tmp_path / "ct.zip", files) if zipped else files
    caplog.clear()  # of what writing the phantom said
    with caplog.at_level(logging.DEBUG), warnings.catch_warnings():
        warnings.simplefilter("error")
        content = segmentation_bytes(labels_of(volume), volume, LESIONS, identity_from=files)
    assert not any(text in caplog.text for text in (phantoms.PATIENT, "Åström", "not a date"))
    dataset = pydicom.dcmread(io.BytesIO(content))
    assert dataset.PatientName == "Åström"
    assert dataset.PatientID == phantoms.PATIENT
    assert (dataset.StudyDate, dataset.AccessionNumber) == ("20240203", "A1")
    assert "PatientIdentityRemoved" not in dataset
    assert dataset.Modality == "SEG"


def test_the_identity_of_another_scan_is_not_taken(tmp_path: Path) -> None:
    volume = a_scan(tmp_path / "one")
    a_scan(tmp_path / "other")
    with pytest.raises(VolumeError, match=r"ct: the patient's identity .* are not there; give"):
        segmentation_bytes(
            labels_of(volume), volume, LESIONS, identity_from=tmp_path / "other" / "ct"
        )


def test_a_source_without_its_optional_elements(tmp_path: Path) -> None:
    images = phantoms.dicom_slices(phantoms.speckled_head(), UNEVEN_MM)
    for image in images:
        for keyword in ("PatientName", "PatientID", "PatientBirthDate", "PatientSex", "StudyDate"):
            delattr(image, keyword)
        del image.StudyTime, image.StudyID, image.AccessionNumber, image.ReferringPhysicianName
        del image.FrameOfReferenceUID, image.PositionReferenceIndicator, image.SliceThickness
    folder = phantoms.save_dicom(tmp_path / "ct", images)
    volume = read_volume(folder)
    dataset = written(volume, labels_of(volume), identity_from=folder)
    assert dataset["PatientName"].is_empty
    assert dataset.FrameOfReferenceUID
    thicknesses = {
        float(frame.PixelMeasuresSequence[0].SliceThickness)
        for frame in dataset.PerFrameFunctionalGroupsSequence
    }
    assert thicknesses <= set(volume.slice_heights_mm) and len(thicknesses) > 1


# --- What is refused ---------------------------------------------------------------------------------


def test_nifti_is_refused_in_one_sentence(tmp_path: Path) -> None:
    head, blood = phantoms.head_hu()
    volume = read_volume(phantoms.save_nifti(tmp_path / "head.nii", head))
    with pytest.raises(VolumeError) as refused:
        segmentation_bytes(blood.astype(np.uint8), volume, LESIONS)
    assert str(refused.value) == (
        "head: a DICOM-SEG refers to the DICOM images of its scan, but this scan is NIfTI; "
        "export NIfTI, or open the DICOM."
    )


def test_an_empty_mask_and_another_shape_are_refused(tmp_path: Path) -> None:
    volume = a_scan(tmp_path)
    with pytest.raises(VolumeError, match="the mask has no voxel of one"):
        segmentation_bytes(np.zeros(volume.shape_zyx, dtype=np.uint8), volume, LESIONS)
    with pytest.raises(VolumeError, match="a mask has the scan's shape"):
        segmentation_bytes(np.zeros((1, 2, 3), dtype=np.uint8), volume, LESIONS)


def test_a_series_without_a_uid_is_refused(tmp_path: Path) -> None:
    images = phantoms.dicom_slices(phantoms.speckled_head(), [5.0 * k for k in range(9)])
    for image in images:
        del image.SeriesInstanceUID
    volume = read_volume(phantoms.save_dicom(tmp_path / "ct", images))
    with pytest.raises(VolumeError, match="lack study, series or image UIDs of their own; export"):
        written(volume, labels_of(volume))


def test_one_phase_of_a_multi_frame_file_is_refused(tmp_path: Path) -> None:
    phases = [phantoms.speckled_head(seed=seed) for seed in (0, 1)]
    images = [i for hu in phases for i in phantoms.dicom_slices(hu, [5.0 * k for k in range(9)])]
    multi = phantoms.enhanced_ct(images)
    for number, item in enumerate(multi.PerFrameFunctionalGroupsSequence):
        item.FrameContentSequence = [pydicom.Dataset()]
        item.FrameContentSequence[0].TemporalPositionIndex = 1 + number // 9
    volume = read_volume(phantoms.save_dicom(tmp_path / "ct", [multi]))
    with pytest.raises(VolumeError, match="but this scan is 9 of its 18 frames; export this phase"):
        written(volume, labels_of(volume))


def test_images_that_cannot_be_told_apart_are_refused(tmp_path: Path) -> None:
    images = phantoms.dicom_slices(phantoms.speckled_head(), EVEN_MM)
    uid = generate_uid()
    for image in images:
        image.SOPInstanceUID = image.file_meta.MediaStorageSOPInstanceUID = uid
    names = [f"{index}.dcm" for index in range(len(images))]
    volume = read_volume(phantoms.save_dicom(tmp_path / "ct", images, names))
    with pytest.raises(VolumeError, match="lack study, series or image UIDs of their own; export"):
        written(volume, labels_of(volume))


def test_what_makes_its_millilitres_doubtful_stands_in_its_comments(tmp_path: Path) -> None:
    phantoms.save_dicom(tmp_path, phantoms.dicom_slices(phantoms.speckled_head(), EVEN_MM))
    volume = read_volume(tmp_path)
    assert "ImageComments" not in written(volume, labels_of(volume))
    doubted = replace(volume, warnings=("A slice is missing.", "The end is cut."))
    found = written(doubted, labels_of(volume))
    assert found.ImageComments == "A slice is missing. The end is cut."
