"""What a manifest and a folder of scans say: as spreadsheets of Europe write it, and as BIDS and DICOM lay it out."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import phantoms
import pytest

from ichseg import cohort
from ichseg.errors import InputError


def manifest(path: Path, text: str, encoding: str = "utf-8") -> list[cohort.Entry]:
    path.write_bytes(text.encode(encoding))
    return cohort.read_manifest(path)


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "cp1252"])
def test_a_european_spreadsheet_is_read(tmp_path: Path, encoding: str) -> None:
    text = (
        "Scan;Boxes;Propagate;Edge;Hours;Add_offset;Lesions;Baseline;\r\n"
        "Müller 1.nii;3:1;2;3;4;;;;;;\r\n"
        '"Müller 2.nii";"3:1;2;3,5;4 4:5,6,7,8@2";WAHR;nein;6,5;-1024;1=IPH 2=IVH;Müller 1.nii;\r\n;;;;;;;;\r\n'
    ).replace("3:1;2;3;4;;", '"3:1;2;3;4";')
    first, second = manifest(tmp_path / "list.csv", text, encoding)
    assert (first.scan, first.propagate, first.hours) == ("Müller 1.nii", None, None)
    assert (second.propagate, second.edge, second.hours) == (True, False, 6.5)
    assert (second.add_offset, second.types) == (-1024, {1: "IPH", 2: "IVH"})
    assert second.baseline == first.scan
    found = cohort.parse_prompts(second.boxes)
    assert {where: [box.xyxy for box in boxes] for where, boxes in found.items()} == {
        (3, 1): [(1, 2, 3.5, 4)],
        (4, 2): [(5, 6, 7, 8)],
    }


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("scan,propagate\na.nii,perhaps\n", "propagate is yes or no; row 1 .* 'perhaps'"),
        ("scan,hours\na.nii,0\n", "hours are a number above 0"),
        ("scan,hours\na.nii,soon\n", "hours are a number above 0"),
        ("scan,add_offset\na.nii,1.5\n", "a whole number of HU"),
        ("scan,baseline\na.nii,b.nii\n", "row 1 has 'b.nii', which is no row's"),
        ("scan,baseline\na.nii,1\n", "which is its own"),
        ("scan,baseline\na.nii,\na.nii,\nb.nii,a.nii\n", "which is several rows'"),
    ],
)
def test_a_cell_that_cannot_be_is_one_sentence(tmp_path: Path, text: str, says: str) -> None:
    with pytest.raises(InputError, match=says):
        manifest(tmp_path / "list.csv", text)


def test_what_is_said_for_all_holds_where_a_row_says_nothing(tmp_path: Path) -> None:
    text = "scan,propagate,model,series,add_offset\na.nii,,,,\nb.nii,no,fcm,7,0\n"
    a, b = (
        entry.with_defaults(propagate=True, model="threshold", series="2", add_offset=-1024)
        for entry in manifest(tmp_path / "list.csv", text)
    )
    assert (a.propagate, a.model, a.series, a.add_offset) == (True, "threshold", "2", -1024)
    assert (b.propagate, b.model, b.series, b.add_offset) == (False, "fcm", "7", 0)


def test_lesions_and_hours_for_all_hold_where_they_can_be_meant(tmp_path: Path) -> None:
    text = (
        "scan,boxes,session,auto,lesions,baseline,hours\n"
        "a.nii,3:1;1;9;9,,,,,\nb.nii,3:1;1;9;9,,,1=SDH,a.nii,\nc.nii,,r.json,,,a.nii,6\nd.nii,,,yes,,,\n"
    )
    found = [
        one.with_defaults(lesions="1=IPH 2=IVH", hours=24.0)
        for one in manifest(tmp_path / "list.csv", text)
    ]
    assert [one.types for one in found] == [{1: "IPH", 2: "IVH"}, {1: "SDH"}, {}, {}]
    assert [one.hours for one in found] == [None, 24.0, 6.0, None]


def test_a_bids_tree_is_a_list_of_scans_and_its_sidecars_are_no_records(tmp_path: Path) -> None:
    for name in (
        "sub-01/ses-1/ct/sub-01_ses-1_ct",
        "sub-01/ses-2/ct/sub-01_ses-2_ct",
        "sub-02/ct/sub-02_ct",
    ):
        path = tmp_path / f"{name}.nii.gz"
        path.parent.mkdir(parents=True)
        path.touch()
        path.with_name(f"{path.name[:-7]}.json").write_text(json.dumps({"Modality": "CT"}))
    (tmp_path / "sub-02/ct/sub-02_ct.ichseg.json").write_text('{"schema_version": 3}')
    assert cohort.is_cohort(tmp_path)
    one, two, three = cohort.read_manifest(tmp_path)
    assert (one.session, two.session) == (None, None)
    assert three.session == tmp_path / "sub-02/ct/sub-02_ct.ichseg.json"
    assert (one.baseline, two.baseline, three.baseline) == ("", one.scan, "")


def test_a_sidecar_beside_a_scan_makes_no_list_of_a_folder(tmp_path: Path) -> None:
    (tmp_path / "head.nii.gz").touch()
    (tmp_path / "head.json").write_text('{"Modality": "CT", "SliceThickness": 5}')
    assert not cohort.is_cohort(tmp_path)
    (tmp_path / "head.json").write_text('{"schema_version": 2}')  # the former name of a record
    assert cohort.is_cohort(tmp_path)


def test_a_folder_of_dicom_studies_is_a_list_of_scans(tmp_path: Path) -> None:
    hu_zyx = np.zeros((2, 8, 8), dtype=np.int16)
    study = phantoms.save_dicom(tmp_path / "b" / "study", phantoms.dicom_slices(hu_zyx, [0, 5]))
    assert not cohort.has_studies(tmp_path)  # one study is one scan
    second = phantoms.dicom_slices(hu_zyx, [0, 5])
    phantoms.save_dicom(tmp_path / "a" / "head", second[:1])
    phantoms.save_dicom(tmp_path / "a" / "bone", second[1:])
    assert cohort.has_studies(tmp_path)
    assert [entry.path for entry in cohort.read_manifest(tmp_path)] == [tmp_path / "a", study]


@pytest.mark.parametrize(("column", "hours"), [("", 6.5), ("8", 8.0)])
def test_the_hours_of_a_pair_are_those_of_the_headers_unless_the_row_says_others(
    tmp_path: Path, column: str, hours: float
) -> None:
    positions = [5.0 * k for k in range(8)]
    for name, clock in (("first", "080000"), ("second", "143000")):
        times = {"AcquisitionDate": "20240102", "AcquisitionTime": clock}
        head = phantoms.head_hu()[0]
        images = phantoms.dicom_slices(head, positions, (3.0, 3.0), **times)
        phantoms.save_dicom(tmp_path / name, images)
    box = '"3:32,20,49,34"'
    text = f"scan,boxes,baseline,hours\nfirst,{box},,\nsecond,{box},first,{column}\n"
    entries = manifest(tmp_path / "list.csv", text)
    out = tmp_path / "out"
    outcomes = cohort.run([cohort.Segment(one, out, "threshold") for one in entries])
    rows = cohort.growth_rows(outcomes)
    assert [row["hours"] for row in rows] == [hours] * 3
    assert ("those of their headers" in rows[0]["growth_notes"]) is (not column)
    for path in out.glob("*.json"):  # no record tells when it was
        assert "20240102" not in path.read_text() and "14:30" not in path.read_text()
