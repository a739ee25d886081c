"""THE table of measures: what is measured of a lesion, and how each of its tables shows it.

``FIELDS`` has a row for each measure. The record for JSON, the columns of the CSV tables, the table of the report, that
of the page and that of the command line are all made from it, so that a new measure is one function and one row
(docs/recipes/measure.md). The order of the rows is that of the records and of the command line's table; CSV and the
narrow tables of report and page begin with ``CSV_FIRST`` and ``NARROW_FIRST``.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, is_dataclass
from operator import attrgetter
from typing import Any, Literal

import numpy as np

from ichseg.errors import check_cancelled
from ichseg.measures import signs, texts
from ichseg.measures.abc2 import abc2
from ichseg.measures.intensity import hu_histogram, hu_statistics
from ichseg.measures.lengths import longest_in_3d, longest_in_plane
from ichseg.measures.spread import VolumeRange
from ichseg.measures.surface import surface_area_mm2
from ichseg.measures.values import Measures, Subject
from ichseg.measures.volume import slice_table, volume_ml

#: The tables for people: of the command line, of the PDF report, and of the page.
Medium = Literal["terminal", "report", "page"]

#: What a CSV column holds, as a Table Schema calls it.
Kind = Literal["number", "integer", "string", "boolean"]


@dataclass(frozen=True)
class Shown:
    """How one medium shows a measure: a line of a table, or a column of the report's."""

    title: str
    unit: str
    text: Callable[[Measures], str | None]
    """The value for people; None, shown as a dash, where there is nothing to say."""
    key: str = ""
    """By which the page knows the line; the measure's own where it is empty."""
    share: float = 0.07
    """Of the report's width."""


@dataclass(frozen=True)
class Field:
    """A row of the table: one measure.

    Args:
        key: in records (JSON), and of what is said where there is no value.
        title: what people call it.
        unit: of the text.
        of: the function that measures it; None where the assessment gives it, as a range.
        text: a value as people read it, in ``unit``.
        columns: the CSV columns, with their units in their names, and what of a value each has; empty for none. By
            default one of the name of the key, which has the value itself.
        terminal: the lines of the command line's table; by default one of title, unit and text.
        report: likewise the columns of the report's table.
        page: likewise the lines of the page's table.
        why_not: why there is no value, as a sentence; None where there is one.
        about: what it is, in a sentence, for the dictionary beside a table (``dictionary``).
        kinds: what of its CSV columns is no number with digits: "integer", "string" or "boolean".

    """

    key: str
    title: str = ""
    unit: str = ""
    of: Callable[[Subject], Any] | None = None
    text: Callable[[Any], str] = "{:.1f}".format
    columns: Mapping[str, Callable[[Any], Any]] | None = None
    terminal: tuple[Shown, ...] | None = None
    report: tuple[Shown, ...] | None = None
    page: tuple[Shown, ...] | None = None
    why_not: Callable[[Measures], str | None] | None = None
    about: str = ""
    kinds: Mapping[str, Kind] = field(default_factory=dict)

    def shown(self, medium: Medium) -> tuple[Shown, ...]:
        """How a medium shows it."""
        given: tuple[Shown, ...] | None = getattr(self, medium)
        return (Shown(self.title, self.unit, self._own_text),) if given is None else given

    def cells(self, one: Measures) -> dict[str, Any]:
        """Its CSV columns with their values; None where there is none."""
        columns = {self.key: _itself} if self.columns is None else self.columns
        value = one.values.get(self.key)
        return {name: None if value is None else take(value) for name, take in columns.items()}

    def missing(self, one: Measures) -> str | None:
        """Why there is no value, as a sentence."""
        if self.why_not is not None:
            return self.why_not(one)
        has_value = one.values.get(self.key) is not None
        return None if has_value else one.reasons.get(self.key, "It has no value here.")

    def _own_text(self, one: Measures) -> str | None:
        value = one.values.get(self.key)
        return None if value is None else self.text(value)


def _itself(value: Any) -> Any:
    return value


def _at_slice(what: str, at: str = "slice_index") -> dict[str, Callable[[Any], Any]]:
    """The CSV columns of a slice: as people count it, and as --slice takes it."""
    index = attrgetter(at)

    def counted(value: Any) -> int | None:
        k: int | None = index(value)
        return None if k is None else k + 1

    return {f"{what}_slice": counted, f"{what}_slice_index": index}


