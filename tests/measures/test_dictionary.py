"""The dictionary of the columns: each measure's, of the kind that its values have."""

from __future__ import annotations

import numpy as np
import phantoms

from ichseg.marks.lesion import Lesion
from ichseg.measures import fields
from ichseg.measures.assessment import assess
from ichseg.measures.dictionary import measure_columns, schema_record

_TYPES = {"number": (float, int), "integer": (int,), "string": (str,), "boolean": (bool,)}


def test_each_column_is_of_the_kind_that_its_values_have() -> None:
    volume = phantoms.scan([5.0 * k for k in range(8)], (64, 64), (3.0, 3.0))
    labels = phantoms.head_hu()[1].astype(np.uint8)
    found = assess(labels, volume, [Lesion(1)])
    cells = fields.csv_cells(found.measures_of(1))
    columns = {one.name: one for one in measure_columns()}
    assert list(columns) == list(fields.csv_columns())
    known = {name: value for name, value in cells.items() if value is not None}
    assert len(known) > 20
    for name, value in known.items():
        plain = value.item() if isinstance(value, np.generic) else value
        assert isinstance(plain, _TYPES[columns[name].kind]), (name, plain)


def test_a_column_has_a_title_a_sentence_and_the_unit_of_its_name() -> None:
    for one in measure_columns():
        record = one.record()
        assert record["title"] and record["description"].endswith(".")
        if one.name.endswith("_ml"):
            assert record["unit"] == "mL"
    schema = schema_record(measure_columns())
    assert schema["missingValues"] == [""]
