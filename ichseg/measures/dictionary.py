"""What the columns of a table mean: name, kind, title, unit and a sentence, for the file beside it.

Of the measures it is made from ``FIELDS``, so that a new measure is in it without a word more.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from ichseg import NOTICE
from ichseg.measures.fields import FIELDS, Field, Kind, csv_columns

#: The units that a column's name ends or begins with.
_ENDINGS = {
    **{"_ml_per_hour": "mL/h", "_ml": "mL", "_mm2": "mm²", "_mm": "mm", "_percent": "%"},
    **{"hours": "h", "seconds": "s", "seconds_a_slice": "s"},
}
_BEGINNINGS = {"hu_": "HU"}
_WHOLE = ("_slice", "_slice_index")


@dataclass(frozen=True)
class Column:
    """A column of a table, and what it holds.

    >>> Column("growth_ml", "number", "Growth").unit, Column("hu_mean").unit, Column("side", "string").unit
    ('mL', 'HU', '')
    """

    name: str
    kind: Kind = "number"
    title: str = ""
    about: str = ""
    values: tuple[str, ...] = ()
    """All that it can be, where those are few."""

    @property
    def unit(self) -> str:
        """Of its numbers, as its name says; empty where it has none."""
        if self.kind not in ("number", "integer"):
            return ""
        ends = (unit for end, unit in _ENDINGS.items() if self.name.endswith(end))
        begins = (unit for start, unit in _BEGINNINGS.items() if self.name.startswith(start))
        return next(iter([*ends, *begins]), "")

    def record(self) -> dict[str, Any]:
        """As a field of a Table Schema (Frictionless Data), with its unit."""
        found: dict[str, Any] = {"name": self.name, "type": self.kind}
        found |= {"title": self.title or self.name.replace("_", " ")}
        if self.about:
            found["description"] = self.about
        if self.unit:
            found["unit"] = self.unit
        if self.kind == "boolean":
            found |= {"trueValues": ["yes"], "falseValues": ["no"]}
        if self.values:
            found["constraints"] = {"enum": list(self.values)}
        return found


def measure_columns() -> tuple[Column, ...]:
    """The CSV columns of all measures (``fields.csv_columns``), with what ``FIELDS`` says of them."""
    rows = {
        name: row for row in FIELDS for name in ([row.key] if row.columns is None else row.columns)
    }
    return tuple(_measure(name, rows[name]) for name in csv_columns())


def _measure(name: str, row: Field) -> Column:
    kind: Kind = "integer" if name.endswith(_WHOLE) else "number"
    about = row.about
    if name.endswith("_slice"):
        about = f"{about} Counted from 1."
    if name.endswith("_slice_index"):
        about = f"{about} Counted from 0."
    words = name.replace("_", " ")
    title = row.title if row.title and name == row.key else words
    return Column(name, row.kinds.get(name, kind), title, about)


def schema_record(columns: Iterable[Column]) -> dict[str, Any]:
    """A Table Schema of these columns; an empty cell has no value."""
    return {"fields": [one.record() for one in columns], "missingValues": [""]}


def package_record(name: str, title: str, tables: Mapping[str, Iterable[Column]]) -> dict[str, Any]:
    """A Data Package (Frictionless Data) of CSV tables that lie beside it, by their files' names."""
    return {
        "name": name,
        "title": title,
        "description": NOTICE,
        "resources": [
            {
                "name": file.removesuffix(".csv"),
                "type": "table",
                "path": file,
                "scheme": "file",
                "format": "csv",
                "mediatype": "text/csv",
                "encoding": "utf-8",
                "dialect": {"delimiter": ",", "doubleQuote": True},
                "schema": schema_record(columns),
            }
            for file, columns in tables.items()
        ],
    }
