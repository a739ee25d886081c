"""Lesions, corrections by hand and the whole hematoma, as a page asks for them."""

from __future__ import annotations

import json
import shutil
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from ichseg.files.names import lesions_path
from ichseg.files.nifti_mask import write_mask
from ichseg.files.session import load_session, segmentation_record
from ichseg.files.write import save_mask
from ichseg.marks.lesion import Lesion
from ichseg.page.controller import Controller
from ichseg.page.embeddings import Embeddings
from ichseg.scan.volume import CTVolume
from tests import phantoms
from tests.pages import (
    COLUMNS,
    ROWS,
    SLICES,
    BoxModel,
    BrightModel,
    Embedding,
    Page,
    area_ml,
    numbered_scan,
    wait_until,
)

BOX = [4, 4, 12, 12]


def opened(controller: Controller) -> Page:
    page = Page(controller, "x")
    page.ask("sample")
    return page


def first_mask(reply: dict[str, Any], k: int, lesion: int = 1) -> np.ndarray[Any, Any]:
    """The first model's mask of a lesion on a slice, from its runs."""
    mask = np.zeros(ROWS * COLUMNS, dtype=bool)
    turns = iter(reply["slices"][str(k)]["masks"]["one"][str(lesion)])
    for start, stop in zip(turns, turns, strict=True):
        mask[start:stop] = True
    return mask.reshape(ROWS, COLUMNS)


def uploaded(path: str | Path, place: Path) -> dict[str, str]:
    """A copy of a file in a folder of its own, as Gradio puts uploads, and how the page names it."""
    place.mkdir()
    return {"path": shutil.copy(path, place), "name": Path(path).name}


# Lesions


def test_each_lesion_has_its_boxes_and_its_millilitres(controller: Controller) -> None:
    page = opened(controller)
    page.ask("boxes", slice=2, lesion=1, boxes=[BOX])
    added = page.ask("lesion_add")
    assert added["lesion"] == 2 and [one["id"] for one in added["lesions"]] == [1, 2]
    reply = page.ask("boxes", slice=2, lesion=2, boxes=[[20, 4, 24, 6]])
    state = reply["slices"]["2"]
    assert state["boxes"] == {"1": [tuple(map(float, BOX))], "2": [(20.0, 4.0, 24.0, 6.0)]}
    assert [one["ml"] for one in reply["lesions"]] == [area_ml(64), area_ml(8)]
    assert reply["totals"]["one"] == area_ml(72)
    oedema = page.ask("lesion_set", lesion=2, type="oedema")
    assert oedema["totals"]["one"] == area_ml(64)  # oedema is no blood
    assert oedema["lesions"][1]["ml"] == area_ml(8)
    assert oedema["slices"]["2"]["ml"]["one"] == area_ml(64)
    assert page.ask("undo")["slices"]["2"]["ml"]["one"] == area_ml(72)


def test_a_locked_lesion_refuses_boxes_and_corrections_and_keeps_its_voxels(
    controller: Controller,
) -> None:
    page = opened(controller)
    page.ask("boxes", slice=2, lesion=1, boxes=[BOX])
    page.ask("lesion_add")
    page.ask("lesion_set", lesion=1, locked=True)
    refused = page.ask("boxes", slice=2, lesion=1, boxes=[[0, 0, 2, 2]])
    assert "locked" in refused["error"]["text"] and "unlock" in refused["error"]["text"]
    refused = page.ask("correct", tool="fill", slice=2, lesion=1)
    assert "locked" in refused["error"]["text"]
    over = page.ask(
        "boxes", slice=2, lesion=2, boxes=[[4, 4, 14, 12]]
    )  # 80 pixels, 64 of them taken
    assert [one["ml"] for one in over["lesions"]] == [area_ml(64), area_ml(16)]


def test_removing_a_lesion_takes_its_masks_and_undo_brings_them_back(
    controller: Controller,
) -> None:
    page = opened(controller)
    page.ask("lesion_add")
    page.ask("boxes", slice=3, lesion=2, boxes=[BOX])
    gone = page.ask("lesion_remove", lesion=2)
    assert gone["slices"]["3"]["boxes"] == {} and gone["totals"]["one"] == 0
    back = page.ask("undo")
    assert back["totals"]["one"] == area_ml(64) and len(back["lesions"]) == 2


