"""Proposals as a person meets them: suggested, stepped through, accepted, adjusted; and a box on healthy brain."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest
from scipy import ndimage

from ichseg.marks.box import box_from_mask
from ichseg.measures.volume import volume_ml
from ichseg.scan.skull import intracranial
from ichseg.scan.volume import CTVolume
from tests.e2e.driver import PATIENCE_MS, Viewer

Visit = Callable[..., Viewer]


@pytest.fixture
def opened(visit: Visit) -> Viewer:
    return visit().open_sample()


def rows(viewer: Viewer) -> list[str]:
    return viewer.page.locator(".ich-suggest-list [data-part=show]").all_inner_texts()


def wait_for_likely(viewer: Viewer) -> None:
    viewer.page.wait_for_function(
        "() => /^Blood is likely on slices /.test(document.querySelector('.ich-likely').textContent)",
        timeout=PATIENCE_MS,
    )


def look(viewer: Viewer, name: str) -> None:
    """For eyes: a picture of the page, where a folder is told for it."""
    if folder := os.environ.get("SCREENSHOTS"):
        viewer.page.screenshot(path=Path(folder) / f"{name}.png")


def test_what_is_said_of_likely_slices_moves_no_picture(visit: Visit) -> None:
    viewer = visit().open_sample()
    before = viewer.frame(0)
    wait_for_likely(viewer)
    assert viewer.frame(0) == before


def test_from_the_sample_to_its_lesions_measured_in_three_gestures(
    visit: Visit, sample: CTVolume, reference: npt.NDArray[np.bool_]
) -> None:
    viewer = visit()
    viewer.open_sample()  # one
    viewer.do("suggest").answered()  # two
    assert len(rows(viewer)) == 2
    assert viewer.ml(0)[1] == 0  # nothing is counted that was not accepted
    assert "may miss blood" in viewer.page.inner_text(".ich-suggest-says").lower()
    listed = [float(row.split(" · ")[1].split()[0]) for row in rows(viewer)]
    look(viewer, "proposals")
    viewer.do("accept_follow").settle()  # three
    assert all("accepted" in row for row in rows(viewer))
    assert viewer.ml(0)[1] >= sum(listed) - 0.1  # followed, no lesion has less
    assert viewer.ml(0)[1] == pytest.approx(volume_ml(reference, sample), rel=0.3)
    wait_for_likely(viewer)
    look(viewer, "accepted")
    # It is as if a person had drawn them: undone step by step, the lists follow.
    viewer.press("Control+z", "Control+z", "Control+z").answered()
    assert viewer.ml(0)[1] == 0 and not any("accepted" in row for row in rows(viewer))


def test_a_person_steps_through_and_adjusts(opened: Viewer) -> None:
    opened.press("s").answered()
    first = opened.slice
    assert opened.page.locator("[aria-current=true]").inner_text().startswith("1 · ")
    opened.press("r")
    assert "dismissed" in rows(opened)[0]
    assert opened.page.locator("[aria-current=true]").inner_text().startswith("2 · ")
    opened.page.locator(".ich-suggest-list [data-part=dismiss]").first.click()  # taken up again
    opened.page.locator(".ich-suggest-list [data-part=show]").first.click()
    assert opened.slice == first
    said = opened.page.inner_text(".ich-hidden")
    assert said.startswith("Proposal 1 of 2: slice ") and "A accepts it" in said
    # A drag on the dashed box moves it, and draws no other.
    title = opened.page.locator("[aria-current=true]").get_attribute("title")
    assert title is not None and title.startswith(f"--slice {first} --box ")
    frame = [float(side) for side in title.split()[-1].split(",")]
    x, y = (frame[0] + frame[2]) / 2, (frame[1] + frame[3]) / 2
    opened.drag((x, y, x + 5, y + 3))
    assert not opened.sent and "adjusted" in rows(opened)[0]
    opened.press("a").settle()
    assert "accepted" in rows(opened)[0] and opened.ml(0)[1] > 0
    opened.page.evaluate("document.body.classList.toggle('dark', true)")
    opened.press("s")
    look(opened, "dark")


@pytest.mark.slow
def test_a_box_on_a_calcification_is_told(
    opened: Viewer, sample: CTVolume, reference: npt.NDArray[np.bool_]
) -> None:
    """The plexus of a lateral ventricle, on a slice with blood elsewhere."""
    k = int(reference.sum(axis=(1, 2)).argmax())
    inside = ndimage.binary_erosion(
        intracranial(sample.hu_zyx[k].astype(np.float32)), iterations=20
    )
    hard = (sample.hu_zyx[k] > 120) & ndimage.binary_fill_holes(inside)
    labels, _ = ndimage.label(hard)
    box = box_from_mask(labels == 1 + int(np.bincount(labels.ravel())[1:].argmax()), 2)
    assert box is not None
    before = opened.frame(0)
    opened.go_to(k).draw(box.xyxy)
    assert opened.ml(0)[0] > 0  # the mask is kept
    line = opened.page.wait_for_selector(".ich-looks:visible", timeout=PATIENCE_MS)
    assert line is not None and "looks like bone or calcification" in line.inner_text()
    assert opened.frame(0) == before  # the picture stays where it is: the next box may be under way
    look(opened, "looks")
