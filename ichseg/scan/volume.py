"""A head CT as Hounsfield units on a grid in millimetres (``geometry``), whatever format it came in."""

from __future__ import annotations

import hashlib
import os
from dataclasses import dataclass
from datetime import datetime
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from ichseg.arrays import Float
from ichseg.scan.dicom_source import DicomSource
from ichseg.scan.geometry import FileAxes, Geometry
from ichseg.scan.scale import Hounsfield
from ichseg.scan.series_info import SeriesInfo

if TYPE_CHECKING:
    from ichseg.scan.nifti_grid import NiftiGrid

ScanPath = str | os.PathLike[str]


def content_sha256(array: NDArray[Any]) -> str:
    """SHA-256 of an array's values and shape, the same on every machine and for every memory layout."""
    little = np.ascontiguousarray(array, dtype=array.dtype.newbyteorder("<"))
    digest = hashlib.sha256(f"{little.dtype.str} {little.shape} ".encode())
    digest.update(little.data)
    return digest.hexdigest()


@dataclass(frozen=True, eq=False, repr=False)
class CTVolume:
    """One head CT.

    Attributes:
        hu_zyx: Hounsfield units, [z, y, x], int16 where the file's values are whole numbers in
            range, else float32; nothing below -1024; read-only.
        geometry: where the voxels are.
        name: a label for people (file name or series description), without patient data.
        notes: sentences to say to the user, such as "gantry tilt 18.5 degrees, slices 4.0 and
            7.0 mm".
        warnings: sentences that make a millilitre doubtful. They stay in sight wherever a number is
            shown, and go into every file with a number.
        label: what a person calls the scan in files; empty for the hash of its voxels.
        file_axes: which of the axes i, j, k of an NRRD or MetaImage file is z, y and x, and whether
            it runs backwards, for writing masks back; None for others.
        source: the NIfTI file's own grid, for writing masks back; None for DICOM.
        series: the other series of the DICOM files, those that can be opened first; each that
            cannot has its ``refusal``.
        dicom: where the slices stand in their DICOM series, for a DICOM-SEG that refers to them; None
            for NIfTI. Identifiers of images only, nothing about the patient.
        files: the files and folders that it was read from, which nothing is ever written to; for
            no log, document or download.
        acquired_at: when it was taken, by the scanner's clock, where a DICOM header says so; for the hours between two
            scans, and for no log, document or download.

    """

    hu_zyx: Hounsfield
    geometry: Geometry
    name: str
    notes: tuple[str, ...] = ()
    warnings: tuple[str, ...] = ()
    label: str = ""
    source: NiftiGrid | None = None
    file_axes: FileAxes | None = None
    series: tuple[SeriesInfo, ...] = ()
    dicom: DicomSource | None = None
    files: tuple[Path, ...] = ()
    acquired_at: datetime | None = None

    def __repr__(self) -> str:
        slices, rows, columns = self.shape_zyx
        of = f"of {rows} x {columns} pixels, {' x '.join(f'{size:.2f}' for size in self.spacing_mm)} mm"
        label = f" {self.label}" if self.label else ""
        warned = f", warnings: {len(self.warnings)}" if self.warnings else ""
        return f"<CTVolume{label}: {slices} slices {of} (z, y, x){warned}>"

    @property
    def warned(self) -> tuple[str, ...]:
        """The warnings, each marked as one."""
        return tuple(f"Warning: {warning}" for warning in self.warnings)

    @property
    def remarks(self) -> tuple[str, ...]:
        """All that is to be said of the scan: its warnings, then the notes."""
        return (*self.warned, *self.notes)

    @property
    def shape_zyx(self) -> tuple[int, int, int]:
        """Number of slices, rows and columns."""
        z, y, x = self.hu_zyx.shape
        return z, y, x

    @cached_property
    def sha256(self) -> str:
        """What the scan is known by in documents: ``content_sha256`` of its HU."""
        return content_sha256(self.hu_zyx)

    @property
    def called(self) -> str:
        """What files call the scan: its label, or else the first 8 digits of its hash."""
        return self.label or self.sha256[:8]

    @property
    def slice_heights_mm(self) -> Float:
        """Height that each slice stands for, float64 [z], mm (``Geometry.slice_heights_mm``)."""
        return self.geometry.slice_heights_mm

    @property
    def spacing_mm(self) -> tuple[float, float, float]:
        """Median slice height, then (dy, dx), in mm; a summary, never a factor of a volume."""
        return float(np.median(self.slice_heights_mm)), *self.geometry.spacing_yx_mm

    @property
    def voxel_volumes_ml(self) -> Float:
        """Volume of one voxel of each slice, float64 [z], mL: pixel area times slice height."""
        return self.geometry.pixel_area_mm2 * self.slice_heights_mm / 1000.0
