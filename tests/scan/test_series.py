"""Which series of a study is opened first, which slices are one stack, and what is passed over."""

from __future__ import annotations

import gzip
import io
import shutil
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import phantoms
import pydicom
import pytest
from pydicom.dataelem import RawDataElement
from pydicom.uid import DeflatedExplicitVRLittleEndian

from ichseg.errors import VolumeError
from ichseg.files.records import scan_record
from ichseg.scan.dicom import list_series
from ichseg.scan.read import read_volume
from ichseg.scan.series import has_contrast, is_elsewhere, sharpness
from ichseg.scan.volume import CTVolume

POSITIONS_MM = [5.0 * k for k in range(9)]
HEAD = phantoms.speckled_head((9, 24, 28))


def images(seed: int = 0, **elements: Any) -> list[Any]:
    """Nine images of a small head; of one seed they are the same."""
    hu_zyx = phantoms.speckled_head((9, 24, 28), seed=seed)
    return phantoms.dicom_slices(hu_zyx, POSITIONS_MM, **elements)


def one_series(*parts: list[Any]) -> list[Any]:
    """All images under the first one's series UID."""
    whole = [image for part in parts for image in part]
    for image in whole:
        image.SeriesInstanceUID = whole[0].SeriesInstanceUID
    return whole


def save(folder: Path, found: list[Any]) -> Path:
    return phantoms.save_dicom(folder / "ct", found, [f"IM{k:03}.dcm" for k in range(len(found))])


def same_head(volume: CTVolume) -> bool:
    return np.array_equal(volume.hu_zyx, HEAD) and volume.warnings == ()


# --- Words -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "kernel",
    [
        *("H20f", "H31s", "H37s", "H40s", "B30f", "B40s", "J30s", "Hr38f", "Hr40", "Br36", "Qr40"),
        *("SOFT", "STANDARD", "FC20", "FC21", "FC26", "FC64", "UB", "A", "B", "H_SOFT_B", "Brain"),
    ],
)
def test_soft_kernels(kernel: str) -> None:
    assert sharpness(kernel) == 0


@pytest.mark.parametrize(
    "kernel",
    [
        *("H60s", "H70h", "B60s", "B70s", "J70h", "Hr60", "Hr64", "Bl57", "U90u", "Br64"),
        *("BONE", "BONEPLUS", "BONE+", "EDGE", "LUNG", "FC30", "FC81", "YB", "D", "H_SHARP_C"),
    ],
)
def test_sharp_kernels(kernel: str) -> None:
    assert sharpness(kernel) == 2


@pytest.mark.parametrize(
    "description",
    [
        *("CTA Head", "CT ANGIO", "CTP 5.0", "PERFUSION", "Head +C", "HEAD C+", "POST CONTRAST"),
        *("Schädel mit KM", "HEAD W CON", "VENOUS", "ARTERIAL", "Bolus tracking", "CTV", "CECT"),
        *("avec injection", "Head iv contrast", "delayed 5 min"),
    ],
)
def test_contrast_by_its_description(description: str) -> None:
    assert has_contrast("", description)


@pytest.mark.parametrize(
    "description",
    [
        *("Head 5.0 H31s", "HEAD W/O CONTRAST", "HEAD WITHOUT CONTRAST", "NCCT", "non-contrast"),
        *("Kopf nativ", "Schädel ohne KM", "o. KM", "sans injection", "PRE CONTRAST", "PLAIN HEAD"),
        *("POST OP HEAD", "POSTERIOR FOSSA", "HEAD W/WO", "Unenhanced", "NONCONTRAST HEAD", "C-"),
    ],
)
def test_no_contrast_by_its_description(description: str) -> None:
    assert not has_contrast("", description)


@pytest.mark.parametrize("agent", ["", "NONE", "No", "N/A", "without", "W/O", "0", "ohne KM"])
def test_an_agent_that_says_none(agent: str) -> None:
    assert not has_contrast(agent, "HEAD")
    assert has_contrast("Iomeprol 400", "HEAD")


def test_other_parts_of_the_body() -> None:
    assert all(map(is_elsewhere, [""] * 4, ["C-SPINE", "HWS 2.0", "NECK", "THORAX"]))
    assert not any(map(is_elsewhere, [""] * 3, ["HEAD", "Head/Neck CTA", "SCHÄDEL"]))
    assert is_elsewhere("CHEST", "5.0 STANDARD") and not is_elsewhere("HEAD", "5.0 STANDARD")


