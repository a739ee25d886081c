"""The files that people give: single ones, folders and zips, what each is by its content, and how much is unpacked.

Everything is told from the first bytes of a file, for names say little: a DICOM file may be called ``I0000001``, and
``._scan.nii`` is no scan. What a zip holds is unpacked one file at a time, a large one onto the disk, within the bounds
below. What no reader knows is counted, so that it can be said what was passed over.
"""

from __future__ import annotations

import functools
import gzip
import lzma
import os
import stat
import struct
import tempfile
import zipfile
import zlib
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import IO, BinaryIO, cast

from ichseg.errors import VolumeError, check_cancelled, refusal
from ichseg.scan import formats
from ichseg.scan.formats import InputFile

MAX_FILES = 20_000
"""Most files that a folder or a zip may hold, those of zips in it included."""

MAX_ZIP_BYTES = 4 << 30
"""Most bytes that zips may unpack to in all; their members are unpacked one by one."""

MAX_FILE_BYTES = 1 << 30
"""Largest file that is unpacked, a large one onto the disk: 1 GiB is 2,000 slices of 512 x 512 at 16 bit."""

SERIES_REMEDY = "give the folder or zip of an axial head CT series"

_IN_MEMORY_BYTES, _PART_BYTES = 16 << 20, 1 << 20
_BOMB_RATIO, _BOMB_BYTES = 200, 100 << 20
_HEAD_BYTES = 1024
_NAMES_SHOWN = 3
_JUNK = {"thumbs.db", "ehthumbs.db", "desktop.ini", "__macosx"}
"""What file managers leave behind; files whose names begin with a full stop are theirs, too."""

_APPLE_DOUBLE = b"\x00\x05\x16\x07"
_GZIP = b"\x1f\x8b"
_ZIP = b"PK\x03\x04"
_ARCHIVES: tuple[tuple[int, bytes, str], ...] = (
    (0, b"7z\xbc\xaf\x27\x1c", "a 7z archive"),
    (0, b"Rar!", "a RAR archive"),
    (257, b"ustar", "a tar archive"),
    (0, b"\xfd7zXZ\x00", "an xz archive"),
    (0, b"BZh", "a bzip2 archive"),
    (0, b"\x28\xb5\x2f\xfd", "a Zstandard archive"),
)
"""Offset, magic bytes and name of archives that are not opened."""

_UNPACKABLE = (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED, zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA)
_PACKINGS = {1: "Shrink", 6: "Implode", 9: "Deflate64", 93: "Zstandard", 95: "xz", 98: "PPMd"}
"""How a zip's members may be packed that Python cannot unpack; Windows packs large ones with Deflate64."""

_ZIP_ERRORS = (
    *(zipfile.BadZipFile, zlib.error, lzma.LZMAError, EOFError, OSError, struct.error),
    # a version, packing or encryption that zipfile does not know; a name that is no UTF-8, a place before the start
    *(NotImplementedError, RuntimeError, ValueError, OverflowError),
)
"""All that zipfile and the decompressors raise on a damaged zip."""


class FileNote(str):
    """A note that names files that were given; ``nameless`` says the same without, for what is written to files."""

    nameless: str

    def __new__(cls, text: str, nameless: str) -> FileNote:
        """The text that people are shown, and the one that is written down."""
        note = super().__new__(cls, text)
        note.nameless = nameless
        return note


def passed_over(left: Iterable[tuple[str, str]], others: int = 0) -> tuple[FileNote, ...]:
    """One note that says what was not read, empty where all was.

    Args:
        left: for each file what it is, with its number left open ("{} image{s} without a position"), and its name.
        others: number of files of no known kind.

    >>> passed_over([("{} report{s}", "SR1.dcm")], others=2)
    ('Passed over: 1 report (SR1.dcm), 2 other files.',)
    >>> passed_over([("{} image{s} of another size", name) for name in "abcde"])[0].nameless
    'Passed over: 5 images of another size.'

    """
    names: dict[str, list[str]] = {}
    for what, name in left:
        names.setdefault(what, []).append(name)
    full, nameless = [], []
    for what, of_kind in names.items():
        count = len(of_kind)
        text = what.format(
            f"{count:,}", s="" if count == 1 else "s", are="is" if count == 1 else "are"
        )
        shown = ", ".join(dict.fromkeys(of_kind[:_NAMES_SHOWN]))
        full.append(f"{text} ({shown}{' and others' if count > _NAMES_SHOWN else ''})")
        nameless.append(text)
    if others:
        rest = f"{others:,} other file{'' if others == 1 else 's'}"
        full, nameless = [*full, rest], [*nameless, rest]
    if not full:
        return ()
    start = "Passed over: "
    return (FileNote(f"{start}{', '.join(full)}.", f"{start}{', '.join(nameless)}."),)


