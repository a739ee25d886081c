"""Fetching a method's weights from the hub, with its progress."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

from ichseg.errors import check_cancelled
from ichseg.methods import catalogue
from ichseg.page.progress import steps


def fetch(name: str) -> Iterator[float]:
    """Bring a method's weights from the hub; gives the part of the whole that is there, 0 to 1, as it goes.

    Raises what ``catalogue.fetch`` does.
    """
    yield from steps(lambda tell: catalogue.fetch(name, _bar(tell)))


def _bar(tell: Callable[[float], None]) -> type[Any]:
    """A tqdm that draws nothing and tells which part of the whole is there."""
    from huggingface_hub.utils.tqdm import tqdm

    class Bar(tqdm):
        def __init__(self, *args: Any, **kwargs: Any) -> None:
            self.got, self.whole = float(kwargs.get("initial") or 0), kwargs.get("total")
            kwargs["disable"] = True
            super().__init__(*args, **kwargs)  # type: ignore[no-untyped-call]

        def update(self, n: float | None = 1) -> None:
            check_cancelled()
            self.got += n or 0
            if self.whole:
                tell(min(1.0, self.got / self.whole))

    return Bar
