"""A head CT as Hounsfield units with millimetre geometry: NIfTI in, masks out on the scan's own grid.

The frame is the one radiologists look at: arrays are [z, y, x], z from foot to head, y from
anterior to posterior, x from the patient's right to left. World coordinates are NIfTI's RAS+, in
millimetres. A slice keeps its own place, so gantry-tilted and unevenly spaced series are held as
they were scanned; nothing is resampled.
"""

# mypy: disallow-untyped-calls=False
# nibabel ships types for only some of its functions.
from __future__ import annotations

import gzip
import hashlib
import io
import itertools
import logging
import math
import os
import warnings
import zlib
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from functools import cached_property, partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO

import nibabel as nib
import numpy as np
from nibabel.nifti1 import Nifti1Extension, Nifti1Extensions
from nibabel.spatialimages import HeaderDataError
from numpy.typing import ArrayLike, NDArray

from ichseg.errors import VolumeError
from ichseg.errors import refusal as refusal
from ichseg.files.mask_header import mask_record, record_text, short_text
from ichseg.replace_file import inputs_of, write_whole
from ichseg.scan import intake, plausible
from ichseg.scan.hounsfield import (
    MAX_BYTES,
    Hounsfield,
    Plane,
    offset_doubts,
    offset_notes,
    scale_doubts,
    stack_hounsfield,
)
from ichseg.scan.hounsfield import check_size as check_size
from ichseg.scan.intake import FORMATS as FORMATS
from ichseg.scan.nifti_header import Placement, place_voxels, size_text, voxel_size_mm

if TYPE_CHECKING:
    from ichseg.scan.dicom import DicomSource

nib.imageglobals.logger.setLevel(
    logging.CRITICAL
)  # what is wrong with a header is said once, in our sentence

Float = NDArray[np.float64]
ScanPath = str | os.PathLike[str]
FileAxes = tuple[tuple[int, int, int], tuple[bool, bool, bool]]


POSITION_TOLERANCE_MM = 0.1
"""Less than a quarter of a head CT's pixel: closer than this two grids are one and the same."""

_DISPLAY_AXES_RAS = np.array([[0.0, 0.0, 1.0], [0.0, -1.0, 0.0], [-1.0, 0.0, 0.0]])
_SPACING_RANGE_MM = (0.01, 100.0)
_LEAST_TILT_DEGREES = 0.1
_WHOLE_LABEL, _COARSEST_LABEL = 1e-5, 0.02
_COMMENT, _MAX_COMMENTS = 6, 1 << 20


def content_sha256(array: NDArray[Any]) -> str:
    """SHA-256 of an array's values and shape, the same on every machine and for every memory layout."""
    little = np.ascontiguousarray(array, dtype=array.dtype.newbyteorder("<"))
    digest = hashlib.sha256(f"{little.dtype.str} {little.shape} ".encode())
    digest.update(little.data)
    return digest.hexdigest()


@dataclass(frozen=True, eq=False)
class Geometry:
    """Where the voxels of a scan are, slice by slice.

    Attributes:
        origins_mm: float64 [z, 3], RAS+ mm, the centre of voxel y = 0, x = 0 of each slice.
        y_step_mm: float64 [3], RAS+ mm from a voxel to the next one down (posterior).
        x_step_mm: float64 [3], RAS+ mm from a voxel to the next one right (patient's left).

    """

    origins_mm: Float
    y_step_mm: Float
    x_step_mm: Float

    @classmethod
    def from_affine(cls, affine: ArrayLike, slices: int) -> Geometry:
        """The evenly spaced grid of a 4 x 4 ``affine``, (x, y, z) index -> RAS+ mm."""
        matrix = np.asarray(affine, dtype=np.float64)
        origins = matrix[:3, 3] + np.arange(slices)[:, None] * matrix[:3, 2]
        return cls(origins, matrix[:3, 1].copy(), matrix[:3, 0].copy())

    @property
    def spacing_yx_mm(self) -> tuple[float, float]:
        """Distance between neighbouring voxel centres down and across a slice, (dy, dx) in mm."""
        return float(np.linalg.norm(self.y_step_mm)), float(np.linalg.norm(self.x_step_mm))

    @property
    def pixel_area_mm2(self) -> float:
        """Area of one pixel in the plane of its slice."""
        return float(np.linalg.norm(np.cross(self.x_step_mm, self.y_step_mm)))

    @property
    def normal(self) -> Float:
        """Unit vector, RAS+ [3], perpendicular to the slices, from foot to head."""
        normal = np.cross(self.x_step_mm, self.y_step_mm)
        towards_head = float(normal @ (self.origins_mm[-1] - self.origins_mm[0]))
        return np.asarray(normal / np.linalg.norm(normal) * (-1.0 if towards_head < 0 else 1.0))

    @property
    def slice_positions_mm(self) -> Float:
        """Position of each slice along ``normal``, float64 [z], rising."""
        return np.asarray(self.origins_mm @ self.normal)

    @property
    def slice_heights_mm(self) -> Float:
        """Height that each slice stands for, float64 [z], measured perpendicular to the slices.

        Half the distance to each neighbour; an end slice counts its one neighbour twice, so that on
        an even grid every height is the spacing.

        >>> origins = [[0, 0, 0], [0, 0, 4], [0, 0, 8], [0, 0, 15]]
        >>> grid = Geometry(np.array(origins, float), np.array([0, -1.0, 0]), np.array([-1.0, 0, 0]))
        >>> grid.slice_heights_mm.tolist()
        [4.0, 4.0, 5.5, 7.0]
        """
        gaps = np.abs(np.diff(self.slice_positions_mm))
        padded = np.concatenate([gaps[:1], gaps, gaps[-1:]])
        return np.asarray((padded[:-1] + padded[1:]) / 2)

    @property
    def tilt_degrees(self) -> float:
        """Gantry tilt: the angle between the slices' normal and the way they are stacked, >= 0."""
        stack = self.origins_mm[-1] - self.origins_mm[0]
        across = np.linalg.norm(np.cross(self.normal, stack))
        return float(np.degrees(np.arctan2(across, self.normal @ stack)))

    @property
    def is_tilted(self) -> bool:
        """Whether the slices are stacked aslant, so that an affine of theirs is sheared, which ITK refuses."""
        return self.tilt_degrees >= _LEAST_TILT_DEGREES

    @property
    def is_even(self) -> bool:
        """Whether one affine holds every slice within ``POSITION_TOLERANCE_MM``."""
        even = np.linspace(self.origins_mm[0], self.origins_mm[-1], len(self.origins_mm))
        error = np.linalg.norm(self.origins_mm - even, axis=1).max()
        return bool(error <= POSITION_TOLERANCE_MM)

    @property
    def affine(self) -> Float:
        """4 x 4, (x, y, z) index -> RAS+ mm; ``VolumeError`` for unevenly spaced slices."""
        if not self.is_even:
            raise VolumeError(
                "An affine needs evenly spaced slices, but these are"
                f" {_spacing_text(self)} apart; use origins_mm, which holds each slice's own place."
            )
        affine = np.eye(4)
        affine[:3, 0], affine[:3, 1] = self.x_step_mm, self.y_step_mm
        affine[:3, 2] = (self.origins_mm[-1] - self.origins_mm[0]) / (len(self.origins_mm) - 1)
        affine[:3, 3] = self.origins_mm[0]
        return affine


