"""Boxes: the answers to them, their refinement, undo and clearing."""

from __future__ import annotations

import threading
import time
from pathlib import Path

import numpy as np
import pytest

from ichseg.files.session import load_session
from ichseg.marks.box import Box
from ichseg.measures.volume import volume_ml
from ichseg.methods.predictor import SliceMasks
from ichseg.page.controller import Controller
from ichseg.scan.volume import content_sha256
from tests.pages import (
    COLUMNS,
    ROWS,
    SLICES,
    BoxModel,
    CloserModel,
    Embedding,
    Page,
    area_ml,
    rested,
    wait_until,
)


def test_a_box_gives_both_masks_and_millilitres(controller: Controller) -> None:
    page = Page(controller, "x")
    scan = page.ask("sample")["scan"]
    assert scan["shape"] == [SLICES, ROWS, COLUMNS] and Path(scan["voxels"]).is_file()
    reply = page.ask("boxes", slice=3, boxes=[[2, 4, 6, 7]])
    state = reply["slices"]["3"]
    assert state["masks"]["one"]["1"] == [
        130,
        134,
        162,
        166,
        194,
        198,
    ]  # rows 4 to 6, columns 2 to 5
    assert state["ml"] == {"one": area_ml(12), "two": area_ml(12)}
    assert reply["totals"] == {"one": area_ml(12), "two": area_ml(12)}
    assert (reply["undo"], reply["redo"], reply["error"]) == (True, False, None)


def test_boxes_of_a_slice_make_one_mask_and_slices_add_up(controller: Controller) -> None:
    page = Page(controller, "x")
    page.ask("sample")
    page.ask("boxes", slice=1, boxes=[[0, 0, 4, 4], [2, 0, 6, 4]])  # 16 + 16 - 8 in common
    reply = page.ask("boxes", slice=4, boxes=[[0, 0, 10, 1]])
    assert reply["slices"]["4"]["ml"]["one"] == area_ml(10)
    assert reply["totals"]["one"] == pytest.approx(area_ml(24) + area_ml(10))
    case = controller.store.get("x").case
    assert case is not None and case.volume is not None
    total = volume_ml(case.segmentation.mask_zyx("one"), case.volume)
    assert reply["totals"]["one"] == pytest.approx(total)


def test_a_further_box_costs_one_decoding(
    controller: Controller, fakes: dict[str, BoxModel]
) -> None:
    page = Page(controller, "x")
    page.ask("sample")
    page.ask("boxes", slice=1, boxes=[[0, 0, 4, 4]])
    page.ask("boxes", slice=1, boxes=[[0, 0, 4, 4], [8, 8, 12, 12]])
    page.ask("undo")
    page.ask("redo")
    assert fakes["one"].predicted == 2
    assert fakes["one"].embedded.count(1.0) == 1


def test_an_operation_that_was_done_is_not_done_again(controller: Controller) -> None:
    page = Page(controller, "x")
    page.ask("sample")
    op = {"op": "boxes", "id": 2, "slice": 1, "boxes": [[0, 0, 4, 4]]}
    message = {"case": page.case, "ops": [op]}
    controller.answer("x", message)
    again = controller.answer("x", message)
    assert again["slices"] == {} and again["done"] == 2
    assert again["again"]["slices"]["1"]["boxes"][
        "1"
    ]  # the page may not have heard the first answer
    assert not Page.ask(page, "redo")["redo"]


def test_operations_sent_together_are_done_in_order(controller: Controller) -> None:
    page = Page(controller, "x")
    page.ask("sample")
    boxes = [[n, n, n + 4, n + 4] for n in range(5)]
    ops = [{"op": "boxes", "id": 2 + n, "slice": 0, "boxes": [box]} for n, box in enumerate(boxes)]
    reply = controller.answer("x", {"case": page.case, "ops": ops})
    assert reply["done"] == 6
    assert reply["slices"]["0"]["boxes"]["1"] == [(4.0, 4.0, 8.0, 8.0)]


def test_undo_redo_and_clear_tell_which_slices_changed(controller: Controller) -> None:
    page = Page(controller, "x")
    page.ask("sample")
    page.ask("boxes", slice=1, boxes=[[0, 0, 4, 4]])
    page.ask("boxes", slice=2, boxes=[[0, 0, 4, 4]])
    cleared = page.ask("clear")
    assert set(cleared["slices"]) == {"1", "2"} and cleared["totals"] == {"one": 0, "two": 0}
    back = page.ask("undo")
    assert set(back["slices"]) == {"1", "2"} and back["totals"]["one"] == area_ml(32)
    assert set(page.ask("undo")["slices"]) == {"2"}
    forward = page.ask("redo")
    assert set(forward["slices"]) == {"2"} and forward["slices"]["2"]["ml"]["one"] == area_ml(16)
    one = page.ask("clear_slice", slice=1)
    gone = one["slices"]["1"]
    assert (gone["boxes"], gone["masks"], gone["ml"], gone["rough"]) == ({}, {}, {}, [])
    assert one["totals"]["one"] == area_ml(16)


