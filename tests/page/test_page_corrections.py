"""From a run over many scans to the page and back: a record is opened there, corrected, and changes one row."""

from __future__ import annotations

import csv
import json
import shutil
from pathlib import Path

import phantoms
import pytest

from ichseg import cohort
from ichseg.methods import catalogue
from ichseg.methods.catalogue import load_predictor
from ichseg.page.controller import Controller
from ichseg.page.embeddings import Embeddings
from tests.pages import Page


def rows(out: Path, manifest: Path) -> list[dict[str, str]]:
    entries = [one.with_defaults(model="threshold") for one in cohort.read_manifest(manifest)]
    outcomes = cohort.run([cohort.Segment(one, out) for one in entries])
    return list(csv.DictReader(cohort.results_csv(outcomes).decode().splitlines()))


def test_what_is_corrected_on_the_page_changes_one_row(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in "ab":
        phantoms.save_nifti(tmp_path / f"{name}.nii.gz", phantoms.head_hu()[0])
    other = phantoms.head_hu((9.0, 12.0, 12.0))[0]
    phantoms.save_nifti(tmp_path / "b.nii.gz", other)
    manifest, out = tmp_path / "list.csv", tmp_path / "out"
    box = '"3:32,20,49,34"'
    manifest.write_text(f"scan,boxes,propagate\na.nii.gz,{box},yes\nb.nii.gz,{box},yes\n")
    before = rows(out, manifest)

    monkeypatch.setattr(catalogue, "default_model", lambda: "threshold")
    monkeypatch.setattr(catalogue, "default_baseline", lambda: "fcm")
    uploads = tmp_path / "uploads"
    uploads.mkdir()

    def given(path: Path) -> list[dict[str, str]]:
        place = uploads / path.name
        place.mkdir()
        return [{"path": str(shutil.copy(path, place)), "name": path.name}]

    controller = Controller(uploads, embeddings=Embeddings(load_predictor))
    try:
        page = Page(controller, "x")
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
    finally:
        controller.close()

    after = rows(out, manifest)
    assert [row["state"] for row in after] == ["kept", "done"]
    assert after[0] | {"state": ""} == before[0] | {"state": ""}
    assert float(after[1]["volume_ml"]) == pytest.approx(corrected_ml, abs=1e-3)
    assert json.loads((out / "scan-0002.json").read_text())["same_mask"] is True