# --- Choice ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "other",
    [
        pytest.param({"ConvolutionKernel": "H60s"}, id="a bone kernel"),
        pytest.param({"SeriesDescription": "HEAD BONE"}, id="bone by its description"),
        pytest.param({"ContrastBolusAgent": "Ultravist"}, id="an agent"),
        pytest.param({"SeriesDescription": "CTA"}, id="an angiography"),
        pytest.param({"SeriesDescription": "C-SPINE"}, id="the neck"),
        pytest.param({"ImageType": ["DERIVED", "SECONDARY", "AXIAL", "MIP"]}, id="a projection"),
        pytest.param({"ImageType": ["DERIVED", "SECONDARY", "MPR"]}, id="a reformat"),
        pytest.param({"ConvolutionKernel": "BONEPLUS"}, id="another maker's bone kernel"),
        pytest.param({}, id="thinner slices"),
    ],
)
def test_the_plain_soft_head_goes_before_a_series_of_more_slices(
    tmp_path: Path, other: dict[str, Any]
) -> None:
    more = phantoms.speckled_head((25, 24, 28))
    rest = {"SeriesNumber": 1, "ConvolutionKernel": "H31s", **other}
    rival = phantoms.dicom_slices(more, np.arange(25) * 1.25, **rest)
    folder = save(tmp_path / "a", images(SeriesNumber=2, ConvolutionKernel="H31s"))
    save(tmp_path / "b", rival)
    volume = read_volume(tmp_path)
    assert same_head(volume), volume.name
    assert [info.slices for info in volume.series] == [25]
    assert folder.is_dir() and same_head(read_volume(tmp_path, series="2"))


def test_what_is_opened_with_contrast_or_a_bone_kernel_is_warned_of(tmp_path: Path) -> None:
    found = images(ContrastBolusAgent="Iomeprol", ConvolutionKernel="H60s")
    contrast, bone = read_volume(save(tmp_path, found)).warnings
    assert "contrast medium" in contrast
    assert "kernel for bone" in bone


def test_a_damaged_first_choice_does_not_hide_the_second(tmp_path: Path) -> None:
    first = save(tmp_path / "a", images(SeriesNumber=2)) / "IM004.dcm"
    first.write_bytes(first.read_bytes()[:-300])
    save(tmp_path / "b", images(SeriesNumber=3, ConvolutionKernel="H60s"))
    volume = read_volume(tmp_path)
    assert np.array_equal(volume.hu_zyx, HEAD)
    assert "Series 2 'HEAD' (9 slices) could not be opened (IM004.dcm: a DICOM" in volume.notes[-1]
    assert "IM004.dcm" in volume.series[0].refusal
    assert "IM004.dcm" not in str(scan_record(volume))
    with pytest.raises(VolumeError, match=r"^IM004\.dcm: a DICOM file must be whole") as error:
        read_volume(tmp_path, series="2")
    assert [bool(info.refusal) for info in error.value.series] == [False, True]


# --- Series that share a UID -----------------------------------------------------------------------


@pytest.mark.parametrize(
    ("element", "values", "label"),
    [
        ("ConvolutionKernel", ("H31s", "H60s"), "HEAD, kernel H60s"),
        ("ConvolutionKernel", (["H31s", "2"], ["H60s", "2"]), "HEAD, kernel H60s 2"),
        ("AcquisitionNumber", (1, 2), "HEAD, acquisition 2"),
        ("TemporalPositionIdentifier", (1, 2), "HEAD, phase 2"),
        ("ContrastBolusAgent", ("", "Iomeprol"), "HEAD, contrast medium 'Iomeprol'"),
    ],
)
def test_two_series_under_one_uid(
    tmp_path: Path, element: str, values: tuple[Any, Any], label: str
) -> None:
    parts = [images(seed, **{element: value}) for seed, value in enumerate(values)]
    folder = save(tmp_path, one_series(*parts))
    volume = read_volume(folder)
    assert same_head(volume)
    (other,) = volume.series
    assert (other.label, other.slices) == (label, 9)
    second = phantoms.speckled_head((9, 24, 28), seed=1)
    for key in (other.key, other.short):
        np.testing.assert_array_equal(read_volume(folder, series=key).hu_zyx, second)


