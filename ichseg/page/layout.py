"""The page: the viewer, its events, and how it is launched."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import gradio as gr
from starlette.middleware import Middleware

from ichseg.marks.lesion import TYPES
from ichseg.methods.frame import WINDOWS
from ichseg.page.api import Api
from ichseg.page.choices import choices
from ichseg.page.controller import Controller
from ichseg.page.routes import BoundedBodies, BrokenUploads, lease_route
from ichseg.page.sessions import MAX_SESSIONS
from ichseg.page.viewer import Viewer, script_routes, style
from ichseg.page.waiting import Waiting
from ichseg.page.work import MAX_UPLOAD_BYTES, MAX_UPLOAD_FILES

TITLE = "Hematoma volume on head CT"
MAX_FILE_BYTES = 512 << 20

#: Files of one request: Gradio's own parser takes 1,000.
FILES_PER_REQUEST = 500

#: How often Gradio's queue looks for long work, and for its progress: as it does on Windows by itself.
_LOOKS_SECONDS, _LOOKS_AT_PROGRESS_SECONDS = 0.05, 0.1


def lesion_types() -> list[dict[str, str]]:
    """The types of lesion that the page offers, in the order of the table: name, and what people see."""
    return [{"name": row.name, "title": row.shown} for row in TYPES.values()]


def build_page(controller: Controller, api: Api | None = None) -> tuple[gr.Blocks, dict[str, Any]]:
    """The page, with an API beside it or without, and what to launch it with: ``demo.launch(**options)``.

    Every page that is open has a session of its own in the controller, for as long as its lease holds (``leases``).
    Gradio's own word that a page is gone is not heeded: a laptop that sleeps breaks that connection, too.
    """
    waiting = Waiting()

    def edit(message: Any, request: gr.Request) -> Any:
        with waiting.answering():
            return gr.update(reply=controller.answer(_page_of(request), message))

    def work(message: Any, request: gr.Request) -> Iterator[Any]:
        for reply in controller.work(_page_of(request), message, gives_way=True):
            yield gr.update(reply=reply)

    def look(message: Any, request: gr.Request) -> None:
        controller.look(_page_of(request), message)

    def aside(message: Any, request: gr.Request) -> Any:
        return gr.update(better=controller.aside(_page_of(request), message))

    with gr.Blocks(
        title=TITLE, analytics_enabled=False, fill_width=True, delete_cache=(600, 3600)
    ) as demo:
        presets = [
            {"name": name, "width": window.width, "level": window.level}
            for name, window in WINDOWS.items()
        ]
        viewer = Viewer(
            value={},
            choices=choices(),
            presets=presets,
            types=lesion_types(),
            limits={
                "files": MAX_UPLOAD_FILES,
                "bytes": MAX_UPLOAD_BYTES,
                "file": MAX_FILE_BYTES,
                "portion": FILES_PER_REQUEST,
            },
            elem_id="viewer",
            padding=False,
        )
        quiet: dict[str, Any] = {
            "inputs": viewer,
            "show_progress": "hidden",
            "trigger_mode": "multiple",
            "api_visibility": "private",
        }
        # The page has one of these under way at a time. Without the queue an answer comes sooner.
        viewer.edit(edit, outputs=viewer, queue=False, **quiet)
        viewer.work(work, outputs=viewer, concurrency_limit=4, **quiet)
        viewer.look(look, outputs=None, queue=False, **quiet)
        # On a lane and in a property of its own: no operation waits for it, and neither hides the other's answer.
        viewer.aside(aside, outputs=viewer, queue=False, **quiet)
        if api is not None:
            api.add()
    demo.queue(api_open=False, max_size=64)
    # Elsewhere it looks every millisecond, which takes 7 % of a core while nobody is there; there is no setting for it.
    demo._queue.sleep_when_free = _LOOKS_SECONDS
    demo._queue.progress_update_sleep_when_free = _LOOKS_AT_PROGRESS_SECONDS

    routes = [*script_routes(), lease_route(controller), waiting.route()]
    if api:
        routes.append(api.route())
    options = {
        "css": style() if api else f"{style()}\n.ich-programs {{ display: none; }}",
        "app_kwargs": {
            "routes": routes,
            "middleware": [
                Middleware(BoundedBodies, upload_bytes=MAX_UPLOAD_BYTES),
                Middleware(BrokenUploads, sweep=controller.store.folder.sweep_broken_uploads),
            ],
        },
        # A request that waits for its turn costs next to nothing, and is not to keep another person's from its own.
        "max_threads": MAX_SESSIONS,
        # What Gradio keeps of a page, its last answer, is never asked for again.
        "state_session_capacity": MAX_SESSIONS,
        "theme": gr.themes.Base(
            font=["system-ui", "sans-serif"], font_mono=["ui-monospace", "monospace"]
        ),
        "footer_links": ["api"] if api else [],
        "mcp_server": api is not None,
        "run_history": False,
        "allowed_paths": [str(controller.store.public)],
        "max_file_size": MAX_FILE_BYTES,
        "enable_monitoring": False,
        "show_error": False,
    }
    return demo, options


def _page_of(request: gr.Request) -> str:
    """Which open page asks. A caller that names none has no session, least of all one shared with others."""
    if not request.session_hash:
        raise gr.Error("A request comes from an open page; this one names none; open the page.")
    return str(request.session_hash)
