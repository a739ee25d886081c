"""The whole hematoma from one box, lesions, and corrections by hand, as a person does them."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest
from scipy import ndimage

from ichseg.files.nifti_mask import read_mask
from ichseg.marks.box import Box, boxes_from_mask
from ichseg.sample import sample_paths
from ichseg.scan.volume import CTVolume
from tests.e2e.driver import Viewer

Visit = Callable[..., Viewer]
Truth = npt.NDArray[np.bool_]


@pytest.fixture(scope="module")
def largest_lesion(truth: Truth) -> Truth:
    """The largest connected component of the sample's blood, bool [z, y, x]."""
    labels, _ = ndimage.label(truth, np.ones((3, 3, 3)))
    return np.equal(labels, 1 + np.argmax(np.bincount(labels.ravel())[1:]))


def largest_slice(mask_zyx: Truth) -> tuple[int, Box]:
    """The slice where a lesion is largest, and a person's box around it there."""
    k = int(mask_zyx.sum(axis=(1, 2)).argmax())
    pieces = boxes_from_mask(mask_zyx[k])
    return k, max(pieces, key=lambda box: box.width * box.height).grow(5, mask_zyx.shape[1:])


def ml(mask_zyx: Truth, scan: CTVolume) -> float:
    return float((mask_zyx.sum(axis=(1, 2)) * scan.voxel_volumes_ml).sum())


def test_one_box_gives_the_whole_hematoma_which_is_corrected_undone_and_redone(
    visit_real: Visit, sample: CTVolume, largest_lesion: Truth, tmp_path: Path
) -> None:
    viewer = visit_real().open_sample()
    assert viewer.page.locator("[data-do=propagate]").is_disabled()
    k, box = largest_slice(largest_lesion)
    viewer.go_to(k).draw(box.xyxy)
    one_slice_ml = viewer.ml(0)[1]
    viewer.press("w").settle()
    whole_ml = viewer.ml(0)[1]
    assert whole_ml == pytest.approx(ml(largest_lesion, sample), rel=0.1)
    assert viewer.ml(1)[1] > viewer.ml(1)[0]  # the other method followed it, too
    reasons = viewer.page.inner_text(".ich-stops")
    assert "Stopped above slice" in reasons and "Stopped below slice" in reasons

    viewer.do("correct").tool("erase")
    centre_x, centre_y = (box.x0 + box.x1) / 2, (box.y0 + box.y1) / 2
    viewer.drag((centre_x - 10, centre_y, centre_x + 10, centre_y + 5))
    corrected_ml = viewer.ml(0)[1]
    assert corrected_ml < whole_ml - 0.05 and viewer.ml(1)[1] > 0
    viewer.press("Control+z").answered()
    assert viewer.ml(0)[1] == whole_ml
    viewer.press("Control+Shift+z").answered()
    assert viewer.ml(0)[1] == corrected_ml

    mask = read_mask(viewer.download("mask", tmp_path), sample) != 0
    assert ml(mask, sample) == pytest.approx(corrected_ml, abs=0.06)
    assert not mask[k, round(centre_y + 2), round(centre_x)]  # where the eraser went

    viewer.tool("box").press("Control+z", "Control+z").answered()
    assert viewer.ml(0)[1] == one_slice_ml


def test_following_is_cancelled_and_nothing_changes(
    visit_real: Visit, largest_lesion: Truth
) -> None:
    viewer = visit_real().open_sample()
    k, box = largest_slice(largest_lesion)
    viewer.go_to(k).draw(box.xyxy)
    before = viewer.ml(0), viewer.ml(1)
    viewer.press("w")
    viewer.page.locator("[data-do=cancel]").click()
    viewer.settle()
    assert (viewer.ml(0), viewer.ml(1)) == before
    assert viewer.page.locator(".ich-stops").is_hidden()


