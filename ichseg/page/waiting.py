"""How many people wait for an answer now, and for how long such an answer was waited for lately.

Operations of the lane "edit" have no place in Gradio's queue: this is what the page can say in its stead.
"""

from __future__ import annotations

import statistics
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

#: An answer that takes longer is one that people wait for; the page asks after about as long.
MOMENT_SECONDS = 1.0

#: The last answers that were waited for, of which the middle one is what to expect.
REMEMBERED = 15


class Waiting:
    """Counts the requests that are being answered, and remembers how long the slow ones took."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._lock = threading.Lock()
        self._people = 0
        self._took: deque[float] = deque(maxlen=REMEMBERED)

    @contextmanager
    def answering(self) -> Iterator[None]:
        """While one request is answered, of somebody who waits for it."""
        began = self._clock()
        with self._lock:
            self._people += 1
        try:
            yield
        finally:
            took = self._clock() - began
            with self._lock:
                self._people -= 1
                if took > MOMENT_SECONDS:
                    self._took.append(took)

    def said(self) -> dict[str, float | int | None]:
        """{"people": who wait now, "seconds": what was waited lately; None where nobody had to}."""
        with self._lock:
            seconds = round(statistics.median(self._took), 1) if self._took else None
            return {"people": self._people, "seconds": seconds}

    def route(self) -> Route:
        """Answers ``said``, among Gradio's own routes as the scripts are."""

        async def answer(request: Request) -> Response:
            del request
            return JSONResponse(self.said(), headers={"Cache-Control": "no-store"})

        return Route("/gradio_api/waiting", answer)
