"""Files that a command writes: refused before any work, or written and said."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from ichseg.errors import InputError
from ichseg.files import write
from ichseg.measures.assessment import Assessment
from ichseg.replace_file import check_not_an_input, check_outputs, write_whole
from ichseg.scan.volume import CTVolume

if TYPE_CHECKING:
    pass


def is_evidence(path: Path) -> bool:
    """Whether a file of this name holds measures and not a mask alone."""
    return write.is_measured(path)


def check_out(
    paths: Sequence[Path],
    volume: CTVolume,
    inputs: Sequence[Path],
    offer: write.Offer | None = None,
    *,
    has_followup: bool = False,
) -> None:
    """Refuse a place for a mask or for evidence before any work is done."""
    for path in paths:
        write.check_path(path, volume, inputs, offer, has_followup=has_followup)
    check_outputs([one for path in paths for one in write.outputs(path, offer)], inputs)


def write_evidence(
    paths: Iterable[Path],
    found: Assessment,
    identity_from: Path | None,
    inputs: Sequence[Path],
) -> list[str]:
    """Write what is evidence among the files, and say so; a DICOM-SEG's identity comes from where it is told."""
    notes = []
    for path in filter(is_evidence, paths):
        before = [one for one in write.outputs(path) if one.is_file()]
        written = write.save_measures(path, found, identity_from=identity_from, inputs=inputs)
        notes.append(f"Written: {', '.join(map(str, written))}.")
        if gone := [one.name for one in before if not one.is_file()]:
            notes.append(f"Removed, for it was of an earlier run: {', '.join(gone)}.")
        row = write.writer_of(path, "measures")
        if row is not None and "dicom" in row.needs:
            notes.append(write.IDENTIFIED if identity_from else write.DICOM_PRIVACY)
    return notes


def check_folder(folder: Path | None, inputs: Sequence[Path]) -> None:
    """Refuse a place for the copies on a regular grid before any work is done."""
    if folder is not None:
        check_not_an_input(folder / "copies", inputs)
    if folder is not None and not folder.is_dir():
        raise InputError(
            f"The copies on a regular grid go into a folder that is there; got {folder.name}; make it first."
        )


def write_copies(
    folder: Path, files: Mapping[str, bytes], note: str, inputs: Iterable[Path]
) -> list[str]:
    """Write the copies on a regular grid, and say so."""
    for name, content in files.items():
        write_whole(folder / name, content, inputs=inputs)
    return [note]