def test_lesions_are_added_named_typed_and_locked(
    visit: Visit, truth: Truth, largest_lesion: Truth
) -> None:
    viewer = visit().open_sample()
    page = viewer.page
    k, box = largest_slice(largest_lesion)
    viewer.go_to(k).draw(box.xyxy)
    first_ml = viewer.ml(0)[0]
    viewer.press("l").do("lesion_add").answered()
    page.locator(".ich-lesion-list select").nth(1).select_option("IVH")
    name = page.locator(".ich-lesion-list [data-part=name]").nth(1)
    name.fill("Left ventricle")
    name.press("Enter")
    viewer.answered()
    assert page.inner_text(".ich-lesion-name") == "Left ventricle"

    rest = [
        piece.grow(3, truth.shape[1:])
        for piece in boxes_from_mask(truth[k] & ~largest_lesion[k])
        if (truth[k] & ~largest_lesion[k])[piece.slices()].sum() > 60
    ]
    viewer.drag(rest[0].xyxy)
    both_ml = viewer.ml(0)[0]
    assert both_ml > first_ml
    amounts = [
        float(text.removesuffix(" mL")) for text in page.locator(".ich-lesion-ml").all_inner_texts()
    ]
    assert sum(amounts) == pytest.approx(both_ml, abs=0.02)

    page.locator("[data-part=locked]").nth(1).click()
    viewer.answered().drag((20, 20, 60, 60))
    assert "Left ventricle is locked" in viewer.alert()
    assert viewer.ml(0)[0] == both_ml
    page.locator("[data-part=type]").nth(1).select_option("oedema")
    viewer.answered()
    assert viewer.ml(0)[0] == pytest.approx(first_ml, abs=0.011)  # oedema is no blood


def test_a_brush_is_moved_by_the_keyboard(visit: Visit) -> None:
    viewer = visit().open_sample().press("e").tool("brush")
    viewer.page.locator(".ich-stage canvas").first.focus()
    viewer.press("b", "ArrowRight", "Enter").settle()
    dab_ml = viewer.ml(0)[1]
    dy, dx = viewer.spacing_mm[1:]
    disc_ml = np.pi * 2**2 * viewer.spacing_mm[0] / 1000
    assert dab_ml == pytest.approx(disc_ml, abs=4 * dx * dy * viewer.spacing_mm[0] / 1000)
    viewer.press("ArrowRight", "]", "Enter").settle()
    assert viewer.ml(0)[1] > dab_ml
    viewer.press("Escape", "ArrowDown")  # the tip is put away: arrows change the slice again
    assert viewer.slice == viewer.shape_zyx[0] // 2 + 1


def test_a_limited_brush_marks_blood_alone(visit: Visit, largest_lesion: Truth) -> None:
    viewer = visit().open_sample()
    k, box = largest_slice(largest_lesion)
    viewer.go_to(k).do("correct").tool("brush")
    viewer.page.check(".ich-limit")
    viewer.page.locator(".ich-radius").fill("12")
    middle = (box.y0 + box.y1) / 2
    viewer.drag((box.x0, middle, box.x1, middle))
    limited_ml = viewer.ml(0)[0]
    viewer.press("Control+z").answered()
    viewer.page.uncheck(".ich-limit")
    viewer.drag((box.x0, middle, box.x1, middle))
    assert 0 < limited_ml < viewer.ml(0)[0]


def test_work_goes_on_with_a_mask_that_was_saved(
    visit: Visit, sample: CTVolume, truth: Truth
) -> None:
    viewer = visit().open_sample().do("correct")
    viewer.page.set_input_files(".ich-mask-file", str(sample_paths()[1]))
    viewer.page.wait_for_function("document.querySelector('.ich').dataset.done >= 3")
    viewer.answered()
    assert viewer.alert_text() == ""
    assert viewer.ml(0)[1] == pytest.approx(ml(truth, sample), abs=0.06)
    assert viewer.ml(1)[1] == 0
    viewer.tool("erase")
    k = viewer.slice
    box = boxes_from_mask(truth[k])[0]
    viewer.drag(box.xyxy)
    assert viewer.ml(0)[1] < ml(truth, sample)


def test_a_saved_session_brings_everything_back(
    visit: Visit, largest_lesion: Truth, tmp_path: Path
) -> None:
    viewer = visit().open_sample()
    k, box = largest_slice(largest_lesion)
    viewer.go_to(k).draw(box.xyxy)
    viewer.press("w", "e").settle().tool("erase")
    viewer.drag((box.x0, box.y0, box.x1, box.y1))
    total_ml = viewer.ml(0)[1]
    saved = viewer.download("record", tmp_path)
    viewer.tool("box").do("clear").answered()
    assert viewer.ml(0)[1] == 0
    viewer.page.set_input_files(".ich-mask-file", str(saved))
    viewer.page.wait_for_function("() => !document.querySelector('[data-save=mask]').disabled")
    viewer.settle()
    assert viewer.ml(0)[1] == total_ml
    viewer.press("Control+z").answered()
    assert viewer.ml(0)[1] == 0  # what was there before is an undo away
