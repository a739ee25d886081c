"""NRRD and MetaImage through SimpleITK: scans in, images on a scan's grid out.

Both hold an affine in double precision, so that what is written lies exactly where its scan lies. ITK's LPS coordinates
are met only here. What a ``.seg.nrrd`` says of its segments is read and written by ``ichseg.files.nrrd_mask``.
"""

# mypy: disallow-untyped-calls=False
# SimpleITK ships types for the arguments of its functions, but not for what they return.
from __future__ import annotations

import re
import shutil
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from ichseg.arrays import Float
from ichseg.errors import refusal
from ichseg.scan.formats import InputFile, reader_of
from ichseg.scan.geometry import (
    FileAxes,
    Geometry,
    check_spacing,
    display_axes,
    grid_geometry,
    spacing_notes,
)
from ichseg.scan.hounsfield import Plane, check_sides, check_size, offset_notes, stack_hounsfield
from ichseg.scan.volume import CTVolume

if TYPE_CHECKING:
    import SimpleITK as sitk


_LPS_TO_RAS = np.array([-1.0, -1.0, 1.0])
_MAX_HEADER_BYTES = 1 << 20
REMEDY = "save it again as one .nrrd or .mha file"
_NO_SIDE = "The file does not say which side is which: left and right may be swapped."


def read_scan(file: InputFile, add_offset: int = 0) -> CTVolume:
    """Open a scan; see ``ichseg.scan.read.read_volume``. Raises VolumeError where it is none."""
    with TemporaryDirectory() as folder, file.open() as stream:
        path = Path(folder) / file.name  # ITK reads nothing but a file on a disk
        with path.open("wb") as copy:
            shutil.copyfileobj(stream, copy)
        return _scan(path, add_offset)


def _scan(path: Path, add_offset: int) -> CTVolume:
    image = open_image(path, least=2)
    geometry, hu = image.geometry, image.values
    if hu.ndim > 3:
        raise refusal(
            path.name,
            "a CT voxel is one grey value",
            f"this file has {hu.shape[3]} a voxel",
            "export the scan itself, not a picture or a segmentation of it",
        )
    check_spacing(path.name, geometry)
    planes = (Plane(plane, 1.0, float(add_offset)) for plane in hu)
    hu_zyx, value_notes = stack_hounsfield(path.name, (len(hu), *hu.shape[1:]), planes)
    hu_zyx.setflags(write=False)
    name = path.name
    row = reader_of("nrrd")
    assert row is not None
    for ending in (*row.suffixes, ".seg"):
        name = name.removesuffix(ending)
    return CTVolume(
        hu_zyx,
        geometry,
        name,
        (*spacing_notes(geometry), *image.notes, *value_notes, *offset_notes(add_offset)),
        file_axes=image.axes,
    )


def _is_nrrd(head: bytes) -> bool:
    return head[:4] == b"NRRD"


def _is_meta_image(head: bytes) -> bool:
    return re.match(rb"\s*(ObjectType|NDims)\s*=", head) is not None


@dataclass(frozen=True, eq=False)
class OpenedImage:
    """What one file of NRRD or MetaImage holds.

    Attributes:
        geometry: where its voxels are, in the display frame.
        values: the stored values there, [z, y, x], or [z, y, x, layer] where a voxel has several.
        fields: names and texts of its header.
        notes: sentences to say to the user.
        axes: which of the file's axes i, j, k is z, y and x, and whether it runs the other way.
        image: what holds the values' memory: they are to be used while this is there.

    """

    geometry: Geometry
    values: NDArray[Any]
    fields: Mapping[str, str]
    notes: tuple[str, ...]
    axes: FileAxes
    image: Any


