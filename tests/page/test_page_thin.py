"""A thin series on the page: its slabs are embedded first, and a hematoma is followed by them."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import phantoms
import pytest

from ichseg.page.controller import Controller
from ichseg.page.embeddings import Embeddings, Key
from ichseg.scan.slabs import slabs_of
from ichseg.scan.volume import CTVolume
from tests.light_finder import LightFinder, use
from tests.pages import BoxModel, BrightModel, Page, wait_until

MIDDLE = [12, 12, 69, 69]


@pytest.fixture
def ball() -> CTVolume:
    """A bright ball of 13 mm radius around slice 40 of 80, 0.5 mm apart, in brain of 30 HU."""
    scan = phantoms.scan(tuple(0.5 * np.arange(80)), (80, 80))
    z, y, x = np.ogrid[-40:40, -40:40, -40:40]
    scan.hu_zyx[:] = np.where(z**2 + y**2 + x**2 <= 26**2, 65, 30)
    return scan


@pytest.fixture
def models(fakes: dict[str, BoxModel]) -> dict[str, BoxModel]:
    return {name: BrightModel(name) for name in fakes}


@pytest.fixture
def controller(models: dict[str, BoxModel], tmp_path: Path, ball: CTVolume) -> Iterator[Controller]:
    embeddings = Embeddings(models.__getitem__, budget_bytes=100_000)
    made = Controller(tmp_path, embeddings=embeddings, read=lambda path, **_: ball)
    yield made
    made.close()


@pytest.fixture
def finder(monkeypatch: pytest.MonkeyPatch) -> LightFinder:
    return use(LightFinder(skull=False, embedded_by="two"), monkeypatch)


def test_blood_is_looked_for_on_slabs_and_what_is_accepted_is_followed_by_them(
    finder: LightFinder, controller: Controller, models: dict[str, BoxModel], ball: CTVolume
) -> None:
    slabs = slabs_of(ball)
    assert slabs is not None
    page = Page(controller, "x")
    page.ask("sample")

    def likely() -> dict[str, float]:
        asked = {"case": page.case, "aside": {"slice": 0, "likely": True}}
        slices: dict[str, float] = controller.aside(page.name, asked)["likely"]["slices"]
        return slices

    wait_until(lambda: len(likely()) == len(ball.hu_zyx))
    assert {k for k, share in likely().items() if share > 0.5} > {"30", "40", "50"}
    assert sorted(finder.looked) == [slab.slices[0] for slab in slabs.each]
    (told,) = page.ask("suggest")["proposals"]["found"]
    assert len(finder.looked) == len(slabs.each), "what was looked at is not looked at again"
    assert {int(k) for k in told["slices"]} <= {slab.middle for slab in slabs.each}
    whole = ball.hu_zyx == 65
    true_ml = float((whole.sum(axis=(1, 2)) * ball.voxel_volumes_ml).sum())
    assert told["ml"] == pytest.approx(true_ml, rel=0.15)

    slices = [{"slice": int(k), "boxes": boxes} for k, boxes in told["slices"].items()]
    reply = page.ask("accept", proposals=[{"key": 1, "slices": slices}])
    assert reply["error"] is None and reply["accepted"] == [(1, 1)]
    for model in ("one", "two"):
        assert reply["totals"][model] == pytest.approx(true_ml, rel=0.05)
    marked = {int(k) for k in reply["slices"]}
    assert marked == set(range(min(marked), max(marked) + 1))
    undone = page.ask("undo")
    assert undone["totals"] == {"one": 0, "two": 0} and not undone["undo"]


def test_slabs_are_embedded_first_then_slices_outward(ball: CTVolume) -> None:
    model = BoxModel("a")
    embeddings = Embeddings(lambda name: model, budget_bytes=1_100)  # eleven of them
    embeddings.admit("case")
    slabs = slabs_of(ball)
    assert slabs is not None
    embeddings.plan("case", ["a"], ball.hu_zyx, 37, slabs=slabs)
    wait_until(lambda: not embeddings.is_planned("case"))
    kept = [Key("case", "a", slab.slices) for slab in slabs.each]
    assert all(key in embeddings for key in kept)
    assert all(Key("case", "a", k) in embeddings for k in (36, 37, 38))
    assert len(model.embedded) == 11
    embeddings.close()


def test_every_slice_is_marked_and_counted_from_a_box_on_one(
    controller: Controller, models: dict[str, BoxModel], ball: CTVolume
) -> None:
    controller.embeddings.plan = lambda *_: None  # type: ignore[method-assign]
    page = Page(controller, "x")
    page.ask("sample")
    own = page.ask("boxes", slice=40, boxes=[MIDDLE])
    assert len(models["one"].embedded) == 1, "the answer on a slice is of that slice alone"
    reply = page.ask("propagate", lesion=1)
    whole = ball.hu_zyx == 65
    marked = {int(k) for k in reply["slices"]} | {40}
    assert marked <= set(np.flatnonzero(whole.any(axis=(1, 2))))
    assert len(marked) >= whole.any(axis=(1, 2)).sum() - 4
    assert "40" not in reply["slices"], "a person's slice stays as it was"
    assert own["slices"]["40"]["origin"] == {"1": "box"}
    assert {one["origin"]["1"] for one in reply["slices"].values()} == {"propagated"}
    true_ml = float((whole.sum(axis=(1, 2)) * ball.voxel_volumes_ml).sum())
    for model in ("one", "two"):
        assert reply["totals"][model] == pytest.approx(true_ml, rel=0.04)
    assert len(models["one"].embedded) <= 1 + 8
    (stops,) = [one["stops"] for one in reply["lesions"]]
    assert {stop["slice"] for stop in stops} == {min(marked), max(marked)}
