"""What came of many scans: a table with its dictionary, growth between pairs, and means with their spread."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from ichseg import NOTICE
from ichseg.cohort.growth import GROWTH_COLUMNS, GROWTH_NAME, growth_csv
from ichseg.cohort.jobs import Outcome
from ichseg.cohort.rows import RESULT_COLUMNS
from ichseg.files.records import json_bytes
from ichseg.files.tables import csv_bytes
from ichseg.measures.dictionary import package_record

RESULTS_NAME = "results.csv"

#: The data dictionary of the tables beside it, as a Data Package (Frictionless Data) has it.
DICTIONARY_NAME = "datapackage.json"


def results_csv(outcomes: Sequence[Outcome]) -> bytes:
    """A row for each scan, lesion and method: CSV in UTF-8, names as the user gave them.

    The columns are ``rows.RESULT_COLUMNS``; empty where there is nothing to say. What is of a scan and method as a
    whole, such as ``blood_ml`` and ``dice``, stands in each of its rows.
    """
    rows = (row for outcome in outcomes for row in result_rows(outcome))
    names = [column.name for column in RESULT_COLUMNS]
    return csv_bytes(names, ({**row, "notice": NOTICE} for row in rows))


def result_rows(outcome: Outcome) -> list[dict[str, Any]]:
    """An outcome as flat rows, as in ``results_csv``: one for each lesion, or for each compared model."""
    entry, record = outcome.entry, outcome.record
    base: dict[str, Any] = {"number": entry.number, "scan": entry.scan, "state": outcome.state}
    if entry.baseline:
        base |= {"baseline": entry.baseline, "hours": entry.hours}
    if record is None:
        return [{**base, "error": outcome.error, "error_kind": outcome.error_kind}]
    base |= {"scan_sha256": record["scan"]["sha256"], "seconds": outcome.seconds}
    for name, key in (("warnings", "warnings"), ("scan_notes", "notes")):
        base[name] = " ".join(record["scan"].get(key, ()))
    if "models" in record:
        return [{**base, **_compared_cells(one)} for one in record["models"]]
    scores = {k: v for k, v in record.get("whole_scan", {}).items() if k != "volume_ml"}
    return [{**base, **row, **scores, "mask": record.get("mask")} for row in record["rows"]]


def _compared_cells(one: Mapping[str, Any]) -> dict[str, Any]:
    return {
        "model": one["model"],
        "extent": "boxed slices",
        **one["whole_scan"],
        "blood_ml": one["whole_scan"]["volume_ml"],
        "boxed_dice": one["boxed_slices"].get("dice"),
        "seconds_a_slice": one["seconds_a_slice"],
    }


#: All tables that a run may write into its folder.
TABLES = (RESULTS_NAME, GROWTH_NAME, DICTIONARY_NAME)


def tables(
    outcomes: Sequence[Outcome], growth_rows: Sequence[Mapping[str, Any]] = ()
) -> dict[str, bytes | None]:
    """The tables of a run, and of its pairs' growth, by their names in its folder; None for one that has no row."""
    growth = growth_csv(growth_rows) if growth_rows else None
    return {
        RESULTS_NAME: results_csv(outcomes),
        GROWTH_NAME: growth,
        DICTIONARY_NAME: dictionary_json(with_growth=growth is not None),
    }


def dictionary_json(with_growth: bool = False) -> bytes:
    """What each column of the tables means, beside them: a Data Package whose resources are the tables."""
    tables = {RESULTS_NAME: RESULT_COLUMNS}
    if with_growth:
        tables[GROWTH_NAME] = GROWTH_COLUMNS
    return json_bytes(
        package_record("hematomas", "Hematomas on head CT, by scan, lesion and method", tables)
    )


def averages(outcomes: Sequence[Outcome]) -> list[dict[str, Any]]:
    """For each compared model: over scans with a reference, mean and sample sd of Dice and of the |difference| in mL.

    Keys: model, scans, dice_mean, dice_sd, boxed_dice_mean, boxed_dice_sd, difference_ml_mean, difference_ml_sd,
    seconds_a_slice; None where there is no value (a spread needs two). Scans whose mask and reference are both empty
    have no Dice and are left out of its mean.
    """
    rows = [row for outcome in outcomes for row in result_rows(outcome) if "model" in row]
    out = []
    for model in dict.fromkeys(row["model"] for row in rows):
        mine = [row for row in rows if row["model"] == model]
        found: dict[str, Any] = {
            "model": model,
            "scans": sum(row.get("truth_ml") is not None for row in mine),
        }
        for name in ("dice", "boxed_dice", "difference_ml"):
            values = [abs(row[name]) for row in mine if row.get(name) is not None]
            found[f"{name}_mean"] = float(np.mean(values)) if values else None
            found[f"{name}_sd"] = float(np.std(values, ddof=1)) if len(values) > 1 else None
        found["seconds_a_slice"] = float(np.mean([row["seconds_a_slice"] for row in mine]))
        out.append(found)
    return out


def failures(outcomes: Sequence[Outcome]) -> dict[str, list[int]]:
    """The numbers of the scans that were passed over, by the kind of what went wrong, the most frequent first."""
    found: dict[str, list[int]] = {}
    for one in outcomes:
        if one.record is None:
            found.setdefault(one.error_kind, []).append(one.entry.number)
    return dict(sorted(found.items(), key=lambda kind: -len(kind[1])))
