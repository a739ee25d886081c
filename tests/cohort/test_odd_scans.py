"""Which scans a report over many puts first, and what it says of them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import phantoms
import pytest

from ichseg import cohort
from ichseg.cohort import report
from ichseg.errors import InputError
from ichseg.methods.follow_rule import Stop

ROW = {
    **{"voxels": 100, "volume_ml": 10.0, "blood_ml": 10.0, "extent": "propagated", "lesion": 1},
    **{"type": "IPH", "model": "threshold", "slices_marked": 3},
    **{"range_low_ml": 9.0, "range_high_ml": 11.0},
}


def record(row: dict[str, Any] | None = None, **more: Any) -> dict[str, Any]:
    return {"scan": {"warnings": []}, "rows": [{**ROW, **(row or {})}], **more}


def stopped(reason: Any) -> dict[str, Any]:
    stop = Stop(1, 4, 1, reason, 0.9, 0.4).record()
    return {"propagated": [{"lesion": 1, "parameters": {"stops": [stop]}}]}


@pytest.mark.parametrize(
    ("given", "says"),
    [
        (record(), []),
        (record(**stopped("hu")), []),
        (record(**stopped("likeness")), []),
        (record(**stopped("overlap")), ["propagation stopped above slice 5"]),
        (record(**stopped("end")), ["propagation stopped above slice 5: the scan ends there"]),
        (record({"range_low_ml": 4.0}), ["wide range of lesion 1: 4.0 to 11.0 mL"]),
        (record({"voxels": 0, "volume_ml": 0.0}), ["nothing found"]),
        (record({"extent": "boxed slices"}), ["boxed slices alone"]),
        (record({"extent": "automatic"}), ["automatic: nobody has looked"]),
        (record(scan={"warnings": ["A slice is lost."]}), ["A slice is lost."]),
        (record(looks=[{"sentence": "Looks like brain: 35 HU"}]), ["Looks like brain"]),
        (
            record({"extent": "boxed slices"}, scan={"warnings": ["Tilted."]}, same_mask=False),
            ["not the record's own mask", "Tilted.", "boxed slices alone"],
        ),
    ],
)
def test_what_is_odd_about_a_scan(given: dict[str, Any], says: list[str]) -> None:
    found = [one.text for one in report._odd(given)]
    assert len(found) == len(says)
    for text, expected in zip(found, says, strict=True):
        assert text.startswith(expected)


def test_what_people_typed_is_text_and_no_markup(tmp_path: Path) -> None:
    scan = phantoms.save_nifti(tmp_path / "<b>x.nii.gz", phantoms.head_hu()[0])
    (tmp_path / "list.csv").write_text(f'scan,boxes\n{scan.name},"3:32,20,49,34"\nnone,\n')
    entries = cohort.read_manifest(tmp_path / "list.csv")
    out = tmp_path / "out"
    cohort.run([cohort.Segment(one, out, "threshold") for one in entries])
    path = out / "scan-0001.json"
    saved = json.loads(path.read_text())
    saved["scan"]["warnings"] = ["<script>alert(1)</script>"]
    path.write_text(json.dumps(saved))
    text = cohort.report_html(entries, out, with_names=True).decode()
    assert "<script>alert" not in text and "&lt;script&gt;alert(1)" in text
    assert "&lt;b&gt;x.nii.gz" in text and "no result: not run yet" in text
    kept = {one.name: one.stat().st_mtime_ns for one in (out / "pictures").iterdir()}
    assert len(kept) == 1
    cohort.report_html(entries, out)
    assert {one.name: one.stat().st_mtime_ns for one in (out / "pictures").iterdir()} == kept


def test_a_folder_without_results_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="has no record of these scans"):
        cohort.report_html([cohort.Entry(1, "a", tmp_path / "a")], tmp_path)
