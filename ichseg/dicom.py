"""A DICOM head CT, as a folder, a zip or a list of files, to a ``CTVolume``.

DICOM's LPS patient coordinates are met only here and in ``dicom_seg.py``. Slices are ordered by their
position along the normal, never by file name or instance number. To open a scan only the elements
listed below are read, so that a patient's name or number does not enter the program; they are read
again, and straight into the file, where a DICOM-SEG is asked for that carries them (``read_elements``).
"""

from __future__ import annotations

import functools
import io
import math
import os
import stat
import zipfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import pydicom
from numpy.typing import NDArray
from pydicom.pixels.decoders.base import get_decoder
from pydicom.uid import (
    UID,
    CTImageStorage,
    DeflatedExplicitVRLittleEndian,
    EnhancedCTImageStorage,
    ExplicitVRLittleEndian,
    ImplicitVRLittleEndian,
    LegacyConvertedEnhancedCTImageStorage,
    MediaStorageDirectoryStorage,
)

from ichseg.errors import VolumeError
from ichseg.volume import (
    FORMATS,
    CTVolume,
    Float,
    Geometry,
    ScanPath,
    SeriesInfo,
    check_size,
    check_spacing,
    display_axes,
    offset_notes,
    refusal,
    spacing_notes,
    stack_hounsfield,
)

MAX_FILES = 20_000
"""Most files that a folder or a zip may hold."""

MAX_ZIP_BYTES = 4 << 30
"""Most bytes that a zip may unpack to in all; its members are unpacked in memory, one by one."""

_BOMB_RATIO, _BOMB_BYTES = 200, 100 << 20
_CT_CLASSES = (CTImageStorage, EnhancedCTImageStorage, LegacyConvertedEnhancedCTImageStorage)
_LPS_TO_RAS = np.array([-1.0, -1.0, 1.0])
_SAME_PLACE_MM = 0.01
_SAME_DIRECTION = 1e-3
_SAME_SPACING = 0.2
_REMEDY = "give the folder or zip of an axial head CT series"

_HEADER_TAGS = [
    *("SOPClassUID", "SOPInstanceUID", "StudyInstanceUID", "FrameOfReferenceUID"),
    *("SeriesInstanceUID", "SeriesNumber", "SeriesDescription", "Modality"),
    *("ImageType", "NumberOfFrames", "SamplesPerPixel", "Rows", "Columns"),
    *("ImagePositionPatient", "ImageOrientationPatient", "PixelSpacing", "SliceThickness"),
    *("RescaleSlope", "RescaleIntercept"),
    *("SharedFunctionalGroupsSequence", "PerFrameFunctionalGroupsSequence"),
]
_PIXEL_TAGS = [
    *("PhotometricInterpretation", "PlanarConfiguration", "PixelRepresentation"),
    *("BitsAllocated", "BitsStored", "HighBit"),
    *("ExtendedOffsetTable", "ExtendedOffsetTableLengths", "PixelData"),
]
_FRAME_GROUPS = {
    "ImagePositionPatient": "PlanePositionSequence",
    "ImageOrientationPatient": "PlaneOrientationSequence",
    "PixelSpacing": "PixelMeasuresSequence",
    "SliceThickness": "PixelMeasuresSequence",
    "RescaleSlope": "PixelValueTransformationSequence",
    "RescaleIntercept": "PixelValueTransformationSequence",
    "FrameType": "CTImageFrameTypeSequence",
}


@dataclass(frozen=True)
class _File:
    """A file on disk or in a zip: its base name and how to open it."""

    name: str
    open: Callable[[], BinaryIO]


