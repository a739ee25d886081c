"""Open from archive and Send to archive, against a real Orthanc; and a page whose operator names no archive."""

from __future__ import annotations

import io
from pathlib import Path

import phantoms
import pydicom
import pytest

from ichseg.archive.client import Archive, first
from ichseg.archive.settings import PASSWORD, URL, USER, Settings
from tests.e2e.conftest import People, serving, visiting
from tests.e2e.sample_boxes import Visit
from tests.orthanc import running


def test_without_an_archive_nothing_is_said_of_one(visit: Visit) -> None:
    page = visit().page
    assert page.locator("[data-do=archive], [data-do=send], .ich-archive").count() == 0


@pytest.mark.slow
def test_a_study_is_opened_marked_and_sent_back(people: People, root: Path, tmp_path: Path) -> None:
    images = phantoms.study_of_two_kernels()
    study = images[0].StudyInstanceUID
    (tmp_path / "orthanc").mkdir()
    (tmp_path / "page").mkdir()
    with running(tmp_path / "orthanc") as orthanc:
        given = orthanc.environment
        archive = Archive(Settings(given[URL], user=given[USER], password=given[PASSWORD]))
        archive.store(study, [content(image) for image in images])
        with (
            serving(root, tmp_path / "page", **given) as server,
            visiting(people, server.url) as visit,
        ):
            viewer = visit()
            page = viewer.page
            viewer.do("archive")
            page.fill(".ich-study", "A2")
            page.keyboard.press("Enter")
            assert "it has none of this UID or accession number" in viewer.alert()
            assert page.input_value(".ich-study") == "A2"
            page.fill(".ich-study", "A1")
            page.keyboard.press("Enter")
            viewer.opened()
            assert page.inner_text(".ich-scan") == "HEAD, 9 slices"
            assert page.locator(".ich-archive").is_hidden()
            assert page.input_value(".ich-study") == ""
            assert page.inner_text("[data-do=series]") == "Other series (1)"
            assert page.locator("[data-do=send]").is_disabled()
            viewer.go_to(4).draw((15, 10, 35, 25)).do("send").answered()
            said = "The archive took SEG and SR, and has them by its own query."
            assert viewer.alert() == said
            former = viewer.token
            viewer.do("series")
            page.click("[aria-label='Open 1: HEAD BONE']")
            page.click(".ich-ask [value=yes]")
            viewer.opened(former)
            assert page.inner_text(".ich-scan") == "HEAD BONE, 9 slices"
        log = (tmp_path / "page" / "log").read_text()
        for secret in (study, "A1", orthanc.password, phantoms.PATIENT):
            assert secret not in log
        kinds = {
            first(one, "Modality"): first(one, "SeriesInstanceUID") for one in archive.series(study)
        }
        assert kinds.keys() == {"CT", "SEG", "SR"}
        (masks,) = archive.images(study, kinds["SEG"])
        assert masks.PatientID == phantoms.PATIENT and masks.pixel_array.any()


def content(image: pydicom.Dataset) -> bytes:
    target = io.BytesIO()
    image.save_as(target, enforce_file_format=True)
    return target.getvalue()