def test_kernels_that_interleave_are_two_series(tmp_path: Path) -> None:
    between = phantoms.dicom_slices(HEAD, [z + 2.5 for z in POSITIONS_MM], ConvolutionKernel="YB")
    volume = read_volume(save(tmp_path, one_series(images(ConvolutionKernel="UB"), between)))
    assert same_head(volume) and len(volume.series) == 1


def test_a_second_pass_a_little_off_is_a_series_of_its_own(tmp_path: Path) -> None:
    later = phantoms.dicom_slices(HEAD, [z + 0.4 for z in POSITIONS_MM], AcquisitionNumber=2)
    volume = read_volume(save(tmp_path, one_series(images(AcquisitionNumber=1), later)))
    assert same_head(volume) and len(volume.series) == 1


def test_an_acquisition_a_slice_is_one_series(tmp_path: Path) -> None:
    found = images()
    for number, image in enumerate(found):
        image.AcquisitionNumber = number
    assert same_head(read_volume(save(tmp_path, found)))


def test_two_kernels_one_above_the_other_are_one_scan(tmp_path: Path) -> None:
    found = images()
    for number, image in enumerate(found):
        image.ConvolutionKernel = "H31s" if number < 4 else "H37s"
    assert same_head(read_volume(save(tmp_path, found)))


def test_frames_of_two_phases_in_one_file(tmp_path: Path) -> None:
    frames = [*images(0), *images(1)]
    multi = phantoms.enhanced_ct(frames)
    for number, item in enumerate(multi.PerFrameFunctionalGroupsSequence):
        content = pydicom.Dataset()
        content.TemporalPositionIndex = 1 + number // 9
        item.FrameContentSequence = [content]
    volume = read_volume(save(tmp_path, [multi]))
    assert same_head(volume)
    assert [info.label for info in volume.series] == ["HEAD, phase 2"]


# --- What is no part of the scan -------------------------------------------------------------------


def test_copies_under_other_names_and_uids(tmp_path: Path) -> None:
    folder = save(tmp_path, images())
    shutil.copytree(folder, folder / "again")
    renamed = pydicom.dcmread(folder / "IM003.dcm")
    renamed.SOPInstanceUID = renamed.file_meta.MediaStorageSOPInstanceUID = "1.2.3"
    renamed.save_as(folder / "sent again.dcm")
    volume = read_volume(folder)
    assert same_head(volume)
    assert volume.notes[0].startswith("Passed over: 10 files that are there twice (")


def test_of_a_whole_and_a_broken_copy_the_whole_one_is_read(tmp_path: Path) -> None:
    folder = save(tmp_path, images())
    whole = (folder / "IM003.dcm").read_bytes()
    for name, content in (("IM003.dcm", whole[:-500]), ("IM003 (1).dcm", whole)):
        (folder / name).write_bytes(content)
    assert same_head(read_volume(folder))


def test_one_sop_uid_for_all_is_no_copy(tmp_path: Path) -> None:
    found = images()
    for image in found:
        image.SOPInstanceUID = image.file_meta.MediaStorageSOPInstanceUID = "1.2.3"
    assert same_head(read_volume(save(tmp_path, found)))


def test_other_files_are_counted_in_one_note(tmp_path: Path) -> None:
    found = images()
    small = phantoms.dicom_slices(HEAD[:1, ::2, ::2], [7.0])
    thumbnail = images()[:1]
    thumbnail[0].SamplesPerPixel, thumbnail[0].PhotometricInterpretation = 3, "RGB"
    folder = save(tmp_path, one_series(found, small, thumbnail))
    junk = (".DS_Store", "Thumbs.db", "desktop.ini", "._IM001.dcm", "ct.json", "report.pdf")
    for name in junk:
        (folder / name).write_bytes(b"\x00\x05\x16\x07{}" * 50)
    (folder / "__MACOSX").mkdir()
    (folder / "__MACOSX" / "IM001.dcm").write_bytes((folder / "IM001.dcm").read_bytes())
    volume = read_volume(folder)
    assert same_head(volume)
    assert volume.notes == (
        "Passed over: 1 image in colour (IM010.dcm), 1 image of another size (IM009.dcm),"
        " 7 other files.",
    )
    assert scan_record(volume)["notes"] == [
        "Passed over: 1 image in colour, 1 image of another size, 7 other files."
    ]