def test_another_method_gets_masks_for_what_is_marked(controller: Controller) -> None:
    page = Page(controller, "x")
    page.ask("sample")
    page.ask("boxes", slice=1, boxes=[[0, 0, 4, 4]])
    page.ask("boxes", slice=2, boxes=[[0, 0, 2, 2]])
    page.last += 1
    op = {"op": "models", "id": page.last, "models": ["one", "three"], "slice": 0}
    replies = list(controller.work("x", {"case": page.case, "ops": [op]}))
    assert [reply["progress"]["part"] for reply in replies[:-1]] == [0, 0.5]
    assert replies[-1]["totals"] == {"one": area_ml(20), "three": area_ml(20)}
    assert page.ask("undo")["slices"]["2"]["boxes"] == {}  # choosing a method was not a step
    assert page.ask("undo")["totals"] == {"one": 0, "three": 0}
    assert page.ask("redo")["slices"]["1"]["ml"]["three"] == area_ml(16)


def test_a_model_that_fails_leaves_the_other_its_mask(
    controller: Controller, fakes: dict[str, BoxModel], monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object, **__: object) -> SliceMasks:
        raise RuntimeError("out of memory")

    monkeypatch.setattr(fakes["one"], "predict", fail)
    page = Page(controller, "x")
    page.ask("sample")
    reply = page.ask("boxes", slice=3, boxes=[[0, 0, 4, 4]])
    assert reply["trouble"] == {
        "one": "One failed on slice 4 (RuntimeError); choose another method, or try again."
    }
    assert reply["slices"]["3"]["ml"] == {"two": area_ml(16)}  # no mask is not an empty mask
    assert reply["totals"] == {"one": None, "two": area_ml(16)}
    assert "failed on slice 4" in page.ask("export", kind="mask")["error"]["text"]
    monkeypatch.delattr(fakes["one"], "predict")
    reply = page.ask("boxes", slice=3, boxes=[[0, 0, 4, 5]])
    assert reply["totals"] == {"one": area_ml(20), "two": area_ml(20)}


def test_a_bad_box_changes_nothing_and_says_why(controller: Controller) -> None:
    page = Page(controller, "x")
    page.ask("sample")
    page.ask("boxes", slice=1, boxes=[[0, 0, 4, 4]])
    for boxes in ([[4, 4, 0, 0]], [[float("nan"), 0, 4, 4]], [[100, 100, 120, 120]], [[1, 2, 3]]):
        reply = page.ask("boxes", slice=1, boxes=boxes)
        assert reply["error"]["text"].startswith("A box ")
        assert reply["slices"]["1"]["boxes"]["1"] == [(0.0, 0.0, 4.0, 4.0)]
    assert "slices 0 to 5" in page.ask("boxes", slice=9, boxes=[[0, 0, 4, 4]])["error"]["text"]


def test_a_box_is_answered_at_once_and_looked_at_again_in_passing(
    controller: Controller, closer: CloserModel
) -> None:
    page = Page(controller, "x")
    page.ask("sample")
    first = page.ask("boxes", slice=3, boxes=[[0, 0, 4, 4]])
    assert first["slices"]["3"]["ml"] == {"one": area_ml(16), "two": area_ml(16)}
    assert first["slices"]["3"]["rough"] == ["one"] and closer.looks == []
    better = rested(controller, page, 3)
    assert better["slices"]["3"]["ml"] == {"one": area_ml(4), "two": area_ml(16)}
    assert better["totals"] == {"one": area_ml(4), "two": area_ml(16)}
    assert better["slices"]["3"]["n"] > first["slices"]["3"]["n"]
    assert rested(controller, page, 3)["totals"] == better["totals"]
    assert closer.looks == [(3.0, Box(0, 0, 4, 4))]


def test_undo_redo_and_further_boxes_show_what_was_looked_at_and_nothing_is_looked_at_twice(
    controller: Controller, closer: CloserModel
) -> None:
    page = Page(controller, "x")
    page.ask("sample")
    page.ask("boxes", slice=1, boxes=[[0, 0, 4, 4]])
    page.ask("boxes", slice=1, boxes=[[0, 0, 4, 4], [8, 8, 12, 12]])
    rested(controller, page, 1)
    back = page.ask("undo")["slices"]["1"]  # the step before had the first answer when it was made
    assert back["ml"]["one"] == area_ml(4) and back["rough"] == []
    forward = page.ask("redo")["slices"]["1"]
    assert forward["ml"]["one"] == area_ml(8) and forward["rough"] == []
    more = page.ask("boxes", slice=1, boxes=[[0, 0, 4, 4], [8, 8, 12, 12], [16, 0, 20, 4]])
    assert more["slices"]["1"]["ml"]["one"] == area_ml(8 + 16)
    rested(controller, page, 1)
    assert [box.x0 for _, box in closer.looks] == [0, 8, 16]
    for count in (2, 1, 0):  # three edits, three steps: looking again was none
        assert len(page.ask("undo")["slices"]["1"]["boxes"].get("1", [])) == count


