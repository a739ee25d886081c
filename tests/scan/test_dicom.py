"""DICOM series: order, geometry, rescaling, compression, and which series is opened."""

from __future__ import annotations

import functools
import gc
import logging
import zipfile
from pathlib import Path
from typing import Any

import highdicom.legacy
import numpy as np
import phantoms
import pydicom
import pytest
from pydicom.uid import (
    ExplicitVRLittleEndian,
    ImplicitVRLittleEndian,
    JPEG2000Lossless,
    JPEGLosslessSV1,
    JPEGLSLossless,
    RLELossless,
    generate_uid,
)

from ichseg.errors import VolumeError
from ichseg.files.nifti_mask import read_mask, write_mask
from ichseg.measures.volume import volume_ml
from ichseg.scan.dicom import list_series
from ichseg.scan.read import read_volume

POSITIONS_MM = [-20.0 + 5 * k for k in range(9)]
LOCALIZER = ["ORIGINAL", "PRIMARY", "LOCALIZER"]


@functools.cache
def head() -> np.ndarray[Any, Any]:
    return phantoms.speckled_head()


def save_head(folder: Path, **options: Any) -> Path:
    hu_zyx = options.pop("hu_zyx", head())
    positions = options.pop("positions_mm", POSITIONS_MM)
    return phantoms.save_dicom(folder, phantoms.dicom_slices(hu_zyx, positions, **options))


# --- Order and orientation -------------------------------------------------------------------------


def test_slices_are_ordered_by_position_not_by_name_or_number(tmp_path: Path) -> None:
    volume = read_volume(save_head(tmp_path / "ct"))
    np.testing.assert_array_equal(volume.hu_zyx, head())
    assert volume.hu_zyx.dtype == np.int16
    assert not volume.hu_zyx.flags.writeable
    np.testing.assert_allclose(volume.geometry.origins_mm[:, 2], POSITIONS_MM)
    np.testing.assert_allclose(volume.geometry.origins_mm[0, :2], (12.0, 20.0))
    np.testing.assert_allclose(volume.geometry.x_step_mm, (-0.7, 0, 0), atol=1e-9)
    np.testing.assert_allclose(volume.geometry.y_step_mm, (0, -0.9, 0), atol=1e-9)
    assert volume.name == "HEAD, 9 slices"
    assert volume.notes == ()
    assert volume.series == ()
    assert volume.source is None


@pytest.mark.parametrize("tilt_degrees", [0.0, -20.0])
@pytest.mark.parametrize("stored", ["yx", "yX", "Yx", "YX", "xy", "xY", "Xy", "XY"])
def test_stored_turned_or_mirrored_it_comes_out_the_same(
    tmp_path: Path, stored: str, tilt_degrees: float
) -> None:
    """Prone, feet first or through a mirror: only the patient's own coordinates count."""
    upright = read_volume(save_head(tmp_path / "upright", tilt_degrees=tilt_degrees))
    volume = read_volume(save_head(tmp_path / "turned", tilt_degrees=tilt_degrees, stored=stored))
    np.testing.assert_array_equal(volume.hu_zyx, head())
    for one, other in zip(
        (volume.geometry.origins_mm, volume.geometry.y_step_mm, volume.geometry.x_step_mm),
        (upright.geometry.origins_mm, upright.geometry.y_step_mm, upright.geometry.x_step_mm),
        strict=True,
    ):
        np.testing.assert_allclose(one, other, atol=1e-5)
    turned = (
        "The slices were turned to the usual view: anterior up, the patient's right on the left."
    )
    assert (turned in volume.notes) == (stored != "yx")


def test_a_tilted_series(tmp_path: Path) -> None:
    volume = read_volume(save_head(tmp_path / "ct", tilt_degrees=18.5))
    assert volume.notes == ("gantry tilt 18.5 degrees, slices 4.7 mm",)
    np.testing.assert_allclose(volume.slice_heights_mm, 5 * np.cos(np.radians(18.5)), rtol=1e-6)
    assert volume.geometry.is_even


