"""The page's memory: sessions, cases, embeddings, and the answers to what a page asks."""

from __future__ import annotations

import csv
import gzip
import hashlib
import json
import threading
import time
from collections.abc import Iterator
from dataclasses import replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pytest

from ichseg.errors import VolumeError, WeightsError
from ichseg.files import export
from ichseg.files.names import MASK_SLICES
from ichseg.files.nifti_mask import read_mask
from ichseg.files.write import save_mask
from ichseg.marks.box import Box
from ichseg.measures.volume import volume_ml
from ichseg.methods import catalogue, threshold
from ichseg.methods import weights as weight_files
from ichseg.methods.method import Method
from ichseg.methods.predictor import SliceMasks
from ichseg.page.controller import Controller
from ichseg.page.embeddings import Embeddings, Key
from ichseg.page.sessions import Case, SessionStore, safe_name
from ichseg.page.state import runs
from ichseg.scan.series_info import SeriesError, SeriesInfo
from ichseg.scan.volume import CTVolume
from tests import phantoms
from tests.pages import (
    COLUMNS,
    ROWS,
    SLICES,
    BoxModel,
    CloserModel,
    Embedding,
    Page,
    area_ml,
    numbered_scan,
    rested,
    wait_until,
)

# Embeddings


def test_two_who_ask_at_once_cost_one_embedding() -> None:
    model = BoxModel("a", seconds=0.1)
    embeddings = Embeddings(lambda name: model, budget_bytes=10_000)
    embeddings.admit("case")
    hu = numbered_scan().hu_zyx
    got: list[object] = []
    threads = [
        threading.Thread(target=lambda: got.append(embeddings.get(Key("case", "a", 2), hu[2])))
        for _ in range(4)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert model.embedded == [2.0]
    assert len(set(map(id, got))) == 1 and len(got) == 4


def test_the_background_works_outward_from_the_slice_on_screen() -> None:
    model = BoxModel("a")
    embeddings = Embeddings(lambda name: model, budget_bytes=10_000)
    embeddings.admit("case")
    embeddings.plan("case", ["a"], numbered_scan().hu_zyx, centre=3)
    wait_until(lambda: len(model.embedded) == SLICES)
    assert model.embedded == [3, 2, 4, 1, 5, 0]


def test_the_background_ends_when_it_is_closed_and_people_are_still_served() -> None:
    model = BoxModel("a", seconds=0.1)
    embeddings = Embeddings(lambda name: model, budget_bytes=10_000)
    embeddings.admit("case")
    hu = numbered_scan().hu_zyx
    embeddings.plan("case", ["a"], hu, centre=0)
    wait_until(lambda: len(model.embedded) == 1)
    embeddings.close()
    assert embeddings._worker is not None and not embeddings._worker.is_alive()
    before = len(model.embedded)
    assert before < SLICES
    embeddings.plan("case", ["a"], hu, centre=0)
    embeddings.get(Key("case", "a", 5), hu[5])
    assert len(model.embedded) == before + 1


def test_a_person_is_served_before_the_rest_of_the_background() -> None:
    model = BoxModel("a", seconds=0.05)
    embeddings = Embeddings(lambda name: model, budget_bytes=10_000)
    embeddings.admit("case")
    hu = numbered_scan().hu_zyx
    embeddings.plan("case", ["a"], hu, centre=0)
    wait_until(lambda: len(model.embedded) == 1)
    embeddings.get(Key("case", "a", 5), hu[5])
    assert 5.0 in model.embedded[:3]  # at most the one that was under way comes before it
    wait_until(lambda: len(model.embedded) == SLICES)
    assert sorted(model.embedded) == list(range(SLICES))  # and nothing twice


def test_hold_keeps_the_background_still() -> None:
    model = BoxModel("a")
    embeddings = Embeddings(lambda name: model, budget_bytes=10_000)
    embeddings.admit("case")
    embeddings.hold(0.3)
    embeddings.plan("case", ["a"], numbered_scan().hu_zyx, centre=0)
    time.sleep(0.15)
    assert model.embedded == []
    wait_until(lambda: len(model.embedded) == SLICES)


def test_the_budget_holds_and_the_greediest_gives_way() -> None:
    model = BoxModel("a")
    embeddings = Embeddings(lambda name: model, budget_bytes=400)
    hu = numbered_scan().hu_zyx
    for owner, slices in (("greedy", range(4)), ("modest", range(2))):
        embeddings.admit(owner)
        for k in slices:
            embeddings.get(Key(owner, "a", k), hu[k])
    assert embeddings.nbytes == 400
    kept = [
        key
        for owner in ("greedy", "modest")
        for k in range(4)
        if (key := Key(owner, "a", k)) in embeddings
    ]
    assert kept == [
        Key("greedy", "a", 2),
        Key("greedy", "a", 3),
        Key("modest", "a", 0),
        Key("modest", "a", 1),
    ]


def test_the_background_does_not_drop_what_it_made() -> None:
    model = BoxModel("a")
    embeddings = Embeddings(lambda name: model, budget_bytes=300)
    embeddings.admit("case")
    embeddings.plan("case", ["a"], numbered_scan().hu_zyx, centre=0)
    wait_until(lambda: len(model.embedded) == 3)
    time.sleep(0.1)
    assert model.embedded == [0, 1, 2]


def test_what_is_forgotten_is_gone_and_does_not_come_back() -> None:
    model = BoxModel("a", seconds=0.1)
    embeddings = Embeddings(lambda name: model, budget_bytes=10_000)
    embeddings.admit("case")
    hu = numbered_scan().hu_zyx
    asking = threading.Thread(target=embeddings.get, args=(Key("case", "a", 0), hu[0]))
    asking.start()
    time.sleep(0.02)
    embeddings.forget("case")  # while it is being computed
    asking.join()
    assert Key("case", "a", 0) not in embeddings and embeddings.nbytes == 0


def test_a_model_that_cannot_be_loaded_does_not_stop_the_other() -> None:
    model = BoxModel("good")

    def load(name: str) -> Any:
        if name == "bad":
            raise WeightsError("Weights are needed; none are here; fetch them.")
        return model

    embeddings = Embeddings(load, budget_bytes=10_000)
    embeddings.admit("case")
    hu = numbered_scan().hu_zyx
    embeddings.plan("case", ["bad", "good"], hu, centre=0)
    wait_until(lambda: len(model.embedded) == SLICES)
    with pytest.raises(WeightsError):
        embeddings.get(Key("case", "bad", 0), hu[0])
    with pytest.raises(WeightsError):  # and again, not a hang on the first one's failure
        embeddings.get(Key("case", "bad", 0), hu[0])


# Sessions


def new_case(start: int = 0) -> Case:
    return Case(lambda: numbered_scan(start), ("a", "b"))


def test_the_one_that_rested_longest_is_put_aside_and_rebuilt() -> None:
    evicted: list[Case] = []
    size = numbered_scan().hu_zyx.nbytes
    store = SessionStore(budget_bytes=2 * size, on_evict=evicted.append)
    sessions = [store.get(name) for name in "xyz"]
    for number, session in enumerate(sessions):
        store.open(session, new_case(10 * number), None)
    first = sessions[0].case
    assert first is not None and first.volume is None and evicted == [first]
    assert store.nbytes == 2 * size
    store.get("x")
    assert store.volume(sessions[0]).hu_zyx[2, 0, 0] == 2
    assert sessions[1].case is not None and sessions[1].case.volume is None
    store.close()


def test_an_evicted_scan_whose_upload_is_gone_says_so() -> None:
    store = SessionStore()
    session = store.get("x")
    files = iter([numbered_scan()])

    def read() -> CTVolume:
        try:
            return next(files)
        except StopIteration:
            raise VolumeError("scan.nii: a scan must exist, but nothing is there") from None

    store.open(session, Case(read, ("a", "b")), None)
    assert session.case is not None
    session.case.volume = None
    with pytest.raises(VolumeError, match=r"put aside to make room.*open it again"):
        store.volume(session)
    store.close()


def test_a_dropped_session_leaves_no_files(tmp_path: Path) -> None:
    store = SessionStore()
    session = store.get("x")
    sent = tmp_path / "hash" / "scan.nii"
    sent.parent.mkdir()
    sent.write_bytes(b"voxels")
    upload = session.take([sent], ["scan.nii"])
    assert not sent.exists() and not sent.parent.exists()
    assert upload.paths[0].read_bytes() == b"voxels" and upload.paths[0].name == "scan.nii"
    assert not upload.paths[0].is_relative_to(store.public)  # an upload is never served
    voxels = session.write_voxels(numbered_scan())
    assert voxels.is_relative_to(store.public)
    store.drop("x")
    assert not upload.folder.exists() and not voxels.parent.exists()
    store.close()
    assert not store.public.parent.exists()


def test_the_session_used_least_recently_is_closed_beyond_the_limit(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("ichseg.page.sessions.MAX_SESSIONS", 2)
    store = SessionStore()
    first, second = store.get("x"), store.get("y")
    store.get("x")
    store.get("z")
    assert second.closed and not first.closed
    store.close()


def test_voxels_come_back_as_they_were() -> None:
    store = SessionStore()
    rng = np.random.default_rng(7)
    scan = phantoms.scan((0, 5, 10), (9, 11))
    scan.hu_zyx[:] = rng.integers(-1024, 32767, scan.shape_zyx)
    raw = gzip.decompress(store.get("x").write_voxels(scan).read_bytes())
    steps = np.frombuffer(raw, dtype="<i2").reshape(scan.shape_zyx)
    assert np.array_equal(np.cumsum(steps, axis=2, dtype=np.int16), scan.hu_zyx)
    store.close()


@pytest.mark.parametrize(
    ("sent", "kept"),
    [
        ("head ct (1).nii.gz", "head ct (1).nii.gz"),
        ("../../etc/passwd", "passwd"),
        ("..\\..\\boot.ini", "boot.ini"),
        (".hidden", "hidden"),
        ("a;b|c.nii", "a_b_c.nii"),
        ("..", "scan"),
    ],
)
def test_a_name_that_a_page_sent_is_made_harmless(sent: str, kept: str) -> None:
    assert safe_name(sent) == kept


def test_runs_turn_on_and_off() -> None:
    mask = np.zeros((3, 4), dtype=bool)
    mask[0, 3] = mask[1, 0] = mask[2, 2:] = True
    assert runs(mask) == [3, 5, 10, 12]
    assert runs(np.zeros((2, 2), dtype=bool)) == []


# What a page asks for


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


def test_a_bad_file_loses_nothing(controller: Controller, tmp_path: Path) -> None:
    page = Page(controller, "x")
    page.ask("sample")
    page.ask("boxes", slice=1, boxes=[[0, 0, 4, 4]])

    def refuse(path: Path, *, series: str | None = None, add_offset: int = 0) -> CTVolume:
        if add_offset:
            return numbered_scan(50)
        raise VolumeError("scan.nii: no HU; if it lacks the offset, open it with add_offset=-1024.")

    controller.shared.read = refuse
    sent = tmp_path / "scan.nii"
    sent.write_bytes(b"x")
    token = page.case
    reply = page.ask("open", files=[{"path": str(sent), "name": "scan.nii"}])
    assert "use the button" in reply["error"]["text"] and "scan" not in reply
    assert reply["case"] == token and reply["totals"]["one"] == area_ml(16)
    assert reply["error"]["fix"]["op"] == {
        "op": "reopen",
        "add_offset": -1024,
        "role": "baseline",
    }
    assert page.ask("reopen", add_offset=-1024)["scan"]["shape"] == [SLICES, ROWS, COLUMNS]
    assert page.case != token


def test_another_series_is_of_the_open_upload_not_of_a_refused_one(
    controller: Controller, tmp_path: Path
) -> None:
    asked: list[tuple[str, str | None]] = []

    def read(path: Path, *, series: str | None = None, add_offset: int = 0) -> CTVolume:
        asked.append((path.name, series))
        if path.name == "bad":
            raise VolumeError("bad: a scan is a scan, but this is not; give another.")
        return numbered_scan()

    controller.shared.read = read
    page = Page(controller, "x")
    for name in ("good", "bad"):
        sent = tmp_path / f"hash of {name}" / name
        sent.parent.mkdir()
        sent.write_bytes(b"x")
        page.ask("open", files=[{"path": str(sent), "name": name}])
    assert "scan" in page.ask("reopen", series="1.2.3")
    assert asked[-1] == ("good", "1.2.3")


def test_the_series_of_refused_files_can_be_chosen_from(
    controller: Controller, tmp_path: Path
) -> None:
    """The page is told of every series, each with its reason, and opens one of the same files."""
    asked: list[tuple[str, str | None]] = []
    head = SeriesInfo("1.2", 2, "HEAD", 10)
    coronal = SeriesInfo("1.3", 3, "COR", 12, refusal="its slices are not axial")

    def read(path: Path, *, series: str | None = None, add_offset: int = 0) -> CTVolume:
        asked.append((path.name, series))
        if path.name == "study.zip" and series != "1.2":
            raise SeriesError("study.zip: a scan is axial, but it is not; choose.", (head, coronal))
        return numbered_scan()

    controller.shared.read = read
    page = Page(controller, "x")
    for name in ("good", "study.zip"):
        sent = tmp_path / f"hash of {name}" / name
        sent.parent.mkdir()
        sent.write_bytes(b"x")
        reply = page.ask("open", files=[{"path": str(sent), "name": name}])
    choose = reply["error"]["choose"]
    assert [(one["key"], one["refusal"]) for one in choose["series"]] == [
        ("1.2", ""),
        ("1.3", "its slices are not axial"),
    ]
    op = dict(choose["op"])
    again = page.ask(op.pop("op"), **op, series="1.3")  # refused, too, and the choice stays
    assert again["error"]["choose"] == choose
    assert "scan" in page.ask("reopen", **op, series="1.2")
    assert asked[-2:] == [("study.zip", "1.3"), ("study.zip", "1.2")]


def test_files_from_elsewhere_are_not_opened(controller: Controller, tmp_path: Path) -> None:
    page = Page(controller, "x")
    outside = tmp_path.parent / "outside.nii"
    outside.write_bytes(b"x")
    (tmp_path / "link.nii").symlink_to(outside)
    for path in (
        outside,
        tmp_path / ".." / "outside.nii",
        tmp_path / "link.nii",
        Path("/etc/hosts"),
    ):
        reply = page.ask("open", files=[{"path": str(path), "name": "scan.nii"}])
        assert "not here" in reply["error"]["text"]
    assert outside.exists()


def test_two_pages_know_nothing_of_each_other(
    controller: Controller, fakes: dict[str, BoxModel]
) -> None:
    scans = iter([numbered_scan(0), numbered_scan(100)])
    controller.shared.read = lambda path, **_: next(scans)
    x, y = Page(controller, "x"), Page(controller, "y")
    x.ask("sample")
    y.ask("sample")
    x.ask("boxes", slice=1, boxes=[[0, 0, 4, 4]])
    y.ask("boxes", slice=1, boxes=[[0, 0, 2, 2]])
    assert {1.0, 101.0} <= set(fakes["one"].embedded)
    assert x.ask("fetched")["totals"]["one"] == area_ml(16)
    assert y.ask("fetched")["totals"]["one"] == area_ml(4)
    y.case = x.case  # a page that names another's case is not served
    reply = y.ask("boxes", slice=2, boxes=[[0, 0, 4, 4]])
    assert "no longer has that one open" in reply["error"]["text"]


def test_the_samples_slices_are_embedded_once_for_everybody_and_nobody_elses_are(
    unhurried: Controller, fakes: dict[str, BoxModel], tmp_path: Path
) -> None:
    x, y, z = (Page(unhurried, name) for name in "xyz")
    x.ask("sample")
    x.ask("boxes", slice=1, boxes=[[0, 0, 4, 4]])
    y.ask("sample")
    unhurried.drop("x")
    y.ask("boxes", slice=1, boxes=[[0, 0, 2, 2]])
    assert fakes["one"].embedded == [1.0]
    z.ask("open", files=[a_file(tmp_path)])  # the same voxels, but somebody's own
    z.ask("boxes", slice=1, boxes=[[0, 0, 2, 2]])
    assert fakes["one"].embedded == [1.0, 1.0]


def test_who_closes_the_sample_leaves_it_to_the_others(
    controller: Controller, fakes: dict[str, BoxModel]
) -> None:
    x, y = Page(controller, "x"), Page(controller, "y")
    x.ask("sample")
    y.ask("sample")
    controller.drop("x")
    wait_until(lambda: sorted(fakes["one"].embedded) == list(range(SLICES)))


def a_file(folder: Path) -> dict[str, str]:
    """An uploaded file, as the page names it."""
    path = folder / "scan.nii"
    path.write_bytes(b"")
    return {"path": str(path), "name": path.name}


def test_a_dropped_session_is_forgotten_everywhere(controller: Controller, tmp_path: Path) -> None:
    page = Page(controller, "x")
    voxels = Path(page.ask("open", files=[a_file(tmp_path)])["scan"]["voxels"])
    page.ask("boxes", slice=1, boxes=[[0, 0, 4, 4]])
    token = page.case
    controller.drop("x")
    assert not voxels.exists()
    wait_until(lambda: controller.embeddings.nbytes == 0)
    page.case = token
    assert "no longer has" in page.ask("boxes", slice=1, boxes=[[0, 0, 4, 4]])["error"]["text"]


@pytest.mark.parametrize("kind", ["mask", "table", "record", "picture", "csv", "stl", "seg.nrrd"])
def test_files_are_called_what_a_person_types(controller: Controller, kind: str) -> None:
    page = Page(controller, "x")
    page.ask("sample")
    page.ask("boxes", slice=1, boxes=[[4, 4, 12, 12]])
    view = {"slice": 1, "width": 80, "level": 40}
    named = page.ask("export", kind=kind, label=" ward-3 ", **view)["download"]["name"]
    assert named.startswith("hematoma-ward-3-")
    other = page.ask("export", kind=kind, **view)["download"]["name"]
    assert other.startswith(f"hematoma-{numbered_scan().sha256[:8]}-")
    refused = page.ask("export", kind=kind, label="Doe^John", **view)
    assert "never a patient's name" in refused["error"]["text"] and "download" not in refused


def test_the_page_is_told_what_makes_a_scans_millilitres_doubtful(controller: Controller) -> None:
    """Of both scans with every reply: the growth between them is shown whichever is on screen."""
    doubt = "the voxel's size is in doubt"
    scans = iter([numbered_scan(), replace(numbered_scan(100), warnings=(doubt,))])
    controller.shared.read = lambda path, **_: next(scans)
    page = Page(controller, "x")
    assert page.ask("sample")["scan"]["warnings"] == []
    assert page.ask("sample", role="followup")["scan"]["warnings"] == [doubt]
    roles = page.ask("switch", role="baseline")["roles"]
    assert [roles[name]["warnings"] for name in ("baseline", "followup")] == [[], [doubt]]


def test_a_page_is_told_when_its_scan_is_gone(
    unhurried: Controller, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As after a restart: whatever the page asks with the scan that it had, also in passing."""
    page = Page(unhurried, "x")
    page.ask("sample")
    token = page.case
    unhurried.drop("x")
    page.case = token
    assert page.ask("boxes", slice=1, boxes=[[0, 0, 4, 4]])["gone"]
    assert unhurried.aside("x", {"case": token, "aside": {"slice": 1}})["gone"]
    page.ask("sample")
    assert "gone" not in page.ask("boxes", slice=1, boxes=[[0, 0, 4, 4]])
    baseline = page.case
    page.ask("sample", role="followup")
    page.case = baseline  # there, but not on screen
    refused = page.ask("boxes", slice=1, boxes=[[0, 0, 4, 4]])
    assert refused["error"] and "gone" not in refused


def test_the_voxels_are_deleted_once_the_browser_has_them(controller: Controller) -> None:
    page = Page(controller, "x")
    voxels = Path(page.ask("sample")["scan"]["voxels"])
    assert voxels.is_file()
    page.ask("fetched")
    assert not voxels.exists()


def test_work_goes_on_after_the_scan_was_put_aside(
    controller: Controller, fakes: dict[str, BoxModel]
) -> None:
    page = Page(controller, "x")
    page.ask("sample")
    page.ask("boxes", slice=1, boxes=[[0, 0, 4, 4]])
    controller.store.budget_bytes = 0
    Page(controller, "y").ask("sample")
    case = controller.store.get("x").case
    assert case is not None and case.volume is None
    reply = page.ask("boxes", slice=2, boxes=[[0, 0, 4, 4]])
    assert reply["error"] is None and reply["totals"]["one"] == area_ml(32)


def test_downloads_hold_what_was_marked(controller: Controller, tmp_path: Path) -> None:
    page = Page(controller, "x")
    page.ask("sample")
    assert "nothing is yet" in page.ask("export", kind="mask")["error"]["text"]
    page.ask("boxes", slice=2, boxes=[[3, 4, 10, 9]])
    case = controller.store.get("x").case
    assert case is not None and case.volume is not None
    paths = {
        kind: Path(page.ask("export", kind=kind, slice=2, width=80, level=40)["download"]["path"])
        for kind in ("mask", "table", "picture", "record")
    }
    assert all(path.is_relative_to(controller.store.public) for path in paths.values())
    mask = read_mask(paths["mask"], case.volume)
    assert np.array_equal(mask != 0, case.segmentation.mask_zyx("one"))
    (row,) = csv.DictReader(paths["table"].open())
    numbers = ("lesion", "slice", "slice_index", "area_mm2", "height_mm")
    assert [row[name] for name in numbers] == ["1", "3", "2", "8.7500", "5.0000"]
    assert {path.name.split("-")[1] for path in paths.values()} == {case.volume.sha256[:8]}
    assert paths["picture"].read_bytes().startswith(b"\x89PNG")
    session = export.load_session(paths["record"])
    assert session.boxes == {2: (Box(3, 4, 10, 9),)} and session.model == "one"
    assert session.mask_sha256 == export.content_sha256(case.segmentation.mask_zyx("one"))
    session.check_scan(case.volume)


def test_an_uneven_series_downloads_as_slices(controller: Controller) -> None:
    controller.shared.read = lambda path, **_: phantoms.scan((0, 5, 12), (ROWS, COLUMNS))
    page = Page(controller, "x")
    assert page.ask("sample")["scan"]["even"] is False
    page.ask("boxes", slice=1, boxes=[[0, 0, 4, 4]])
    assert page.ask("export", kind="mask")["download"]["name"].endswith(MASK_SLICES)


def test_look_embeds_at_once_when_a_person_draws(
    controller: Controller, fakes: dict[str, BoxModel]
) -> None:
    page = Page(controller, "x")
    controller.embeddings.hold(60)  # the background does nothing
    page.ask("sample")
    controller.look("x", {"case": page.case, "slice": 4, "busy": True})
    assert fakes["one"].embedded == [4.0] and fakes["two"].embedded == [4.0]
    controller.look("x", {"case": "someone else's", "slice": 2, "busy": True})
    controller.look("x", {"case": page.case, "slice": 99, "busy": True})
    assert fakes["one"].embedded == [4.0]


# The second look


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
    session = export.load_session(reply["download"]["path"])
    case = controller.store.get("x").case
    assert case is not None and case.volume is not None and session.second_look is True
    again = np.zeros(case.volume.shape_zyx, dtype=bool)  # as the command line makes it
    for k, boxes in session.boxes.items():
        embedding = closer.embed(case.volume.hu_zyx[k])
        found = closer.predict(embedding, list(boxes), second_look=session.second_look)
        again[k] = found.masks.any(axis=0)
    assert session.mask_sha256 == export.content_sha256(again)


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


# The comparison


def test_scores_are_of_the_first_method_and_of_the_truth_by_scope(
    controller: Controller, closer: CloserModel, tmp_path: Path
) -> None:
    page = Page(controller, "x")
    page.ask("sample")
    page.ask("boxes", slice=3, boxes=[[0, 0, 4, 4]])
    rested(controller, page, 3)  # the left method keeps 4 of the 16 pixels

    def scores(at: int) -> dict[str, Any]:
        aside = {"slice": 3, "compare": True, "at": at}
        return controller.aside("x", {"case": page.case, "aside": aside})["scores"]

    found = scores(3)
    assert [scope["scope"] for scope in found["scopes"]] == ["slice", "marked"]
    one, two = found["scopes"][1]["rows"]
    assert (one["model"], one["ml"], one["with_first"]) == ("one", area_ml(4), 1.0)
    assert (two["model"], two["ml"], two["with_first"]) == ("two", area_ml(16), 2 * 4 / 20)
    assert "dice" not in one

    case = controller.store.get("x").case
    assert case is not None and case.volume is not None
    truth = np.zeros(case.volume.shape_zyx, bool)
    truth[3, 0:4, 0:4] = truth[5, 0:4, 0:4] = True
    sent = tmp_path / "hash" / "truth.nii.gz"
    sent.parent.mkdir()
    save_mask(sent, truth, case.volume)
    reply = page.ask("truth", files=[{"path": str(sent), "name": "truth.nii.gz"}])
    assert reply["error"] is None and set(reply["truth"]["slices"]) == {"3", "5"}
    assert not list(controller.store.get("x").private.rglob("truth.nii.gz"))
    here, marked, whole = (scope["rows"][1] for scope in scores(5)["scopes"])
    assert here["dice"] == 0 and here["truth_ml"] == area_ml(16)  # slice 5, with no box on it
    assert (marked["dice"], marked["jaccard"], marked["surface_dice"]) == (1, 1, 1)
    assert whole["dice"] == pytest.approx(2 * 16 / 48)
    assert whole["difference_percent"] == pytest.approx(-50)
    nothing = scores(0)["scopes"][0]["rows"][0]
    assert nothing["dice"] is None and nothing["difference_percent"] is None
    page.ask("truth", remove=True)
    assert len(scores(3)["scopes"]) == 2


def test_a_truth_that_is_no_mask_of_the_scan_is_refused(
    controller: Controller, tmp_path: Path
) -> None:
    page = Page(controller, "x")
    page.ask("sample")
    sent = tmp_path / "notes.nii.gz"
    sent.write_text("no mask")
    reply = page.ask("truth", files=[{"path": str(sent), "name": "notes.nii.gz"}])
    assert reply["error"]["text"].startswith("notes.nii.gz: ") and "truth" not in reply


def test_all_methods_are_shown_at_once(controller: Controller) -> None:
    page = Page(controller, "x")
    page.ask("sample")
    page.ask("boxes", slice=3, boxes=[[0, 0, 4, 4]])
    reply = page.ask("models", models=["one", "two", "three"])
    assert reply["models"] == ["one", "two", "three"]
    assert reply["totals"] == dict.fromkeys(("one", "two", "three"), area_ml(16))
    for wrong in (["one"], ["one"] * 4):
        assert "choose two" in page.ask("models", models=wrong)["error"]["text"]


# Weights that are not here


class Hub(BaseHTTPRequestHandler):
    """Enough of the hub to look at one repository and fetch one file of it."""

    content = bytes(range(256)) * 4096
    commit = "c" * 40

    def do_HEAD(self) -> None:
        self.send_response(200)
        self.send_header("ETag", '"abc"')
        self.send_header("X-Repo-Commit", self.commit)
        self.send_header("Content-Length", str(len(self.content)))
        self.end_headers()

    def do_GET(self) -> None:
        if self.path.startswith("/api/models/"):
            body = b'{"id": "someone/far", "modelId": "someone/far"}'
            self.send_response(200)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)
        else:
            self.do_HEAD()
            self.wfile.write(self.content)

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def far(
    controller: Controller, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[ThreadingHTTPServer]:
    """A fourth method whose weights are on a hub of this machine's own."""
    from huggingface_hub import constants, hf_api

    rows = catalogue.CATALOGUE
    info = Method("far", "Far", "Not here.", threshold.load, weights=("far",))
    monkeypatch.setitem(rows, "far", info)
    digest = hashlib.sha256(Hub.content).hexdigest()
    file = {"path": "far/model.safetensors", "sha256": digest, "bytes": len(Hub.content)}
    weights = tmp_path / "weights"
    weights.mkdir()
    (weights / "manifest.json").write_text(
        json.dumps({"far": {"files": [file], "hub_repo": "someone/far"}})
    )
    monkeypatch.setattr(weight_files, "WEIGHTS_DIR", weights)
    server = ThreadingHTTPServer(("127.0.0.1", 0), Hub)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    address = f"http://127.0.0.1:{server.server_port}"
    monkeypatch.setattr(constants, "ENDPOINT", address)
    monkeypatch.setattr(
        constants,
        "HUGGINGFACE_CO_URL_TEMPLATE",
        address + "/{repo_id}/resolve/{revision}/{filename}",
    )
    monkeypatch.setattr(hf_api.api, "endpoint", address)
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "cache"))
    yield server
    server.shutdown()
    server.server_close()


def test_absent_weights_are_fetched_with_progress(
    controller: Controller, far: ThreadingHTTPServer
) -> None:
    page = Page(controller, "x")
    page.ask("sample")
    reply = controller.aside("x", {"case": page.case, "aside": {"slice": 0, "methods": True}})
    (choice,) = (one for one in reply["choices"] if one["name"] == "far")
    assert choice["missing"] and choice["fetch"] and not choice["hindrance"]
    page.last += 1
    op = {"op": "fetch", "id": page.last, "name": "far"}
    *progress, done = controller.work("x", {"case": page.case, "ops": [op]})
    assert progress[0]["progress"]["text"] == "Fetching Far"
    parts = [one["progress"]["part"] for one in progress[1:]]
    assert parts == sorted(parts) and parts[-1] == 1.0
    assert done["error"] is None
    (choice,) = (one for one in done["choices"] if one["name"] == "far")
    assert not choice["missing"]


def test_where_the_hub_cannot_be_reached_the_reason_is_told(
    controller: Controller, far: ThreadingHTTPServer
) -> None:
    far.shutdown()
    far.server_close()
    page = Page(controller, "x")
    page.ask("sample")
    reply = controller.aside("x", {"case": page.case, "aside": {"slice": 0, "methods": True}})
    (choice,) = (one for one in reply["choices"] if one["name"] == "far")
    assert not choice["fetch"] and "The hub cannot be reached from here" in choice["hindrance"]
    assert "could not be" in page.ask("fetch", name="far")["error"]["text"]


def test_a_tilted_scan_downloads_resampled_with_its_millilitres_beside_the_originals(
    controller: Controller,
) -> None:
    scan = phantoms.scan(tuple(5.0 * np.arange(SLICES)), (ROWS, COLUMNS), tilt_degrees=15.0)
    controller.shared.read = lambda path, **_: scan
    page = Page(controller, "x")
    assert page.ask("sample")["scan"]["tilted"]
    page.ask("boxes", slice=1, boxes=[[4, 4, 12, 12]])
    reply = page.ask("export", kind="regular")
    (said,) = reply["said"]
    assert "resampled" in said and f"{area_ml(64):.2f} mL on the scan's own grid" in said
    names = [reply["download"]["name"], *(one["name"] for one in reply["download"]["beside"])]
    assert len(names) == 2 and all("regular-grid" in name for name in names)
    assert np.asarray(nib.load(reply["download"]["path"]).dataobj).min() < 0  # the scan, in HU
