"""How long a page's session lasts, who gets a place, and that an operation is done once and ends when it is to."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from starlette.applications import Starlette
from starlette.concurrency import run_in_threadpool
from starlette.middleware import Middleware
from starlette.requests import ClientDisconnect, Request
from starlette.responses import PlainTextResponse
from starlette.routing import Route
from starlette.testclient import TestClient
from starlette.types import Receive, Scope, Send

from ichseg.errors import InputError, check_cancelled
from ichseg.page.controller import Controller
from ichseg.page.embeddings import Embeddings
from ichseg.page.folders import ServerFolder
from ichseg.page.leases import GONE_VARIABLE, Rate, Terms
from ichseg.page.routes import MAX_MESSAGE_BYTES, BoundedBodies, BrokenUploads, lease_route
from ichseg.page.sessions import MAX_DOWNLOADS
from tests.pages import SLICES, BoxModel, Page, a_file, awaited, numbered_scan, wait_until

MINUTE = 60.0


class FakeClock:
    """Seconds that pass when a test says so."""

    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now

    def pass_minutes(self, minutes: float) -> None:
        self.now += minutes * MINUTE


@pytest.fixture
def clock() -> FakeClock:
    return FakeClock()


@pytest.fixture
def served(
    fakes: dict[str, BoxModel], tmp_path: Path, clock: FakeClock
) -> Iterator[Callable[..., Controller]]:
    """Controllers that go by the fake clock, and embed nothing in the background."""
    made = []

    def make(**terms: float) -> Controller:
        embeddings = Embeddings(fakes.__getitem__, budget_bytes=100_000)
        embeddings.plan = lambda *_: None  # type: ignore[method-assign]
        made.append(
            Controller(
                tmp_path,
                folder=ServerFolder(tmp_path),
                terms=Terms(**terms),
                clock=clock,
                embeddings=embeddings,
                read=lambda path, **_: numbered_scan(),
            )
        )
        return made[-1]

    yield make
    for one in made:
        one.close()


def opened(controller: Controller, name: str = "x") -> tuple[Page, str]:
    """A page with the sample open, and its lease."""
    page = Page(controller, name)
    return page, page.ask("sample")["lease"]


# How long


def test_ten_minutes_away_end_nothing(served: Callable[..., Controller], clock: FakeClock) -> None:
    controller = served()
    page, lease = opened(controller)
    marked = page.ask("boxes", slice=1, boxes=[[0, 0, 4, 4]])["totals"]
    clock.pass_minutes(10)
    controller.store.sweep()
    assert controller.renew(lease)
    assert page.ask("boxes", slice=2, boxes=[])["totals"] == marked


def test_a_page_that_is_gone_for_longer_than_its_lease_is_ended(
    served: Callable[..., Controller], clock: FakeClock
) -> None:
    controller = served()
    page, lease = opened(controller)
    session = controller.store.find("x")
    assert session is not None
    clock.pass_minutes(29)
    assert controller.renew(lease)
    clock.pass_minutes(29)
    controller.store.sweep()
    assert controller.store.find("x") is session
    clock.pass_minutes(2)
    controller.store.sweep()
    assert controller.store.find("x") is None and not session.public.exists()
    assert not controller.renew(lease)
    assert page.ask("boxes", slice=1, boxes=[[0, 0, 4, 4]])["gone"]


def test_a_page_that_is_there_but_idle_is_ended_by_the_other_clock(
    served: Callable[..., Controller], clock: FakeClock
) -> None:
    controller = served(idle_seconds=60 * MINUTE)
    page, lease = opened(controller)
    for _ in range(5):
        clock.pass_minutes(10)
        assert controller.renew(lease)
    page.ask("boxes", slice=1, boxes=[[0, 0, 4, 4]])  # somebody is there
    for _ in range(6):
        clock.pass_minutes(10)
        assert controller.renew(lease)
    clock.pass_minutes(1)
    assert not controller.renew(lease)
    assert controller.store.find("x") is None


def test_a_page_that_is_closed_says_so_and_nobody_else_can(
    served: Callable[..., Controller],
) -> None:
    controller = served()
    _, lease = opened(controller)
    _, other = opened(controller, "y")
    client = TestClient(Starlette(routes=[lease_route(controller)]))

    def post(said: object) -> Any:
        return client.post("/gradio_api/lease", json=said)

    assert post({"lease": lease}).json() == {"held": True}
    for junk in ({"lease": "x", "closed": True}, {"lease": "é"}, {"lease": 7}, [lease], {}):
        assert post(junk).json() == {"held": False}
    assert post({"lease": "x" * 2000, "closed": True}).status_code == 400
    assert post({"lease": lease, "closed": True}).json() == {"held": False}
    assert controller.store.find("x") is None and post({"lease": other}).json() == {"held": True}


def test_the_clocks_come_from_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(GONE_VARIABLE, "7.5")
    assert Terms.from_environment() == Terms(gone_seconds=7.5)
    for wrong in ("soon", "-1", "nan", "inf", "0"):
        monkeypatch.setenv(GONE_VARIABLE, wrong)
        with pytest.raises(InputError, match=f"above 0; got '{wrong}'"):
            Terms.from_environment()


# Places


def test_made_up_sessions_close_nobodys_page(
    served: Callable[..., Controller], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("ichseg.page.sessions.MAX_SESSIONS", 3)
    controller = served()
    page, _ = opened(controller)
    page.ask("boxes", slice=1, boxes=[[0, 0, 4, 4]])
    for n in range(300):
        controller.look(f"a{n}", {"slice": 1})
        controller.aside(f"a{n}", {"aside": {"slice": 1}})
        controller.answer(f"a{n}", {"ops": [{"op": "undo", "id": 1}]})
    assert list(controller.store._sessions) == ["x"]  # who opens nothing takes no place
    replies = [Page(controller, f"b{n}").ask("sample") for n in range(200)]
    refused = [reply["error"]["text"] for reply in replies if reply["error"]]
    assert len(refused) == 198 and len(set(refused)) == 1
    assert "room for 3 open pages, and all are in use; wait" in refused[0]
    assert page.ask("boxes", slice=1, boxes=[[0, 0, 4, 4], [6, 6, 9, 9]])["error"] is None


def test_where_all_places_are_taken_one_with_nothing_to_lose_is_given_away(
    served: Callable[..., Controller], monkeypatch: pytest.MonkeyPatch, clock: FakeClock
) -> None:
    monkeypatch.setattr("ichseg.page.sessions.MAX_SESSIONS", 2)
    controller = served()
    marked, _ = opened(controller)
    marked.ask("boxes", slice=1, boxes=[[0, 0, 4, 4]])
    opened(controller, "empty")
    clock.pass_minutes(1)
    assert Page(controller, "y").ask("sample")["error"]
    clock.pass_minutes(2)  # both are silent, and on one a person has drawn
    assert Page(controller, "y").ask("sample")["error"] is None
    assert list(controller.store._sessions) == ["x", "y"]
    assert Page(controller, "z").ask("sample")["error"]


def test_a_refusal_names_no_scan(served: Callable[..., Controller]) -> None:
    controller = served()
    page, lease = opened(controller)
    page.ask("sample", role="followup")
    session = controller.store.find("x")
    assert session is not None
    secrets = [*session.tokens, lease]
    for message in (
        {"ops": 7},
        {"ops": [{"op": "dance", "id": 9}]},
        {"case": "guessed", "ops": [{"op": "boxes", "id": 10, "slice": 1, "boxes": []}]},
        {"case": None, "ops": []},
        {"aside": {"slice": 1, "compare": True}},
        None,
    ):
        told = [*controller.work("x", message), controller.aside("x", message)]
        assert not [one for one in secrets if one in repr(told)], message


def test_who_asks_too_often_is_told_so(served: Callable[..., Controller], clock: FakeClock) -> None:
    controller = served()
    page, _ = opened(controller)
    replies = [controller.answer("x", {"case": page.case, "ops": []}) for _ in range(700)]
    refused = [one for one in replies if one["error"]]
    assert 90 < len(refused) < 110 and "40 times a second at most" in refused[0]["error"]["text"]
    clock.pass_minutes(1)
    assert page.ask("boxes", slice=1, boxes=[])["error"] is None
    slow = Rate(5, 1, clock)
    assert sum(slow.take() for _ in range(9)) == 5


def test_what_is_longer_than_can_be_meant_is_refused_unread() -> None:
    async def echo(request: Request) -> PlainTextResponse:
        return PlainTextResponse(str(len(await request.body())))

    routes = [Route(path, echo, methods=["POST"]) for path in ("/gradio_api/run/x", "/a/upload")]
    app = Starlette(routes=routes, middleware=[Middleware(BoundedBodies, upload_bytes=10)])
    client = TestClient(app, raise_server_exceptions=False)
    most = MAX_MESSAGE_BYTES
    assert client.post("/gradio_api/run/x", content=b"x" * most).text == str(most)
    assert client.post("/a/upload", content=b"x" * (most + 10)).text == str(most + 10)
    for path, size in (("/gradio_api/run/x", most + 1), ("/a/upload", most + 11)):
        refused = client.post(path, content=b"x" * size)
        assert refused.status_code == 413 and "at most 16 MB" in refused.json()["detail"]
    parts = (b"x" * (1 << 20) for _ in range(20))  # which does not say how long it is
    assert client.post("/gradio_api/run/x", content=parts).status_code >= 400


def test_a_page_keeps_a_bounded_number_of_files(served: Callable[..., Controller]) -> None:
    controller = served()
    opened(controller)
    session = controller.store.find("x")
    assert session is not None
    made = [session.new_folder() for _ in range(MAX_DOWNLOADS + 5)]
    assert len(list(session.public.iterdir())) == MAX_DOWNLOADS and made[-1].is_dir()


# Once, and no longer than it is wanted


class Gate(BoxModel):
    """A model that waits for a word before it answers the first slice."""

    def __init__(self, name: str) -> None:
        super().__init__(name)
        self.begun, self.go_on = threading.Event(), threading.Event()

    def embed(self, slice_hu: Any) -> Any:
        self.begun.set()
        assert self.go_on.wait(10)
        return super().embed(slice_hu)


def test_an_operation_sent_twice_at_once_is_done_once(
    served: Callable[..., Controller], fakes: dict[str, BoxModel]
) -> None:
    gate = fakes["one"] = Gate("one")
    controller = served()
    page, _ = opened(controller)
    ops = [
        {"op": "boxes", "id": 2, "slice": 1, "boxes": [[0, 0, 4, 4]]},
        {"op": "lesion_add", "id": 3},
    ]
    replies: list[dict[str, Any]] = []
    threads = [
        threading.Thread(
            target=lambda: replies.append(controller.answer("x", {"case": page.case, "ops": ops}))
        )
        for _ in range(3)
    ]
    for thread in threads:
        thread.start()
    assert gate.begun.wait(10)
    gate.go_on.set()
    for thread in threads:
        thread.join(10)
    session = controller.store.find("x")
    assert session is not None and session.case is not None
    assert [one.id for one in session.case.segmentation.lesions] == [1, 2]
    assert gate.predicted == 1
    assert [one["slices"]["1"]["ml"] for one in replies] == [replies[0]["slices"]["1"]["ml"]] * 3


def test_work_whose_line_broke_goes_on_where_it_was(served: Callable[..., Controller]) -> None:
    controller = served()
    page, _ = opened(controller)
    page.ask("boxes", slice=2, boxes=[[2, 2, 9, 9]])
    message = {"case": page.case, "ops": [{"op": "propagate", "id": 3, "lesion": 1}]}
    first = controller.work("x", message)
    for _ in range(3):
        assert next(first)["done"] is None
    first.close()  # as Gradio does where the page's connection is cut
    *_, last = controller.work("x", message)
    assert last["done"] == 3 and last["error"] is None and last["undo"]
    told = controller.answer("x", message)
    assert told["slices"] == {} and told["again"]["slices"] == last["slices"]
    controller.look(
        "x", {"case": page.case, "slice": 1}
    )  # with nothing unanswered: it has heard all
    assert "again" not in controller.answer("x", message)


def test_a_request_sent_again_takes_the_place_of_the_first(
    served: Callable[..., Controller],
) -> None:
    """There are four places for long work in the process: one page is not to take them all."""
    controller = served()
    page, _ = opened(controller)
    page.ask("boxes", slice=2, boxes=[[2, 2, 9, 9]])
    message = {"case": page.case, "ops": [{"op": "propagate", "id": 3, "lesion": 1}]}
    first, second = (controller.work("x", message, gives_way=True) for _ in range(2))
    assert next(first)["progress"] and next(second)["progress"]
    assert all(reply["done"] is None for reply in first)  # it ends, and leaves the rest
    *_, last = second
    assert last["done"] == 3 and last["undo"] and last["error"] is None


def test_many_requests_of_one_page_keep_no_thread_from_others(
    served: Callable[..., Controller], fakes: dict[str, BoxModel], clock: FakeClock
) -> None:
    gate = fakes["one"] = Gate("one")
    controller = served()
    page, _ = opened(controller)
    op = {"op": "boxes", "id": 2, "slice": 1, "boxes": [[0, 0, 4, 4]]}
    message = {"case": page.case, "ops": [op]}
    threads = [threading.Thread(target=controller.answer, args=("x", message)) for _ in range(4)]
    for thread in threads:
        thread.start()
    session = controller.store.find("x")
    assert session is not None and gate.begun.wait(10)
    wait_until(lambda: session.waiting == 4)
    clock.pass_minutes(40)  # who waits is there, however long it takes
    controller.store.sweep()
    assert controller.store.find("x") is session
    started = time.monotonic()
    refused = controller.answer("x", message)
    assert time.monotonic() - started < 5  # it waits for no work that is under way
    assert "one request under way at a time" in refused["error"]["text"] and "totals" not in refused
    gate.go_on.set()
    for thread in threads:
        thread.join(10)
    assert session.waiting == 0


class Slow(BoxModel):
    """A model with a refinement that takes a while for each box, and asks whether it is still wanted."""

    def predict(self, embedding: Any, boxes: Any, *, second_look: bool | None = None) -> Any:
        for _ in boxes:
            check_cancelled()
            time.sleep(0.02)
            self.predicted += 1
        self.predicted -= len(boxes)
        return super().predict(embedding, boxes, second_look=second_look)


def test_cancel_ends_work_between_two_slices_and_two_boxes(
    served: Callable[..., Controller], fakes: dict[str, BoxModel]
) -> None:
    """All slices between two boxes were computed before anybody asked whether they were wanted."""
    slow = fakes["one"] = Slow("one")
    controller = served()
    page, _ = opened(controller)
    page.ask("boxes", slice=0, boxes=[[2, 2, 9, 9]])
    page.ask("boxes", slice=SLICES - 1, boxes=[[2, 2, 9, 9]])
    session = controller.store.find("x")
    assert session is not None and session.case is not None
    before, asked = session.case.segmentation.state, slow.predicted
    message = {"case": page.case, "ops": [{"op": "propagate", "id": 4, "lesion": 1}]}
    replies = controller.work("x", message)
    assert next(replies)["progress"]["cancel"]
    next(replies)
    controller.look("x", {"case": page.case, "cancel": True, "ops": [{"op": "propagate", "id": 4}]})
    *_, last = replies
    assert last["cancelled"] and last["error"] is None and last["done"] == 4
    assert session.case.segmentation.state == before and slow.predicted - asked <= 2


class Unwanted(Slow):
    """A model whose person presses Cancel while it answers, where a test says so."""

    press: Callable[[], None] | None = None

    def predict(self, embedding: Any, boxes: Any, *, second_look: bool | None = None) -> Any:
        found = super().predict(embedding, boxes, second_look=second_look)
        if self.press is not None:
            self.press()
        return found


def test_cancel_ends_whatever_says_that_it_can_be_cancelled(
    served: Callable[..., Controller], fakes: dict[str, BoxModel], tmp_path: Path
) -> None:
    """Reading a scan, other methods' masks, a session made again: at once, and nothing has changed."""
    model = fakes["three"] = Unwanted("three")
    controller = served()
    page, _ = opened(controller)
    page.ask("models", models=["three", "two"])
    for k in range(SLICES):
        page.ask("boxes", slice=k, boxes=[[2, 2, 9, 9]])
    record = Path(page.ask("export", kind="record")["download"]["path"]).read_bytes()
    page.ask("models", models=["one", "two"])
    for k in range(SLICES):
        page.ask("boxes", slice=k, boxes=[[3, 3, 9, 9]])
    case = controller.store.get("x").case
    assert case is not None
    files = []
    for name in ("scan.nii", "session.json"):
        place = tmp_path / name / name
        place.parent.mkdir()
        place.write_bytes(record)
        files.append([{"path": str(place), "name": name}])

    def read(path: Path, **_: Any) -> Any:
        assert model.press is not None
        model.press()
        for _ in range(1000):
            check_cancelled()
            time.sleep(0.01)

    controller.shared.read = read
    asked: tuple[dict[str, Any], ...] = (
        {"op": "open", "files": files[0]},
        {"op": "models", "models": ["one", "three"]},
        {"op": "load", "files": files[1]},
    )
    for op in asked:
        page.last += 1
        ops = [{**op, "id": page.last}]
        message = {"case": page.case, "ops": ops}
        model.press = partial(controller.look, "x", {**message, "cancel": True})
        before, done = case.segmentation.labels_zyx("one"), model.predicted
        *told, last = controller.work("x", message)
        assert any(one["progress"]["cancel"] for one in told)
        assert last.get("cancelled") and last["error"] is None, op["op"]
        assert last["models"] == ["one", "two"] and last["case"] == page.case
        assert np.array_equal(case.segmentation.labels_zyx("one"), before)
        assert model.predicted - done <= 1, op["op"]