def test_a_mask_of_a_dicom_series_comes_back(tmp_path: Path) -> None:
    volume = read_volume(save_head(tmp_path / "ct", tilt_degrees=10, stored="YX"))
    write_mask(tmp_path / "m.nii.gz", head() > 500, volume)
    np.testing.assert_array_equal(read_mask(tmp_path / "m.nii.gz", volume), head() > 500)


@pytest.mark.parametrize("tilt_degrees", [0.0, 18.5])
def test_the_volume_of_a_box_in_an_uneven_tilted_series(
    tmp_path: Path, tilt_degrees: float
) -> None:
    """4 mm, a 1 mm step, then 7 mm along the table; the block stands in slices 2 to 6."""
    positions = [0.0, 4, 8, 12, 13, 20, 27, 34]
    hu_zyx = phantoms.speckled_head((8, 40, 48))
    volume = read_volume(
        save_head(tmp_path / "ct", hu_zyx=hu_zyx, positions_mm=positions, tilt_degrees=tilt_degrees)
    )
    mask = np.zeros(volume.shape_zyx, bool)
    mask[2:7, 10:20, 30:37] = True
    table_mm = (12 - 4) / 2 + (13 - 8) / 2 + (20 - 12) / 2 + (27 - 13) / 2 + (34 - 20) / 2
    expected = 10 * 0.9 * 7 * 0.7 * table_mm * np.cos(np.radians(tilt_degrees)) / 1000
    assert volume_ml(mask, volume) == pytest.approx(expected, rel=1e-6)
    tilt = "gantry tilt 18.5 degrees, " if tilt_degrees else ""
    apart = "3.8 and 6.6" if tilt_degrees else "4.0 and 7.0"
    assert volume.notes[0] == f"{tilt}slices {apart} mm"
    assert volume.notes[1].startswith("The slices are not evenly spaced:")


# --- The real series -------------------------------------------------------------------------------


def test_the_real_tilted_uneven_series(shared_data: Path, tmp_path: Path) -> None:
    folder = shared_data / "ge-head-ct"
    volume = read_volume(folder)
    assert "gantry tilt 18.5 degrees, slices 4.0 and 7.0 mm" in volume.notes

    # The same from the files' own elements: this scanner moved along the table's z alone.
    images = [pydicom.dcmread(path) for path in folder.glob("*.dcm")]
    images.sort(key=lambda image: image.ImagePositionPatient[2])
    table = np.array([float(image.ImagePositionPatient[2]) for image in images])
    cosine = float(images[0].ImageOrientationPatient[4])
    heights = np.empty(28)
    for k in range(28):
        below, above = table[max(k - 1, 0)], table[min(k + 1, 27)]
        heights[k] = (above - below) * cosine / (1 if k in (0, 27) else 2)
    np.testing.assert_allclose(volume.slice_heights_mm, heights, atol=1e-4)
    assert heights.round(1).tolist() == [4.0] * 13 + [2.5, 4.0] + [7.0] * 13
    for k, image in enumerate(images):
        np.testing.assert_array_equal(volume.hu_zyx[k], np.maximum(image.pixel_array, -1024))

    # A mask painted by a rule on the stored pixels, in both stacks and across the step.
    area_mm2 = 0.4882812**2
    expected = sum(
        np.count_nonzero(image.pixel_array[200:300, 150:280] > 30) * area_mm2 * height / 1000
        for image, height in zip(images[5:22], heights[5:22], strict=True)
    )
    mask = np.zeros(volume.shape_zyx, bool)
    mask[5:22, 200:300, 150:280] = volume.hu_zyx[5:22, 200:300, 150:280] > 30
    assert volume_ml(mask, volume) == pytest.approx(expected, rel=1e-5)

    with pytest.raises(VolumeError, match="export the slice-wise CSV and PNG instead"):
        write_mask(tmp_path / "m.nii.gz", mask, volume)