def open_image(path: Path, least: int) -> OpenedImage:
    """Read a file whole; ``least`` is the fewest slices, rows and columns.

    Raises:
        VolumeError: it is damaged, no 3-D volume, too large, or its voxels are in another file.

    """
    import SimpleITK as sitk

    name, rule = path.name, "a scan or a mask in NRRD or MetaImage is one whole file"
    nrrd = _check_header(path)
    sitk.ProcessObject.SetGlobalWarningDisplay(False)  # it would name the file on the console
    reader = sitk.ImageFileReader()
    reader.SetImageIO("NrrdImageIO" if nrrd else "MetaImageIO")
    reader.SetFileName(str(path))
    try:
        reader.ReadImageInformation()
        size = reader.GetSize()
        if len(size) != 3 or min(size) < least:
            shape = " x ".join(map(str, size))
            received = f"this file has {shape}"
            at_least = f"{least} slices of {least} x {least} pixels or more"
            raise refusal(name, f"a scan is one 3-D volume of {at_least}", received, REMEDY)
        check_sides(name, tuple(size))
        voxels = int(np.prod(size, dtype=np.int64)) * reader.GetNumberOfComponents()
        check_size(name, voxels, _bytes_each(reader))
        image = reader.Execute()
        values = sitk.GetArrayViewFromImage(image)
    except RuntimeError as error:
        raise refusal(name, rule, "this one is damaged or cannot be read", REMEDY) from error
    if values.dtype.kind not in "iuf":
        raise refusal(name, "a voxel is one number", f"this file has {values.dtype.name}", REMEDY)
    directions = np.array(image.GetDirection(), dtype=np.float64).reshape(3, 3)
    matrix = directions * np.array(image.GetSpacing()) * _LPS_TO_RAS[:, None]
    affine = np.eye(4)
    affine[:3, :3], affine[:3, 3] = matrix, np.array(image.GetOrigin()) * _LPS_TO_RAS
    lengths = np.linalg.norm(matrix, axis=0)
    if (
        not np.isfinite(affine).all()
        or lengths.min() == 0
        or abs(np.linalg.det(matrix / lengths)) < 0.1
    ):
        received = "they hold NaN, or axes that are not independent"
        raise refusal(name, "its directions must give every voxel its place", received, REMEDY)
    axes, flips = display_axes(matrix)
    shape_ijk = (int(size[0]), int(size[1]), int(size[2]))
    geometry = grid_geometry(affine, shape_ijk, axes, flips)
    # numpy has the file's axes in reverse: k, j, i, and then the values of a voxel
    rest = tuple(range(3, values.ndim))
    turned = values.transpose(*(2 - axis for axis in axes), *rest)
    view = np.flip(turned, tuple(axis for axis, flip in enumerate(flips) if flip))
    unsaid = nrrd and "NRRD_space" not in image.GetMetaDataKeys()
    # The name of a damaged field may be none that ITK takes back.
    keys = [key for key in image.GetMetaDataKeys() if key.isascii()]
    fields = {key: str(image.GetMetaData(key)) for key in keys}
    return OpenedImage(geometry, view, fields, (_NO_SIDE,) if unsaid else (), (axes, flips), image)


def _bytes_each(reader: sitk.ImageFileReader) -> int:
    import SimpleITK as sitk

    text = sitk.GetPixelIDValueAsString(reader.GetPixelID())
    bits = re.search(r"(\d+)-bit", text)
    return int(bits[1]) // 8 if bits else 8


def _check_header(path: Path) -> bool:
    """Whether the file is NRRD, else MetaImage; refused where its voxels are in another file than this.

    A header can name any file of the machine, so none but the file itself is read.
    """
    name = path.name
    with path.open("rb") as stream:
        head = stream.read(_MAX_HEADER_BYTES)
    if _is_nrrd(head):
        header = re.split(rb"\r?\n\r?\n", head, maxsplit=1)[0]
        apart = re.search(rb"data ?file\s*:", header, re.IGNORECASE) is not None
    elif _is_meta_image(head):
        # MetaImage's readers take : for =. The first mention counts, and only as a line of its own.
        first = re.search(rb"(^[ \t]*)?ElementDataFile(\s*[=:]\s*LOCAL\s)?", head, re.MULTILINE)
        if first is None:
            received = "this one does not"
            raise refusal(name, "a MetaImage says where its voxels are", received, REMEDY)
        apart = first[1] is None or first[2] is None
    else:
        rule = f"a file named {path.suffix.lower()} is NRRD or MetaImage"
        raise refusal(name, rule, "this one is something else", REMEDY)
    if apart:
        raise refusal(
            name,
            "a scan or a mask is one file with its voxels in it",
            "this is a header whose voxels are in another file",
            REMEDY,
        )
    return _is_nrrd(head)