@pytest.mark.parametrize(
    "elements",
    [
        pytest.param({"Modality": "OT"}, id="another modality"),
        pytest.param({"ImageType": ["DERIVED", "SECONDARY", "SCREEN SAVE"]}, id="a screen save"),
        pytest.param({"ImageType": ["DERIVED", "SECONDARY", "ICON"]}, id="a thumbnail"),
        pytest.param({"SOPClassUID": "1.2.840.10008.5.1.4.1.1.7"}, id="a secondary capture"),
    ],
)
def test_a_picture_with_a_place_of_its_own_is_no_slice(
    tmp_path: Path, elements: dict[str, Any]
) -> None:
    """Its header was copied from a slice, its place is 0, 0, 0 between two others, and it comes first."""
    found = images()
    picture = phantoms.dicom_slices(HEAD[:1], [12.5], **elements)
    volume = read_volume(save(tmp_path, one_series(picture, found)))
    assert same_head(volume)
    what = "image of another modality" if "Modality" in elements else "screen save"
    assert volume.notes == (f"Passed over: 1 {what} (IM000.dcm).",)
    assert volume.series == ()


def test_thumbnails_of_the_whole_series_do_not_go_first(tmp_path: Path) -> None:
    small = phantoms.dicom_slices(HEAD[:, ::2, ::2], POSITIONS_MM, (1.8, 1.4))
    volume = read_volume(save(tmp_path, one_series(small, images())))
    assert same_head(volume)
    assert [info.label for info in volume.series] == ["HEAD, 14 x 12 pixels"]


def test_an_old_scan_in_secondary_captures_opens(tmp_path: Path) -> None:
    found = images(SOPClassUID="1.2.840.10008.5.1.4.1.1.7")
    assert same_head(read_volume(save(tmp_path, found)))


def test_files_of_two_studies_are_said_to_be(tmp_path: Path) -> None:
    save(tmp_path / "a", images(SeriesNumber=2))
    save(tmp_path / "b", images(1, SeriesNumber=3))
    volume = read_volume(tmp_path)
    assert volume.notes[0].endswith("left aside. The files are of 2 studies.")


def test_a_locked_zip_beside_another_hides_nothing(tmp_path: Path) -> None:
    phantoms.save_zip(tmp_path / "b.zip", save(tmp_path / "made", images()))
    shutil.rmtree(tmp_path / "made")
    (tmp_path / "a.zip").write_bytes(b"PK\x03\x04" + bytes(99))
    volume = read_volume(tmp_path)
    assert same_head(volume)
    assert "1 damaged file (a.zip)" in volume.notes[-1]


def test_a_broken_file_of_another_series(tmp_path: Path) -> None:
    folder = save(tmp_path, images())
    other = save(tmp_path / "b", images(SeriesNumber=3)[:1]) / "IM000.dcm"
    data = other.read_bytes()
    at = data.index(b"\x28\x00\x10\x00")  # Rows: behind the series' UID
    (folder / "of another series.dcm").write_bytes(data[: at + 5])
    volume = read_volume(folder)
    assert same_head(volume)
    assert volume.notes == ("Passed over: 1 damaged file (of another series.dcm).",)
    (folder / "of which series.dcm").write_bytes(data[:200])
    (warning,) = read_volume(folder).warnings
    assert warning.startswith("A damaged file was passed over: if it was an end slice")


def test_a_broken_file_of_the_series_itself_is_named(tmp_path: Path) -> None:
    folder = save(tmp_path, images())
    data = (folder / "IM004.dcm").read_bytes()
    for size in (data.index(b"\x28\x00\x10\x00") + 5, 200):
        (folder / "IM004.dcm").write_bytes(data[:size])
        with pytest.raises(VolumeError, match=r"^IM004\.dcm: a DICOM file must be whole"):
            read_volume(folder)


def test_a_deflated_image_of_another_series(tmp_path: Path) -> None:
    folder = save(tmp_path, images())
    (deflated,) = images(SeriesNumber=3)[:1]
    deflated.file_meta.TransferSyntaxUID = DeflatedExplicitVRLittleEndian
    deflated.save_as(folder / "deflated.dcm")
    assert same_head(read_volume(folder))


# --- What anonymisers and converters do ------------------------------------------------------------


@pytest.mark.parametrize("blank", ["", None])
def test_no_modality(tmp_path: Path, blank: str | None) -> None:
    found = images()
    for image in found:
        image.Modality = blank
    assert same_head(read_volume(save(tmp_path, found)))
    for image in found:
        del image.Modality
    assert same_head(read_volume(save(tmp_path, found)))