# Corrections


def test_a_brush_adds_to_the_first_methods_mask_and_leaves_the_others(
    controller: Controller,
) -> None:
    page = opened(controller)
    page.ask("boxes", slice=2, boxes=[BOX])
    reply = page.ask(
        "correct", tool="brush", slice=2, lesion=1, points=[[20.5, 8.5]], radius_mm=0.25
    )
    state = reply["slices"]["2"]
    assert state["origin"] == {"1": "edited"}
    assert "show" not in reply  # the person may be on another slice by now
    assert state["ml"] == {"one": area_ml(65), "two": area_ml(64)}
    assert first_mask(reply, 2)[8, 20]


def test_a_brush_within_a_range_marks_only_what_is_in_it(controller: Controller) -> None:
    page = opened(controller)  # slice 2 holds 2 HU everywhere
    for hu_range, pixels in (([3, 90], 0), ([2, 90], 1)):
        reply = page.ask(
            "correct",
            tool="brush",
            slice=2,
            lesion=1,
            points=[[20.5, 8.5]],
            radius_mm=0.25,
            hu_range=hu_range,
        )
        assert reply["totals"]["one"] == area_ml(pixels)


def test_an_eraser_that_is_undone_and_redone(controller: Controller) -> None:
    page = opened(controller)
    page.ask("boxes", slice=2, boxes=[BOX])
    erased = page.ask(
        "correct", tool="erase", slice=2, lesion=1, points=[[4.5, 4.5], [11.5, 4.5]], radius_mm=0.25
    )
    assert erased["totals"]["one"] == area_ml(56)  # a row of eight
    assert page.ask("undo")["totals"]["one"] == area_ml(64)
    assert page.ask("redo")["totals"]["one"] == area_ml(56)


def test_a_component_is_taken_away_where_it_is_pointed_at(controller: Controller) -> None:
    page = opened(controller)
    page.ask("boxes", slice=2, boxes=[BOX, [20, 4, 24, 6]])
    reply = page.ask("correct", tool="component", slice=2, lesion=1, points=[[21.3, 5.9]])
    assert reply["totals"] == {"one": area_ml(64), "two": area_ml(72)}


def test_a_copy_goes_to_its_slice_and_what_was_there_stays(controller: Controller) -> None:
    page = opened(controller)
    page.ask("boxes", slice=2, boxes=[BOX])
    page.ask("boxes", slice=3, boxes=[[20, 4, 24, 6]])
    reply = page.ask("correct", tool="copy", slice=2, lesion=1, onto=3)
    assert reply["show"] == 3
    assert reply["slices"]["3"]["ml"] == {"one": area_ml(72), "two": area_ml(8)}


def test_slices_between_two_corrected_ones_are_filled_in(controller: Controller) -> None:
    page = opened(controller)
    for k in (1, 4):
        page.ask("boxes", slice=k, boxes=[BOX])
    refused = page.ask("correct", tool="between", slice=1, lesion=1)
    assert (
        "corrected by hand" in refused["error"]["text"] and "got none" in refused["error"]["text"]
    )
    for k in (1, 4):
        page.ask("correct", tool="erase", slice=k, lesion=1, points=[[4.5, 4.5]], radius_mm=0.25)
    reply = page.ask("correct", tool="between", slice=1, lesion=1)
    assert set(reply["slices"]) == {"2", "3"}
    assert first_mask(reply, 2)[5:11, 5:11].all() and not first_mask(reply, 2)[:, 14:].any()
    assert page.ask("undo")["slices"]["2"]["masks"] == {}


def test_an_unknown_tool_is_refused_in_a_sentence(controller: Controller) -> None:
    page = opened(controller)
    text = page.ask("correct", tool="scissors", slice=1, lesion=1)["error"]["text"]
    assert "brush" in text and "'scissors'" in text