@dataclass(frozen=True, eq=False)
class NiftiGrid:
    """The grid of a NIfTI file, and how a [z, y, x] array is laid on it.

    Attributes:
        header: the file's shape, affines, codes and units; nothing about the patient.
        axes: the file's axis that is z, y and x on screen.
        flips: whether that axis runs the other way.

    """

    header: nib.nifti1.Nifti1Header
    axes: tuple[int, int, int]
    flips: tuple[bool, bool, bool]

    @property
    def shape_zyx(self) -> tuple[int, int, int]:
        """The file's shape in the display frame."""
        z, y, x = (int(self.header.get_data_shape()[axis]) for axis in self.axes)
        return z, y, x

    def to_display(self, array: NDArray[Any]) -> NDArray[Any]:
        """A [z, y, x] view of the file's array."""
        spatial = array.reshape(array.shape[:3])
        return np.flip(spatial.transpose(self.axes), _where(self.flips))

    def to_file(self, array_zyx: NDArray[Any]) -> NDArray[Any]:
        """A view of a [z, y, x] array in the file's axes and shape."""
        unflipped = np.flip(array_zyx, _where(self.flips))
        return unflipped.transpose(np.argsort(self.axes)).reshape(self.header.get_data_shape())


@dataclass(frozen=True)
class SeriesInfo:
    """One series of a DICOM folder, for a chooser.

    Attributes:
        key: what ``read_volume(..., series=key)`` takes, unique among the files given: the Series
            Instance UID, with what tells it from the others where several series share one.
        number: the series number shown at the scanner, or None; its text is taken as a key too.
        label: the series description for people; holds no patient data.
        slices: number of slices.
        derived: whether it was computed from another series (a reformat, say).
        refusal: why it cannot be opened, or an empty string.
        short: the shortest key that means this series alone: its number, where no other has it.

    """

    key: str
    number: int | None
    label: str
    slices: int
    derived: bool = False
    refusal: str = ""
    short: str = ""


@dataclass(frozen=True, eq=False)
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


def write_mask(
    path: ScanPath,
    mask_zyx: NDArray[Any],
    volume: CTVolume,
    *,
    record: Mapping[str, Any] | None = None,
    inputs: Iterable[Path] = (),
) -> None:
    """Write a mask as uint8 NIfTI on the scan's own grid, so that it overlays on the scan.

    A NIfTI scan's mask has the file's own shape, axis order, affines and codes. A DICOM scan's mask
    is written in the display frame with the scan's affine (an sform alone where the gantry was
    tilted: a qform cannot hold a shear, and ITK programs refuse one: ``regular_grid``). The header
    says which scan it belongs to, and how it was made: in short in ``descrip``, in full as JSON in an
    extension (a comment, code 6).

    Args:
        path: ends in ``.nii`` or ``.nii.gz``; a file that is there is replaced, but never one that was read.
        mask_zyx: bool or whole-number labels 0..255, [z, y, x] in the frame of ``volume``.
        volume: the scan that the mask belongs to.
        record: what the file says of itself (``mask_header.mask_record``); the scan alone without it.
        inputs: what else the run reads, beside the scan's own files.

    Raises:
        InputError: the path is one of the scan's files or of ``inputs``, or cannot be written.
        VolumeError: another shape, labels out of range, another file ending, or unevenly spaced
            slices, which NIfTI cannot hold.

    """
    path = Path(path)
    if not path.name.endswith((".nii", ".nii.gz")):
        raise refusal(
            path.name,
            "a mask is written as NIfTI",
            f"the name ends in '{path.suffix}'",
            "let it end in .nii or .nii.gz",
        )
    content = mask_bytes(path.name, mask_zyx, volume, record)
    write_whole(path, content, inputs=(*volume.files, *inputs))


