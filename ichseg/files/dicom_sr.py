"""What was measured as a DICOM structured report (TID 1500), which refers to the DICOM-SEG that holds the masks.

A group for each lesion (TID 1411) with its volume, its longest lines and ABC/2, one for all blood where there are
several, and one for the growth where there is a second scan. Each names the algorithm, its version and what decided it.
Concepts that no standard has are of the scheme 99ICHSEG.
"""

from __future__ import annotations

import io
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any

import pydicom
from pydicom.sr.codedict import codes
from pydicom.sr.coding import Code
from pydicom.uid import generate_uid

from ichseg import NOTICE, __version__
from ichseg.files.dicom_seg import checked_source, set_identity, source_images
from ichseg.files.segments import ABNORMAL, codes_of
from ichseg.marks.lesion import HEMORRHAGE, Lesion
from ichseg.measures.assessment import Assessment
from ichseg.measures.growth import DEFINITIONS, Growth
from ichseg.measures.values import Measures
from ichseg.scan.dicom_source import DicomSource
from ichseg.scan.volume import ScanPath

if TYPE_CHECKING:
    from highdicom.sr import Measurement

SCHEME = "99ICHSEG"

_ML, _MM = Code("mL", "UCUM", "milliliter"), codes.UCUM.Millimeter
_ML_PER_HOUR = Code("mL/h", "UCUM", "milliliter per hour")
_BY_SLICES = codes.DCM.SumOfSegmentedVoxelMethodForVolume
_ABC2 = Code("ABC2", SCHEME, "ABC/2 (Kothari et al., Stroke 1996)")
_LINES = {
    "a": Code("ABC2_A", SCHEME, "ABC/2: A, longest diameter of the largest slice"),
    "b": Code("ABC2_B", SCHEME, "ABC/2: B, at right angles to A"),
    "c": Code("ABC2_C", SCHEME, "ABC/2: C, weighted depth"),
}
_GROWTH = {
    "baseline_ml": (Code("BASELINE", SCHEME, "Volume on the baseline scan"), _ML),
    "followup_ml": (Code("FOLLOWUP", SCHEME, "Volume on the follow-up scan"), _ML),
    "growth_ml": (Code("GROWTH", SCHEME, "Growth of volume"), _ML),
    "growth_percent": (
        Code("GROWTH_PCT", SCHEME, "Growth of volume, of the baseline"),
        codes.UCUM.Percent,
    ),
    "hours": (Code("HOURS", SCHEME, "Time between the scans"), codes.UCUM.Hour),
    "growth_ml_per_hour": (Code("GROWTH_RATE", SCHEME, "Growth of volume per hour"), _ML_PER_HOUR),
    "ivh_growth_ml": (Code("IVH_GROWTH", SCHEME, "Growth of intraventricular blood"), _ML),
}
_WITHIN_ERROR = Code("WITHIN_ERROR", SCHEME, "Growth is within readers' measurement error")
_ANSWERS = {True: codes.SCT.Yes, False: codes.SCT.No, None: codes.SCT.Undetermined}

_MOST_TEXT = 1024
"""Of one text, in characters, so that viewers show it whole."""


def report_bytes(
    found: Assessment,
    segmentation: bytes,
    identity_from: ScanPath | Sequence[ScanPath] | None = None,
) -> bytes:
    """An assessment as a structured report on the masks of a DICOM-SEG.

    Args:
        found: what was measured, of a scan read from DICOM.
        segmentation: the DICOM-SEG of the same masks (``dicom_seg.segmentation_bytes``): its segments are referred to.
        identity_from: as the DICOM-SEG takes it; without it the patient module is left empty.

    Raises:
        VolumeError: as ``segmentation_bytes``.

    """
    from highdicom import sr  # takes a while to import: only when there is one to write
    from highdicom.coding_schemes import CodingSchemeIdentificationItem
    from highdicom.sr import CodedConcept

    source = checked_source(found.volume)
    images = source_images(source)
    masks = pydicom.dcmread(io.BytesIO(segmentation))
    device = sr.DeviceObserverIdentifyingAttributes(
        uid=generate_uid(entropy_srcs=["ichseg", __version__]),
        name="ichseg",
        manufacturer_name="ichseg",
        model_name=found.model or "manual",
    )
    context = sr.ObservationContext(
        observer_device_context=sr.ObserverContext(codes.DCM.Device, device)
    )
    report = sr.MeasurementReport(
        observation_context=context,
        procedure_reported=codes.LN.HeadCT,
        imaging_measurements=list(_groups(found, source, masks)),
        title=codes.DCM.ImagingMeasurementReport,
        language_of_content_item_and_descendants=sr.LanguageOfContentItemAndDescendants(
            language=CodedConcept("en", "RFC5646", "English")
        ),
    )
    dataset = sr.ComprehensiveSR(
        evidence=[*images, masks],
        content=report[0],
        series_instance_uid=generate_uid(),
        series_number=1001,
        sop_instance_uid=generate_uid(),
        instance_number=1,
        manufacturer="ichseg",
        manufacturer_model_name=found.model or "manual",
        software_versions=__version__,
        device_serial_number="none",
        is_complete=True,
        series_description="Hematoma measurements, research only",
        specific_character_set="ISO_IR 192",
        coding_schemes=[CodingSchemeIdentificationItem(SCHEME, name="Concepts of ichseg alone")],
    )
    set_identity(dataset, source, identity_from)
    content = io.BytesIO()
    dataset.save_as(content)
    return content.getvalue()


