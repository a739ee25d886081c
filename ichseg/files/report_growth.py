"""The report's part on growth: what it is, both scans' slices side by side, and the volume against time."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
from reportlab.platypus import Flowable, KeepTogether, Spacer

from ichseg.files.report_pictures import caption_of, grid, picture, scan_called, window_yx
from ichseg.files.report_style import FONT, WIDTH, heading, printable, rich, ruled, text_of
from ichseg.files.report_timeline import timeline_drawing
from ichseg.measures.assessment import Assessment, OtherScan
from ichseg.measures.growth import Growth
from ichseg.measures.timeline import TimePoint
from ichseg.methods.carry import carried_labels
from ichseg.scan.along import seen_along
from ichseg.scan.registration import Registration


def growth_story(whole: Assessment, most: int) -> list[Flowable]:
    """The growth, each definition with its answer, and at most ``most`` pictures, or pairs of them."""
    found = whole.growth
    if found is None:
        return []
    share = "" if found.growth_percent is None else f" ({found.growth_percent:+.1f} %)"
    ivh = "" if found.ivh_growth_ml is None else f"; intraventricular {found.ivh_growth_ml:+.2f} mL"
    sentence = (
        f"Of {found.counted}, from {found.baseline_ml:.1f} to {found.followup_ml:.1f} mL: "
        f"<b>{found.growth_ml:+.1f} mL</b>{share}{found.pace}{ivh}. "
        + " ".join(printable(text) for text in (found.error_sentence, *found.notes))
    )
    rows = [
        [
            text_of(head, size=6.8, grey=True)
            for head in ("Expansion", "", "Rule", "Found", "Source")
        ]
    ]
    rows += [
        [
            text_of(text)
            for text in (
                one.name,
                one.answer,
                one.rule.replace(">=", "≥"),
                one.because,
                one.source,
            )
        ]
        for one in found.verdicts
    ]
    widths = [share * WIDTH for share in (0.1, 0.08, 0.3, 0.24, 0.28)]
    title = "Growth to the first follow-up" if _is_series(whole) else "Growth"
    return [
        KeepTogether([heading(title), rich(sentence), Spacer(0, 3), ruled(rows, widths)]),
        Spacer(0, 8),
        *_other_scan(whole, most),
    ]


def _other_scan(found: Assessment, most: int) -> list[Flowable]:
    """The growth's other scan: what it is called, what made its masks, and its slices with the most blood."""
    other = found.other
    if other is None:
        return []
    role = "Baseline" if found.role == "follow-up" else "Follow-up"
    lines = [
        f"{role} scan: {scan_called(other.volume)}. Masks: {other.method}.",
        *other.volume.notes,
    ]
    if other.onto is None:
        cells = grid(_its_own(other, role, most)) if most else None
    else:
        lines.append(
            f"Pairs of slices: the {role.lower()} is drawn along this scan's slices by the registration. No volume is "
            "measured there."
        )
        cells = grid(_pairs(found, other, other.onto, most), across=4) if most else None
    texts = [text_of(line, grey=True) for line in lines]
    return [KeepTogether([*texts, Spacer(0, 3), *([] if cells is None else [cells])]), Spacer(0, 8)]


def _its_own(other: OtherScan, role: str, most: int) -> list[list[Flowable]]:
    """Slices of the other scan's own."""
    slices = _largest(other.labels_zyx, most)
    return [
        picture(
            other.volume,
            other.labels_zyx,
            other.lesions,
            k,
            caption_of(other.volume, other.labels_zyx, other.lesions, k, role),
        )
        for k in slices
    ]


