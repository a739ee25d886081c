"""The rules of the panels, read from their source, and a panel that is added from outside."""

from __future__ import annotations

import ast
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import pytest
from pydantic import Field

from ichseg.page.controller import Controller
from ichseg.page.embeddings import Embeddings
from ichseg.page.panel import InPassing, Operation, Panel, Seen
from ichseg.page.panels import PANELS
from ichseg.page.sessions import Session
from ichseg.page.work import Reply, Work
from tests.conftest import ROOT
from tests.pages import BoxModel, Page, numbered_scan

HOME = ROOT / "ichseg" / "page"
SOURCES = sorted(HOME.rglob("*.py"))


def imported(path: Path) -> Iterator[str]:
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.ImportFrom):
            assert not node.level and node.module
            yield from (f"{node.module}.{alias.name}" for alias in node.names)
        elif isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)


def test_every_folder_is_a_row_of_the_table_and_every_row_a_folder() -> None:
    folders = {path.name for path in (HOME / "panels").iterdir() if (path / "panel.py").is_file()}
    assert {panel.name for panel in PANELS} == folders
    assert all(panel.folder == HOME / "panels" / panel.name for panel in PANELS)


@pytest.mark.parametrize("panel", [panel.name for panel in PANELS])
def test_no_panel_imports_another(panel: str) -> None:
    home = "ichseg.page.panels"
    for path in sorted((HOME / "panels" / panel).rglob("*.py")):
        others = [
            name
            for name in imported(path)
            if name.startswith(home) and not name.startswith(f"{home}.{panel}.")
        ]
        assert not others, f"{path.name} imports {others}"


def test_what_panels_share_knows_none_of_them() -> None:
    above = {"controller.py", "layout.py", "viewer.py"}
    for path in HOME.glob("*.py"):
        if path.name not in above:
            assert not [name for name in imported(path) if ".panels" in name], path.name


def has_unit(node: ast.AST) -> bool:
    """Whether something is called by a unit: volume_ml, spacing_mm, slice_hu."""
    name = (
        node.attr
        if isinstance(node, ast.Attribute)
        else node.id
        if isinstance(node, ast.Name)
        else ""
    )
    return name.endswith(("_ml", "_mm", "_mm2", "_px", "_hu", "_percent")) or name == "ml"


@pytest.mark.parametrize("path", SOURCES, ids=lambda path: path.relative_to(HOME).as_posix())
def test_the_page_computes_no_number_of_its_own(path: Path) -> None:
    """What command line and page both answer comes from measures or marks; the page hands it on, and adds up."""
    geometry = {"voxel_volumes_ml", "slice_heights_mm", "voxel_volume_ml"}
    statistics = {"mean", "median", "std", "var", "percentile", "quantile", "average"}
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        where = f"{path.name}:{getattr(node, 'lineno', 0)}"
        if isinstance(node, ast.BinOp):
            assert not has_unit(node.left) and not has_unit(node.right), where
        elif isinstance(node, ast.AugAssign):
            assert not has_unit(node.target) and not has_unit(node.value), where
        elif isinstance(node, ast.Attribute) and path.name != "waiting.py":  # of people's seconds
            assert node.attr not in geometry | statistics, where


# A panel from outside


@dataclass(frozen=True)
class Note:
    """Keep a sentence beside the scan."""

    text: Annotated[str, Field(max_length=20)]


def note(work: Work, session: Session, op: Note, reply: Reply) -> Iterable[Reply]:
    case, _ = work.case(session)
    yield {"progress": {"text": "Writing", "part": None, "cancel": False}}
    reply["said"] = [f"{op.text} ({case.token})"]


def noted(work: Work, session: Session, seen: Seen, wanted: int) -> Reply:
    return {"noted": wanted + seen.k}


@pytest.fixture
def panel(tmp_path: Path) -> Panel:
    folder = tmp_path / "note"
    folder.mkdir()
    (folder / "panel.html").write_text("<!-- slot: drawers -->\n<p class='note'></p>\n")
    (folder / "panel.css").write_text(".note { margin: 0 }\n")
    return Panel(
        "note",
        "Note",
        folder,
        (Operation("note", Note, note),),
        (InPassing("noted", int, noted),),
        always={"notes": lambda session: {"notes": len(session.cases)}},
        unopened={"ready": lambda: {"ready": True}},
    )


@pytest.fixture
def with_note(fakes: dict[str, BoxModel], tmp_path: Path, panel: Panel) -> Iterator[Controller]:
    made = Controller(
        tmp_path,
        embeddings=Embeddings(fakes.__getitem__),
        read=lambda path, **_: numbered_scan(),
        panels=(*PANELS, panel),
    )
    yield made
    made.close()


def test_a_panel_is_a_folder_and_a_row(with_note: Controller) -> None:
    page = Page(with_note, "x")
    page.ask("sample")
    assert page.ask("note", text="seen")["said"] == [f"seen ({page.case})"]
    refused = page.ask("note", text="x" * 30)
    assert "'text' of the operation 'note' is text of at most 20" in refused["error"]["text"]
    assert page.ask("boxes", slice=3, boxes=[[2, 4, 6, 7]])["error"] is None


def test_a_panel_may_add_to_other_answers(with_note: Controller) -> None:
    page = Page(with_note, "x")
    ask: dict[str, Any] = {"slice": 0, "at": 2, "noted": 5, "ready": True}
    assert with_note.aside("x", {"aside": ask})["ready"] is True
    page.ask("sample")
    reply = with_note.aside("x", {"case": page.case, "aside": ask, "notes": True})
    assert (reply["noted"], reply["notes"], reply["ready"]) == (7, 1, True)
    assert "noted" not in with_note.aside("x", {"case": page.case, "aside": {"slice": 0}})
    assert with_note.answer("x", {"ops": [], "notes": True})["notes"] == 1


def test_an_operation_of_a_panel_that_is_not_there_is_refused(controller: Controller) -> None:
    page = Page(controller, "x")
    page.ask("sample")
    text = page.ask("note", text="seen")["error"]["text"]
    assert text.startswith("An operation is one of sample, open, ") and "got 'note'" in text
