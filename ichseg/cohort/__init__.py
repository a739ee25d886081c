"""Many scans: a folder or a manifest in, a mask and a record for each out; one scan is a cohort of one.

What is finished is not done again, files appear whole or not at all, and a scan that cannot be done is reported and
passed over. Files that this writes have neutral names; the names in the manifest are repeated in ``results.csv``,
which is the user's own, and nowhere else.
"""

from ichseg.cohort.automatic import automatic_case, automatic_document
from ichseg.cohort.case import Case, Segmented, prompted_document
from ichseg.cohort.corrections import CORRECTED_NAME
from ichseg.cohort.entry import COLUMNS, Entry, Prompts, parse_box, parse_boxes, parse_prompts
from ichseg.cohort.folders import RECORD_ENDING, has_studies
from ichseg.cohort.growth import GROWTH_NAME, growth_csv, growth_rows
from ichseg.cohort.jobs import (
    Compare,
    Measure,
    Outcome,
    Segment,
    add_masks,
    predict,
    prompted,
    score_slices,
)
from ichseg.cohort.manifest import MANIFEST_NAME, inputs_of_many, is_cohort, read_manifest
from ichseg.cohort.one import segment
from ichseg.cohort.pool import LOCAL, Failure, each
from ichseg.cohort.report import REPORT_NAME, report_html
from ichseg.cohort.results import (
    DICTIONARY_NAME,
    RESULTS_NAME,
    TABLES,
    averages,
    dictionary_json,
    failures,
    result_rows,
    results_csv,
    tables,
)
from ichseg.cohort.run import run
from ichseg.cohort.study import Study

__all__ = [
    "COLUMNS",
    "CORRECTED_NAME",
    "DICTIONARY_NAME",
    "GROWTH_NAME",
    "LOCAL",
    "MANIFEST_NAME",
    "RECORD_ENDING",
    "REPORT_NAME",
    "RESULTS_NAME",
    "TABLES",
    "Case",
    "Compare",
    "Entry",
    "Failure",
    "Measure",
    "Outcome",
    "Prompts",
    "Segment",
    "Segmented",
    "Study",
    "add_masks",
    "automatic_case",
    "automatic_document",
    "averages",
    "dictionary_json",
    "each",
    "failures",
    "growth_csv",
    "growth_rows",
    "has_studies",
    "inputs_of_many",
    "is_cohort",
    "parse_box",
    "parse_boxes",
    "parse_prompts",
    "predict",
    "prompted",
    "prompted_document",
    "read_manifest",
    "report_html",
    "result_rows",
    "results_csv",
    "run",
    "score_slices",
    "segment",
    "tables",
]