def test_a_download_looks_at_everything_first_and_says_how_far_it_is(
    controller: Controller, closer: CloserModel
) -> None:
    page = Page(controller, "x")
    page.ask("sample")
    page.ask("boxes", slice=1, boxes=[[0, 0, 4, 4]])
    page.ask("boxes", slice=4, boxes=[[0, 0, 6, 6]])
    rested(controller, page, 1)
    page.last += 1
    op = {"op": "export", "id": page.last, "kind": "record"}
    *progress, reply = controller.work("x", {"case": page.case, "ops": [op]})
    assert [one["progress"]["text"] for one in progress] == [
        "Refining the mask on slice 5",
        "Writing the file",
    ]
    assert reply["slices"]["4"]["ml"]["one"] == area_ml(6)
    assert reply["totals"]["one"] == pytest.approx(area_ml(10))
    session = load_session(reply["download"]["path"])
    case = controller.store.get("x").case
    assert case is not None and case.volume is not None and session.second_look is True
    again = np.zeros(case.volume.shape_zyx, dtype=bool)  # as the command line makes it
    for k, boxes in session.boxes.items():
        embedding = closer.embed(case.volume.hu_zyx[k])
        found = closer.predict(embedding, list(boxes), second_look=session.second_look)
        again[k] = found.masks.any(axis=0)
    assert session.mask_sha256 == content_sha256(again)


def test_who_draws_is_answered_before_the_second_look_goes_on(
    controller: Controller, closer: CloserModel
) -> None:
    page = Page(controller, "x")
    page.ask("sample")
    boxes = [[x, 0, x + 2, 4] for x in range(0, 12, 2)]
    page.ask("boxes", slice=1, boxes=boxes)
    closer.seconds = 0.1
    asking = threading.Thread(
        target=controller.aside, args=("x", {"case": page.case, "aside": {"slice": 1}})
    )
    asking.start()
    wait_until(lambda: len(closer.looks) == 1)
    controller.look("x", {"case": page.case, "slice": 2, "busy": True})
    looked = len(closer.looks)
    start = time.monotonic()
    reply = page.ask("boxes", slice=2, boxes=[[0, 0, 4, 4]])
    assert time.monotonic() - start < 0.5  # not the six looks, nor the wait for a person to rest
    assert reply["slices"]["2"]["rough"] == ["one"]
    assert len(closer.looks) <= looked + 1 < len(boxes)
    asking.join()


def test_a_box_that_is_gone_is_not_looked_at(controller: Controller, closer: CloserModel) -> None:
    page = Page(controller, "x")
    page.ask("sample")
    page.ask("boxes", slice=1, boxes=[[0, 0, 4, 4]])
    page.ask("clear")
    reply = controller.aside("x", {"case": page.case, "aside": {"slice": 1}})
    assert closer.looks == [] and reply["slices"]["1"]["masks"] == {}
    for aside in ({"slice": 99}, {"slice": -1}):
        assert controller.aside("x", {"case": page.case, "aside": aside})["slices"] == {}
    stranger = controller.aside("x", {"case": "another's", "aside": {"slice": 1}})
    assert stranger["slices"] == {}


def test_a_second_look_that_fails_is_told_once_and_stops_no_box_but_the_download(
    controller: Controller, closer: CloserModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    page = Page(controller, "x")
    page.ask("sample")
    page.ask("boxes", slice=1, boxes=[[0, 0, 4, 4]])
    whole = closer.predict

    def fail(
        embedding: Embedding, boxes: list[Box], *, second_look: bool | None = None
    ) -> SliceMasks:
        if second_look:
            raise RuntimeError("out of memory")
        return whole(embedding, boxes, second_look=second_look)

    monkeypatch.setattr(closer, "predict", fail)
    reply = controller.aside("x", {"case": page.case, "aside": {"slice": 1}})
    assert "could not refine its mask on slice 2 (RuntimeError)" in reply["trouble"]["one"]
    assert reply["slices"]["1"]["rough"] == []  # so that the page does not ask for ever
    assert reply["totals"]["one"] == area_ml(16)
    assert "could not refine its mask" in page.ask("export", kind="mask")["error"]["text"]
    monkeypatch.undo()
