"""How Gradio is imported: it writes nothing beside a component, and tells its makers nothing."""

from __future__ import annotations

import importlib
import os
from pathlib import Path

import gradio as gr
import pytest

import ichseg.page


def test_a_component_has_its_events_and_no_type_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "a_component.py").write_text(
        "import gradio as gr\n\n\nclass Pane(gr.HTML):\n    EVENTS = ['change']\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    pane = importlib.import_module("a_component").Pane
    assert issubclass(pane, gr.HTML) and callable(pane.change)
    assert not list(tmp_path.glob("*.pyi"))


def test_importing_the_page_turns_gradios_own_reports_off() -> None:
    assert ichseg.page and os.environ["GRADIO_ANALYTICS_ENABLED"] == "False"