@dataclass(frozen=True)
class _Image:
    """The header of one DICOM file."""

    file: _File
    header: pydicom.Dataset

    @property
    def frames(self) -> int:
        return int(self.header.get("NumberOfFrames") or 1)

    def find(self, keyword: str, frame: int = 0) -> Any:
        """An element of a frame, from the functional groups of a multi-frame file if it has them."""
        if "PerFrameFunctionalGroupsSequence" not in self.header:
            return self.header.get("ImageType" if keyword == "FrameType" else keyword)
        groups = list(self.header.PerFrameFunctionalGroupsSequence[frame : frame + 1])
        groups += self.header.get("SharedFunctionalGroupsSequence", [])
        for group in groups:
            if items := group.get(_FRAME_GROUPS[keyword]):
                return items[0].get(keyword)
        return None

    def numbers(self, keyword: str, count: int, frame: int = 0) -> tuple[float, ...] | None:
        """The ``count`` finite numbers of an element, or None."""
        try:
            value = self.find(keyword, frame)
            values = [value] if isinstance(value, (int, float)) else list(value or ())
            numbers = tuple(float(number) for number in values)
        except (TypeError, ValueError):
            return None
        return numbers if len(numbers) == count and all(map(math.isfinite, numbers)) else None


@dataclass(frozen=True)
class _Slice:
    """One slice: where its pixels are stored and where in the patient they belong (LPS, mm)."""

    file: _File
    uids: tuple[str, str]
    frame: int
    frames: int
    shape: tuple[int, int]
    position: tuple[float, ...]
    orientation: tuple[float, ...]
    spacing: tuple[float, ...]
    thickness: float | None
    slope: float
    intercept: float


@dataclass(frozen=True)
class _Series:
    info: SeriesInfo
    images: tuple[_Image, ...]


@dataclass(frozen=True)
class SourceSlice:
    """One slice of a scan as its DICOM image: which image, its frame (from 0) of how many, and its place (LPS, mm).

    Where the image does not say how thick it is, that is the slice's own height.
    """

    sop_class_uid: str
    sop_instance_uid: str
    frame: int
    frames: int
    position_lps_mm: tuple[float, ...]
    thickness_mm: float


@dataclass(frozen=True)
class DicomSource:
    """What a DICOM-SEG needs of the series that a scan was read from: UIDs, and the stored grid.

    ``axes`` and ``flips`` say how stored slices are turned to the display frame (``display_axes``). A UID that the
    files lack is an empty string.
    """

    study_uid: str
    series_uid: str
    frame_of_reference_uid: str
    slices: tuple[SourceSlice, ...]
    shape: tuple[int, int]
    orientation: tuple[float, ...]
    spacing_mm: tuple[float, ...]
    axes: tuple[int, int, int]
    flips: tuple[bool, bool, bool]

    @property
    def is_multi_frame(self) -> bool:
        """Whether the slices are frames of one file."""
        return self.slices[0].frames > 1

    def to_stored(self, labels_zyx: NDArray[Any]) -> NDArray[Any]:
        """A [z, y, x] array of the display frame, turned back to stored rows and columns."""
        flipped = tuple(axis for axis, flip in enumerate(self.flips) if flip and axis)
        order = (0, *self.axes[1:])  # a swap of rows and columns is its own inverse
        return np.flip(labels_zyx, flipped).transpose(order)


def list_series(paths: ScanPath | Sequence[ScanPath]) -> tuple[SeriesInfo, ...]:
    """The image series in a folder, a zip or a list of files, the one to open first.

    Those that cannot be opened as a head CT stand last, with the reason in ``refusal``.

    Raises:
        VolumeError: there is no DICOM, or the zip or a file of it is unfit to be read.

    """
    given = [paths] if isinstance(paths, (str, os.PathLike)) else paths
    with ExitStack() as stack:
        return tuple(series.info for series in _scan([Path(path) for path in given], stack))


