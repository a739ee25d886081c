"""One assessment as a PDF of one or two A4 pages, for a colleague to check and to keep.

What is on it: what the scan is called, warnings, the method and where its propagation stopped; the total with its
range, the method's error on patients it never saw, and that of readers; key slices with outlines; the area by slice;
the measures of each lesion; growth, with the other scan, and scores where there are any; boxes, hashes and versions;
the notice on each page. No patient's data: only labels and lesions' names are as people typed them.
"""

from __future__ import annotations

import datetime
import io
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple
from xml.sax.saxutils import escape

import numpy as np
import reportlab
from PIL import Image
from reportlab.graphics.shapes import Drawing, Line, Rect, String
from reportlab.lib.colors import HexColor
from reportlab.lib.pagesizes import A4
from reportlab.lib.styles import ParagraphStyle
from reportlab.lib.units import mm
from reportlab.pdfbase import pdfmetrics
from reportlab.pdfbase.ttfonts import TTFont
from reportlab.pdfgen.canvas import Canvas
from reportlab.platypus import (
    Flowable,
    KeepTogether,
    Paragraph,
    SimpleDocTemplate,
    Spacer,
    Table,
)
from reportlab.platypus import (
    Image as Picture,
)

from ichseg import NOTICE
from ichseg.files import export
from ichseg.files.picture import render_slice, with_sides
from ichseg.marks.lesion import TYPES, UNSPECIFIED, Lesion
from ichseg.measures.assessment import Assessment
from ichseg.measures.fields import not_computed, table_lines, title_of
from ichseg.measures.scores import Score
from ichseg.methods.frame import BRAIN
from ichseg.scan.limits import SOLID_BONE_HU
from ichseg.scan.volume import CTVolume


class Limits(NamedTuple):
    """How much is shown at most; what is left out is said, and stands in the tables and the session file."""

    pictures: int
    lesions: int
    boxes: int
    others: int
    """Pictures of the other scan."""


#: The first of these with which a report is no longer than two pages.
LIMITS = (Limits(6, 12, 24, 3), Limits(3, 9, 12, 3), Limits(3, 5, 6, 3), Limits(3, 3, 3, 0))
MOST_PAGES = 2

_MARGIN = 16 * mm
_WIDTH = A4[0] - 2 * _MARGIN
_FRAME_PADDING = 6  # reportlab's own, inside its margins
_INK, _GREY, _RULE, _PALE, _WARN = (
    HexColor(code) for code in ("#1d2329", "#66707a", "#d4d9de", "#f3f5f7", "#fbdcc4")
)
_FONT, _BOLD = "ichseg-sans", "ichseg-sans-bold"


def report_pdf(found: Assessment, *, made: datetime.date | None = None) -> bytes:
    """The report of an assessment, as PDF; ``made`` is the date on it, today unless given."""
    _load_fonts()
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
        leftMargin=_MARGIN - _FRAME_PADDING,
        rightMargin=_MARGIN - _FRAME_PADDING,
        topMargin=14 * mm,
        bottomMargin=18 * mm,
        title="Hematoma report",
        author="ichseg",
        subject=NOTICE,
    )
    document.build(story, canvasmaker=_NumberedCanvas)
    return content.getvalue(), document.page


def _story(found: Assessment, made: datetime.date, limits: Limits) -> list[Flowable]:
    return [
        *_head(found, made),
        *_headline(found),
        *_method(found),
        *_pictures(found, limits.pictures),
        *_plot(found),
        *_measures(found, limits.lesions),
        *_growth(found, limits.others),
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
        _called(found.volume),
        f"{depth} slices of {columns} × {rows} pixels",
        f"pixels of {dx:.2f} × {dy:.2f} mm",
        f"slice heights {height} mm",
        *([f"gantry tilt {tilt:.1f}°"] if tilt >= 0.1 else []),
    ]
    role = f", {found.role}" if found.role else ""
    title = Table(
        [
            [
                _text(f"Hematoma report: {found.volume.called}{role}", size=15, bold=True),
                _text(f"Made on {made:%d %B %Y}", right=True),
            ]
        ],
        colWidths=[_WIDTH * 0.74, _WIDTH * 0.26],
        style=[("VALIGN", (0, 0), (-1, -1), "BOTTOM"), *_NO_PADDING],
    )
    notice = _band(_text(NOTICE, size=8.5, bold=True), _PALE)
    warned = [
        part
        for warning in found.warnings
        for part in (Spacer(0, 3), _band(_text(f"Warning: {warning}", size=8.5, bold=True), _WARN))
    ]
    notes = [_text(note, grey=True) for note in found.volume.notes]
    return [
        title,
        Spacer(0, 5),
        notice,
        *warned,
        Spacer(0, 4),
        _text("Scan: " + "; ".join(scan) + ".", grey=True),
        *notes,
    ]


