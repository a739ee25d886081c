"""THE table of what a scan can be read from: a row for each format, and how its files are known.

A new format is one function and one row (``docs/recipes/reader.md``). Rows name their functions by text, so that no
library is imported before there is a file of its format.
"""

from __future__ import annotations

import importlib
import re
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import BinaryIO, Literal

from ichseg.scan.volume import CTVolume

_META_IMAGE = re.compile(rb"\s*(ObjectType|NDims)\s*=")


@dataclass(frozen=True)
class InputFile:
    """A file on disk, in a zip or in a gzip.

    Attributes:
        name: its base name.
        opener: what opens it.
        kind: the ``kind`` of the row that reads it, or what else ``intake.kind_of`` calls it.
        place: its path without the ending, by which the two files of a pair are known; never shown.

    """

    name: str
    opener: Callable[[], BinaryIO]
    kind: str = "other"
    place: str = ""

    def open(self, mode: Literal["rb"] = "rb") -> BinaryIO:
        """Its content, as a stream to be closed."""
        return self.opener()


Read = Callable[[InputFile, int], CTVolume]
"""What reads one file: the file, and the HU to add to every voxel, to a scan. Raises VolumeError where it is none."""


@dataclass(frozen=True)
class Reader:
    """One row of READERS."""

    kind: str
    """A short name of the row's own; "zip", "archive", "image" and "other" are taken."""
    titles: tuple[str, ...]
    """What people call it."""
    recognises: Callable[[bytes], bool]
    """Whether a file begins like one of it, by its first 1,024 bytes, unpacked where the file is a gzip."""
    read: Read | str
    """What reads one file, or "module:function" of it. Of a format ``in_series``, what reads all that was given
    (``dicom.read_series``)."""
    suffixes: tuple[str, ...] = ()
    """How the names of its files end, in small letters; a file of such a name is of it, whatever its content."""
    in_series: bool = False
    """Whether many files are one scan."""
    reads_gzip: bool = False
    """Whether the reader unpacks a gzip itself, bit by bit."""
    of_two: bool = False
    """Whether the file is a header, whose voxels are in another one beside it."""
    offered: str = ""
    """How the list of formats in a message names it; its titles unless given."""

    def takes(self, name: str, head: bytes) -> bool:
        """Whether a file is of this format, by its name or by its first bytes."""
        return name.lower().endswith(self.suffixes) or self.recognises(head)

    def function(self) -> Callable[..., CTVolume]:
        """What reads."""
        if not isinstance(self.read, str):
            return self.read
        module, _, name = self.read.partition(":")
        found: Callable[..., CTVolume] = getattr(importlib.import_module(module), name)
        return found


def _is_dicom(head: bytes) -> bool:
    return head[128:132] == b"DICM"


def _is_nifti(head: bytes) -> bool:
    return head[344:347] == b"n+1" or head[4:7] == b"n+2"


def _is_nrrd(head: bytes) -> bool:
    return head[:4] == b"NRRD" or _META_IMAGE.match(head) is not None


def _is_header(head: bytes) -> bool:
    return head[344:347] == b"ni1"


READERS: list[Reader] = [
    Reader(
        kind="dicom",
        titles=("DICOM",),
        recognises=_is_dicom,
        read="ichseg.scan.dicom:read_series",
        in_series=True,
        offered="DICOM (folder, zip, files)",
    ),
    Reader(
        kind="nifti",
        titles=("NIfTI",),
        recognises=_is_nifti,
        read="ichseg.scan.nifti:read_nifti",
        suffixes=(".nii", ".nii.gz"),
        reads_gzip=True,
        offered="NIfTI (.nii, .nii.gz)",
    ),
    Reader(
        kind="nrrd",
        titles=("NRRD", "MetaImage"),
        recognises=_is_nrrd,
        read="ichseg.scan.nrrd:read_scan",
        suffixes=(".nrrd", ".nhdr", ".mha", ".mhd"),
        offered="NRRD, MetaImage (.mha)",
    ),
    Reader(
        kind="header",
        titles=("NIfTI",),
        recognises=_is_header,
        read="ichseg.scan.nifti:read_nifti",
        of_two=True,
    ),
]
"""The formats, in the order in which a file is asked for them; the first that takes it reads it."""


def reader_of(kind: str) -> Reader | None:
    """The row of a kind of file; None for what no reader takes."""
    return next((row for row in READERS if row.kind == kind), None)


def endings() -> tuple[str, ...]:
    """How the names of files end that are a scan by themselves, the longest first."""
    found = {end for row in READERS for end in row.suffixes if not row.in_series}
    return tuple(sorted(found, key=lambda end: (-len(end), end)))


def rule() -> str:
    """What every file that is no scan is told: the formats.

    >>> rule()
    'a scan is NIfTI (.nii, .nii.gz), NRRD, MetaImage (.mha) or DICOM (folder, zip, files)'
    """
    rows = sorted((row for row in READERS if not row.of_two), key=lambda row: row.in_series)
    return f"a scan is {_either([row.offered or ', '.join(row.titles) for row in rows])}"


def titles(kinds: Iterable[str]) -> str:
    """What scans of one file each are called, for a sentence: NIfTI where all are, else every such format.

    >>> titles(["nifti", "header"]), titles(["nrrd"])
    ('NIfTI', 'NIfTI, NRRD or MetaImage')
    """
    names = {name for kind in kinds if (row := reader_of(kind)) for name in row.titles}
    if names <= {"NIfTI"}:
        return "NIfTI"
    return _either([name for row in READERS if not row.in_series for name in row.titles])


def _either(names: Sequence[str]) -> str:
    names = list(dict.fromkeys(names))
    return " or ".join(filter(None, (", ".join(names[:-1]), names[-1])))