def read_series(
    paths: Sequence[Path], *, series: str | None = None, add_offset: int = 0
) -> CTVolume:
    """Open one series as a ``CTVolume``; see ``ichseg.volume.read_volume``.

    Args:
        paths: folders, zips and files that exist.
        series: the key or the number of the series; the axial CT with most slices when None, one
            straight from the scanner before a derived one.
        add_offset: HU added to every voxel.

    Raises:
        VolumeError: there is no such series, or it is not a complete head CT.

    """
    name = paths[0].name if len(paths) == 1 else f"{len(paths)} files"
    with ExitStack() as stack:
        found = _scan(paths, stack)
        chosen = _choose(name, found, series)
        slices = _sorted_slices(name, chosen)
        axes, flips, geometry = _geometry(name, slices)
        hu_zyx = stack_hounsfield(name, _stored_values(name, slices, axes, flips, add_offset))
    others = tuple(one.info for one in found if one is not chosen)
    return CTVolume(
        hu_zyx=hu_zyx,
        geometry=geometry,
        name=f"{chosen.info.label}, {len(slices)} slices",
        notes=(
            *spacing_notes(geometry),
            *_choice_notes(chosen.info, len(found) - 1),
            *_turn_notes(axes, flips),
            *offset_notes(add_offset),
        ),
        series=others,
        dicom=_source(chosen, slices, axes, flips, geometry.slice_heights_mm.tolist()),
    )


# --- Files -----------------------------------------------------------------------------------------


def _scan(paths: Sequence[Path], stack: ExitStack) -> list[_Series]:
    """Every image series in ``paths``, best first; zips stay open until ``stack`` closes."""
    name = paths[0].name if len(paths) == 1 else f"{len(paths)} files"
    files = [file for path in paths for file in _files(path, stack)]
    if not files:
        raise refusal(name, "a scan needs DICOM files", "there is no file in it", _REMEDY)
    images = [image for file in files if (image := _read_header(file))]
    if not images:
        raise refusal(
            name,
            FORMATS,
            "this file is neither" if len(files) == 1 else f"none of its {len(files)} files is one",
            "export the CT in one of these formats",
        )
    grouped: dict[tuple[str, bool], list[_Image]] = {}
    for image in images:
        key = (str(image.header.get("SeriesInstanceUID", "")), _is_localizer(image))
        grouped.setdefault(key, []).append(image)
    series = [_Series(_info(group), tuple(group)) for group in grouped.values()]
    return sorted(series, key=lambda one: _preference(one.info))


def _preference(info: SeriesInfo) -> tuple[bool, bool, int, int, str]:
    return bool(info.refusal), info.derived, -info.slices, info.number or 0, info.key


def _files(path: Path, stack: ExitStack) -> Iterator[_File]:
    """The files of a folder (with its subfolders) or a zip, or the file itself."""
    if path.is_dir():
        for count, file in enumerate(_walk(path)):
            if count >= MAX_FILES:
                raise _too_many(path.name, f"more than {MAX_FILES:,}")
            if file.is_file():
                yield _on_disk(file)
    elif zipfile.is_zipfile(path):
        archive = stack.enter_context(zipfile.ZipFile(path))
        for member in _checked_members(path.name, archive):
            name = member.filename.rsplit("/", 1)[-1]
            yield _File(name, functools.partial(_unpack, path.name, archive, member))
    elif path.suffix.lower() == ".zip":
        raise refusal(
            path.name,
            "a zip must be whole",
            "this one is empty, truncated or not a zip",
            "copy or download it again",
        )
    else:
        yield _on_disk(path)


def _walk(folder: Path) -> Iterator[Path]:
    for below, folders, names in os.walk(folder):
        folders.sort()
        yield from (Path(below) / name for name in sorted(names))


def _on_disk(path: Path) -> _File:
    return _File(path.name, lambda: path.open("rb"))


def _too_many(name: str, received: str) -> VolumeError:
    return refusal(name, f"at most {MAX_FILES:,} files are read", f"it holds {received}", _REMEDY)