def test_the_real_series_in_a_zip(shared_data: Path, tmp_path: Path) -> None:
    folder = shared_data / "ge-head-ct"
    volume = read_volume(phantoms.save_zip(tmp_path / "ge.zip", folder, zipfile.ZIP_STORED))
    np.testing.assert_array_equal(volume.hu_zyx, read_volume(folder).hu_zyx)


# --- Values ----------------------------------------------------------------------------------------


def test_each_slice_has_its_own_rescale(tmp_path: Path) -> None:
    images = [
        phantoms.dicom_slices(head()[k : k + 1], [z], slope=1.0 + k, intercept=-1024.0 + 10 * k)[0]
        for k, z in enumerate(POSITIONS_MM)
    ]
    for image in images:
        image.SeriesInstanceUID = images[0].SeriesInstanceUID
    volume = read_volume(phantoms.save_dicom(tmp_path / "ct", images))
    error = np.abs(volume.hu_zyx - head().astype(int)).max(axis=(1, 2))
    assert (error <= [(k + 1) / 2 for k in range(9)]).all()
    assert volume.hu_zyx.dtype == np.int16


def test_a_fractional_slope_gives_float32(tmp_path: Path) -> None:
    volume = read_volume(save_head(tmp_path / "ct", slope=0.3, intercept=-1000.0))
    assert volume.hu_zyx.dtype == np.float32
    assert np.abs(volume.hu_zyx - np.maximum(head(), -1024)).max() <= 0.15 + 1e-4


def test_padding_below_air_is_clipped(tmp_path: Path) -> None:
    hu_zyx = head().copy()
    hu_zyx[:, :5] = -3024
    volume = read_volume(save_head(tmp_path / "ct", hu_zyx=hu_zyx, PixelPaddingValue=-2000))
    assert (volume.hu_zyx[:, :5] == -1024).all()


def test_a_missing_intercept_is_added_only_when_asked_for(tmp_path: Path) -> None:
    images = phantoms.dicom_slices(head(), POSITIONS_MM, PixelRepresentation=0)
    for image in images:
        del image.RescaleIntercept, image.RescaleSlope
    folder = phantoms.save_dicom(tmp_path / "ct", images)
    with pytest.raises(VolumeError, match="open it with add_offset=-1024"):
        read_volume(folder)
    volume = read_volume(folder, add_offset=-1024)
    np.testing.assert_array_equal(volume.hu_zyx, head())
    assert volume.notes == ("-1024 HU were added to every voxel, as asked.",)


# --- Encodings -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "syntax",
    [ExplicitVRLittleEndian, ImplicitVRLittleEndian],
    ids=lambda syntax: syntax.name,
)
def test_plain_transfer_syntaxes(tmp_path: Path, syntax: Any) -> None:
    images = phantoms.dicom_slices(head(), POSITIONS_MM)
    for image in images:
        image.file_meta.TransferSyntaxUID = syntax
    volume = read_volume(phantoms.save_dicom(tmp_path / "ct", images))
    np.testing.assert_array_equal(volume.hu_zyx, head())


@pytest.mark.parametrize("syntax", [RLELossless, JPEGLSLossless], ids=lambda syntax: syntax.name)
def test_compression_that_pydicom_writes(tmp_path: Path, syntax: Any) -> None:
    # JPEG-LS has no negative numbers, so this one is stored unsigned, as scanners do.
    images = phantoms.dicom_slices(head(), POSITIONS_MM, PixelRepresentation=0)
    for image in images:
        image.compress(syntax)
    volume = read_volume(phantoms.save_dicom(tmp_path / "ct", images))
    np.testing.assert_array_equal(volume.hu_zyx, head())


@pytest.mark.parametrize("representation", [0, 1], ids=["unsigned", "signed"])
@pytest.mark.parametrize(
    "syntax", [JPEG2000Lossless, JPEGLosslessSV1], ids=lambda syntax: syntax.name
)
def test_compression_that_gdcm_writes(tmp_path: Path, syntax: Any, representation: int) -> None:
    intercept = -1024.0 if representation == 0 else 0.0
    folder = save_head(tmp_path / "ct", intercept=intercept, PixelRepresentation=representation)
    for file in folder.iterdir():
        phantoms.compress(file, syntax)
        assert pydicom.dcmread(file).file_meta.TransferSyntaxUID == syntax
    np.testing.assert_array_equal(read_volume(folder).hu_zyx, head())