def test_a_corrected_slice_is_not_looked_at_again(
    controller: Controller, fakes: dict[str, BoxModel]
) -> None:
    fakes["one"].second_look = True
    page = opened(controller)
    assert page.ask("boxes", slice=2, boxes=[BOX])["slices"]["2"]["rough"] == ["one"]
    reply = page.ask(
        "correct", tool="erase", slice=2, lesion=1, points=[[5.5, 5.5]], radius_mm=0.25
    )
    assert reply["slices"]["2"]["rough"] == []
    after = controller.aside("x", {"case": page.case, "aside": {"slice": 2}})
    assert after["totals"]["one"] == area_ml(63)


# The edge


def test_the_edge_is_taken_off_and_drawn_again_and_is_a_step_of_undo(
    controller: Controller, monkeypatch: pytest.MonkeyPatch
) -> None:
    def without_first_column(
        mask: np.ndarray[Any, Any], *_: object
    ) -> tuple[np.ndarray[Any, Any], tuple[()]]:
        out = mask.copy()
        out[:, :5] = False
        return out, ()

    monkeypatch.setattr("ichseg.methods.catalogue.takes_edge", lambda name: name == "one")
    monkeypatch.setattr("ichseg.methods.edge_step.half_height_edge", without_first_column)
    page = opened(controller)
    with_edge = page.ask("boxes", slice=2, boxes=[BOX])
    assert with_edge["edge"] is True and with_edge["totals"] == {
        "one": area_ml(56),
        "two": area_ml(64),
    }
    off = page.ask("edge", on=False)
    assert off["edge"] is False and off["totals"]["one"] == area_ml(64)
    assert page.ask("undo")["totals"]["one"] == area_ml(56)
    assert page.ask("redo")["edge"] is False
    assert page.ask("edge", on=True)["slices"]["2"]["ml"]["one"] == area_ml(56)


# A mask that was saved before


def test_a_saved_mask_with_its_lesions_is_taken_up_as_corrections(
    controller: Controller, tmp_path: Path
) -> None:
    page = opened(controller)
    scan = numbered_scan()
    labels = np.zeros(scan.shape_zyx, dtype=np.uint8)
    labels[1, 4:8, 4:8], labels[3, 4:6, 4:10] = 1, 2
    saved = tmp_path / "saved"
    saved.mkdir()
    path = saved / "mask.nii.gz"
    save_mask(path, labels, scan, [Lesion(1, type="IPH"), Lesion(2, "Ventricle", "IVH")])
    files = [
        uploaded(file, tmp_path / str(number))
        for number, file in enumerate([path, lesions_path(path)])
    ]
    reply = page.ask("load", files=files)
    assert reply["error"] is None
    assert [(one["name"], one["type"]) for one in reply["lesions"]] == [
        ("Lesion 1", "IPH"),
        ("Ventricle", "IVH"),
    ]
    assert reply["totals"]["one"] == area_ml(28) and reply["show"] == 1
    assert reply["slices"]["3"]["origin"] == {"2": "edited"}
    assert page.ask("undo")["totals"]["one"] == 0


def test_labels_1_and_2_that_nobody_typed_are_what_the_command_line_takes_them_for(
    controller: Controller, tmp_path: Path
) -> None:
    page = opened(controller)
    labels = np.zeros((SLICES, ROWS, COLUMNS), dtype=np.uint8)
    labels[1, 4:8, 4:8], labels[3, 4:6, 4:10] = 1, 2
    path = tmp_path / "mask.nii.gz"
    write_mask(path, labels, numbered_scan())
    reply = page.ask("load", files=[uploaded(path, tmp_path / "given")])
    assert reply["error"] is None
    assert [one["type"] for one in reply["lesions"]] == ["IPH", "IVH"]
    assert any("taken for 1 intraparenchymal" in text for text in reply["said"])