def _checked_members(name: str, archive: zipfile.ZipFile) -> list[zipfile.ZipInfo]:
    """The files in a zip, refused where one could leave the folder or fill the memory."""
    members = archive.infolist()
    if len(members) > MAX_FILES:
        raise _too_many(name, f"{len(members):,}")
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
    if bomb or unpacked > MAX_ZIP_BYTES:
        raise refusal(
            name,
            f"a zip may unpack to {MAX_ZIP_BYTES / 2**30:g} GiB and {_BOMB_RATIO} times its size",
            f"this one has {unpacked / 2**20:,.0f} MiB, {round(unpacked / max(packed, 1), -1):,.0f}"
            " times",
            "zip only the head CT series",
        )
    for member in members:
        check_size(name, member.file_size, 1)
    return [member for member in members if not member.is_dir()]


def _unpack(name: str, archive: zipfile.ZipFile, member: zipfile.ZipInfo) -> BinaryIO:
    """One member in memory; zipfile reads no more than the size that was checked."""
    try:
        return io.BytesIO(archive.read(member))
    except Exception as error:  # zlib, lzma, bz2 and zipfile each raise their own
        raise refusal(
            name,
            "a zip must unpack whole",
            f"'{member.filename.rsplit('/', 1)[-1]}' is damaged",
            "copy or download it again",
        ) from error


def _read_header(file: _File) -> _Image | None:
    """The header of a DICOM image, without its pixels; None for any other file."""
    with file.open() as stream:
        head = stream.read(1024)
        marked = head[128:132] == b"DICM"
        # Some old exports lack the preamble and begin with group 2 or 8 at once.
        if not marked and (head[:2] not in (b"\x02\x00", b"\x08\x00") or head[3:4] != b"\x00"):
            return None
        if DeflatedExplicitVRLittleEndian.encode() in head:
            # Rare, and pydicom inflates it without a limit: a small file could fill the memory.
            raise _undecodable(file, DeflatedExplicitVRLittleEndian)
        stream.seek(0)
        try:
            header = pydicom.dcmread(
                stream, stop_before_pixels=True, force=not marked, specific_tags=_HEADER_TAGS
            )
            list(header.iterall())  # pydicom converts, and checks, a value when it is first seen
            meta = getattr(header, "file_meta", {})
            kind = header.get("SOPClassUID") or meta.get("MediaStorageSOPClassUID")
        except Exception as error:  # pydicom raises many kinds on damaged files
            if not marked:
                return None
            raise _truncated(file) from error
    if kind == MediaStorageDirectoryStorage or not (marked or kind):
        return None
    if "Rows" not in header and kind not in _CT_CLASSES:
        return None  # a report, a presentation state and the like
    counts = [header.get("Rows"), header.get("Columns"), header.get("NumberOfFrames") or 1]
    if "SeriesInstanceUID" not in header or not all(
        isinstance(count, int) and count > 0 for count in counts
    ):
        raise _truncated(file)
    return _Image(file, header)


def _truncated(file: _File, detail: str = "it breaks off or is damaged") -> VolumeError:
    rule = "a DICOM file must be whole"
    return refusal(file.name, rule, detail, "copy it or send it from the archive again")


# --- Series ----------------------------------------------------------------------------------------


def _image_type(image: _Image) -> list[str]:
    value = image.find("FrameType") or image.header.get("ImageType") or []
    return [value] if isinstance(value, str) else [str(part).upper() for part in value]


def _is_localizer(image: _Image) -> bool:
    return "LOCALIZER" in _image_type(image) or "SCOUT" in _image_type(image)


def _info(images: Sequence[_Image]) -> SeriesInfo:
    """What a chooser shows of the images of one series."""
    header = images[0].header
    label = str(header.get("SeriesDescription") or "").strip()
    number = str(header.get("SeriesNumber") or "")
    slices = sum(image.frames for image in images)
    return SeriesInfo(
        key=str(header.SeriesInstanceUID),
        number=int(number) if number.lstrip("-").isdigit() else None,
        label=label or f"{header.get('Modality') or 'DICOM'} series {number}".strip(),
        slices=slices,
        derived=_image_type(images[0])[:1] == ["DERIVED"],
        refusal=_unfit(images, slices),
    )


