"""The pictures of the report: slices with the outlines of their lesions, and the area by slice."""

from __future__ import annotations

import io
from collections.abc import Sequence
from typing import Any

import numpy as np
from PIL import Image
from reportlab.graphics.shapes import Drawing, Line, Rect, String
from reportlab.lib.colors import HexColor
from reportlab.lib.units import mm
from reportlab.platypus import Flowable, Spacer, Table
from reportlab.platypus import Image as Picture

from ichseg.files.picture import render_slice, with_sides
from ichseg.files.report_style import FONT, GREY, NO_PADDING, RULE, WIDTH, text_of
from ichseg.marks.lesion import Lesion
from ichseg.measures.assessment import Assessment
from ichseg.methods.frame import BRAIN
from ichseg.scan.volume import CTVolume


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


def pictures(found: Assessment, most: int) -> list[Flowable]:
    """The key slices, three in a row, and what the window is."""
    slices = key_slices(found, most)
    if not slices:
        return []
    cells = [
        picture(
            found.volume,
            found.labels_zyx,
            found.lesions,
            k,
            caption_of(found.volume, found.labels_zyx, found.lesions, k),
        )
        for k in slices
    ]
    note = (
        f"Window: width {BRAIN.width:g}, level {BRAIN.level:g} HU. R and L are the patient's right and left, A the "
        "front, P the back. Coloured lines are the edges of the masks."
    )
    return [grid(cells), text_of(note, size=6.8, grey=True), Spacer(0, 8)]


_GAP, _ACROSS = 3 * mm, 3


def _side(across: int) -> float:
    return float((WIDTH - _GAP * (across - 1)) / across)


def scan_called(volume: CTVolume) -> str:
    """A scan by what it is called and by the beginning of its hash, which tells it from any other."""
    return f"{volume.called} (SHA-256 of its voxels {volume.sha256[:16]}…)"


def caption_of(
    volume: CTVolume, labels_zyx: Any, lesions: Sequence[Lesion], k: int, role: str = ""
) -> str:
    """What a slice is, and how much blood is on it."""
    blood = np.isin(labels_zyx[k], [lesion.id for lesion in lesions if lesion.is_blood])
    area_cm2 = np.count_nonzero(blood) * volume.geometry.pixel_area_mm2 / 100
    slice_ = f"{role}, slice" if role else "Slice"
    return f"{slice_} {k + 1} of {len(labels_zyx)} (--slice {k}): {area_cm2:.1f} cm² of blood"


def picture(
    volume: CTVolume,
    labels_zyx: Any,
    lesions: Sequence[Lesion],
    k: int,
    caption: str,
    window: tuple[slice, slice] | None = None,
    across: int = _ACROSS,
) -> list[Flowable]:
    """A slice with the outlines of its lesions and the letters of its sides; below it what it is.

    ``window`` are the rows and columns that are shown, the head's unless given; ``across`` is the grid's.
    """
    rgb = render_slice(
        volume,
        k,
        mask_yx=labels_zyx[k],
        colours={lesion.id: lesion.rgb for lesion in lesions},
        opacity=0.08,
        scale=2.0,
        letters=False,
    )
    shown = with_sides(_cut(rgb, *(window or window_yx(volume)), volume.shape_zyx[1:]))
    side = _side(across)
    return [
        Picture(_jpeg(shown), width=side, height=side * shown.shape[0] / shown.shape[1]),
        Spacer(0, 2),
        text_of(caption, grey=True),
    ]


def grid(cells: list[list[Flowable]], across: int = _ACROSS) -> Flowable:
    """Pictures in rows, three in each unless said otherwise."""
    rows = [cells[at : at + across] for at in range(0, len(cells), across)]
    return Table(
        [row + [""] * (across - len(row)) for row in rows],
        colWidths=[_side(across) + _GAP] * (across - 1) + [_side(across)],
        style=[
            ("VALIGN", (0, 0), (-1, -1), "TOP"),
            *NO_PADDING,
            ("BOTTOMPADDING", (0, 0), (-1, -1), 4),
        ],
    )


def window_yx(volume: CTVolume) -> tuple[slice, slice]:
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


def plot(found: Assessment) -> list[Flowable]:
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
    left, bottom, width, height = 26.0, 13.0, WIDTH - 30, 62.0
    drawing = Drawing(WIDTH, bottom + height + 12)
    for share in (0, 0.5, 1):
        y = bottom + share * height
        drawing.add(Line(left, y, left + width, y, strokeColor=RULE, strokeWidth=0.5))
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
    return String(x, y, text, fontName=FONT, fontSize=6.8, fillColor=GREY, textAnchor=anchor)


def _nice(value: float) -> float:
    """The least of 1, 1.5, 2, 3, 4, 6, 8, 10, 15, ... that is not below a value."""
    power = 10.0 ** np.floor(np.log10(value))
    return float(
        next(step * power for step in (1, 1.5, 2, 3, 4, 6, 8, 10) if step * power >= value)
    )
