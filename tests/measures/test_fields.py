"""The table of measures: a row that is put into it stands in every table, record and file that is made from it."""

from __future__ import annotations

import csv
import io
import json
from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import numpy as np
import phantoms
import pypdfium2
import pytest
from typer.testing import CliRunner

from ichseg.cli.main import app
from ichseg.files.records import json_bytes
from ichseg.files.tables import measures_record
from ichseg.files.write import encode
from ichseg.marks.lesion import Lesion
from ichseg.measures import fields
from ichseg.measures.assessment import Assessment, assess
from ichseg.measures.spread import VolumeRange
from ichseg.measures.values import Subject
from ichseg.page.measuring import Measured, Measuring

LESIONS = (Lesion(1, "Thalamus", type="IPH"), Lesion(2, type="IVH"))


def pixels_across(subject: Subject) -> int | None:
    """The measure that the tests add: on how many columns of the scan it has a voxel; None for several lesions."""
    return None if subject.is_several else int(subject.mask_zyx.any(axis=(0, 1)).sum())


ACROSS = fields.Field("across_px", "Across", "px", of=pixels_across, text="{:d}".format)


@pytest.fixture
def with_a_row(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fields, "FIELDS", (*fields.FIELDS, ACROSS))


def two_lesions() -> tuple[Any, Any]:
    volume = phantoms.scan((0, 5, 10), (30, 40))
    labels = np.zeros(volume.shape_zyx, dtype=np.uint8)
    labels[0:2, 3:9, 4:11] = 1
    labels[1:3, 20:22, 20:33] = 2
    return volume, labels


@pytest.fixture
def assessed(with_a_row: None) -> Assessment:
    volume, labels = two_lesions()
    return assess(labels, volume, LESIONS)


def rows(found: Assessment, table: str) -> list[dict[str, str]]:
    return list(csv.DictReader(io.StringIO(encode(".csv", found)[table].decode())))


def test_a_new_measure_is_in_the_csv_tables(assessed: Assessment) -> None:
    assert [row["across_px"] for row in rows(assessed, ".csv")] == ["7", "13"]
    (total,) = rows(assessed, "-total.csv")
    assert total["across_px"] == "" and "across_px: It has no value here." in total["not_computed"]


def test_a_new_measure_is_in_the_record(assessed: Assessment) -> None:
    record = json.loads(json_bytes(measures_record(assessed)))
    assert [one["across_px"] for one in record["lesions"]] == [7, 13]
    assert record["total"]["across_px"] is None and "across_px" in record["total"]["not_computed"]


def test_a_new_measure_is_in_the_report(assessed: Assessment) -> None:
    (content,) = encode(".pdf", assessed).values()
    pages = pypdfium2.PdfDocument(content)
    text = " ".join("\n".join(page.get_textpage().get_text_bounded() for page in pages).split())
    assert "Across px" in text and "Across of All blood: It has no value here." in text
    # At the end of the lesion's row, after the dash of its distance to a skull that there is not.
    assert "– 7 " in text and "– 13 " in text


def test_a_new_measure_is_in_the_pages_table(assessed: Assessment) -> None:
    measuring = Measuring()
    marked: Any = SimpleNamespace(
        method=SimpleNamespace(name="one", second_look=False),
        drawn=SimpleNamespace(rules={}, boxes={}, blood=(), no_range={}, clipped=frozenset()),
    )
    measured = Measured(1, marked, assessed.volume, assessed)
    table = {line["key"]: line for line in measuring.record(measured)["table"]}
    assert table["across_px"] == {
        "key": "across_px",
        "head": "Across, px",
        "cells": (None, "7", "13"),
    }


def test_a_new_measure_is_in_the_command_lines_table_and_json(
    with_a_row: None, tmp_path: Any
) -> None:
    volume, labels = two_lesions()
    hu_zyx = volume.hu_zyx.copy()
    hu_zyx[:, 0] = -1000
    scan = phantoms.save_nifti(tmp_path / "scan.nii.gz", hu_zyx)
    mask = phantoms.save_nifti(tmp_path / "mask.nii.gz", labels)
    table = CliRunner().invoke(app, ["measure", str(scan), str(mask)]).stdout
    (line,) = [line for line in table.splitlines() if "Across, px" in line]
    assert [cell.strip() for cell in line.split("│")[2:5]] == ["-", "7", "13"]
    printed = CliRunner().invoke(app, ["measure", str(scan), str(mask), "--json"]).stdout
    assert [one["across_px"] for one in json.loads(printed)["baseline"]["lesions"]] == [7, 13]


def test_the_narrow_tables_begin_with_the_volume_and_its_range() -> None:
    volume, labels = two_lesions()
    given = VolumeRange(1.0, 2.0, 3.0, (1.0, 2.0, 3.0), 3.0, 0)
    found = replace(assess(labels, volume, LESIONS), ranges={1: given})
    for medium, dash in (("page", "From other boxes, mL"), ("report", "Range mL")):
        heads = [line.head for line in fields.table_lines(medium, [found.measures_of(1)])]  # type: ignore[arg-type]
        assert heads[1] == dash
    columns = fields.csv_columns()
    assert columns[:3] == ("voxels", "volume_ml", "range_low_ml")
    assert len(set(columns)) == len(columns)


def test_every_measure_has_a_place_in_one_table_at_least() -> None:
    volume, labels = two_lesions()
    found = assess(labels, volume, LESIONS)
    one = found.measures_of(1)
    assert set(one.values) == {row.key for row in fields.FIELDS}
    assert set(fields.csv_cells(one)) == set(fields.csv_columns())
    heads = [line.head for line in fields.table_lines("terminal", [one])]
    assert len(set(heads)) == len(heads)