def _unfit(images: Sequence[_Image], slices: int) -> str:
    """Why a series is no axial head CT, or an empty string."""
    modality = images[0].header.get("Modality") or "unknown"
    if modality != "CT":
        return f"its modality is {modality}, not CT"
    if _is_localizer(images[0]):
        return "it is a localizer"
    if any((image.header.get("SamplesPerPixel") or 1) != 1 for image in images):
        return "it is in colour"
    for keyword, count in (
        ("ImagePositionPatient", 3),
        ("ImageOrientationPatient", 6),
        ("PixelSpacing", 2),
    ):
        if any(image.numbers(keyword, count) is None for image in images):
            return f"'{images[0].file.name}' or another of its images lacks {keyword}"
    orientation = images[0].numbers("ImageOrientationPatient", 6) or ()
    row, column = np.array(orientation[:3]), np.array(orientation[3:])
    if max(abs(row @ row - 1), abs(column @ column - 1), abs(row @ column)) > 0.01:
        return "its ImageOrientationPatient is not two perpendicular unit vectors"
    if display_axes(_directions(orientation))[0][0] != 0:
        return "its slices are not axial"
    return "it has a single slice" if slices < 2 else ""


def _choose(name: str, found: Sequence[_Series], wanted: str | None) -> _Series:
    """The wanted series, or the best one; refused with what there is."""
    rule = "a scan is an axial CT series of 2 slices or more"
    if wanted is None:
        best = found[0]
    else:
        matches = [one for one in found if wanted in (one.info.key, str(one.info.number))]
        if not matches:
            there = ", ".join(_title(one.info) for one in found[:5])
            received = f"there is no '{wanted}', only {there}"
            raise refusal(name, "the series must be in the folder", received, "choose one of these")
        best = matches[0]
    if best.info.refusal:
        raise refusal(name, rule, f"in {_title(best.info)} {best.info.refusal}", _REMEDY)
    return best


def _title(info: SeriesInfo) -> str:
    number = "" if info.number is None else f"{info.number} "
    return (
        f"series {number}'{info.label}' ({info.slices} {'slice' if info.slices == 1 else 'slices'})"
    )


def _choice_notes(info: SeriesInfo, others: int) -> tuple[str, ...]:
    notes = []
    if others:
        rest = "1 other series was" if others == 1 else f"{others} other series were"
        notes.append(f"Opened {_title(info)}; {rest} left aside.")
    if info.derived:
        notes.append(
            "This series was derived from another one, not taken straight from the scanner."
        )
    return tuple(notes)


def _turn_notes(axes: tuple[int, ...], flips: tuple[bool, ...]) -> tuple[str, ...]:
    if axes == (0, 1, 2) and not any(flips[1:]):
        return ()
    return (
        "The slices were turned to the usual view: anterior up, the patient's right on the left.",
    )


# --- Slices ----------------------------------------------------------------------------------------


def _sorted_slices(name: str, series: _Series) -> list[_Slice]:
    """The slices from foot to head, checked to be one stack without a hole."""
    slices = [_slice(image, frame) for image in series.images for frame in range(image.frames)]
    first = slices[0]
    height, width = first.shape
    check_size(name, len(slices) * height * width, 2)
    sizes = sorted({one.shape for one in slices})
    if len(sizes) > 1:
        text = " and ".join(f"{columns} x {rows}" for rows, columns in sizes[:3])
        raise _mixed(name, "size", f"they have {text} pixels")
    for one in slices:
        if not np.allclose(one.orientation, first.orientation, rtol=0, atol=_SAME_DIRECTION):
            raise _mixed(name, "direction", f"'{one.file.name}' lies at another angle")
        if not np.allclose(one.spacing, first.spacing, rtol=1e-3, atol=0):
            raise _mixed(
                name, "pixel spacing", f"it is {first.spacing[0]:g} and {one.spacing[0]:g} mm"
            )
    normal = _directions(first.orientation)[:, 0] * _LPS_TO_RAS
    slices.sort(key=lambda one: float(normal @ one.position))
    _check_places(name, np.array([normal @ one.position for one in slices]), slices)
    return slices