def _pairs(
    found: Assessment, other: OtherScan, onto: Registration, most: int
) -> list[list[Flowable]]:
    """Both scans along slices of the one that is reported, the baseline to the left of the follow-up."""
    own = found.volume
    slices = _largest(found.labels_zyx, most - most % 2 or most)
    if not slices:
        return []
    along = seen_along(other.volume, own, onto, slices)
    labels = carried_labels(other.labels_zyx, other.volume, along, onto)
    window = window_yx(own)
    cells = []
    for at, k in enumerate(slices):
        title = "Baseline" if found.role == "follow-up" else "Follow-up"
        there = picture(
            along, labels, other.lesions, at, f"{title} along slice {k + 1}", window, across=4
        )
        name = "Follow-up" if found.role == "follow-up" else "Baseline"
        caption = caption_of(own, found.labels_zyx, found.lesions, k, name)
        here = picture(own, found.labels_zyx, found.lesions, k, caption, window, across=4)
        cells += [there, here] if found.role == "follow-up" else [here, there]
    return cells


def _largest(labels_zyx: npt.NDArray[np.integer], most: int) -> list[int]:
    """The slices with the most blood, from foot to head."""
    areas = np.count_nonzero(labels_zyx, axis=(1, 2))
    largest = np.argsort(-areas, kind="stable")[:most]
    return sorted(map(int, largest[areas[largest] > 0]))


#: How many scans and lesions the table over time has at most; the rest are in the files of tables.
_MOST_SCANS, _MOST_LESIONS = 10, 3


def timeline_story(whole: Assessment) -> list[Flowable]:
    """Three or more scans over time: a plot, and a row for each scan."""
    found = whole.timeline
    if found is None or not _is_series(whole):
        return []
    *lesions, total = found.lines
    lesions = lesions[:_MOST_LESIONS]
    whole_head = "All" if total.lesion is None else found.title_of(total)
    heads = ["Scan", "Hours", f"{whole_head}, mL", "Since baseline", "Since scan before"]
    heads += ["Expansion since baseline", *(f"{found.title_of(one)}, mL" for one in lesions)]
    rows = [[text_of(head, size=6.8, grey=True) for head in heads]]
    for at, point in enumerate(total.points[:_MOST_SCANS]):
        rows.append(
            [
                rich(f"{point.scan}<br/><font size=6>{found.scans_sha256[at][:8]}</font>"),
                text_of("–" if point.hours is None else f"{point.hours:.4g}"),
                text_of(f"{point.ml:.1f}", bold=True),
                *(
                    text_of("" if one is None else one.in_words)
                    for one in (point.from_baseline, point.from_previous)
                ),
                text_of(_expansion(found.growths[at - 1]) if at else ""),
                *(_with_change(line.points[at]) for line in lesions),
            ]
        )
    shares = [0.1, 0.07, 0.1, 0.2, 0.2, 0.14, *(0.12 for _ in lesions)]
    widths = [share / sum(shares) * WIDTH for share in shares]
    notes = [*found.notes, found.error_sentence]
    if lesions:
        notes.append("Of a lesion, below its volume: the change since the baseline.")
    left = {
        "scans": len(found.hours) - _MOST_SCANS,
        "lesions": len(found.lines) - 1 - len(lesions),
    }
    notes += [
        f"{n} more {what} are in the tables (CSV, JSON)." for what, n in left.items() if n > 0
    ]
    drawing = timeline_drawing(found, WIDTH, 150, font=FONT)
    return [
        KeepTogether([heading("Volume against time"), drawing, Spacer(0, 4), ruled(rows, widths)]),
        Spacer(0, 3),
        *(text_of(note, size=6.8, grey=True) for note in notes),
        Spacer(0, 8),
    ]


def _is_series(whole: Assessment) -> bool:
    return whole.timeline is not None and len(whole.timeline.hours) > 2


def _expansion(growth: Growth) -> str:
    return ", ".join(f"{one.name} {one.answer}" for one in growth.verdicts)


def _with_change(point: TimePoint) -> Flowable:
    change = point.from_baseline
    error = ", within error" if change is not None and change.within_measurement_error else ""
    below = "" if change is None else f"<br/>{change.growth_ml:+.1f}{error}"
    return rich(f"{point.ml:.1f}{below}")
