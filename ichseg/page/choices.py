"""The catalogue for the page's choosers."""

from __future__ import annotations

from typing import Any

from ichseg.methods import catalogue


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
