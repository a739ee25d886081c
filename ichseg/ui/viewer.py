"""The viewer as a Gradio component: one HTML template, one script, one sheet of style, beside this file."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import gradio as gr

_HERE = Path(__file__).resolve().parent


class Viewer(gr.HTML):
    """Shows a scan, takes boxes, shows masks. It draws in the browser; Python only answers.

    ``value`` is what the page asks for and ``reply`` the latest answer (ichseg.ui.controller says how both
    look); ``choices``, ``presets`` and ``prefix`` are fixed. The events are "edit" for what takes a moment,
    "work" for what may show progress, "look" for a hint that wants no answer.
    """

    def __init__(
        self,
        value: Any = None,
        *,
        reply: dict[str, Any] | None = None,
        choices: list[dict[str, Any]] | None = None,
        presets: list[dict[str, Any]] | None = None,
        **kwargs: Any,
    ) -> None:
        # An update makes the component anew from its own settings: these three never differ.
        kwargs |= {
            "html_template": (_HERE / "viewer.html").read_text(encoding="utf-8"),
            "js_on_load": (_HERE / "viewer.js").read_text(encoding="utf-8"),
            "apply_default_css": False,
        }
        self.reply = None  # else Gradio takes the name, which the script quotes, for an event
        super().__init__(
            value=value, reply=reply or {}, choices=choices or [], presets=presets or [], **kwargs
        )

    def get_block_name(self) -> str:
        """Gradio's own HTML component draws it."""
        return "html"


def style() -> str:
    """The style sheet of the page and the viewer, for ``launch(css=...)``."""
    return (_HERE / "viewer.css").read_text(encoding="utf-8")