def _why_no_range(one: Measures) -> str | None:
    if "range" not in one.values or one.range is not None:
        return None
    return one.reasons.get("range", "The range from other boxes was not asked for.")


# --- The table -------------------------------------------------------------------------------------

FIELDS: tuple[Field, ...] = (
    Field(
        "voxels",
        of=lambda it: int(np.count_nonzero(it.mask_zyx)),
        terminal=(),
        report=(),
        page=(),
        about="The voxels of the mask.",
        kinds={"voxels": "integer"},
    ),
    Field(
        "volume_ml",
        "Volume",
        "mL",
        of=lambda it: volume_ml(it.mask_zyx, it.volume),
        text="{:.2f}".format,
        report=(Shown("Volume", "mL", lambda one: f"{one.volume_ml:.2f}", share=0.068),),
        page=(Shown("Volume", "mL", lambda one: texts.ml(one.volume_ml)),),
        about="Over slices, the area of the mask times the slice's own height.",
    ),
    Field(
        "pieces",
        "Components",
        of=lambda it: len(it.components_ml),
        terminal=(
            Shown(
                "Components (largest, mL)",
                "",
                lambda one: f"{one.pieces} ({one.largest_piece_ml:.2f})",
            ),
        ),
        report=(Shown("Compo- nents", "", lambda one: f"{one.pieces}", share=0.065),),
        page=(Shown("Components (largest, mL)", "", texts.components_on_page),),
        about="Components of the mask that touch in 3D, corners included.",
        kinds={"pieces": "integer"},
    ),
    Field(
        "largest_piece_ml",
        of=lambda it: float(it.components_ml.max(initial=0.0)),
        terminal=(),
        report=(),
        page=(),
        about="The volume of the largest component.",
    ),
    Field(
        "slices",
        of=lambda it: tuple(slice_table(it.mask_zyx, it.volume)),
        columns={},
        terminal=(),
        report=(),
        page=(),
    ),
    Field(
        "longest_in_plane",
        "Longest in a slice",
        "mm",
        of=lambda it: longest_in_plane(it.mask_zyx, it.volume),
        columns={
            "longest_in_plane_mm": attrgetter("length_mm"),
            **_at_slice("longest_in_plane"),
        },
        text=lambda line: f"{line.length_mm:.1f} ({texts.slice_text(line.slice_index)})",
        report=(),
        about="The longest line between two voxels of one slice, and that slice.",
    ),
    Field(
        "longest_in_3d",
        "Longest in 3D",
        "mm",
        of=lambda it: longest_in_3d(it.mask_zyx, it.volume),
        text=lambda span: f"{span.length_mm:.1f}",
        columns={"longest_in_3d_mm": attrgetter("length_mm")},
        report=(
            Shown(
                "Longest 3D",
                "mm",
                texts.longest_in_3d,
                share=0.078,
            ),
        ),
        about="The longest line between two voxels of the mask.",
    ),
    Field(
        "abc2",
        "ABC/2",
        "mL",
        of=lambda it: None if it.is_several else abc2(it.mask_zyx, it.volume),
        columns={
            "abc2_ml": attrgetter("volume_ml"),
            "abc2_a_mm": attrgetter("a.length_mm"),
            "abc2_b_mm": attrgetter("b.length_mm"),
            "abc2_c_mm": attrgetter("c_mm"),
            **_at_slice("abc2", "a.slice_index"),
            "abc2_set_by_hand": lambda abc: " ".join(abc.edited),
        },
        terminal=(
            Shown("ABC/2", "mL", texts.abc2_text("{:.2f}".format)),
            Shown("A x B x C", "mm", texts.lines_on_terminal),
            Shown("Weights in C, by slice", "", texts.weights),
        ),
        report=(
            Shown("ABC/2", "mL", texts.abc2_text("{:.1f}".format)),
            Shown("A × B × C", "mm", texts.lines_in_report, share=0.13),
        ),
        page=(
            Shown("ABC/2", "mL", texts.abc2_text(texts.ml)),
            Shown("A × B × C", "mm", texts.lines_on_page, key="abc2_lines"),
        ),
        why_not=lambda one: (
            None if one.abc2 else "ABC/2 is of one lesion; add those of the lesions."
        ),
        about="A, the longest diameter of a slice; B, at right angles to it; C, the depth; and half of their product.",
        kinds={"abc2_set_by_hand": "string"},
    ),
    Field(
        "surface_area_mm2",
        "Surface",
        "cm²",
        of=lambda it: surface_area_mm2(it.mask_zyx, it.volume),
        text=lambda area_mm2: f"{area_mm2 / 100:.1f}",
        columns={"surface_mm2": _itself},
        report=(Shown("Surface", "cm²", texts.surface_cm2, share=0.075),),
        about="The area of the surface around the mask.",
    ),
    Field(
        "hu",
        "HU",
        of=lambda it: hu_statistics(it.mask_zyx, it.volume),
        columns={
            f"hu_{name}": attrgetter(name)
            for name in (
                *("mean", "sd", "minimum", "lower_quartile", "median"),
                *("upper_quartile", "maximum"),
            )
        },
        terminal=(
            Shown("HU, mean (sd)", "", texts.mean_and_sd("{:.1f} ({:.1f})")),
            Shown("HU, quartiles", "", texts.quartiles(" / ")),
        ),
        report=(Shown("HU mean ± SD", "", texts.mean_and_sd("{:.1f} ± {:.1f}"), share=0.09),),
        page=(
            Shown("HU, mean ± SD", "", texts.mean_and_sd("{:.1f} ± {:.1f}")),
            Shown("HU, quartiles", "", texts.quartiles(", "), key="hu_quartiles"),
        ),
        about="Hounsfield units of the voxels in the mask.",
    ),
    Field(
        "histogram",
        of=lambda it: hu_histogram(it.mask_zyx, it.volume),
        columns={},
        terminal=(Shown("HU, 0 to 120 by 5", "", texts.bars),),
        report=(),
        page=(),
    ),
    Field(
        "range",
        "Range",
        "mL",
        columns={
            "range_low_ml": attrgetter("low_ml"),
            "range_median_ml": attrgetter("median_ml"),
            "range_high_ml": attrgetter("high_ml"),
        },
        terminal=(),
        report=(Shown("Range", "mL", texts.range_text(texts.short_ml, "–"), share=0.094),),
        page=(Shown("From other boxes", "mL", texts.range_text(texts.ml, " to ")),),
        why_not=_why_no_range,
        about="The smallest, median and largest volume from other boxes (range_covers says which).",
    ),
    Field(
        "side",
        "Side",
        of=lambda it: None if it.landmarks is None else it.landmarks.side(it.mask_zyx),
        columns={
            "side": attrgetter("side"),
            "left_share": attrgetter("left_share"),
            "midline_uncertainty_mm": attrgetter("midline_uncertainty_mm"),
        },
        terminal=(Shown("Side (share on the left)", "", texts.side_on_terminal),),
        report=(Shown("Side", "", texts.side_in_report),),
        page=(Shown("Side", "", texts.side_on_page),),
        why_not=lambda one: one.side.reason if one.side else "It was not asked for.",
        about="The side of the head, the share of the mask on the left, and how far the midline may be off.",
        kinds={"side": "string"},
    ),
    Field(
        "inner_table",
        "To the inner table",
        "mm",
        of=lambda it: None if it.landmarks is None else it.landmarks.inner_table(it.mask_zyx),
        columns={
            "inner_table_mm": attrgetter("distance_mm"),
            **_at_slice("inner_table"),
        },
        terminal=(Shown("To the inner table", "mm", texts.to_skull),),
        report=(Shown("To skull", "mm", texts.to_skull),),
        page=(Shown("To the inner table", "mm", texts.to_skull),),
        why_not=lambda one: one.inner_table.reason if one.inner_table else "It was not asked for.",
        about="The shortest way from the mask to the inner table of the skull, and the slice of it.",
    ),
    Field(
        "irregularity_percent",
        "Irregularity (100 is a ball)",
        "%",
        of=signs.irregularity_percent,
        text="{:.0f}".format,
        report=(),
        about="The radius of a sphere of the same surface over that of one of the same volume "
        "(doi:10.1186/s12883-022-02983-w).",
    ),
    Field(
        "hu_variation_percent",
        "HU, SD over mean",
        "%",
        of=signs.hu_variation_percent,
        text="{:.0f}".format,
        report=(),
        about="The coefficient of variation of the HU, noise included (doi:10.3389/fneur.2022.999223).",
    ),
    Field(
        "satellites",
        "Satellites",
        of=signs.satellites,
        text="{:d}".format,
        report=(),
        about="Components smaller than 10 mm within 20 mm of the largest (Yu et al., Stroke 2017;48:1517-1523).",
        kinds={"satellites": "integer"},
    ),
)