def _mixed(name: str, what: str, received: str) -> VolumeError:
    rule = f"the slices of a series have one {what}"
    return refusal(name, rule, received, "give the files of one series only")


def _slice(image: _Image, frame: int) -> _Slice:
    header, file = image.header, image.file
    position = image.numbers("ImagePositionPatient", 3, frame)
    orientation = image.numbers("ImageOrientationPatient", 6, frame)
    spacing = image.numbers("PixelSpacing", 2, frame)
    if position is None or orientation is None or spacing is None:
        raise refusal(
            file.name,
            "every slice says where it lies",
            f"frame {frame + 1} lacks its position, orientation or pixel spacing",
            "export the series from the archive again",
        )
    (slope,) = image.numbers("RescaleSlope", 1, frame) or (1.0,)
    (intercept,) = image.numbers("RescaleIntercept", 1, frame) or (0.0,)
    (thickness,) = image.numbers("SliceThickness", 1, frame) or (None,)
    return _Slice(
        file=file,
        uids=(str(header.get("SOPClassUID", "")), str(header.get("SOPInstanceUID", ""))),
        frame=frame,
        frames=image.frames,
        shape=(int(header.Rows), int(header.Columns)),
        position=position,
        orientation=orientation,
        spacing=spacing,
        thickness=thickness,
        slope=slope,
        intercept=intercept,
    )


def _check_places(name: str, positions_mm: Float, slices: Sequence[_Slice]) -> None:
    """Refuse two slices at one place, and a place without its slice."""
    gaps = np.diff(positions_mm)
    for index in np.flatnonzero(gaps < _SAME_PLACE_MM)[:1]:
        pair = f"'{slices[index].file.name}' and '{slices[index + 1].file.name}'"
        raise refusal(
            name,
            "every slice has a place of its own",
            f"2 slices lie at {positions_mm[index]:.1f} mm ({pair})",
            "remove the duplicate, or give one pass of the scan only",
        )
    for index, spacing in _holes(gaps, [one.thickness for one in slices])[:1]:
        missing = round(gaps[index] / spacing) - 1
        raise refusal(
            name,
            f"a series spaced {spacing:.1f} mm has a slice at every step",
            f"{missing} {'is' if missing == 1 else 'are'} missing between"
            f" {positions_mm[index]:.1f} and {positions_mm[index + 1]:.1f} mm"
            f" (slices {index + 1} and {index + 2})",
            "send the complete series from the archive again",
        )


def _holes(gaps_mm: Float, thickness: Sequence[float | None]) -> list[tuple[int, float]]:
    """The gaps where slices are missing, each as (index of the gap, spacing around it in mm).

    A hole is a gap of about 2, 3, ... times the spacing around it. Series in two stacks, such as 5
    mm through the skull base and 10 mm above, are whole all the same. What tells them apart: a hole
    lies between gaps of one spacing, while a second stack goes on to the end of the series. At an
    end, 1 or 2 wide gaps are a hole unless their slices are thicker as well.
    """
    runs: list[tuple[int, int, float]] = []  # first gap, number of gaps, spacing
    for index, gap in enumerate(gaps_mm):
        if runs and abs(gap - runs[-1][2]) <= _SAME_SPACING * min(gap, runs[-1][2]):
            start, count, spacing = runs[-1]
            runs[-1] = start, count + 1, (spacing * count + gap) / (count + 1)
        else:
            runs.append((index, 1, float(gap)))
    holes = []
    for place, (start, count, spacing) in enumerate(runs):
        beside = runs[max(place - 1, 0) : place] + runs[place + 1 : place + 2]
        regular = float(np.mean([around for _, _, around in beside])) if beside else spacing
        alike = all(abs(around - regular) <= _SAME_SPACING * regular for _, _, around in beside)
        multiple = spacing / regular
        if multiple < 1.5 or abs(multiple - round(multiple)) > _SAME_SPACING or not alike:
            continue
        at_end = len(beside) == 1
        evidence = sum(number for _, number, _ in beside)
        if at_end and (count > 2 or evidence < 2 or _thicker(thickness, start, count, place == 0)):
            continue
        holes += [(index, regular) for index in range(start, start + count)]
    return holes


