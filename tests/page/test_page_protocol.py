"""What comes through the door: junk of every kind is answered in a sentence, and nothing marked is lost by it."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from dataclasses import MISSING, fields
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from ichseg.errors import InputError
from ichseg.page.controller import Controller
from ichseg.page.panels import PANELS
from ichseg.page.panels.boxes.panel import Boxes
from ichseg.page.panels.correct.panel import Correct
from ichseg.page.panels.files.panel import Export
from ichseg.page.panels.followup.panel import Ask
from ichseg.page.protocol import Message, parse
from tests.light_finder import LightFinder, use
from tests.pages import SLICES, Page

OPERATIONS = {one.name: one for panel in PANELS for one in panel.operations}

numbers = st.integers() | st.floats() | st.sampled_from([0, 1, 3, -1, SLICES, 2**31, 1e300])
words = st.text(max_size=12) | st.sampled_from(["brush", "copy", "one", "IVH", "followup", "mask"])
anything = st.recursive(
    st.none() | st.booleans() | numbers | words,
    lambda inner: st.lists(inner, max_size=5) | st.dictionaries(words, inner, max_size=3),
    max_leaves=10,
)
#: What a field has in an operation that can be meant.
SENSE: dict[str, st.SearchStrategy[Any]] = {
    "slice": st.integers(0, SLICES - 1),
    "onto": st.integers(0, SLICES),
    "lesion": st.sampled_from([1, 1, 1, 2]),
    "boxes": st.lists(st.lists(st.integers(-2, 30), min_size=3, max_size=5), max_size=3),
    "points": st.lists(st.lists(st.floats(-5, 40), min_size=2, max_size=2), max_size=3),
    "tool": st.sampled_from(["brush", "erase", "component", "fill", "smooth", "copy", "between"]),
    "hu_range": st.none() | st.lists(st.integers(-5, 90), min_size=2, max_size=2),
    "radius_mm": st.floats(0.1, 20),
    "role": st.sampled_from(["baseline", "followup"]),
    "kind": st.sampled_from(["mask", "table", "picture", "record"]),
    "models": st.lists(st.sampled_from(["one", "two", "three", "four"]), max_size=4),
    "a": st.none() | st.lists(st.floats(0, 30), min_size=4, max_size=4),
    "b": st.none() | st.lists(st.floats(0, 30), min_size=4, max_size=4),
    "c": st.none() | st.floats(-1, 100),
    "type": st.sampled_from(["IVH", "unspecified", "oedema"]),
    "name": words,
    "key": words,
    "on": st.booleans(),
    "proposals": st.lists(
        st.fixed_dictionaries(
            {
                "key": st.integers(0, 9),
                "slices": st.lists(
                    st.fixed_dictionaries(
                        {"slice": st.integers(0, SLICES), "boxes": st.just([[2, 2, 9, 9]])}
                    ),
                    max_size=2,
                ),
            }
        ),
        max_size=2,
    ),
    "files": st.lists(st.fixed_dictionaries({"path": words, "name": words}), max_size=2),
    "thresholds": st.dictionaries(st.sampled_from(["ivh_ml", "inclusive"]), anything),
    "findings": st.dictionaries(st.sampled_from(["gcs", "nihss", "warfarin"]), anything),
}


@st.composite
def operation(draw: st.DrawFn, name: str) -> dict[str, Any]:
    """A message of an operation that makes sense but for a field or two of junk, or that are left out."""
    names = [field.name for field in fields(OPERATIONS[name].fields)]
    wrong = draw(st.lists(st.sampled_from(names), max_size=2)) if names else []
    out = {}
    for field in names:
        if field in wrong and draw(st.booleans()):
            continue
        if field in wrong or field in SENSE:
            out[field] = draw(anything if field in wrong else SENSE[field])
    return out


def is_sentence(text: Any) -> bool:
    """Rule, value, remedy; not what an exception happens to say."""
    internal = ("Something failed", "Error", "object has no", "NoneType", "Traceback")
    return isinstance(text, str) and text.endswith(".") and not any(w in text for w in internal)


@pytest.fixture
def page(controller: Controller, monkeypatch: pytest.MonkeyPatch) -> Iterator[Page]:
    monkeypatch.setattr("ichseg.methods.catalogue.hub_hindrance", lambda name: "not asked")
    use(LightFinder(skull=False, embedded_by="two"), monkeypatch)
    monkeypatch.setattr(controller.embeddings, "plan", lambda *_: None)
    page = Page(controller, "x")
    page.ask("sample")
    yield page


unhurried = settings(
    deadline=None,
    max_examples=25,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)


@pytest.mark.parametrize("name", sorted(OPERATIONS))
@unhurried
@given(data=st.data())
def test_junk_is_answered_in_a_sentence_and_loses_nothing(
    page: Page, name: str, data: st.DataObject, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.ERROR, "ichseg.page")
    if page.controller.store.get("x").case is None:
        page.ask("sample")
    page.ask("boxes", slice=3, boxes=[[2, 2, 8, 9]])
    session = page.controller.store.get("x")
    case = session.case
    assert case is not None
    marked = case.segmentation
    before = marked.state
    reply = page.ask(name, **data.draw(operation(name)))
    assert not caplog.records
    if reply["error"] is None:
        return
    assert is_sentence(reply["error"]["text"]), reply["error"]["text"]
    assert session.case is case and marked.state == before
    assert page.ask("undo")["error"] is None and page.ask("redo")["error"] is None


@unhurried
@given(
    message=anything | st.fixed_dictionaries({"ops": anything, "aside": anything, "case": words})
)
def test_junk_for_a_message_is_answered_and_loses_nothing(page: Page, message: Any) -> None:
    case = page.controller.store.get("x").case
    *_, reply = page.controller.work("x", message)
    assert reply["error"] is None or is_sentence(reply["error"]["text"])
    page.controller.look("x", message)
    page.controller.aside("x", message)
    assert page.controller.store.get("x").case is case
    assert page.ask("boxes", slice=1, boxes=[[0, 0, 4, 4]])["error"] is None


@unhurried
@given(
    aside=st.fixed_dictionaries(
        {"slice": st.integers(-1, SLICES)},
        optional={"at": anything, "compare": anything, "measure": anything, "methods": anything},
    ),
    data=st.data(),
)
def test_junk_in_passing_is_passed_over(page: Page, aside: Any, data: st.DataObject) -> None:
    reply = page.controller.aside("x", {"case": page.case, "aside": aside})
    assert reply["case"] == page.case


def test_an_operation_nobody_answers_is_refused_and_the_next_one_is_done(page: Page) -> None:
    ops = [
        {"op": "dance", "id": 5},
        {"op": "boxes", "id": "x"},
        7,
    ]
    for wrong, words in zip(
        ops[:2], ("An operation is one of", "'id' of an operation"), strict=True
    ):
        *_, reply = page.controller.work("x", {"case": page.case, "ops": [wrong]})
        assert words in reply["error"]["text"]
    *_, reply = page.controller.work("x", {"case": page.case, "ops": ops[2:]})
    assert "'ops.0' of a message is an object; got 7" in reply["error"]["text"]
    good = {"op": "boxes", "id": 6, "slice": 1, "boxes": [[0, 0, 4, 4]]}
    *_, reply = page.controller.work("x", {"case": page.case, "ops": [good]})
    assert reply["error"] is None and reply["done"] == 6 and "1" in reply["slices"]


def test_where_the_page_drew_ahead_of_a_refused_operation_it_is_told_what_is_there(
    page: Page,
) -> None:
    page.ask("boxes", slice=1, boxes=[[0, 0, 4, 4]])
    reply = page.ask("boxes", slice=1, boxes=[[0, 0, 4, None]])
    assert "'boxes.0.3' of the operation 'boxes' is a number; got None" in reply["error"]["text"]
    assert reply["slices"]["1"]["boxes"]["1"] == [(0.0, 0.0, 4.0, 4.0)]


@pytest.mark.parametrize(
    ("kind", "given", "words"),
    [
        (Boxes, {"boxes": []}, "'slice' of it is required; got nothing"),
        (Boxes, {"slice": 1.5, "boxes": []}, "'slice' of it is a whole number; got 1.5"),
        (Boxes, {"slice": -1, "boxes": []}, "'slice' of it is 0 or more; got -1"),
        (
            Correct,
            {"slice": 1, "lesion": 1, "tool": "saw"},
            "'tool' of it is one of 'brush', 'erase'",
        ),
        (
            Correct,
            {"slice": 1, "lesion": 1, "tool": "brush", "radius_mm": 0},
            "is more than 0; got 0",
        ),
        (
            Correct,
            {"slice": 1, "lesion": 1, "tool": "fill", "points": [[1]]},
            "at least 2 items; got [1]",
        ),
        (
            Export,
            {"label": "x" * 2000},
            "'label' of it is text of at most 1000 characters; got 'xxx",
        ),
        (Export, {"width": "wide"}, "'width' of it is a number; got 'wide'"),
        (Ask, {"findings": {"gcs": []}}, "'findings.gcs' of it is a number; got []"),
        (Message, 7, "It is an object; got 7"),
        (bool, "perhaps", "It is true or false; got 'perhaps'"),
    ],
)
def test_a_refusal_says_the_rule_and_what_came(kind: type[Any], given: Any, words: str) -> None:
    with pytest.raises(InputError) as refused:
        parse(kind, given, "it")
    assert words in str(refused.value) and len(str(refused.value)) < 400
    assert str(refused.value).endswith("save the session and reload the page.")


def test_every_operation_is_of_one_panel_and_says_what_it_does() -> None:
    names = [one.name for panel in PANELS for one in panel.operations]
    assert len(names) == len(set(names))
    for one in OPERATIONS.values():
        assert one.fields.__doc__ and not one.fields.__doc__.startswith(one.fields.__name__ + "(")
    required = {
        name: [f.name for f in fields(one.fields) if f.default is f.default_factory is MISSING]
        for name, one in OPERATIONS.items()
    }
    assert required["boxes"] == ["slice", "boxes"] and required["undo"] == []


def test_a_name_of_any_script_is_a_name_of_a_file(controller: Controller, tmp_path: Path) -> None:
    """File systems count bytes: 255, and not 100 letters of three bytes or four."""
    page = Page(controller, "x")
    for letter in ("x", "é", "頭", "𠀀"):
        sent = tmp_path / "upload" / "scan.nii"
        sent.parent.mkdir()
        sent.write_bytes(b"x")
        files = [{"path": str(sent), "name": letter * 120 + ".nii"}]
        assert page.ask("open", files=files)["error"] is None


@pytest.mark.parametrize(
    ("name", "given", "words"),
    [
        (
            "correct",
            {"slice": 3, "lesion": 1, "tool": "component"},
            "taken away at a point; got none",
        ),
        ("correct", {"slice": 3, "lesion": 1, "tool": "copy"}, "copied onto a slice; got none"),
        ("correct", {"slice": 3, "lesion": 1, "tool": "brush"}, "one point or more"),
        ("correct", {"slice": SLICES, "lesion": 1, "tool": "fill"}, "slices 0 to 5; got 6"),
        ("complete", {"slice": SLICES}, "slices 0 to 5; got 6"),
        ("clear_slice", {"slice": SLICES}, "slices 0 to 5; got 6"),
        ("export", {"kind": "picture", "slice": SLICES}, "slices 0 to 5; got 6"),
        ("export", {"kind": "poster"}, "A download is one of mask, table,"),
        ("export", {"kind": "mask", "model": "nobody"}, "one of the methods shown"),
        ("asked", {"findings": {"height": 180}}, "A finding is one of parenchymal_ml"),
        ("open", {"files": [{"path": "a\0b", "name": "x"}]}, "these are not here"),
        ("open", {"files": [{"path": "a" * 4000, "name": "x"}]}, "these are not here"),
        ("reference", {}, "these are not here"),
        ("lesion_set", {"lesion": 7, "name": "x"}, "lesion"),
        ("models", {"models": ["one", "four"]}, "four"),
        ("fetch", {"name": "four"}, "four"),
        ("accept", {"proposals": [{"key": 1, "slices": []}]}, "A proposal has 1 to 64 boxes"),
    ],
)
def test_what_cannot_be_meant_of_this_scan_is_refused_in_a_sentence(
    page: Page, name: str, given: dict[str, Any], words: str
) -> None:
    page.ask("boxes", slice=3, boxes=[[2, 2, 8, 9]])
    text = page.ask(name, **given)["error"]["text"]
    assert words in text and is_sentence(text)
