"""One assessment as a PDF of one or two A4 pages, for a colleague to check and to keep.

What is on it: what the scan is called, warnings, the method and where its propagation stopped; the total with its
range, the method's error on patients it never saw, and that of readers; key slices with outlines; the area by slice;
the measures of each lesion; growth, with the other scan, volume against time, and scores where there are any; boxes,
hashes and versions; the notice on each page. No patient's data: only labels and lesions' names are as people typed
them.
"""

from __future__ import annotations

import datetime
import io
from collections.abc import Sequence
from typing import NamedTuple

from reportlab.lib.pagesizes import A4
from reportlab.lib.units import mm
from reportlab.platypus import (
    Flowable,
    KeepTogether,
    SimpleDocTemplate,
    Spacer,
    Table,
)

from ichseg import NOTICE
from ichseg.files.records import versions
from ichseg.files.report_growth import growth_story, timeline_story
from ichseg.files.report_pictures import pictures, plot, scan_called
from ichseg.files.report_style import (
    FRAME_PADDING,
    MARGIN,
    NO_PADDING,
    PALE,
    WARN,
    WIDTH,
    NumberedCanvas,
    band,
    heading,
    load_fonts,
    printable,
    rich,
    ruled,
    text_of,
)
from ichseg.marks.lesion import TYPES, UNSPECIFIED, Lesion
from ichseg.measures.assessment import Assessment
from ichseg.measures.fields import not_computed, table_lines, title_of
from ichseg.measures.scores import Score
from ichseg.scan.limits import SOLID_BONE_HU


class Limits(NamedTuple):
    """How much is shown at most; what is left out is said, and stands in the tables and the session file."""

    pictures: int
    lesions: int
    boxes: int
    others: int
    """Pictures of the other scan, or those of both side by side less one."""


#: The first of these with which a report is no longer than two pages.
LIMITS = (Limits(6, 12, 24, 3), Limits(3, 9, 12, 3), Limits(3, 5, 6, 3), Limits(3, 3, 3, 0))
MOST_PAGES = 2

#: Of the table of measures, the width of the lesions' names; those of the measures are in ``fields``.
_NAMES_SHARE = 0.19


def report_pdf(found: Assessment, *, made: datetime.date | None = None) -> bytes:
    """The report of an assessment, as PDF; ``made`` is the date on it, today unless given."""
    load_fonts()
    date = made or datetime.date.today()
    for limits in LIMITS:
        content, pages = _built(_story(found, date, limits))
        if pages <= MOST_PAGES:
            break
    return content


def _built(story: list[Flowable]) -> tuple[bytes, int]:
    """The PDF, and how many pages it has."""
    content = io.BytesIO()
    document = SimpleDocTemplate(
        content,
        pagesize=A4,
        leftMargin=MARGIN - FRAME_PADDING,
        rightMargin=MARGIN - FRAME_PADDING,
        topMargin=14 * mm,
        bottomMargin=18 * mm,
        title="Hematoma report",
        author="ichseg",
        subject=NOTICE,
    )
    document.build(story, canvasmaker=NumberedCanvas)
    return content.getvalue(), document.page


def _story(found: Assessment, made: datetime.date, limits: Limits) -> list[Flowable]:
    return [
        *_head(found, made),
        *_headline(found),
        *_method(found),
        *pictures(found, limits.pictures),
        *plot(found),
        *_measures(found, limits.lesions),
        *growth_story(found, limits.others),
        *timeline_story(found),
        *_scores(found.scores),
        *_origin(found, limits.boxes),
    ]


# --- Parts -----------------------------------------------------------------------------------------


def _head(found: Assessment, made: datetime.date) -> list[Flowable]:
    depth, rows, columns = found.volume.shape_zyx
    _, dy, dx = found.volume.spacing_mm
    heights = sorted({f"{height:.1f}" for height in found.volume.slice_heights_mm}, key=float)
    height = heights[0] if len(heights) == 1 else f"{heights[0]} to {heights[-1]}"
    tilt = found.volume.geometry.tilt_degrees
    scan = [
        scan_called(found.volume),
        f"{depth} slices of {columns} × {rows} pixels",
        f"pixels of {dx:.2f} × {dy:.2f} mm",
        f"slice heights {height} mm",
        *([f"gantry tilt {tilt:.1f}°"] if tilt >= 0.1 else []),
    ]
    role = f", {found.role}" if found.role else ""
    title = Table(
        [
            [
                text_of(f"Hematoma report: {found.volume.called}{role}", size=15, bold=True),
                text_of(f"Made on {made:%d %B %Y}", right=True),
            ]
        ],
        colWidths=[WIDTH * 0.74, WIDTH * 0.26],
        style=[("VALIGN", (0, 0), (-1, -1), "BOTTOM"), *NO_PADDING],
    )
    notice = band(text_of(NOTICE, size=8.5, bold=True), PALE)
    warned = [
        part
        for warning in found.warnings
        for part in (Spacer(0, 3), band(text_of(f"Warning: {warning}", size=8.5, bold=True), WARN))
    ]
    notes = [text_of(note, grey=True) for note in found.volume.notes]
    return [
        title,
        Spacer(0, 5),
        notice,
        *warned,
        Spacer(0, 4),
        text_of("Scan: " + "; ".join(scan) + ".", grey=True),
        *notes,
    ]