def _called(volume: CTVolume) -> str:
    """A scan by what it is called and by the beginning of its hash, which tells it from any other."""
    return f"{volume.called} (SHA-256 of its voxels {volume.sha256[:16]}…)"


def _band(text: Flowable, colour: HexColor) -> Flowable:
    style = [("BACKGROUND", (0, 0), (-1, -1), colour), ("PADDING", (0, 0), (-1, -1), 5)]
    return Table([[text]], colWidths=[_WIDTH], style=style)


def _headline(found: Assessment) -> list[Flowable]:
    given = found.ranges.get(None)
    around = (
        found.no_range.get(None, "Its range from other boxes was not computed.")
        if given is None
        else f"<b>{given.low_ml:.1f} to {given.high_ml:.1f} mL</b> {_shown(given.covers)}."
    )
    own = found.model_error
    off = (
        "How far this method's volumes are off on other patients was not measured."
        if own is None
        else "On patients that it never saw, the method's volumes were off by <b>{} %</b>{}.".format(
            *(_shown(part) for part in own.figure.rsplit(" %", 1))
        )
        + f" {_shown(own.on_phantoms)}"
    )
    error = found.reading_error
    human = (
        f"Two people who measure by hand cannot tell a difference below <b>{error.between_raters_ml:g} mL</b>, one "
        f"person below {error.within_rater_ml:g} mL ({error.source})."
    )
    number = _text(f"{found.total.volume_ml:.1f} mL", size=22, bold=True)
    what = _text(
        "of blood" if len(found.lesions) < 2 else f"of blood in {_blood(found)} lesions", grey=True
    )
    table = Table(
        [
            [
                [number, Spacer(0, 3), what],
                [_rich(off), Spacer(0, 3), _rich(around), Spacer(0, 3), _rich(human)],
            ]
        ],
        colWidths=[_WIDTH * 0.27, _WIDTH * 0.73],
        style=[("VALIGN", (0, 0), (-1, -1), "MIDDLE"), *_NO_PADDING],
    )
    return [Spacer(0, 9), table, Spacer(0, 6)]


def _method(found: Assessment) -> list[Flowable]:
    """What made the masks, of which slices, and where each propagation stopped and why."""
    origins = {
        "box": "from boxes drawn there",
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
        f"<b>Method</b>  {_shown(found.model_title)}{_shown(name)}."
        + (f" Slices: {slices}." if slices else "")
    ]
    names = {lesion.id: lesion.name for lesion in found.lesions}
    for lesion, ends in found.stops.items():
        told = "; ".join(
            f"{end['sentence']} (--slice {end['slice']})"
            for end in sorted(ends, key=lambda end: end["direction"])
        )
        if lesion in names:
            lines.append(f"<b>Propagation of {_shown(names[lesion])}</b>  {_shown(told)}.")
    return [*(_rich(line) for line in lines), Spacer(0, 7)]


def _blood(found: Assessment) -> int:
    return sum(lesion.is_blood for lesion in found.lesions)