def test_a_cancelled_operation_that_has_not_begun_never_does(
    served: Callable[..., Controller],
) -> None:
    controller = served()
    page, _ = opened(controller)
    ops = [{"op": "models", "id": 2, "models": ["two", "three"]}]
    controller.look("x", {"case": page.case, "cancel": True, "ops": ops})
    reply = controller.answer("x", {"case": page.case, "ops": ops})
    assert reply["cancelled"] and reply["models"] == ["one", "two"]
    assert page.ask("boxes", slice=1, boxes=[[0, 0, 4, 4]])["done"]


def test_the_work_of_a_page_that_is_closed_ends(
    served: Callable[..., Controller], fakes: dict[str, BoxModel]
) -> None:
    slow = fakes["one"] = Slow("one")
    controller = served()
    page, lease = opened(controller)
    page.ask("boxes", slice=2, boxes=[[2, 2, 9, 9]])
    asked = slow.predicted
    replies = controller.work(
        "x", {"case": page.case, "ops": [{"op": "propagate", "id": 3, "lesion": 1}]}
    )
    next(replies)
    controller.release(lease)
    *_, last = replies
    assert last["gone"] and slow.predicted - asked <= 1


def test_nothing_is_computed_ahead_for_a_page_that_says_nothing(
    served: Callable[..., Controller], clock: FakeClock, tmp_path: Path
) -> None:
    controller = served()
    file = tmp_path / "scan.nii"
    file.write_bytes(b"")
    page = Page(controller, "x")
    page.ask("open", files=[{"path": str(file), "name": "scan.nii"}])
    session = controller.store.find("x")
    assert session is not None and session.case is not None and session.case.volume is not None
    case, plans = session.case, controller.embeddings._plans
    del controller.embeddings.plan  # the fixture's, that plans nothing
    controller.embeddings.hold(3600)
    controller.embeddings.plan(case.owner, case.models, session.case.volume.hu_zyx, 1)
    controller.sweep()
    assert case.owner in plans
    clock.pass_minutes(3)
    controller.sweep()
    assert case.owner not in plans and controller.store.find("x") is session


