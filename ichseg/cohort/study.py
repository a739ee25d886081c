"""A study whose scans are corrected on the page: its results' rows by their keys, their records, their corrections.

The page that the operator started for a study opens its scans by key. A key is looked up in a table of the study's own
records, and never made into a path.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from ichseg.cohort.corrections import CORRECTED_NAME, corrected_record, scan_of
from ichseg.cohort.entry import Entry
from ichseg.cohort.folders import RECORD_ENDING
from ichseg.cohort.jobs import record_path
from ichseg.cohort.manifest import inputs_of_many, read_manifest
from ichseg.errors import InputError
from ichseg.replace_file import sweep_parts, write_whole


@dataclass(frozen=True)
class StudyRow:
    """One scan of a study that has a result."""

    entry: Entry
    scan_sha256: str
    """Of its voxels, as its record tells it."""

    @property
    def key(self) -> str:
        """What the scan is called in the page's address: its number, and the beginning of its hash.

        >>> StudyRow(Entry(3, "a.nii.gz", Path("a.nii.gz")), "0123456789abcdef").key
        '3-0123456789ab'
        """
        return f"{self.entry.number}-{self.scan_sha256[:12]}"


class Study:
    """The scans of a run and the folder of its results, for a page that corrects them."""

    def __init__(self, scans: Path, results: Path) -> None:
        """``scans`` is the manifest or folder that the run had, ``results`` its ``--out``.

        Raises InputError where there is no manifest, or the folder has no record of any of its scans.
        """
        self._scans, self._results = scans, results
        sweep_parts(results / CORRECTED_NAME)  # what a page that was killed has left
        self._entries = read_manifest(scans)
        self._rows = rows_of(self._entries, results)
        if not self._rows:
            raise InputError(
                "A study is corrected by the records of its scans; the folder "
                f"{results.name} has none of these scans; run ichseg segment with this --out first."
            )

    def __len__(self) -> int:
        """How many scans have a result."""
        return len(self._rows)

    def row(self, key: str) -> StudyRow:
        """A scan by its key. Raises InputError for one that is no scan's of this study."""
        if key not in self._rows:
            self._rows = rows_of(self._entries, self._results)  # it may have been segmented since
        found = self._rows.get(key)
        if found is None:
            raise InputError(
                "A link of a report opens a scan of the study that the page was started for; "
                f"this study has none of the key '{key[:40]}'; make the report again, or start the page for its study."
            )
        return found

    def record(self, row: StudyRow) -> Path:
        """The newest record of a scan: a person's correction, or else the run's own."""
        own = record_path(self._results, row.entry)
        return corrected_record(self._results, lambda: row.scan_sha256) or own

    def save(self, row: StudyRow, content: bytes) -> list[int]:
        """Write a corrected record for the next run; the numbers of all rows that it holds for.

        A manifest may name a scan twice, and a correction belongs to the scan.
        """
        path = self._results / CORRECTED_NAME / f"scan-{row.entry.number:04d}{RECORD_ENDING}"
        inputs = inputs_of_many(self._scans, self._entries)
        path.parent.mkdir(exist_ok=True)
        write_whole(path, content, inputs=inputs)
        same = (one for one in self._rows.values() if one.scan_sha256 == row.scan_sha256)
        return sorted(one.entry.number for one in same)


def rows_of(entries: Sequence[Entry], results: Path) -> dict[str, StudyRow]:
    """The scans that have a record in a folder of results, by key."""
    found = {}
    for entry in entries:
        path = record_path(results, entry)
        if path.is_file() and (sha256 := scan_of(path)):
            row = StudyRow(entry, sha256)
            found[row.key] = row
    return found