@dataclass
class Given:
    """What was given, sorted by what it is.

    Attributes:
        name: what to call it in a message: the file's or folder's own name, or how many files.
        files: those that may be a scan or a part of one, in the order of their names.
        zips: zips inside of what was given; they are opened only where nothing else is a scan.
        archives: what sort of archive the files are that cannot be opened.
        broken: files in a zip that cannot be unpacked, each with what to say of it.
        others: number of files of no known kind, those that file managers leave behind included.
        unpacked_bytes: how much the zips so far unpack to.
        is_file: whether it is one file by itself, and no zip.

    """

    name: str
    files: list[InputFile] = field(default_factory=list)
    zips: list[InputFile] = field(default_factory=list)
    archives: list[str] = field(default_factory=list)
    broken: list[tuple[InputFile, VolumeError]] = field(default_factory=list)
    others: int = 0
    unpacked_bytes: int = 0
    is_file: bool = False

    @property
    def count(self) -> int:
        """Number of files of every kind."""
        known = len(self.files) + len(self.zips) + len(self.archives) + len(self.broken)
        return known + self.others

    def of(self, kind: str) -> list[InputFile]:
        """The files of one kind."""
        return [file for file in self.files if file.kind == kind]

    def nothing(self) -> VolumeError:
        """What to say where none of the files is a scan."""
        if self.broken:
            return self.broken[0][1]
        if not self.count:
            rule = "a scan needs DICOM files"
            return refusal(self.name, rule, "there is no file in it", SERIES_REMEDY)
        if self.archives:
            received = ("this is " if self.is_file else "it holds ") + self.archives[0]
            return refusal(self.name, formats.rule(), received, "unpack it and give the folder")
        received = f"none of its {self.count} files is one"
        if self.count == 1:
            whose = "this file" if self.is_file else "its only file"
            received = f"{whose} is none of them"
        return refusal(self.name, formats.rule(), received, "export the CT in one of these formats")


def gather(paths: Sequence[Path], stack: ExitStack) -> Given:
    """Look at every file of the paths, which exist; zips stay open until ``stack`` closes.

    Raises:
        VolumeError: too many files, or a zip that is damaged or unfit to be read.

    """
    given = Given(paths[0].name if len(paths) == 1 else f"{len(paths)} files")
    alone = len(paths) == 1
    for path in paths:
        if path.is_dir():
            for file in _walk(path):
                if given.count >= MAX_FILES:
                    raise _too_many(path.name, f"more than {MAX_FILES:,}")
                _sort_in(given, file.relative_to(path).as_posix(), _on_disk(file))
        elif alone and zipfile.is_zipfile(path) and kind_on_disk(path) != "dicom":
            _add_zip(given, path.name, path, stack)
        elif alone and path.suffix.lower() == ".zip":
            raise _no_zip(path.name, "this one is empty, truncated or not a zip")
        elif alone:
            given.is_file = True
            _sort_in(given, path.as_posix(), _on_disk(path), chosen=True)
            if path.name.lower().removesuffix(".gz").endswith((".hdr", ".img")):
                _add_partner(given, path)
        else:
            _sort_in(given, path.name, _on_disk(path))
    return given


def kind_on_disk(path: Path) -> str:
    """What the file at a path is."""
    raw = _head(_on_disk(path))
    return kind_of(path.name, _start_of_gzip(raw) if raw[:2] == _GZIP else raw)


def unpack_zips(given: Given, stack: ExitStack) -> Given:
    """The same with what its zips hold; a zip in one of these is one too many, and is said to be."""
    opened = replace(
        given,
        files=list(given.files),
        zips=[],
        archives=list(given.archives),
        broken=list(given.broken),
    )
    for file in given.zips:
        try:
            _add_zip(opened, file.name, stack.enter_context(file.open()), stack)
        except VolumeError as error:  # one that is damaged or locked hides none of the others
            opened.broken.append((file, error))
    opened.archives += ["a zip in a zip in a zip"] * len(opened.zips)
    opened.zips = []
    return opened


def kind_of(name: str, head: bytes) -> str:
    """What a file is by its first bytes; by its name, too, where that promises a format or a zip.

    So a damaged ``scan.nii`` is named as such. It is the ``kind`` of a row of ``formats.READERS``, or "zip", "archive",
    "image" (the voxels beside a "header": NIfTI-1 or Analyze in two files), "other".
    """
    lower = name.lower()
    if head[:4] == _APPLE_DOUBLE:
        return "other"
    for row in formats.READERS:
        if row.takes(name, head):
            return row.kind
    if lower.endswith((".hdr", ".hdr.gz")) and _is_analyze(head):
        return "header"
    if head[:4] == _ZIP or (lower.endswith(".zip") and head):
        return "zip"
    if _archive(head):
        return "archive"
    # Some old exports lack the preamble and begin with group 2 or 8 at once.
    if head[:2] in (b"\x02\x00", b"\x08\x00") and head[3:4] == b"\x00":
        return "dicom"
    if lower.endswith((".img", ".img.gz")):
        return "image"
    return "other"


