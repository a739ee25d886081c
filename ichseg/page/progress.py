"""Telling how far work is that tells so itself, by a callback, while the page is answered in steps."""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable, Generator
from typing import TypeVar

Result = TypeVar("Result")


def steps(work: Callable[[Callable[[float], None]], Result]) -> Generator[float, None, Result]:
    """Do ``work(tell)`` in a thread; gives each share that it tells, 0 to 1, and returns what it returns.

    Raises what the work raises.
    """
    told: queue.Queue[float | None] = queue.Queue()
    found: list[Result] = []
    wrong: list[BaseException] = []

    def run() -> None:
        try:
            found.append(work(told.put))
        except BaseException as error:
            wrong.append(error)
        finally:
            told.put(None)

    threading.Thread(target=run, daemon=True).start()
    while (share := told.get()) is not None:
        yield share
    if wrong:
        raise wrong[0]
    return found[0]
