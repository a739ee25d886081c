"""Making what is kept for each key once, by whoever asks first: others who want it wait, and nobody else does."""

from __future__ import annotations

import threading
from collections.abc import Callable, Hashable, MutableMapping
from concurrent.futures import Future
from typing import Generic, TypeVar

K = TypeVar("K", bound=Hashable)
V = TypeVar("V")


class Once(Generic[K, V]):
    """Who makes what now. What is there already is looked up without a lock.

    >>> kept: dict[str, int] = {}
    >>> once: Once[str, int] = Once()
    >>> once.get(kept, "a", lambda: 1), once.get(kept, "a", lambda: 2)
    (1, 1)
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._running: dict[K, Future[V]] = {}

    def get(self, kept: MutableMapping[K, V], key: K, make: Callable[[], V]) -> V:
        """The value of a key, made where it is not kept yet.

        Raises what ``make`` does, to all who wait for it; the next who asks makes it anew.
        """
        if key in kept:
            return kept[key]
        with self._lock:
            if key in kept:
                return kept[key]
            running = self._running.get(key)
            mine = running is None
            if running is None:
                running = self._running[key] = Future()
        if mine:
            try:
                made = make()
            except BaseException as error:
                with self._lock:
                    del self._running[key]
                running.set_exception(error)
                raise
            with self._lock:
                kept[key] = made
                del self._running[key]
            running.set_result(made)
        return running.result()