def _thicker(thickness: Sequence[float | None], start: int, count: int, first: bool) -> bool:
    """Whether the slices at the outer end of a run of gaps are thicker than those next to it."""
    outer, inner = thickness[0 if first else -1], thickness[start + count if first else start]
    return outer is not None and inner is not None and outer > 1.2 * inner


def _directions(orientation: Sequence[float]) -> Float:
    """RAS+ unit vectors as columns: the normal towards the head, down a column, along a row."""
    row, column = np.array(orientation[:3]), np.array(orientation[3:])
    normal = np.cross(row, column)
    columns: Float = np.stack([normal * math.copysign(1.0, normal[2]), column, row], axis=1)
    columns *= _LPS_TO_RAS[:, None] / np.linalg.norm(columns, axis=0)
    return columns


def _geometry(
    name: str, slices: Sequence[_Slice]
) -> tuple[tuple[int, int, int], tuple[bool, bool, bool], Geometry]:
    """How to turn the stored slices to the display frame, and the geometry of the result."""
    one = slices[0]
    positions = [each.position for each in slices]
    axes, flips, geometry = stored_grid(positions, one.orientation, one.spacing, one.shape)
    check_spacing(name, geometry)
    return axes, flips, geometry


def stored_grid(
    positions_mm: Sequence[Sequence[float]],
    orientation: Sequence[float],
    spacing_mm: Sequence[float],
    shape: tuple[int, int],
) -> tuple[tuple[int, int, int], tuple[bool, bool, bool], Geometry]:
    """How to turn stored axial slices to the display frame (``display_axes``), and the geometry of the result.

    Args:
        positions_mm: Image Position (Patient) of each slice, LPS mm.
        orientation: Image Orientation (Patient), six numbers.
        spacing_mm: Pixel Spacing, between rows and between columns.
        shape: stored rows and columns.

    """
    directions = _directions(orientation)
    axes, flips = display_axes(directions)
    steps = [directions[:, 1] * spacing_mm[0], directions[:, 2] * spacing_mm[1]]
    origins = np.array(positions_mm, dtype=np.float64) * _LPS_TO_RAS
    turned = []
    for axis, flip in zip(axes[1:], flips[1:], strict=True):
        step = steps[axis - 1]
        if flip:
            origins = origins + step * (shape[axis - 1] - 1)
        turned.append(-step if flip else step)
    return axes, flips, Geometry(origins, turned[0], turned[1])


def _stored_values(
    name: str,
    slices: Sequence[_Slice],
    axes: tuple[int, int, int],
    flips: tuple[bool, bool, bool],
    add_offset: int,
) -> Iterator[tuple[NDArray[Any], float, float]]:
    """For each slice its stored values in the display frame, the slope and the intercept."""
    turn = (axes[1] - 1, axes[2] - 1)
    flipped = tuple(axis for axis, flip in enumerate(flips[1:]) if flip)
    file, frames = None, np.empty(0)
    for one in slices:
        if one.file is not file:
            file, frames = one.file, _decode(one)
        pixels = np.flip(frames[one.frame].transpose(turn), flipped)
        yield pixels, one.slope, one.intercept + add_offset


