"""Whether the server is ready: a route for whoever watches it, such as a container's health check."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from typing import Literal

from starlette.requests import Request
from starlette.responses import JSONResponse
from starlette.routing import Route

#: Among Gradio's own routes, so that whatever stands before the page lets it through.
HEALTH_PATH = "/gradio_api/health"

_log = logging.getLogger(__name__)


class Health:
    """Loads the default methods, so that the first box need not wait for them, and says how far that is."""

    def __init__(self, names: Sequence[str], load: Callable[[str], object]) -> None:
        self._names, self._load = tuple(names), load
        self.status: Literal["loading", "ready", "failed"] = "loading"

    def warm_up(self) -> None:
        """Load the methods; what is wrong with one goes to the log, and to whoever draws a box."""
        try:
            for name in self._names:
                self._load(name)
        except Exception:
            self.status = "failed"
            _log.exception("a default method could not be loaded")
        else:
            self.status = "ready"

    def route(self) -> Route:
        """200 with {"status": "ready"} once the methods are loaded; 503 with "loading" or "failed" before and else."""

        async def answer(request: Request) -> JSONResponse:
            del request
            code = 200 if self.status == "ready" else 503
            return JSONResponse(
                {"status": self.status}, status_code=code, headers={"Cache-Control": "no-store"}
            )

        return Route(HEALTH_PATH, answer)
