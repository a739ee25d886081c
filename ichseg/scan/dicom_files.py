"""DICOM files by their headers: which are images, and what of them is read.

Only the elements listed here are read, so that a patient's name or number does not enter the program.
"""

from __future__ import annotations

import io
import math
import zlib
from dataclasses import dataclass
from typing import Any, BinaryIO

import pydicom
from pydicom.uid import (
    UID,
    CTImageStorage,
    DeflatedExplicitVRLittleEndian,
    EnhancedCTImageStorage,
    LegacyConvertedEnhancedCTImageStorage,
)

from ichseg.errors import VolumeError, check_cancelled, refusal
from ichseg.scan.dicom_time import TIME_TAGS
from ichseg.scan.formats import InputFile
from ichseg.scan.hounsfield import check_sides, check_size
from ichseg.scan.series import Traits

CT_CLASSES = (CTImageStorage, EnhancedCTImageStorage, LegacyConvertedEnhancedCTImageStorage)

_MOST_INFLATED = 1 << 16
"""How much of a deflated file is inflated to learn which series it is of."""

_LEFT = {
    "1.2.840.10008.1.3.10": "{} CD index file{s}",
    "1.2.840.10008.5.1.4.1.1.88.": "{} structured report{s}",
    "1.2.840.10008.5.1.4.1.1.11.": "{} presentation state{s}",
    "1.2.840.10008.5.1.4.1.1.104.": "{} document{s}",
    "1.2.840.10008.5.1.4.1.1.66.": "{} segmentation{s}",
}
"""What DICOM files that are no image are called, by how their SOP class begins."""

DICOMDIR, _NO_IMAGE = _LEFT["1.2.840.10008.1.3.10"], "{} DICOM file{s} without an image"

HEADER_TAGS = [
    *("SOPClassUID", "SOPInstanceUID", "StudyInstanceUID", "FrameOfReferenceUID"),
    *("SeriesInstanceUID", "SeriesNumber", "SeriesDescription", "Modality"),
    *TIME_TAGS,
    *("ImageType", "NumberOfFrames", "SamplesPerPixel", "Rows", "Columns"),
    *("ImagePositionPatient", "ImageOrientationPatient", "PixelSpacing", "SliceThickness"),
    *("RescaleSlope", "RescaleIntercept"),
    *("ConvolutionKernel", "ContrastBolusAgent", "KVP", "BodyPartExamined"),
    *("AcquisitionNumber", "TemporalPositionIdentifier"),
    *("InstanceNumber", "ImagesInAcquisition", "NumberOfSlices", "NumberOfSeriesRelatedInstances"),
    *("SharedFunctionalGroupsSequence", "PerFrameFunctionalGroupsSequence"),
]

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
class Image:
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
        return given or ("CT" if self.kind in CT_CLASSES else "unknown")

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

    def traits(self, frame: int = 0) -> Traits:
        """What the header says of how a frame was made."""
        return Traits(
            kernel=self.text("ConvolutionKernel", frame),
            contrast_agent=self.text("ContrastBolusAgent"),
            image_type=tuple(image_type_of(self, frame)),
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


LeftOut = tuple[str, str]
"""What a file is that was passed over, and its name; see ``intake.passed_over``."""


def read_header(file: InputFile) -> Image | str | None:
    """The header of a DICOM image, without its pixels; what else a DICOM file is; None for any other file."""
    check_cancelled()
    with file.open() as stream:
        head = stream.read(1024)
        marked = head[128:132] == b"DICM"
        stream.seek(0)
        if DeflatedExplicitVRLittleEndian.encode() in head:
            # Rare, and pydicom inflates it without a limit: a small file could fill the memory.
            if left := left_kind(_meta_class(file, stream)):
                return left
            raise undecodable(file, DeflatedExplicitVRLittleEndian)
        try:
            # A warning about a value that breaks DICOM's rules would quote it, and that must reach no log.
            with pydicom.config.disable_value_validation():
                header = pydicom.dcmread(
                    stream, stop_before_pixels=True, force=not marked, specific_tags=HEADER_TAGS
                )
                list(header.iterall())  # pydicom converts a value when it is first seen
            meta = getattr(header, "file_meta", {})
            kind = str(header.get("SOPClassUID") or meta.get("MediaStorageSOPClassUID") or "")
        except Exception as error:  # pydicom raises many kinds on damaged files
            if not marked:
                return None
            raise truncated(file) from error
    if left := left_kind(kind):
        return left
    if not (marked or kind):
        return None
    if "Rows" not in header and kind not in CT_CLASSES:
        return _NO_IMAGE
    counts = [header.get("Rows"), header.get("Columns"), header.get("NumberOfFrames") or 1]
    if not all(isinstance(count, int) and count > 0 for count in counts):
        raise truncated(file)
    image = Image(file, header, kind)
    # Of all frames, also such as are no slice: they are decoded together.
    check_size(file.name, math.prod(check_sides(file.name, tuple(counts))), 2)
    groups = header.get("PerFrameFunctionalGroupsSequence")
    if groups is not None and len(groups) != image.frames:
        raise refusal(
            file.name,
            "a multi-frame file says of each of its frames where it lies",
            f"of {image.frames} frame{'' if image.frames == 1 else 's'} it describes {len(groups)}",
            "export the series again, as single images if that goes on",
        )
    return image


def left_kind(kind: str) -> str:
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
        raise truncated(file) from error


def read_series_uid(file: InputFile) -> str:
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


def truncated(file: InputFile, detail: str = "it breaks off or is damaged") -> VolumeError:
    """What to raise of a file that is damaged."""
    rule = "a DICOM file must be whole"
    return refusal(file.name, rule, detail, "copy it or send it from the archive again")


def image_type_of(image: Image, frame: int = 0) -> list[str]:
    """The values of a frame's type, else of the image's, upper case."""
    value = image.find("FrameType", frame) or image.header.get("ImageType") or []
    return [value.upper()] if isinstance(value, str) else [str(part).upper() for part in value]


def undecodable(file: InputFile, syntax: UID) -> VolumeError:
    """What to raise of pixels that no decoder here reads."""
    return refusal(
        file.name,
        "pixels are plain, RLE, JPEG, JPEG-LS or JPEG 2000",
        f"these are {syntax.name}",
        "export the series uncompressed",
    )
