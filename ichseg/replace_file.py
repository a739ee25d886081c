"""The one writer of files: whole or not at all, and never onto an input of the run.

A file is written under a temporary name in the folder that it belongs to, and then takes its place in one step. Who
is killed in between leaves the old file, or none, and a leftover whose name begins with ``PART``.
"""

from __future__ import annotations

import os
import secrets
import shutil
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from ichseg.errors import InputError

#: How the name of a file that is not finished begins. No reader of a folder takes such a file for a result.
PART = ".part-"


def write_whole(path: Path, content: bytes, *, inputs: Iterable[Path] = ()) -> None:
    """Write bytes to a file, whole or not at all; a file that is there is replaced.

    Args:
        path: where to; a link is followed, and stays a link.
        content: all of the file.
        inputs: files and folders that the run reads; none of them is written to (``check_output``).

    Raises:
        InputError: ``path`` is an input or lies in one, is no place for a file, or the disk says no.

    """
    with replacing(path, inputs=inputs) as part:
        try:
            part.write_bytes(content)
        except OSError as error:
            raise _unwritable(path, error) from error


@contextmanager
def replacing(path: Path, *, inputs: Iterable[Path] = ()) -> Iterator[Path]:
    """A temporary file of the same ending beside ``path``, which takes its place when the block ends well.

    For a library that writes to a path itself; ``write_whole`` for bytes. The block fills the file that it is given,
    and what it raises goes through, with nothing left behind. Arguments and errors as ``write_whole``.
    """
    check_output(path, inputs)
    target = path.resolve()
    ending = "".join(target.suffixes[-2:])
    part = target.with_name(f"{PART}{os.getpid()}-{secrets.token_hex(4)}{ending[-16:]}")
    try:
        yield part
        try:
            with suppress(FileNotFoundError):
                shutil.copymode(target, part)
            with part.open("rb+") as file:
                os.fsync(file.fileno())
            part.replace(target)
        except OSError as error:
            raise _unwritable(path, error) from error
    finally:
        part.unlink(missing_ok=True)


def check_output(path: Path, inputs: Iterable[Path] = ()) -> None:
    """Refuse, before any work is done, a place that no output may go to.

    That is: a file that is an input, under whatever name (another spelling, a link, a hard link, other letters on a
    disk that does not tell them apart); any place within a folder that is an input, for the next reader of that
    folder would take the output for a part of it; a folder; a file in a folder that is not there.

    Args:
        path: the file to be written; it need not exist.
        inputs: files and folders that the run reads. One that is not there is passed over.

    Raises:
        InputError: which of these it is, in one sentence.

    """
    try:
        target = path.resolve()
        found = _identity(target)
        if target.is_dir() or (found is not None and not target.is_file()):
            raise InputError(
                f"An output is an ordinary file; {path.name} is {'a folder' if target.is_dir() else 'none'}; "
                "give it another name."
            )
        for given in inputs:
            _check_input(path, target, found, given)
        if not target.parent.is_dir():
            raise InputError(
                f"A file is written into a folder that is there; for {path.name} there is no folder "
                f"{target.parent.name}; make it first."
            )
    except (OSError, RuntimeError) as error:  # a loop of links is a RuntimeError of pathlib
        raise _unwritable(path, error) from error


def is_part(path: Path) -> bool:
    """Whether a file is what a writer that was killed left behind."""
    return path.name.startswith(PART)


def _check_input(path: Path, target: Path, found: tuple[int, int] | None, given: Path) -> None:
    source = given.resolve()
    if source == target or (found is not None and _identity(source) == found):
        raise InputError(
            f"A file that a run reads is never written over; the output {path.name} is its input {given.name}; "
            "give the output another name."
        )
    if not source.is_dir():
        return
    folder = _identity(source)
    if any(_identity(above) == folder for above in target.parents) or (
        found is not None and found in _files(source)
    ):
        raise InputError(
            f"Nothing is written into a folder that a run reads as one scan, or as a list of scans; the output "
            f"{path.name} lies in {given.name or source.name}; choose a place outside of it."
        )


def _files(folder: Path) -> set[tuple[int, int]]:
    """The files below a folder, as a reader of it meets them: a link stands for what it points to."""
    found = (_identity(Path(below, name)) for below, _, names in os.walk(folder) for name in names)
    return {one for one in found if one is not None}


def _identity(path: Path) -> tuple[int, int] | None:
    """Which file a path leads to, whatever it is called; None where there is none."""
    try:
        status = path.stat()
    except (FileNotFoundError, NotADirectoryError):
        return None
    return status.st_dev, status.st_ino


def _unwritable(path: Path, error: Exception) -> InputError:
    said = getattr(error, "strerror", None) or error
    return InputError(
        f"An output file must be writable; {path.name} is not ({said}); choose another place."
    )