def mask_bytes(
    name: str, mask_zyx: NDArray[Any], volume: CTVolume, record: Mapping[str, Any] | None = None
) -> bytes:
    """The content of a NIfTI mask of that name, gzipped where it ends in .gz; see ``write_mask``."""
    if mask_zyx.shape != volume.shape_zyx:
        raise refusal(
            name,
            f"a mask has the scan's shape {volume.shape_zyx}",
            f"this one has {mask_zyx.shape}",
            "draw it on this scan",
        )
    labels = whole_labels(name, mask_zyx)
    if not volume.geometry.is_even:
        raise refusal(
            name,
            "a NIfTI mask needs evenly spaced slices",
            f"this series has {_spacing_text(volume.geometry)}",
            "export the slice-wise CSV and PNG instead",
        )
    said = mask_record(volume) if record is None else record
    data = _nifti_bytes(volume.source or _display_grid(volume), labels, said)
    return gzip.compress(data, 6, mtime=0) if name.endswith(".gz") else data


def scan_bytes(volume: CTVolume, record: Mapping[str, Any]) -> bytes:
    """The HU of a scan as gzipped NIfTI on its own grid, with what the file says of itself in its header."""
    grid = volume.source or _display_grid(volume)
    return gzip.compress(_nifti_bytes(grid, volume.hu_zyx, record), 6, mtime=0)


def _nifti_bytes(grid: NiftiGrid, array_zyx: NDArray[Any], record: Mapping[str, Any]) -> bytes:
    image_class = nib.Nifti2Image if grid.header.sizeof_hdr == 540 else nib.Nifti1Image
    image = image_class(grid.to_file(array_zyx), None, grid.header)
    image.set_data_dtype(array_zyx.dtype)
    image.header["descrip"] = short_text(record).encode()
    image.header.extensions.append(Nifti1Extension("comment", record_text(record).encode()))
    return bytes(image.to_bytes())


def read_mask(path: ScanPath, volume: CTVolume) -> NDArray[np.uint8]:
    """The labels of a NIfTI mask drawn on ``volume``: ``read_nifti_mask`` without its text."""
    return read_nifti_mask(path, volume)[0]


def read_nifti_mask(path: ScanPath, volume: CTVolume) -> tuple[NDArray[np.uint8], tuple[str, ...]]:
    """Read a NIfTI mask drawn on ``volume``, in any axis order, whole or cropped (``place_labels``).

    Returns:
        uint8 [z, y, x] in the frame of ``volume``, and the comments in its header.

    Raises:
        VolumeError: not NIfTI, labels other than whole numbers 0..255 (``whole_labels``), or another
            grid than the scan's (beyond ``POSITION_TOLERANCE_MM``).

    """
    path = Path(path)
    if not path.is_file() or not _is_nifti(path):
        raise refusal(
            path.name,
            "a mask is a NIfTI file",
            "this is " + ("something else" if path.exists() else "not there"),
            "give the .nii or .nii.gz drawn on this scan",
        )
    with _open_nifti(path, least=1) as file:
        slope, intercept = file.scaling
        unscaled = (slope, intercept) == (1.0, 0.0)
        quantum = 0.0 if unscaled or file.dtype.kind == "f" else abs(slope)
        stored = np.empty(file.shape, dtype=np.uint8)
        for index, plane in enumerate(file.planes):
            values = plane if unscaled else plane * slope + intercept
            stored[index] = whole_labels(path.name, values, quantum)
    labels = file.to_display(stored)
    on_grid = _on_a_shared_grid(labels, file.grid, file.placement, volume)
    if on_grid is None:
        on_grid = place_labels(path.name, labels, file.geometry, volume)
    return np.ascontiguousarray(on_grid), _comments(path)


