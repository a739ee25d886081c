"""From one box to the growth between two scans, as a person goes."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from ichseg.files.nifti_mask import read_mask
from ichseg.marks.box import Box, boxes_from_mask
from ichseg.sample import sample_paths
from ichseg.scan.read import read_volume
from ichseg.scan.volume import CTVolume
from tests.e2e.driver import PATIENCE_MS, Viewer
from tests.e2e.files import check_files

Visit = Callable[..., Viewer]


def parenchymal(*, followup: bool) -> tuple[int, Box, float]:
    """The slice where a sample's parenchymal hematoma is largest, a person's box there, and its millilitres."""
    scan_path, reference_path = sample_paths(followup)
    scan = read_volume(scan_path)
    blood = read_mask(reference_path, scan) == 1
    k = int(blood.sum(axis=(1, 2)).argmax())
    box = max(boxes_from_mask(blood[k]), key=lambda one: one.width * one.height)
    ml = float((blood.sum(axis=(1, 2)) * scan.voxel_volumes_ml).sum())
    return k, box.grow(4, blood.shape[1:]), ml


def mark_whole(viewer: Viewer, k: int, box: Box) -> float:
    viewer.go_to(k).draw(box.xyxy)
    viewer.press("w").settle()
    return viewer.ml(0)[1]


@pytest.mark.slow
def test_from_one_box_to_a_correction_a_second_scan_and_every_file(
    visit: Visit, sample: CTVolume, tmp_path: Path
) -> None:
    viewer = visit().open_sample()
    page = viewer.page
    assert page.locator(".ich-roles").is_hidden()  # basic use stays as it is
    k, box, true_ml = parenchymal(followup=False)
    whole_ml = mark_whole(viewer, k, box)
    assert whole_ml == pytest.approx(true_ml, rel=0.1)
    viewer.do("correct").tool("erase")
    x, y = (box.x0 + box.x1) / 2, (box.y0 + box.y1) / 2
    viewer.drag((x - 10, y, x + 10, y + 6))
    before_ml = viewer.ml(0)[1]
    assert before_ml < whole_ml
    viewer.press("Control+z").answered()
    assert viewer.ml(0)[1] == whole_ml
    viewer.press("Control+Shift+z").answered()
    assert viewer.ml(0)[1] == before_ml

    viewer.press("e", "g")
    baseline = viewer.token
    viewer.do("followup_sample").opened(baseline)
    assert page.get_attribute(".ich", "data-role") == "followup"
    assert viewer.ml(0) == (0, 0)
    second_k, second_box, second_true_ml = parenchymal(followup=True)
    after_ml = mark_whole(viewer, second_k, second_box)
    assert after_ml == pytest.approx(second_true_ml, rel=0.1)
    page.fill(".ich-hours", "6")
    page.press(".ich-hours", "Enter")
    viewer.answered()
    page.wait_for_function(
        "() => document.querySelector('.ich-growth').innerText.includes('an hour')"
    )
    grown = page.inner_text(".ich-growth")
    assert f"{before_ml:.1f} to {after_ml:.1f} mL" in grown
    percent = float(re.findall(r"\(([+−]\d+) %\)", grown)[0])
    assert percent == pytest.approx(100 * (after_ml / before_ml - 1), abs=1)
    answers = page.locator(".ich-answer").all_inner_texts()
    assert len(answers) == 3 and answers[0] == "yes"  # 40 % more is expansion by the classic rule
    page.wait_for_selector(".ich-growth-range[data-ready=true]", timeout=PATIENCE_MS)
    assert page.inner_text(".ich-growth-range").startswith("The growth is +")

    viewer.go_to(second_k)
    followup = viewer.token  # before the key: the other scan may be there at once
    viewer.press("x").opened(followup)
    assert page.get_attribute(".ich", "data-role") == "baseline"
    assert viewer.token == baseline and viewer.ml(0)[1] == before_ml and viewer.slice == k

    mask = read_mask(viewer.download("mask", tmp_path), sample) != 0
    record, text = check_files(viewer, mask, sample, tmp_path)
    assert record["role"] == "baseline" and record["slices_by"]["edited"] == 1
    assert record["growth"]["followup_ml"] == pytest.approx(after_ml, abs=0.06)
    assert f"{after_ml:.1f}" in text

    viewer.do("followup_close")
    page.click(".ich-ask button[value=yes]")
    page.wait_for_selector(".ich-roles", state="hidden")
    viewer.answered()
    assert viewer.ml(0)[1] == before_ml  # the baseline is as it was


def test_a_second_scan_is_opened_from_a_file_and_asked_about_before_it_goes(
    visit: Visit, tmp_path: Path
) -> None:
    viewer = visit().open_sample().press("g")
    page = viewer.page
    token = viewer.token
    page.set_input_files(".ich-followup-file", str(sample_paths(True)[0]))
    viewer.opened(token)
    viewer.draw((200, 200, 260, 260))
    page.click("[data-do=followup_close]")
    dialog = page.locator(".ich-ask")
    assert "the follow-up goes then" in dialog.inner_text()
    dialog.locator("button").first.click()  # keep it
    assert page.get_attribute(".ich", "data-role") == "followup" and viewer.ml(0)[0] > 0

    damaged = tmp_path / "damaged.nii.gz"
    damaged.write_bytes(sample_paths(True)[0].read_bytes()[:2000])
    page.set_input_files(".ich-followup-file", str(damaged))
    assert "damaged.nii.gz" in viewer.alert()
    assert viewer.ml(0)[0] > 0  # what is marked stays


@pytest.mark.slow
def test_the_range_of_the_growth_is_stopped_and_goes_on(visit: Visit) -> None:
    viewer = visit().open_sample()
    page = viewer.page
    viewer.go_to(14).draw((200, 200, 260, 260))
    viewer.press("g")
    former = viewer.token
    viewer.do("followup_sample").opened(former)
    viewer.go_to(14).draw((200, 200, 270, 270), wait=False)
    line = page.locator(".ich-growth-range")
    page.wait_for_selector("[data-do=growth_range]:visible", timeout=PATIENCE_MS)
    page.evaluate("() => document.querySelector('[data-do=growth_range]').click()")
    assert "was stopped at" in line.inner_text()
    page.wait_for_timeout(1500)
    assert "was stopped at" in line.inner_text()
    viewer.do("growth_range")
    page.wait_for_selector(".ich-growth-range[data-ready=true]", timeout=PATIENCE_MS)
    assert "moved by up to 1 mm more" in line.inner_text()


def test_scores_name_what_is_missing(visit: Visit) -> None:
    viewer = visit().open_sample().press("g")
    page = viewer.page
    page.click(".ich-bedside summary")
    page.fill("[data-finding=nihss]", "14")
    page.fill("[data-finding=glucose_mg_dl]", "150")
    page.select_option("[data-finding=anticoagulant]", "no")
    viewer.answered()
    scores = page.inner_text(".ich-bedside-scores")
    assert "NAG 2 expansion in 60 %" in re.sub(r"\s+", " ", scores)
    assert "Missing: " in scores and "Glasgow Coma Scale" in scores
    page.fill("[data-finding=gcs]", "2")
    page.press("[data-finding=gcs]", "Enter")
    assert "Glasgow Coma Scale" in viewer.alert()


def test_the_panel_fits_a_phone(visit: Visit) -> None:
    viewer = visit(viewport={"width": 390, "height": 844}).open_sample()
    viewer.do("followup")
    viewer.page.click(".ich-bedside summary")
    width = viewer.page.evaluate("document.documentElement.scrollWidth")
    assert np.isclose(width, 390, atol=1)
