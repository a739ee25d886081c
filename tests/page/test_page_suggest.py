"""Proposals on the page: found in the background, listed, accepted; and what a box on other tissue looks like."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from ichseg.errors import check_cancelled
from ichseg.page.controller import Controller
from ichseg.page.embeddings import Embeddings
from ichseg.page.likely import Likely
from ichseg.page.panels.suggest import panel as suggest
from ichseg.scan.volume import CTVolume
from tests import phantoms
from tests.light_finder import SURE, LightFinder, use
from tests.pages import BoxModel, Page, area_ml, wait_until

SLICES = 6


def bleeding() -> CTVolume:
    """Brain with blood on slices 1 and 2, and a smaller lesion on slice 4."""
    scan = phantoms.scan(tuple(5.0 * np.arange(SLICES)), (128, 128))
    scan.hu_zyx[1:3, 40:60, 30:60] = scan.hu_zyx[4, 80:92, 80:92] = 65
    return scan


@pytest.fixture
def finder(monkeypatch: pytest.MonkeyPatch) -> LightFinder:
    return use(LightFinder(skull=False, embedded_by="two"), monkeypatch)


@pytest.fixture
def controller(
    fakes: dict[str, BoxModel], finder: LightFinder, tmp_path: Path
) -> Iterator[Controller]:
    del finder
    embeddings = Embeddings(fakes.__getitem__, budget_bytes=100_000)
    made = Controller(tmp_path, embeddings=embeddings, read=lambda path, **_: bleeding())
    yield made
    made.close()


@pytest.fixture
def page(controller: Controller) -> Page:
    page = Page(controller, "x")
    page.ask("sample")
    return page


def passing(page: Page, k: int = 0, **wanted: bool) -> dict[str, Any]:
    return page.controller.aside(page.name, {"case": page.case, "aside": {"slice": k, **wanted}})


def test_the_background_looks_at_what_it_embeds_and_the_page_is_told(
    page: Page, finder: LightFinder, fakes: dict[str, BoxModel]
) -> None:
    wait_until(lambda: not passing(page, likely=True)["likely"]["more"])
    told = passing(page, likely=True)["likely"]
    assert told["here"] and len(told["slices"]) == SLICES
    assert {k for k, share in told["slices"].items() if share > 0.5} == {"1", "2", "4"}
    assert sorted(finder.looked) == list(range(SLICES))  # each once
    assert len(fakes["two"].embedded) == SLICES
    # What is there already is enough to propose from.
    page.ask("suggest")
    assert len(finder.looked) == SLICES


def test_proposals_are_listed_and_counted_only_once_they_are_accepted(page: Page) -> None:
    reply = page.ask("suggest")
    large, small = reply["proposals"]["found"]
    assert large["score"] >= small["score"] and large["score"] == pytest.approx(SURE, abs=0.01)
    assert (large["slices"].keys(), large["show"]) == ({"1", "2"}, 1)
    assert "may miss blood" in reply["proposals"]["text"].lower()
    assert reply["totals"] == {"one": 0, "two": 0} and not reply["undo"] and not reply["slices"]
    # The fake's mask is the box.
    x0, y0, x1, y1 = large["slices"]["1"][0]
    assert large["ml"] == pytest.approx(2 * area_ml((x1 - x0) * (y1 - y0)), rel=0.1)

    def given(key: int, one: dict[str, Any]) -> dict[str, Any]:
        slices = [{"slice": int(k), "boxes": boxes} for k, boxes in one["slices"].items()]
        return {"key": key, "slices": slices}

    reply = page.ask("accept", proposals=[given(7, large), given(9, small)])
    assert reply["error"] is None and reply["accepted"] == [(7, 1), (9, 2)]
    assert reply["totals"]["one"] == pytest.approx(large["ml"] + small["ml"])
    assert reply["slices"]["4"]["boxes"].keys() == {"2"} and reply["lesion"] == 1
    undone = page.ask("undo")
    assert undone["totals"] == {"one": 0, "two": 0} and not undone["undo"]
    assert page.ask("redo")["totals"]["one"] == pytest.approx(large["ml"] + small["ml"])


def test_a_proposal_that_is_not_on_the_scan_changes_nothing(page: Page) -> None:
    good = {"key": 1, "slices": [{"slice": 1, "boxes": [[1, 1, 9, 9]]}]}
    for wrong in (
        {"slice": SLICES, "boxes": [[1, 1, 9, 9]]},
        {"slice": 1, "boxes": [[300, 300, 310, 310]]},
        {"slice": 1, "boxes": [[1, 1, 9]]},
    ):
        reply = page.ask("accept", proposals=[good, {"key": 2, "slices": [wrong]}])
        assert reply["error"]["text"].endswith(".") and not reply["undo"]


def test_without_a_finder_it_is_said_and_the_rest_goes_on(
    page: Page, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Likely, "missing", "The weights of the finder are not published yet.")
    text = page.ask("suggest")["error"]["text"]
    assert text.startswith("The weights of the finder are not published yet. Without them")
    assert passing(page, likely=True)["likely"]["here"] is False
    assert page.ask("boxes", slice=1, boxes=[[30, 40, 60, 60]])["totals"]["one"] > 0


def test_a_finder_that_fails_in_the_background_is_left_alone(
    page: Page, finder: LightFinder, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: Any) -> None:
        raise RuntimeError("broken")

    monkeypatch.setattr(finder, "of_slice", fail)
    page.ask("sample")
    embeddings = page.controller.embeddings
    owner = bleeding().sha256
    wait_until(lambda: not embeddings.is_planned(owner))
    assert page.ask("boxes", slice=1, boxes=[[30, 40, 60, 60]])["error"] is None


def test_a_clean_scan_says_what_nothing_does_not_mean(
    page: Page, finder: LightFinder, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(finder, "find", lambda *_: [])
    told = page.ask("suggest")["proposals"]
    assert told["found"] == [] and "does not mean that there is no blood" in told["text"]


def test_a_search_can_be_cancelled(page: Page, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[int] = []

    def look(*given: Any) -> Any:
        seen.append(given[-1])
        session = page.controller.store.find(page.name)
        assert session is not None
        session.cancel(page.last)
        check_cancelled()

    page.controller.shared.likely.forget(bleeding().sha256)
    monkeypatch.setattr(suggest, "_look", look)
    monkeypatch.setattr(Likely, "of_slice", lambda *_: None)
    reply = page.ask("suggest")
    assert seen == [0] and "proposals" not in reply


def test_what_is_being_accepted_can_be_cancelled(
    page: Page, monkeypatch: pytest.MonkeyPatch
) -> None:
    (large, _) = page.ask("suggest")["proposals"]["found"]
    told = suggest.progress

    def cancelling(*given: Any, **how: Any) -> Any:
        session = page.controller.store.find(page.name)
        assert session is not None and how["cancel"]
        session.cancel(page.last)
        return told(*given, **how)

    monkeypatch.setattr(suggest, "progress", cancelling)
    slices = [{"slice": int(k), "boxes": boxes} for k, boxes in large["slices"].items()]
    reply = page.ask("accept", proposals=[{"key": 1, "slices": slices}])
    assert len(slices) == 2 and "accepted" not in reply
    assert not reply["undo"] and reply["totals"]["one"] == 0


def test_a_box_on_tissue_that_is_no_blood_is_told_beside_its_mask(page: Page) -> None:
    wait_until(lambda: not passing(page, likely=True)["likely"]["more"])
    page.ask("boxes", slice=1, boxes=[[90, 90, 110, 110]])
    told = passing(page, 1, looks=True)["looks"]
    (one,) = told["told"]
    assert (told["slice"], one["lesion"]) == (1, 1)
    assert one["text"] == (
        "Lesion 1: looks like brain: 35 HU, 0 above its surroundings; probability of blood 0 %."
    )
    page.ask("boxes", slice=1, boxes=[[32, 42, 58, 58]])
    assert passing(page, 1, looks=True)["looks"]["told"] == []
    assert passing(page, 3, looks=True)["looks"]["told"] == []


def test_maps_are_small_and_bounded_and_go_with_their_scan(finder: LightFinder) -> None:
    del finder
    scan, likely = bleeding(), Likely()
    full = likely.look("a", scan, 1, object())  # type: ignore[arg-type]
    kept = likely.of_slice("a", 1)
    assert (
        kept is not None
        and np.array_equal(kept, full)
        and full.max() == pytest.approx(SURE, abs=1e-3)
    )
    assert sum(len(one.deflated) for one in likely._maps["a"].values()) < 4096
    assert likely.of_slice("b", 1) is None
    likely.forget("a")
    assert likely.of_slice("a", 1) is None and likely.suspicion("a") == {}
    none = Likely(budget_bytes=0)
    none.look("a", scan, 1, object())  # type: ignore[arg-type]
    assert none.of_slice("a", 1) is None
