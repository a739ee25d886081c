"""A real archive: fetched, segmented, sent back, and found again by its own query."""

from __future__ import annotations

import io
import logging
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import highdicom.seg
import highdicom.sr
import numpy as np
import phantoms
import pydicom
import pytest
from pydicom.uid import JPEGLosslessSV1, generate_uid
from typer.testing import CliRunner

from ichseg.archive import transfer
from ichseg.archive.client import Archive, first
from ichseg.cli.main import app
from ichseg.errors import InputError
from ichseg.files.mask import read_labelled_mask
from ichseg.scan.read import read_volume
from ichseg.scan.series_info import SeriesError
from tests.orthanc import running

HEIGHTS_MM = [0.0, 4, 8, 12, 16, 23, 30, 37, 44]
ACCESSION = "CT-2024.7"
BOX = ("--slice", "4", "--box", "20,10,40,30", "--model", "threshold", "--no-range")


@pytest.fixture(scope="module")
def archive(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Archive]:
    """An archive with one study; the environment names it for as long as the module runs."""
    with (
        running(tmp_path_factory.mktemp("orthanc")) as server,
        pytest.MonkeyPatch.context() as patch,
    ):
        for name, value in server.environment.items():
            patch.setenv(name, value)
        yield transfer.connect()


def content(image: pydicom.Dataset) -> bytes:
    target = io.BytesIO()
    image.save_as(target, enforce_file_format=True)
    return target.getvalue()


def study_of(number: int, accession: str = "") -> list[pydicom.Dataset]:
    """A head in a soft kernel, tilted and uneven, thinner in a bone kernel, and an angiography of the same study."""
    head = phantoms.speckled_head()
    study, frame = generate_uid(), generate_uid()
    images = []
    for series, (name, kernel, heights) in enumerate(
        [
            ("HEAD BONE", "H60s", [2.0 * k for k in range(9)]),
            ("HEAD", "H31s", HEIGHTS_MM),
            ("CTA HEAD", "H31s", [5.0 * k for k in range(9)]),
        ],
        1,
    ):
        images += phantoms.dicom_slices(
            head,
            heights,
            tilt_degrees=18.5,
            StudyInstanceUID=study,
            FrameOfReferenceUID=frame,
            SeriesNumber=series,
            SeriesDescription=name,
            ConvolutionKernel=kernel,
            AccessionNumber=accession,
            PatientID=f"{phantoms.PATIENT}{number}",
            StudyDate="20240203",
        )
    return images


@pytest.fixture(scope="module")
def stored(archive: Archive) -> list[pydicom.Dataset]:
    images = study_of(1, ACCESSION)
    archive.store(images[0].StudyInstanceUID, [content(image) for image in images])
    return images


@pytest.mark.parametrize("by", ["accession", "uid"])
def test_the_series_that_fits_is_fetched_as_it_is_stored(
    archive: Archive, stored: list[pydicom.Dataset], tmp_path: Path, by: str
) -> None:
    shares: list[float] = []
    wanted = ACCESSION if by == "accession" else stored[0].StudyInstanceUID
    found = transfer.fetch(archive, wanted, tmp_path, tell=shares.append)
    assert (found.series.label, found.series.number) == ("HEAD", 2)
    assert {one.label for one in found.others} == {"HEAD BONE", "CTA HEAD"}
    assert shares == sorted(shares) and shares[-1] == 1.0
    files = sorted(found.folder.iterdir())
    sent = {image.SOPInstanceUID: image for image in stored if image.SeriesNumber == 2}
    assert len(files) == len(sent) == 9
    for file in files:
        image = pydicom.dcmread(file)
        assert image == sent[image.SOPInstanceUID]
        assert image.PixelData == sent[image.SOPInstanceUID].PixelData
        assert image.SOPInstanceUID not in file.name and phantoms.PATIENT not in file.name
    assert [path.name for path in tmp_path.iterdir()] == [transfer.FOLDER]


def test_another_series_by_its_number_and_one_that_is_not_there(
    archive: Archive, stored: list[pydicom.Dataset], tmp_path: Path
) -> None:
    found = transfer.fetch(archive, ACCESSION, tmp_path, series="1")
    assert read_volume(found.folder, series="1").name == "HEAD BONE, 9 slices"
    with pytest.raises(SeriesError, match=r"there is no '9', only series 2 'HEAD' \(9 slices\)"):
        transfer.fetch(archive, ACCESSION, tmp_path, series="9")


def test_what_is_compressed_stays_so(archive: Archive, tmp_path: Path) -> None:
    images = phantoms.dicom_slices(phantoms.speckled_head(), HEIGHTS_MM, AccessionNumber="JPEG")
    folder = phantoms.save_dicom(tmp_path / "ct", images)
    for file in folder.iterdir():
        phantoms.compress(file, JPEGLosslessSV1)
    sent = {path.read_bytes() for path in folder.iterdir()}
    archive.store(images[0].StudyInstanceUID, list(sent))
    found = transfer.fetch(archive, "JPEG", tmp_path)
    files = [pydicom.dcmread(path) for path in found.folder.iterdir()]
    assert {one.file_meta.TransferSyntaxUID for one in files} == {JPEGLosslessSV1}
    assert {bytes(one.PixelData) for one in files} == {
        bytes(pydicom.dcmread(io.BytesIO(one)).PixelData) for one in sent
    }


