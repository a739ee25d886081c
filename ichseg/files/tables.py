"""The numbers as tables (CSV) and as a record (JSON), for a person, a spreadsheet and a program to read."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from ichseg import NOTICE
from ichseg.files.records import scan_record, versions
from ichseg.marks.lesion import Lesion
from ichseg.measures import fields
from ichseg.measures.assessment import Assessment
from ichseg.measures.growth import Growth, growth_record
from ichseg.measures.scores import Score
from ichseg.measures.timeline import Timeline, timeline_record
from ichseg.measures.volume import slice_table
from ichseg.methods.model_error import ModelError
from ichseg.scan.volume import CTVolume

#: Of every table: what its rows are of, and what has to be said with the numbers.
SCAN_COLUMNS, NOTICE_COLUMNS = ("scan", "scan_sha256", "method"), ("warnings", "notice")
LESION_COLUMNS = ("lesion", "name", "type", "is_blood")


def slices_csv(
    labels_zyx: npt.ArrayLike,
    volume: CTVolume,
    lesions: Sequence[Lesion] = (),
    *,
    method: str = "",
) -> bytes:
    """A mask's table as CSV in UTF-8: a row for each slice of each lesion, and no row of another kind.

    Columns: ``scan`` (what it is called), ``scan_sha256``, ``method``, ``lesion`` (its number), ``name``, ``type``,
    ``is_blood``, ``slice`` (from 1, as people count), ``slice_index`` (from 0, as ``--slice`` takes it), ``area_mm2``,
    ``height_mm`` (the slice's own), ``volume_ml``, ``warnings``, ``notice``. The sum of ``volume_ml`` over rows with
    ``is_blood`` yes is the volume of the blood. ``labels_zyx`` [z, y, x] holds the lesions' numbers; without
    ``lesions``, not 0 is the one lesion.
    """
    labels = np.asarray(labels_zyx)
    labels = labels if lesions else labels != 0
    rows = [
        {
            **lesion_cells(lesion),
            "slice": row.slice_index + 1,
            "slice_index": row.slice_index,
            "area_mm2": row.area_mm2,
            "height_mm": row.height_mm,
            "volume_ml": row.volume_ml,
        }
        for lesion in lesions or (Lesion(1),)
        for row in slice_table(labels == lesion.id, volume)
    ]
    columns = (*LESION_COLUMNS, "slice", "slice_index", "area_mm2", "height_mm", "volume_ml")
    return scan_csv(volume, method, columns, rows)


def lesion_cells(lesion: Lesion) -> dict[str, Any]:
    """What a table's row says of the lesion that it is of: LESION_COLUMNS."""
    return {
        "lesion": lesion.id,
        "name": lesion.name,
        "type": lesion.type,
        "is_blood": lesion.is_blood,
    }


def scan_csv(
    volume: CTVolume,
    method: str,
    columns: Sequence[str],
    rows: Iterable[Mapping[str, Any]],
    warnings: Sequence[str] | None = None,
) -> bytes:
    """A table of one scan: SCAN_COLUMNS before each row, NOTICE_COLUMNS after it (``csv_bytes``).

    ``warnings`` are the scan's own unless given.
    """
    same = {
        "scan": volume.called,
        "scan_sha256": volume.sha256,
        "method": method,
        "warnings": " ".join(volume.warnings if warnings is None else warnings),
        "notice": NOTICE,
    }
    return csv_bytes((*SCAN_COLUMNS, *columns, *NOTICE_COLUMNS), ({**row, **same} for row in rows))


def is_scan_csv(path: Path) -> bool:
    """Whether a file is a table that ``scan_csv`` made, by its first line."""
    try:
        with path.open(encoding="utf-8", newline="") as file:
            first = next(csv.reader([file.readline(1 << 16)]), [])
    except (OSError, ValueError, csv.Error):
        return False
    starts = tuple(first[: len(SCAN_COLUMNS)]) == SCAN_COLUMNS
    return starts and tuple(first[-len(NOTICE_COLUMNS) :]) == NOTICE_COLUMNS


def csv_bytes(columns: Sequence[str], rows: Iterable[Mapping[str, Any]]) -> bytes:
    """Rows as CSV in UTF-8 under one header: four decimals, yes and no, empty where there is nothing to say.

    What a person typed is never taken for a formula by a spreadsheet.
    """
    text = io.StringIO()
    writer = csv.DictWriter(text, columns, restval="", lineterminator="\n")
    writer.writeheader()
    for row in rows:
        writer.writerow({name: _cell(value) for name, value in row.items()})
    return text.getvalue().encode()


def _cell(value: Any) -> str:
    if value is None:
        return ""
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, float):
        return f"{value:.4f}"
    text = str(value)
    return f"'{text}" if text.startswith(("=", "+", "-", "@")) else text


# --- Of an assessment -------------------------------------------------------------------------------

