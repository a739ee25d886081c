"""The whole hematoma from one box, lesions, and corrections by hand, as a person does them."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from ichseg.marks.box import boxes_from_mask
from ichseg.sample import sample_paths
from ichseg.scan.volume import CTVolume
from tests.e2e.sample_boxes import (
    Mask,
    Visit,
    largest_slice,
    ml,
)


def test_lesions_are_added_named_typed_and_locked(
    visit: Visit, reference: Mask, largest_lesion: Mask
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
    # What is being typed outlives an answer that comes meanwhile, and what is selected stays so.
    name.fill("Fourth")
    page.locator(".ich-lesion-list select").nth(1).evaluate(
        "node => node.dispatchEvent(new Event('change'))"
    )
    viewer.answered()
    assert name.input_value() == "Fourth"
    name.fill("Left ventricle")
    name.press("Enter")
    viewer.answered()
    assert page.inner_text(".ich-lesion-name") == "Left ventricle"

    rest = [
        component.grow(3, reference.shape[1:])
        for component in boxes_from_mask(reference[k] & ~largest_lesion[k])
        if (reference[k] & ~largest_lesion[k])[component.slices()].sum() > 60
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


def test_a_limited_brush_marks_blood_alone(visit: Visit, largest_lesion: Mask) -> None:
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
    visit: Visit, sample: CTVolume, reference: Mask
) -> None:
    viewer = visit().open_sample().do("correct")
    viewer.page.set_input_files(".ich-mask-file", str(sample_paths()[1]))
    viewer.page.wait_for_function("document.querySelector('.ich').dataset.done >= 3")
    viewer.answered()
    assert viewer.alert_text() == ""
    assert viewer.ml(0)[1] == pytest.approx(ml(reference, sample), abs=0.06)
    assert viewer.ml(1)[1] == 0
    viewer.tool("erase")
    k = viewer.slice
    box = boxes_from_mask(reference[k])[0]
    viewer.drag(box.xyxy)
    assert viewer.ml(0)[1] < ml(reference, sample)


def test_a_saved_session_brings_everything_back(
    visit: Visit, largest_lesion: Mask, tmp_path: Path
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
