"""Masks as DICOM-SEG, read: this program's or another's, onto the scan that they were drawn on."""

from __future__ import annotations

import io
import math
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pydicom
from numpy.typing import NDArray
from pydicom.sr.coding import Code
from pydicom.uid import (
    UID,
    DeflatedExplicitVRLittleEndian,
    SegmentationStorage,
)

from ichseg.errors import VolumeError, refusal
from ichseg.files.mask_grid import place_plane
from ichseg.files.mask_header import MaskContent, parse_record
from ichseg.marks.lesion import MAX_LESIONS, Lesion
from ichseg.scan.dicom_source import DicomSource, stored_grid
from ichseg.scan.hounsfield import check_size
from ichseg.scan.volume import CTVolume, ScanPath

if TYPE_CHECKING:
    from highdicom.seg import SegmentDescription
from ichseg.files.dicom_seg import PRIVATE_CREATOR, PRIVATE_GROUP, PRIVATE_RECORD
from ichseg.files.segments import (
    overlap_notes,
    segment_lesion,
    type_of,
    unfit_notes,
)

_LABEL_MAP = "1.2.840.10008.5.1.4.1.1.66.7"
_REMEDY = "give the DICOM-SEG that was drawn on this scan"
_FRACTIONS = ("PROBABILITY", "OCCUPANCY")


@dataclass(frozen=True)
class _Frame:
    """One frame of a segmentation: its segment (0 where its values are segments), and where it lies (LPS, mm)."""

    segment: int
    position: tuple[float, ...]
    orientation: tuple[float, ...]
    spacing: tuple[float, ...]


def read_segmentation(path: ScanPath, volume: CTVolume) -> MaskContent:
    """Read a DICOM-SEG, ours or another program's, onto the scan that it was drawn on.

    Binary segments, fractional ones (cut at a half), and label maps are read. A frame goes to the slice where
    it lies, which in an uneven or tilted series is the slice's own place; one without a position to the image that it
    refers to. A label is the segment's number, or that of the lesion where this program wrote the file.

    Raises:
        VolumeError: no DICOM-SEG, or one of other images or of another grid than the scan's.

    """
    path = Path(path)
    name = path.name
    dataset, described = _opened(path)
    record = _record_of(dataset)
    refers = _check_images(name, dataset, volume)
    labels = np.zeros(volume.shape_zyx, dtype=np.uint8)
    numbers = _label_numbers(name, described, record)
    overlapping = 0
    frames = _frames(name, dataset, volume)
    pixels, fractions = _in_or_out(name, dataset, _pixels(name, dataset))
    for frame, values in zip(frames, pixels, strict=True):
        where, plane = _in_place(name, frame, values, volume)
        part = labels[where]
        for value in np.unique(plane[plane != 0]):
            label = numbers.get(frame.segment or int(value))
            if label is None:
                raise refusal(
                    name,
                    "a frame is of one of the segments that are described",
                    f"it names segment {frame.segment or int(value)}",
                    "save the segmentation again",
                )
            mask = plane == value
            overlapping += int(np.count_nonzero(mask & (part != 0) & (part != label)))
            part[mask] = label
    lesions, strange = _described_lesions(name, described, numbers, record)
    return MaskContent(
        labels, record, lesions, refers, (*fractions, *overlap_notes(name, overlapping), *strange)
    )


def _opened(path: Path) -> tuple[pydicom.Dataset, list[SegmentDescription]]:
    """The dataset of a segmentation and its segments' descriptions, refused where it is none."""
    from highdicom.seg import SegmentDescription

    rule, content = "a mask in DICOM is a whole DICOM-SEG", path.read_bytes()
    if DeflatedExplicitVRLittleEndian.encode() in content[:1024]:
        # pydicom inflates it without a limit: a small file could fill the memory.
        raise refusal(path.name, rule, "this file is deflated", "save it uncompressed")
    try:
        # A warning about a value that breaks DICOM's rules would quote it, and this must reach no log.
        with warnings.catch_warnings(action="ignore"), pydicom.config.disable_value_validation():
            dataset = pydicom.dcmread(io.BytesIO(content))
            list(dataset.iterall())  # pydicom converts, and checks, a value when it is first seen
            kind = UID(dataset.SOPClassUID)
            if kind not in (SegmentationStorage, _LABEL_MAP):
                raise refusal(path.name, rule, f"this is {kind.name}", _REMEDY)
            described = [
                SegmentDescription.from_dataset(segment)
                for segment in dataset.SegmentSequence
                if segment.SegmentNumber
            ]
    except VolumeError:
        raise
    except Exception as error:  # pydicom raises many kinds on damaged files
        raise refusal(path.name, rule, f"it cannot be read ({error})", _REMEDY) from error
    return dataset, described


