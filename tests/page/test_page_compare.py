"""Comparing the methods, and fetching those that are absent."""

from __future__ import annotations

import hashlib
import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from ichseg.files.write import save_mask
from ichseg.methods import catalogue, threshold
from ichseg.methods import weights as weight_files
from ichseg.methods.method import Method
from ichseg.page.controller import Controller
from tests.pages import (
    CloserModel,
    Page,
    area_ml,
    rested,
)


def test_scores_are_of_the_first_method_and_of_the_reference_by_scope(
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
    reference = np.zeros(case.volume.shape_zyx, bool)
    reference[3, 0:4, 0:4] = reference[5, 0:4, 0:4] = True
    sent = tmp_path / "hash" / "reference.nii.gz"
    sent.parent.mkdir()
    save_mask(sent, reference, case.volume)
    reply = page.ask("reference", files=[{"path": str(sent), "name": "reference.nii.gz"}])
    assert reply["error"] is None and set(reply["reference"]["slices"]) == {"3", "5"}
    assert not list(controller.store.get("x").private.rglob("reference.nii.gz"))
    here, marked, whole = (scope["rows"][1] for scope in scores(5)["scopes"])
    assert here["dice"] == 0 and here["reference_ml"] == area_ml(16)  # slice 5, with no box on it
    assert (marked["dice"], marked["jaccard"], marked["surface_dice"]) == (1, 1, 1)
    assert whole["dice"] == pytest.approx(2 * 16 / 48)
    assert whole["difference_percent"] == pytest.approx(-50)
    nothing = scores(0)["scopes"][0]["rows"][0]
    assert nothing["dice"] is None and nothing["difference_percent"] is None
    page.ask("reference", remove=True)
    assert len(scores(3)["scopes"]) == 2


def test_a_reference_that_is_no_mask_of_the_scan_is_refused(
    controller: Controller, tmp_path: Path
) -> None:
    page = Page(controller, "x")
    page.ask("sample")
    sent = tmp_path / "notes.nii.gz"
    sent.write_text("no mask")
    reply = page.ask("reference", files=[{"path": str(sent), "name": "notes.nii.gz"}])
    assert reply["error"]["text"].startswith("notes.nii.gz: ") and "reference" not in reply


def test_all_methods_are_shown_at_once(controller: Controller) -> None:
    page = Page(controller, "x")
    page.ask("sample")
    page.ask("boxes", slice=3, boxes=[[0, 0, 4, 4]])
    reply = page.ask("models", models=["one", "two", "three"])
    assert reply["models"] == ["one", "two", "three"]
    assert reply["totals"] == dict.fromkeys(("one", "two", "three"), area_ml(16))
    for wrong in (["one"], ["one"] * 4):
        assert "choose two" in page.ask("models", models=wrong)["error"]["text"]


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


def test_the_hub_is_asked_once_a_person_fetches_and_not_before(
    controller: Controller, far: ThreadingHTTPServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nothing leaves the machine by opening the comparison, by a record or by a download that names a method."""
    asked: list[str] = []
    monkeypatch.setattr(weight_files, "_ask_hub", asked.append)
    monkeypatch.setattr(controller.embeddings, "load", catalogue.load_listed)
    page = Page(controller, "x")
    page.ask("sample")
    page.ask("boxes", slice=1, boxes=[[0, 0, 4, 4]])
    reply = controller.aside("x", {"case": page.case, "aside": {"slice": 0, "methods": True}})
    (choice,) = (one for one in reply["choices"] if one["name"] == "far")
    assert choice["fetch"] and not choice["hindrance"]
    for kind, name in (("picture", "far"), ("picture", "someone/far"), ("mask", "someone/far")):
        text = page.ask("export", kind=kind, slice=1, model=name)["error"]["text"]
        assert "someone/far" not in name or "one of" in text, text
    assert asked == []
    page.ask("fetch", name="far")
    assert asked == ["someone/far"]


def test_where_the_hub_cannot_be_reached_the_reason_is_told(
    controller: Controller, far: ThreadingHTTPServer
) -> None:
    far.shutdown()
    far.server_close()
    page = Page(controller, "x")
    page.ask("sample")
    assert "could not be" in page.ask("fetch", name="far")["error"]["text"]
