"""One load for each model, and nobody else waits for it."""

from __future__ import annotations

import threading
from pathlib import Path

import pytest

from ichseg.errors import WeightsError
from ichseg.methods import catalogue
from ichseg.methods.method import Method
from ichseg.methods.threshold import ThresholdPredictor


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


def test_an_absent_models_weights_are_not_asked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(catalogue, "available", lambda name: (False, "The weights are not here."))
    monkeypatch.setattr(catalogue, "_LOADED", {})
    with pytest.raises(WeightsError, match=r"not here\. Fetch them in Compare"):
        catalogue.load_listed("sam")