#: What the CSV tables begin with, and the narrow tables of the report and the page; the other rows follow.
CSV_FIRST = ("voxels", "volume_ml", "range")
NARROW_FIRST = (
    *("volume_ml", "range", "abc2", "longest_in_plane", "longest_in_3d", "surface_area_mm2"),
    *("hu", "pieces"),
)


# --- What is made from it --------------------------------------------------------------------------


def measure_subject(subject: Subject, label: int | None) -> Measures:
    """All measures of a mask."""
    values = {}
    for row in FIELDS:
        if row.of is not None:
            check_cancelled()
            values[row.key] = row.of(subject)
    return Measures(label, values)


def measures_record(one: Measures) -> dict[str, Any]:
    """Measures for a JSON document: label, then a value for each row, what the assessment gives at the end."""
    rows = sorted((row for row in FIELDS if row.key in one.values), key=lambda row: row.of is None)
    return {"label": one.label, **{row.key: _plain(one.values[row.key]) for row in rows}}


def csv_columns() -> tuple[str, ...]:
    """The CSV columns of all measures."""
    return tuple(name for row in _in_order(CSV_FIRST) for name in (row.columns or _own(row)))


def csv_cells(one: Measures) -> dict[str, Any]:
    """A CSV row's cells of all measures, by column."""
    return {name: value for row in FIELDS for name, value in row.cells(one).items()}


