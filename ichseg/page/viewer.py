"""The viewer as a Gradio component: the core's markup, style and scripts in viewer/, and those of each panel."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable, Iterator, Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any

import gradio as gr
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response
from starlette.routing import Route

from ichseg.page.panel import Panel
from ichseg.page.panels import PANELS

_CORE = Path(__file__).resolve().parent / "viewer"

#: What Gradio runs itself, in no module; it fetches the others.
_BOOT = "boot.js"

#: A place in the markup of the core where panels put theirs, and the head of what a panel puts there.
_SLOT = re.compile(r"<!-- slot: (\w+) -->\n?")


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
        block_id: int | None = None,
        **kwargs: Any,
    ) -> None:
        # An update makes the component anew from its own settings: these four never differ.
        kwargs |= {
            "html_template": markup(),
            "js_on_load": (_CORE / _BOOT).read_text(encoding="utf-8"),
            "apply_default_css": False,
            "scripts": {
                "path": scripts_path(),
                "files": sorted(scripts()),
                "panels": [
                    panel.name
                    for panel in PANELS
                    if panel.is_on() and (panel.folder / "panel.js").is_file()
                ],
            },
        }
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
        if block_id is not None:
            self._id = block_id

    @property
    def constructor_args(self) -> dict[str, Any]:
        """What Gradio makes the component anew from at each answer: the same component, by the same number.

        By a new number Gradio would keep each of them, with its answer, for as long as the server runs.
        """
        return super().constructor_args | {"block_id": self._id}

    def get_block_name(self) -> str:
        """Gradio's own HTML component draws it."""
        return "html"


def style(panels: Iterable[Panel] = PANELS) -> str:
    """The style sheet of the page, the viewer and its panels, for ``launch(css=...)``."""
    return "\n".join(_texts("viewer.css", "panel.css", panels))


def markup(panels: Sequence[Panel] = PANELS) -> str:
    """The viewer's HTML: that of the core, with each panel's parts in the slots they name, in the panels' order.

    A panel that is off on this server has none.
    """
    panels = [panel for panel in panels if panel.is_on()]
    core, *own = _texts("viewer.html", "panel.html", panels)
    parts: dict[str, str] = {name: "" for name in _SLOT.findall(core)}
    for text in own:
        before, *pairs = _SLOT.split(text)
        strangers = [name for name in pairs[::2] if name not in parts]
        if strangers or before.strip():
            raise ValueError(
                f"A panel's markup stands in a slot of viewer.html, {', '.join(parts)}; "
                f"got {strangers[0] if strangers else before.strip()!r}; name one."
            )
        for name, part in zip(pairs[::2], pairs[1::2], strict=True):
            parts[name] += part.strip() + "\n"
    text = _SLOT.sub(lambda slot: parts[slot[1]], core)
    for panel in panels:
        for name, make in panel.fills.items():
            text = text.replace(f"<!-- fill: {name} -->", make())
    return text


@lru_cache(maxsize=1)
def scripts() -> dict[str, bytes]:
    """Every module by its path under ``scripts_path``: viewer/NAME.js, panels/PANEL/NAME.js; read once."""
    folders = {f"panels/{panel.name}": panel.folder for panel in PANELS}
    folders["viewer"] = _CORE
    return {
        f"{folder}/{path.name}": path.read_bytes()
        for folder, place in folders.items()
        for path in sorted(place.glob("*.js"))
        if path.name != _BOOT
    }


@lru_cache(maxsize=1)
def scripts_path() -> str:
    """Where the modules are, under Gradio's own routes; another path where any of them has changed."""
    digest = hashlib.sha256()
    for name, content in sorted(scripts().items()):
        digest.update(name.encode() + b"\0" + hashlib.sha256(content).digest())
    return f"/viewer/{digest.hexdigest()[:16]}"


def script_routes() -> list[Route]:
    """The routes of the modules, for ``launch(app_kwargs={"routes": ...})``.

    They are among Gradio's own, so that whatever stands before the page (a prefix, a proxy, Gradio's server-side
    rendering) lets them through. A browser keeps each for good: its address holds a hash of all of them.
    """

    async def answer(request: Request) -> Response:
        content = scripts().get(request.path_params["name"])
        if content is None:
            return PlainTextResponse("There is no such script.", status_code=404)
        keep = {"Cache-Control": "public, max-age=31536000, immutable"}
        return Response(content, media_type="text/javascript", headers=keep)

    return [Route(f"/gradio_api{scripts_path()}/{{name:path}}", answer)]


def _texts(core: str, own: str, panels: Iterable[Panel]) -> Iterator[str]:
    """The core's file, then that of each panel that has one."""
    paths = [_CORE / core, *(panel.folder / own for panel in panels)]
    return (path.read_text(encoding="utf-8") for path in paths if path.is_file())
