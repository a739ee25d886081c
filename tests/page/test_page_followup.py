"""Two scans of one person on the page: which is on screen, the growth between them, the scores."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from ichseg.measures.assessment import assess_marked
from ichseg.measures.followup import Blood, between
from ichseg.measures.growth import growth_record
from ichseg.page import growth
from ichseg.page.controller import Controller
from tests.pages import Page, area_ml, numbered_scan

SMALL, LARGE = [0, 0, 10, 10], [0, 0, 10, 20]


def record(controller: Controller, page: Page) -> dict[str, Any]:
    reply = controller.answer("x", {"case": page.case, "ops": [], "followup": True})
    json.dumps(reply["growth"], allow_nan=False)
    return dict(reply["growth"])


@pytest.fixture
def page(controller: Controller) -> Page:
    """A baseline with 100 pixels of blood and a follow-up, on screen, with 200."""
    page = Page(controller, "x")
    page.ask("sample")
    page.ask("boxes", slice=1, lesion=1, boxes=[SMALL])
    controller.shared.read = lambda path, **_: numbered_scan(1)
    page.ask("sample", role="followup")
    page.ask("boxes", slice=2, lesion=1, boxes=[LARGE])
    return page


def test_each_scan_keeps_what_is_marked_on_it(controller: Controller, page: Page) -> None:
    assert page.ask("undo")["totals"]["one"] == 0
    assert page.ask("redo")["totals"]["one"] == area_ml(200)
    back = page.ask("switch", role="baseline", have=True)
    assert back["role"] == "baseline" and back["scan"]["voxels"] is None
    assert back["totals"]["one"] == area_ml(100) and set(back["slices"]) == {"1"}
    again = page.ask("switch", role="followup")
    assert Path(again["scan"]["voxels"]).is_file() and set(again["slices"]) == {"2"}
    assert {role: one["marked"] for role, one in again["roles"].items()} == {
        "baseline": 1,
        "followup": 1,
    }


def test_a_box_drawn_on_one_scan_is_not_put_on_the_other(
    controller: Controller, page: Page
) -> None:
    followup_token = page.case
    page.ask("switch", role="baseline", have=True)
    page.case = followup_token
    text = page.ask("boxes", slice=1, lesion=1, boxes=[LARGE])["error"]["text"]
    assert "belongs to the scan it was drawn on" in text


def test_the_growth_between_the_two(controller: Controller, page: Page) -> None:
    page.ask("asked", hours=4)
    found = record(controller, page)
    grown = found["growth"]
    assert grown["counted"] == "all blood"
    assert grown["baseline_ml"] == pytest.approx(area_ml(100))
    assert grown["growth_ml"] == pytest.approx(area_ml(100))
    assert grown["growth_percent"] == pytest.approx(100)
    assert grown["growth_ml_per_hour"] == pytest.approx(area_ml(100) / 4)
    answers = {one["name"]: one["expansion"] for one in grown["verdicts"]}
    assert answers == {"classic": True, "absolute": False, "revised": True}
    assert grown["within_measurement_error"] is True


def test_other_thresholds_give_other_answers(controller: Controller, page: Page) -> None:
    page.ask("asked", thresholds={"classic_percent": 100, "inclusive": False})
    (classic, *_) = record(controller, page)["growth"]["verdicts"]
    assert classic["expansion"] is False and "> 100 %" in classic["rule"]


def test_intraventricular_blood_is_told_apart_by_the_lesions_types(
    controller: Controller, page: Page
) -> None:
    for role in ("followup", "baseline"):
        page.ask("switch", role=role, have=True)
        page.ask("lesion_add")
        page.ask("lesion_set", lesion=2, type="IVH")
    page.ask("boxes", slice=3, lesion=2, boxes=[SMALL])  # on the baseline
    found = record(controller, page)
    assert found["growth"]["counted"] == "blood outside the ventricles"
    assert (
        "The type of Lesion 1 (baseline) and of Lesion 1 (follow-up) is not said"
        in found["notes"][0]
    )
    assert found["growth"]["growth_ml"] == pytest.approx(area_ml(100))
    assert found["growth"]["reading_error"]["between_raters_ml"] == 7.7
    assert found["findings"] == {"intraventricular": True}
    for role in ("followup", "baseline"):
        page.ask("switch", role=role, have=True)
        page.ask("lesion_set", lesion=1, type="IPH")
    found = record(controller, page)
    assert found["growth"]["counted"] == "intraparenchymal blood" and found["notes"] == []
    assert found["growth"]["reading_error"]["between_raters_ml"] == 7.7
    assert found["growth"]["ivh_growth_ml"] == pytest.approx(-area_ml(100))
    assert found["growth"]["growth_ml"] == pytest.approx(area_ml(100))
    assert found["findings"] == {
        "parenchymal_ml": pytest.approx(area_ml(100)),
        "intraventricular": True,
    }


def test_the_page_counts_as_the_library_does_whatever_the_types(
    controller: Controller, page: Page
) -> None:
    for role in ("followup", "baseline"):
        page.ask("switch", role=role, have=True)
        page.ask("lesion_set", lesion=1, type="SDH")
        page.ask("lesion_add")
        page.ask("lesion_set", lesion=2, type="IVH")
        page.ask("boxes", slice=3, lesion=2, boxes=[SMALL])
    found = record(controller, page)
    before, after = (Blood({"SDH": area_ml(pixels), "IVH": area_ml(100)}) for pixels in (100, 200))
    of_library = growth_record(between(before, after, methods=("one", "one")))
    for name in ("counted", "notes", "error_sentence", "model_error"):
        assert found["growth"][name] == of_library[name], name
    for verdict, wanted in zip(found["growth"]["verdicts"], of_library["verdicts"], strict=True):
        assert verdict == wanted
    assert found["growth"]["growth_ml"] == pytest.approx(area_ml(100))
    brain = found["scores"][0]
    assert brain["items"][0]["value"] is None and found["findings"] == {"intraventricular": True}


def test_two_methods_are_not_compared_without_a_word(controller: Controller, page: Page) -> None:
    page.ask("models", models=["two", "one"])
    (note,) = record(controller, page)["notes"]
    assert "One and Two" in note and "choose the same one" in note


def test_without_marks_there_is_no_growth_but_a_sentence(controller: Controller) -> None:
    page = Page(controller, "x")
    page.ask("sample")
    assert record(controller, page)["growth"] is None
    page.ask("sample", role="followup")
    found = record(controller, page)
    assert found["growth"] is None
    assert found["notes"] == ["Mark the hematoma on the baseline and on the follow-up, too."]


def test_scores_come_from_what_is_said_and_nothing_else(controller: Controller) -> None:
    page = Page(controller, "x")
    page.ask("sample")
    findings = {"nihss": 14, "anticoagulant": False, "glucose_mg_dl": 150, "gcs": None}
    page.ask("asked", findings=findings)
    brain, nag, ich = record(controller, page)["scores"]
    assert (nag["total"], brain["total"], ich["total"]) == (2, None, None)
    assert "Glasgow Coma Scale" in ich["missing"]


@pytest.mark.parametrize(
    ("said", "words"),
    [
        ({"hours": 0}, "more than 0; got 0"),
        ({"hours": "soon"}, "is a number; got 'soon'"),
        ({"findings": {"gcs": 2}}, "Glasgow Coma Scale"),
        ({"thresholds": {"classic_ml": -1}}, "classic_ml"),
    ],
)
def test_bad_values_are_refused_in_a_sentence_and_the_last_ones_stay(
    controller: Controller, page: Page, said: dict[str, Any], words: str
) -> None:
    page.ask("asked", hours=4)
    assert words in page.ask("asked", **said)["error"]["text"]
    assert record(controller, page)["growth"]["hours"] == 4


def test_a_follow_up_needs_a_baseline_and_goes_with_it(controller: Controller) -> None:
    page = Page(controller, "x")
    assert "open the first scan first" in page.ask("sample", role="followup")["error"]["text"]
    page.ask("sample")
    refused = page.ask("switch", role="followup")
    assert "there is no follow-up" in refused["error"]["text"] and refused["role"] == "baseline"
    page.ask("sample", role="followup")
    assert set(page.ask("sample")["roles"]) == {"baseline"}
    page.ask("sample", role="followup")
    closed = page.ask("switch", close=True)
    assert set(closed["roles"]) == {"baseline"} and closed["role"] == "baseline"
    assert controller.store.nbytes == numbered_scan().hu_zyx.nbytes


def test_downloads_state_the_growth_and_the_scores(controller: Controller, page: Page) -> None:
    page.ask("switch", role="baseline", have=True)
    page.ask("asked", hours=4, findings={"gcs": 9})
    download = page.ask("export", kind="json")["download"]
    written = json.loads(Path(download["path"]).read_text())
    assert written["role"] == "baseline"
    assert written["growth"]["growth_percent"] == pytest.approx(100)
    assert [one["name"] for one in written["scores"]] == ["BRAIN", "NAG", "ICH score"]


def test_an_assessment_without_a_second_scan_is_left_as_it_is(controller: Controller) -> None:
    page = Page(controller, "x")
    page.ask("sample")
    page.ask("boxes", slice=1, lesion=1, boxes=[SMALL])
    session = controller.store.get("x")
    case = session.case
    assert case is not None and case.volume is not None
    plain = assess_marked(
        case.segmentation, case.volume, model="one", model_title="One", weights_sha256={}
    )
    same = growth.added(plain, session)
    assert (same.growth, same.role, same.scores) == (None, None, ())
