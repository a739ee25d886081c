"""Growth between the scans of many that are a baseline and its follow-up."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from typing import Any

from ichseg import NOTICE
from ichseg.cohort.entry import Entry
from ichseg.cohort.jobs import Outcome
from ichseg.cohort.manifest import baselines
from ichseg.errors import InputError
from ichseg.files.tables import csv_bytes, growth_cells
from ichseg.marks.lesion import Lesion
from ichseg.measures.dictionary import Column
from ichseg.measures.followup import Blood, between
from ichseg.measures.growth import DEFINITIONS
from ichseg.scan.intake import kind_on_disk
from ichseg.scan.read import read_volume

GROWTH_NAME = "growth.csv"


def _text(name: str, about: str) -> Column:
    return Column(name, "string", about=about)


GROWTH_COLUMNS: tuple[Column, ...] = (
    Column("number", "integer", about="The follow-up's row in the manifest, from 1."),
    Column("baseline_number", "integer", about="The baseline's row."),
    _text("scan", "The follow-up as the manifest writes it."),
    _text("baseline_scan", "The baseline as the manifest writes it."),
    _text("scan_sha256", "The hash of the follow-up's voxels."),
    _text("baseline_scan_sha256", "The hash of the baseline's voxels."),
    _text("model", "The method of the follow-up's mask."),
    _text("baseline_model", "The method of the baseline's mask."),
    Column("baseline_ml", about="The blood that is counted, on the baseline."),
    Column("followup_ml", about="The same on the follow-up."),
    Column("growth_ml", about="The follow-up's less the baseline's."),
    Column("growth_percent", about="Of the baseline; empty where that is empty."),
    Column("hours", about="Between the two scans."),
    Column("growth_ml_per_hour", about="Empty where the hours are not known."),
    Column("ivh_growth_ml", about="Of blood in the ventricles, where it is marked."),
    Column(
        "within_measurement_error",
        "boolean",
        about="Whether the change is smaller than what two people's volumes by hand can tell.",
    ),
    _text("counted", "Which blood is counted."),
    _text("error_sentence", "How the change stands to the error of measuring."),
    _text("growth_notes", "What has to be read with it."),
    _text("definition", f"Of expansion: {', '.join(DEFINITIONS)}, with rule and source."),
    Column("expansion", "boolean", about="Its answer; empty where it cannot be given."),
    _text("not_computed", "What the row lacks, and why."),
    _text("error", "Why there is no growth."),
    _text("warnings", "What makes the millilitres of either scan doubtful."),
    _text("notice", NOTICE),
)


def growth_rows(outcomes: Sequence[Outcome]) -> list[dict[str, Any]]:
    """A row for each pair and each definition of expansion, by GROWTH_COLUMNS; one with an error where it is none."""
    by_number = {one.entry.number: one for one in outcomes}
    pairs = baselines([one.entry for one in outcomes])
    return [
        row
        for number, before in pairs.items()
        for row in _pair(by_number[before.number], by_number[number])
    ]


def growth_csv(rows: Sequence[Mapping[str, Any]]) -> bytes:
    """Rows of ``growth_rows`` as CSV in UTF-8."""
    names = [column.name for column in GROWTH_COLUMNS]
    return csv_bytes(names, ({**row, "notice": NOTICE} for row in rows))


def _pair(before: Outcome, after: Outcome) -> Iterable[dict[str, Any]]:
    base = {
        "number": after.entry.number,
        "baseline_number": before.entry.number,
        "scan": after.entry.scan,
        "baseline_scan": before.entry.scan,
        "hours": after.entry.hours,
    }
    if lacking := [one.entry.number for one in (before, after) if one.record is None]:
        scans = " and ".join(f"scan {number}" for number in lacking)
        return [{**base, "error": f"Growth is between two scans; {scans} was passed over."}]
    methods = (_method(before), _method(after))
    base |= {
        "scan_sha256": _scan(after)["sha256"],
        "baseline_scan_sha256": _scan(before)["sha256"],
        "baseline_model": methods[0],
        "model": methods[1],
        "warnings": " ".join(
            f"Of scan {one.entry.number}: {warning}"
            for one in (before, after)
            for warning in _scan(one)["warnings"]
        ),
    }
    try:
        found = between(
            _blood(before),
            _blood(after),
            hours=after.entry.hours,
            acquired=(None, None) if after.entry.hours else _times(before.entry, after.entry),
            methods=methods,
        )
    except InputError as error:
        return [{**base, "error": str(error)}]
    extents = {row["extent"] for one in (before, after) for row in _record(one)["rows"]}
    note = " One of the two is counted on its boxed slices alone." * (
        "boxed slices" in extents and len(extents) > 1
    )
    return [
        {**base, **cells, "growth_notes": f"{cells['growth_notes']}{note}".strip()}
        for cells in growth_cells(found)
    ]


def _times(before: Entry, after: Entry) -> tuple[datetime | None, datetime | None]:
    """When two scans were taken, by their headers, read again for that; None where a format has no time.

    Times stand in no record: they would tell who it is.
    """
    if any(one.path.is_file() and kind_on_disk(one.path) in _TIMELESS for one in (before, after)):
        return None, None
    first, second = (
        read_volume(one.path, series=one.series, add_offset=one.add_offset or 0).acquired_at
        for one in (before, after)
    )
    return first, second


#: Formats of scans whose headers have no time.
_TIMELESS = ("nifti", "nrrd")


def _record(one: Outcome) -> Any:
    assert one.record is not None
    return one.record


def _scan(one: Outcome) -> Any:
    return _record(one)["scan"]


def _method(one: Outcome) -> str | None:
    return next((row["model"] for row in _record(one)["rows"]), None)


def _blood(one: Outcome) -> Blood:
    """A scan's blood by type, as its record has the lesions."""
    lesions = (
        (Lesion(row["id"], row["name"], row["type"]), float(row["volume_ml"]))
        for row in _record(one)["lesions"]
    )
    return Blood.of(lesions, _scan(one)["sha256"])