def test_an_enhanced_multi_frame_ct(tmp_path: Path) -> None:
    images = []
    for k, z in enumerate(POSITIONS_MM):
        images += phantoms.dicom_slices(head()[k : k + 1], [z], intercept=-1024.0 - k, stored="Yx")
    shuffled = [images[k] for k in (4, 0, 8, 2, 6, 1, 5, 3, 7)]
    folder = phantoms.save_dicom(tmp_path / "ct", [phantoms.enhanced_ct(shuffled)])
    volume = read_volume(folder)
    np.testing.assert_array_equal(volume.hu_zyx, head())
    np.testing.assert_allclose(volume.geometry.origins_mm[:, 2], POSITIONS_MM)
    np.testing.assert_allclose(volume.geometry.y_step_mm, (0, -0.9, 0), atol=1e-9)
    one_file = next(folder.iterdir())
    np.testing.assert_array_equal(read_volume(one_file).hu_zyx, head())


@pytest.mark.parametrize(
    ("frames", "described"), [(9, 8), (9, 1), (9, 10), (10, 9), (8, 9), (None, 9)]
)
def test_a_multi_frame_file_describes_each_of_its_frames(
    tmp_path: Path, frames: int | None, described: int
) -> None:
    multi = phantoms.enhanced_ct(phantoms.dicom_slices(head(), POSITIONS_MM))
    groups = list(multi.PerFrameFunctionalGroupsSequence)
    multi.PerFrameFunctionalGroupsSequence = (groups + groups)[:described]
    if frames is None:
        del multi.NumberOfFrames
    else:
        multi.NumberOfFrames = frames
    said = f"of {frames or 1} frame{'s' if frames else ''} it describes {described};"
    with pytest.raises(VolumeError, match=f"each of its frames where it lies, but {said}"):
        read_volume(phantoms.save_dicom(tmp_path / "ct", [multi], ["a.dcm"]) / "a.dcm")


def test_a_legacy_converted_enhanced_ct(tmp_path: Path) -> None:
    """Written by highdicom, which lays out the functional groups in its own way."""
    images = phantoms.dicom_slices(
        head(), POSITIONS_MM, PatientName="Doe^Jane", StudyDate="20200101", StudyTime="120000"
    )
    multi = highdicom.legacy.LegacyConvertedEnhancedCTImage(
        legacy_datasets=images,
        series_instance_uid=generate_uid(),
        series_number=3,
        sop_instance_uid=generate_uid(),
        instance_number=1,
    )
    multi.save_as(tmp_path / "multi.dcm")
    volume = read_volume(tmp_path / "multi.dcm")
    np.testing.assert_array_equal(volume.hu_zyx, head())
    np.testing.assert_allclose(volume.geometry.origins_mm[:, 2], POSITIONS_MM)


def test_files_without_a_preamble(tmp_path: Path) -> None:
    folder = tmp_path / "ct"
    folder.mkdir()
    for k, image in enumerate(phantoms.dicom_slices(head(), POSITIONS_MM)):
        implicit = k % 2 == 0
        del image.file_meta
        image.save_as(folder / f"{k}", implicit_vr=implicit, little_endian=True)
        assert (folder / f"{k}").read_bytes()[:1] == b"\x08"
    np.testing.assert_array_equal(read_volume(folder).hu_zyx, head())


# --- Where the files are ---------------------------------------------------------------------------


def test_a_folder_a_zip_and_a_list_are_the_same(tmp_path: Path) -> None:
    folder = save_head(tmp_path / "study" / "deep" / "ct")
    (tmp_path / "study" / "LICENSE.txt").write_text("not an image")
    (tmp_path / "study" / ".DS_Store").write_bytes(bytes(4000))
    (tmp_path / "study" / "empty").touch()
    archive = phantoms.save_zip(tmp_path / "study.zip", tmp_path / "study")
    files = sorted(map(str, (tmp_path / "study").rglob("*.*")))
    for source in (tmp_path / "study", archive, files, [str(archive)], [folder]):
        np.testing.assert_array_equal(read_volume(source).hu_zyx, head())