def test_an_empty_mask_is_refused_and_nothing_changes(
    controller: Controller, tmp_path: Path
) -> None:
    page = opened(controller)
    page.ask("boxes", slice=2, boxes=[BOX])
    path = tmp_path / "empty.nii.gz"
    write_mask(path, np.zeros((SLICES, ROWS, COLUMNS), dtype=bool), numbered_scan())
    reply = page.ask("load", files=[{"path": str(path), "name": "empty.nii.gz"}])
    assert "empty.nii.gz is empty" in reply["error"]["text"]
    assert reply["totals"]["one"] == area_ml(64)


def test_a_saved_session_is_made_again_in_the_place_of_what_is_marked(
    controller: Controller, tmp_path: Path
) -> None:
    page = opened(controller)
    page.ask("boxes", slice=2, lesion=1, boxes=[BOX])
    page.ask("lesion_add", type="IVH")
    page.ask("boxes", slice=3, lesion=2, boxes=[[20, 4, 24, 6]])
    page.ask("correct", tool="erase", slice=2, lesion=1, points=[[4.5, 4.5]], radius_mm=0.25)
    saved = page.ask("export", kind="record")["download"]
    page.ask("lesion_set", lesion=1, locked=True)
    given = uploaded(saved["path"], tmp_path / "first")
    assert "is locked" in page.ask("load", files=[given])["error"]["text"]
    page.ask("lesion_set", lesion=1, locked=False)
    page.ask("clear")
    page.ask("boxes", slice=0, lesion=1, boxes=[BOX])
    reply = page.ask("load", files=[uploaded(saved["path"], tmp_path / "second")])
    assert reply["error"] is None
    assert [(one["type"], one["ml"]) for one in reply["lesions"]] == [
        ("unspecified", area_ml(63)),
        ("IVH", area_ml(8)),
    ]
    assert set(reply["slices"]) == {"0", "2", "3"} and reply["show"] == 2
    assert reply["totals"] == {"one": area_ml(71), "two": area_ml(72)}
    assert page.ask("undo")["totals"]["one"] == area_ml(64)


def test_a_session_of_another_scan_is_refused_and_nothing_changes(
    controller: Controller, tmp_path: Path
) -> None:
    page = opened(controller)
    page.ask("boxes", slice=2, boxes=[BOX])
    saved = json.loads(Path(page.ask("export", kind="record")["download"]["path"]).read_text())
    saved["scan"]["sha256"] = "0" * 64
    other = tmp_path / "other.json"
    other.write_text(json.dumps(saved))
    reply = page.ask("load", files=[{"path": str(other), "name": "session.json"}])
    assert "belongs to the scan it was made on" in reply["error"]["text"]
    assert reply["totals"]["one"] == area_ml(64)


def test_what_the_page_kept_of_a_lost_scan_is_put_back_by_the_weights_that_are_here(
    controller: Controller, fakes: dict[str, BoxModel], tmp_path: Path
) -> None:
    """The page writes the record itself: of boxes, and of the masks that boxes do not give."""
    page = Page(controller, "x")
    scan = page.ask("sample")["scan"]
    method = page.ask("fetched")["method"]
    reply = page.ask("boxes", slice=2, boxes=[BOX])
    names = ("id", "name", "type", "colour", "locked", "visible")
    record = {
        **scan["record"],
        **method,
        "lesions": [{name: one[name] for name in names} for one in reply["lesions"]],
        "boxes": [{"slice": 2, "lesion": 1, "box_xyxy": BOX}],
        "propagated": [],
        "edits": [{"slice": 3, "lesion": 1, "origin": "edited", "runs": "5 7"}],
    }
    kept = tmp_path / "kept.json"
    kept.write_text(json.dumps(record))
    again = Page(controller, "y")
    assert again.ask("sample")["scan"]["record"]["scan"]["sha256"] == record["scan"]["sha256"]
    fakes["one"].weights_sha256 = {"adapter.safetensors": "0" * 64}  # another version by now
    refused = again.ask("load", files=[uploaded(kept, tmp_path / "first")])
    assert "its own weights" in refused["error"]["text"]
    assert load_session(kept).identity is not None
    reply = again.ask("load", anew=True, files=[uploaded(kept, tmp_path / "second")])
    assert reply["error"] is None and reply["method"]["weights_sha256"]
    assert reply["slices"]["3"]["origin"] == {"1": "edited"}
    assert reply["totals"]["one"] == pytest.approx(area_ml(64 + 7))


