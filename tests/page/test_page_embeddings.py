"""The store of slice embeddings: each computed once, people who wait first."""

from __future__ import annotations

import threading
import time
from typing import Any

import pytest

from ichseg.errors import WeightsError
from ichseg.page.embeddings import Embeddings, Key
from tests.pages import (
    SLICES,
    BoxModel,
    numbered_scan,
    wait_until,
)


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
