"""A DICOM head CT, as a folder, a zip or a list of files, to a ``CTVolume``.

DICOM's LPS patient coordinates are met only here and in ``dicom_seg.py``. Slices are ordered by their
position along the normal, never by file name or instance number. To open a scan only the elements
listed below are read, so that a patient's name or number does not enter the program; they are read
again, and straight into the file, where a DICOM-SEG is asked for that carries them (``read_elements``).
"""

from __future__ import annotations

import io
import math
import os
import re
import zlib
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field, replace
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
)

from ichseg.arrays import Float
from ichseg.errors import VolumeError, refusal
from ichseg.scan import intake
from ichseg.scan import series as rules
from ichseg.scan.dicom_source import DicomSource, SourceSlice
from ichseg.scan.geometry import Geometry, check_spacing, display_axes, spacing_notes
from ichseg.scan.hounsfield import (
    Plane,
    offset_notes,
    padding_mask,
    stack_hounsfield,
)
from ichseg.scan.intake import FORMATS, SERIES_REMEDY, FileNote, InputFile
from ichseg.scan.series_info import SeriesError, SeriesInfo
from ichseg.scan.volume import CTVolume, ScanPath

_CT_CLASSES = (CTImageStorage, EnhancedCTImageStorage, LegacyConvertedEnhancedCTImageStorage)
_LPS_TO_RAS = np.array([-1.0, -1.0, 1.0])
_SAME_DIRECTION = 1e-3
_AXIAL_SERIES = "a scan is an axial CT series of 2 slices or more"

_MOST_INFLATED = 1 << 16
"""How much of a deflated file is inflated to learn which series it is of."""

_MOST_COMPARED = 3
"""Pairs of images at one place that are found to differ before the rest of a series is taken to differ, too."""

_LEFT = {
    "1.2.840.10008.1.3.10": "{} CD index file{s}",
    "1.2.840.10008.5.1.4.1.1.88.": "{} structured report{s}",
    "1.2.840.10008.5.1.4.1.1.11.": "{} presentation state{s}",
    "1.2.840.10008.5.1.4.1.1.104.": "{} document{s}",
    "1.2.840.10008.5.1.4.1.1.66.": "{} segmentation{s}",
}
"""What DICOM files that are no image are called, by how their SOP class begins."""

_DICOMDIR, _NO_IMAGE = _LEFT["1.2.840.10008.1.3.10"], "{} DICOM file{s} without an image"

_HEADER_TAGS = [
    *("SOPClassUID", "SOPInstanceUID", "StudyInstanceUID", "FrameOfReferenceUID"),
    *("SeriesInstanceUID", "SeriesNumber", "SeriesDescription", "Modality"),
    *("ImageType", "NumberOfFrames", "SamplesPerPixel", "Rows", "Columns"),
    *("ImagePositionPatient", "ImageOrientationPatient", "PixelSpacing", "SliceThickness"),
    *("RescaleSlope", "RescaleIntercept"),
    *("ConvolutionKernel", "ContrastBolusAgent", "KVP", "BodyPartExamined"),
    *("AcquisitionNumber", "TemporalPositionIdentifier"),
    *("InstanceNumber", "ImagesInAcquisition", "NumberOfSlices", "NumberOfSeriesRelatedInstances"),
    *("SharedFunctionalGroupsSequence", "PerFrameFunctionalGroupsSequence"),
]

_PIXEL_TAGS = [
    *("PhotometricInterpretation", "PlanarConfiguration", "PixelRepresentation"),
    *("BitsAllocated", "BitsStored", "HighBit", "PixelPaddingValue", "PixelPaddingRangeLimit"),
    *("ExtendedOffsetTable", "ExtendedOffsetTableLengths", "PixelData"),
]

Padding = tuple[int, int | None, int]

_FRAME_GROUPS = {
    "ImagePositionPatient": "PlanePositionSequence",
    "ImageOrientationPatient": "PlaneOrientationSequence",
    "PixelSpacing": "PixelMeasuresSequence",
    "SliceThickness": "PixelMeasuresSequence",
    "RescaleSlope": "PixelValueTransformationSequence",
    "RescaleIntercept": "PixelValueTransformationSequence",
    "FrameType": "CTImageFrameTypeSequence",
    "ConvolutionKernel": "CTReconstructionSequence",
    "KVP": "CTXRayDetailsSequence",
    "FrameAcquisitionNumber": "FrameContentSequence",
    "TemporalPositionIndex": "FrameContentSequence",
}

_PLAIN = {
    "FrameType": "ImageType",
    "FrameAcquisitionNumber": "AcquisitionNumber",
    "TemporalPositionIndex": "TemporalPositionIdentifier",
}
"""What elements of a frame are called in a file of one frame."""


