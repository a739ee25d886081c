"""Masks as DICOM-SEG, written: segments on the source images' own grid, with references to them.

DICOM's LPS patient coordinates are met only here, in ``dicom_seg_read`` and in the readers of scans. No patient's name
or number is in a file unless it is asked for.
"""

from __future__ import annotations

import copy
import io
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import pydicom
from numpy.typing import NDArray
from pydicom.uid import (
    generate_uid,
)

from ichseg import NOTICE, __version__
from ichseg.errors import refusal
from ichseg.files.mask_header import mask_record, record_text, short_text
from ichseg.marks.lesion import TYPES, Lesion
from ichseg.scan.dicom import read_elements
from ichseg.scan.dicom_source import DicomSource, SourceSlice
from ichseg.scan.volume import CTVolume, ScanPath

if TYPE_CHECKING:
    from highdicom.seg import SegmentDescription
from ichseg.files.segments import (
    ABNORMAL,
    codes_of,
)

_IDENTITY = [
    *("PatientName", "PatientID", "PatientBirthDate", "PatientSex"),
    *("StudyDate", "StudyTime", "StudyID", "AccessionNumber", "ReferringPhysicianName"),
]
"""What a DICOM-SEG needs so that an archive files it with its study; empty unless asked for."""

PRIVATE_GROUP, PRIVATE_CREATOR, PRIVATE_RECORD = 0x0099, "ICHSEG", 0x01
"""Where the record of ``mask_header`` stands: a private element, for DICOM has none for a hash of voxels."""


def segmentation_bytes(
    labels_zyx: NDArray[Any],
    volume: CTVolume,
    lesions: Sequence[Lesion],
    *,
    model: str | None = None,
    weights_sha256: Mapping[str, str] | None = None,
    made: str = "",
    identity_from: ScanPath | Sequence[ScanPath] | None = None,
) -> bytes:
    """A mask as DICOM-SEG: a binary segment a lesion, on the source images' own grid, with references to them.

    Each slice keeps its own position, so tilted and unevenly spaced series are as they were scanned. Every source
    image is referred to by its UIDs, which link the file to the scan in its archive.

    By DICOM's nature a SEG has the patient module of its source images. Here it is left **empty**, with the study's
    date and numbers, and marked as de-identified: nothing of it was ever read. A viewer that opens it beside the scan
    finds the images by UID; an archive files it with the patient only with ``identity_from``, which copies the
    patient's name, number, birth date and sex and the study's elements from the scan's files into this one.

    Args:
        labels_zyx: whole numbers, [z, y, x] of the scan's shape; each lesion's voxels have its number.
        volume: the scan, read from DICOM.
        lesions: what the numbers stand for; those without a voxel are left out.
        model: the method whose masks they are, or None for masks drawn by hand.
        weights_sha256: its weight files and their hashes.
        made: what decided the mask besides (``mask_header.mask_record``).
        identity_from: the files that the scan was read from, to copy the patient's identity from them.

    Raises:
        VolumeError: a scan that is not DICOM or lacks the UIDs to refer to, several multi-frame files, an empty mask,
            another shape, or ``identity_from`` without the scan's images.

    """
    from highdicom.seg import (
        Segmentation,
    )  # takes a while to import: only when there is one to write

    source = checked_source(volume)
    if labels_zyx.shape != volume.shape_zyx:
        raise refusal(
            "DICOM-SEG",
            f"a mask has the scan's shape {volume.shape_zyx}",
            f"this one has {labels_zyx.shape}",
            "give the mask that was made on this scan",
        )
    present = [lesion for lesion in lesions if (labels_zyx == lesion.id).any()]
    if not present:
        raise refusal(
            "DICOM-SEG",
            "it holds one lesion or more",
            "the mask has no voxel of one",
            "draw a box around the blood first",
        )
    segments = np.zeros(volume.shape_zyx, dtype=np.uint8)
    for number, lesion in enumerate(present, 1):
        segments[labels_zyx == lesion.id] = number
    stored = source.to_stored(segments)
    record = mask_record(volume, present, method=model, made=made)
    if source.is_multi_frame:
        stored = stored[np.argsort([one.frame for one in source.slices])]
    dataset = Segmentation(
        source_images=source_images(source),
        pixel_array=np.ascontiguousarray(stored),
        segmentation_type="BINARY",
        segment_descriptions=[
            _segment_description(number, lesion, model, weights_sha256 or {})
            for number, lesion in enumerate(present, 1)
        ],
        series_instance_uid=generate_uid(),
        series_number=1000,
        sop_instance_uid=generate_uid(),
        instance_number=1,
        manufacturer="ichseg",
        manufacturer_model_name=model or "manual",
        software_versions=__version__,
        device_serial_number="none",
        content_description=short_text(record, 64).replace("\\", "/"),
        content_label="HEMATOMA",
        series_description="Hematoma segmentation, research only",
        specific_character_set="ISO_IR 192",
    )
    _set_thicknesses(dataset, source)
    if (
        volume.warnings
    ):  # what makes its millilitres doubtful; a description has room for 64 signs alone
        dataset.ImageComments = " ".join(volume.warnings)[:10240]
    block = dataset.private_block(PRIVATE_GROUP, PRIVATE_CREATOR, create=True)
    block.add_new(PRIVATE_RECORD, "UT", record_text(record))
    set_identity(dataset, source, identity_from)
    content = io.BytesIO()
    dataset.save_as(content)
    return content.getvalue()


