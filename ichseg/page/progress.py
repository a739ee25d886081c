"""Telling how far work is while the page is answered in steps."""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable, Generator
from contextvars import copy_context
from typing import Any, TypeVar

Result = TypeVar("Result")


def progress(text: str, part: float | None = None, *, cancel: bool = False) -> dict[str, Any]:
    """A reply that tells how far work is, 0 to 1; ``cancel``: whether the person may end it (``Controller.look``)."""
    return {"progress": {"text": text, "part": part, "cancel": cancel}}


def told(
    text: str, work: Generator[float, None, Result]
) -> Generator[dict[str, Any], None, Result]:
    """The replies on work that gives the share that is done, and may be cancelled; returns what the work returns."""
    while True:
        try:
            share = next(work)
        except StopIteration as end:
            result: Result = end.value
            return result
        yield progress(text, share, cancel=True)


def steps(work: Callable[[Callable[[float], None]], Result]) -> Generator[float, None, Result]:
    """Do ``work(tell)`` in a thread; gives each share that it tells, 0 to 1, and returns what it returns.

    Raises what the work raises.
    """
    shares: queue.Queue[float | None] = queue.Queue()
    found: list[Result] = []
    wrong: list[BaseException] = []

    def run() -> None:
        try:
            found.append(work(shares.put))
        except BaseException as error:
            wrong.append(error)
        finally:
            shares.put(None)

    threading.Thread(target=copy_context().run, args=(run,), daemon=True).start()
    while (share := shares.get()) is not None:
        yield share
    if wrong:
        raise wrong[0]
    return found[0]