def place_labels(
    name: str, labels_zyx: NDArray[np.uint8], geometry: Geometry, volume: CTVolume
) -> NDArray[np.uint8]:
    """Labels on a grid of their own, laid onto the scan's: the same voxels, all of them or a box of them.

    Args:
        name: the file, for the error's text.
        labels_zyx: uint8 [z, y, x] in the display frame.
        geometry: where those voxels are.
        volume: the scan.

    Returns:
        uint8 [z, y, x] of the scan's shape, 0 where the labels' grid does not reach.

    Raises:
        VolumeError: other voxels than the scan's (beyond ``POSITION_TOLERANCE_MM``), or such as the
            scan does not have.

    """
    remedy = "give the mask that was drawn on this scan, not resampled"
    scan, shape = volume.geometry, volume.shape_zyx
    if labels_zyx.shape == shape:
        error_mm = np.abs(_corners(geometry, shape) - _corners(scan, shape)).max()
        if error_mm > POSITION_TOLERANCE_MM:
            received = f"its voxels are up to {error_mm:.1f} mm off"
            raise refusal(name, "a mask lies where the scan lies", received, remedy)
        return np.ascontiguousarray(labels_zyx)
    planes = [
        place_plane(
            name,
            Geometry(origin[None], geometry.y_step_mm, geometry.x_step_mm),
            labels_zyx.shape[1:],
            volume,
        )
        for origin in geometry.origins_mm
    ]
    slices = [k for k, _, _ in planes]
    if slices != list(range(slices[0], slices[0] + len(slices))):
        raise refusal(
            name,
            f"a mask has the scan's voxels, all of its {_size_text(shape)} or a box of them",
            f"the slices of this one of {_size_text(labels_zyx.shape)} are not as far apart",
            remedy,
        )
    whole = np.zeros(shape, dtype=np.uint8)
    for where, labels_yx in zip(planes, labels_zyx, strict=True):
        whole[where] = labels_yx
    return whole


def place_plane(
    name: str, geometry: Geometry, shape_yx: tuple[int, ...], volume: CTVolume
) -> tuple[int, slice, slice]:
    """Where a plane lies in the scan's array: slice, rows and columns; ``place_labels`` for its rules.

    ``geometry`` is of the plane alone: it has one slice.
    """
    scan, (rows, columns) = volume.geometry, shape_yx
    origin = geometry.origins_mm[0]
    height = float(origin @ scan.normal) - scan.slice_positions_mm
    k = int(np.abs(height).argmin())
    basis = np.stack([scan.normal, scan.y_step_mm, scan.x_step_mm], axis=1)
    steps = np.linalg.solve(basis, origin - scan.origins_mm[k])[1:]
    y, x = (int(step) for step in np.rint(np.clip(steps, -1e6, 1e6)))
    nearest = scan.origins_mm[k] + y * scan.y_step_mm + x * scan.x_step_mm
    placed, size = Geometry(nearest[None], scan.y_step_mm, scan.x_step_mm), (1, rows, columns)
    error_mm = float(np.abs(_corners(geometry, size) - _corners(placed, size)).max())
    beyond = height[0] < -POSITION_TOLERANCE_MM or height[-1] > POSITION_TOLERANCE_MM
    if error_mm > POSITION_TOLERANCE_MM and not beyond:
        raise refusal(
            name,
            f"a mask has the scan's voxels, all of its {_size_text(volume.shape_zyx)} or a box of them",
            f"a slice of {columns} x {rows} lies elsewhere, up to {error_mm:.1f} mm from the nearest voxels",
            "give the mask that was drawn on this scan, not resampled",
        )
    if (
        beyond
        or min(y, x) < 0
        or y + rows > volume.shape_zyx[1]
        or x + columns > volume.shape_zyx[2]
    ):
        raise refusal(
            name,
            f"a mask lies inside the scan's {_size_text(volume.shape_zyx)} voxels",
            f"a slice of {columns} x {rows} sticks out of them",
            "crop it to the scan, or give the mask that was drawn on this scan",
        )
    return k, slice(y, y + rows), slice(x, x + columns)


def _size_text(shape_zyx: Sequence[int]) -> str:
    z, y, x = shape_zyx
    return f"{x} x {y} x {z}"


def _on_a_shared_grid(
    labels_zyx: NDArray[Any], grid: NiftiGrid, placement: Placement, volume: CTVolume
) -> NDArray[Any] | None:
    """A mask file's array in the frame of ``volume``, or None where they share no grid.

    A header may state two grids. Another program may have taken the other one of the scan's, and have written it to
    its mask as the only one: it is enough that a grid of the mask's is a grid of the scan's.
    """
    source = volume.source
    scans: list[tuple[NiftiGrid | None, Geometry]] = [(None, volume.geometry)]
    if source is not None:
        scans += _grids(source, place_voxels(volume.name, source.header))
    for mask_grid, lies in _grids(grid, placement):
        view = mask_grid.to_display(grid.to_file(labels_zyx))
        for scan_grid, where in scans:
            shape = volume.shape_zyx if scan_grid is None else scan_grid.shape_zyx
            if view.shape == shape and _distance_mm(lies, where, shape) <= POSITION_TOLERANCE_MM:
                if source is None or scan_grid is None:
                    return view
                return source.to_display(scan_grid.to_file(view))
    return None


def _grids(grid: NiftiGrid, placement: Placement) -> list[tuple[NiftiGrid, Geometry]]:
    """Every grid that a header may be taken to state, the one that is used first."""
    grids = []
    for affine in (placement.affine, *placement.others):
        own = NiftiGrid(grid.header, *display_axes(affine[:3, :3]))
        grids.append((own, _nifti_geometry(affine, own)))
    return grids


def _distance_mm(one: Geometry, other: Geometry, shape_zyx: tuple[int, ...]) -> float:
    """The furthest that a voxel of one grid lies from the same voxel of another."""
    return float(np.abs(_corners(one, shape_zyx) - _corners(other, shape_zyx)).max())


