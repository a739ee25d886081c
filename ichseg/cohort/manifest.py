"""Which scans: a manifest, or a folder of scans beside their records.

A manifest is a CSV file with a header and a row for each scan (``COLUMNS``); its paths are relative to it. A folder is
read by its ``manifest.csv``, or else scan by scan, each with its record beside it: ``NAME.json`` for ``NAME.nii.gz``,
``NAME.zip`` or the folder ``NAME``, and ``NAME-truth.nii.gz`` where there is a reference mask.
"""

from __future__ import annotations

import csv
import io
import unicodedata
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from ichseg.errors import InputError
from ichseg.files.names import lesions_path
from ichseg.marks.box import Box
from ichseg.replace_file import inputs_of
from ichseg.scan.formats import endings

#: What a manifest may say of a scan. ``scan`` and one of ``boxes`` and ``session`` are needed.
COLUMNS = ("scan", "boxes", "session", "truth", "out", "series", "add_offset")


MANIFEST_NAME = "manifest.csv"


_BEYOND = "(beyond the header)"


#: Of masks; a file of this name is no scan.
_MASK_ENDING = ".seg.nrrd"


@dataclass(frozen=True)
class Entry:
    """One scan of a manifest."""

    number: int
    """From 1, in the manifest's order; what files and messages call the scan."""
    scan: str
    """As the manifest writes it."""
    path: Path
    boxes: str = ""
    """As ``parse_boxes`` reads them."""
    session: Path | None = None
    truth: Path | None = None
    out: str = ""
    """The mask's file name below the output folder; a neutral one where empty."""
    series: str | None = None
    add_offset: int = 0

    @property
    def inputs(self) -> list[Path]:
        """All files and folders that are read for this scan."""
        found = inputs_of(self.path)
        if self.session is not None:
            found.append(self.session)
        if self.truth is not None:
            found += [*inputs_of(self.truth), lesions_path(self.truth)]
        return found


def is_cohort(path: Path) -> bool:
    """Whether a path names many scans: a manifest, or a folder with one or with scans beside their records."""
    if path.suffix.lower() == ".csv" or (path / MANIFEST_NAME).is_file():
        return True
    return path.is_dir() and any(_record_of(scan).is_file() for scan in _scans_in(path))


def read_manifest(path: Path) -> list[Entry]:
    """The scans that a manifest, or a folder, names. Raises InputError where it is no manifest.

    What is wrong with one scan alone (a file that is not there, a box that cannot be read) is found when its
    turn comes, and costs that scan only.
    """
    if path.is_dir() and not (path / MANIFEST_NAME).is_file():
        entries = [_entry_beside(number, scan) for number, scan in enumerate(_scans_in(path), 1)]
        if not entries:
            raise InputError(
                f"A folder of many scans holds NIfTI files, zips or DICOM folders; {path.name} holds none; "
                "give another folder, or a manifest."
            )
        return entries
    path = path / MANIFEST_NAME if path.is_dir() else path
    text, between = _table(path)
    reader = csv.DictReader(text, restkey=_BEYOND, delimiter=between)
    try:
        rows = [row for row in reader if any(row.values())]  # spreadsheets save empty rows, too
    except csv.Error as error:
        raise _unreadable(path, f"{error}") from error
    named = {*(reader.fieldnames or ()), *(key for row in rows for key in row)}
    if "scan" not in named or not rows or named - set(COLUMNS):
        got = "no row" if named >= {"scan"} and not rows else ", ".join(sorted(map(str, named)))
        raise InputError(
            f"A manifest has a row for each scan, under a header of scan and any of {', '.join(COLUMNS[1:])}; "
            f"{path.name} has {got or 'nothing'}; correct it (where commas part the cells, boxes stand in quotes)."
        )
    entries = [_entry(number, row, path.parent) for number, row in enumerate(rows, 1)]
    outs = [entry.out for entry in entries if entry.out]
    if twice := {out for out in outs if outs.count(out) > 1}:
        raise InputError(
            f"Each scan's mask has a file of its own; {path.name} gives {min(twice)} more than once; "
            "give another name, or leave the column out."
        )
    return entries


