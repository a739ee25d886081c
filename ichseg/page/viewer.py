"""The viewer as a Gradio component: its template, style and script are in the folder beside this file."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import gradio as gr

_FOLDER = Path(__file__).resolve().parent / "viewer"

#: The parts of the script by name, in the order in which they run as one function body. A part may call the
#: functions of any other; what it does at once stands on the parts before it.
SCRIPTS = (
    "state",
    "line",
    "server",
    "scan",
    "mask",
    "draw",
    "show",
    "edit",
    "pointer",
    "keys",
    "controls",
    "lesions",
    "correct",
    "files",
    "kept",
    "series",
    "aside",
    "compare",
    "measure",
    "followup",
    "plots",
    "lines",
    "surface",
    "more",
    "panes",
    "start",
)


class Viewer(gr.HTML):
    """Shows a scan, takes boxes, shows masks. It draws in the browser; Python only answers.

    ``value`` is what the page asks for and ``reply`` the latest answer (ichseg.page.controller says how both
    look), ``better`` the latest answer that nobody waited for; ``choices``, ``presets``, ``types`` (of lesions) and
    ``limits`` (of an upload) are fixed. The events are "edit" for what takes a moment, "work" for what may show
    progress, "aside" for what nobody waits for, "look" for a hint that wants no answer.
    """

    def __init__(
        self,
        value: Any = None,
        *,
        reply: dict[str, Any] | None = None,
        better: dict[str, Any] | None = None,
        choices: list[dict[str, Any]] | None = None,
        presets: list[dict[str, Any]] | None = None,
        types: list[dict[str, str]] | None = None,
        limits: dict[str, int] | None = None,
        **kwargs: Any,
    ) -> None:
        # An update makes the component anew from its own settings: these three never differ.
        kwargs |= {
            "html_template": _text("viewer.html"),
            "js_on_load": "\n".join(_text(f"{name}.js") for name in SCRIPTS),
            "apply_default_css": False,
        }
        # Else Gradio takes these names, which the script quotes, for events.
        self.reply = self.better = None
        super().__init__(
            value=value,
            reply=reply or {},
            better=better or {},
            choices=choices or [],
            presets=presets or [],
            types=types or [],
            limits=limits or {},
            **kwargs,
        )

    def get_block_name(self) -> str:
        """Gradio's own HTML component draws it."""
        return "html"


def style() -> str:
    """The style sheet of the page and the viewer, for ``launch(css=...)``."""
    return _text("viewer.css")


def _text(name: str) -> str:
    return (_FOLDER / name).read_text(encoding="utf-8")
