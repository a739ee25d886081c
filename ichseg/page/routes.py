"""What the page asks beside Gradio's events: it renews its lease, or says that it is closed."""

from __future__ import annotations

import json
from typing import Any

from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from ichseg.page.controller import Controller

_MOST_BYTES = 1000


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
