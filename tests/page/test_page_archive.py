"""Open from archive and Send to archive, with an archive that holds its images in memory."""

from __future__ import annotations

import io
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import phantoms
import pydicom
import pytest

from ichseg.archive.settings import URL
from ichseg.page.controller import Controller
from ichseg.page.embeddings import Embeddings
from ichseg.page.panels.archive import panel as archive_panel
from ichseg.page.viewer import markup
from ichseg.scan.read import read_volume
from tests.pages import BoxModel, Page


class InMemory:
    """An archive of images; it answers what the client answers."""

    def __init__(self, images: list[pydicom.Dataset]) -> None:
        self.images_ = images
        self.stored: list[pydicom.Dataset] = []

    def studies(self, keyword: str, value: str) -> list[str]:
        fits = [one for one in self.images_ if one[keyword].value == value]
        return list(dict.fromkeys(one.StudyInstanceUID for one in fits))

    def series(self, study: str) -> list[dict[str, Any]]:
        found = {one.SeriesInstanceUID: one.to_json_dict() for one in self.images_}
        return list(found.values())

    def headers(self, study: str, series: str) -> list[dict[str, Any]]:
        return [one.to_json_dict() for one in self.images(study, series)]

    def images(self, study: str, series: str) -> Iterator[pydicom.Dataset]:
        return iter([one for one in self.images_ if one.SeriesInstanceUID == series])

    def store(self, study: str, files: list[bytes]) -> None:
        self.stored += [pydicom.dcmread(io.BytesIO(content)) for content in files]

    def has(self, study: str, instance: str) -> bool:
        return any(one.SOPInstanceUID == instance for one in self.stored)


@pytest.fixture
def archive(monkeypatch: pytest.MonkeyPatch) -> InMemory:
    images = phantoms.study_of_two_kernels()
    made = InMemory(images)
    monkeypatch.setenv(URL, "http://127.0.0.1:9/dicom-web")
    monkeypatch.setattr(archive_panel, "connect", lambda: made)
    return made


@pytest.fixture
def page(archive: InMemory, fakes: dict[str, BoxModel], tmp_path: Path) -> Iterator[Page]:
    made = Controller(tmp_path, embeddings=Embeddings(fakes.__getitem__), read=read_volume)
    yield Page(made, "x")
    made.close()


def test_it_is_not_there_unless_the_operator_names_an_archive(
    controller: Controller, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv(URL, raising=False)
    assert "rom archive" not in markup() and "o archive" not in markup()
    said = Page(controller, "x").ask("archive", wanted="A1")["error"]["text"]
    assert said.startswith("An operation is one of") and "got 'archive'" in said
    monkeypatch.setenv(URL, "http://127.0.0.1:9")
    assert markup().count('data-do="archive"') == 2 and 'data-do="send"' in markup()


def test_a_study_is_opened_and_its_other_series_after_it(page: Page, archive: InMemory) -> None:
    reply = page.ask("archive", wanted=" A1 ")
    assert reply["error"] is None
    scan = reply["scan"]
    assert (scan["name"], scan["archive"], scan["dicom"]) == ("HEAD, 9 slices", True, True)
    (other,) = scan["series"]
    assert other["label"] == "HEAD BONE"
    session = page.controller.store.find("x")
    assert session is not None and session.case is not None and session.case.upload is not None
    former = session.case.upload.folder
    assert former.is_dir() and not any(phantoms.PATIENT in str(one) for one in former.rglob("*"))
    scan = page.ask(**other["op"], series=other["key"])["scan"]
    assert scan["name"] == "HEAD BONE, 9 slices" and not former.exists()
    assert [one["label"] for one in scan["series"]] == ["HEAD"]


def test_what_is_marked_is_sent_to_the_study_that_the_scan_came_from(
    page: Page, archive: InMemory
) -> None:
    page.ask("archive", wanted="A1")
    said = page.ask("send")["error"]["text"]
    assert said == "What is sent needs something marked; nothing is yet; draw a box first."
    page.ask("boxes", slice=4, boxes=[[10, 10, 30, 25]])
    assert archive.stored == []
    assert page.ask("send")["said"] == [
        "The archive took SEG and SR, and has them by its own query."
    ]
    masks, report = archive.stored
    assert (masks.Modality, report.Modality) == ("SEG", "SR")
    assert masks.PatientID == report.PatientID == phantoms.PATIENT
    assert masks.AccessionNumber == "A1"
    assert int(masks.pixel_array.sum()) == 20 * 15
    assert masks.StudyInstanceUID == report.StudyInstanceUID == archive.images_[0].StudyInstanceUID


def test_a_followup_from_the_archive_brings_the_growth_into_the_report(
    page: Page, archive: InMemory
) -> None:
    refused = page.ask("archive", wanted="A1", role="followup")["error"]["text"]
    assert "no scan is open; open the first scan first" in refused
    page.ask("archive", wanted="A1")
    page.ask("boxes", slice=4, boxes=[[10, 10, 30, 20]])
    page.ask("archive", wanted="A1", role="followup")
    page.ask("boxes", slice=4, boxes=[[10, 10, 30, 30]])
    page.ask("send")
    (texts,) = [
        [item.get("TextValue", "") for item in group.ContentSequence]
        for group in archive.stored[1].ContentSequence[-1].ContentSequence
        if group.ContentSequence[0].TextValue == "growth"
    ]
    assert any(text.startswith("This scan is the follow-up of two; ") for text in texts)


def test_what_cannot_be_fetched_leaves_what_is_open(page: Page, archive: InMemory) -> None:
    page.ask("sample")
    token = page.case
    said = page.ask("send")["error"]["text"]
    assert "this scan did not come from it; open it from the archive first" in said
    for wanted, sentence in {
        "A2": "it has none of this UID or accession number",
        "*": "what was given is neither",
        "1" * 65: "is text of at most 64 characters",
    }.items():
        assert sentence in page.ask("archive", wanted=wanted)["error"]["text"]
    wrong = page.ask("archive", wanted="A1", series="7")["error"]
    assert "there is no '7'" in wrong["text"]
    assert wrong["choose"]["op"] == {"op": "archive", "wanted": "A1", "role": "baseline"}
    assert len(wrong["choose"]["series"]) == 2
    session = page.controller.store.find("x")
    assert page.case == token and session is not None
    assert [one for one in session.private.iterdir() if any(one.iterdir())] == []
