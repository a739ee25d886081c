"""The table of panels. A new panel is a folder here and a row in the table."""

from __future__ import annotations

from pathlib import Path

from ichseg.page.protocol import Panel

_HERE = Path(__file__).resolve().parent

#: In the order in which their scripts, markup and styles are put together.
PANELS = (
    Panel("scan", "Scan", _HERE / "scan"),
    Panel("boxes", "Boxes", _HERE / "boxes"),
    Panel("lesions", "Lesions", _HERE / "lesions"),
    Panel("correct", "Correction", _HERE / "correct"),
    Panel("compare", "Comparison", _HERE / "compare"),
    Panel("measure", "Measurement", _HERE / "measure"),
    Panel("followup", "Follow-up", _HERE / "followup"),
    Panel("files", "Files", _HERE / "files"),
)
