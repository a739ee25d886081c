"""Records of scans that a person has corrected: laid into the folder of the results, each takes its scan's place.

A record that the page saved is put into ``corrected`` below the folder of the results, under any name. It belongs to
the scan whose voxels have the hash that it tells. The next run makes that scan's mask from it, and nothing else anew.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache
from pathlib import Path

from ichseg.json_fields import RecordError, json_field, load_json
from ichseg.replace_file import is_part

CORRECTED_NAME = "corrected"


def corrected_record(folder: Path, scan_sha256: Callable[[], str]) -> Path | None:
    """The newest corrected record of a scan; None where there is none.

    Args:
        folder: of the results.
        scan_sha256: gives the hash of the scan's voxels, and is asked only where there is a corrected record at all.

    """
    whole = (one for one in (folder / CORRECTED_NAME).glob("*.json") if not is_part(one))
    found = sorted(whole, key=lambda one: one.stat().st_mtime_ns)
    if not found:
        return None
    wanted = scan_sha256()
    return next((one for one in reversed(found) if scan_of(one) == wanted), None)


def scan_of(record: Path) -> str:
    """The hash of the scan that a record is of; empty where it is no record."""
    stat = record.stat()
    return _scan_of(record, stat.st_mtime_ns, stat.st_size)


@lru_cache(maxsize=100_000)
def _scan_of(record: Path, *_: int) -> str:
    try:
        scan = json_field(load_json(record), "scan", "an object")
        return str(json_field(scan, "sha256", "text"))
    except (OSError, RecordError):
        return ""