@dataclass(frozen=True)
class _Image:
    """The header of one DICOM file, and its SOP class."""

    file: InputFile
    header: pydicom.Dataset
    kind: str = ""

    @property
    def frames(self) -> int:
        return int(self.header.get("NumberOfFrames") or 1)

    @property
    def modality(self) -> str:
        """The modality; CT of an image of a CT class whose modality was blanked, as some anonymisers do."""
        given = str(self.header.get("Modality") or "").strip().upper()
        return given or ("CT" if self.kind in _CT_CLASSES else "unknown")

    def find(self, keyword: str, frame: int = 0) -> Any:
        """An element of a frame, from the functional groups of a multi-frame file if it has them."""
        if "PerFrameFunctionalGroupsSequence" in self.header and keyword in _FRAME_GROUPS:
            groups = list(self.header.PerFrameFunctionalGroupsSequence[frame : frame + 1])
            groups += self.header.get("SharedFunctionalGroupsSequence", [])
            for group in groups:
                if items := group.get(_FRAME_GROUPS[keyword]):
                    return items[0].get(keyword)
            return None
        return self.header.get(_PLAIN.get(keyword, keyword))

    def numbers(self, keyword: str, count: int, frame: int = 0) -> tuple[float, ...] | None:
        """The ``count`` finite numbers of an element, with decimal points or decimal commas, or None."""
        try:
            value = self.find(keyword, frame)
            values = [value] if isinstance(value, (int, float, str)) else list(value or ())
            numbers = tuple(_number(number) for number in values)
        except (TypeError, ValueError):
            return None
        return numbers if len(numbers) == count and all(map(math.isfinite, numbers)) else None

    def text(self, keyword: str, frame: int = 0) -> str:
        """An element as text, several values of it apart by spaces."""
        value = self.find(keyword, frame)
        if value is None:
            return ""
        parts = [value] if isinstance(value, (str, int, float)) else value
        return " ".join(str(part) for part in parts).strip()

    def traits(self, frame: int = 0) -> rules.Traits:
        """What the header says of how a frame was made."""
        return rules.Traits(
            kernel=self.text("ConvolutionKernel", frame),
            contrast_agent=self.text("ContrastBolusAgent"),
            image_type=tuple(_image_type(self, frame)),
            acquisition=self.text("FrameAcquisitionNumber", frame),
            phase=self.text("TemporalPositionIndex", frame),
            kvp=self.text("KVP", frame),
            description=self.text("SeriesDescription"),
            body_part=self.text("BodyPartExamined"),
            study=self.text("StudyInstanceUID"),
            frame_of_reference=self.text("FrameOfReferenceUID"),
        )

    @property
    def number(self) -> int | None:
        """InstanceNumber of a file of one frame."""
        return None if self.frames > 1 else self.count("InstanceNumber")

    def count(self, keyword: str) -> int | None:
        """An element that is one whole number, or None."""
        (number,) = self.numbers(keyword, 1) or (math.nan,)
        return int(number) if number.is_integer() else None


def _number(value: Any) -> float:
    """A number as DICOM writes it, or with one decimal comma, as some exports do."""
    if isinstance(value, str) and value.count(",") == 1 and "." not in value:
        value = value.replace(",", ".")
    return float(value)


@dataclass(frozen=True)
class _Slice:
    """One slice: where its pixels are stored and where in the patient they belong (LPS, mm)."""

    file: InputFile
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
    traits: rules.Traits
    number: int | None = None

    @property
    def along_normal_mm(self) -> float:
        """Its place along the slices' normal."""
        normal = _directions(self.orientation)[:, 0] * _LPS_TO_RAS
        return float(normal @ self.position)


_Left = tuple[str, str]
"""What a file is that was passed over, and its name; see ``intake.passed_over``."""


@dataclass(frozen=True)
class _Broken:
    """A damaged file, what to say of it, and the series that it is of, where that can still be read."""

    file: InputFile
    error: VolumeError
    series_uid: str = ""

    @property
    def may_be_a_slice(self) -> bool:
        """Whether it could be one of any series: nothing says of which it is."""
        return not self.series_uid and self.file.kind != "zip"


@dataclass(frozen=True)
class _Series:
    """A series for the chooser, and what it is opened from; or, with ``error``, why it is not."""

    info: SeriesInfo
    rank: tuple[int, ...] = ()
    slices: tuple[_Slice, ...] = ()
    header: pydicom.Dataset = field(default_factory=pydicom.Dataset)
    holes: tuple[rules.Hole, ...] = ()
    left: tuple[_Left, ...] = ()
    ends: tuple[str, ...] = ()
    error: VolumeError | None = None

    def refused(self, error: VolumeError, reason: str) -> _Series:
        """The same, which cannot be opened."""
        return replace(self, error=error, info=replace(self.info, refusal=reason))


@dataclass(frozen=True)
class _Study:
    """All that was found: the series, the best first, and what is no part of any."""

    name: str
    series: list[_Series]
    left: list[_Left]
    broken: list[_Broken]
    others: int


def list_series(paths: ScanPath | Sequence[ScanPath]) -> tuple[SeriesInfo, ...]:
    """The image series in a folder, a zip or a list of files, the one to open first.

    Those that cannot be opened as a head CT stand last, with the reason in ``refusal``.

    Raises:
        VolumeError: there is no DICOM, or the zip or a file of it is unfit to be read.

    """
    given = [paths] if isinstance(paths, (str, os.PathLike)) else paths
    with ExitStack() as stack:
        found = intake.gather([Path(path) for path in given], stack)
        if found.zips and not found.of("dicom"):
            found = intake.unpack_zips(found, stack)
        return tuple(series.info for series in _scan(found).series)


