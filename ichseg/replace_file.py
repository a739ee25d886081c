"""The one writer of files: whole or not at all, and never onto an input of the run.

A file is written under a temporary name in the folder that it belongs to, and then takes its place in one step. Who
is killed in between leaves the old file, or none, and a leftover whose name begins with ``PART``. Who writes holds a
lock on it: ``sweep_parts`` deletes those that nobody holds, in folders of the program's own.
"""

from __future__ import annotations

import os
import re
import secrets
import shutil
import stat
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from functools import cached_property
from pathlib import Path

from ichseg.errors import InputError
from ichseg.file_lock import hold, is_held

#: A file or folder, whatever it is called: device and number on it.
_Id = tuple[int, int]

#: How the name of a file that is not finished begins. No reader of a folder takes such a file for a result.
PART = ".part-"

#: The whole name: the writer's process, eight digits by chance, and how the finished file's name ends.
_PART_NAME = re.compile(re.escape(PART) + r"\d+-[0-9a-f]{8}.{0,16}", re.DOTALL)

#: A leftover has not been written to for so long. A disk that several machines share may not tell of their locks.
UNTOUCHED_SECONDS = 60.0


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
        with _made(part, path):
            yield part
            try:
                with suppress(FileNotFoundError):
                    shutil.copymode(target, part)
                with part.open("rb+") as file:
                    os.fsync(file.fileno())
            except OSError as error:
                raise _unwritable(path, error) from error
        try:
            part.replace(target)
        except OSError as error:
            raise _unwritable(path, error) from error
    finally:
        part.unlink(missing_ok=True)


@contextmanager
def _made(part: Path, path: Path) -> Iterator[None]:
    """Make the temporary file for ``path``, and hold its lock: who sweeps the folder meanwhile leaves it."""
    try:
        file = part.open("xb")
    except OSError as error:
        raise _unwritable(path, error) from error
    with file:
        hold(file.fileno())
        yield


def sweep_parts(folder: Path) -> None:
    """Delete what killed writers left in a folder of the program's own.

    That is: an ordinary file with the exact name of such a leftover, which nobody has written to for a minute, and
    whose lock nobody holds. A folder that is not there has none, and what cannot be deleted stays.
    """
    limit = time.time() - UNTOUCHED_SECONDS
    for path in folder.glob(f"{PART}*"):
        with suppress(OSError):
            found = path.lstat()
            ours = stat.S_ISREG(found.st_mode) and _PART_NAME.fullmatch(path.name)
            if ours and found.st_mtime < limit and not is_held(path):
                path.unlink(missing_ok=True)


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
    check_not_an_input(path, inputs)
    try:
        target = path.resolve()
        found = _identity(target)
        if target.is_dir() or (found is not None and not target.is_file()):
            raise InputError(
                f"An output is an ordinary file; {path.name} is {'a folder' if target.is_dir() else 'none'}; "
                "give it another name."
            )
        if not target.parent.is_dir():
            raise InputError(
                f"A file is written into a folder that is there; for {path.name} there is no folder "
                f"{target.parent.name}; make it first."
            )
    except (OSError, RuntimeError) as error:  # a loop of links is a RuntimeError of pathlib
        raise _unwritable(path, error) from error


def check_not_an_input(path: Path, inputs: Iterable[Path]) -> None:
    """The part of ``check_output`` that is about inputs: for a file whose folder is yet to be made."""
    known = inputs if isinstance(inputs, Inputs) else Inputs(inputs)
    try:
        known.refuse(path)
    except (OSError, RuntimeError) as error:
        raise _unwritable(path, error) from error


class Inputs:
    """The files and folders that a run reads, looked up once for all of its outputs."""

    def __init__(self, paths: Iterable[Path]) -> None:
        self._paths = list(paths)
        self._names: dict[Path, str] = {}
        self._files: dict[_Id, str] = {}
        self._folders: dict[_Id, tuple[str, Path]] = {}
        for path in self._paths:
            source = path.resolve()
            name, found = path.name or source.name, _identity(source)
            self._names.setdefault(source, name)
            if found is not None:
                self._files.setdefault(found, name)
                if source.is_dir():
                    self._folders.setdefault(found, (name, source))

    def __iter__(self) -> Iterator[Path]:
        return iter(self._paths)

    def refuse(self, path: Path) -> None:
        """Raise InputError where an output is one of these, or lies in one."""
        target = path.resolve()
        found = _identity(target)
        name = self._names.get(target)
        if name is None and found is not None:
            name = self._files.get(found)
        if name is not None:
            raise InputError(
                f"A file that a run reads is never written over; the output {path.name} is its input {name}; "
                "give the output another name."
            )
        above = (_identity(folder) for folder in target.parents)
        folder = next((one for one in above if one in self._folders), None)
        if folder is None and found is not None:
            folder = self._linked.get(found)
        if folder is not None:
            raise InputError(
                "Nothing is written into a folder that a run reads as one scan, or as a list of scans; the output "
                f"{path.name} lies in {self._folders[folder][0]}; choose a place outside of it."
            )

    @cached_property
    def _linked(self) -> dict[_Id, _Id]:
        """Each file below the folders, as a reader meets it (a link is what it points to), and the folder."""
        found = {}
        for folder, (_, source) in self._folders.items():
            for below, _, names in os.walk(source):
                for name in names:
                    if (one := _identity(Path(below, name))) is not None:
                        found[one] = folder
        return found


def check_outputs(paths: Iterable[Path], inputs: Iterable[Path] = ()) -> None:
    """``check_output`` of all files of a run, each of which is another file than the rest.

    Raises:
        InputError: as ``check_output``; or two outputs are one file, on some disk: upper and lower case are the same.

    """
    inputs, taken = Inputs(inputs), dict[str, Path]()
    for path in paths:
        check_output(path, inputs)
        place = output_key(path)
        if place in taken:
            raise InputError(
                f"Each output is a file of its own; {taken[place].name} and {path.name} are one; give one of them "
                "another name."
            )
        taken[place] = path


def output_key(path: Path) -> str:
    """Equal for two outputs that could be one file, whatever they are called and on whatever disk."""
    return os.path.normcase(path.resolve()).casefold()


def inputs_of(path: Path) -> list[Path]:
    """What is read where a person names a scan or a mask: the path, and what belongs to it.

    Of a pair (.hdr and .img) that is the other file; of a DICOMDIR the folder that it is the index of.
    """
    if path.name.upper() == "DICOMDIR":
        return [path, path.parent]
    pair = {".hdr": ".img", ".img": ".hdr"}
    stem, ending = path.stem, path.suffix.lower()
    if ending == ".gz":
        stem, ending = Path(stem).stem, Path(stem).suffix.lower()
    if ending not in pair:
        return [path]
    names = (f"{stem}{pair[ending]}", f"{stem}{pair[ending]}.gz")
    beside = {name.lower() for name in names}
    folder = path.parent
    others = folder.iterdir() if folder.is_dir() else ()
    return [path, *(one for one in others if one.name.lower() in beside)]


def is_part(path: Path) -> bool:
    """Whether a file is what a writer that was killed left behind."""
    return path.name.startswith(PART)


def _identity(path: Path) -> _Id | None:
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
