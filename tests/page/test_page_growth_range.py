"""The range of the growth on the page: in portions, of the marks as they are, and gone with them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from ichseg.measures.growth_range import Boxed, growth_range
from ichseg.page import linking
from ichseg.page.controller import Controller
from ichseg.page.panels.followup import panel
from ichseg.scan.inner_table import Match
from ichseg.scan.registration import Registration
from tests.pages import BoxModel, Page, numbered_scan
from tests.two_heads import MOTION

SMALL, LARGE = [8, 8, 14, 14], [6, 6, 20, 18]


@pytest.fixture
def page(unhurried: Controller) -> Page:
    """A baseline with a small box on a slice and a follow-up, on screen, with a large one."""
    page = Page(unhurried, "x")
    page.ask("sample")
    page.ask("boxes", slice=1, lesion=1, boxes=[SMALL])
    unhurried.shared.read = lambda path, **_: numbered_scan(1)
    page.ask("sample", role="followup")
    page.ask("boxes", slice=2, lesion=1, boxes=[LARGE])
    return page


def asked(page: Page) -> dict[str, Any]:
    """What a request in passing says of the range."""
    reply = page.controller.aside(
        "x", {"case": page.case, "aside": {"slice": 2, "growth_range": True}}
    )
    return dict(reply["growth_range"])


def of_the_library(page: Page, model: BoxModel, shift_mm: float) -> list[float]:
    cases = page.controller.store.get("x").cases
    baseline, followup = (
        Boxed(case.read(), case.segmentation.mask_zyx("one"))
        for case in (cases["baseline"], cases["followup"])
    )
    return list(growth_range(model, baseline, followup, shift_mm=shift_mm).draws_ml)  # type: ignore[arg-type]


def test_the_range_is_that_of_the_library(page: Page, fakes: dict[str, BoxModel]) -> None:
    found = asked(page)
    assert found["share"] is None and found["text"].startswith("The growth is +")
    assert found["found"]["draws_ml"] == pytest.approx(of_the_library(page, fakes["one"], 1.0))
    before = fakes["one"].predicted
    assert asked(page) == found and fakes["one"].predicted == before, "it is computed once"


def test_it_goes_on_where_it_stopped(
    page: Page, fakes: dict[str, BoxModel], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(panel, "RANGE_SECONDS", -1.0)  # one slice of one draw at a time
    shares, start = [], fakes["one"].predicted
    while (found := asked(page))["share"] is not None:
        shares.append(found["share"])
    portions = 2 * 17  # two slices; the boxes as they are, and 16 draws
    assert shares == pytest.approx([(at + 1) / portions for at in range(portions)])
    assert found["found"]["draws_ml"] == pytest.approx(of_the_library(page, fakes["one"], 1.0))
    assert fakes["one"].predicted - start == 2 * portions  # as much again by the library


def test_other_marks_have_another_range(page: Page) -> None:
    first = asked(page)["found"]
    page.ask("boxes", slice=2, lesion=1, boxes=[SMALL])
    assert asked(page)["found"]["draws_ml"] != first["draws_ml"]
    page.ask("undo")
    assert asked(page)["found"] == first


def test_the_followup_moves_as_far_as_the_skulls_are_apart(
    page: Page, fakes: dict[str, BoxModel], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(
        linking, "register", lambda *_, **__: Registration(MOTION, Match(0.25, 0.9, 500.0))
    )
    assert asked(page)["found"]["shift_mm"] == 1.0
    page.ask("link")
    found = asked(page)["found"]
    assert found["shift_mm"] == 0.25
    assert found["draws_ml"] == pytest.approx(of_the_library(page, fakes["one"], 0.25))


def test_two_methods_and_a_scan_alone_have_no_range(page: Page) -> None:
    page.ask("models", models=["two", "one"])
    assert "of one method on both scans" in asked(page)["text"]
    page.ask("models", models=["one", "two"])
    page.ask("switch", role="baseline", close=True)
    found = asked(page)
    assert found["share"] is None and "there is no follow-up" in found["text"]


def test_files_say_the_range_that_is_known(page: Page) -> None:
    def notes() -> str:
        path = page.ask("export", kind="json")["download"]["path"]
        return Path(path).read_text(encoding="utf-8")

    assert "the boxes of both scans" not in notes()
    sentence = asked(page)["text"]
    assert sentence in notes()
