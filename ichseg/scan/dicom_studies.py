"""Which study a folder's images are of, for a folder of many studies."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

import pydicom
from pydicom.errors import InvalidDicomError

#: So many files of a folder are looked at for one that is an image.
_LOOKS = 8


def study_of(files: Iterable[Path]) -> str:
    """The StudyInstanceUID of the first DICOM image among some files; empty where the first few are none.

    An index of a medium (DICOMDIR) is no image, and a file without the mark of DICOM's own is passed over.
    """
    looks = 0
    for path in files:
        if path.name.startswith(".") or looks >= _LOOKS:
            continue
        looks += 1
        try:
            with path.open("rb") as stream:
                if stream.read(132)[128:] != b"DICM":
                    continue
            header = pydicom.dcmread(
                path, stop_before_pixels=True, specific_tags=["StudyInstanceUID", "Modality"]
            )
            if uid := str(header.get("StudyInstanceUID", "")):
                return uid
        except (OSError, InvalidDicomError, ValueError, EOFError):
            continue
    return ""