def display_axes(directions: Float) -> tuple[tuple[int, int, int], tuple[bool, bool, bool]]:
    """Which array axis runs along z, y and x of the display frame, and which run backwards.

    Args:
        directions: [3, 3], column i is the RAS+ direction in which array axis i rises; independent.

    Returns:
        For z, y and x: the array axis closest to it (each used once), and whether to flip it.

    >>> display_axes(np.diag([1.0, 1.0, 1.0]))  # NIfTI's RAS
    ((2, 1, 0), (False, True, True))

    """
    cosines = _DISPLAY_AXES_RAS @ (directions / np.linalg.norm(directions, axis=0))
    z, y, x = max(
        itertools.permutations(range(3)),
        key=lambda axes: float(sum(abs(cosines[row, axis]) for row, axis in enumerate(axes))),
    )
    return (z, y, x), (bool(cosines[0, z] < 0), bool(cosines[1, y] < 0), bool(cosines[2, x] < 0))


def check_spacing(name: str, geometry: Geometry) -> None:
    """``VolumeError`` for voxel distances that no head CT has (0.01 to 100 mm are taken)."""
    least, most = _SPACING_RANGE_MM
    spacings = list(geometry.spacing_yx_mm)
    if min(spacings) > 0:  # else the slices have no normal to measure along
        spacings += np.diff(geometry.slice_positions_mm).tolist()
    wrong = [value for value in spacings if not least <= value <= most]
    if wrong:
        raise refusal(
            name,
            f"the distance between voxels is {least:g} to {most:g} mm",
            f"this file says {wrong[0]:.4g} mm",
            "correct its header or export the scan again",
        )


def spacing_notes(geometry: Geometry) -> tuple[str, ...]:
    """What to say of the slices: their tilt and their distances, where they are out of the usual.

    Distances are perpendicular, those that occur more than once (the step between two stacks of
    slices is no slice spacing).
    """
    notes = []
    tilt = f"gantry tilt {geometry.tilt_degrees:.1f} degrees, "
    tilted = geometry.is_tilted
    if tilted or not geometry.is_even:
        notes.append(f"{tilt if tilted else ''}slices {_spacing_text(geometry)}")
    if not geometry.is_even:
        notes.append(
            "The slices are not evenly spaced: each counts with its own height"
            f" ({geometry.slice_heights_mm.min():.1f} to {geometry.slice_heights_mm.max():.1f} mm),"
            " and the mask is exported slice by slice, for NIfTI cannot hold it."
        )
    return tuple(notes)


def _spacing_text(geometry: Geometry) -> str:
    """Slice distances for people: "5.0 mm", "4.0 and 7.0 mm" or "2.1 to 6.8 mm"."""
    gaps_mm = np.diff(geometry.slice_positions_mm)
    if geometry.is_even:
        return f"{gaps_mm.mean():.1f} mm"
    counts = Counter(f"{gap:.1f}" for gap in gaps_mm)
    stacks = sorted((text for text, count in counts.items() if count > 1), key=float)
    if len(stacks) in (2, 3):
        return f"{', '.join(stacks[:-1])} and {stacks[-1]} mm"
    return f"{gaps_mm.min():.1f} to {gaps_mm.max():.1f} mm"


def _where(flips: tuple[bool, ...]) -> tuple[int, ...]:
    return tuple(axis for axis, flip in enumerate(flips) if flip)


def _corners(geometry: Geometry, shape_zyx: tuple[int, ...]) -> Float:
    """RAS+ mm of the four corner voxels of every slice, [z, 4, 3]."""
    down = geometry.y_step_mm * (shape_zyx[1] - 1)
    right = geometry.x_step_mm * (shape_zyx[2] - 1)
    offsets = np.stack([0 * down, down, right, down + right])
    return np.asarray(geometry.origins_mm[:, None, :] + offsets)


def whole_labels(name: str, mask: NDArray[Any], quantum: float = 0.0) -> NDArray[np.uint8]:
    """A mask's values as uint8, refused unless they are whole numbers from 0 to 255.

    A value within 1e-5 of a whole number is that number: a mask of 0 and 255 with a scale of 1/255 means 0 and 1.
    ``quantum`` is the least step between the values that the file could store, such as its scale: what lies within
    half of it is meant, up to 0.02.

    >>> whole_labels("mask", np.array([0.0, 0.9999998, 2.000001])).tolist()
    [0, 1, 2]
    """
    if mask.dtype in (np.bool_, np.uint8):
        return mask.astype(np.uint8, copy=False)
    with np.errstate(invalid="ignore"):
        labels = np.clip(np.rint(mask), 0, 255).astype(np.uint8)
        off = np.abs(mask - labels.astype(np.float64))
    wrong = mask[~(off <= max(_WHOLE_LABEL, min(quantum / 2, _COARSEST_LABEL)))]
    if wrong.size:
        raise refusal(
            name,
            "a mask holds whole numbers from 0 to 255",
            f"it has {wrong.flat[0]:g}",
            "give labels, 0 for background, not a scan or a probability map",
        )
    return labels


# --- Reading -----------------------------------------------------------------------------------------


