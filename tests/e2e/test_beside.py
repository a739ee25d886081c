"""Two scans side by side: from a marked baseline to the growth with no box on the follow-up, and the panes linked."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pypdfium2
import pytest
from scipy import ndimage

from ichseg.sample import sample_paths
from ichseg.scan.read import read_volume
from ichseg.scan.volume import CTVolume
from tests.e2e.driver import PATIENCE_MS, Viewer
from tests.e2e.files import more
from tests.e2e.test_two_scans import mark_whole, parenchymal
from tools.phantom.sample import BASELINE, FOLLOWUP, rotation

Visit = Callable[..., Viewer]


def off_by_mm(shown: npt.NDArray[np.floating], k: int, baseline: CTVolume) -> float:
    """How far a pane's picture of the baseline lies from where the head truly is on slice k of the follow-up.

    Both scans were made of one head in two poses, so that the baseline can be read off where the picture is to show
    it. It is read off at shifts along all three axes, too; the answer is the length of the one that looks most alike.
    """
    step = 4
    rows, columns = np.mgrid[: shown.shape[0] : step, : shown.shape[1] : step].reshape(2, -1)
    later = read_volume(sample_paths(followup=True)[0]).geometry
    there_mm = later.to_mm(np.full(rows.size, k), rows, columns)
    own, other = (rotation(one.rotation_degrees) for one in (BASELINE, FOLLOWUP))
    in_head_mm = (there_mm - FOLLOWUP.translation_mm) @ other
    here_mm = in_head_mm @ own.T + BASELINE.translation_mm
    near = np.hypot(*in_head_mm[:, :2].T) < 90  # the head's holder stays on the table
    seen = shown[::step, ::step].ravel()[near]
    likeness: dict[tuple[float, ...], float] = {}
    shifts = [length * axis for axis in np.eye(3) for length in (-4, -2, 0, 2, 4)]
    for shift in map(tuple, shifts):
        at = baseline.geometry.to_index(here_mm[near] + np.array(shift)).T
        hu = ndimage.map_coordinates(baseline.hu_zyx, at, order=1, output=np.float32, cval=-1000)
        likeness[shift] = float(np.corrcoef(seen, np.clip(hu, -500, 1500))[0, 1])
    return float(np.linalg.norm(max(likeness, key=lambda one: likeness[one])))


@pytest.mark.slow
def test_a_follow_up_is_marked_by_its_baseline_and_both_panes_show_the_same_anatomy(
    visit: Visit, sample: CTVolume, tmp_path: Path
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
    for k in range(5, 25):
        viewer.go_to(k)
        off_mm.append(off_by_mm(viewer.pixels(0).mean(axis=2), k, sample))
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

    report = pypdfium2.PdfDocument(more(viewer, "pdf", tmp_path))
    text = " ".join(one.get_textpage().get_text_range() for one in report)
    (told,) = re.findall(r"\(([+-]\d+\.\d) %\)", text)
    assert float(told) == pytest.approx(percent, abs=0.5)
    assert text.count("Baseline along slice") == 2  # each beside the follow-up's own

    viewer.press("m").do("beside_map")
    legend = page.locator(".ich-map-legend span").all_inner_texts()
    assert legend == ["in both", "only before", "only now"]
    viewer.press("v")
    page.wait_for_selector(".ich-pane[data-beside=other]", state="detached")
    viewer.press("Control+z").answered()
    assert viewer.ml(0)[1] == 0  # carried over in one step
