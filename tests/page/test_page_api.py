"""The API beside the page: what it answers, what it refuses in a sentence, and that nothing of a call stays."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import gradio as gr
import numpy as np
import phantoms
import pytest
from starlette.applications import Starlette
from starlette.testclient import TestClient

from ichseg import cohort
from ichseg.errors import WeightsError
from ichseg.files.nifti_mask import read_mask
from ichseg.marks.box import Box
from ichseg.marks.document import Segmentation
from ichseg.methods.automatic import Automatic
from ichseg.page import api as page_api
from ichseg.page.api import Api
from ichseg.page.controller import Controller
from ichseg.page.layout import build_page
from ichseg.page.serve import wants_api
from ichseg.scan.read import read_volume
from ichseg.scan.volume import CTVolume

BOX = [8.0, 6.0, 30.0, 26.0]


def request(host: str = "10.0.0.1") -> Any:
    return SimpleNamespace(client=SimpleNamespace(host=host))


@pytest.fixture
def api(tmp_path: Path) -> Any:
    made = Api(tmp_path / "uploads")
    yield made
    made.close()


@pytest.fixture
def upload(tmp_path: Path, api: Api) -> Callable[..., dict[str, Any]]:
    """Puts a scan where Gradio would, under a patient's name, in a folder that its content names."""

    def put(name: str = "SMITH_JOHN.nii.gz", folder: str = "c0ffee") -> dict[str, Any]:
        hu_zyx = phantoms.scan((0, 5, 10, 15), (40, 44)).hu_zyx.copy()
        hu_zyx[1:3, 8:24, 10:28] = phantoms.BLOOD_HU
        place = api.upload_root / folder
        place.mkdir(parents=True, exist_ok=True)
        path = phantoms.save_nifti(place / name, hu_zyx)
        return {"path": str(path), "orig_name": name, "meta": {"_type": "gradio.FileData"}}

    return put


def files_of(api: Api) -> list[str]:
    return sorted(path.name for path in api.upload_root.rglob("*") if path.is_file())


def test_a_scan_and_its_boxes_give_record_mask_and_picture_of_one_call_of_the_library(
    api: Api, upload: Callable[..., dict[str, Any]], tmp_path: Path
) -> None:
    scan = upload()
    volume = read_volume(scan["path"])
    expected = cohort.segment(volume, {1: [BOX]}, model="threshold", propagate=True)
    record, mask, picture = api.segment(scan, {"1": [BOX]}, "threshold", True, request())
    told = json.loads(record)
    assert {**expected.record(), "versions": told["versions"], "notice": told["notice"]} == told
    np.testing.assert_array_equal(read_mask(mask["path"], volume), expected.labels_zyx)
    assert Path(picture["path"]).read_bytes() == expected.picture_png()
    assert "SMITH" not in record + mask["orig_name"] + picture["orig_name"]
    assert files_of(api) == sorted([mask["orig_name"], picture["orig_name"]])  # the upload is gone


def test_a_mask_is_measured_as_the_command_line_measures_it(
    api: Api, upload: Callable[..., dict[str, Any]]
) -> None:
    _, mask, _ = api.segment(upload(), {"1": [BOX]}, "threshold", False, request())
    given = Path(mask["path"]).rename(api.upload_root / "JONES.nii.gz")
    record, report = api.measure(upload(), str(given), request())
    baseline = json.loads(record)["baseline"]
    assert len(baseline["lesions"]) == 1 and baseline["volume_ml"] > 0
    assert "SMITH" not in record and "JONES" not in record
    assert Path(report["path"]).read_bytes().startswith(b"%PDF")


def test_a_file_is_known_by_gradios_record_its_path_or_its_address(
    api: Api, upload: Callable[..., dict[str, Any]]
) -> None:
    for name in ("a b.nii.gz", "ü.nii.gz"):
        path = upload(name)["path"]
        address = f"https://ct.example.org/pre/gradio_api/file={path.replace(' ', '%20')}"
        for given in (path, address):
            upload(name)
            assert api.segment(given, {"1": [BOX]}, "threshold", False, request())[0]


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ("/etc/hostname", "is a file that was uploaded to this server"),
        ("https://example.org/scan.nii.gz", "is a file that was uploaded to this server"),
        ("../../etc/hostname", "is a file that was uploaded to this server"),
        ({"path": "uploads"}, "is a file that was uploaded to this server"),
        ({"path": "\0"}, "is a file that was uploaded to this server"),
        ({"no": "path"}, "'path' of the file 'scan' is required; got nothing"),
        (7, "he file 'scan' is an object; got 7"),
        ("x" * 5000, "at most 4096 characters"),
    ],
)
def test_other_files_are_refused_and_nothing_is_fetched(api: Api, given: Any, words: str) -> None:
    with pytest.raises(gr.Error, match=words) as error:
        api.segment(given, {"1": [BOX]}, "threshold", False, request())
    assert error.value.print_exception is False  # no path of anybody's in the log