# The whole hematoma


@pytest.fixture
def ball() -> CTVolume:
    """A bright ball of 13 mm radius around slice 5 of 11, in brain of 30 HU."""
    scan = phantoms.scan(tuple(4.0 * np.arange(11)), (80, 80))
    z, y, x = np.meshgrid(
        4.0 * (np.arange(11) - 5),
        0.5 * (np.arange(80) - 40),
        0.5 * (np.arange(80) - 40),
        indexing="ij",
    )
    scan.hu_zyx[:] = np.where(z**2 + y**2 + x**2 <= 169, 65, 30)
    return scan


@pytest.fixture
def bright(fakes: dict[str, BoxModel], tmp_path: Path, ball: CTVolume) -> Iterator[Controller]:
    models = {name: BrightModel(name) for name in fakes}
    embeddings = Embeddings(models.__getitem__, budget_bytes=100_000)
    made = Controller(tmp_path, embeddings=embeddings, read=lambda path, **_: ball)
    yield made
    made.close()


MIDDLE = [12, 12, 69, 69]


def test_one_box_finds_the_whole_ball_by_every_method_as_one_step(
    bright: Controller, ball: CTVolume
) -> None:
    page = opened(bright)
    page.ask("boxes", slice=5, boxes=[MIDDLE])
    reply = page.ask("propagate", lesion=1)
    whole = ball.hu_zyx == 65
    slices = [str(k) for k in np.flatnonzero(whole.any(axis=(1, 2))) if k != 5]
    assert sorted(reply["slices"], key=int) == slices
    assert reply["slices"][slices[0]]["origin"] == {"1": "propagated"}
    true_ml = float((whole.sum(axis=(1, 2)) * ball.voxel_volumes_ml).sum())
    assert reply["totals"]["one"] == pytest.approx(true_ml)
    assert reply["totals"]["two"] == pytest.approx(true_ml)
    (stops,) = [one["stops"] for one in reply["lesions"]]
    assert {stop["direction"] for stop in stops} == {-1, 1}
    assert all("slice" in stop["sentence"] for stop in stops)
    back = page.ask("undo")
    assert sorted(back["slices"], key=int) == slices
    assert back["lesions"][0]["stops"] == []


def test_a_box_on_a_followed_slice_wins(bright: Controller) -> None:
    page = opened(bright)
    page.ask("boxes", slice=5, boxes=[MIDDLE])
    page.ask("propagate", lesion=1)
    own = page.ask("boxes", slice=6, boxes=[[30, 30, 40, 40]])
    assert own["slices"]["6"]["origin"] == {"1": "box"}
    again = page.ask("propagate", lesion=1)
    assert "6" not in again["slices"]


def test_a_propagation_that_is_cancelled_changes_nothing(bright: Controller) -> None:
    page = opened(bright)
    page.ask("boxes", slice=5, boxes=[MIDDLE])
    before = bright.answer("x", {"case": page.case, "ops": []})["totals"]
    steps = bright.work(
        "x", {"case": page.case, "ops": [{"op": "propagate", "id": 9, "lesion": 1}]}
    )
    first = next(steps)
    assert first["progress"]["cancel"] and first["progress"]["part"] == 0
    bright.look("x", {"case": page.case, "cancel": True})
    *_, last = steps
    assert last["totals"] == before and last["slices"] == {} and last["done"] == 9


def test_the_whole_needs_a_box(controller: Controller) -> None:
    page = opened(controller)
    text = page.ask("propagate", lesion=1)["error"]["text"]
    assert "Lesion 1 has none" in text and "draw one" in text