def test_a_scan_is_read_one_at_a_time_and_the_page_is_free_meanwhile(
    served: Callable[..., Controller], tmp_path: Path
) -> None:
    controller = served()
    page, _ = opened(controller)
    begun, go_on, most = threading.Event(), threading.Event(), []
    reading: list[int] = []

    def read(path: Any, **_: Any) -> Any:
        reading.append(1)
        most.append(len(reading))
        begun.set()
        assert go_on.wait(10)
        reading.pop()
        return numbered_scan()

    controller.shared.read = read
    threads = []
    for name in ("x", "y", "z"):
        files = [a_file(tmp_path, f"{name}.nii")]
        message = {"ops": [{"op": "open", "id": 9, "files": files}]}
        threads.append(threading.Thread(target=controller.answer, args=(name, message)))
    for thread in threads:
        thread.start()
    assert begun.wait(10)
    told = controller.aside("x", {"case": page.case, "aside": {"slice": 1}})
    assert told["case"] == page.case  # what is on screen stays until the new scan is there
    go_on.set()
    for thread in threads:
        thread.join(10)
    assert most == [1, 1, 1]


def test_what_was_meant_for_the_scan_before_is_refused_and_the_new_one_stays(
    served: Callable[..., Controller],
) -> None:
    """Two scans opened in quick succession: what is said of the first does not take the second for lost."""
    controller = served()
    page, _ = opened(controller)
    before = page.case
    opened_two = [{"op": "sample", "id": n, "case": before} for n in (2, 3)]
    late = {"op": "boxes", "id": 4, "case": before, "slice": 1, "boxes": [[0, 0, 4, 4]]}
    reply = controller.answer("x", {"case": before, "ops": [*opened_two, late]})
    assert "belongs to the scan it was drawn on" in reply["error"]["text"] and "gone" not in reply
    session = controller.store.find("x")
    assert session is not None and session.case is not None
    assert reply["case"] == session.case.token and not session.case.segmentation.marked_slices()
    assert Path(reply["scan"]["voxels"]).is_file()
    assert len(list(session.public.glob("*/voxels.gz"))) == 1
    assert "gone" not in controller.aside("x", {"case": before, "aside": {"slice": 1}})