def _read(paths: list[Path], series: str | None, add_offset: int) -> CTVolume:
    """Open what the paths hold; the zips among their files only where nothing else is a scan."""
    if len(paths) == 1 and paths[0].is_file() and paths[0].stat().st_size == 0:
        raise refusal(paths[0].name, FORMATS, "this file is empty", "copy or download it again")
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
    """Hand the files to the reader of their format: DICOM, or else the one file among them that is a scan by itself."""
    niftis = [*given.of("nifti"), *_pairs(given), *given.of("nrrd")]
    if not given.of("dicom"):
        return _read_one(given, niftis, series, add_offset)

    from ichseg.scan import (
        dicom,  # pydicom takes a while to import: only when there is DICOM to read
    )

    try:
        return dicom.read_series(given, series=series, add_offset=add_offset)
    except VolumeError as error:
        if len(niftis) != 1 or series is not None:
            raise
        refused = error
    try:
        return _read_one(given, niftis, series, add_offset)
    except VolumeError:
        raise refused from None


def _read_one(
    given: intake.Given, niftis: Sequence[intake.InputFile], series: str | None, add_offset: int
) -> CTVolume:
    """Open the one NIfTI, NRRD or MetaImage among the files."""
    if not niftis and given.files:
        lone = given.files[0].name
        raise refusal(
            given.name,
            "a .hdr and its .img are one NIfTI or Analyze image in two files",
            f"only '{lone}' is here",
            "give both together, or convert them to one .nii",
        )
    if not niftis:
        raise given.nothing()
    if len(niftis) > 1:
        names = ", ".join(f"'{file.name}'" for file in niftis[:5])
        raise refusal(
            given.name,
            f"a {_kinds_text(niftis)} scan is opened by itself",
            f"there are {len(niftis)} ({names}{', ...' if len(niftis) > 5 else ''})",
            "give one of them",
        )
    if series is not None:
        raise refusal(
            niftis[0].name,
            "only DICOM comes in series",
            f"series '{series}' of a {_kinds_text(niftis)} file was asked for",
            "leave the series out",
        )
    if niftis[0].kind == "nrrd":
        from ichseg.scan import nrrd  # SimpleITK takes a while to import: only when there is NRRD

        volume = nrrd.read_scan(niftis[0], add_offset)
    else:
        volume = _read_nifti(niftis[0], add_offset)
    parts = 2 if niftis[0].kind == "header" else 1
    notes = intake.passed_over([], given.count - parts)
    return replace(volume, notes=(*volume.notes, *notes))


def _kinds_text(files: Sequence[intake.InputFile]) -> str:
    return "NIfTI, NRRD or MetaImage" if any(file.kind == "nrrd" for file in files) else "NIfTI"


def _is_nifti(path: Path) -> bool:
    """Whether the file is NIfTI by name or by content."""
    return intake.kind_on_disk(path) == "nifti"


def _read_nifti(path: Path | intake.InputFile, add_offset: int) -> CTVolume:
    with _open_nifti(path) as file:
        check_spacing(path.name, file.geometry)
        slope, intercept = file.scaling
        planes = (Plane(plane, slope, intercept + add_offset) for plane in file.planes)
        stored, value_notes = stack_hounsfield(path.name, file.shape, planes)
    hu_zyx: Hounsfield = np.ascontiguousarray(file.to_display(stored))
    hu_zyx.setflags(write=False)
    file, warnings = _possible_statement(file, hu_zyx)
    notes = (*spacing_notes(file.geometry), *file.placement.notes, *value_notes)
    name = path.name.removesuffix(".gz").removesuffix(".nii").removesuffix(".hdr")
    return CTVolume(
        hu_zyx,
        file.geometry,
        name,
        (*notes, *offset_notes(add_offset)),
        warnings,
        source=file.grid,
    )


def _possible_statement(file: _NiftiFile, hu_zyx: Hounsfield) -> tuple[_NiftiFile, tuple[str, ...]]:
    """The file by the statement of its voxels' size that makes a possible head, and the warnings of it.

    The rule of ``nifti_header`` holds, unless by it the scan is no head and by another statement of the same header,
    with the same axes, it is one.
    """
    placement = file.placement
    if not placement.warnings or not plausible.doubts(hu_zyx, file.geometry):
        return file, placement.warnings
    for affine in placement.others:
        axes = display_axes(affine[:3, :3])
        geometry = _nifti_geometry(affine, file.grid)
        if axes != (file.grid.axes, file.grid.flips) or plausible.doubts(hu_zyx, geometry):
            continue
        used, left = (size_text(voxel_size_mm(one)) for one in (affine, placement.affine))
        if used == left:
            continue
        warning = (
            f"The header gives two voxel sizes, {left} and {used}: the second was used, for by the first this would be"
            " no head. ITK programs, and such as read with nibabel, may show the other size."
        )
        rest = tuple(one for one in placement.others if one is not affine)
        moved = replace(placement, affine=affine, others=(placement.affine, *rest))
        return replace(file, placement=moved, geometry=geometry), (warning,)
    return file, placement.warnings