def test_series_without_uids_are_told_apart(tmp_path: Path) -> None:
    found = [*images(), *images(1, SeriesNumber=3, ConvolutionKernel="H60s")]
    for image in found:
        del image.SeriesInstanceUID, image.InstanceNumber
    volume = read_volume(save(tmp_path, found))
    assert same_head(volume)
    (other,) = volume.series
    assert same_head(read_volume(tmp_path / "ct", series="2"))
    assert len(read_volume(tmp_path / "ct", series=other.key).hu_zyx) == 9


def test_decimal_commas_are_read(tmp_path: Path) -> None:
    found = images()
    for image in found:
        for keyword in ("ImagePositionPatient", "PixelSpacing", "RescaleIntercept"):
            element = image[keyword]
            values = element.value if element.VM > 1 else [element.value]
            text = "\\".join(str(float(value)).replace(".", ",") for value in values).encode()
            raw = RawDataElement(element.tag, "DS", len(text), text, 0, False, True)
            image._dict[element.tag] = raw
    volume = read_volume(save(tmp_path, found))
    assert same_head(volume)
    np.testing.assert_allclose(volume.spacing_mm, (5, 0.9, 0.7))


def test_an_image_without_its_orientation_is_a_lost_slice(tmp_path: Path) -> None:
    found = images()
    del found[4].ImageOrientationPatient
    volume = read_volume(save(tmp_path, found))
    assert "between slices 4 and 5 (10.0 mm where 5.0 mm is usual)" in volume.warnings[0]
    assert volume.notes[-1] == "Passed over: 1 image without ImageOrientationPatient (IM004.dcm)."


# --- The file itself -------------------------------------------------------------------------------


def test_nifti_in_a_folder_and_in_a_zip(tmp_path: Path) -> None:
    folder = tmp_path / "scan"
    folder.mkdir()
    phantoms.store_nifti(folder / "head.nii.gz", HEAD, np.diag([-0.7, -0.9, 5, 1]))
    (folder / "head.json").write_text("{}")
    inner = phantoms.save_zip(tmp_path / "inner.zip", folder)
    outer = tmp_path / "outer"
    outer.mkdir()
    shutil.copy(inner, outer)
    for given in (folder, inner, outer, phantoms.save_zip(tmp_path / "outer.zip", outer)):
        volume = read_volume(given)
        assert np.array_equal(volume.hu_zyx, HEAD)
        assert volume.notes == ("Passed over: 1 other file.",)


def test_a_mask_beside_the_dicom_series_is_passed_over(tmp_path: Path) -> None:
    folder = save(tmp_path, images())
    mask = (HEAD > 500).astype(np.uint8)
    phantoms.store_nifti(folder / "mask.nii.gz", mask, np.diag([-0.7, -0.9, 5, 1]))
    for given in (folder, sorted(folder.iterdir())):
        volume = read_volume(given)
        assert same_head(volume)
        assert volume.notes == ("Passed over: 1 other file.",)


def test_dicom_files_in_a_gzip_each(tmp_path: Path) -> None:
    for number, image in enumerate(images()):
        content = io.BytesIO()
        image.save_as(content, enforce_file_format=True)
        (tmp_path / f"{number}.dcm.gz").write_bytes(gzip.compress(content.getvalue()))
    assert same_head(read_volume(tmp_path))
    assert [info.slices for info in list_series(tmp_path)] == [9]


@pytest.mark.parametrize("order", ["<", ">"])
@pytest.mark.parametrize(
    "image_class", [nib.Nifti1Pair, nib.AnalyzeImage, nib.Spm99AnalyzeImage, nib.Spm2AnalyzeImage]
)
@pytest.mark.parametrize("ending", ["", ".gz"])
def test_an_image_in_two_files(tmp_path: Path, image_class: Any, order: str, ending: str) -> None:
    """Analyze says nothing of directions: nibabel, too, takes x to rise towards the patient's right."""
    header = image_class.header_class(endianness=order)
    stored = HEAD[:, ::-1].transpose(2, 1, 0)
    image = image_class(stored, np.diag([-0.7, 0.9, 5, 1]), header)
    nib.save(image, tmp_path / f"scan.img{ending}")
    uploaded = []  # the page keeps each file in a folder of its own
    for number, end in enumerate(("img", "hdr")):
        (tmp_path / "up" / str(number)).mkdir(parents=True)
        name = f"scan.{end}{ending}"
        uploaded.append(Path(shutil.copy(tmp_path / name, tmp_path / "up" / str(number))))
    for given in (
        uploaded,
        tmp_path / f"scan.hdr{ending}",
        tmp_path / f"scan.img{ending}",
    ):
        volume = read_volume(given)
        np.testing.assert_array_equal(volume.hu_zyx, HEAD)
        np.testing.assert_allclose(volume.spacing_mm, (5, 0.9, 0.7), rtol=1e-6)
        is_analyze = image_class is not nib.Nifti1Pair
        assert any("left and right may be swapped" in note for note in volume.notes) == is_analyze