def test_the_real_tilted_series(archive: Archive, shared_data: Path, tmp_path: Path) -> None:
    images = [pydicom.dcmread(path) for path in (shared_data / "ge-head-ct").rglob("*.dcm")]
    archive.store(images[0].StudyInstanceUID, [content(image) for image in images])
    found = transfer.fetch(archive, images[0].StudyInstanceUID, tmp_path)
    back = {one.SOPInstanceUID: one for one in map(pydicom.dcmread, found.folder.iterdir())}
    assert len(back) == len(images) == 28
    assert all(back[image.SOPInstanceUID] == image for image in images)


def test_an_accession_number_of_two_studies_or_of_none(archive: Archive, tmp_path: Path) -> None:
    for number in (2, 3):
        images = study_of(number, "TWICE")[:2]
        archive.store(images[0].StudyInstanceUID, [content(image) for image in images])
    with pytest.raises(InputError, match=r"the archive has 2 of this one; give the study's UID\.$"):
        transfer.find_study(archive, "TWICE")
    for unknown in ("TWIC", "1.2.3"):
        with pytest.raises(InputError, match=r"it has none of this UID or accession number"):
            transfer.find_study(archive, unknown)
    for wild in ("*", "T?ICE", "a\\b", "", "x" * 65, "a\nb"):
        with pytest.raises(InputError, match=r"what was given is neither; copy it"):
            transfer.find_study(archive, wild)


def test_segmented_and_sent_back_it_is_found_by_the_archives_own_query(
    archive: Archive,
    stored: list[pydicom.Dataset],
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
) -> None:
    mask = tmp_path / "mask.zip"
    caplog.clear()
    with caplog.at_level(logging.DEBUG):
        run = CliRunner().invoke(
            app, ["segment", f"dicomweb://{ACCESSION}", *BOX, "--send", "--out", str(mask)]
        )
    assert run.exit_code == 0, run.output
    assert "The archive took SEG and SR, and has them by its own query." in run.output
    study = stored[0].StudyInstanceUID
    for secret in (phantoms.PATIENT, "geheim", ACCESSION, study):
        assert secret not in caplog.text and secret not in run.output
    made = {}
    for one in archive.series(study):
        if (kind := first(one, "Modality")) != "CT":
            (made[kind],) = archive.images(study, first(one, "SeriesInstanceUID"))
    assert made.keys() == {"SEG", "SR"}
    for kind, one in made.items():
        assert one.StudyInstanceUID == study and one.PatientID == f"{phantoms.PATIENT}1"
        assert (one.AccessionNumber, one.StudyDate) == (ACCESSION, "20240203")
        one.save_as(tmp_path / f"{kind}.dcm")
    check_segmentation(made["SEG"], stored, tmp_path, mask)
    report: Any = highdicom.sr.srread(tmp_path / "SR.dcm")
    (group,) = report.content.get_volumetric_roi_measurement_groups()
    assert group.tracking_uid == made["SEG"].SegmentSequence[0].TrackingUID
    assert group.reference_type.meaning == "Referenced Segment"
    if shutil.which("dciodvfy"):
        for kind in made:
            said = subprocess.run(
                ["dciodvfy", str(tmp_path / f"{kind}.dcm")], capture_output=True, text=True
            ).stderr
            assert "Error" not in said, said


def check_segmentation(
    segmentation: pydicom.Dataset, stored: list[pydicom.Dataset], folder: Path, mask: Path
) -> None:
    """UIDs and geometry are those of the series to the last digit, and the voxels those of the mask."""
    images = {one.SOPInstanceUID: one for one in stored if one.SeriesNumber == 2}
    shared = segmentation.SharedFunctionalGroupsSequence[0]
    some = next(iter(images.values()))
    assert segmentation.FrameOfReferenceUID == some.FrameOfReferenceUID
    turn = shared.PlaneOrientationSequence[0].ImageOrientationPatient
    assert turn == some.ImageOrientationPatient
    measures = shared.PixelMeasuresSequence[0]
    assert measures.PixelSpacing == some.PixelSpacing
    assert measures.SliceThickness == some.SliceThickness
    groups = segmentation.get("PerFrameFunctionalGroupsSequence")
    for group in groups:
        (reference,) = group.DerivationImageSequence[0].SourceImageSequence
        image = images[reference.ReferencedSOPInstanceUID]
        assert group.PlanePositionSequence[0].ImagePositionPatient == image.ImagePositionPatient
    volume = read_volume(phantoms.save_dicom(folder / "sent", images.values()))
    expected = read_labelled_mask(mask, volume).labels_zyx
    found = read_labelled_mask(folder / "SEG.dcm", volume).labels_zyx
    np.testing.assert_array_equal(found, expected)
    assert highdicom.seg.segread(folder / "SEG.dcm").pixel_array.sum() == np.count_nonzero(expected)


def test_what_is_of_another_study_is_not_sent(
    archive: Archive, stored: list[pydicom.Dataset]
) -> None:
    with pytest.raises(InputError, match="this is of another; fetch its own study"):
        transfer.send(archive, generate_uid(), [content(stored[0])])