def not_computed(one: Measures) -> dict[str, str]:
    """What is missing of a lesion's measures, and why, as a sentence each, by the key of its row; "all" for all."""
    if one.voxels == 0:
        return {"all": "There is no voxel of it."}
    return {row.key: why for row in FIELDS if (why := row.missing(one))}


@dataclass(frozen=True)
class TableLine:
    """A line of a table for people (of the report, a column): its head, and a cell for each lesion; None is a dash."""

    key: str
    head: str
    cells: tuple[str | None, ...]
    share: float


def table_lines(medium: Medium, lesions: Sequence[Measures]) -> list[TableLine]:
    """The table of a medium, of some lesions side by side.

    On page and command line a lesion without a voxel has dashes.
    """
    order = FIELDS if medium == "terminal" else _in_order(NARROW_FIRST)
    return [
        TableLine(
            shown.key or row.key,
            _head(medium, shown),
            tuple(shown.text(one) if one.voxels or medium == "report" else None for one in lesions),
            shown.share,
        )
        for row in order
        for shown in row.shown(medium)
    ]


def title_of(medium: Medium, key: str) -> str:
    """What a table calls a measure where it says why there is none; "The measures" of all."""
    found = next((row for row in FIELDS if row.key == key), None)
    if found is None:
        return "The measures"
    if medium == "report" and found.report:
        return found.report[0].title
    return found.title or found.key


def _head(medium: Medium, shown: Shown) -> str:
    if not shown.unit:
        return shown.title
    if medium == "terminal":
        return f"{shown.title}, {shown.unit.replace('²', '2').replace('³', '3')}"
    return f"{shown.title}{' ' if medium == 'report' else ', '}{shown.unit}"


def _in_order(first: Sequence[str]) -> list[Field]:
    place = {key: at for at, key in enumerate(first)}
    return sorted(FIELDS, key=lambda row: place.get(row.key, len(place)))


def _own(row: Field) -> tuple[str, ...]:
    return (row.key,) if row.columns is None else ()


def _plain(value: Any) -> Any:
    """A value for JSON; a range says what it covers, too."""
    if isinstance(value, VolumeRange):
        return {**asdict(value), "covers": value.covers}
    if is_dataclass(value) and not isinstance(value, type):
        return asdict(value)
    if isinstance(value, tuple):
        return tuple(_plain(one) for one in value)
    return value
