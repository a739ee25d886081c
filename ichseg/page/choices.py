"""The catalogue for the page's choosers."""

from __future__ import annotations

from typing import Any

from ichseg.methods import catalogue


def choices() -> list[dict[str, Any]]:
    """The catalogue for the page's choosers: name, title, summary, colour, and why one cannot be chosen ("missing").

    "fetch": whether what is missing has a place on the hub. The hub is asked only once a person presses *Fetch*.
    """
    found = []
    for info in catalogue.CATALOGUE.values():
        ready, why = catalogue.available(info.name)
        hindrance = "" if ready else catalogue.hub_hindrance(info.name)
        found.append(
            {
                "name": info.name,
                "title": info.title,
                "summary": info.summary,
                "colour": info.colour,
                "missing": "" if ready else why,
                "fetch": not ready and not hindrance,
                "hindrance": hindrance,
            }
        )
    return found