def _record_of(dataset: pydicom.Dataset) -> dict[str, Any]:
    """What this program said in a file of its own; empty for other programs'."""
    try:
        text = dataset.private_block(PRIVATE_GROUP, PRIVATE_CREATOR)[PRIVATE_RECORD].value
    except (KeyError, AttributeError):
        return {}
    return parse_record(str(text)) or {}


def _check_images(name: str, dataset: pydicom.Dataset, volume: CTVolume) -> bool:
    """Whether the file refers to the scan's images; refused where it refers to others."""
    source = volume.dicom
    if source is None:
        return False
    referred = {
        str(element.value)
        for element in dataset.iterall()
        if element.keyword == "ReferencedSOPInstanceUID"
    }
    if referred & {one.sop_instance_uid for one in source.slices}:
        return True
    frame_of_reference = str(dataset.get("FrameOfReferenceUID", ""))
    if not referred and frame_of_reference == source.frame_of_reference_uid:
        return bool(frame_of_reference)
    images = "1 other" if len(referred) == 1 else f"{len(referred)} others"
    raise refusal(
        name,
        "a DICOM-SEG refers to the images of its scan",
        f"it refers to {images}"
        if referred
        else "it refers to none, in another frame of reference",
        _REMEDY,
    )


def _frames(name: str, dataset: pydicom.Dataset, volume: CTVolume) -> list[_Frame]:
    """Segment and place of every frame."""
    shared = (dataset.get("SharedFunctionalGroupsSequence") or [pydicom.Dataset()])[0]
    try:
        return [
            _frame(groups, shared, volume.dicom)
            for groups in dataset.PerFrameFunctionalGroupsSequence
        ]
    except (AttributeError, IndexError, KeyError, TypeError, ValueError) as error:
        raise refusal(
            name,
            "every frame of a DICOM-SEG says where it lies and of which segment it is",
            f"one does not ({error})",
            "save the segmentation again",
        ) from error


def _frame(groups: pydicom.Dataset, shared: pydicom.Dataset, source: DicomSource | None) -> _Frame:
    def group(keyword: str) -> pydicom.Dataset:
        items = groups.get(keyword) or shared.get(keyword) or [pydicom.Dataset()]
        return items[0]

    position = group("PlanePositionSequence").get("ImagePositionPatient")
    orientation = group("PlaneOrientationSequence").get("ImageOrientationPatient")
    spacing = group("PixelMeasuresSequence").get("PixelSpacing")
    if position is None and source is not None:
        places = {(one.sop_instance_uid, one.frame): one for one in source.slices}
        (image,) = group("DerivationImageSequence").SourceImageSequence
        at = int(image.get("ReferencedFrameNumber") or 1) - 1
        position = places[image.ReferencedSOPInstanceUID, at].position_lps_mm
        orientation, spacing = source.orientation, source.spacing_mm
    segment = group("SegmentIdentificationSequence").get("ReferencedSegmentNumber", 0)
    numbers = [tuple(float(number) for number in one) for one in (position, orientation, spacing)]
    if [len(one) for one in numbers] != [3, 6, 2] or not all(
        math.isfinite(number) for one in numbers for number in one
    ):
        raise ValueError("its position, orientation or pixel spacing is not whole")
    if min(numbers[2]) <= 0 or not np.linalg.norm(np.cross(numbers[1][:3], numbers[1][3:])) > 0.5:
        raise ValueError("its orientation or pixel spacing is none")
    return _Frame(int(segment), *numbers)


def _pixels(name: str, dataset: pydicom.Dataset) -> NDArray[Any]:
    """Every frame's stored values [frame, row, column]: 0 and 1, numbers of segments, or fractions of a maximum."""
    frames = len(dataset.PerFrameFunctionalGroupsSequence)
    try:
        check_size(name, frames * int(dataset.Rows) * int(dataset.Columns), 1)
        values = dataset.pixel_array.reshape(frames, dataset.Rows, dataset.Columns)
    except VolumeError:
        raise
    except Exception as error:  # each decoder raises its own
        raise refusal(
            name,
            "a DICOM-SEG must be whole",
            "its pixels break off or are damaged",
            "copy it or send it from the archive again",
        ) from error
    return np.asarray(values)


