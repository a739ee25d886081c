"""The catalogue for the page's choosers, and fetching what is not here."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

from ichseg.methods import catalogue
from ichseg.page.progress import steps


def choices(*, ask_hub: bool = False) -> list[dict[str, Any]]:
    """The catalogue for the page's choosers: name, title, summary, and why one cannot be chosen.

    ``ask_hub``: whether what is missing can be fetched now ("fetch"), and if not why; it asks the hub.
    """
    found = []
    for info in catalogue.CATALOGUE.values():
        ready, why = catalogue.available(info.name)
        hindrance = "" if ready or not ask_hub else catalogue.hub_hindrance(info.name)
        found.append(
            {
                "name": info.name,
                "title": info.title,
                "summary": info.summary,
                "missing": "" if ready else why,
                "fetch": ask_hub and not ready and not hindrance,
                "hindrance": hindrance,
            }
        )
    return found


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
            self.got += n or 0
            if self.whole:
                tell(min(1.0, self.got / self.whole))

    return Bar
