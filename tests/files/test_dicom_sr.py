"""The structured report: what pydicom and highdicom read back, and what dciodvfy says of it."""

from __future__ import annotations

import io
import shutil
import subprocess
from dataclasses import replace
from pathlib import Path
from typing import Any

import highdicom.sr
import numpy as np
import phantoms
import pydicom
import pytest
from pydicom.sr.codedict import codes
from pydicom.uid import generate_uid
from typer.testing import CliRunner

from ichseg import NOTICE, __version__
from ichseg.cli.main import app
from ichseg.files import write
from ichseg.marks.lesion import Lesion
from ichseg.measures.assessment import Assessment, assess
from ichseg.measures.growth import growth
from ichseg.scan.read import read_volume

HEIGHTS_MM = [0.0, 4, 8, 12, 16, 23, 30, 37, 44]
LESIONS = (Lesion(1, "Left thalamus", type="IPH"), Lesion(2), Lesion(5, type="IVH"))
WARNING = "This scan is a test."


@pytest.fixture(scope="module")
def study(tmp_path_factory: pytest.TempPathFactory) -> Path:
    images = phantoms.dicom_slices(
        phantoms.speckled_head(),
        HEIGHTS_MM,
        tilt_degrees=18.5,
        FrameOfReferenceUID=generate_uid(),
    )
    return phantoms.save_dicom(tmp_path_factory.mktemp("sr") / "ct", images)


@pytest.fixture(scope="module")
def found(study: Path) -> Assessment:
    """Two lesions of a tilted, uneven series; the first is a box of 6 x 10 pixels on three slices of 4 mm."""
    volume = replace(read_volume(study), warnings=(WARNING,))
    labels = np.zeros(volume.shape_zyx, dtype=np.uint8)
    labels[1:4, 10:16, 12:22] = 1
    labels[5:7, 20:24, 30:33] = 5
    given = assess(
        labels,
        volume,
        LESIONS,
        model="litemedsam",
        weights_sha256={"model.safetensors": "ab" * 32},
    )
    return replace(given, growth=growth(2.0, 3.0, hours=4), role="follow-up")


@pytest.fixture(scope="module")
def pair(found: Assessment) -> tuple[Any, pydicom.Dataset]:
    """The report as highdicom reads it, and the segmentation beside it."""
    made = write.encode(".sr.dcm", found)
    assert made.keys() == {".sr.dcm", ".seg.dcm"}
    report = highdicom.sr.srread(io.BytesIO(made[".sr.dcm"]))
    return report, pydicom.dcmread(io.BytesIO(made[".seg.dcm"]))


def values(group: Any) -> dict[str, float]:
    return {f"{one.name.meaning} {one.unit.value}": one.value for one in group.get_measurements()}


def test_a_group_a_lesion_refers_to_its_segment_and_says_what_was_measured(
    pair: Any, found: Assessment
) -> None:
    report, masks = pair
    groups = report.content.get_volumetric_roi_measurement_groups()
    assert len(groups) == len(masks.SegmentSequence) == 2
    for group, segment, one in zip(groups, masks.SegmentSequence, found.measures, strict=True):
        assert group.tracking_uid == segment.TrackingUID
        (refers,) = [item for item in group[0].ContentSequence if item.ValueType == "IMAGE"][:1]
        (image,) = refers.ReferencedSOPSequence
        assert image.ReferencedSOPInstanceUID == masks.SOPInstanceUID
        assert image.ReferencedSegmentNumber == segment.SegmentNumber
        assert group.finding_type == segment.SegmentedPropertyTypeCodeSequence[0]
        told = values(group)
        assert told["Volume mL"] == pytest.approx(one.volume_ml)
        assert one.abc2 and one.longest_in_3d and one.longest_in_plane
        assert told["Volume of ellipsoid mL"] == pytest.approx(one.abc2.volume_ml)
        assert told["Diameter mm"] == pytest.approx(one.longest_in_3d.length_mm)
        assert told["Long axis mm"] == pytest.approx(one.longest_in_plane.length_mm)
    y_mm, x_mm = found.volume.geometry.spacing_yx_mm
    height_mm = 12 * np.cos(np.radians(18.5))  # three slices 4 mm apart along the table
    assert values(groups[0])["Volume mL"] == pytest.approx(60 * y_mm * x_mm * height_mm / 1000)


def test_it_names_the_algorithm_its_version_and_its_weights(pair: Any) -> None:
    report, _ = pair
    for group in report.content.get_volumetric_roi_measurement_groups():
        texts = {
            item.ConceptNameCodeSequence[0].CodeMeaning: item.TextValue
            for item in group[0].ContentSequence
            if item.ValueType == "TEXT"
        }
        assert texts["Algorithm Name"] == "litemedsam"
        assert texts["Algorithm Version"] == __version__
        assert "ab" * 32 in texts["Algorithm Parameters"]


def test_the_growth_and_what_is_to_be_read_with_it(pair: Any) -> None:
    report, _ = pair
    blood, grown = report.content.get_image_measurement_groups()
    assert values(grown)["Growth of volume mL"] == pytest.approx(1.0)
    assert values(grown)["Growth of volume, of the baseline %"] == pytest.approx(50)
    assert values(grown)["Growth of volume per hour mL/h"] == pytest.approx(0.25)
    answers = {one.name.meaning: one.value for one in grown.get_qualitative_evaluations()}
    assert answers["Hematoma expansion, classic definition"] == codes.SCT.Yes
    assert answers["Hematoma expansion, absolute definition"] == codes.SCT.No
    said = [item.get("TextValue", "") for one in (blood, grown) for item in one[0].ContentSequence]
    assert {WARNING, NOTICE} <= set(said)


@pytest.mark.parametrize("identified", [False, True])
def test_no_patient_is_in_it_unless_asked_for(
    found: Assessment, study: Path, identified: bool
) -> None:
    for content in write.encode(
        ".sr.dcm", found, identity_from=study if identified else None
    ).values():
        assert (phantoms.PATIENT.encode() in content) == identified
        dataset = pydicom.dcmread(io.BytesIO(content))
        assert dataset.get("PatientIdentityRemoved") == (None if identified else "YES")
        assert dataset.StudyInstanceUID == found.volume.dicom.study_uid  # type: ignore[union-attr]


def test_dciodvfy_calls_nothing_an_error(found: Assessment, study: Path, tmp_path: Path) -> None:
    if shutil.which("dciodvfy") is None:
        pytest.skip("dciodvfy is not here (Debian's dicom3tools)")
    for path in write.save_measures(tmp_path / "a.sr.dcm", found, identity_from=study):
        said = subprocess.run(["dciodvfy", path], capture_output=True, text=True).stderr
        assert [line for line in said.splitlines() if line.startswith("Error")] == []


def test_the_command_line_writes_it_with_the_segmentation_that_it_refers_to(
    study: Path, tmp_path: Path
) -> None:
    box = ("--slice", "4", "--box", "20,10,40,30", "--model", "threshold", "--no-range")
    out = tmp_path / "x.sr.dcm"
    run = CliRunner().invoke(app, ["segment", str(study), *box, "--out", str(out)])
    assert run.exit_code == 0, run.output
    report, masks = pydicom.dcmread(out), pydicom.dcmread(tmp_path / "x.seg.dcm")
    (series,) = (
        one
        for one in report.CurrentRequestedProcedureEvidenceSequence[0].ReferencedSeriesSequence
        if one.SeriesInstanceUID == masks.SeriesInstanceUID
    )
    assert series.ReferencedSOPSequence[0].ReferencedSOPInstanceUID == masks.SOPInstanceUID