def read_series(given: intake.Given, *, series: str | None = None, add_offset: int = 0) -> CTVolume:
    """Open one series as a ``CTVolume``; see ``ichseg.scan.read.read_volume``.

    Args:
        given: the files, DICOM among them.
        series: the key or the number of the series; the best one that can be opened when None
            (``ichseg.scan.series.preference``).
        add_offset: HU added to every voxel.

    Raises:
        SeriesError: there is no such series, or none is a head CT; with every series in ``series``.

    """
    study = _scan(given)
    refused: dict[str, VolumeError] = {}
    for one in _candidates(study, series):
        try:
            volume = _open(study, one, add_offset)
        except VolumeError as error:
            refused[one.info.key] = error
            continue
        others = [other for other in study.series if other is not one]
        return replace(
            volume,
            notes=(*volume.notes, *_refusal_notes(study, refused)),
            series=_listed(others, refused),
        )
    raise SeriesError(str(next(iter(refused.values()))), _listed(study.series, refused))


def _listed(found: Iterable[_Series], refused: dict[str, VolumeError]) -> tuple[SeriesInfo, ...]:
    """What a chooser shows: the series that can be opened, then the others with their reasons."""
    infos = []
    for one in found:
        error = refused.get(one.info.key)
        reason = one.info.refusal or (str(error) if error else "")
        infos.append(replace(one.info, refusal=reason))
    return tuple(sorted(infos, key=lambda info: bool(info.refusal)))


def _open(study: _Study, one: _Series, add_offset: int) -> CTVolume:
    if one.error is not None:
        raise one.error
    name, slices = study.name, one.slices
    axes, flips, geometry = _geometry(name, slices)
    hu_zyx, value_notes = stack_hounsfield(
        name,
        (len(slices), *_turned_shape(slices[0].shape, axes)),
        _planes(slices, axes, flips, add_offset),
    )
    elsewhere = [broken for broken in study.broken if broken.may_be_a_slice]
    left = [*study.left, *one.left, *(("{} damaged file{s}", b.file.name) for b in study.broken)]
    return CTVolume(
        hu_zyx=hu_zyx,
        geometry=geometry,
        name=f"{one.info.label}, {len(slices)} slices",
        notes=(
            *spacing_notes(geometry),
            *_choice_notes(one, study),
            *_turn_notes(axes, flips),
            *value_notes,
            *offset_notes(add_offset),
            *intake.passed_over(left, study.others),
        ),
        warnings=(
            *rules.hole_warnings(one.holes),
            *one.ends,
            *rules.frame_warnings([each.traits for each in one.slices]),
            *_series_warnings(one),
            *_end_warnings(elsewhere),
        ),
        dicom=_source(one, axes, flips, geometry.slice_heights_mm.tolist()),
    )


def _series_warnings(one: _Series) -> tuple[str, ...]:
    """What makes millilitres of the series doubtful: contrast medium, values of no tissue, a bone kernel."""
    traits, found = one.slices[0].traits, []
    if rules.has_contrast(traits.contrast_agent, traits.description):
        found.append("This series was taken with contrast medium, which is as bright as blood.")
    if rules.is_processed(traits.image_type, traits.description):
        found.append(
            "This series is a projection, a map or a subtraction: its values are not those of tissue."
        )
    if rules.sharpness(traits.kernel, traits.description) == 2:
        found.append(
            "This series has a kernel for bone or lung, whose noise blurs the edge of blood."
        )
    return tuple(found)


def _end_warnings(broken: Sequence[_Broken]) -> tuple[str, ...]:
    if not broken:
        return ()
    count = "A damaged file was" if len(broken) == 1 else f"{len(broken)} damaged files were"
    return (
        f"{count} passed over: if it was an end slice of this series, blood on it is not counted.",
    )


def _scan(given: intake.Given) -> _Study:
    """Every image series among the files, the one to open first."""
    left: list[_Left] = []
    broken = [_Broken(file, error) for file, error in given.broken]
    images: list[_Image] = []
    for file in given.of("dicom"):
        try:
            found = _read_header(file)
        except VolumeError as error:
            broken.append(_Broken(file, error, _series_uid(file)))
            continue
        if isinstance(found, _Image):
            images.append(found)
        elif found is not None:
            left.append((found, file.name))
    others = given.count - len(images) - len(left) - len(broken)
    if not images:
        raise _no_images(given, left, broken)
    grouped: dict[tuple[str, ...], list[_Image]] = {}
    for image in images:
        grouped.setdefault(_group_key(image), []).append(image)
    localizers = [image for image in images if _is_localizer(image)]
    series = [
        _ends_checked(one, [*group, *localizers])
        for number, group in enumerate(grouped.values(), 1)
        for one in _series_of(given.name, group, f"no-uid-{number}", broken)
    ]
    series.sort(key=lambda one: (bool(one.error), one.rank, one.info.number or 0, one.info.key))
    shorts = Counter(one.info.short for one in series)
    named = [
        replace(one, info=replace(one.info, short=one.info.key))
        if shorts[one.info.short] > 1 or not one.info.short
        else one
        for one in series
    ]
    return _Study(given.name, named, left, broken, others)