def _stored_axes(volume: CTVolume) -> FileAxes:
    """Which of the axes i, j, k of the scan's own file is z, y and x on screen, and whether it runs the other way.

    As ITK reads that file: of a DICOM series it orders the slices along the cross product of row and column.
    """
    if volume.file_axes is not None:
        return volume.file_axes
    if volume.source is not None:
        return volume.source.axes, volume.source.flips
    if volume.dicom is None:
        return (2, 1, 0), (False, False, False)
    row, column = np.array(volume.dicom.orientation[:3]), np.array(volume.dicom.orientation[3:])
    _, y, x = volume.dicom.axes
    _, flip_y, flip_x = volume.dicom.flips
    return (2, 2 - y, 2 - x), (bool(np.cross(row, column)[2] < 0), flip_y, flip_x)


def _stored_affine(
    geometry: Geometry,
    shape_zyx: tuple[int, int, int],
    axes: tuple[int, int, int],
    flips: tuple[bool, bool, bool],
) -> tuple[Float, Float]:
    """Steps along the file's axes i, j, k as columns [3, 3], and the place of its first voxel, RAS+ mm."""
    display = geometry.affine
    steps_zyx = display[:3, [2, 1, 0]]
    signs = np.where(flips, -1.0, 1.0)
    matrix = np.empty((3, 3))
    matrix[:, list(axes)] = steps_zyx * signs
    origin = display[:3, 3].copy()
    for axis, flip in enumerate(flips):
        if flip and axis == 0:
            origin += geometry.origins_mm[-1] - geometry.origins_mm[0]
        elif flip:
            origin += steps_zyx[:, axis] * (shape_zyx[axis] - 1)
    return matrix, origin


def stored(volume: CTVolume, array_zyx: NDArray[Any]) -> NDArray[Any]:
    """An array of the display frame as a view in the axes i, j, k of the scan's own file."""
    axes, flips = _stored_axes(volume)
    flipped = tuple(axis for axis, flip in enumerate(flips) if flip)
    return np.flip(array_zyx, flipped).transpose(np.argsort(axes))


def image_bytes(
    suffix: str,
    array_zyx: NDArray[Any],
    volume: CTVolume,
    fields: Iterable[tuple[str, str]] = (),
) -> bytes:
    """An array on the scan's own grid as the content of a file, in double precision, compressed.

    Args:
        suffix: the ending that names the format to ITK: ``.nrrd``, ``.seg.nrrd`` or ``.mha``.
        array_zyx: [z, y, x] of the scan's shape.
        volume: the scan; evenly spaced.
        fields: names and texts to stand in the header.

    """
    import SimpleITK as sitk

    stored_ijk = stored(volume, array_zyx)
    image = sitk.GetImageFromArray(np.ascontiguousarray(stored_ijk.transpose(2, 1, 0)))
    matrix, origin = _stored_affine(volume.geometry, volume.shape_zyx, *_stored_axes(volume))
    spacing = np.linalg.norm(matrix, axis=0)
    image.SetSpacing(spacing.tolist())
    image.SetDirection((matrix / spacing * _LPS_TO_RAS[:, None]).ravel().tolist())
    image.SetOrigin((origin * _LPS_TO_RAS).tolist())
    for key, text in fields:
        image.SetMetaData(key, text)
    with TemporaryDirectory() as folder:
        path = Path(folder) / f"image{suffix}"
        sitk.ProcessObject.SetGlobalWarningDisplay(False)
        sitk.WriteImage(image, str(path), True)
        return path.read_bytes()