def key_slices(found: Assessment, most: int) -> list[int]:
    """The slices to show, from foot to head: each lesion's largest, and where there is room those around it.

    The first lesions go first where there are more than ``most``; three are shown where there are three with blood.
    """
    largest = [max(one.slices, key=lambda row: row.area_mm2).slice_index for one in found.measures]
    chosen = list(dict.fromkeys(largest))[:most]
    marked = [row.slice_index for row in found.total.slices] or sorted(set(largest))
    for share in (0.2, 0.8, 0.5):
        if len(chosen) >= min(3, most):
            break
        free = [k for k in marked if k not in chosen]
        if free:
            wanted = marked[round(share * (len(marked) - 1))]
            chosen.append(min(free, key=lambda k: abs(k - wanted)))
    return sorted(chosen)


def _pictures(found: Assessment, most: int) -> list[Flowable]:
    slices = key_slices(found, most)
    if not slices:
        return []
    cells = [
        _picture(
            found.volume,
            found.labels_zyx,
            found.lesions,
            k,
            f"Slice {k + 1} of {len(found.labels_zyx)}",
        )
        for k in slices
    ]
    note = (
        f"Window: width {BRAIN.width:g}, level {BRAIN.level:g} HU. R and L are the patient's right and left, A the "
        "front, P the back. Coloured lines are the edges of the masks."
    )
    return [_grid(cells), _text(note, size=6.8, grey=True), Spacer(0, 8)]


_GAP, _ACROSS = 3 * mm, 3
_SIDE = (_WIDTH - _GAP * (_ACROSS - 1)) / _ACROSS


def _picture(
    volume: CTVolume,
    labels_zyx: Any,
    lesions: Sequence[Lesion],
    k: int,
    called: str,
) -> list[Flowable]:
    """A slice with the outlines of its lesions and the letters of its sides; below it what it is."""
    rgb = render_slice(
        volume,
        k,
        mask_yx=labels_zyx[k],
        colours={lesion.id: lesion.rgb for lesion in lesions},
        opacity=0.08,
        scale=2.0,
        letters=False,
    )
    shown = with_sides(_cut(rgb, *_window_yx(volume), volume.shape_zyx[1:]))
    high = _SIDE * shown.shape[0] / shown.shape[1]
    blood = np.isin(labels_zyx[k], [lesion.id for lesion in lesions if lesion.is_blood])
    area_cm2 = np.count_nonzero(blood) * volume.geometry.pixel_area_mm2 / 100
    caption = f"{called} (--slice {k}): {area_cm2:.1f} cm² of blood"
    return [
        Picture(_jpeg(shown), width=_SIDE, height=high),
        Spacer(0, 2),
        _text(caption, grey=True),
    ]


def _grid(cells: list[list[Flowable]]) -> Flowable:
    """Pictures three in a row."""
    rows = [cells[at : at + _ACROSS] for at in range(0, len(cells), _ACROSS)]
    return Table(
        [row + [""] * (_ACROSS - len(row)) for row in rows],
        colWidths=[_SIDE + _GAP] * (_ACROSS - 1) + [_SIDE],
        style=[
            ("VALIGN", (0, 0), (-1, -1), "TOP"),
            *_NO_PADDING,
            ("BOTTOMPADDING", (0, 0), (-1, -1), 4),
        ],
    )


def _window_yx(volume: CTVolume) -> tuple[slice, slice]:
    """The rows and columns of the slices that hold the head, with a little air, in pixels."""
    body = np.any(volume.hu_zyx > -300, axis=0)
    spans = []
    for axis, size in ((1, body.shape[0]), (0, body.shape[1])):
        where = np.flatnonzero(body.any(axis=axis))
        low, high = (where[0], where[-1] + 1) if where.size else (0, size)
        air = round(0.03 * size)
        spans.append(slice(max(0, int(low) - air), min(size, int(high) + air)))
    return spans[0], spans[1]


def _cut(rgb: Any, rows: slice, columns: slice, native: tuple[int, ...]) -> Any:
    """The same window of a picture that may be larger than the slice."""
    per = [size / was for size, was in zip(rgb.shape[:2], native, strict=True)]
    (top, bottom), (left, right) = (
        (round(span.start * scale), round(span.stop * scale))
        for span, scale in zip((rows, columns), per, strict=True)
    )
    return rgb[top:bottom, left:right]


