"""One load for each model, and nobody else waits for it."""

from __future__ import annotations

import json
import threading
from pathlib import Path

import pytest

from ichseg.errors import WeightsError
from ichseg.methods import catalogue
from ichseg.methods.method import Method
from ichseg.methods.threshold import ThresholdPredictor
from ichseg.page.controller import Controller
from ichseg.page.embeddings import Embeddings
from tests.pages import Page, numbered_scan


def test_a_model_that_loads_holds_nobody_up_and_loads_once(monkeypatch: pytest.MonkeyPatch) -> None:
    begun, go_on, loads = threading.Event(), threading.Event(), []

    def slow(method: Method, *_: str) -> ThresholdPredictor:
        loads.append(method.name)
        if method.name == "slow":
            begun.set()
            assert go_on.wait(10)
        return ThresholdPredictor()

    rows = {name: Method(name, name, "A fake.", slow) for name in ("slow", "quick")}
    monkeypatch.setattr(catalogue, "CATALOGUE", rows)
    monkeypatch.setattr(catalogue, "_LOADED", {})
    catalogue.load_predictor("quick")
    got: list[object] = []
    threads = [
        threading.Thread(target=lambda: got.append(catalogue.load_predictor("slow")))
        for _ in range(2)
    ]
    for thread in threads:
        thread.start()
    assert begun.wait(10)
    catalogue.load_predictor("quick")  # with one lock for all, this waited for the other
    go_on.set()
    for thread in threads:
        thread.join(10)
    assert loads == ["quick", "slow"] and got[0] is got[1]


def test_a_load_that_fails_is_tried_again(monkeypatch: pytest.MonkeyPatch) -> None:
    tries = []

    def load(method: Method, *_: str) -> ThresholdPredictor:
        tries.append(method.name)
        if len(tries) == 1:
            raise WeightsError("Not yet.")
        return ThresholdPredictor()

    monkeypatch.setattr(catalogue, "CATALOGUE", {"a": Method("a", "A", "A fake.", load)})
    monkeypatch.setattr(catalogue, "_LOADED", {})
    with pytest.raises(WeightsError, match="Not yet"):
        catalogue.load_predictor("a")
    assert catalogue.load_predictor("a") is catalogue.load_predictor("a")
    assert len(tries) == 2


@pytest.mark.parametrize("name", ["owner/name", "./weights", "", "x" * 5000])
def test_a_page_loads_the_catalogues_models_and_nothing_else(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Path, "is_dir", lambda self: pytest.fail(f"looked for {self}"))
    with pytest.raises(WeightsError, match="one of litemedsam-rslora") as refused:
        catalogue.load_listed(name)
    assert len(str(refused.value)) < 400


def test_neither_a_record_nor_a_picture_makes_the_page_load_another_model(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What a record names was downloaded from the hub, or looked for among the server's folders."""
    monkeypatch.setattr(catalogue, "default_model", lambda: "threshold")
    monkeypatch.setattr(catalogue, "default_baseline", lambda: "fcm")
    controller = Controller(
        tmp_path, embeddings=Embeddings(), read=lambda path, **_: numbered_scan()
    )
    loaded: list[str] = []
    load = catalogue.load_predictor

    def counted(name: str) -> object:
        loaded.append(name)
        return load(name)

    monkeypatch.setattr(catalogue, "load_predictor", counted)
    page = Page(controller, "x")
    page.ask("sample")
    page.ask("boxes", slice=1, boxes=[[2, 2, 9, 9]])
    record = json.loads(Path(page.ask("export", kind="record")["download"]["path"]).read_text())
    sent = tmp_path / "upload" / "session.json"
    sent.parent.mkdir()
    sent.write_text(json.dumps(record | {"model": "owner/name"}))
    for op, fields in (
        ("load", {"files": [{"path": str(sent), "name": "session.json"}]}),
        ("export", {"kind": "picture", "slice": 1, "model": "owner/name"}),
    ):
        text = page.ask(op, **fields)["error"]["text"]
        assert "is one of litemedsam-rslora" in text, text
    assert set(loaded) == {"threshold", "fcm"}
    controller.close()


def test_an_absent_models_weights_are_not_asked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(catalogue, "available", lambda name: (False, "The weights are not here."))
    monkeypatch.setattr(catalogue, "_LOADED", {})
    with pytest.raises(WeightsError, match=r"not here\. Fetch them in Compare"):
        catalogue.load_listed("sam")
