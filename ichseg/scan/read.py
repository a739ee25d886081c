"""Open a head CT of any format that is known."""

from __future__ import annotations

import os
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import BinaryIO

from ichseg.errors import VolumeError, refusal
from ichseg.replace_file import inputs_of
from ichseg.scan import formats, intake, plausible
from ichseg.scan.formats import READERS, InputFile
from ichseg.scan.scale import offset_doubts, scale_doubts
from ichseg.scan.volume import CTVolume, ScanPath


def read_volume(
    path_or_paths: ScanPath | Sequence[ScanPath],
    *,
    series: str | None = None,
    add_offset: int = 0,
) -> CTVolume:
    """Open a head CT: a NIfTI file, or DICOM as a folder, a zip or a list of files.

    Args:
        path_or_paths: ``.nii``, ``.nii.gz``, a DICOM folder, zip or file, or a list of DICOM files.
        series: which DICOM series to open (``SeriesInfo.key`` or its number as text); the axial CT
            with most slices when None.
        add_offset: HU added to every voxel, for files that lack the usual offset: -1024.

    Returns:
        The scan in the display frame [z, y, x]; its ``notes`` say what the user should know.

    Raises:
        VolumeError: the input is not a readable head CT; the text says how to put it right.

    >>> from ichseg.sample import sample_paths
    >>> scan, truth = sample_paths()
    >>> volume = read_volume(scan)
    >>> volume.shape_zyx[1:], volume.hu_zyx.dtype.name, len(volume.slice_heights_mm) > 20
    ((512, 512), 'int16', True)

    """
    given = [path_or_paths] if isinstance(path_or_paths, (str, os.PathLike)) else path_or_paths
    paths = [Path(path) for path in given]
    if not paths:
        raise VolumeError(
            "A scan needs a file or a folder, but an empty list was given;"
            " give a NIfTI file, or a DICOM folder, zip or files."
        )
    for path in paths:
        if not path.exists():
            raise refusal(path.name, "a scan must exist", "nothing is there", "check the path")
    try:
        volume = checked_volume(_read(paths, series, add_offset), add_offset)
    except OSError as error:
        name = Path(error.filename or paths[0]).name
        remedy = "check its permissions and the disk"
        raise refusal(name, "a scan must be readable", f"{error.strerror}", remedy) from error
    files = (one.absolute() for path in paths for one in inputs_of(path))
    return replace(volume, files=tuple(files))


def checked_volume(volume: CTVolume, add_offset: int = 0) -> CTVolume:
    """The scan with a warning for a size, a head, an offset or a slice that cannot be; every format goes through it."""
    found = (
        *plausible.doubts(volume.hu_zyx, volume.geometry),
        *offset_doubts(volume.hu_zyx, add_offset),
        *scale_doubts(volume.hu_zyx),
    )
    return replace(volume, warnings=(*volume.warnings, *found)) if found else volume


def _read(paths: list[Path], series: str | None, add_offset: int) -> CTVolume:
    """Open what the paths hold; the zips among their files only where nothing else is a scan."""
    if len(paths) == 1 and paths[0].is_file() and paths[0].stat().st_size == 0:
        raise refusal(
            paths[0].name, formats.rule(), "this file is empty", "copy or download it again"
        )
    with ExitStack() as stack:
        given = intake.gather(paths, stack)
        try:
            return _read_given(given, series, add_offset)
        except VolumeError as error:
            if not given.zips:
                raise
            first = error
        try:
            return _read_given(intake.unpack_zips(given, stack), series, add_offset)
        except VolumeError as error:
            raise (first if given.files else error) from error


def _read_given(given: intake.Given, series: str | None, add_offset: int) -> CTVolume:
    """Hand the files to their format's reader: one that takes many, or else the one file that is a scan by itself."""
    single = [
        file
        for row in READERS
        if not row.in_series
        for file in (pairs(given) if row.of_two else given.of(row.kind))
    ]
    many = next((row for row in READERS if row.in_series and given.of(row.kind)), None)
    if many is None:
        return _read_one(given, single, series, add_offset)
    try:
        return many.function()(given, series=series, add_offset=add_offset)
    except VolumeError as error:
        if len(single) != 1 or series is not None:
            raise
        refused = error
    try:
        return _read_one(given, single, series, add_offset)
    except VolumeError:
        raise refused from None


def _read_one(
    given: intake.Given, single: Sequence[InputFile], series: str | None, add_offset: int
) -> CTVolume:
    """Open the one file among those given that is a scan by itself."""
    if not single and given.files:
        lone = given.files[0].name
        raise refusal(
            given.name,
            "a .hdr and its .img are one NIfTI or Analyze image in two files",
            f"only '{lone}' is here",
            "give both together, or convert them to one .nii",
        )
    if not single:
        raise given.nothing()
    kinds = formats.titles(file.kind for file in single)
    if len(single) > 1:
        names = ", ".join(f"'{file.name}'" for file in single[:5])
        raise refusal(
            given.name,
            f"a {kinds} scan is opened by itself",
            f"there are {len(single)} ({names}{', ...' if len(single) > 5 else ''})",
            "give one of them",
        )
    (file,) = single
    if series is not None:
        raise refusal(
            file.name,
            "only DICOM comes in series",
            f"series '{series}' of a {kinds} file was asked for",
            "leave the series out",
        )
    row = formats.reader_of(file.kind)
    assert row is not None
    volume = row.function()(file, add_offset)
    notes = intake.passed_over([], given.count - (2 if row.of_two else 1))
    return replace(volume, notes=(*volume.notes, *notes))


def pairs(given: intake.Given) -> list[InputFile]:
    """The images in two files, each as the one file that it would be (``nifti.joined``)."""
    images = {file.place: file for file in given.of("image")}
    return [
        replace(header, opener=partial(_joined, header, image))
        for header in given.of("header")
        if (image := images.get(header.place))
    ]


def _joined(header: InputFile, image: InputFile) -> BinaryIO:
    from ichseg.scan import nifti  # nibabel takes a while to import: only when there is NIfTI

    return nifti.joined(header, image)