def _no_images(
    given: intake.Given, left: Sequence[_Left], broken: Sequence[_Broken]
) -> VolumeError:
    """What to say where no DICOM file holds an image."""
    if broken:
        return broken[0].error
    if not left:
        return replace(given, files=[], others=given.count, zips=[], archives=[]).nothing()
    if all(what == _DICOMDIR for what, _ in left) and given.count == len(left):
        return refusal(
            given.name,
            "a DICOMDIR is a list of a CD's files, not the files",
            "it was given by itself",
            "give the whole folder that it lies in",
        )
    (note,) = intake.passed_over(left)
    received = f"of its DICOM files none is an image ({note.nameless[len('Passed over: ') : -1]})"
    return refusal(given.name, FORMATS, received, SERIES_REMEDY)


def _group_key(image: _Image) -> tuple[str, ...]:
    """What images of one series share: its UID, or, where an anonymiser took that out, what else there is."""
    if uid := image.text("SeriesInstanceUID"):
        return (uid,)
    words = ("StudyInstanceUID", "SeriesNumber", "SeriesDescription", "Modality")
    return "", *map(image.text, words)


def _read_header(file: InputFile) -> _Image | str | None:
    """The header of a DICOM image, without its pixels; what else a DICOM file is; None for any other file."""
    with file.open() as stream:
        head = stream.read(1024)
        marked = head[128:132] == b"DICM"
        stream.seek(0)
        if DeflatedExplicitVRLittleEndian.encode() in head:
            # Rare, and pydicom inflates it without a limit: a small file could fill the memory.
            if left := _left(_meta_class(file, stream)):
                return left
            raise _undecodable(file, DeflatedExplicitVRLittleEndian)
        try:
            # A warning about a value that breaks DICOM's rules would quote it, and that must reach no log.
            with pydicom.config.disable_value_validation():
                header = pydicom.dcmread(
                    stream, stop_before_pixels=True, force=not marked, specific_tags=_HEADER_TAGS
                )
                list(header.iterall())  # pydicom converts a value when it is first seen
            meta = getattr(header, "file_meta", {})
            kind = str(header.get("SOPClassUID") or meta.get("MediaStorageSOPClassUID") or "")
        except Exception as error:  # pydicom raises many kinds on damaged files
            if not marked:
                return None
            raise _truncated(file) from error
    if left := _left(kind):
        return left
    if not (marked or kind):
        return None
    if "Rows" not in header and kind not in _CT_CLASSES:
        return _NO_IMAGE
    counts = [header.get("Rows"), header.get("Columns"), header.get("NumberOfFrames") or 1]
    if not all(isinstance(count, int) and count > 0 for count in counts):
        raise _truncated(file)
    image = _Image(file, header, kind)
    groups = header.get("PerFrameFunctionalGroupsSequence")
    if groups is not None and len(groups) != image.frames:
        raise refusal(
            file.name,
            "a multi-frame file says of each of its frames where it lies",
            f"of {image.frames} frame{'' if image.frames == 1 else 's'} it describes {len(groups)}",
            "export the series again, as single images if that goes on",
        )
    return image


def _left(kind: str) -> str:
    """What a file of an SOP class is called that is passed over, empty where it may be an image."""
    return next((what for start, what in _LEFT.items() if kind.startswith(start)), "")


def _file_meta(stream: BinaryIO) -> pydicom.Dataset:
    """The file's meta information, which is never deflated; the stream stands behind it then."""
    pydicom.filereader.read_preamble(stream, force=True)
    return pydicom.filereader.read_dataset(stream, False, True, stop_when=_after_meta)


def _after_meta(tag: Any, *_: Any) -> bool:
    return bool(tag.group != 2)


def _meta_class(file: InputFile, stream: BinaryIO) -> str:
    """The SOP class of a deflated file."""
    try:
        return str(_file_meta(stream).get("MediaStorageSOPClassUID", ""))
    except Exception as error:  # pydicom raises many kinds on damaged files
        raise _truncated(file) from error


def _series_uid(file: InputFile) -> str:
    """The series that a damaged file is of, as far as it can be read; empty where it cannot."""
    try:
        with file.open() as stream:
            content = stream.read(1 << 20)
    except VolumeError:  # a member of a zip that does not unpack
        return ""
    source = io.BytesIO(content)
    try:
        if DeflatedExplicitVRLittleEndian.encode() in content[:1024]:
            _file_meta(source)
            inflated = zlib.decompressobj(-zlib.MAX_WBITS).decompress(
                content[source.tell() :], _MOST_INFLATED
            )
            part = pydicom.filereader.read_dataset(
                io.BytesIO(inflated), False, True, stop_when=_after_series_uid
            )
        else:
            part = pydicom.filereader.read_partial(source, _after_series_uid)
        return str(part.get("SeriesInstanceUID", "")).strip()
    except Exception:  # pydicom raises many kinds on damaged files, and this one is damaged
        return ""


def _after_series_uid(tag: Any, *_: Any) -> bool:
    return bool(tag > 0x0020000E)