#: Of a growth, of a score, and of how a lesion's mask came about.
GROWTH_COLUMNS = (
    *("baseline_ml", "followup_ml", "growth_ml", "growth_percent", "hours", "growth_ml_per_hour"),
    *("ivh_growth_ml", "within_measurement_error", "counted", "error_sentence", "growth_notes"),
    *("definition", "expansion", "not_computed"),
)
_CHANGE = ("growth_ml", "growth_percent", "growth_ml_per_hour", "within_measurement_error")
_CHANGES = ("from_baseline", "from_previous")
#: Of a lesion, or all blood that is counted, on one of several scans.
TIMELINE_COLUMNS = (
    *("at_scan", "at_scan_sha256", "hours", "line", "type", "counted", "volume_ml"),
    *(f"{change}_{name}" for change in _CHANGES for name in _CHANGE),
    "timeline_notes",
)
_SCORE_COLUMNS = ("score", "score_total", "score_least", "score_most", "not_computed")
_HOW_COLUMNS = (
    *("not_computed", "range_covers", "automatic", "boxes", "stops", "weights_sha256"),
    "ichseg_version",
)


def lesions_csv(found: Assessment) -> bytes:
    """All measures as CSV in UTF-8, a row for each lesion.

    Units are in the columns' names. A ``_slice`` counts from 1, a ``_slice_index`` from 0. ``boxes`` are as a manifest
    takes them. ``not_computed`` names what a row lacks and why; the scan's warnings and the notice are in every row.
    """
    rows = [
        {
            **lesion_cells(lesion),
            **fields.csv_cells(found.measures_of(lesion.id)),
            **how_cells(found, lesion.id),
            "automatic": found.automatic is not None,
        }
        for lesion in found.lesions
    ]
    return _table(found, (*LESION_COLUMNS, *fields.csv_columns(), *_HOW_COLUMNS), rows)


def total_csv(found: Assessment) -> bytes:
    """The same of all blood together, in one row."""
    row = {**fields.csv_cells(found.measures_of(None)), **how_cells(found, None)}
    row["automatic"] = found.automatic is not None
    return _table(found, (*fields.csv_columns(), *_HOW_COLUMNS), [row])


def slices_of(found: Assessment) -> bytes:
    """A row for each slice of each lesion (``slices_csv``)."""
    return slices_csv(found.labels_zyx, found.volume, found.lesions, method=_method(found))


def growth_csv(found: Assessment) -> bytes | None:
    """A row for each definition of expansion; None without a second scan."""
    if found.growth is None:
        return None
    columns = ("role", "other_scan", "other_scan_sha256", *GROWTH_COLUMNS)
    return _table(found, columns, _growth_rows(found))


def timeline_csv(found: Assessment) -> bytes | None:
    """A row for each lesion on each scan of the person, and for all blood that is counted; None of one scan alone.

    ``at_scan`` counts the scans from 1, the baseline; ``hours`` are since it. ``line`` is the lesion's name, or "All".
    The columns of the two changes are those of a growth, since the baseline and since the scan before.
    """
    if found.timeline is None:
        return None
    return _table(found, TIMELINE_COLUMNS, _timeline_rows(found.timeline))


def scores_csv(found: Assessment) -> bytes | None:
    """A row for each score; None where none was asked for."""
    return _table(found, _SCORE_COLUMNS, _score_rows(found.scores)) if found.scores else None


def _method(found: Assessment) -> str:
    return found.model or found.model_title


def _table(found: Assessment, columns: Sequence[str], rows: Iterable[Mapping[str, Any]]) -> bytes:
    return scan_csv(found.volume, _method(found), columns, rows, found.warnings)


def how_cells(found: Assessment, lesion: int | None) -> dict[str, Any]:
    """How a lesion's mask came about, or (None) all of them."""
    boxes = [
        f"{k}:{box.text}" + (f"@{of}" if of > 1 else "")
        for (k, of), drawn in sorted(found.prompts.items())
        for box in drawn
        if lesion in (None, of)
    ]
    return {
        "not_computed": "; ".join(
            f"{k}: {why}" for k, why in fields.not_computed(found.measures_of(lesion)).items()
        ),
        "range_covers": given.covers if (given := found.ranges.get(lesion)) else None,
        "boxes": " ".join(boxes),
        "stops": "; ".join(
            stop["sentence"]
            for of, ends in found.stops.items()
            if lesion in (None, of)
            for stop in ends
        ),
        "weights_sha256": " ".join(f"{file}:{sha}" for file, sha in found.weights_sha256.items()),
        "ichseg_version": versions()["ichseg"],
    }


def _growth_rows(found: Assessment) -> Iterable[dict[str, Any]]:
    assert found.growth is not None
    other = found.other
    for cells in growth_cells(found.growth):
        yield {
            "role": found.role,
            "other_scan": None if other is None else other.volume.called,
            "other_scan_sha256": None if other is None else other.volume.sha256,
            **cells,
        }