def _headline(found: Assessment) -> list[Flowable]:
    given = found.ranges.get(None)
    around = (
        found.no_range.get(None, "Its range from other boxes was not computed.")
        if given is None
        else f"<b>{given.low_ml:.1f} to {given.high_ml:.1f} mL</b> {printable(given.covers)}."
    )
    off = _off(found)
    error = found.reading_error
    human = (
        f"Two people who measure by hand cannot tell a difference below <b>{error.between_raters_ml:g} mL</b>, one "
        f"person below {error.within_rater_ml:g} mL ({error.source})."
    )
    number = text_of(f"{found.total.volume_ml:.1f} mL", size=22, bold=True)
    what = text_of(
        "of blood" if len(found.lesions) < 2 else f"of blood in {_blood(found)} lesions", grey=True
    )
    table = Table(
        [
            [
                [number, Spacer(0, 3), what],
                [rich(off), Spacer(0, 3), rich(around), Spacer(0, 3), rich(human)],
            ]
        ],
        colWidths=[WIDTH * 0.27, WIDTH * 0.73],
        style=[("VALIGN", (0, 0), (-1, -1), "MIDDLE"), *NO_PADDING],
    )
    told = (
        []
        if found.automatic is None
        else [band(text_of(found.automatic.sentence, size=8.5, bold=True), WARN), Spacer(0, 5)]
    )
    return [Spacer(0, 9), *told, table, Spacer(0, 6)]


def _off(found: Assessment) -> str:
    """How far such volumes, or such masks, were off on patients that the method never saw."""
    if found.automatic is not None:
        return printable(found.automatic.error)
    own = found.model_error
    if own is None:
        return "How far this method's volumes are off on other patients was not measured."
    share, rest = (printable(part) for part in own.figure.rsplit(" %", 1))
    return (
        f"On patients that it never saw, the method's volumes were off by <b>{share} %</b>{rest}. "
        f"{printable(own.on_phantoms)}"
    )


def _method(found: Assessment) -> list[Flowable]:
    """What made the masks, of which slices, and where each propagation stopped and why."""
    origins = {
        "box": "from boxes drawn there" if found.automatic is None else "from boxes proposed there",
        "propagated": "by propagation",
        "edited": "corrected by hand or loaded",
    }
    slices = ", ".join(
        f"{found.slices_by[key]} {words}"
        for key, words in origins.items()
        if found.slices_by.get(key)
    )
    look = {None: "", True: ", boxes answered with refinement", False: ", without refinement"}
    name = "" if found.model is None else f" ({found.model}){look[found.second_look]}"
    lines = [
        f"<b>Method</b>  {printable(found.model_title)}{printable(name)}."
        + (f" Slices: {slices}." if slices else "")
    ]
    names = {lesion.id: lesion.name for lesion in found.lesions}
    for lesion, ends in found.stops.items():
        told = "; ".join(
            f"{end['sentence']} (--slice {end['slice']})"
            for end in sorted(ends, key=lambda end: end["direction"])
        )
        if lesion in names:
            lines.append(f"<b>Propagation of {printable(names[lesion])}</b>  {printable(told)}.")
    return [*(rich(line) for line in lines), Spacer(0, 7)]


def _blood(found: Assessment) -> int:
    return sum(lesion.is_blood for lesion in found.lesions)


