"""NIfTI, the one place that meets nibabel's files: scans in, arrays out on a file's own grid.

Of a file one plane at a time is unpacked and held.
"""

# mypy: disallow-untyped-calls=False
# nibabel ships types for only some of its functions.
from __future__ import annotations

import gzip
import io
import logging
import math
import warnings
import zlib
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, BinaryIO

import nibabel as nib
import numpy as np
from nibabel.nifti1 import Nifti1Extension, Nifti1Extensions
from nibabel.spatialimages import HeaderDataError
from numpy.typing import NDArray

from ichseg.errors import refusal
from ichseg.scan import formats, plausible
from ichseg.scan.formats import InputFile
from ichseg.scan.geometry import Geometry, check_spacing, display_axes, spacing_notes
from ichseg.scan.hounsfield import (
    MAX_BYTES,
    Plane,
    check_sides,
    check_size,
    offset_notes,
    stack_hounsfield,
)
from ichseg.scan.nifti_grid import NiftiGrid, nifti_geometry
from ichseg.scan.nifti_header import Placement, place_voxels, size_text, voxel_size_mm
from ichseg.scan.scale import Hounsfield
from ichseg.scan.volume import CTVolume

nib.imageglobals.logger.setLevel(
    logging.CRITICAL
)  # what is wrong with a header is said once, in our sentence


_COMMENT, _MAX_COMMENTS = 6, 1 << 20


def nifti_bytes(grid: NiftiGrid, array_zyx: NDArray[Any], description: str, comment: str) -> bytes:
    """The content of a NIfTI file of an array on a grid.

    Args:
        grid: where its voxels are.
        array_zyx: [z, y, x] in the display frame, of the grid's shape; its own type is what is stored.
        description: at most 79 characters of ASCII, for ``descrip``.
        comment: for an extension of the header (a comment, code 6).

    """
    image_class = nib.Nifti2Image if grid.header.sizeof_hdr == 540 else nib.Nifti1Image
    image = image_class(grid.to_file(array_zyx), None, grid.header)
    image.set_data_dtype(array_zyx.dtype)
    image.header["descrip"] = description.encode()
    image.header.extensions.append(Nifti1Extension("comment", comment.encode()))
    return bytes(image.to_bytes())


def read_nifti(path: Path | InputFile, add_offset: int) -> CTVolume:
    """Open a NIfTI scan; see ``ichseg.scan.read.read_volume``. Raises VolumeError where it is none."""
    with open_nifti(path) as file:
        check_spacing(path.name, file.geometry)
        slope, intercept = file.scaling
        planes = (Plane(plane, slope, intercept + add_offset) for plane in file.planes)
        hu_zyx, value_notes = stack_hounsfield(
            path.name,
            file.shape,
            planes,
            held_shape=file.grid.shape_zyx,
            as_planes=file.from_display,
        )
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


def _possible_statement(file: NiftiFile, hu_zyx: Hounsfield) -> tuple[NiftiFile, tuple[str, ...]]:
    """The file by the statement of its voxels' size that makes a possible head, and the warnings of it.

    The rule of ``nifti_header`` holds, unless by it the scan is no head and by another statement of the same header,
    with the same axes, it is one.
    """
    placement = file.placement
    if not placement.warnings or not plausible.doubts(hu_zyx, file.geometry):
        return file, placement.warnings
    for affine in placement.others:
        axes = display_axes(affine[:3, :3])
        geometry = nifti_geometry(affine, file.grid)
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


def joined(header: InputFile, image: InputFile) -> BinaryIO:
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
    voxels = image.open()
    start = int(offset) if 0 < offset < voxels.seek(0, io.SEEK_END) else 0
    return io.BufferedReader(_Behind(bytes(head) + bytes(4), voxels, start))


class _Behind(io.RawIOBase):
    """One file, to be read, of a header and the bytes of another file from ``start`` on; nothing of that is held."""

    def __init__(self, head: bytes, file: BinaryIO, start: int) -> None:
        super().__init__()
        self._head, self._file, self._start, self._at = head, file, start, 0

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        if whence == io.SEEK_END:
            raise io.UnsupportedOperation("only from the start, and from here")
        self._at = offset + (self._at if whence == io.SEEK_CUR else 0)
        return self._at

    def readinto(self, buffer: Any) -> int:
        if self._at < len(self._head):
            part = self._head[self._at : self._at + len(buffer)]
        else:
            self._file.seek(self._start + self._at - len(self._head))
            part = self._file.read(len(buffer))
        buffer[: len(part)] = part
        self._at += len(part)
        return len(part)

    def close(self) -> None:
        self._file.close()
        super().close()


_ONLY_NIFTI = ((56, 70), (116, 124), (252, 348))
"""Bytes of a header that mean something else in Analyze 7.5 than in NIfTI-1: units, funused2 and 3, history."""


def comments(path: Path) -> tuple[str, ...]:
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
class NiftiFile:
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

    def from_display(self, array_zyx: NDArray[Any]) -> NDArray[Any]:
        """A view of an array of the display frame as planes in the file's order: the other way of ``to_display``."""
        x, y, z = self.grid.header.get_data_shape()[:3]
        return self.grid.to_file(array_zyx).reshape(x, y, z).transpose(2, 1, 0)

    def to_display(self, planes_zyx: NDArray[Any]) -> NDArray[Any]:
        """A [z, y, x] view of the display frame, of the stacked planes."""
        return self.grid.to_display(planes_zyx.transpose(2, 1, 0))


@contextmanager
def open_nifti(path: Path | InputFile, least: int = 2) -> Iterator[NiftiFile]:
    """A NIfTI file, of which one plane at a time is unpacked and held."""
    name = path.name
    try:
        with path.open("rb") as file, ExitStack() as stack:
            gzipped = file.read(2) == b"\x1f\x8b"
            file.seek(0)
            stream = (
                stack.enter_context(gzip.GzipFile(fileobj=file, mode="rb")) if gzipped else file
            )
            header = _read_header(name, stream.read(540))
            shape, dtype = header.get_data_shape(), header.get_data_dtype()
            _check_array(name, shape, dtype, least)
            voxels = math.prod(check_sides(name, tuple(int(length) for length in shape)))
            check_size(name, voxels, min(dtype.itemsize, 2))
            placement = place_voxels(name, header)
            grid = NiftiGrid(_grid_header(header), *display_axes(placement.affine[:3, :3]))
            yield NiftiFile(
                name=name,
                dtype=dtype,
                scaling=_scaling(name, header),
                placement=placement,
                grid=grid,
                geometry=nifti_geometry(placement.affine, grid),
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
    rule, remedy = formats.rule(), "export the CT in one of these formats"
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


def display_grid(volume: CTVolume) -> NiftiGrid:
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
