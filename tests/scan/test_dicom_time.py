"""When a scan was acquired, from the DICOM headers, and that no file says it."""

from __future__ import annotations

import json
from datetime import datetime
from pathlib import Path

import phantoms
from pydicom.dataset import Dataset

from ichseg.files.records import scan_record
from ichseg.scan.dicom_time import acquired_at
from ichseg.scan.read import read_volume


def header(**elements: str) -> Dataset:
    out = Dataset()
    for keyword, value in elements.items():
        setattr(out, keyword, value)
    return out


def test_the_time_nearest_to_the_rays_is_taken_and_half_a_time_is_none() -> None:
    study = {"StudyDate": "20240101", "StudyTime": "235900"}
    assert acquired_at(header(**study)) == datetime(2024, 1, 1, 23, 59)
    exact = {"AcquisitionDate": "20240102", "AcquisitionTime": "000130.25"}
    assert acquired_at(header(**study, **exact)) == datetime(2024, 1, 2, 0, 1, 30, 250_000)
    zoned = header(**study, AcquisitionDateTime="20240102000200+0100")
    assert acquired_at(zoned) == datetime(2024, 1, 2, 0, 2)
    assert acquired_at(header(SeriesDate="20240101")) is None
    assert acquired_at(header(AcquisitionDateTime="20240102")) is None  # a day has no hour
    assert acquired_at(Dataset()) is None


def test_a_series_has_its_time_and_no_record_of_it_does(tmp_path: Path) -> None:
    images = phantoms.dicom_slices(
        phantoms.speckled_head(),
        [5.0 * k for k in range(9)],
        AcquisitionDate="20240203",
        AcquisitionTime="101112",
    )
    volume = read_volume(phantoms.save_dicom(tmp_path / "series", images))
    assert volume.acquired_at == datetime(2024, 2, 3, 10, 11, 12)
    said = json.dumps(scan_record(volume))
    assert "2024" not in said and "101112" not in said