def _measures(found: Assessment, most: int) -> list[Flowable]:
    """The table of measures: a row for each lesion, and one for all blood."""
    shown: list[Lesion | None] = [*found.lesions[:most]]
    if len(found.lesions) != 1:
        shown.append(None)
    measured = [found.measures_of(None if one is None else one.id) for one in shown]
    columns = table_lines("report", measured)
    rows = [[text_of(head, size=6.8, grey=True) for head in ("", *(one.head for one in columns))]]
    for at, lesion in enumerate(shown):
        cells = (text_of(column.cells[at] or "–") for column in columns)
        rows.append([_lesion_name(lesion), *cells])
    notes = [*found.notes, *_missing(found, most)]
    if hidden := len(found.lesions[most:]):
        notes.append(f"{hidden} more lesions are in the tables (CSV, JSON).")
    bars = [lesion.colour for lesion in found.lesions[:most]]
    shares = (_NAMES_SHARE, *(column.share for column in columns))
    table = ruled(rows, [share / sum(shares) * WIDTH for share in shares], bars)
    return [
        table,
        Spacer(0, 3),
        *(text_of(note, size=6.8, grey=True) for note in notes),
        Spacer(0, 8),
    ]


def _lesion_name(lesion: Lesion | None) -> Flowable:
    if lesion is None:
        return rich("<b>All blood</b>")
    kind = (
        ""
        if lesion.type == UNSPECIFIED
        else f"<br/><font size=6.8>{TYPES[lesion.type].short}</font>"
    )
    return rich(f"<b>{printable(lesion.name)}</b>{kind}")


def _missing(found: Assessment, most: int) -> list[str]:
    """What a dash stands for, each reason once."""
    names = {None: "All blood"} | {lesion.id: lesion.name for lesion in found.lesions[:most]}
    by_reason: dict[tuple[str, str], list[str]] = {}
    for number, name in names.items():
        if number is None and len(found.lesions) == 1:
            continue
        for what, reason in not_computed(found.measures_of(number)).items():
            by_reason.setdefault((what, reason), []).append(name)
    return [
        f"{title_of('report', what)} of {', '.join(whose)}: {reason}"
        for (what, reason), whose in by_reason.items()
    ]


def _scores(scores: Sequence[Score]) -> list[Flowable]:
    if not scores:
        return []
    rows = [
        [
            text_of(head, size=6.8, grey=True)
            for head in ("Score", "Total", "Points", "Missing", "Source")
        ]
    ]
    for one in scores:
        total = f"{one.least} to {one.most}, not complete" if one.total is None else str(one.total)
        known = [f"{item.name} {item.points}" for item in one.items if item.points is not None]
        meaning = f": {one.meaning}" if one.meaning else ""
        cells = (
            one.name,
            total + meaning,
            "; ".join(known) or "–",
            "; ".join(one.missing) or "–",
            one.source,
        )
        rows.append([text_of(cell) for cell in cells])
    widths = [share * WIDTH for share in (0.1, 0.18, 0.29, 0.29, 0.14)]
    return [KeepTogether([heading("Scores"), ruled(rows, widths)]), Spacer(0, 8)]


def _origin(found: Assessment, most: int) -> list[Flowable]:
    """How the masks came about: enough to see whether another's can be the same."""
    lines = []
    if boxes := [
        (k, lesion, box) for (k, lesion), many in sorted(found.prompts.items()) for box in many
    ]:
        several = len(found.lesions) > 1
        listed = [
            f"--slice {k} --box {box.text} (slice {k + 1}{f', lesion {lesion}' if several else ''})"
            for k, lesion, box in boxes[:most]
        ]
        more = f"; and {len(boxes) - most} more in the session file" if len(boxes) > most else ""
        lines.append(
            f"<b>Boxes</b>  {'; '.join(listed)}{more}. As the command line takes them: slices from 0 at the skull "
            "base; x0,y0,x1,y1 in pixels of the slice as it is shown, x from the patient's right to left, y from front "
            "to back."
        )
    for file, sha in found.weights_sha256.items():
        lines.append(f"<b>Weights</b>  {printable(file)}, SHA-256 {sha}")
    known = ", ".join(f"{name} {version}" for name, version in versions().items())
    lines.append(f"<b>Versions</b>  {known}")
    if found.identity is not None:
        lines.append(f"<b>Identity of method, code and settings</b>  {found.identity.short}")
    lines.append(
        "<b>Measures</b>  Volume: each slice's area times its own height, summed. ABC/2: Kothari et al. 1996; "
        "its error on irregular hematomas was reported from −19 % to +45 %. Side: about the skull's plane of symmetry. "
        "Components: parts that do not touch each other. To skull: shortest way to bone of "
        f"{SOLID_BONE_HU:g} HU and more."
    )
    return [heading("How it was made"), *(rich(line, size=6.8) for line in lines)]