@pytest.mark.parametrize(
    ("asked", "words"),
    [
        ({"boxes": {}}, "has at least 1 item"),
        ({"boxes": [BOX]}, "is an object"),
        ({"boxes": {"one": [BOX]}}, "is a whole number"),
        ({"boxes": {"-1": [BOX]}}, "is 0 or more"),
        ({"boxes": {"9": [BOX]}}, "slices 0 to 3; got 9"),
        ({"boxes": {"1": [[1, 2, 3]]}}, "has at least 4 items"),
        ({"boxes": {"1": [[1, 2, 3, float("nan")]]}}, "a finite number|or less|or more"),
        ({"boxes": {"1": [BOX] * 65}}, "has at most 64 items"),
        ({"boxes": {str(k): [BOX] for k in range(2001)}}, "at most 2000 items"),
        ({"model": "../../adapter"}, "A model here is one of"),
        ({"model": "owner/name"}, "A model here is one of"),
        ({"model": None}, "the model is text|The model is text"),
        ({"propagate": "perhaps"}, "is true or false"),
    ],
)
def test_what_cannot_be_meant_is_one_sentence_and_the_upload_goes(
    api: Api, upload: Callable[..., dict[str, Any]], asked: dict[str, Any], words: str
) -> None:
    call = {"boxes": {"1": [BOX]}, "model": "threshold", "propagate": False, **asked}
    with pytest.raises(gr.Error, match=words) as error:
        api.segment(upload(), **call, request=request())
    assert "reload" not in str(error.value) and files_of(api) == []


def test_auto_takes_what_the_program_proposes_and_says_so(
    api: Api, upload: Callable[..., dict[str, Any]], monkeypatch: pytest.MonkeyPatch
) -> None:
    def proposed(volume: CTVolume, edge: bool, **_: Any) -> tuple[Segmentation, Automatic]:
        marked = cohort.prompted_document(volume, {(1, 1): [Box(*BOX)]}, {}, edge)
        return marked, Automatic("a finder", scores={1: 0.9})

    def lacks(*_: Any, **__: Any) -> None:
        raise WeightsError("The finder's weights are not here; train them.")

    monkeypatch.setattr("ichseg.cohort.automatic.automatic_document", proposed)
    record = json.loads(api.segment(upload(), "auto", "threshold", False, request())[0])
    assert record["automatic"]["lesions"] == [{"lesion": 1, "score": 0.9}] and record["volume_ml"]
    monkeypatch.setattr("ichseg.cohort.automatic.automatic_document", lacks)
    with pytest.raises(gr.Error, match="weights are not here"):
        api.segment(upload(), "auto", "threshold", False, request())


def test_what_fails_unforeseen_says_nothing_of_the_file(
    tmp_path: Path, upload: Callable[..., dict[str, Any]]
) -> None:
    def fail(path: Path) -> CTVolume:
        raise RuntimeError(path)

    api = Api(tmp_path / "uploads", fail)
    with pytest.raises(gr.Error, match="Something failed on the server") as error:
        api.segment(upload(), {"1": [BOX]}, "threshold", False, request())
    assert "SMITH" not in str(error.value)


class Waiting:
    """A reader that waits to be let go on."""

    def __init__(self) -> None:
        self.reading, self.go_on = threading.Semaphore(0), threading.Event()

    def __call__(self, path: Path) -> CTVolume:
        self.reading.release()
        assert self.go_on.wait(20)
        return read_volume(path)


