"""The one cache of scores: rows in a CSV file, each under a key of all that it came from.

A key is over the model's identity, the data, the code that scored, and the question. A command takes the rows that are
there under its keys and adds the rest, so that what came from another model, program, data set or question is never
handed out for it.
"""

from __future__ import annotations

import csv
import dataclasses
import hashlib
import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import cache
from importlib import resources
from pathlib import Path
from typing import Any, Generic, TypeVar

from ichseg.methods.identity import identity_of
from ichseg.methods.predictor import Predictor
from train.data.cache import Prepared
from train.data.files import cell, write_json, write_table

#: A dataclass of plain values, one of them ``key``.
Row = TypeVar("Row")

#: The modules that decide every score; a cache names its own beside them. A comment that changes, changes the key.
SCORING = (
    *("data/cases.py", "data/cache.py", "data/slices.py"),
    *("scores/protocols.py", "scores/evaluate.py", "scores/metrics.py"),
)


#: What columns were called before 0.2.0.
_NOW = {
    "truth_px": "reference_px",
    "pieces": "components",
    "second_look": "refinement",
    "truth_slices": "reference_slices",
    "truth": "reference",
}


def cache_key(
    predictor: Predictor,
    prepared: Prepared,
    *,
    refinement: bool | None = None,
    code: tuple[str, ...] = (),
    asked: Mapping[str, Any],
) -> str:
    """A key that equal scores have alone.

    Args:
        predictor: the model; all of its identity counts, the library's sources among it.
        prepared: the data, by their hash.
        refinement: as the model is asked, None by its own setting.
        code: modules of this package that decide the score, beside SCORING.
        asked: how it is asked and scored, as JSON takes it.

    """
    told = {
        "identity": identity_of(predictor, refinement=refinement).sha256,
        "data": prepared.sha256,
        "code": _code((*SCORING, *code)),
        "asked": asked,
    }
    return hashlib.sha256(json.dumps(told, sort_keys=True).encode()).hexdigest()[:16]


@cache
def _code(names: tuple[str, ...]) -> str:
    digest = hashlib.sha256()
    for name in sorted(names):
        source = (resources.files("train") / name).read_bytes().replace(b"\r\n", b"\n")
        digest.update(f"{name} {len(source)}\n".encode() + source)
    return digest.hexdigest()


class KeptRows(Generic[Row]):
    """The rows that a CSV file holds, in a given order, and those that are added to it."""

    def __init__(
        self, path: Path, kind: type[Row], order: Callable[[Row], Any] | None = None
    ) -> None:
        self.path, self._order = path, order
        self.rows = read_rows(path, kind) if path.exists() else []

    def add(self, rows: Iterable[Row]) -> None:
        """Keep further rows: the file is written anew, whole or not at all."""
        self.rows += rows
        if self._order is not None:
            self.rows.sort(key=self._order)
        write_rows(self.path, self.rows)

    def keep(self, which: Callable[[Row], bool]) -> None:
        """Forget all other rows; the file follows as soon as it has one to hold."""
        kept = [row for row in self.rows if which(row)]
        is_new, self.rows = len(kept) < len(self.rows), kept
        if is_new and kept:
            write_rows(self.path, kept)


def write_rows(path: Path, rows: Sequence[Any]) -> None:
    """Rows, of one dataclass, as CSV; whole or not at all."""
    columns = [item.name for item in dataclasses.fields(rows[0])]
    values = (dataclasses.asdict(row) for row in rows)
    write_table(path, [{key: cell(value) for key, value in row.items()} for row in values], columns)


def read_rows(path: Path, kind: type[Row]) -> list[Row]:
    """What ``write_rows`` wrote, also before 0.2.0; a column that is not there yet has its default."""
    kinds = {"str": str, "int": int, "float": float}
    fields = dataclasses.fields(kind)  # type: ignore[arg-type]
    with path.open(newline="") as file:
        lines = [
            {_NOW.get(key, key): value for key, value in line.items()}
            for line in csv.DictReader(file)
        ]
    return [
        kind(**{f.name: kinds[str(f.type)](line[f.name]) for f in fields if f.name in line})
        for line in lines
    ]


def kept_answer(path: Path, key: str, make: Callable[[], dict[str, Any]]) -> dict[str, Any]:
    """A small answer from a JSON file, if it is there under this key; else made, and kept there."""
    kept: dict[str, Any] = json.loads(path.read_text(encoding="utf-8")) if path.exists() else {}
    if kept.get("key") != key:
        kept = {**make(), "key": key}
        write_json(path, kept)
    return {name: value for name, value in kept.items() if name != "key"}
