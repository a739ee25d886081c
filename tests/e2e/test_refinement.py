"""A box is answered at once and refined after it, while a person goes on. The networks' own: test_networks.py, slow."""

from __future__ import annotations

import pytest

from tests.e2e.conftest import Server
from tests.e2e.sample_boxes import Mask, Visit, boxes_on, largest


@pytest.mark.slow
def test_a_box_is_refined_after_its_first_answer_while_a_person_goes_on(
    visit: Visit, refining_server: Server, reference: Mask
) -> None:
    viewer = visit(refining_server.url).open_sample()
    page, slices = viewer.page, largest(reference, 3)
    viewer.do("edge").settle()  # at half height both answers may end at the same place
    viewer.go_to(slices[0]).draw(boxes_on(reference, slices[0])[0], wait=False).answered()
    at_once = viewer.ml(0)
    assert at_once[0] > 0 and page.get_attribute(".ich", "data-rough") == "1"
    corner = page.locator(".ich-corner[data-corner=state]")
    assert corner.all_inner_texts() == ["Refining…", ""]
    viewer.settle()
    closer = viewer.ml(0)
    assert closer[0] > 1.5 * at_once[0] and corner.all_inner_texts() == ["", ""]
    said = page.inner_text(".ich-hidden").partition(" mL here")[0].split()[-1]
    assert float(said) == closer[0]
    viewer.press("Control+z").answered()
    assert viewer.ml(0) == (0, 0)
    viewer.press("Control+Shift+z").answered()
    assert viewer.ml(0) == closer and page.get_attribute(".ich", "data-rough") == "0"

    for k in slices[1:]:
        viewer.go_to(k).draw(boxes_on(reference, k)[0], wait=False)
    viewer.answered()
    viewer.press("ArrowUp", "ArrowUp", "ArrowDown")  # the slice changes while it refines
    viewer.go_to(slices[0]).settle()
    parts = [viewer.go_to(k).ml(0)[0] for k in slices]
    assert viewer.ml(0)[1] == pytest.approx(sum(parts), abs=0.06)
