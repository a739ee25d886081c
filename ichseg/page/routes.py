"""What stands beside Gradio's own routes: where a page renews its lease, and the bounds of what is sent."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

from starlette.concurrency import run_in_threadpool
from starlette.requests import ClientDisconnect, Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from ichseg.page.controller import Controller

_MOST_BYTES = 1000

#: Of a message, whatever it asks for; a long stroke of the brush is some 2 MB.
MAX_MESSAGE_BYTES = 16 << 20


class BoundedBodies:
    """Refuses a request whose body is longer than anything that can be meant, before it is in memory or on the disk.

    An upload is bounded by ``upload_bytes``, with what its files are wrapped in; any other request by
    MAX_MESSAGE_BYTES. A body that does not say how long it is breaks off where it comes to be too long.
    """

    def __init__(self, app: ASGIApp, upload_bytes: int) -> None:
        self._app, self._upload_bytes = app, upload_bytes

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """As ASGI has it."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        most = MAX_MESSAGE_BYTES + (self._upload_bytes if _is_upload(scope) else 0)
        said = dict(scope["headers"]).get(b"content-length", b"0")
        if not said.isdigit() or int(said) > most:
            text = f"A request has at most {most >> 20} MB; this one has more; send less at once."
            await JSONResponse({"detail": text}, status_code=413)(scope, receive, send)
            return
        got = 0

        async def bounded() -> Message:
            nonlocal got
            message = await receive()
            got += len(message.get("body", b""))
            return message if got <= most else {"type": "http.disconnect"}

        await self._app(scope, bounded, send)


class BrokenUploads:
    """Has what broken uploads left deleted whenever no upload is under way.

    Gradio deletes what it refuses, and leaves half a file where the connection is cut or the disk is full.
    """

    def __init__(self, app: ASGIApp, sweep: Callable[[], None]) -> None:
        self._app, self._sweep = app, sweep
        self._under_way = 0

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """As ASGI has it."""
        if not _is_upload(scope):
            await self._app(scope, receive, send)
            return
        self._under_way += 1
        try:
            await self._app(scope, receive, send)
        except ClientDisconnect:
            pass  # a connection that is cut is no error of the server's, and nobody waits for an answer
        finally:
            self._under_way -= 1
            if not self._under_way:
                self._sweep()


def _is_upload(scope: Scope) -> bool:
    return scope["type"] == "http" and scope["path"].rstrip("/").endswith("/upload")


def lease_route(controller: Controller) -> Route:
    """POST {"lease": token} renews a lease, with "closed": true it ends it; the answer is {"held": bool}.

    It stands among Gradio's own routes, as the scripts do, and takes no place in its queue.
    """

    async def answer(request: Request) -> Response:
        said = await _said(request)
        token = said.get("lease")
        if not isinstance(token, str):
            return JSONResponse({"held": False}, status_code=400)
        if said.get("closed") is True:
            await run_in_threadpool(controller.release, token)
            return JSONResponse({"held": False})
        return JSONResponse({"held": await run_in_threadpool(controller.renew, token)})

    return Route("/gradio_api/lease", answer, methods=["POST"])


async def _said(request: Request) -> dict[str, Any]:
    """The JSON object of a request; empty where it is none, or too large."""
    content = b""
    async for part in request.stream():
        content += part
        if len(content) > _MOST_BYTES:
            return {}
    try:
        said = json.loads(content)
    except ValueError:
        return {}
    return said if isinstance(said, dict) else {}
