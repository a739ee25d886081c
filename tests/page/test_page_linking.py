"""Two scans of one person linked on the page: the motion, the other's marks on this one's grid, and carrying over."""

from __future__ import annotations

import json
from datetime import datetime
from typing import Any

import numpy as np
import pygltflib
import pytest

from ichseg.page import linking
from ichseg.page.controller import Controller
from ichseg.scan.inner_table import Match
from ichseg.scan.registration import Registration
from ichseg.scan.volume import CTVolume
from tests.pages import Page
from tests.two_heads import MOTION, baseline, followup

SURE = Match(0.4, 0.9, 500.0)


@pytest.fixture
def page(controller: Controller, monkeypatch: pytest.MonkeyPatch) -> Page:
    """A head with a marked clot, and its follow-up on screen; the motion between them is known."""
    (first, clot), (second, _) = baseline(14.0), followup(18.0)
    counted: list[int] = []

    def register(*scans: CTVolume, **_: object) -> Registration:
        counted.append(1)
        assert [len(scan.hu_zyx) for scan in scans] == [len(first.hu_zyx), len(second.hu_zyx)]
        return Registration(MOTION, SURE)

    monkeypatch.setattr(linking, "register", register)
    page = Page(controller, "x")
    controller.shared.read = lambda path, **_: first
    page.ask("sample")
    k = int(clot.sum(axis=(1, 2)).argmax())
    rows, columns = np.flatnonzero(clot[k].any(1)), np.flatnonzero(clot[k].any(0))
    box = [int(columns[0]), int(rows[0]), int(columns[-1]) + 1, int(rows[-1]) + 1]
    for at in range(k - 2, k + 3):
        page.ask("boxes", slice=at, lesion=1, boxes=[box])
    page.ask("lesion_set", lesion=1, name="Putamen", type="IPH")
    controller.shared.read = lambda path, **_: second
    page.ask("sample", role="followup")
    page.counted = counted  # type: ignore[attr-defined]
    return page


def test_lesions_are_carried_over_as_one_step_and_keep_name_and_type(page: Page) -> None:
    done = page.ask("carry")
    assert "error" not in done or done["error"] is None
    (lesion,) = done["lesions"]
    assert (lesion["name"], lesion["type"]) == ("Putamen", "IPH") and lesion["ml"] > 5
    assert set(done["slices"]) and "look at every slice" in done["said"][0]
    assert done["totals"]["two"] > 0  # every method shown answers the boxes
    undone = page.ask("undo")
    assert undone["totals"]["one"] == 0 and undone["lesions"][0]["name"] == "Lesion 1"
    assert len(page.counted) == 1  # type: ignore[attr-defined]


def test_the_browser_is_told_where_the_other_scan_is_and_what_is_marked_on_it(page: Page) -> None:
    link = page.ask("link")["link"]
    json.dumps(link, allow_nan=False)
    assert link["sure"] and link["case"] == page.case != link["token"]
    np.testing.assert_allclose(link["matrix"], MOTION)
    (first, _), (second, _) = baseline(14.0), followup(18.0)
    where, there = second.geometry, first.geometry
    # As the browser goes: from a pixel to mm, by the motion, to the other's voxels.
    index = np.array([20.0, 40.0, 60.0])
    p = np.array(link["own"]["origins"][20]) + 40 * where.y_step_mm + 60 * where.x_step_mm
    q = Registration(np.array(link["matrix"]), None).to_baseline([p])
    other = link["other"]
    z = np.interp(q[0] @ other["normal"], other["positions"], range(len(other["positions"])))
    low = int(z)
    origin = np.array(other["origins"][low]) + (z - low) * np.subtract(
        other["origins"][low + 1], other["origins"][low]
    )
    found = [z, np.dot(other["to_down"], q[0] - origin), np.dot(other["to_right"], q[0] - origin)]
    np.testing.assert_allclose(found, there.to_index(q)[0], atol=1e-9)
    np.testing.assert_allclose(where.to_index([p])[0], index, atol=1e-9)
    # The baseline's marks lie about the same clot.
    slices = sorted(map(int, link["slices"]))
    assert slices and link["lesions"][0]["id"] == 1
    page.ask("switch", role="baseline", have=True)
    back = page.ask("link")["link"]
    np.testing.assert_allclose(np.array(back["matrix"]) @ MOTION, np.eye(4), atol=1e-9)
    assert back["slices"] == {}  # nothing is marked on the follow-up
    assert "the baseline is on screen" in page.ask("carry")["error"]["text"]
    assert len(page.counted) == 1  # type: ignore[attr-defined]


def test_two_heads_are_not_carried_over(page: Page, monkeypatch: pytest.MonkeyPatch) -> None:
    unsure = Registration(MOTION, Match(2.2, 6.0, 500.0))
    monkeypatch.setattr(linking, "register", lambda *_, **__: unsure)
    refused = page.ask("carry")
    assert "check that both scans are of one person" in refused["error"]["text"]
    assert refused["totals"]["one"] == 0
    assert not page.ask("link")["link"]["sure"]  # to look at both is allowed


def test_a_link_needs_a_follow_up(controller: Controller) -> None:
    page = Page(controller, "y")
    page.ask("sample")
    assert "there is no follow-up; open it first" in page.ask("link")["error"]["text"]


def test_the_hours_are_those_of_the_headers_until_a_person_says_others(
    controller: Controller, page: Page
) -> None:
    page.ask("carry")
    session = controller.shared.store._sessions["x"]
    session.cases["baseline"].acquired_at = datetime(2024, 1, 1, 8)
    session.cases["followup"].acquired_at = datetime(2024, 1, 1, 14)

    def hours() -> float | None:
        reply = controller.answer("x", {"case": page.case, "ops": [], "followup": True})
        return dict(reply["growth"])["growth"]["hours"]

    assert hours() == 6
    page.ask("asked", hours=4)
    assert hours() == 4


def test_the_growth_map_is_on_the_grid_of_the_scan_on_screen_and_in_the_3d_view(
    controller: Controller, page: Page
) -> None:
    def view() -> dict[str, Any]:
        wanted = {"have": None, "view": True, "viewed": None, "map": True}
        message = {"case": page.case, "aside": {"slice": 1, "measure": wanted}}
        return dict(controller.aside("x", message)["measures"]["view"])

    page.ask("carry")
    session = controller.shared.store.get("x")
    known, session.registered = session.registered, None
    assert "registered; these are not yet; show them side by side" in view()["why"]
    session.registered = known
    shown = view()
    tree = pygltflib.GLTF2().load(shown["path"])
    nodes = {node.name: node.mesh for node in tree.nodes if node.mesh is not None}
    assert shown["map"] is True and {"in both", "only now", "Skull"} <= nodes.keys()
    alphas = {
        name: tree.materials[tree.meshes[mesh].primitives[0].material].alphaMode
        for name, mesh in nodes.items()
    }
    assert (alphas["in both"], alphas["only now"]) == ("OPAQUE", "BLEND")
    case = session.cases["followup"]
    own = case.segmentation.mask_zyx("one")
    labels = linking.map_on_screen(controller.shared, session)
    np.testing.assert_array_equal(np.isin(labels, [1, 3]), own)
    assert 0 < np.count_nonzero(labels == 1) < np.count_nonzero(own)
    page.ask("switch", role="baseline")
    labels = linking.map_on_screen(controller.shared, session)
    own = session.cases["baseline"].segmentation.mask_zyx("one")
    np.testing.assert_array_equal(np.isin(labels, [1, 2]), own)
