"""When a DICOM series was acquired, as its header says; for the hours between two scans, and in no file."""

from __future__ import annotations

from collections.abc import Callable
from datetime import date, datetime, time

import pydicom
from pydicom.valuerep import DA, DT, TM

#: A date and a time in one element, and pairs of them; the nearest to the rays first.
_WHOLE = ("AcquisitionDateTime",)
_PAIRS = tuple((f"{of}Date", f"{of}Time") for of in ("Acquisition", "Content", "Series", "Study"))
TIME_TAGS = (*_WHOLE, *(name for pair in _PAIRS for name in pair))


def acquired_at(header: pydicom.Dataset) -> datetime | None:
    """When the image of a header was taken, by the scanner's own clock without its zone; None where it does not say.

    >>> header = pydicom.Dataset()
    >>> header.SeriesDate, header.SeriesTime = "20240102", "134500"
    >>> str(acquired_at(header))
    '2024-01-02 13:45:00'
    >>> header.AcquisitionDateTime = "20240102134210.5"
    >>> str(acquired_at(header))
    '2024-01-02 13:42:10.500000'
    """
    for keyword in _WHOLE:
        whole = _read(DT, header.get(keyword))
        if isinstance(whole, datetime) and len(str(header.get(keyword))) > len("20240102"):
            return whole.replace(tzinfo=None)
    for keywords in _PAIRS:
        day, clock = (
            _read(kind, header.get(keyword))
            for kind, keyword in zip((DA, TM), keywords, strict=True)
        )
        if isinstance(day, date) and isinstance(clock, time):
            return datetime.combine(day, clock.replace(tzinfo=None))
    return None


def _read(kind: Callable[[str], object], value: object) -> object:
    """A value as pydicom reads it; None for what it cannot."""
    text = str(value or "").strip()
    try:
        return kind(text) if text else None
    except ValueError:
        return None