def _truncated(file: InputFile, detail: str = "it breaks off or is damaged") -> VolumeError:
    rule = "a DICOM file must be whole"
    return refusal(file.name, rule, detail, "copy it or send it from the archive again")


def _image_type(image: _Image, frame: int = 0) -> list[str]:
    value = image.find("FrameType", frame) or image.header.get("ImageType") or []
    return [value.upper()] if isinstance(value, str) else [str(part).upper() for part in value]


def _is_localizer(image: _Image) -> bool:
    return "LOCALIZER" in _image_type(image) or "SCOUT" in _image_type(image)


_SCREEN_SAVES = "{} screen save{s}"
_SCREEN_SAVE = re.compile(r"SCREEN ?SAVE|SCREENSAVE|\bICON\b|THUMBNAIL|\bREPORT\b|\bDOSE|PROTOCOL")


def _other_kind(image: _Image) -> str:
    """Why an image is no slice of a scan whatever else is in its series, or an empty string."""
    if image.modality != "CT":
        return f"its modality is {image.modality}, not CT"
    if _is_localizer(image):
        return "it is a localizer"
    saved = any(_SCREEN_SAVE.search(part) for part in _image_type(image))
    return "it is a screen save" if saved else ""


def _aside(image: _Image) -> str:
    """What such an image is called in a note."""
    if image.modality != "CT":
        return "{} image{s} of another modality"
    return "{} localizer{s}" if _is_localizer(image) else _SCREEN_SAVES


def _series_of(
    name: str, images: Sequence[_Image], fallback_key: str, broken: Sequence[_Broken]
) -> list[_Series]:
    """The series under one UID: usually one; several where kernels, phases or grids share the UID."""
    bare = _Series(_info(images, fallback_key), header=images[0].header)
    if all(_other_kind(image) for image in images):
        return [_refused(name, bare, _other_kind(images[0]))]
    left = [(_aside(image), image.file.name) for image in images if _other_kind(image)]
    images = [image for image in images if not _other_kind(image)]
    if any(image.kind in _CT_CLASSES for image in images):  # else an old scan in secondary captures
        captured = [image for image in images if image.kind not in _CT_CLASSES]
        left += [(_SCREEN_SAVES, image.file.name) for image in captured]
        images = [image for image in images if image.kind in _CT_CLASSES]
    bare = _Series(_info(images, fallback_key), header=images[0].header)
    slices, unfit = _fit_slices(images)
    if not slices or len(unfit) > len(slices):
        flaw, file = unfit[0]
        alike = sum(one == flaw for one, _ in unfit)
        which = "is an image" if alike == 1 else f"and {alike - 1} more are images"
        return [_refused(name, bare, f"'{file}' {which} {flaw}")]
    grids = _grids(slices)
    whole = [grid for grid in grids if len(grid) > 1] or grids[:1]
    left += [(f"{{}} image{{s}} {flaw}", file) for flaw, file in unfit]
    left += _odd_grids([grid for grid in grids if grid not in whole], whole[0])
    found = []
    for grid in whole:
        title = "" if len(whole) == 1 else f"{grid[0].shape[1]} x {grid[0].shape[0]} pixels"
        found += _stacked(name, bare, grid, title)
    if len(found) > 1:
        found = [_with_key(one, number) for number, one in enumerate(found, 1)]
    found[0] = replace(found[0], left=(*left, *found[0].left))
    return [_complete(name, one, broken) for one in found]


def _info(images: Sequence[_Image], fallback_key: str) -> SeriesInfo:
    """What a chooser shows of the images of one series."""
    header = images[0].header
    label = str(header.get("SeriesDescription") or "").strip()
    number = images[0].text("SeriesNumber")
    is_number = bool(re.fullmatch(r"-?[0-9]{1,12}", number))
    return SeriesInfo(
        key=images[0].text("SeriesInstanceUID") or fallback_key,
        number=int(number) if is_number else None,
        short=str(int(number)) if is_number else "",
        label=label or f"{header.get('Modality') or 'DICOM'} series {number}".strip(),
        slices=sum(image.frames for image in images),
        derived=images[0].traits().derived,
    )


def _refused(name: str, one: _Series, reason: str, rule: str = "", remedy: str = "") -> _Series:
    """A series that is refused for a reason, under the rule of all series or one of its own."""
    received = reason if rule else f"in {_title(one.info)} {reason}"
    error = refusal(name, rule or _AXIAL_SERIES, received, remedy or SERIES_REMEDY)
    return one.refused(error, reason)


def _fit_slices(images: Sequence[_Image]) -> tuple[list[_Slice], list[_Left]]:
    """The slices of a series, and what is wrong with its other images, each with its file."""
    slices: list[_Slice] = []
    unfit: list[_Left] = []
    for image in images:
        for frame in range(image.frames):
            flaw = _flaw(image, frame)
            if flaw:
                unfit.append((flaw, image.file.name))
            else:
                slices.append(_slice(image, frame))
    return slices, unfit