def _table(path: Path) -> tuple[io.StringIO, str]:
    """A manifest's text, and what stands between its cells: a comma, or a semicolon or tab as in most of Europe."""
    try:
        text = path.read_text(encoding="utf-8-sig")  # as spreadsheets write it
    except UnicodeDecodeError as error:
        raise _unreadable(path, "it has other bytes") from error
    except OSError as error:
        raise InputError(
            f"A manifest is a CSV file that can be read; {path.name} cannot ({error.strerror}); check its path."
        ) from error
    if "\0" in text:
        raise _unreadable(path, "it has NUL bytes")
    first, _, rest = text.partition("\n")
    if first.lower().startswith("sep=") and len(first.strip()) == 5:  # a hint to spreadsheets
        return io.StringIO(rest, newline=""), first[4]
    # No column's name has one of these signs, so that the header tells.
    return io.StringIO(text, newline=""), next((sign for sign in ";\t" if sign in first), ",")


def _unreadable(path: Path, why: str) -> InputError:
    return InputError(
        f"A manifest is CSV in UTF-8; {path.name} is not: {why}; "
        'in the spreadsheet, save it as "CSV UTF-8" (not "Unicode text", nor plain CSV).'
    )


def inputs_of_many(path: Path, entries: Sequence[Entry]) -> list[Path]:
    """All that a run over a manifest or a folder reads: the manifest, or a folder without one, and each scan's files.

    A folder that is read scan by scan takes no output: the next run would take it for one more scan.
    """
    named = path / MANIFEST_NAME if (path / MANIFEST_NAME).is_file() else path
    return [named, *(one for entry in entries for one in entry.inputs)]


def parse_boxes(text: str) -> dict[int, list[Box]]:
    """Read a manifest's boxes: ``SLICE:X0,Y0,X1,Y1``, several apart by spaces; slices from 0.

    >>> parse_boxes("12:120,80,180,140 13:118;82;181;139")[13][0].xyxy
    (118.0, 82.0, 181.0, 139.0)
    """
    boxes: dict[int, list[Box]] = {}
    for part in text.split():
        k, colon, box = part.partition(":")
        if not (colon and k.isdecimal()):
            raise InputError(
                f"A manifest's box is SLICE:X0,Y0,X1,Y1, the slice from 0; got '{part}'; "
                "give e.g. 12:120,80,180,140, several apart by spaces."
            )
        boxes.setdefault(int(k), []).append(Box.parse(box))
    return boxes


def _entry(number: int, row: Mapping[str, str | None], folder: Path) -> Entry:
    value = {name: (row.get(name) or "").strip() for name in COLUMNS}

    def place(name: str) -> Path:
        return _there(folder / value[name])

    try:
        add_offset = int(value["add_offset"] or 0)
    except ValueError as error:
        raise InputError(
            f"add_offset is a whole number of HU; row {number} of the manifest has "
            f"'{value['add_offset']}'; give e.g. -1024, or leave it empty."
        ) from error
    return Entry(
        number=number,
        scan=value["scan"],
        path=place("scan"),
        boxes=value["boxes"],
        session=place("session") if value["session"] else None,
        truth=place("truth") if value["truth"] else None,
        out=value["out"],
        series=value["series"] or None,
        add_offset=add_offset,
    )


def _there(path: Path) -> Path:
    """The file of a name with accents, which are one sign or two on disk and look alike in a table."""
    if path.exists():
        return path
    spelled = (Path(unicodedata.normalize(form, str(path))) for form in ("NFC", "NFD"))
    return next((one for one in spelled if one.exists()), path)


def _entry_beside(number: int, scan: Path) -> Entry:
    truths = (scan.with_name(f"{_stem(scan)}-truth{ending}") for ending in (".nii.gz", ".nii"))
    record = _record_of(scan)
    return Entry(
        number=number,
        scan=scan.name,
        path=scan,
        session=record if record.is_file() else None,
        truth=next((path for path in truths if path.is_file()), None),
    )


def _scans_in(folder: Path) -> list[Path]:
    """What in a folder can be a scan: files of a format (``formats.READERS``), zips, folders; no references."""
    return [
        path
        for path in sorted(folder.iterdir())
        if (path.is_dir() or _ending(path))
        and not path.name.startswith(".")
        and not _stem(path).endswith("-truth")
    ]


def _stem(path: Path) -> str:
    return path.name[: len(path.name) - len(_ending(path))]


def _ending(path: Path) -> str:
    """How the name of a scan of one file ends; empty for what is none."""
    name = path.name.lower()
    found = next((end for end in (*endings(), ".zip") if name.endswith(end)), "")
    return "" if name.endswith(_MASK_ENDING) else found


def _record_of(scan: Path) -> Path:
    return scan.with_name(f"{_stem(scan)}.json")
