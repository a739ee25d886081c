"""Coverage of the jittered range, with a method whose answer is known."""

from __future__ import annotations

import csv
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import numpy.typing as npt
import pytest

from ichseg.marks.box import Box
from ichseg.methods.predictor import Predictor, SliceEmbedding, SliceMasks
from train.data.cases import CT_ICH_ASSUMED_PIXEL_MM
from train.data.slices import NativeSlice
from train.scores.coverage import Row, cover
from train.write.coverage import report, table, wilson, write_coverage


class Filling(Predictor):
    """A method whose mask is the box, to whole pixels."""

    name = title = "filling"
    weights_sha256: ClassVar = {}

    def embed(self, slice_hu: npt.ArrayLike) -> SliceEmbedding:
        return SliceEmbedding(np.asarray(slice_hu))

    def predict(
        self, embedding: SliceEmbedding, boxes: Any, *, second_look: bool | None = None
    ) -> SliceMasks:
        masks = np.zeros((len(boxes), *embedding.shape_yx), dtype=bool)
        for mask, box in zip(masks, boxes, strict=True):
            mask[round(box.y0) : round(box.y1), round(box.x0) : round(box.x1)] = True
        return SliceMasks(masks, np.full(len(boxes), np.nan, np.float32))


def a_slice(
    patient: str,
    index: int,
    reference_side: int,
    spacing_mm: tuple[float, float] | None = (0.5, 0.5),
) -> NativeSlice:
    """A box of 60 x 60 pixels around a square of reference."""
    mask = np.zeros((200, 200), dtype=bool)
    mask[50 : 50 + reference_side, 50 : 50 + reference_side] = True
    box = Box(50, 50, 110, 110)
    return NativeSlice(
        patient, patient, index, ("iph",), np.zeros((200, 200)), mask, box, (box,), spacing_mm, None
    )


def test_a_reference_like_the_boxes_is_covered_and_a_far_one_is_not() -> None:
    slices = [a_slice("a", k, 60) for k in range(3)] + [a_slice("b", k, 30) for k in range(2)]
    seen: list[int] = []
    rows = cover(Filling(), slices, on_slice=lambda: seen.append(1))
    assert len(seen) == 5
    found = {(row.patient, row.moves): row for row in rows}
    assert set(found) == {(p, m) for p in "ab" for m in ("together", "apart")}
    a, b = found["a", "together"], found["b", "together"]
    assert (a.slices, a.reference, a.covered, a.slices_covered) == (3, 3 * 3600, True, 3)
    assert (b.slices, b.reference, b.covered, b.slices_covered) == (2, 2 * 900, False, 0)
    assert b.reference < b.low < b.median < b.high
    # Moves that differ from slice to slice average out; those of one hand do not.
    apart = found["a", "apart"]
    assert apart.high - apart.low < a.high - a.low
    assert cover(Filling(), slices) == rows


def test_millimetres_are_pixels_of_the_slice_or_of_the_assumed_size() -> None:
    def width(spacing_mm: tuple[float, float] | None) -> float:
        row = cover(Filling(), [a_slice("a", 0, 60, spacing_mm)])[0]
        return row.high - row.low

    assumed = (CT_ICH_ASSUMED_PIXEL_MM, CT_ICH_ASSUMED_PIXEL_MM)
    assert width(None) == width(assumed)
    assert width((1.5, 1.5)) < width((0.5, 0.5)) < width((0.25, 0.25))


def rows_of(references: list[float]) -> list[Row]:
    return [
        Row(str(i), "together", 2, reference, 90.0, 100.0, 120.0, 1)
        for i, reference in enumerate(references)
    ]


def test_the_table_counts_what_is_in_below_and_above(tmp_path: Path) -> None:
    rows = rows_of([80, 90, 100, 120, 121])
    line = table(rows).splitlines()[-1]
    assert line.startswith("| together | 5 | 3 (")
    assert line.endswith(") | 1 | 1 | 0.30 | 10 | 5 (50 %) |")
    assert table(rows) in report(rows, "a run")
    write_coverage(tmp_path / "new", rows, "a run")
    assert table(rows) in (tmp_path / "new" / "coverage.md").read_text()
    with (tmp_path / "new" / "coverage.csv").open() as file:
        written = list(csv.DictReader(file))
    assert [row["covered"] for row in written] == ["0", "1", "1", "1", "0"]
    assert float(written[0]["reference"]) == 80


@pytest.mark.parametrize(
    ("hits", "of", "expected"),
    [(0, 10, (0.0, 0.2775)), (10, 10, (0.7225, 1.0)), (15, 20, (0.5313, 0.8881))],
)
def test_wilsons_interval(hits: int, of: int, expected: tuple[float, float]) -> None:
    assert wilson(hits, of) == pytest.approx(expected, abs=1e-3)