def test_a_caller_has_one_call_at_a_time_and_the_server_a_few(
    tmp_path: Path, upload: Callable[..., dict[str, Any]], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(page_api, "CALLS_WAITING", 1)
    wait, answers = Waiting(), list[str]()
    api = Api(tmp_path / "uploads", wait)

    def call(host: str, folder: str = "same") -> None:
        try:
            answers.append(
                api.segment(upload(folder=folder), {"1": [BOX]}, "threshold", False, request(host))[
                    0
                ]
            )
        except gr.Error as error:
            answers.append(str(error))

    threads = [threading.Thread(target=call, args=(f"10.0.0.{n}",)) for n in range(3)]
    for thread in threads[:2]:
        thread.start()
        assert wait.reading.acquire(timeout=10)
    call("10.0.0.1")
    assert "A caller has one call at a time" in answers.pop()
    threads[2].start()  # it waits for its turn
    limit = time.monotonic() + 10
    while len(api._callers) < 3 and time.monotonic() < limit:
        time.sleep(0.01)
    call("10.0.0.9")
    assert "answers 2 calls at a time; 3 are under way" in answers.pop()
    wait.go_on.set()
    for thread in threads:
        thread.join(20)
    # All three had the same upload, which the first to end left to the others.
    assert len(answers) == 3 and all("volume_ml" in one for one in answers)
    assert not api._callers and not [name for name in files_of(api) if "SMITH" in name]
    monkeypatch.setattr(page_api, "WAIT_SECONDS", 0.0)
    api._turns = threading.BoundedSemaphore(1)
    with api._turn("a"), pytest.raises(gr.Error, match="call again in a minute"):
        api.segment(upload(), {"1": [BOX]}, "threshold", False, request())
    api.close()


def test_a_call_ends_with_its_time(
    api: Api, upload: Callable[..., dict[str, Any]], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(page_api, "MOST_SECONDS", -1.0)
    for propagate in (False, True):
        with pytest.raises(gr.Error, match="A call takes at most 10 minutes"):
            api.segment(upload(), {"1": [BOX]}, "threshold", propagate, request())


def test_an_upload_that_came_again_is_left_to_the_call_it_came_for(
    tmp_path: Path, upload: Callable[..., dict[str, Any]]
) -> None:
    def read(path: Path) -> CTVolume:
        Path(first["path"]).unlink()
        upload()
        return read_volume(path)

    first = upload()
    api = Api(tmp_path / "uploads", read)
    api.segment(first, {"1": [BOX]}, "threshold", False, request())
    assert "SMITH_JOHN.nii.gz" in files_of(api)
    api.close()


def test_files_are_downloaded_once_and_no_longer_kept_than_said(
    api: Api, upload: Callable[..., dict[str, Any]], monkeypatch: pytest.MonkeyPatch
) -> None:
    def called() -> list[dict[str, Any]]:
        return list(api.segment(upload(), {"1": [BOX]}, "threshold", False, request())[1:])

    client = TestClient(Starlette(routes=[api.route()]))
    mask, picture = called()
    content = Path(mask["path"]).read_bytes()
    address = f"/gradio_api/file={mask['path']}"
    assert client.head(address).status_code == 200
    assert client.get(address, headers={"Range": "bytes=0-3"}).content == content[:4]
    answer = client.get(address)
    assert answer.content == content and answer.headers["cache-control"] == "no-store"
    assert client.get(address).status_code == 404 and files_of(api) == [picture["orig_name"]]
    assert client.get(f"/gradio_api/file={picture['path']}").status_code == 200
    assert files_of(api) == [] and not api._kept
    for other in ("/../SMITH", "/..%2f..%2fx", "/none/mask.nii.gz"):
        assert client.get(f"/gradio_api/file={api.upload_root}/api{other}").status_code == 404

    monkeypatch.setattr(page_api, "CALLS_KEPT", 1)
    called()
    left = called()
    assert files_of(api) == sorted(one["orig_name"] for one in left)
    monkeypatch.setattr(page_api, "KEEP_SECONDS", 0.05)
    called()
    limit = time.monotonic() + 10
    while files_of(api) and time.monotonic() < limit:
        time.sleep(0.02)
    assert files_of(api) == []
    monkeypatch.undo()
    called()
    api.close()
    assert files_of(api) == []


def test_the_api_is_these_two_and_off_by_one_switch(
    api: Api, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    controller = Controller(tmp_path)
    demo, options = build_page(controller, api)
    found = demo.get_api_info()
    assert set(found["named_endpoints"]) == {"/segment", "/measure"}
    assert not found["unnamed_endpoints"]
    names = [one["parameter_name"] for one in found["named_endpoints"]["/segment"]["parameters"]]
    assert names == ["scan", "boxes", "model", "propagate"]
    assert options["mcp_server"] is True and options["footer_links"] == ["api"]
    demo, options = build_page(controller)
    controller.close()
    assert not demo.get_api_info()["named_endpoints"]
    assert options["mcp_server"] is False and options["footer_links"] == []
    assert ".ich-programs { display: none; }" in options["css"]  # the help's word on it
    for said, wanted in ((None, True), ("on", True), ("off", False)):
        monkeypatch.delenv("ICHSEG_API", raising=False)
        if said is not None:
            monkeypatch.setenv("ICHSEG_API", said)
        assert wants_api() is wanted
    monkeypatch.setenv("ICHSEG_API", "maybe")
    with pytest.raises(ValueError, match="ICHSEG_API is on or off; got 'maybe'"):
        wants_api()