def set_identity(
    dataset: pydicom.Dataset,
    source: DicomSource,
    identity_from: ScanPath | Sequence[ScanPath] | None,
) -> None:
    """Copy the patient's and the study's elements from the scan's files into a file, or say that they were left out."""
    if identity_from is None:
        dataset.PatientIdentityRemoved = "YES"
        dataset.DeidentificationMethod = "Patient and study elements left empty, UIDs kept"
    else:
        dataset.update(read_elements(identity_from, source, _IDENTITY))


def checked_source(volume: CTVolume) -> DicomSource:
    """The scan's DICOM source, refused where a DICOM-SEG cannot refer to it."""
    source = volume.dicom
    rule = "a DICOM-SEG refers to the DICOM images of its scan"
    if source is None:
        raise refusal(volume.name, rule, "this scan is NIfTI", "export NIfTI, or open the DICOM")
    uids = [one.sop_instance_uid for one in source.slices]
    own = (source.study_uid, source.series_uid, source.slices[0].sop_class_uid, *uids)
    lacking = not all(own)
    files = {(one.sop_instance_uid, one.frame) for one in source.slices}
    if lacking or len(files) < len(uids):
        received = "its files lack study, series or image UIDs of their own"
        raise refusal(volume.name, rule, received, "export the series from the archive again")
    if source.is_multi_frame and len(set(uids)) > 1:
        raise refusal(
            volume.name,
            "a DICOM-SEG refers to single images or to one multi-frame file",
            f"this series is {len(set(uids))} multi-frame files",
            "export the series as single images",
        )
    if source.is_multi_frame and len(uids) < source.slices[0].frames:
        raise refusal(
            volume.name,
            "a DICOM-SEG refers to all frames of a multi-frame file",
            f"this scan is {len(uids)} of its {source.slices[0].frames} frames",
            "export this phase as single images",
        )
    return source