def _flaw(image: _Image, frame: int) -> str:
    """Why an image is no slice of a scan, or an empty string."""
    if (image.header.get("SamplesPerPixel") or 1) != 1:
        return "in colour"
    for keyword, count in (
        ("ImagePositionPatient", 3),
        ("ImageOrientationPatient", 6),
        ("PixelSpacing", 2),
    ):
        if image.numbers(keyword, count, frame) is None:
            given = image.text(keyword, frame)
            return f"with {keyword} '{given}'" if _is_numeric(given) else f"without {keyword}"
    orientation = image.numbers("ImageOrientationPatient", 6, frame) or ()
    row, column = np.array(orientation[:3]), np.array(orientation[3:])
    if max(abs(row @ row - 1), abs(column @ column - 1), abs(row @ column)) > 0.01:
        return "whose ImageOrientationPatient is not two perpendicular unit vectors"
    return ""


def _is_numeric(text: str) -> bool:
    """Whether a text is made of numbers, and may be quoted."""
    return bool(re.fullmatch(r"[-+0-9.,eE ]{1,80}", text))


def _grids(slices: Sequence[_Slice]) -> list[list[_Slice]]:
    """The slices by size, direction and pixel spacing, the grid with most of them first."""
    found: list[list[_Slice]] = []
    for one in slices:
        for grid in found:
            if _same_grid(grid[0], one):
                grid.append(one)
                break
        else:
            found.append([one])
    return sorted(found, key=len, reverse=True)


def _same_grid(one: _Slice, other: _Slice) -> bool:
    return (
        one.shape == other.shape
        and np.allclose(one.orientation, other.orientation, rtol=0, atol=_SAME_DIRECTION)
        and np.allclose(one.spacing, other.spacing, rtol=1e-3, atol=0)
    )


def _odd_grids(grids: Iterable[Sequence[_Slice]], main: Sequence[_Slice]) -> list[_Left]:
    """What to say of single images that are on another grid than the series."""
    left = []
    for one in (one for grid in grids for one in grid):
        what = "of another size" if one.shape != main[0].shape else "at another angle"
        if what != "of another size" and np.allclose(
            one.orientation, main[0].orientation, rtol=0, atol=_SAME_DIRECTION
        ):
            what = "of another pixel spacing"
        left.append((f"{{}} image{{s}} {what}", one.file.name))
    return left


def _stacked(name: str, bare: _Series, grid: Sequence[_Slice], title: str) -> list[_Series]:
    """The stacks on one grid, each checked."""
    if display_axes(_directions(grid[0].orientation))[0][0] != 0:
        info = replace(bare.info, slices=len(grid))
        return [
            _refused(name, _titled(replace(bare, info=info), title), "its slices are not axial")
        ]
    ordered = sorted(grid, key=lambda one: one.along_normal_mm)
    kept, left = _without_copies(ordered)
    places = np.array([one.along_normal_mm for one in kept])
    found = rules.stacks([one.traits for one in kept], places)
    if len(found) > rules.MOST_STACKS or rules.most_at_a_place(places) > rules.MOST_STACKS:
        count = rules.most_at_a_place(places)
        info = replace(bare.info, slices=len(kept))
        reason = (
            f"it has up to {count} images at one place, as a perfusion or another time series has"
        )
        return [_refused(name, _titled(replace(bare, info=info), title), reason)]
    series = []
    for stack in found:
        slices = tuple(kept[member] for member in stack.members)
        odd = [("{} image{s} of another reconstruction", kept[one].file.name) for one in stack.odd]
        one = replace(
            bare,
            info=replace(bare.info, slices=len(slices), derived=slices[0].traits.derived),
            slices=slices,
            rank=rules.preference(
                slices[0].traits,
                np.array([each.along_normal_mm for each in slices]),
                slices[0].shape[0] * slices[0].shape[1],
            ),
            left=tuple(left) + tuple(odd),
        )
        series.append(_titled(one, ", ".join(filter(None, (title, stack.title)))))
        left = []
    return series


def _titled(one: _Series, title: str) -> _Series:
    """A series that shares its UID, with what tells it from the others in its label."""
    if not title:
        return one
    return replace(one, info=replace(one.info, label=f"{one.info.label}, {title}"))


def _with_key(one: _Series, number: int) -> _Series:
    short = one.info.short and f"{one.info.short}:{number}"
    return replace(one, info=replace(one.info, key=f"{one.info.key}:{number}", short=short))


def _complete(name: str, one: _Series, broken: Sequence[_Broken]) -> _Series:
    """A stack with its lost slices; refused where two slices lie at one place, or too much is lost."""
    if one.error is not None:
        return one
    if len(one.slices) < 2:
        return _refused(name, one, "it has a single slice")
    places = np.array([each.along_normal_mm for each in one.slices])
    gaps = np.diff(places)
    for index in np.flatnonzero(gaps < rules.SAME_PLACE_MM)[:1]:
        pair = f"'{one.slices[index].file.name}' and '{one.slices[index + 1].file.name}'"
        return _refused(
            name,
            one,
            f"2 different slices lie at {places[index]:.1f} mm ({pair})",
            "every slice has a place of its own",
            "give one pass of the scan only",
        )
    holes = rules.holes(gaps, [each.thickness for each in one.slices])
    uid = one.header.get("SeriesInstanceUID", "")
    for damaged in broken:
        if (damaged.series_uid and damaged.series_uid == uid) or (holes and damaged.may_be_a_slice):
            return one.refused(damaged.error, f"'{damaged.file.name}' is damaged")
    for hole in holes:
        if hole.gap_mm > rules.MOST_GAP_MM:
            slices = "1 slice is" if hole.lost == 1 else f"{hole.lost} slices are"
            return _refused(
                name,
                one,
                f"{slices} missing {hole.text}",
                f"the gap that lost slices leave is at most {rules.MOST_GAP_MM:g} mm, for more hides a hematoma",
                "send the series from the archive again, or give another of the study",
            )
    return replace(one, holes=tuple(holes))


