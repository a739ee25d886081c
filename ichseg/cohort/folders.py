"""A folder that is a list of scans: scans beside their records, a BIDS tree, or the folders of DICOM studies.

- Scans beside their records: ``NAME.ichseg.json`` for ``NAME.nii.gz``, ``NAME.zip`` or the folder ``NAME``, and
  ``NAME-truth.nii.gz`` where there is a reference mask. A record of the former name ``NAME.json`` is read, too; a JSON
  file that is no record of ours, such as a sidecar of BIDS, is none.
- A BIDS tree: folders ``sub-*``, of each every ``*_ct.nii.gz`` within; the first of several sessions is the baseline of
  the others.
- DICOM studies: folders whose images are of two studies or more, each study being one scan.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

from ichseg.cohort.entry import Entry
from ichseg.json_fields import RecordError, load_json
from ichseg.scan.dicom_studies import study_of
from ichseg.scan.formats import endings

#: How the name of a record of this program ends beside a scan.
RECORD_ENDING = ".ichseg.json"

#: Of masks; a file of this name is no scan.
_MASK_ENDING = ".seg.nrrd"

_BIDS_SCAN = ("_ct.nii.gz", "_ct.nii")


def has_many(folder: Path) -> bool:
    """Whether a folder holds scans beside their records, or is a BIDS tree."""
    return any(_bids_scans(folder)) or any(_record_of(scan) for scan in _scans_in(folder))


def has_studies(folder: Path) -> bool:
    """Whether a folder holds the folders of several DICOM studies."""
    return folder.is_dir() and len(_studies(folder)) > 1


def entries_in(folder: Path) -> list[Entry]:
    """The scans of a folder, in the order of their names."""
    if scans := list(_bids_scans(folder)):
        return _bids_entries(folder, scans)
    beside = _scans_in(folder)
    if not any(map(_record_of, beside)) and len(studies := _studies(folder)) > 1:
        return [_entry(number, path, folder) for number, path in enumerate(studies, 1)]
    return [_entry(number, scan, folder) for number, scan in enumerate(beside, 1)]


def _entry(number: int, scan: Path, folder: Path) -> Entry:
    truths = (scan.with_name(f"{_stem(scan)}-truth{ending}") for ending in (".nii.gz", ".nii"))
    return Entry(
        number=number,
        scan=scan.relative_to(folder).as_posix(),
        path=scan,
        session=_record_of(scan),
        truth=next((path for path in truths if path.is_file()), None),
    )


# --- A BIDS tree -----------------------------------------------------------------------------------


def _bids_scans(folder: Path) -> Iterator[Path]:
    subjects = (one for one in sorted(folder.glob("sub-*")) if one.is_dir())
    for subject in subjects:
        yield from (
            path for path in sorted(subject.rglob("*")) if path.name.lower().endswith(_BIDS_SCAN)
        )


def _bids_entries(folder: Path, scans: list[Path]) -> list[Entry]:
    """A row for each scan; of a subject with several sessions, the first one's scan is the baseline of the others."""
    first: dict[str, tuple[str, str]] = {}
    out = []
    for number, scan in enumerate(scans, 1):
        entry = _entry(number, scan, folder)
        subject, *rest = Path(entry.scan).parts
        session = rest[0] if rest and rest[0].startswith("ses-") else ""
        seen, baseline = first.setdefault(subject, (session, entry.scan))
        later = bool(session) and session != seen
        out.append(replace(entry, baseline=baseline) if later else entry)
    return out


# --- DICOM studies ---------------------------------------------------------------------------------


def _studies(folder: Path) -> list[Path]:
    """The folders of the DICOM studies below a folder, each the deepest that holds all of its study's images."""
    places: dict[str, list[Path]] = {}
    for below, folders, names in os.walk(folder):
        folders[:] = sorted(one for one in folders if not one.startswith("."))
        if uid := study_of(Path(below, name) for name in sorted(names)):
            places.setdefault(uid, []).append(Path(below))
    found = [Path(os.path.commonpath(paths)) for paths in places.values()]
    if any(one in (other, *other.parents) for one in found for other in found if one is not other):
        found = [path for paths in places.values() for path in paths]  # they lie in each other
    return sorted(found) if folder not in found else []


# --- Scans beside their records --------------------------------------------------------------------


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


def _record_of(scan: Path) -> Path | None:
    """The record beside a scan; None where there is none of ours."""
    ours = scan.with_name(f"{_stem(scan)}{RECORD_ENDING}")
    if ours.is_file():
        return ours
    former = scan.with_name(f"{_stem(scan)}.json")
    return former if former.is_file() and _is_record(former) else None


def _is_record(path: Path) -> bool:
    """Whether a JSON file can be a record of this program, and not what another one writes beside a scan.

    One that is empty or no JSON at all counts: it is refused when its turn comes, where a person can see it.
    """
    try:
        record = load_json(path)
    except (OSError, RecordError):
        return True
    return not record or (isinstance(record, dict) and "schema_version" in record)
