"""A DICOM series on the page, and the files that come of it."""

from __future__ import annotations

import re
from pathlib import Path

import highdicom.seg
import numpy as np
import pydicom
import pytest

from tests.e2e.files import more
from tests.e2e.sample_boxes import Visit, wait_for_measures


def test_a_dicom_scan_gives_a_dicom_seg_without_a_name(
    visit: Visit, shared_data: Path, tmp_path: Path
) -> None:
    files = sorted(path for path in (shared_data / "ge-head-ct").rglob("*") if path.is_file())
    viewer = visit().open_files(*files).opened()
    viewer.go_to(5).draw((200, 200, 300, 300))
    path = more(viewer, "dcm", tmp_path)
    found = highdicom.seg.segread(path)
    assert found.PatientName == "" and found.PatientID == "" and found.number_of_segments == 1
    sources = {}
    for file in files:
        image = pydicom.dcmread(file, stop_before_pixels=True, force=True)
        if "ImagePositionPatient" in image:
            sources[image.SOPInstanceUID] = image
    frames = found.PerFrameFunctionalGroupsSequence
    assert len(frames) == 1  # the one slice that was marked
    (reference,) = frames[0].DerivationImageSequence[0].SourceImageSequence
    image = sources[reference.ReferencedSOPInstanceUID]
    assert np.allclose(
        frames[0].PlanePositionSequence[0].ImagePositionPatient, image.ImagePositionPatient
    )
    dy, dx = map(float, image.PixelSpacing)
    pixels = int(found.pixel_array.sum())
    viewer.press("d")
    wait_for_measures(viewer)
    text = viewer.page.locator(".ich-areas svg").get_attribute("aria-label") or ""
    assert float(re.findall(r"([\d.]+) cm²", text)[0]) == pytest.approx(
        pixels * dy * dx / 100, abs=0.051
    )


@pytest.mark.slow
def test_a_tilted_uneven_series_says_so_and_downloads_as_slices(
    visit: Visit, shared_data: Path, tmp_path: Path
) -> None:
    files = sorted(path for path in (shared_data / "ge-head-ct").rglob("*") if path.is_file())
    viewer = visit().open_files(*files).opened()
    assert viewer.shape_zyx == (28, 512, 512)
    notes = viewer.page.inner_text(".ich-notes")
    assert "tilt 18.5 degrees, slices 4.0 and 7.0 mm" in notes and "NIfTI" in notes
    viewer.go_to(5).draw((200, 200, 300, 300))
    downloads = viewer.page.locator(".ich-downloads button:visible")
    assert downloads.all_inner_texts()[0] == "DICOM-SEG"
    assert "Take the DICOM-SEG" in viewer.page.inner_text(".ich-tilted")
    assert viewer.download("dcm", tmp_path).suffix == ".dcm"
    assert viewer.download("mask", tmp_path).suffix == ".zip"