def _ends_checked(one: _Series, images: Sequence[_Image]) -> _Series:
    """A series with what is to be said of slices lost at its ends, by the numbers of ``images``: its own and others'.

    What a header promises is looked at in this order: images of the acquisition, slices, images of the series.
    """
    if one.error is not None:
        return one
    files = {id(each.file) for each in one.slices}
    others = (image.number for image in images if id(image.file) not in files)
    elsewhere = frozenset(number for number in others if number is not None)
    promises = [
        {image.count(keyword) for image in images if id(image.file) in files}
        for keyword in ("ImagesInAcquisition", "NumberOfSlices", "NumberOfSeriesRelatedInstances")
    ]
    promised = next((said for (said, *rest) in promises if said and not rest), None)
    count = rules.Count(tuple(each.number for each in one.slices), elsewhere, promised)
    return replace(one, ends=rules.end_warnings(count, one.holes))


def _without_copies(ordered: Sequence[_Slice]) -> tuple[list[_Slice], list[_Left]]:
    """Slices in order of place without those that are there twice: the same pixels at the same place.

    The pixels of two are looked at only where they share a place and all their traits.
    """
    kept: list[_Slice] = []
    left: list[_Left] = []
    different = 0
    for one in ordered:
        for other in reversed(kept):
            if one.along_normal_mm - other.along_normal_mm >= rules.SAME_PLACE_MM:
                kept.append(one)
                break
            if one.traits != other.traits or different >= _MOST_COMPARED:
                continue
            copy = _copy_of(one, other)
            if copy is None:
                different += 1
                continue
            left.append(("{} file{s} that {are} there twice", copy.file.name))
            if copy is other:
                kept[kept.index(other)] = one
            break
        else:
            kept.append(one)
    return kept, left


def _copy_of(one: _Slice, other: _Slice) -> _Slice | None:
    """Which of two slices at one place is not needed, for both have the same pixels or its own are damaged."""
    if one.file is other.file or not np.allclose(one.position, other.position, rtol=0, atol=1e-3):
        return None
    with one.file.open() as first, other.file.open() as second:
        if first.read() == second.read():
            return one
    try:
        pixels = _decode(one)[0][one.frame]
    except VolumeError:
        return one if one.uids == other.uids else None
    try:
        others = _decode(other)[0][other.frame]
    except VolumeError:
        return other if one.uids == other.uids else None
    scales = (one.slope, one.intercept) == (other.slope, other.intercept)
    return one if scales and np.array_equal(pixels, others) else None


def _candidates(study: _Study, wanted: str | None) -> list[_Series]:
    """The series to try, in order: the wanted one, or all that can be opened, or the best of what is refused."""
    if wanted is None:
        return [one for one in study.series if one.error is None] or study.series[:1]
    matches = [one for one in study.series if wanted in (one.info.key, one.info.short)]
    if not matches:
        matches = [
            one
            for one in study.series
            if wanted in (str(one.info.number), one.header.get("SeriesInstanceUID"))
        ][:1]
    if not matches:
        there = ", ".join(_title(one.info) for one in study.series[:5])
        raise SeriesError(
            str(
                refusal(
                    study.name,
                    "the series must be in the folder",
                    f"there is no '{wanted}', only {there}",
                    "choose one of these",
                )
            ),
            _listed(study.series, {}),
        )
    return matches


def _title(info: SeriesInfo) -> str:
    number = "" if info.number is None else f"{info.number} "
    return (
        f"series {number}'{info.label}' ({info.slices} {'slice' if info.slices == 1 else 'slices'})"
    )


def _choice_notes(one: _Series, study: _Study) -> tuple[str, ...]:
    notes, others = [], len(study.series) - 1
    studies = len({str(other.header.get("StudyInstanceUID", "")) for other in study.series})
    if others:
        rest = "1 other series was" if others == 1 else f"{others} other series were"
        of = f" The files are of {studies} studies." if studies > 1 else ""
        notes.append(f"Opened {_title(one.info)}; {rest} left aside.{of}")
    if one.info.derived:
        notes.append(
            "This series was derived from another one, not taken straight from the scanner."
        )
    return tuple(notes)


def _refusal_notes(study: _Study, refused: dict[str, VolumeError]) -> tuple[FileNote, ...]:
    """What to say of series that would have been opened first but could not be."""
    notes = []
    for one in study.series:
        if error := refused.get(one.info.key):
            start = f"{_title(one.info)[0].upper()}{_title(one.info)[1:]} could not be opened"
            notes.append(FileNote(f"{start} ({str(error).rstrip('.')}).", f"{start}."))
    return tuple(notes)


