"""Sessions: what each page holds, what is let go and made again, and that nobody sees another one's."""

from __future__ import annotations

import gzip
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from ichseg.errors import VolumeError
from ichseg.page.case import Case
from ichseg.page.controller import Controller
from ichseg.page.sessions import SessionStore, safe_name
from ichseg.page.state import runs
from ichseg.scan.volume import CTVolume
from tests import phantoms
from tests.pages import (
    SLICES,
    BoxModel,
    Page,
    a_file,
    area_ml,
    numbered_scan,
    wait_until,
)


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


def test_the_sample_is_read_once_for_everybody(controller: Controller) -> None:
    read: list[Path] = []

    def scan(path: Path) -> CTVolume:
        read.append(path)
        return numbered_scan()

    controller.shared.read = scan
    volumes = []
    for name in "xyz":
        Page(controller, name).ask("sample")
        case = controller.store.get(name).case
        assert case is not None
        volumes.append(case.volume)
    assert len(read) == 1 and len({*map(id, volumes)}) == 1


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
    assert not sent.exists()
    assert upload.paths[0].read_bytes() == b"voxels" and upload.paths[0].name == "scan.nii"
    assert not upload.paths[0].is_relative_to(store.public)  # an upload is never served
    voxels = session.write_voxels(numbered_scan())
    assert voxels.is_relative_to(store.public)
    store.drop("x")
    assert not upload.folder.exists() and not voxels.parent.exists()
    store.close()
    assert not store.public.parent.exists()


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


def test_two_pages_know_nothing_of_each_other(
    controller: Controller, fakes: dict[str, BoxModel], tmp_path: Path
) -> None:
    scans = iter([numbered_scan(0), numbered_scan(100)])
    controller.shared.read = lambda path, **_: next(scans)
    x, y = Page(controller, "x"), Page(controller, "y")
    x.ask("sample")
    y.ask("open", files=[a_file(tmp_path)])
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
