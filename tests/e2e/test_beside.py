"""Two scans side by side: from a marked baseline to the growth with no box on the follow-up, and the panes linked."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from skimage.registration import phase_cross_correlation

from tests.e2e.driver import PATIENCE_MS, Viewer
from tests.e2e.test_two_scans import mark_whole, parenchymal

Visit = Callable[..., Viewer]


def test_a_follow_up_is_marked_by_its_baseline_and_both_panes_show_the_same_anatomy(
    visit: Visit, tmp_path: Path
) -> None:
    viewer = visit().open_sample()
    page = viewer.page
    k, box, true_ml = parenchymal(followup=False)
    mark_whole(viewer, k, box)
    _, _, later_ml = parenchymal(followup=True)
    viewer.press("g")
    baseline = viewer.token
    viewer.do("followup_sample").opened(baseline)
    viewer.do("carry")
    page.wait_for_selector(".ich[data-pending='0'][data-rough='0']", timeout=3 * PATIENCE_MS)
    page.wait_for_selector(".ich-pane[data-beside=other]", timeout=PATIENCE_MS)
    page.wait_for_function(
        "() => /\\d %\\)/.test(document.querySelector('.ich-growth').innerText)",
        timeout=PATIENCE_MS,
    )
    percent = float(re.findall(r"\(([+−]\d+) %\)", page.inner_text(".ich-growth"))[0])
    assert percent == pytest.approx(100 * (later_ml / true_ml - 1), abs=5)
    assert viewer.sent == [[list(box.xyxy)]]  # the one box on the baseline
    assert "apart in the median" in page.inner_text(".ich-link-state")
    corners = page.locator(".ich-pane [data-corner=slice]").all_inner_texts()
    assert len(corners) == 2, corners
    assert "Baseline" in corners[0] and "Follow-up" in corners[1]
    assert all(re.search(r"z -?\d+\.\d mm", text) for text in corners), corners

    viewer.press("m")  # the images alone
    page.click(".ich-presets button >> nth=3")  # bone
    off_mm = []
    for at in range(5, 25):
        viewer.go_to(at)
        left, right = (viewer.pixels(pane).mean(axis=2) for pane in (0, 1))
        shift, _, _ = phase_cross_correlation(left, right, upsample_factor=4)
        off_mm.append(float(np.hypot(*shift)) * viewer.spacing_mm[1])
    assert len(off_mm) == 20 and max(off_mm) < 2, off_mm

    # Unlinked, the other scan goes its own way; linked, it comes back.
    own, other = page.locator(".ich-pane [data-corner=slice]").all_inner_texts()[::-1]
    page.locator(".ich-stage canvas").nth(1).focus()
    viewer.press("u")
    x, y = viewer.point(0, 256, 256)
    page.mouse.move(x, y)
    page.mouse.wheel(0, 120)
    alone = page.locator(".ich-pane [data-corner=slice]").all_inner_texts()
    assert alone[1] == own and alone[0] != other
    viewer.press("u")
    assert page.locator(".ich-pane [data-corner=slice]").all_inner_texts() == [other, own]

    viewer.press("m").do("beside_map")
    legend = page.locator(".ich-map-legend span").all_inner_texts()
    assert legend == ["in both", "only before", "only now"]
    viewer.press("v")
    page.wait_for_selector(".ich-pane[data-beside=other]", state="detached")
    viewer.press("Control+z").answered()
    assert viewer.ml(0)[1] == 0  # carried over in one step