def _turn_notes(axes: tuple[int, ...], flips: tuple[bool, ...]) -> tuple[str, ...]:
    if axes == (0, 1, 2) and not any(flips[1:]):
        return ()
    return (
        "The slices were turned to the usual view: anterior up, the patient's right on the left.",
    )


def _slice(image: _Image, frame: int) -> _Slice:
    """A slice of an image that has no flaw."""
    header = image.header
    position = image.numbers("ImagePositionPatient", 3, frame)
    orientation = image.numbers("ImageOrientationPatient", 6, frame)
    spacing = image.numbers("PixelSpacing", 2, frame)
    assert position is not None and orientation is not None and spacing is not None
    (slope,) = image.numbers("RescaleSlope", 1, frame) or (1.0,)
    (intercept,) = image.numbers("RescaleIntercept", 1, frame) or (0.0,)
    (thickness,) = image.numbers("SliceThickness", 1, frame) or (None,)
    return _Slice(
        file=image.file,
        uids=(image.kind, str(header.get("SOPInstanceUID", ""))),
        frame=frame,
        frames=image.frames,
        shape=(int(header.Rows), int(header.Columns)),
        position=position,
        orientation=orientation,
        spacing=spacing,
        thickness=thickness,
        slope=slope,
        intercept=intercept,
        traits=image.traits(frame),
        number=image.number,
    )


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


def _turned_shape(shape: tuple[int, int], axes: tuple[int, int, int]) -> tuple[int, int]:
    """Rows and columns of a stored slice in the display frame."""
    return shape[axes[1] - 1], shape[axes[2] - 1]


def _planes(
    slices: Sequence[_Slice],
    axes: tuple[int, int, int],
    flips: tuple[bool, bool, bool],
    add_offset: int,
) -> Iterator[Plane]:
    """The slices' stored values in the display frame."""
    turn = (axes[1] - 1, axes[2] - 1)
    flipped = tuple(axis for axis, flip in enumerate(flips[1:]) if flip)
    file, frames, padding = None, np.empty(0), None
    for one in slices:
        if one.file is not file:
            file, (frames, padding) = one.file, _decode(one)
        values = np.flip(frames[one.frame].transpose(turn), flipped)
        outside = None if padding is None else padding_mask(values, *padding)
        yield Plane(values, one.slope, one.intercept + add_offset, outside)


def _source(
    series: _Series,
    axes: tuple[int, int, int],
    flips: tuple[bool, bool, bool],
    heights_mm: Sequence[float],
) -> DicomSource:
    header, slices = series.header, series.slices
    one = slices[0]
    return DicomSource(
        study_uid=str(header.get("StudyInstanceUID", "")),
        series_uid=str(header.get("SeriesInstanceUID", "")),
        frame_of_reference_uid=one.traits.frame_of_reference,
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


def _undecodable(file: InputFile, syntax: UID) -> VolumeError:
    return refusal(
        file.name,
        "pixels are plain, RLE, JPEG, JPEG-LS or JPEG 2000",
        f"these are {syntax.name}",
        "export the series uncompressed",
    )


def _decode(one: _Slice) -> tuple[NDArray[Any], Padding | None]:
    """The stored values of every frame of a slice's file, [frame, row, column], and what it calls padding."""
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
        return dataset.pixel_array.reshape(frames, *one.shape), _padding(dataset)
    except Exception as error:  # so does each decoder
        raise _truncated(one.file, "its pixels break off or are damaged") from error


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
        found = intake.gather([Path(path) for path in given], stack)
        if found.zips and not found.of("dicom"):
            found = intake.unpack_zips(found, stack)
        for file in found.of("dicom"):
            try:
                image = _read_header(file)
            except VolumeError:  # a damaged file beside the scan
                continue
            if not isinstance(image, _Image) or image.header.get("SOPInstanceUID") != wanted:
                continue
            with file.open() as stream:
                source_image = pydicom.dcmread(stream, force=True, specific_tags=list(keywords))
            elements = pydicom.Dataset()
            for keyword in keywords:
                if keyword in source_image:
                    setattr(elements, keyword, source_image[keyword].value)
            return elements
    raise refusal(
        Path(given[0]).name,
        "the patient's identity is copied from the files that the scan was read from",
        "its images are not there",
        "give the folder or zip of this scan, or leave the identity out",
    )


def _padding(dataset: pydicom.Dataset) -> Padding | None:
    """PixelPaddingValue, PixelPaddingRangeLimit and BitsStored, whatever the two values are written as."""
    first = _padding_number(dataset, "PixelPaddingValue")
    if first is None:
        return None
    return first, _padding_number(dataset, "PixelPaddingRangeLimit"), int(dataset.BitsStored)


def _padding_number(dataset: pydicom.Dataset, keyword: str) -> int | None:
    value = dataset.get(keyword)
    if isinstance(value, bytes):  # of an element whose type depends on another one
        little = dataset.file_meta.TransferSyntaxUID.is_little_endian
        value = int.from_bytes(value[:2], "little" if little else "big") if value else None
    try:
        return None if value is None else int(value)
    except (TypeError, ValueError):
        return None