# --- One file --------------------------------------------------------------------------------------


def _is_analyze(head: bytes) -> bool:
    return 348 in (int.from_bytes(head[:4], "little"), int.from_bytes(head[:4], "big"))


def _archive(head: bytes) -> str:
    """What sort of archive begins like this, empty where none does."""
    kinds = (text for at, magic, text in _ARCHIVES if head[at : at + len(magic)] == magic)
    return next(kinds, "")


def _is_junk(place: str) -> bool:
    parts = [part.lower() for part in place.split("/")]
    return parts[-1].startswith(".") or any(part in _JUNK for part in parts)


def _sort_in(
    given: Given,
    place: str,
    opener: Callable[[], BinaryIO],
    peek: Callable[[], bytes] | None = None,
    *,
    chosen: bool = False,
) -> None:
    """Take up a file; one of several is passed over where a file manager left it behind."""
    place = place.replace("\\", "/")
    name = place.rsplit("/", 1)[-1]
    if _is_junk(place) and not chosen:
        given.others += 1
        return
    try:
        raw = _head(opener) if peek is None else peek()
    except VolumeError as error:
        given.broken.append((InputFile(name, opener), error))
        return
    gzipped = raw[:2] == _GZIP
    head = _start_of_gzip(raw) if gzipped else raw
    kind = kind_of(name, head)
    row = formats.reader_of(kind)
    if gzipped and kind != "other" and not (row and row.reads_gzip):
        opener = functools.partial(_gunzip, name, opener)
    file = InputFile(name, opener, kind, _stem(place))
    if kind == "zip":
        given.zips.append(file)
    elif kind == "archive":
        given.archives.append(_archive(head) + (" in a gzip" if gzipped else ""))
    elif kind == "other":
        given.others += 1
    else:
        given.files.append(file)


def _on_disk(path: Path) -> Callable[[], BinaryIO]:
    return lambda: path.open("rb")


def _head(opener: Callable[[], BinaryIO]) -> bytes:
    with opener() as stream:
        return stream.read(_HEAD_BYTES)


def _start_of_gzip(raw: bytes) -> bytes:
    """What the first bytes of a gzip unpack to; nothing where it is damaged, and then its name says what it is."""
    try:
        return zlib.decompressobj(wbits=31).decompress(raw, _HEAD_BYTES)
    except zlib.error:
        return b""


def _gunzip(name: str, opener: Callable[[], BinaryIO]) -> BinaryIO:
    rule = "a gzip must unpack whole"
    try:
        with opener() as stream, gzip.GzipFile(fileobj=stream) as inner:
            content, size = _unpacked(inner)
    except (EOFError, zlib.error, gzip.BadGzipFile) as error:
        received = f"it breaks off or is damaged ({error})"
        raise refusal(name, rule, received, "copy or download it again") from error
    if size > MAX_FILE_BYTES:
        content.close()
        raise _too_large(name, "more", "unpack it first, or save it as int16")
    return content


def _unpacked(stream: IO[bytes] | gzip.GzipFile) -> tuple[BinaryIO, int]:
    """What a stream gives, a large file on the disk and not in memory, and its size; no more than is bound."""
    content = tempfile.SpooledTemporaryFile(max_size=_IN_MEMORY_BYTES)  # noqa: SIM115 - whoever reads it closes it
    size = 0
    while size <= MAX_FILE_BYTES and (part := stream.read(_PART_BYTES)):
        check_cancelled()
        size += content.write(part)
    content.seek(0)
    return cast("BinaryIO", content), size


def _stem(place: str) -> str:
    return os.path.splitext(place.lower().removesuffix(".gz"))[0]


def _add_partner(given: Given, path: Path) -> None:
    """The other file of a pair that one was given of, from the same folder."""
    for other in sorted(path.parent.iterdir()):
        lower = other.name.lower().removesuffix(".gz")
        same = other.name != path.name and _stem(other.name) == _stem(path.name)
        if same and lower.endswith((".hdr", ".img")) and other.is_file():
            _sort_in(given, other.as_posix(), _on_disk(other))


def _walk(folder: Path) -> Iterator[Path]:
    for below, folders, names in os.walk(folder):
        folders.sort()
        yield from (path for name in sorted(names) if (path := Path(below) / name).is_file())


