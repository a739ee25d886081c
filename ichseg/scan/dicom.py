"""A DICOM head CT, as a folder, a zip or a list of files, to a ``CTVolume``.

Files are read by their headers (``dicom_files``), sorted into series (``dicom_series``), and the slices of the one to
open are stacked (``dicom_slices``), in the order of their places along the normal, never by file name or instance
number. A patient's name or number is read only where a DICOM-SEG is asked for that carries it (``read_elements``), and
goes straight into that file.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Sequence
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path

import pydicom

from ichseg.errors import VolumeError, refusal
from ichseg.scan import intake
from ichseg.scan.dicom_files import Image, read_header
from ichseg.scan.dicom_series import Broken, Series, Study, series_title, study_of
from ichseg.scan.dicom_slices import geometry_of, stored_planes, turned_shape
from ichseg.scan.dicom_source import DicomSource, SourceSlice
from ichseg.scan.dicom_time import acquired_at
from ichseg.scan.geometry import spacing_notes
from ichseg.scan.hounsfield import (
    offset_notes,
    stack_hounsfield,
)
from ichseg.scan.intake import FileNote
from ichseg.scan.lost_slices import frame_warnings, hole_warnings
from ichseg.scan.scale import mixed_scale_doubts
from ichseg.scan.series import has_contrast, is_processed, sharpness
from ichseg.scan.series_info import SeriesError, SeriesInfo
from ichseg.scan.volume import CTVolume, ScanPath


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
        return tuple(series.info for series in study_of(found).series)


def choose_series(
    paths: ScanPath | Sequence[ScanPath], wanted: str | None = None
) -> tuple[SeriesInfo, tuple[SeriesInfo, ...]]:
    """The series that ``read_series`` would open first, by its headers alone, and the others.

    Raises:
        SeriesError: there is no such series, or none is a head CT; with every series in ``series``.

    """
    given = [paths] if isinstance(paths, (str, os.PathLike)) else paths
    with ExitStack() as stack:
        study = study_of(intake.gather([Path(path) for path in given], stack))
        best = _candidates(study, wanted)[0]
        if best.error is not None:
            raise SeriesError(str(best.error), _listed(study.series, {}))
        return best.info, _listed([one for one in study.series if one is not best], {})


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
    study = study_of(given)
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


def _listed(found: Iterable[Series], refused: dict[str, VolumeError]) -> tuple[SeriesInfo, ...]:
    """What a chooser shows: the series that can be opened, then the others with their reasons."""
    infos = []
    for one in found:
        error = refused.get(one.info.key)
        reason = one.info.refusal or (str(error) if error else "")
        infos.append(replace(one.info, refusal=reason))
    return tuple(sorted(infos, key=lambda info: bool(info.refusal)))


def _open(study: Study, one: Series, add_offset: int) -> CTVolume:
    if one.error is not None:
        raise one.error
    name, slices = study.name, one.slices
    axes, flips, geometry = geometry_of(name, slices)
    hu_zyx, value_notes = stack_hounsfield(
        name,
        (len(slices), *turned_shape(slices[0].shape, axes)),
        stored_planes(slices, axes, flips, add_offset),
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
            *hole_warnings(one.holes),
            *one.ends,
            *frame_warnings([each.traits for each in one.slices]),
            *mixed_scale_doubts(hu_zyx, [(each.slope, each.intercept) for each in slices]),
            *_series_warnings(one),
            *_end_warnings(elsewhere),
        ),
        dicom=_source(one, axes, flips, geometry.slice_heights_mm.tolist()),
        acquired_at=acquired_at(one.header),
    )


def _series_warnings(one: Series) -> tuple[str, ...]:
    """What makes millilitres of the series doubtful: contrast medium, values of no tissue, a bone kernel."""
    traits, found = one.slices[0].traits, []
    if has_contrast(traits.contrast_agent, traits.description):
        found.append("This series was taken with contrast medium, which is as bright as blood.")
    if is_processed(traits.image_type, traits.description):
        found.append(
            "This series is a projection, a map or a subtraction: its values are not those of tissue."
        )
    if sharpness(traits.kernel, traits.description) == 2:
        found.append(
            "This series has a kernel for bone or lung, whose noise blurs the edge of blood."
        )
    return tuple(found)


def _end_warnings(broken: Sequence[Broken]) -> tuple[str, ...]:
    if not broken:
        return ()
    count = "A damaged file was" if len(broken) == 1 else f"{len(broken)} damaged files were"
    return (
        f"{count} passed over: if it was an end slice of this series, blood on it is not counted.",
    )


def _candidates(study: Study, wanted: str | None) -> list[Series]:
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
        there = ", ".join(series_title(one.info) for one in study.series[:5])
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


def _choice_notes(one: Series, study: Study) -> tuple[str, ...]:
    notes, others = [], len(study.series) - 1
    studies = len({str(other.header.get("StudyInstanceUID", "")) for other in study.series})
    if others:
        rest = "1 other series was" if others == 1 else f"{others} other series were"
        of = f" The files are of {studies} studies." if studies > 1 else ""
        notes.append(f"Opened {series_title(one.info)}; {rest} left aside.{of}")
    if one.info.derived:
        notes.append(
            "This series was derived from another one, not taken straight from the scanner."
        )
    return tuple(notes)


def _refusal_notes(study: Study, refused: dict[str, VolumeError]) -> tuple[FileNote, ...]:
    """What to say of series that would have been opened first but could not be."""
    notes = []
    for one in study.series:
        if error := refused.get(one.info.key):
            start = f"{series_title(one.info)[0].upper()}{series_title(one.info)[1:]} could not be opened"
            notes.append(FileNote(f"{start} ({str(error).rstrip('.')}).", f"{start}."))
    return tuple(notes)


def _turn_notes(axes: tuple[int, ...], flips: tuple[bool, ...]) -> tuple[str, ...]:
    if axes == (0, 1, 2) and not any(flips[1:]):
        return ()
    return (
        "The slices were turned to the usual view: anterior up, the patient's right on the left.",
    )


def _source(
    series: Series,
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
                image = read_header(file)
            except VolumeError:  # a damaged file beside the scan
                continue
            if not isinstance(image, Image) or image.header.get("SOPInstanceUID") != wanted:
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