def _in_or_out(
    name: str, dataset: pydicom.Dataset, values: NDArray[Any]
) -> tuple[NDArray[Any], tuple[str, ...]]:
    """The values of a binary segmentation or a label map as they are; those of a fractional one cut, with a note.

    A fraction of a half and more is in: no standard says where to cut, and highdicom gives the fractions as they are.
    Some writers store 1 for in, whatever the maximum: without any other value but 0 that is what 1 means (dcmjs,
    pull request 309).
    """
    if dataset.get("SegmentationType") != "FRACTIONAL":
        return values, ()
    most = int(dataset.get("MaximumFractionalValue") or 255)
    there = np.unique(values)
    if there[-1] <= 1:
        return values, ()
    kind = str(dataset.get("SegmentationFractionalType") or "")
    between = np.count_nonzero((values != 0) & (values != most))
    if not between:
        return np.asarray(values != 0), ()
    given = kind.lower() if kind in _FRACTIONS else "of no known kind"
    chosen = np.asarray(values >= most / 2)
    if kind not in _FRACTIONS or there[-1] > most or not chosen.any():
        raise refusal(
            name,
            "a fractional segmentation is of probability or occupancy, of which a half and more is blood",
            f"this one is {given}, with values from {there[0]} to {there[-1]} of {most}",
            "set a threshold where it was made, and save it as a binary segmentation",
        )
    return chosen, (
        f"{name} is a fractional segmentation ({given}): what has a half of its maximum or more was taken as in;"
        f" {between:,} values lie between none and all.",
    )


def _in_place(
    name: str, frame: _Frame, values: NDArray[Any], volume: CTVolume
) -> tuple[tuple[int, slice, slice], NDArray[Any]]:
    """Where a frame belongs in the scan's array, and its values turned to the display frame."""
    rows, columns = values.shape
    axes, flips, grid = stored_grid(
        [frame.position], frame.orientation, frame.spacing, (rows, columns)
    )
    if axes[0] != 0:
        raise refusal(name, "a mask has the scan's axial slices", "its own are not axial", _REMEDY)
    turned = values.transpose(axes[1] - 1, axes[2] - 1)
    plane = np.flip(turned, tuple(axis for axis, flip in enumerate(flips[1:]) if flip))
    return place_plane(name, grid, plane.shape, volume), plane


def _label_numbers(
    name: str, described: Sequence[SegmentDescription], record: Mapping[str, Any]
) -> dict[int, int]:
    """The label of each segment: its number, or in a file of this program that of the lesion."""
    numbers = {}
    for segment in described:
        label = number = int(segment.segment_number)
        begin, _, lesion = (segment.tracking_id or "").partition(" ")
        if record and begin == "lesion" and lesion.isdecimal():
            label = int(lesion)
        if not 0 < label <= MAX_LESIONS:
            raise refusal(
                name,
                f"a mask has segments 1 to {MAX_LESIONS}",
                f"this one has a segment {label}",
                "save those of the blood alone",
            )
        numbers[number] = label
    return numbers


def _described_lesions(
    name: str,
    described: Sequence[SegmentDescription],
    numbers: Mapping[int, int],
    record: Mapping[str, Any],
) -> tuple[tuple[Lesion, ...], tuple[str, ...]]:
    """The segments as lesions, and what to say of those whose type is none; nothing where the record has them."""
    from highdicom.color import CIELabColor

    if record.get("lesions"):
        return (), ()
    lesions, strange = [], []
    for segment in described:
        label = str(segment.segment_label)
        kind, *regions = (
            Code(code.value, code.scheme_designator, code.meaning)
            for code in (segment.segmented_property_type, *segment.anatomic_regions)
        )
        found = type_of(kind, regions, label)
        if found is None:
            strange.append(f"{label} ({kind.meaning})")
        colour = segment.get("RecommendedDisplayCIELabValue")
        rgb = CIELabColor.from_dicom_value(colour).to_rgb() if colour else None
        lesions.append(segment_lesion(numbers[int(segment.segment_number)], label, found, rgb))
    return tuple(lesions), unfit_notes(name, strange)