def _groups(found: Assessment, source: DicomSource, masks: pydicom.Dataset) -> Iterable[Any]:
    """The groups of measurements, in the order of the segments."""
    from highdicom import sr

    by_id = {lesion.id: lesion for lesion in found.lesions}
    for segment in masks.SegmentSequence:
        lesion = by_id[int(segment.TrackingID.split()[-1])]
        kind, region = codes_of(lesion.type)
        group = sr.VolumetricROIMeasurementsAndQualitativeEvaluations(
            tracking_identifier=sr.TrackingIdentifier(segment.TrackingUID, segment.TrackingID),
            referenced_segment=sr.ReferencedSegment(
                masks.SOPClassUID,
                masks.SOPInstanceUID,
                segment.SegmentNumber,
                source_series=sr.SourceSeriesForSegmentation(source.series_uid),
            ),
            finding_category=ABNORMAL,
            finding_type=kind,
            finding_sites=[sr.FindingSite(region)],
            algorithm_id=_algorithm(found),
            measurements=_measurements(found.measures_of(lesion.id)),
        )
        yield _with_texts(group, [_called(lesion)])
    told = [*found.warnings, *found.notes, NOTICE]
    yield _with_texts(
        sr.MeasurementsAndQualitativeEvaluations(
            tracking_identifier=sr.TrackingIdentifier(generate_uid(), "all blood"),
            finding_category=ABNORMAL,
            finding_type=_hemorrhage(),
            algorithm_id=_algorithm(found),
            measurements=_measurements(found.measures_of(None)),
        ),
        told if found.growth is None else told[:-1],
    )
    if found.growth is not None:
        yield _with_texts(_growth_group(found, found.growth), [*_growth_texts(found), NOTICE])


def _measurements(one: Measures) -> list[Measurement]:
    """Volume, longest lines and ABC/2; what there is no value of is left out."""
    from highdicom.sr import Measurement

    longest = codes.SCT.Maximum
    given = [Measurement(codes.SCT.Volume, one.volume_ml, _ML, method=_BY_SLICES)]
    if one.longest_in_plane is not None:
        length_mm = one.longest_in_plane.length_mm
        given.append(Measurement(codes.SCT.LongAxis, length_mm, _MM, derivation=longest))
    if one.longest_in_3d is not None:
        length_mm = one.longest_in_3d.length_mm
        given.append(Measurement(codes.SCT.Diameter, length_mm, _MM, derivation=longest))
    if one.abc2 is not None:
        abc = one.abc2
        given.append(Measurement(codes.DCM.VolumeOfEllipsoid, abc.volume_ml, _ML, method=_ABC2))
        lines_mm = {"a": abc.a.length_mm, "b": abc.b.length_mm, "c": abc.c_mm}
        given += [Measurement(_LINES[name], mm, _MM) for name, mm in lines_mm.items()]
    return given


def _growth_group(found: Assessment, growth: Growth) -> Any:
    from highdicom import sr

    values = {name: getattr(growth, name) for name in _GROWTH}
    evaluations = [
        sr.QualitativeEvaluation(
            Code(
                f"EXP_{one.name.upper()}"[:16], SCHEME, f"Hematoma expansion, {one.name} definition"
            ),
            _ANSWERS[one.expansion],
        )
        for one in growth.verdicts
    ]
    evaluations.append(
        sr.QualitativeEvaluation(_WITHIN_ERROR, _ANSWERS[growth.within_measurement_error])
    )
    return sr.MeasurementsAndQualitativeEvaluations(
        tracking_identifier=sr.TrackingIdentifier(generate_uid(), "growth"),
        finding_category=ABNORMAL,
        finding_type=_hemorrhage(),
        algorithm_id=_algorithm(found),
        measurements=[
            sr.Measurement(_GROWTH[name][0], value, _GROWTH[name][1])
            for name, value in values.items()
            if value is not None
        ],
        qualitative_evaluations=evaluations,
    )


def _growth_texts(found: Assessment) -> Iterable[str]:
    """Which scans the growth is of, and what is to be read with it."""
    assert found.growth is not None
    other = "" if found.other is None else f"; the other is scan {found.other.volume.called}"
    yield f"This scan is the {found.role} of two{other}. Counted is {found.growth.counted}."
    yield found.growth.error_sentence
    yield from found.growth.notes
    for verdict in found.growth.verdicts:
        source = DEFINITIONS[verdict.name].source
        yield f"{verdict.name}: {verdict.rule} ({source}): {verdict.answer}; {verdict.because}"


def _algorithm(found: Assessment) -> Any:
    """Who measured: the method of the masks with its version, its identity and its weights, or a person's hand."""
    from highdicom.sr import AlgorithmIdentification

    given = [] if found.identity is None else [f"identity sha256 {found.identity.sha256}"]
    given += [f"{file} sha256 {sha}" for file, sha in found.weights_sha256.items()]
    return AlgorithmIdentification(
        name=found.model or found.file_method or found.model_title,
        version=__version__,
        parameters=given or None,
        manufacturer="ichseg",
    )


def _called(lesion: Lesion) -> str:
    blood = "" if lesion.is_blood else "; not counted as blood"
    return f"{lesion.name}{blood}"


def _hemorrhage() -> Code:
    return Code(HEMORRHAGE.value, "SCT", HEMORRHAGE.meaning)


def _with_texts(group: Any, texts: Iterable[str]) -> Any:
    """A group with comments beside its measurements (the templates of groups may be added to)."""
    from highdicom.sr import RelationshipTypeValues, TextContentItem

    for text in filter(None, texts):
        group[0].ContentSequence.append(
            TextContentItem(codes.DCM.Comment, text[:_MOST_TEXT], RelationshipTypeValues.CONTAINS)
        )
    return group
