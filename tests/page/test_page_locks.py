"""What is marked is read under the lock that writes it: nobody sees, or trips over, half of a change."""

from __future__ import annotations

import logging
import threading
import traceback
from collections.abc import Callable
from typing import Any

import pytest

from ichseg.marks.history import History
from ichseg.page.case import Case
from ichseg.page.controller import Controller
from ichseg.page.leases import Rate
from ichseg.page.panels.files.panel import Export, _export
from tests.light_finder import LightFinder, use
from tests.pages import SLICES, BoxModel, CloserModel, Page

ROUNDS = 60


class Watch:
    """Where what is marked on an open scan was read or changed by a thread that did not hold its session's lock."""

    def __init__(self, controller: Controller, patch: pytest.MonkeyPatch) -> None:
        self.controller = controller
        self.seen: set[str] = set()
        now = History.now.fget
        assert now is not None

        def watched(history: History) -> Any:
            self.check(lambda case: case.segmentation._history is history)
            return now(history)

        patch.setattr(History, "now", property(watched))
        for name in ("box_masks", "slice_ml", "failed", "refinement_failed", "reference"):
            patch.setattr(Case, name, self._watched(name), raising=False)

    def _watched(self, name: str) -> property:
        """A case's own attribute, looked at by ``check`` whenever it is asked for."""

        def get(case: Case) -> Any:
            self.check(lambda one: one is case)
            return vars(case)[name]

        return property(get, lambda case, value: vars(case).update({name: value}))

    def check(self, is_it: Callable[[Case], bool]) -> None:
        for session in list(self.controller.store._sessions.values()):
            theirs = any(is_it(case) for case in session.cases.values())
            if theirs and not session.lock._is_owned():  # type: ignore[attr-defined]
                stack = [
                    one for one in traceback.extract_stack() if "/ichseg/page/" in one.filename
                ]
                self.seen.add(
                    " < ".join(f"{one.name}:{one.lineno}" for one in reversed(stack[-4:]))
                )


def passing(page: Page, k: int = 1, **wanted: Any) -> dict[str, Any]:
    everything = {"compare": True, "measure": {"view": True}, "looks": True, "likely": True}
    aside = {"slice": k, **everything, "growth_range": True, **wanted}
    message = {"case": page.case, "aside": aside, "followup": True}
    return page.controller.aside(page.name, message)


def test_every_operation_holds_the_lock_for_what_is_marked(
    unhurried: Controller, closer: CloserModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    use(LightFinder(skull=False, embedded_by="two"), monkeypatch)
    page, watch = Page(unhurried, "x"), Watch(unhurried, monkeypatch)
    page.ask("sample")
    page.ask("fetched")
    page.ask("boxes", slice=1, boxes=[[2, 2, 12, 12]], first=True)
    page.ask("complete", slice=1)
    passing(page)
    page.ask("propagate", lesion=1)
    passing(page, 2)
    page.ask("lesion_add", type="IVH")
    page.ask("boxes", slice=3, lesion=2, boxes=[[14, 2, 20, 9]])
    page.ask("correct", slice=3, lesion=2, tool="brush", points=[[18, 18]])
    page.ask("lesion_set", lesion=2, name="Left", visible=False)
    page.ask("abc2", lesion=1, a=None, b=None, c=5.0)
    for kind in ("mask", "table", "record", "picture", "regular", "csv", "json"):
        page.ask("export", kind=kind, slice=1)
    page.ask("models", models=["two", "one", "three"])
    page.ask("models", models=["one", "two"])
    page.ask("edge", on=False)
    page.ask("reference", sample=True)
    page.ask("suggest")
    page.ask("accept", proposals=[{"key": 1, "slices": [{"slice": 5, "boxes": [[2, 2, 9, 9]]}]}])
    for op in ("undo", "redo"):
        page.ask(op)
    page.ask("sample", role="followup")
    page.ask("boxes", slice=1, boxes=[[2, 2, 9, 9]])
    passing(page)
    page.ask("switch", role="baseline")
    page.ask("export", kind="csv")
    page.ask("lesion_remove", lesion=2)
    page.ask("clear_slice", slice=1)
    page.ask("clear")
    assert watch.seen == set()


class Unhurried(BoxModel):
    """A model that takes a moment in the middle of a change."""

    def predict(self, embedding: Any, boxes: Any, *, second_look: bool | None = None) -> Any:
        threading.Event().wait(0.002)
        return super().predict(embedding, boxes, second_look=second_look)


def test_who_reads_beside_who_draws_sees_whole_changes_alone(
    unhurried: Controller, fakes: dict[str, BoxModel], caplog: pytest.LogCaptureFixture
) -> None:
    """One thread draws, adds, names, corrects and takes away; the other reads totals, measures, scores and files."""
    fakes["one"] = Unhurried("one")
    page = Page(unhurried, "x")
    page.ask("sample")
    for k in range(SLICES):
        page.ask("boxes", slice=k, boxes=[[12, 12, 16, 16]])
    session = unhurried.store.find("x")
    assert session is not None
    session.rate = Rate(10**6, 10**6)
    over, wrong = threading.Event(), list[str]()

    def draw() -> None:
        for turn in range(ROUNDS):
            k = turn % SLICES
            page.ask("lesion_add", type="IVH")
            page.ask("boxes", slice=k, lesion=2, boxes=[[2, 2, 9, 9 + turn % 13]])
            page.ask("correct", slice=k, lesion=2, tool="brush", points=[[18, 18]])
            page.ask("lesion_set", lesion=2, type="SDH", name=f"Turn {turn}")
            page.ask("clear_slice" if turn % 2 else "lesion_remove", slice=k, lesion=2)
            page.ask("undo" if turn % 3 else "redo")
            for lesion in unhurried.answer("x", {"case": page.case})["lesions"][1:]:
                page.ask("lesion_remove", lesion=lesion["id"])

    def read() -> None:
        kinds = ("record", "table", "mask")
        for number in range(10**6):
            if over.is_set():
                return
            told = passing(page, number % 6) if number % 3 else {}
            told |= unhurried.answer("x", {"case": page.case})
            blood = sum(one["ml"] for one in told["lesions"] if one["blood"])
            total = told["totals"]["one"]
            if total is None or abs(total - blood) > 1e-6:
                wrong.append(f"in all {total} ml, of the lesions {blood}")
            reply: dict[str, Any] = {"slices": {}, "trouble": {}}
            for _ in _export(unhurried.shared, session, Export(kind=kinds[number % 3]), reply):
                pass

    def watched(work: Callable[[], None]) -> None:
        try:
            work()
        except Exception as error:
            wrong.append("".join(traceback.format_exception(error)[-3:]))
        finally:
            over.set()

    threads = [threading.Thread(target=watched, args=(work,)) for work in (draw, read)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert wrong == [] and not [one for one in caplog.records if one.levelno >= logging.ERROR]