def test_a_dicomdir_is_passed_over(tmp_path: Path) -> None:
    folder = save_head(tmp_path / "ct")
    index = pydicom.Dataset()
    index.file_meta = pydicom.dataset.FileMetaDataset()
    index.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    index.file_meta.MediaStorageSOPClassUID = pydicom.uid.MediaStorageDirectoryStorage
    index.file_meta.MediaStorageSOPInstanceUID = generate_uid()
    index.FileSetID = "DISK"
    index.save_as(folder / "DICOMDIR", enforce_file_format=True)
    np.testing.assert_array_equal(read_volume(folder).hu_zyx, head())


def test_no_file_is_left_open(tmp_path: Path) -> None:
    archive = phantoms.save_zip(tmp_path / "ct.zip", save_head(tmp_path / "ct"))
    with pytest.MonkeyPatch.context() as patch:
        opened: list[zipfile.ZipFile] = []

        class Watched(zipfile.ZipFile):
            def __init__(self, *args: Any, **kwargs: Any) -> None:
                super().__init__(*args, **kwargs)
                opened.append(self)

        patch.setattr(zipfile, "ZipFile", Watched)
        read_volume(archive)
        list_series(archive)
    gc.collect()
    assert len(opened) == 2
    assert all(archive.fp is None for archive in opened)


# --- Which series ----------------------------------------------------------------------------------


@pytest.fixture
def study(tmp_path: Path) -> Path:
    """A scout, a thin and a thick head, a coronal reformat, an MR, and a thinner derived series."""
    folder = tmp_path / "study"
    thick = head()[::2]

    def add(hu_zyx: Any, positions: Any, name: str, number: int, **elements: Any) -> None:
        save_head(
            folder,
            hu_zyx=hu_zyx,
            positions_mm=positions,
            SeriesDescription=name,
            SeriesNumber=number,
            StudyInstanceUID="1.2.3",
            **elements,
        )

    add(head()[:1], [0.0], "SCOUT", 1, ImageType=LOCALIZER)
    add(thick, POSITIONS_MM[::2], "THICK", 2)
    add(head(), POSITIONS_MM, "THIN", 3)
    fine = np.repeat(head(), 2, axis=0)
    add(fine, np.arange(18) * 2.5, "REFORMAT", 4, ImageType=["DERIVED", "SECONDARY", "REFORMATTED"])
    add(fine, np.arange(18) * 2.5, "CORONAL", 5, ImageOrientationPatient=[1, 0, 0, 0, 0, -1])
    add(fine, np.arange(18) * 2.5, "T2", 6, Modality="MR")
    return folder


def test_the_axial_ct_with_most_slices_is_opened(study: Path) -> None:
    volume = read_volume(study)
    np.testing.assert_array_equal(volume.hu_zyx, head())
    assert volume.name == "THIN, 9 slices"
    assert volume.notes == ("Opened series 3 'THIN' (9 slices); 5 other series were left aside.",)
    assert [info.label for info in volume.series if not info.refusal] == ["THICK", "REFORMAT"]
    assert [bool(info.refusal) for info in volume.series] == [False, False, True, True, True]


def test_another_series_is_opened_when_asked_for(study: Path) -> None:
    first = read_volume(study)
    thick = first.series[0]
    by_key, by_number = read_volume(study, series=thick.key), read_volume(study, series="2")
    for volume in (by_key, by_number):
        np.testing.assert_array_equal(volume.hu_zyx, head()[::2])
        assert [info.label for info in volume.series if not info.refusal] == ["THIN", "REFORMAT"]
    derived = read_volume(study, series="4")
    assert derived.shape_zyx[0] == 18
    assert derived.notes[-1] == (
        "This series was derived from another one, not taken straight from the scanner."
    )