def test_nothing_but_the_sentence_is_said_of_a_damaged_header(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    path = phantoms.store_nifti(tmp_path / "scan.nii", HEAD, np.diag([-0.7, -0.9, 5, 1]))
    data = bytearray(path.read_bytes())
    data[70:72] = b"\x01\x77"  # a data type that is none
    path.write_bytes(data)
    with pytest.raises(VolumeError):
        read_volume(path)
    assert capfd.readouterr() == ("", "")


@pytest.mark.slow
def test_1200_files_are_one_series(tmp_path: Path) -> None:
    count = 1200
    hu_zyx = np.repeat(phantoms.speckled_head((1, 12, 12)), count, axis=0)
    found = phantoms.dicom_slices(hu_zyx, np.arange(count) * 0.1, (15, 15))
    assert len(read_volume(save(tmp_path, found)).hu_zyx) == count


# --- Frames of reference, and slices lost at an end ------------------------------------------------


def in_frames(frames: list[str], positions_mm: list[float] | None = None) -> list[Any]:
    """Nine images that state these frames of reference, at these places."""
    found = phantoms.dicom_slices(HEAD, positions_mm or POSITIONS_MM)
    for image, frame in zip(found, frames, strict=True):
        image.FrameOfReferenceUID = frame and f"1.2.826.{frame}"
    return found


@pytest.mark.parametrize(
    ("frames", "where"),
    [
        (["1"] * 4 + ["2"] * 5, "2 frames of reference (slices 1 to 4; 5 to 9), though"),
        (["1"] * 4 + ["2"] + ["1"] * 4, "2 frames of reference (slices 1 to 4; 5; 6 to 9), though"),
        ([str(k) for k in range(1, 10)], "9 frames of reference, though"),
    ],
)
def test_one_stack_in_several_frames_of_reference_is_a_warning(
    tmp_path: Path, frames: list[str], where: str
) -> None:
    volume = read_volume(save(tmp_path, in_frames(frames)))
    np.testing.assert_array_equal(volume.hu_zyx, HEAD)
    (warning,) = volume.warnings
    assert warning.startswith(f"The slices state {where} they lie as one stack")


def test_one_frame_of_reference_that_some_images_lack_is_one(tmp_path: Path) -> None:
    assert same_head(read_volume(save(tmp_path, in_frames(["1"] * 7 + ["", ""]))))


@pytest.mark.parametrize(
    ("frames", "positions_mm", "sizes"),
    [
        (["1", "2"] * 4 + ["1"], POSITIONS_MM, {4, 5}),  # one between the other
        (["1"] * 5 + ["2"] * 4, [0.0, 5, 10, 15, 20, 2, 7, 12, 17], {4, 5}),  # one over the other
        (["1"] * 5 + ["2"] * 4, [0.0, 5, 10, 15, 20, 10, 15, 20, 25], {4, 5}),  # at its places
        (["1"] * 5 + ["2"] * 4, [0.0, 5, 10, 15, 20, 60, 65, 70, 75], {4, 5}),  # far from it
    ],
)
def test_frames_of_reference_that_are_no_one_stack_are_series_of_their_own(
    tmp_path: Path, frames: list[str], positions_mm: list[float], sizes: set[int]
) -> None:
    folder = save(tmp_path, in_frames(frames, positions_mm))
    found = list_series(folder)
    assert {one.slices for one in found} == sizes
    assert sorted(one.label[-20:] for one in found) == [f"frame of reference {k}" for k in (1, 2)]
    assert not any(one.refusal for one in found)
    for one in found:
        volume = read_volume(folder, series=one.key)
        assert len(volume.hu_zyx) == one.slices
        assert volume.dicom is not None
        frame = volume.dicom.frame_of_reference_uid
        assert frame == f"1.2.826.{1 if one.slices == 5 else 2}"


def numbered(first: int, step: int = 1, **elements: Any) -> list[Any]:
    found = images(**elements)
    for index, image in enumerate(found):
        image.InstanceNumber = first + step * index
    return found


NUMBERED = "1 image may be missing {}, for the images are numbered from 2 on and {} are here"
COUNTED = "1 image may be missing {}, for the header counts 10 images and 9 are here"


@pytest.mark.parametrize(
    ("found", "said"),
    [
        (numbered(2), NUMBERED.format("below slice 1", 9)),
        (numbered(10, -1), NUMBERED.format("above slice 9", 9)),
        (numbered(1, ImagesInAcquisition=10), COUNTED.format("above slice 9")),
        (numbered(2, ImagesInAcquisition=10), COUNTED.format("below slice 1")),
        (numbered(9, -1, NumberOfSlices=10), COUNTED.format("below slice 1")),
        (numbered(1, NumberOfSeriesRelatedInstances=10), COUNTED.format("above slice 9")),
        (
            [image for image in numbered(1) if image.InstanceNumber not in (1, 5)],
            NUMBERED.format("below slice 1", 7),
        ),
    ],
)
def test_a_slice_lost_at_an_end_is_a_warning_where_something_tells_of_it(
    tmp_path: Path, found: list[Any], said: str
) -> None:
    warnings = read_volume(save(tmp_path, one_series(found))).warnings
    assert f"{said}: blood there is not counted." in warnings


@pytest.mark.parametrize(
    "found",
    [
        numbered(1),
        numbered(0),
        numbered(1, ImagesInAcquisition=9),
        numbered(2, ImagesInAcquisition=9),  # all are here, whatever their numbers
        numbered(2, 2),
        numbered(31),  # numbered on from another series
        numbered(1, ImagesInAcquisition=240),  # the thin images that these were made of
        numbered(1, ImagesInAcquisition=4),
        images(),  # numbers that have nothing to do with the places
    ],
)
def test_a_series_that_is_whole_is_not_doubted(tmp_path: Path, found: list[Any]) -> None:
    assert same_head(read_volume(save(tmp_path, found)))


def test_a_localizer_has_the_number_that_is_missing(tmp_path: Path) -> None:
    localizer = images(ImageType=["ORIGINAL", "PRIMARY", "LOCALIZER"])[:1]
    localizer[0].InstanceNumber = 1
    head = numbered(2)
    for one in localizer:
        one.StudyInstanceUID = head[0].StudyInstanceUID
    assert read_volume(save(tmp_path, head + localizer)).warnings == ()
    assert read_volume(save(tmp_path / "same", one_series(head, localizer))).warnings == ()


def test_two_kernels_under_one_series_are_numbered_through(tmp_path: Path) -> None:
    soft, bone = numbered(1, ConvolutionKernel="H31s"), numbered(10, ConvolutionKernel="H60s")
    folder = save(tmp_path, one_series(soft, bone))
    assert read_volume(folder).warnings == ()
    warnings = read_volume(folder, series="2:2").warnings
    assert not any("missing" in one for one in warnings)


def test_images_that_lost_their_series_uid_go_back_to_their_series(tmp_path: Path) -> None:
    found = images()
    for image in found[::2]:
        del image.SeriesInstanceUID
    assert same_head(read_volume(save(tmp_path, found)))


def test_images_without_a_series_uid_stay_apart_where_two_series_could_be_theirs(
    tmp_path: Path,
) -> None:
    first, second, lone = images(), images(1), images(2)
    for image in (*second, *lone):
        image.StudyInstanceUID = first[0].StudyInstanceUID
    for image in lone:
        del image.SeriesInstanceUID
    assert [one.slices for one in list_series(save(tmp_path, [*first, *second, *lone]))] == [
        9,
        9,
        9,
    ]


@pytest.mark.parametrize(("intercept", "is_off"), [(-1000, True), (-1024, False), (-1030, False)])
def test_slices_with_another_intercept_whose_tissue_is_elsewhere_are_a_warning(
    tmp_path: Path, intercept: int, is_off: bool
) -> None:
    found = images()
    for image in found[6:]:
        image.RescaleIntercept = intercept
    warnings = read_volume(save(tmp_path, found)).warnings
    said = "Slices 7, 8, 9 are stored with another slope or intercept than the rest"
    assert any(one.startswith(said) for one in warnings) == is_off
    assert bool(warnings) == is_off
