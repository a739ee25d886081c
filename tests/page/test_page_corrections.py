"""From a run over many scans to the page and back: a record is opened there, corrected, and changes one row."""

from __future__ import annotations

import csv
import json
import os
import re
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import phantoms
import pytest

from ichseg import cohort
from ichseg.cohort.study import Study
from ichseg.errors import InputError
from ichseg.methods.catalogue import load_predictor
from ichseg.page.controller import Controller
from ichseg.page.embeddings import Embeddings
from ichseg.page.serve import check_reach
from tests.pages import Page


def rows(out: Path, manifest: Path) -> list[dict[str, str]]:
    entries = [one.with_defaults(model="threshold") for one in cohort.read_manifest(manifest)]
    outcomes = cohort.run([cohort.Segment(one, out) for one in entries])
    return list(csv.DictReader(cohort.results_csv(outcomes).decode().splitlines()))


def study_of(folder: Path, *scans: str) -> tuple[Path, Path]:
    """A manifest of two heads with blood, a.nii.gz and b.nii.gz, and a folder for its results."""
    phantoms.save_nifti(folder / "a.nii.gz", phantoms.head_hu()[0])
    phantoms.save_nifti(folder / "b.nii.gz", phantoms.head_hu((9.0, 12.0, 12.0))[0])
    manifest, box = folder / "list.csv", '"3:32,20,49,34"'
    lines = [f"{scan},{box},yes" for scan in scans or ("a.nii.gz", "b.nii.gz")]
    manifest.write_text("\n".join(["scan,boxes,propagate", *lines]))
    return manifest, folder / "out"


@pytest.fixture(autouse=True)
def light(monkeypatch: pytest.MonkeyPatch) -> None:
    """Methods without a network for a newly opened scan."""
    monkeypatch.setattr("ichseg.methods.catalogue.default_model", lambda: "threshold")
    monkeypatch.setattr("ichseg.methods.catalogue.default_baseline", lambda: "fcm")


@contextmanager
def page_of(uploads: Path, study: Study | None) -> Iterator[Page]:
    uploads.mkdir(exist_ok=True)
    controller = Controller(uploads, embeddings=Embeddings(load_predictor), study=study)
    try:
        yield Page(controller, "x")
    finally:
        controller.close()


def keys(manifest: Path, out: Path) -> list[str]:
    """The keys to which the report of a study links."""
    html = cohort.report_html(cohort.read_manifest(manifest), out).decode()
    return sorted(re.findall(r"http://127.0.0.1:7860/[?]scan=([0-9a-f-]+)", html))


def test_a_link_of_the_report_opens_the_scan_as_it_was_and_its_correction_changes_one_row(
    tmp_path: Path,
) -> None:
    manifest, out = study_of(tmp_path)
    before = rows(out, manifest)
    files = {path.name: path.read_bytes() for path in out.glob("scan-0001*")}
    _, key = keys(manifest, out)
    with page_of(tmp_path / "uploads", Study(manifest, out)) as page:
        reply = page.ask("study_open", key=key)
        assert reply["error"] is None and reply["said"] == []  # all is as it was
        assert reply["scan"]["study"] == {"key": key, "number": 2}
        assert reply["totals"]["threshold"] == pytest.approx(float(before[1]["volume_ml"]))
        corrected_ml = page.ask("clear_slice", slice=5)["totals"]["threshold"]
        reply = page.ask("study_save")
        assert reply["corrected"] and "Saved: scan 2 will be made" in reply["said"][0]
        # Who follows the link again goes on from the correction.
        assert page.ask("study_open", key=key)["totals"]["threshold"] == corrected_ml

    after = rows(out, manifest)
    assert [row["state"] for row in after] == ["kept", "done"]
    assert after[0] | {"state": ""} == before[0] | {"state": ""}
    assert files == {path.name: path.read_bytes() for path in out.glob("scan-0001*")}
    assert float(after[1]["volume_ml"]) == pytest.approx(corrected_ml, abs=1e-3)
    assert json.loads((out / "scan-0002.json").read_text())["same_mask"] is True


def test_a_page_deletes_what_a_killed_one_left_of_a_correction(tmp_path: Path) -> None:
    manifest, out = study_of(tmp_path, "a.nii.gz")
    rows(out, manifest)
    (out / "corrected").mkdir()
    old, new = (out / "corrected" / f".part-{pid}-0123abcd.ichseg.json" for pid in (7, 8))
    for path in (old, new):
        path.write_bytes(b'{"half')
    os.utime(old, (0, 0))
    Study(manifest, out)
    assert [*(out / "corrected").iterdir()] == [new]  # that one may be another machine's, at work
    os.utime(new, (0, 0))
    rows(out, manifest)  # so does the next run
    assert not [*(out / "corrected").iterdir()]