def test_what_was_followed_and_corrected_is_made_again_from_its_record(
    bright: Controller, tmp_path: Path
) -> None:
    page = opened(bright)
    page.ask("boxes", slice=5, boxes=[MIDDLE])
    page.ask("propagate", lesion=1)
    page.ask("correct", tool="erase", slice=4, lesion=1, points=[[40.5, 40.5]], radius_mm=3)
    case = bright.store.get("x").case
    assert case is not None and case.volume is not None
    record = segmentation_record(
        case.volume, case.segmentation, model="one", weights_sha256={}, second_look=False
    )
    path = tmp_path / "session.json"
    path.write_text(json.dumps(record))
    again = load_session(path).run(BrightModel("one"), case.volume)
    assert np.array_equal(again.labels_zyx("one"), case.segmentation.labels_zyx("one"))


def test_people_are_served_while_a_hematoma_is_followed(bright: Controller) -> None:
    page = opened(bright)
    page.ask("boxes", slice=5, boxes=[MIDDLE])
    steps = bright.work(
        "x", {"case": page.case, "ops": [{"op": "propagate", "id": 9, "lesion": 1}]}
    )
    next(steps)
    answered = []
    thread = threading.Thread(
        target=lambda: answered.append(
            bright.aside("x", {"case": page.case, "aside": {"slice": 5}})
        )
    )
    thread.start()
    wait_until(lambda: bool(answered))
    assert answered[0]["totals"]["one"] > 0
    list(steps)


# The first answer first


def test_a_box_is_answered_by_the_left_method_before_another_has_embedded_the_slice(
    unhurried: Controller, fakes: dict[str, BoxModel]
) -> None:
    page = opened(unhurried)
    reply = page.ask("boxes", slice=2, boxes=[BOX], first=True)
    assert reply["later"] == [2] and fakes["two"].embedded == []
    assert list(reply["slices"]["2"]["masks"]) == ["one"]
    # A total that lacks a slice is no total, and nothing without it is handed out.
    assert reply["totals"] == {"one": area_ml(64), "two": None}
    refused = page.ask("export", kind="mask", model="two")
    assert "slice 3" in refused["error"]["text"]

    whole = page.ask("complete", slice=2)
    assert "later" not in whole and whole["trouble"] == {}
    assert whole["totals"] == {"one": area_ml(64), "two": area_ml(64)}
    assert fakes["one"].predicted == fakes["two"].predicted == 1
    again = page.ask("boxes", slice=2, boxes=[BOX, [20, 4, 24, 6]], first=True)
    assert "later" not in again  # the slice is embedded by both
    assert again["totals"] == {"one": area_ml(72), "two": area_ml(72)}
    back = page.ask("undo")
    assert back["totals"] == {"one": area_ml(64), "two": area_ml(64)}
    gone = page.ask("undo")
    assert gone["totals"] == {"one": 0, "two": 0}


def test_what_is_left_for_later_comes_with_undo_too_and_clearing_leaves_nothing_owed(
    unhurried: Controller, fakes: dict[str, BoxModel]
) -> None:
    page = opened(unhurried)
    page.ask("boxes", slice=2, boxes=[BOX], first=True)
    page.ask("boxes", slice=4, boxes=[BOX], first=True)
    back = page.ask("undo")  # of slice 4, which was never completed
    assert back["totals"]["one"] == area_ml(64) and back["totals"]["two"] is None
    cleared = page.ask("boxes", slice=2, boxes=[], first=True)
    assert "later" not in cleared and cleared["totals"] == {"one": 0, "two": 0}
    assert page.ask("undo")["totals"] == {"one": area_ml(64), "two": area_ml(64)}
    assert fakes["two"].embedded == [2.0]


def test_a_method_that_fails_later_says_so_and_leaves_the_first_answer(
    unhurried: Controller, fakes: dict[str, BoxModel], monkeypatch: pytest.MonkeyPatch
) -> None:
    page = opened(unhurried)
    page.ask("boxes", slice=2, boxes=[BOX], first=True)

    def fail(slice_hu: Any) -> Embedding:
        raise RuntimeError("no")

    monkeypatch.setattr(fakes["two"], "embed", fail)
    reply = page.ask("complete", slice=2)
    assert "Two failed on slice 3" in reply["trouble"]["two"]
    assert reply["totals"] == {"one": area_ml(64), "two": None}
