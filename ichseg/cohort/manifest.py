"""Which scans: a manifest, or a folder of scans.

A manifest is a CSV file with a header and a row for each scan (``entry.COLUMNS``); its paths are relative to it. A
folder is read by its ``manifest.csv``, or else scan by scan (``folders``).
"""

from __future__ import annotations

import csv
import io
from collections.abc import Sequence
from pathlib import Path

from ichseg.cohort.entry import COLUMNS, Entry, entry_of
from ichseg.cohort.folders import entries_in, has_many
from ichseg.errors import InputError

MANIFEST_NAME = "manifest.csv"


_BEYOND = "(beyond the header)"


#: Bytes that are letters in an old Mac's text, and in that of Windows signs or letters that hardly any name has.
_OF_OTHERS = frozenset({*range(0x80, 0xA0)} - {0x80, 0x82, 0x84, 0x85, *range(0x91, 0x98)})


def is_cohort(path: Path) -> bool:
    """Whether a path names many scans: a manifest, or a folder with one, or a folder of many (``folders.has_many``)."""
    if path.suffix.lower() == ".csv" or (path / MANIFEST_NAME).is_file():
        return True
    return path.is_dir() and has_many(path)


def read_manifest(path: Path) -> list[Entry]:
    """The scans that a manifest, or a folder, names. Raises InputError where it is no manifest.

    What is wrong with one scan alone (a file that is not there, a box that cannot be read) is found when its
    turn comes, and costs that scan only.
    """
    if path.is_dir() and not (path / MANIFEST_NAME).is_file():
        if not (entries := entries_in(path)):
            raise InputError(
                f"A folder of many scans holds NIfTI files, zips or DICOM folders; {path.name} holds none; "
                "give another folder, or a manifest."
            )
        return entries
    path = path / MANIFEST_NAME if path.is_dir() else path
    text, between = _table(path)
    reader = csv.DictReader(text, restkey=_BEYOND, delimiter=between)
    try:
        reader.fieldnames = [name.strip().lower() for name in reader.fieldnames or ()]
        rows = [row for row in reader if any(row.values())]  # spreadsheets save empty rows, too
    except csv.Error as error:
        raise _unreadable(path, f"{error}") from error
    # A column without a name and without a cell is one that a spreadsheet made.
    named = {name for name in reader.fieldnames if name}
    named |= {key for row in rows for key, value in row.items() if value}
    if "scan" not in named or not rows or named - set(COLUMNS):
        got = "no row" if named >= {"scan"} and not rows else ", ".join(sorted(map(str, named)))
        raise InputError(
            f"A manifest has a row for each scan, under a header of scan and any of {', '.join(COLUMNS[1:])}; "
            f"{path.name} has {got or 'nothing'}; correct it (where commas part the cells, boxes stand in quotes)."
        )
    entries = [entry_of(number, row, path.parent) for number, row in enumerate(rows, 1)]
    outs = [entry.out for entry in entries if entry.out]
    if twice := {out for out in outs if outs.count(out) > 1}:
        raise InputError(
            f"Each scan's mask has a file of its own; {path.name} gives {min(twice)} more than once; "
            "give another name, or leave the column out."
        )
    baselines(entries)
    return entries


def baselines(entries: Sequence[Entry]) -> dict[int, Entry]:
    """The baseline of each scan that has one, by the follow-up's number.

    Raises InputError for one that is no row's scan or number, that is several rows', or the scan itself.
    """
    by_name: dict[str, list[Entry]] = {}
    for entry in entries:
        by_name.setdefault(entry.scan, []).append(entry)
    by_number = {str(entry.number): entry for entry in entries}
    found = {}
    for entry in entries:
        if not entry.baseline:
            continue
        named = by_name.get(entry.baseline) or [
            by_number[text] for text in (entry.baseline,) if text in by_number
        ]
        if len(named) != 1 or named[0] is entry:
            got = "no row's" if not named else "its own" if len(named) == 1 else "several rows'"
            raise InputError(
                "A baseline is another row's scan, as that row writes it, or its number from 1; "
                f"row {entry.number} has '{entry.baseline}', which is {got}; correct it."
            )
        found[entry.number] = named[0]
    return found


def _table(path: Path) -> tuple[io.StringIO, str]:
    """A manifest's text, and what stands between its cells: a comma, or a semicolon or tab as in most of Europe."""
    try:
        raw = path.read_bytes()
    except OSError as error:
        raise InputError(
            f"A manifest is a CSV file that can be read; {path.name} cannot ({error.strerror}); check its path."
        ) from error
    text = _decoded(path, raw)
    first, _, rest = text.partition("\n")
    if first.lower().startswith("sep=") and len(first.strip()) == 5:  # a hint to spreadsheets
        return io.StringIO(rest, newline=""), first[4]
    # No column's name has one of these signs, so that the header tells.
    return io.StringIO(text, newline=""), next((sign for sign in ";\t" if sign in first), ",")


def _decoded(path: Path, raw: bytes) -> str:
    """A manifest's text: UTF-8, with or without a mark, or what Windows in the west of Europe saves as plain CSV."""
    if b"\0" in raw:
        raise _unreadable(path, "it has NUL bytes")
    try:
        return raw.decode("utf-8-sig")  # as spreadsheets write it
    except UnicodeDecodeError as error:
        if _OF_OTHERS.intersection(raw):
            raise _unreadable(path, "it has other bytes") from error
        return raw.decode("cp1252")


def _unreadable(path: Path, why: str) -> InputError:
    return InputError(
        f"A manifest is CSV in UTF-8, or of Windows in the west of Europe (cp1252); {path.name} is not: {why}; "
        'in the spreadsheet, save it as "CSV UTF-8" (not "Unicode text").'
    )


def inputs_of_many(path: Path, entries: Sequence[Entry]) -> list[Path]:
    """All that a run over a manifest or a folder reads: the manifest, or a folder without one, and each scan's files.

    A folder that is read scan by scan takes no output: the next run would take it for one more scan.
    """
    named = path / MANIFEST_NAME if (path / MANIFEST_NAME).is_file() else path
    return [named, *(one for entry in entries for one in entry.inputs)]