def test_a_correction_may_be_that_there_is_no_blood(tmp_path: Path) -> None:
    manifest, out = study_of(tmp_path, "a.nii.gz")
    rows(out, manifest)
    with page_of(tmp_path / "uploads", Study(manifest, out)) as page:
        page.ask("study_open", key=keys(manifest, out)[0])
        case = page.controller.store.get("x").case
        assert case is not None
        for k in case.segmentation.marked_slices():
            page.ask("clear_slice", slice=k)
        assert page.ask("study_save")["error"] is None
    (row,) = rows(out, manifest)
    assert row["state"] == "done" and float(row["volume_ml"]) == 0


def test_a_scan_that_stands_twice_is_corrected_in_both_rows_and_that_is_said(
    tmp_path: Path,
) -> None:
    manifest, out = study_of(tmp_path, "a.nii.gz", "b.nii.gz", "a.nii.gz")
    rows(out, manifest)
    with page_of(tmp_path / "uploads", Study(manifest, out)) as page:
        page.ask("study_open", key=keys(manifest, out)[0])
        assert "scans 1, 3 will be made" in page.ask("study_save")["said"][0]
    assert [row["state"] for row in rows(out, manifest)] == ["done", "kept", "done"]


def test_a_key_is_looked_up_and_what_is_none_is_refused(tmp_path: Path) -> None:
    manifest, out = study_of(tmp_path, "a.nii.gz")
    rows(out, manifest)
    (key,) = keys(manifest, out)
    with page_of(tmp_path / "uploads", Study(manifest, out)) as page:
        for wrong in (
            "1",
            "2-" + key[2:],
            str(tmp_path / "a.nii.gz"),
            "../out/scan-0001",
            key + "0",
        ):
            reply = page.ask("study_open", key=wrong)
            assert (
                "this study has none of the key" in reply["error"]["text"] and "scan" not in reply
            )
        page.ask("sample")
        assert "this one came otherwise" in page.ask("study_save")["error"]["text"]
        phantoms.save_nifti(tmp_path / "a.nii.gz", phantoms.head_hu((9.0, 12.0, 12.0))[0])
        reply = page.ask("study_open", key=key)  # the file was changed since
        assert "belongs to the scan it was made on" in reply["error"]["text"]
    assert not (out / cohort.CORRECTED_NAME).exists()


def test_without_a_study_no_link_opens_anything(tmp_path: Path) -> None:
    with page_of(tmp_path / "uploads", None) as page:
        assert "this one was not" in page.ask("study_open", key="1-abc")["error"]["text"]
        page.ask("sample")
        assert "this one was not" in page.ask("study_save")["error"]["text"]
    manifest, out = study_of(tmp_path)
    out.mkdir()
    with pytest.raises(InputError, match="has none of these scans"):
        Study(manifest, out)


@pytest.mark.parametrize(
    ("setting", "ok"),
    [
        ({}, True),
        ({"GRADIO_SERVER_NAME": "localhost"}, True),
        ({"GRADIO_SERVER_NAME": "127.0.0.2"}, True),
        ({"GRADIO_SERVER_NAME": "::1"}, True),
        ({"GRADIO_SERVER_NAME": "0.0.0.0"}, False),
        ({"GRADIO_SERVER_NAME": "ct.example.org"}, False),
        ({"GRADIO_SHARE": "True"}, False),
    ],
)
def test_a_study_is_for_this_machine_unless_the_operator_says_otherwise(
    setting: dict[str, str], ok: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("GRADIO_SERVER_NAME", "GRADIO_SHARE"):
        monkeypatch.delenv(name, raising=False)
    for name, value in setting.items():
        monkeypatch.setenv(name, value)
    check_reach(for_others=True)
    if ok:
        check_reach(for_others=False)
        return
    with pytest.raises(InputError, match="Whoever reaches the page can read"):
        check_reach(for_others=False)


def test_what_is_corrected_on_the_page_changes_one_row(tmp_path: Path) -> None:
    manifest, out = study_of(tmp_path)
    before = rows(out, manifest)

    uploads = tmp_path / "uploads"

    def given(path: Path) -> list[dict[str, str]]:
        place = uploads / path.name
        place.mkdir()
        return [{"path": str(shutil.copy(path, place)), "name": path.name}]

    with page_of(uploads, None) as page:
        assert page.ask("open", files=given(tmp_path / "b.nii.gz"))["error"] is None
        reply = page.ask("load", files=given(out / "scan-0002.json"))
        assert reply["error"] is None and reply["said"] == []  # all is as it was
        total_ml = reply["totals"]["threshold"]
        assert total_ml == pytest.approx(float(before[1]["volume_ml"]), abs=1e-3)
        reply = page.ask("clear_slice", slice=5)
        corrected_ml = reply["totals"]["threshold"]
        assert 0 < corrected_ml < total_ml
        saved = Path(page.ask("export", kind="record")["download"]["path"])
        (out / cohort.CORRECTED_NAME).mkdir()
        shutil.copy(saved, out / cohort.CORRECTED_NAME)

    after = rows(out, manifest)
    assert [row["state"] for row in after] == ["kept", "done"]
    assert after[0] | {"state": ""} == before[0] | {"state": ""}
    assert float(after[1]["volume_ml"]) == pytest.approx(corrected_ml, abs=1e-3)
    assert json.loads((out / "scan-0002.json").read_text())["same_mask"] is True