# What is sent


def test_half_of_an_upload_is_deleted_as_soon_as_none_is_under_way(tmp_path: Path) -> None:
    folder = ServerFolder(tmp_path)
    whole = folder.uploads / "hash" / "scan.nii"
    whole.parent.mkdir()
    whole.write_bytes(b"voxels")
    half, others = folder.uploads / "half", folder.uploads / "others"

    async def upload(request: Request) -> PlainTextResponse:
        path = folder.uploads / request.query_params["name"]
        path.write_bytes(await request.body())
        if path == others:  # under way meanwhile: another upload, which is cut
            await run_in_threadpool(cut)
            assert half.is_file()
        raise OSError(28, "No space left on device")

    def cut() -> None:
        with pytest.raises(OSError):
            client.post("/upload?name=half", content=b"voxe")

    routes = [Route("/upload", upload, methods=["POST"])]
    guard = [Middleware(BrokenUploads, sweep=folder.sweep_broken_uploads)]
    with TestClient(Starlette(routes=routes, middleware=guard)) as client, pytest.raises(OSError):
        client.post("/upload?name=others", content=b"vox")
    assert not half.exists() and not others.exists() and whole.is_file()
    folder.close()


def test_an_upload_that_is_cut_is_no_error_of_the_servers() -> None:
    swept = []

    async def cut(scope: Scope, receive: Receive, send: Send) -> None:
        raise ClientDisconnect

    async def nobody(*_: Any) -> Any:
        raise AssertionError("nobody is there")

    guarded = BrokenUploads(cut, sweep=lambda: swept.append(True))
    awaited(guarded({"type": "http", "path": "/gradio_api/upload"}, nobody, nobody))
    assert swept == [True]


@pytest.mark.parametrize("wrapped", [False, True])
def test_a_full_disk_is_said_in_a_sentence(
    served: Callable[..., Controller], monkeypatch: pytest.MonkeyPatch, wrapped: bool
) -> None:
    controller = served()
    page, _ = opened(controller)

    def full(*_: Any) -> Any:
        error = OSError(28, "No space left on device")
        if wrapped:  # as the one writer of files does
            raise InputError("An output file must be writable.") from error
        raise error

    session = controller.store.find("x")
    assert session is not None
    monkeypatch.setattr(session, "new_folder", full)
    for op, fields in (("sample", {}), ("export", {"kind": "picture", "slice": 1})):
        text = page.ask(op, **fields)["error"]["text"]
        assert "the disk is full" in text and text.endswith(".")
        page.case = page.case or (session.case and session.case.token)
    assert session.case is not None and session.case.token == page.case