def source_images(source: DicomSource) -> list[pydicom.Dataset]:
    """Headers of the source images with all that highdicom reads of them, and an empty patient module."""
    # Some anonymisers take the frame of reference out. Any one will do then: it is the series' own.
    frame_of_reference = source.frame_of_reference_uid or generate_uid(
        entropy_srcs=[source.series_uid]
    )
    images = []
    for one in source.slices[: 1 if source.is_multi_frame else None]:
        image = pydicom.Dataset()
        for keyword in _IDENTITY:
            setattr(image, keyword, "")
        image.Modality = "CT"
        image.SOPClassUID, image.SOPInstanceUID = one.sop_class_uid, one.sop_instance_uid
        image.StudyInstanceUID, image.SeriesInstanceUID = source.study_uid, source.series_uid
        image.FrameOfReferenceUID = frame_of_reference
        image.Rows, image.Columns = source.shape
        if source.is_multi_frame:
            image.NumberOfFrames = one.frames
            image.SharedFunctionalGroupsSequence = [_item(**_grid_groups(source, one))]
            image.PerFrameFunctionalGroupsSequence = [
                _item(
                    PlanePositionSequence=[_item(ImagePositionPatient=list(each.position_lps_mm))]
                )
                for each in sorted(source.slices, key=lambda each: each.frame)
            ]
        else:
            for items in _grid_groups(source, one).values():
                image.update(items[0])
            image.ImagePositionPatient = list(one.position_lps_mm)
        images.append(image)
    return images


def _grid_groups(source: DicomSource, one: SourceSlice) -> dict[str, list[pydicom.Dataset]]:
    """The functional groups that say how a slice's pixels lie."""
    return {
        "PlaneOrientationSequence": [_item(ImageOrientationPatient=list(source.orientation))],
        "PixelMeasuresSequence": [
            _item(PixelSpacing=list(source.spacing_mm), SliceThickness=one.thickness_mm)
        ],
    }


def _item(**elements: Any) -> pydicom.Dataset:
    item = pydicom.Dataset()
    for keyword, value in elements.items():
        setattr(item, keyword, value)
    return item


def _set_thicknesses(dataset: pydicom.Dataset, source: DicomSource) -> None:
    """Give each frame its slice's own thickness where a series has several; highdicom writes one for all."""
    if len({one.thickness_mm for one in source.slices}) == 1:
        return
    (shared,) = dataset.SharedFunctionalGroupsSequence
    (measures,) = shared.PixelMeasuresSequence
    places = np.array([one.position_lps_mm for one in source.slices])
    for frame in dataset.PerFrameFunctionalGroupsSequence:
        place = np.array(frame.PlanePositionSequence[0].ImagePositionPatient, dtype=float)
        nearest = source.slices[int(np.linalg.norm(places - place, axis=1).argmin())]
        own = copy.deepcopy(measures)
        own.SliceThickness = nearest.thickness_mm
        frame.PixelMeasuresSequence = [own]
    del shared.PixelMeasuresSequence


def _segment_description(
    number: int, lesion: Lesion, model: str | None, weights_sha256: Mapping[str, str]
) -> SegmentDescription:
    from highdicom import AlgorithmIdentificationSequence
    from highdicom.color import CIELabColor
    from highdicom.seg import SegmentDescription
    from pydicom.sr.codedict import codes

    kind, region = codes_of(lesion.type)
    algorithm = None
    if model is not None:
        algorithm = AlgorithmIdentificationSequence(
            name=model,
            family=codes.DCM.ArtificialIntelligence,
            version=__version__,
            parameters={file: f"sha256 {sha}" for file, sha in weights_sha256.items()} or None,
        )
    description = SegmentDescription(
        segment_number=number,
        segment_label=lesion.name.replace("\\", "/"),
        segmented_property_category=ABNORMAL,
        segmented_property_type=kind,
        anatomic_regions=[region],
        algorithm_type="MANUAL" if model is None else "SEMIAUTOMATIC",
        algorithm_identification=algorithm,
        tracking_uid=generate_uid(),
        tracking_id=f"lesion {lesion.id}",
        display_color=CIELabColor.from_rgb(*lesion.rgb),
    )
    description.SegmentDescription = f"{TYPES[lesion.type].title}. {NOTICE}"
    return description
