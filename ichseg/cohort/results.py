"""What came of many scans: a table, and means with their spread."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from ichseg import NOTICE
from ichseg.cohort.jobs import Outcome
from ichseg.files.tables import csv_bytes

if TYPE_CHECKING:
    pass


RESULTS_NAME = "results.csv"


#: Of results.csv; empty where there is nothing to say.
_RESULT_COLUMNS = (
    *("number", "scan", "state", "model", "volume_ml", "truth_ml", "difference_ml", "dice"),
    *("boxed_dice", "seconds_a_slice", "mask", "error", "scan_sha256", "warnings", "notice"),
)


def results_csv(outcomes: Sequence[Outcome]) -> bytes:
    """A row for each scan, and for each model where several were compared: CSV in UTF-8, names as the user gave them.

    Columns: number, scan, state, model, volume_ml, truth_ml, difference_ml, dice (of the whole scan), boxed_dice (of
    the slices with a box), seconds_a_slice, mask, error, scan_sha256, warnings (what makes the millilitres doubtful),
    notice; empty where there is nothing to say.
    """
    rows = (row for outcome in outcomes for row in result_rows(outcome))
    return csv_bytes(_RESULT_COLUMNS, ({**row, "notice": NOTICE} for row in rows))


def result_rows(outcome: Outcome) -> list[dict[str, Any]]:
    """An outcome as flat rows, as in ``results_csv``: one, or one a compared model."""
    entry, record = outcome.entry, outcome.record
    base = {"number": entry.number, "scan": entry.scan, "state": outcome.state}
    if record is None:
        return [{**base, "error": outcome.error}]
    base["scan_sha256"] = record["scan"]["sha256"]
    base["warnings"] = " ".join(record["scan"].get("warnings", ()))
    if "models" not in record:
        scores = record.get("whole_scan", {"volume_ml": record["volume_ml"]})
        return [{**base, "model": record["model"], **scores, "mask": record["mask"]}]
    return [
        {
            **base,
            "model": one["model"],
            **one["whole_scan"],
            "boxed_dice": one["boxed_slices"].get("dice"),
            "seconds_a_slice": one["seconds_a_slice"],
        }
        for one in record["models"]
    ]


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