def growth_cells(growth: Growth) -> Iterable[dict[str, Any]]:
    """What a table says of a growth: GROWTH_COLUMNS, a row for each definition of expansion."""
    for verdict in growth.verdicts:
        cells = {name: getattr(growth, name) for name in GROWTH_COLUMNS[:10]}
        cells["growth_notes"] = " ".join(growth.notes)
        missing = []
        if growth.growth_percent is None:
            missing.append("growth_percent: the baseline is empty")
        if growth.hours is None:
            missing.append("growth_ml_per_hour: the hours between the scans are not known")
        if verdict.expansion is None:
            missing.append(f"expansion: {verdict.because}")
        yield {
            **cells,
            "definition": f"{verdict.name}: {verdict.rule} ({verdict.source})",
            "expansion": verdict.expansion,
            "not_computed": "; ".join(missing),
        }


def _timeline_rows(found: Timeline) -> Iterable[dict[str, Any]]:
    for line in (*found.lesions, found.total):
        for point, sha256 in zip(line.points, found.scans_sha256, strict=True):
            yield {
                "at_scan": point.scan,
                "at_scan_sha256": sha256,
                "hours": point.hours,
                "line": "All" if line.lesion is None else line.lesion.name,
                "type": None if line.lesion is None else line.lesion.type,
                "counted": found.counted if line.lesion is None else None,
                "volume_ml": point.ml,
                **{
                    f"{change}_{name}": getattr(getattr(point, change), name, None)
                    for change in _CHANGES
                    for name in _CHANGE
                },
                "timeline_notes": " ".join(found.notes),
            }


def _score_rows(scores: Iterable[Score]) -> Iterable[dict[str, Any]]:
    for score in scores:
        yield {
            "score": f"{score.name} ({score.source})",
            "score_total": score.total,
            "score_least": score.least,
            "score_most": score.most,
            "not_computed": f"score_total: not known: {', '.join(score.missing)}"
            if score.missing
            else "",
        }


def measures_record(found: Assessment) -> dict[str, Any]:
    """All measures for a JSON document, lengths, areas and volumes with their units in the keys.

    Keys: ``schema_version``; ``scan`` and ``other_scan`` (``scan_record``; the second of a growth, or null);
    ``warnings``, of both; ``model``, ``model_title``, ``weights_sha256``, ``second_look``; ``identity``
    (``Identity.record``, null without a model); ``boxes`` (slice from 0, lesion, box_xyxy); ``slices_by``; ``stops``
    (lesion, and ``propagate.Stop.record``); ``total`` and ``lesions``, each the fields of ``Measures`` with ``range``
    and ``not_computed`` {what: why}, a lesion also id, name, type, colour and is_blood; ``reading_error``;
    ``model_error`` (cross-validated, or null); ``growth`` and ``role``, null without a second scan; ``timeline``
    (``timeline_record``, null of one scan alone); ``scores``;
    ``automatic`` (``Automatic.record``, null where a person drew the boxes); ``notes``, sentences to read with the
    numbers; ``versions``; ``notice``. What was not computed is null.
    """
    return {
        "schema_version": 1,
        "scan": scan_record(found.volume),
        "other_scan": None if found.other is None else scan_record(found.other.volume),
        "warnings": list(found.warnings),
        "model": found.model,
        "model_title": found.model_title,
        "weights_sha256": dict(found.weights_sha256),
        "second_look": found.second_look,
        "identity": None if found.identity is None else found.identity.record(),
        "boxes": [
            {"slice": k, "lesion": lesion, "box_xyxy": [float(value) for value in box.xyxy]}
            for (k, lesion), boxes in sorted(found.prompts.items())
            for box in boxes
        ],
        "slices_by": dict(found.slices_by),
        "stops": [
            {"lesion": lesion, **stop} for lesion, ends in found.stops.items() for stop in ends
        ],
        **measured_record(found),
        "growth": None if found.growth is None else growth_record(found.growth),
        "role": found.role,
        "timeline": None if found.timeline is None else timeline_record(found.timeline),
        "scores": [asdict(score) for score in found.scores],
        "automatic": None if found.automatic is None else found.automatic.record(),
        "notes": list(found.notes),
        "versions": versions(),
        "notice": NOTICE,
    }


def measured_record(found: Assessment) -> dict[str, Any]:
    """``total``, ``lesions``, ``reading_error`` and ``model_error`` of ``measures_record``: what was measured."""
    return {
        "total": _measures_record(found, None),
        "lesions": [
            {
                "id": lesion.id,
                "name": lesion.name,
                "type": lesion.type,
                "colour": lesion.colour,
                "is_blood": lesion.is_blood,
                **_measures_record(found, lesion.id),
            }
            for lesion in found.lesions
        ],
        "reading_error": asdict(found.reading_error),
        "model_error": error_record(found.model_error),
    }


def error_record(error: ModelError | None) -> dict[str, Any] | None:
    """A model's cross-validated error for a JSON document: its fields, and ``figure``, for people."""
    return None if error is None else {**asdict(error), "figure": error.figure}


def _measures_record(found: Assessment, lesion: int | None) -> dict[str, Any]:
    one = found.measures_of(lesion)
    return {**fields.measures_record(one), "not_computed": fields.not_computed(one)}
