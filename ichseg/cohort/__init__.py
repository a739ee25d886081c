"""Many scans: a folder or a manifest in, a mask and a record for each out; one scan is a cohort of one.

What is finished is not done again, files appear whole or not at all, and a scan that cannot be done is reported and
passed over. Files that this writes have neutral names; the names in the manifest are repeated in ``results.csv``,
which is the user's own, and nowhere else.
"""

from ichseg.cohort.jobs import (
    Compare,
    Outcome,
    Segment,
    add_masks,
    predict,
    prompted,
    score_slices,
)
from ichseg.cohort.manifest import (
    COLUMNS,
    MANIFEST_NAME,
    Entry,
    inputs_of_many,
    is_cohort,
    parse_boxes,
    read_manifest,
)
from ichseg.cohort.pool import LOCAL, Failure, each
from ichseg.cohort.results import RESULTS_NAME, averages, result_rows, results_csv
from ichseg.cohort.run import run

__all__ = [
    "COLUMNS",
    "LOCAL",
    "MANIFEST_NAME",
    "RESULTS_NAME",
    "Compare",
    "Entry",
    "Failure",
    "Outcome",
    "Segment",
    "add_masks",
    "averages",
    "each",
    "inputs_of_many",
    "is_cohort",
    "parse_boxes",
    "predict",
    "prompted",
    "read_manifest",
    "result_rows",
    "results_csv",
    "run",
    "score_slices",
]
