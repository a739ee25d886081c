"""The slices in DICOM images, one frame or many: their places, and their stored values as Hounsfield planes."""

from __future__ import annotations

import io
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pydicom
from numpy.typing import NDArray
from pydicom.pixels.decoders.base import get_decoder
from pydicom.uid import (
    UID,
    ExplicitVRLittleEndian,
    ImplicitVRLittleEndian,
)

from ichseg.scan.dicom_files import HEADER_TAGS, Image, LeftOut, truncated, undecodable
from ichseg.scan.dicom_source import (
    LPS_TO_RAS,
    direction_columns,
    stored_grid,
)
from ichseg.scan.formats import InputFile
from ichseg.scan.geometry import Geometry, check_spacing
from ichseg.scan.hounsfield import (
    Plane,
    padding_mask,
)
from ichseg.scan.series import Traits

_PIXEL_TAGS = [
    *("PhotometricInterpretation", "PlanarConfiguration", "PixelRepresentation"),
    *("BitsAllocated", "BitsStored", "HighBit", "PixelPaddingValue", "PixelPaddingRangeLimit"),
    *("ExtendedOffsetTable", "ExtendedOffsetTableLengths", "PixelData"),
]

Padding = tuple[int, int | None, int]


@dataclass(frozen=True)
class Slice:
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
    traits: Traits
    number: int | None = None

    @property
    def along_normal_mm(self) -> float:
        """Its place along the slices' normal."""
        normal = direction_columns(self.orientation)[:, 0] * LPS_TO_RAS
        return float(normal @ self.position)


def fit_slices(images: Sequence[Image]) -> tuple[list[Slice], list[LeftOut]]:
    """The slices of a series, and what is wrong with its other images, each with its file."""
    slices: list[Slice] = []
    unfit: list[LeftOut] = []
    for image in images:
        for frame in range(image.frames):
            flaw = flaw_of(image, frame)
            if flaw:
                unfit.append((flaw, image.file.name))
            else:
                slices.append(slice_of(image, frame))
    return slices, unfit


def flaw_of(image: Image, frame: int) -> str:
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


def slice_of(image: Image, frame: int) -> Slice:
    """A slice of an image that has no flaw."""
    header = image.header
    position = image.numbers("ImagePositionPatient", 3, frame)
    orientation = image.numbers("ImageOrientationPatient", 6, frame)
    spacing = image.numbers("PixelSpacing", 2, frame)
    assert position is not None and orientation is not None and spacing is not None
    (slope,) = image.numbers("RescaleSlope", 1, frame) or (1.0,)
    (intercept,) = image.numbers("RescaleIntercept", 1, frame) or (0.0,)
    (thickness,) = image.numbers("SliceThickness", 1, frame) or (None,)
    return Slice(
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


def geometry_of(
    name: str, slices: Sequence[Slice]
) -> tuple[tuple[int, int, int], tuple[bool, bool, bool], Geometry]:
    """How to turn the stored slices to the display frame, and the geometry of the result."""
    one = slices[0]
    positions = [each.position for each in slices]
    axes, flips, geometry = stored_grid(positions, one.orientation, one.spacing, one.shape)
    check_spacing(name, geometry)
    return axes, flips, geometry


def turned_shape(shape: tuple[int, int], axes: tuple[int, int, int]) -> tuple[int, int]:
    """Rows and columns of a stored slice in the display frame."""
    return shape[axes[1] - 1], shape[axes[2] - 1]


def stored_planes(
    slices: Sequence[Slice],
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
            file, (frames, padding) = one.file, decode(one)
        values = np.flip(frames[one.frame].transpose(turn), flipped)
        outside = None if padding is None else padding_mask(values, *padding)
        yield Plane(values, one.slope, one.intercept + add_offset, outside)


def _has_decoder(syntax: UID) -> bool:
    try:
        return get_decoder(syntax).is_available
    except NotImplementedError:
        return False


def decode(one: Slice) -> tuple[NDArray[Any], Padding | None]:
    """The stored values of every frame of a slice's file, [frame, row, column], and what it calls padding."""
    try:
        with one.file.open() as stream:
            data = io.BytesIO(stream.read())  # nameless: pydicom puts a file's path in its warnings
        dataset = pydicom.dcmread(data, force=True, specific_tags=HEADER_TAGS + _PIXEL_TAGS)
        if "TransferSyntaxUID" not in dataset.file_meta:  # an old export without a preamble
            implicit, _ = dataset.original_encoding
            plain = ImplicitVRLittleEndian if implicit else ExplicitVRLittleEndian
            dataset.file_meta.TransferSyntaxUID = plain
        syntax = dataset.file_meta.TransferSyntaxUID
        readable = not syntax.is_compressed or _has_decoder(syntax)
    except Exception as error:  # pydicom raises many kinds on damaged files
        raise truncated(one.file) from error
    if not readable:
        raise undecodable(one.file, syntax)
    try:
        frames = int(dataset.get("NumberOfFrames") or 1)
        return dataset.pixel_array.reshape(frames, *one.shape), _padding(dataset)
    except Exception as error:  # so does each decoder
        raise truncated(one.file, "its pixels break off or are damaged") from error


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
