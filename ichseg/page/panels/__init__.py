"""The table of panels. A new panel is a folder here and a row in the table."""

from __future__ import annotations

from pathlib import Path

from ichseg.archive.settings import is_configured
from ichseg.page.panel import Panel
from ichseg.page.panels.archive import panel as archive
from ichseg.page.panels.boxes import panel as boxes
from ichseg.page.panels.compare import panel as compare
from ichseg.page.panels.correct import panel as correct
from ichseg.page.panels.files import panel as files
from ichseg.page.panels.followup import panel as followup
from ichseg.page.panels.lesions import panel as lesions
from ichseg.page.panels.measure import panel as measure
from ichseg.page.panels.scan import panel as scan
from ichseg.page.panels.study import panel as study
from ichseg.page.panels.suggest import panel as suggest

_HERE = Path(__file__).resolve().parent

#: In the order in which their scripts, markup and styles are put together.
PANELS = (
    Panel("scan", "Scan", _HERE / "scan", scan.OPERATIONS),
    Panel("archive", "Archive", _HERE / "archive", archive.OPERATIONS, is_on=is_configured),
    Panel("study", "Study", _HERE / "study", study.OPERATIONS),
    Panel("boxes", "Boxes", _HERE / "boxes", boxes.OPERATIONS),
    Panel("suggest", "Proposals", _HERE / "suggest", suggest.OPERATIONS, suggest.PASSING),
    Panel("lesions", "Lesions", _HERE / "lesions", lesions.OPERATIONS),
    Panel("correct", "Correction", _HERE / "correct", correct.OPERATIONS),
    Panel(
        "compare",
        "Comparison",
        _HERE / "compare",
        compare.OPERATIONS,
        compare.PASSING,
        unopened=compare.UNOPENED,
    ),
    Panel("measure", "Measurement", _HERE / "measure", measure.OPERATIONS, measure.PASSING),
    Panel(
        "followup",
        "Follow-up",
        _HERE / "followup",
        followup.OPERATIONS,
        followup.PASSING,
        always=followup.ALWAYS,
    ),
    Panel("files", "Files", _HERE / "files", files.OPERATIONS, fills=files.FILLS),
)