def _pairs(given: intake.Given) -> list[intake.InputFile]:
    """The images in two files, .hdr and .img, each as the one NIfTI file that it would be."""
    images = {file.place: file for file in given.of("image")}
    return [
        replace(header, opener=partial(_joined, header, image))
        for header in given.of("header")
        if (image := images.get(header.place))
    ]


def _joined(header: intake.InputFile, image: intake.InputFile) -> BinaryIO:
    """A NIfTI-1 file of the two files of a pair: their bytes, with what Analyze has in NIfTI's fields set to 0.

    The two formats have one layout but for those (NIfTI-1 was made so); what an Analyze header lacks is where its
    voxels lie, and a missing scale is none in both.
    """
    with header.open() as stream:
        head = bytearray(stream.read(348))
    if len(head) < 348:
        remedy = "copy or download it again"
        raise refusal(header.name, "a .hdr has 348 bytes", f"this one has {len(head)}", remedy)
    if head[344:347] != b"ni1":
        for start, end in _ONLY_NIFTI:
            head[start:end] = bytes(end - start)
    order = "<" if head[:4] == (348).to_bytes(4, "little") else ">"
    offset = np.frombuffer(head, f"{order}f4", 1, 108)[0]
    head[108:112] = np.array(352, f"{order}f4").tobytes()
    head[344:348] = b"n+1\0"
    with image.open() as stream:
        voxels = stream.read(MAX_BYTES)
    start = int(offset) if 0 < offset < len(voxels) else 0
    return io.BytesIO(bytes(head) + bytes(4) + voxels[start:])


_ONLY_NIFTI = ((56, 70), (116, 124), (252, 348))
"""Bytes of a header that mean something else in Analyze 7.5 than in NIfTI-1: units, funused2 and 3, history."""


def _comments(path: Path) -> tuple[str, ...]:
    """The comments among a NIfTI header's extensions; what cannot be read is passed over."""
    with path.open("rb") as file:
        gzipped = file.read(2) == b"\x1f\x8b"
    with gzip.open(path) if gzipped else path.open("rb") as stream:
        header = _read_header(path.name, stream.read(540))
        start = header.sizeof_hdr + 4
        size = int(header.get_data_offset()) - start
        if not 0 < size <= _MAX_COMMENTS:
            return ()
        stream.seek(start - 4)
        if stream.read(4)[:1] != b"\x01":
            return ()
        try:
            with warnings.catch_warnings(action="ignore"):
                found = Nifti1Extensions.from_fileobj(
                    io.BytesIO(stream.read(size)), size, header.endianness == ">"
                )
            return tuple(one.text for one in found if one.get_code() == _COMMENT)
        except Exception:  # of a damaged extension nibabel raises many kinds
            return ()


@dataclass(frozen=True, eq=False)
class _NiftiFile:
    """What a NIfTI header says, and the planes of stored values [y, x] along the file's third axis, one by one."""

    name: str
    dtype: np.dtype[Any]
    scaling: tuple[float, float]
    placement: Placement
    grid: NiftiGrid
    geometry: Geometry
    planes: Iterator[NDArray[Any]]

    @property
    def shape(self) -> tuple[int, int, int]:
        """Planes, and their rows and columns."""
        x, y, z = self.grid.header.get_data_shape()[:3]
        return int(z), int(y), int(x)

    def to_display(self, planes_zyx: NDArray[Any]) -> NDArray[Any]:
        """A [z, y, x] view of the display frame, of the stacked planes."""
        return self.grid.to_display(planes_zyx.transpose(2, 1, 0))


@contextmanager
def _open_nifti(path: Path | intake.InputFile, least: int = 2) -> Iterator[_NiftiFile]:
    """A NIfTI file, of which one plane at a time is unpacked and held."""
    name = path.name
    try:
        with path.open("rb") as file, ExitStack() as stack:
            gzipped = file.read(2) == b"\x1f\x8b"
            file.seek(0)
            stream = stack.enter_context(gzip.GzipFile(fileobj=file)) if gzipped else file
            header = _read_header(name, stream.read(540))
            shape, dtype = header.get_data_shape(), header.get_data_dtype()
            _check_array(name, shape, dtype, least)
            voxels = math.prod(int(length) for length in shape)
            check_size(name, voxels, min(dtype.itemsize, 2))
            placement = place_voxels(name, header)
            grid = NiftiGrid(_grid_header(header), *display_axes(placement.affine[:3, :3]))
            yield _NiftiFile(
                name=name,
                dtype=dtype,
                scaling=_scaling(name, header),
                placement=placement,
                grid=grid,
                geometry=_nifti_geometry(placement.affine, grid),
                planes=_planes(name, stream, header),
            )
    except (EOFError, zlib.error, gzip.BadGzipFile) as error:
        raise refusal(
            name,
            "a .nii.gz must unpack whole",
            f"it breaks off or is damaged ({error})",
            "copy or download it again",
        ) from error


