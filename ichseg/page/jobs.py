"""The work that a page asked for: once, whoever waits for it, and for as long as somebody does."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from typing import Any

from ichseg.errors import cancelling

Reply = dict[str, Any]


class Job:
    """The operations of one message, done step by step by whoever waits for them.

    A page whose line broke sends its message again: that request goes on with the same job where the first has left
    it. A job for which nobody waits any more rests, and ends with its session.
    """

    def __init__(self, ids: frozenset[int], steps: Iterator[Reply]) -> None:
        """``ids`` are the operations' numbers; ``steps`` does them, and gives replies that tell of progress."""
        self.ids = ids
        self.over = False
        self._steps = steps
        self._stepping = threading.Lock()

    def follow(self, cancelled: Callable[[], bool]) -> Iterator[Reply]:
        """Do what is left of it; gives replies that tell of progress. ``check_cancelled`` goes by ``cancelled``."""
        while True:
            with self._stepping:
                if self.over:
                    return
                try:
                    with cancelling(cancelled):
                        step = next(self._steps)
                except BaseException as error:
                    self.over = True
                    if isinstance(error, StopIteration):
                        return
                    raise
            yield step

    def abandon(self) -> None:
        """Give up what is left of it, once the step that is under way is done."""
        with self._stepping:
            self.over = True
            self._steps.close()  # type: ignore[attr-defined]