def test_a_derived_series_alone_is_opened(tmp_path: Path) -> None:
    volume = read_volume(save_head(tmp_path / "ct", ImageType=["DERIVED", "SECONDARY", "MPR"]))
    assert volume.shape_zyx[0] == 9
    assert "derived from another one" in volume.notes[-1]


def test_a_scout_that_shares_the_series_is_left_out(tmp_path: Path) -> None:
    images = phantoms.dicom_slices(head(), POSITIONS_MM)
    scout = phantoms.dicom_slices(head()[:1], [0.0], ImageType=LOCALIZER)[0]
    scout.SeriesInstanceUID = images[0].SeriesInstanceUID
    scout.ImageOrientationPatient = [1, 0, 0, 0, 0, -1]
    volume = read_volume(phantoms.save_dicom(tmp_path / "ct", [*images, scout]))
    np.testing.assert_array_equal(volume.hu_zyx, head())


def test_list_series_says_what_is_there_and_why_not(study: Path) -> None:
    listed = list_series(study)
    assert [(info.label, info.slices, info.derived) for info in listed[:3]] == [
        ("THIN", 9, False),
        ("THICK", 5, False),
        ("REFORMAT", 18, True),
    ]
    assert {info.label: info.refusal for info in listed[3:]} == {
        "SCOUT": "it is a localizer",
        "CORONAL": "its slices are not axial",
        "T2": "its modality is MR, not CT",
    }
    assert all(info.refusal == "" for info in listed[:3])
    assert listed == list_series([study])


@pytest.mark.parametrize(("wanted", "reason"), [("5", "its slices are not axial"), ("6", "MR")])
def test_an_unfit_series_is_refused_when_asked_for(study: Path, wanted: str, reason: str) -> None:
    with pytest.raises(VolumeError, match=rf"^study: a scan is an axial CT series.*{reason}"):
        read_volume(study, series=wanted)


def test_a_series_that_is_not_there(study: Path) -> None:
    with pytest.raises(VolumeError, match=r"there is no '77', only series 3 'THIN' \(9 slices\)"):
        read_volume(study, series="77")


# --- Series in stacks ------------------------------------------------------------------------------


def from_gaps(*gaps: float) -> list[float]:
    return [0.0, *np.cumsum(gaps).tolist()]


@pytest.mark.parametrize(
    "gaps",
    [
        pytest.param([4] * 5 + [1.1] + [7] * 5, id="two stacks with a step"),
        pytest.param([5] * 5 + [10] * 4, id="twice the spacing above the skull base"),
        pytest.param([2.5] * 6 + [5] * 4 + [10] * 3, id="three stacks"),
        pytest.param([5] * 4 + [7.5] + [10] * 4, id="two stacks, centre to centre"),
        pytest.param([5, 5.1, 4.9, 5, 5, 5.1], id="rounded positions"),
        pytest.param([5, 5, 6.2, 5, 5], id="a bed that moved a little too far"),
        pytest.param([5, 10], id="too few slices to tell"),
    ],
)
def test_legitimate_stacks_are_taken(tmp_path: Path, gaps: list[float]) -> None:
    positions = from_gaps(*gaps)
    hu_zyx = phantoms.speckled_head((len(positions), 24, 28))
    volume = read_volume(save_head(tmp_path / "ct", hu_zyx=hu_zyx, positions_mm=positions))
    np.testing.assert_allclose(volume.geometry.slice_positions_mm, positions)


def test_a_short_stack_of_thicker_slices_is_taken(tmp_path: Path) -> None:
    positions = from_gaps(5, 5, 5, 5, 10, 10)
    images = phantoms.dicom_slices(phantoms.speckled_head((7, 24, 28)), positions)
    for image in images[5:]:
        image.SliceThickness = 10
    volume = read_volume(phantoms.save_dicom(tmp_path / "ct", images))
    assert volume.notes[0] == "slices 5.0 and 10.0 mm"