def _jpeg(rgb: Any) -> io.BytesIO:
    """A picture as JPEG, fine enough for outlines and a third of the size of PNG, for noise does not pack."""
    content = io.BytesIO()
    picture = Image.fromarray(np.ascontiguousarray(rgb))
    picture.save(content, "JPEG", quality=90, subsampling=0)
    content.seek(0)
    return content


def _plot(found: Assessment) -> list[Flowable]:
    """Area by slice: a bar a slice, a colour a lesion."""
    areas = {
        lesion.id: {row.slice_index: row.area_mm2 / 100 for row in one.slices}
        for lesion, one in zip(found.lesions, found.measures, strict=True)
    }
    if not areas:
        return []
    marked = sorted({k for by_slice in areas.values() for k in by_slice})
    first, last = max(0, marked[0] - 1), min(found.volume.shape_zyx[0] - 1, marked[-1] + 1)
    slices = range(first, last + 1)
    totals = {k: sum(by_slice.get(k, 0.0) for by_slice in areas.values()) for k in slices}
    top = _nice(max(totals.values()))
    left, bottom, width, height = 26.0, 13.0, _WIDTH - 30, 62.0
    drawing = Drawing(_WIDTH, bottom + height + 12)
    for share in (0, 0.5, 1):
        y = bottom + share * height
        drawing.add(Line(left, y, left + width, y, strokeColor=_RULE, strokeWidth=0.5))
        drawing.add(_label(left - 4, y - 2.3, f"{top * share:g}", "end"))
    step = width / len(slices)
    every = max(1, -(-len(slices) // 30))
    for at, k in enumerate(slices):
        x, y = left + at * step, bottom
        for lesion in found.lesions:
            high = areas[lesion.id].get(k, 0.0) / top * height
            if high:
                fill = HexColor(lesion.colour)
                drawing.add(
                    Rect(x + 0.12 * step, y, 0.76 * step, high, fillColor=fill, strokeColor=None)
                )
                y += high
        if at % every == 0:
            drawing.add(_label(x + step / 2, 4, str(k + 1), "middle"))
    drawing.add(
        _label(
            left,
            bottom + height + 5,
            "Area on each slice, cm² (slice 1 is the lowest, at the skull base)",
            "start",
        )
    )
    return [drawing, Spacer(0, 8)]


def _label(x: float, y: float, text: str, anchor: str) -> String:
    return String(x, y, text, fontName=_FONT, fontSize=6.8, fillColor=_GREY, textAnchor=anchor)


def _nice(value: float) -> float:
    """The least of 1, 1.5, 2, 3, 4, 6, 8, 10, 15, ... that is not below a value."""
    power = 10.0 ** np.floor(np.log10(value))
    return float(
        next(step * power for step in (1, 1.5, 2, 3, 4, 6, 8, 10) if step * power >= value)
    )


#: Of the table of measures, the width of the lesions' names; those of the measures are in ``fields``.
_NAMES_SHARE = 0.19


def _measures(found: Assessment, most: int) -> list[Flowable]:
    """The table of measures: a row for each lesion, and one for all blood."""
    shown: list[Lesion | None] = [*found.lesions[:most]]
    if len(found.lesions) != 1:
        shown.append(None)
    measured = [found.measures_of(None if one is None else one.id) for one in shown]
    columns = table_lines("report", measured)
    rows = [[_text(head, size=6.8, grey=True) for head in ("", *(one.head for one in columns))]]
    for at, lesion in enumerate(shown):
        cells = (_text(column.cells[at] or "–") for column in columns)
        rows.append([_lesion_name(lesion), *cells])
    notes = [*found.notes, *_missing(found, most)]
    if hidden := len(found.lesions[most:]):
        notes.append(f"{hidden} more lesions are in the tables (CSV, JSON).")
    bars = [lesion.colour for lesion in found.lesions[:most]]
    shares = (_NAMES_SHARE, *(column.share for column in columns))
    table = _ruled(rows, [share / sum(shares) * _WIDTH for share in shares], bars)
    return [
        table,
        Spacer(0, 3),
        *(_text(note, size=6.8, grey=True) for note in notes),
        Spacer(0, 8),
    ]


def _lesion_name(lesion: Lesion | None) -> Flowable:
    if lesion is None:
        return _rich("<b>All blood</b>")
    kind = (
        ""
        if lesion.type == UNSPECIFIED
        else f"<br/><font size=6.8>{TYPES[lesion.type].short}</font>"
    )
    return _rich(f"<b>{_shown(lesion.name)}</b>{kind}")


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


def _growth(whole: Assessment, most: int) -> list[Flowable]:
    found = whole.growth
    if found is None:
        return []
    share = "" if found.growth_percent is None else f" ({found.growth_percent:+.1f} %)"
    pace = (
        ""
        if found.growth_ml_per_hour is None
        else f", {found.growth_ml_per_hour:+.2f} mL/h over {found.hours:g} h"
    )
    ivh = "" if found.ivh_growth_ml is None else f"; intraventricular {found.ivh_growth_ml:+.2f} mL"
    sentence = (
        f"Of {found.counted}, from {found.baseline_ml:.1f} to {found.followup_ml:.1f} mL: "
        f"<b>{found.growth_ml:+.1f} mL</b>{share}{pace}{ivh}. "
        + " ".join(_shown(text) for text in (found.error_sentence, *found.notes))
    )
    answers = {True: "yes", False: "no", None: "not told"}
    rows = [
        [_text(head, size=6.8, grey=True) for head in ("Expansion", "", "Rule", "Found", "Source")]
    ]
    rows += [
        [
            _text(text)
            for text in (
                one.name,
                answers[one.expansion],
                one.rule.replace(">=", "≥"),
                one.because,
                one.source,
            )
        ]
        for one in found.verdicts
    ]
    widths = [share * _WIDTH for share in (0.1, 0.08, 0.3, 0.24, 0.28)]
    return [
        KeepTogether([_heading("Growth"), _rich(sentence), Spacer(0, 3), _ruled(rows, widths)]),
        Spacer(0, 8),
        *_other_scan(whole, most),
    ]


def _other_scan(found: Assessment, most: int) -> list[Flowable]:
    """The growth's other scan: what it is called, what made its masks, and its slices with the most blood."""
    other = found.other
    if other is None:
        return []
    role = "Baseline" if found.role == "follow-up" else "Follow-up"
    lines = [f"{role} scan: {_called(other.volume)}. Masks: {other.method}.", *other.volume.notes]
    areas = np.count_nonzero(other.labels_zyx, axis=(1, 2))
    largest = np.argsort(-areas, kind="stable")[:most]
    cells = [
        _picture(
            other.volume,
            other.labels_zyx,
            other.lesions,
            k,
            f"{role}, slice {k + 1} of {len(areas)}",
        )
        for k in sorted(map(int, largest[areas[largest] > 0]))
    ]
    texts = [_text(line, grey=True) for line in lines]
    return [KeepTogether([*texts, Spacer(0, 3), *([_grid(cells)] if cells else [])]), Spacer(0, 8)]


def _scores(scores: Sequence[Score]) -> list[Flowable]:
    if not scores:
        return []
    rows = [
        [
            _text(head, size=6.8, grey=True)
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
        rows.append([_text(cell) for cell in cells])
    widths = [share * _WIDTH for share in (0.1, 0.18, 0.29, 0.29, 0.14)]
    return [KeepTogether([_heading("Scores"), _ruled(rows, widths)]), Spacer(0, 8)]


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
        lines.append(f"<b>Weights</b>  {_shown(file)}, SHA-256 {sha}")
    versions = ", ".join(f"{name} {version}" for name, version in export.versions().items())
    lines.append(f"<b>Versions</b>  {versions}")
    if found.identity is not None:
        lines.append(f"<b>Identity of method, code and settings</b>  {found.identity.short}")
    lines.append(
        "<b>Measures</b>  Volume: each slice's area times its own height, summed. ABC/2: Kothari et al. 1996; "
        "its error on irregular hematomas was reported from −19 % to +45 %. Side: about the skull's plane of symmetry. "
        "Components: parts that do not touch each other. To skull: shortest way to bone of "
        f"{SOLID_BONE_HU:g} HU and more."
    )
    return [_heading("How it was made"), *(_rich(line, size=6.8) for line in lines)]


# --- Typography ------------------------------------------------------------------------------------

_NO_PADDING = [
    (f"{side}PADDING", (0, 0), (-1, -1), 0) for side in ("LEFT", "RIGHT", "TOP", "BOTTOM")
]


def _load_fonts() -> None:
    """Bitstream Vera, which reportlab brings: it has ², ±, × and the signs of Western names, and is embedded."""
    folder = Path(reportlab.__file__).parent / "fonts"
    if _FONT not in pdfmetrics.getRegisteredFontNames():
        pdfmetrics.registerFont(TTFont(_FONT, folder / "Vera.ttf"))
        pdfmetrics.registerFont(TTFont(_BOLD, folder / "VeraBd.ttf"))
        pdfmetrics.registerFontFamily(
            _FONT, normal=_FONT, bold=_BOLD, italic=_FONT, boldItalic=_BOLD
        )


def _shown(text: str) -> str:
    """Text as it is, for a paragraph; what the font has no sign for is a question mark."""
    signs = pdfmetrics.getFont(_FONT).face.charToGlyph
    return escape("".join(sign if ord(sign) in signs else "?" for sign in text))


def _text(
    text: str, *, size: float = 7.6, bold: bool = False, grey: bool = False, right: bool = False
) -> Paragraph:
    return _rich(_shown(text), size=size, bold=bold, grey=grey, right=right)


def _rich(
    markup: str, *, size: float = 7.6, bold: bool = False, grey: bool = False, right: bool = False
) -> Paragraph:
    style = ParagraphStyle(
        "text",
        fontName=_BOLD if bold else _FONT,
        fontSize=size,
        leading=size * 1.38,
        textColor=_GREY if grey else _INK,
        alignment=2 if right else 0,
        splitLongWords=1,
    )
    return Paragraph(markup, style)


def _heading(text: str) -> Flowable:
    return Table(
        [[_text(text, size=9, bold=True)]],
        colWidths=[_WIDTH],
        style=[*_NO_PADDING, ("BOTTOMPADDING", (0, 0), (-1, -1), 3)],
    )


def _ruled(rows: list[list[Flowable]], widths: Sequence[float], bars: Sequence[str] = ()) -> Table:
    """A table with a line under each row; ``bars`` are colours at the left of the rows below the head."""
    style: list[tuple[Any, ...]] = [
        ("VALIGN", (0, 0), (-1, -1), "TOP"),
        ("VALIGN", (0, 0), (-1, 0), "BOTTOM"),
        ("LINEBELOW", (0, 0), (-1, -1), 0.5, _RULE),
        ("LEFTPADDING", (0, 0), (-1, -1), 0),
        ("LEFTPADDING", (0, 1), (0, -1), 8 if bars else 0),
        ("RIGHTPADDING", (0, 0), (-1, -1), 5),
        ("TOPPADDING", (0, 0), (-1, -1), 3),
        ("BOTTOMPADDING", (0, 0), (-1, -1), 3),
        *(("LINEBEFORE", (0, at), (0, at), 4, HexColor(bar)) for at, bar in enumerate(bars, 1)),
    ]
    return Table(rows, colWidths=list(widths), style=style, repeatRows=1)


class _NumberedCanvas(Canvas):  # type: ignore[misc]
    """Writes the notice and "page n of m" on each page, once it is known how many there are."""

    def __init__(self, *arguments: Any, **options: Any) -> None:
        super().__init__(*arguments, **options)
        self._pages: list[dict[str, Any]] = []

    def showPage(self) -> None:
        self._pages.append(dict(self.__dict__))
        self._startPage()

    def save(self) -> None:
        for number, page in enumerate(self._pages, 1):
            self.__dict__.update(page)
            self.setFont(_FONT, 6.8)
            self.setFillColor(_GREY)
            self.drawString(_MARGIN, 10 * mm, f"{NOTICE}  No patient data.")
            self.drawRightString(A4[0] - _MARGIN, 10 * mm, f"Page {number} of {len(self._pages)}")
            super().showPage()
        super().save()