def _planes(
    name: str, stream: BinaryIO | gzip.GzipFile, header: nib.nifti1.Nifti1Header
) -> Iterator[NDArray[Any]]:
    """The stored planes in the file's order, refused where the file ends before the last."""
    dtype = header.get_data_dtype()
    columns, rows, count = (int(length) for length in header.get_data_shape()[:3])
    size = columns * rows * dtype.itemsize
    stream.seek(header.get_data_offset())
    for index in range(count):
        data = stream.read(size)
        if len(data) < size:
            raise refusal(
                name,
                f"its header promises {count * size:,} bytes of voxels",
                f"only {index * size + len(data):,} are there",
                "the file is truncated, so copy or download it again",
            )
        yield np.frombuffer(data, dtype).reshape(rows, columns)
    stream.read(1)  # reaches the end of a gzip stream, where its checksum is verified


def _read_header(name: str, head: bytes) -> nib.nifti1.Nifti1Header:
    """Parse the first bytes of a NIfTI-1 or NIfTI-2 file."""
    rule, remedy = FORMATS, "export the CT in one of these formats"
    second = head[4:7] == b"n+2"
    if not second and head[344:347] != b"n+1":
        raise refusal(name, rule, "this file is none of them", remedy)
    header_class = nib.Nifti2Header if second else nib.Nifti1Header
    try:
        header = header_class(head[: 540 if second else 348])
        offset = header.get_data_offset()
    except (HeaderDataError, ValueError, OverflowError) as error:
        raise refusal(name, rule, f"its header is damaged ({error})", remedy) from error
    if not 0 < offset <= MAX_BYTES:
        raise refusal(name, rule, f"its header puts the voxels at byte {offset}", remedy)
    return header


def _check_array(name: str, shape: tuple[int, ...], dtype: np.dtype[Any], least: int = 2) -> None:
    """Refuse what is not one 3-D array of grey values; trailing axes of length 1 do not count.

    ``least`` is the fewest slices, rows and columns: a mask cropped to its extent may have 1.
    """
    size = " x ".join(map(str, shape))
    if dtype.kind not in "iuf":
        raise refusal(
            name,
            "a CT voxel is one grey value",
            f"this file stores {'colours' if dtype.names else dtype.name}",
            "export the scan itself, not a picture of it",
        )
    if any(length != 1 for length in shape[3:]):
        raise refusal(
            name,
            "a scan is one 3-D volume",
            f"this file has {len(shape)} dimensions ({size})",
            "export one time point as its own file",
        )
    if len(shape) < 3 or min(shape[:3]) < least:
        raise refusal(
            name,
            f"a scan has at least {least} slices of {least} x {least} pixels",
            f"this file has {size or 'no voxels'}",
            "give the whole volume, not a single slice",
        )


def _nifti_geometry(affine: Float, grid: NiftiGrid) -> Geometry:
    """The geometry of the [z, y, x] view of a file with this affine."""
    return grid_geometry(affine, grid.header.get_data_shape()[:3], grid.axes, grid.flips)


def grid_geometry(
    affine: Float,
    shape_ijk: Sequence[int],
    axes: tuple[int, int, int],
    flips: tuple[bool, bool, bool],
) -> Geometry:
    """The geometry of the [z, y, x] view (``display_axes``) of a file's array of this affine, (i, j, k) -> RAS+ mm."""
    lengths = np.array(shape_ijk)[list(axes)]
    steps = affine[:3, list(axes)].T * np.where(flips, -1.0, 1.0)[:, None]
    first = affine[:3, 3] - np.where(flips, lengths - 1, 0) @ steps
    origins = first + np.arange(lengths[0])[:, None] * steps[0]
    return Geometry(origins, steps[1], steps[2])


def _scaling(name: str, header: nib.nifti1.Nifti1Header) -> tuple[float, float]:
    """Slope and intercept from stored to meant values; NIfTI's slope 0 means none."""
    try:
        slope, intercept = header.get_slope_inter()
    except HeaderDataError as error:
        raise refusal(
            name,
            "the intensity scaling must be finite",
            f"the header says otherwise ({error})",
            "correct it or export the scan again",
        ) from error
    return (1.0, 0.0) if slope is None else (float(slope), float(intercept))


_GRID_FIELDS = (
    *("pixdim", "xyzt_units", "qform_code", "sform_code"),
    *("quatern_b", "quatern_c", "quatern_d", "qoffset_x", "qoffset_y", "qoffset_z"),
    *("srow_x", "srow_y", "srow_z"),
)


def _grid_header(header: nib.nifti1.Nifti1Header) -> nib.nifti1.Nifti1Header:
    """A new uint8 header with the grid of ``header`` and none of its free text."""
    grid = type(header)()
    grid.set_data_shape(header.get_data_shape())
    for field in _GRID_FIELDS:
        grid[field] = header[field]
    grid.set_data_dtype(np.uint8)
    return grid


def _display_grid(volume: CTVolume) -> NiftiGrid:
    """A NIfTI grid in the display frame, for a scan that did not come from a NIfTI file."""
    affine, shape_xyz = volume.geometry.affine, volume.shape_zyx[::-1]
    header = nib.Nifti1Header()
    header.set_data_shape(shape_xyz)
    header.set_data_dtype(np.uint8)
    header.set_zooms(np.linalg.norm(affine[:3, :3], axis=0))
    header.set_xyzt_units("mm")
    header.set_sform(affine, code="scanner")
    if not volume.geometry.is_tilted:
        header.set_qform(affine, code="scanner")
    return NiftiGrid(header, (2, 1, 0), (False, False, False))
