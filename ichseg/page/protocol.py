"""What the page's script and Python agree on: the panels, and the operations that each of them answers."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Panel:
    """A panel of the page.

    ``folder`` may hold ``panel.js``, ``panel.html`` and ``panel.css`` beside the panel's Python.
    """

    name: str
    title: str
    folder: Path