def _source(
    series: _Series,
    slices: Sequence[_Slice],
    axes: tuple[int, int, int],
    flips: tuple[bool, bool, bool],
    heights_mm: Sequence[float],
) -> DicomSource:
    header, one = series.images[0].header, slices[0]
    return DicomSource(
        study_uid=str(header.get("StudyInstanceUID", "")),
        series_uid=str(header.SeriesInstanceUID),
        frame_of_reference_uid=str(header.get("FrameOfReferenceUID", "")),
        slices=tuple(
            SourceSlice(
                *each.uids, each.frame, each.frames, each.position, each.thickness or height
            )
            for each, height in zip(slices, heights_mm, strict=True)
        ),
        shape=one.shape,
        orientation=one.orientation,
        spacing_mm=one.spacing,
        axes=axes,
        flips=flips,
    )


def _has_decoder(syntax: UID) -> bool:
    try:
        return get_decoder(syntax).is_available
    except NotImplementedError:
        return False


def _undecodable(file: _File, syntax: UID) -> VolumeError:
    return refusal(
        file.name,
        "pixels are plain, RLE, JPEG, JPEG-LS or JPEG 2000",
        f"these are {syntax.name}",
        "export the series uncompressed",
    )


def _decode(one: _Slice) -> NDArray[Any]:
    """The stored values of every frame of a slice's file, [frame, row, column]."""
    try:
        with one.file.open() as stream:
            data = io.BytesIO(stream.read())  # nameless: pydicom puts a file's path in its warnings
        dataset = pydicom.dcmread(data, force=True, specific_tags=_HEADER_TAGS + _PIXEL_TAGS)
        if "TransferSyntaxUID" not in dataset.file_meta:  # an old export without a preamble
            implicit, _ = dataset.original_encoding
            plain = ImplicitVRLittleEndian if implicit else ExplicitVRLittleEndian
            dataset.file_meta.TransferSyntaxUID = plain
        syntax = dataset.file_meta.TransferSyntaxUID
        readable = not syntax.is_compressed or _has_decoder(syntax)
    except Exception as error:  # pydicom raises many kinds on damaged files
        raise _truncated(one.file) from error
    if not readable:
        raise _undecodable(one.file, syntax)
    try:
        frames = int(dataset.get("NumberOfFrames") or 1)
        return dataset.pixel_array.reshape(frames, *one.shape)
    except Exception as error:  # so does each decoder
        raise _truncated(one.file, "its pixels break off or are damaged") from error


# --- Elements to copy -------------------------------------------------------------------------------


def read_elements(
    paths: ScanPath | Sequence[ScanPath], source: DicomSource, keywords: Sequence[str]
) -> pydicom.Dataset:
    """Elements of the image that a scan begins with, read from the files of the scan; they may be the patient's.

    Raises:
        VolumeError: that image is not among ``paths``.

    """
    given = [paths] if isinstance(paths, (str, os.PathLike)) else paths
    wanted = source.slices[0].sop_instance_uid
    # A warning about a value that breaks DICOM's rules would quote it, and this must reach no log.
    with ExitStack() as stack, pydicom.config.disable_value_validation():
        for file in (file for path in given for file in _files(Path(path), stack)):
            image = _read_header(file)
            if image is None or image.header.get("SOPInstanceUID") != wanted:
                continue
            with file.open() as stream:
                found = pydicom.dcmread(stream, force=True, specific_tags=list(keywords))
            elements = pydicom.Dataset()
            for keyword in keywords:
                if keyword in found:
                    setattr(elements, keyword, found[keyword].value)
            return elements
    raise refusal(
        Path(given[0]).name,
        "the patient's identity is copied from the files that the scan was read from",
        "its images are not there",
        "give the folder or zip of this scan, or leave the identity out",
    )