@pytest.mark.parametrize(
    ("gaps", "text"),
    [
        ([5, 5, 10, 5, 5], "1 slice is missing between slices 3 and 4 (10.0 mm where 5.0"),
        ([5, 5, 20, 5, 5], "3 slices are missing between slices 3 and 4 (20.0 mm where 5.0"),
        ([10, 5, 5, 5], "1 slice is missing between slices 1 and 2 (10.0 mm where 5.0"),
        ([5, 5, 5, 10], "1 slice is missing between slices 4 and 5 (10.0 mm where 5.0"),
        ([5, 5, 5, 10, 10], "2 slices are missing between slices 4 and 5 (10.0 mm where 5.0"),
        ([5, 10, 5, 10, 5], "2 slices are missing between slices 2 and 3 (10.0 mm where 5.0"),
        ([5, 5, 10, 10, 5, 5], "2 slices are missing between slices 3 and 4 (10.0 mm where"),
        ([5, 5, 17, 5, 5], "2 slices are missing between slices 3 and 4 (17.0 mm where 5.0"),
        ([1] * 5 + [11] + [1] * 5, "10 slices are missing between slices 6 and 7 (11.0 mm"),
        ([4] * 4 + [8] + [4] * 3 + [1.1] + [7] * 5, "1 slice is missing between slices 5 and 6"),
        ([4] * 4 + [1.1] + [7] * 3 + [14] + [7] * 3, "1 slice is missing between slices 9 and"),
    ],
)
def test_a_lost_slice_is_warned_of_and_the_volume_goes_by_places(
    tmp_path: Path, gaps: list[float], text: str
) -> None:
    positions = from_gaps(*gaps)
    hu_zyx = phantoms.speckled_head((len(positions), 24, 28))
    volume = read_volume(save_head(tmp_path / "ct", hu_zyx=hu_zyx, positions_mm=positions))
    np.testing.assert_allclose(volume.geometry.slice_positions_mm, positions)
    (warning,) = volume.warnings
    assert text in warning
    # A block through all slices stands for the whole range, and half of each outer gap.
    mask = np.zeros(volume.shape_zyx, bool)
    mask[:, 4:8, 4:8] = True
    height_mm = positions[-1] - positions[0] + (gaps[0] + gaps[-1]) / 2
    assert volume_ml(mask, volume) == pytest.approx(16 * 0.9 * 0.7 * height_mm / 1000, rel=1e-6)


@pytest.mark.parametrize(
    ("gaps", "text"),
    [
        ([5, 5, 25, 5, 5], "4 slices are missing between slices 3 and 4 (25.0 mm where 5.0 mm is"),
        ([10, 10, 30, 10], "2 slices are missing between slices 3 and 4 (30.0 mm where 10.0 mm is"),
    ],
)
def test_a_gap_that_could_hide_a_hematoma_is_refused(
    tmp_path: Path, gaps: list[float], text: str
) -> None:
    positions = from_gaps(*gaps)
    hu_zyx = phantoms.speckled_head((len(positions), 24, 28))
    with pytest.raises(
        VolumeError, match="the gap that lost slices leave is at most 22 mm"
    ) as error:
        read_volume(save_head(tmp_path / "ct", hu_zyx=hu_zyx, positions_mm=positions))
    assert text in str(error.value)
    assert text in error.value.series[0].refusal


# --- Privacy ---------------------------------------------------------------------------------------


def test_no_patient_data_comes_out(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, capsys: pytest.CaptureFixture[str]
) -> None:
    caplog.set_level(logging.DEBUG)
    folder = save_head(tmp_path / "ct")
    volume = read_volume(folder)
    said = [repr(volume), repr(volume.series), repr(list_series(folder))]
    for file in sorted(folder.iterdir())[:3]:
        file.write_bytes(file.read_bytes()[:-100])
    with pytest.raises(VolumeError) as error:
        read_volume(folder)
    said += [repr(error.value), repr(error.value.__cause__), caplog.text, *capsys.readouterr()]
    for text in said:
        assert phantoms.PATIENT not in text
        assert "DOE" not in text.upper()