def _too_many(name: str, received: str) -> VolumeError:
    rule = f"at most {MAX_FILES:,} files are read"
    return refusal(name, rule, f"it holds {received}", SERIES_REMEDY)


def _too_large(name: str, received: str, remedy: str) -> VolumeError:
    """What to say of a file that is too large to be unpacked in memory; one that is not packed may be larger."""
    rule = f"a packed file unpacks to at most {MAX_FILE_BYTES / 2**20:,.0f} MiB"
    return refusal(name, rule, f"this one has {received}", remedy)


# --- Zips ------------------------------------------------------------------------------------------


def _no_zip(name: str, received: str) -> VolumeError:
    return refusal(name, "a zip must be whole", received, "copy or download it again")


def _add_zip(given: Given, name: str, source: Path | BinaryIO, stack: ExitStack) -> None:
    """Take up the files of one zip."""
    try:
        archive = stack.enter_context(zipfile.ZipFile(source))
    except _ZIP_ERRORS as error:
        raise _no_zip(name, "its list of files is damaged") from error
    for member in _checked_members(given, name, archive):
        _sort_in(
            given,
            member.filename,
            functools.partial(_unpack, name, archive, member),
            functools.partial(_member_head, name, archive, member),
        )


def _checked_members(given: Given, name: str, archive: zipfile.ZipFile) -> list[zipfile.ZipInfo]:
    """The files in a zip, refused where one could leave the folder or fill the memory."""
    members = archive.infolist()
    if given.count + len(members) > MAX_FILES:
        raise _too_many(name, f"{given.count + len(members):,}")
    for member in members:
        parts = member.filename.replace("\\", "/").split("/")
        unsafe = {
            "a link": stat.S_ISLNK(member.external_attr >> 16),
            "an absolute name": not parts[0] or parts[0][1:2] == ":",
            "a name with '..'": ".." in parts,
        }
        for what, found in unsafe.items():
            if found:
                raise refusal(
                    name,
                    "a zip may hold only files inside its own folder",
                    f"it has {what}",
                    "zip the DICOM folder anew",
                )
        if member.flag_bits & 1:
            raise refusal(
                name,
                "a zip must open without a password",
                f"'{parts[-1]}' is encrypted",
                "unpack it and zip it anew without one",
            )
    packed = sum(member.compress_size for member in members)
    unpacked = sum(member.file_size for member in members)
    bomb = unpacked > _BOMB_BYTES and unpacked > _BOMB_RATIO * packed
    given.unpacked_bytes += unpacked
    if bomb or given.unpacked_bytes > MAX_ZIP_BYTES:
        raise refusal(
            name,
            f"a zip may unpack to {MAX_ZIP_BYTES / 2**30:g} GiB and {_BOMB_RATIO} times its size",
            f"this one has {given.unpacked_bytes / 2**20:,.0f} MiB,"
            f" {round(unpacked / max(packed, 1), -1):,.0f} times",
            "zip only the head CT series",
        )
    for member in members:
        if member.file_size > MAX_FILE_BYTES:
            remedy = f"give '{_base(member)}' unzipped, or save it as int16"
            raise _too_large(name, f"{member.file_size / 2**20:,.0f} MiB", remedy)
    return [member for member in members if not member.is_dir()]


def _base(member: zipfile.ZipInfo) -> str:
    return member.filename.replace("\\", "/").rsplit("/", 1)[-1]


def _member_head(name: str, archive: zipfile.ZipFile, member: zipfile.ZipInfo) -> bytes:
    with _said_of(name, member), archive.open(member) as stream:
        return stream.read(_HEAD_BYTES)


def _unpack(name: str, archive: zipfile.ZipFile, member: zipfile.ZipInfo) -> BinaryIO:
    """One member, unpacked; zipfile reads no more than the size that was checked."""
    with _said_of(name, member), archive.open(member) as stream:
        return _unpacked(stream)[0]


@contextmanager
def _said_of(name: str, member: zipfile.ZipInfo) -> Iterator[None]:
    """Say in one sentence why a member cannot be unpacked."""
    if member.compress_type not in _UNPACKABLE:
        packing = _PACKINGS.get(member.compress_type, f"method {member.compress_type}")
        raise refusal(
            name,
            "a zip is packed with Deflate, bzip2 or LZMA, or not at all",
            f"'{_base(member)}' is packed with {packing}",
            "unpack it and zip it anew, or give the folder",
        )
    try:
        yield
    except _ZIP_ERRORS as error:
        raise refusal(
            name,
            "a zip must unpack whole",
            f"'{_base(member)}' is damaged",
            "copy or download it again",
        ) from error
