"""A copy of a scan and its mask on a regular grid, for programs that refuse slices that are stacked aslant or unevenly.

ITK, and with it ITK-SNAP, 3D Slicer and elastix, takes images of perpendicular axes and one slice distance alone. The
scan itself is never resampled in this program: this is a copy, marked as one in its name and its header.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
from scipy import ndimage

from ichseg.arrays import Float
from ichseg.files.mask_header import mask_record
from ichseg.files.names import file_name
from ichseg.files.nifti_mask import mask_bytes, scan_bytes
from ichseg.marks.lesion import Lesion
from ichseg.measures.volume import volume_ml
from ichseg.scan.geometry import Geometry
from ichseg.scan.hounsfield import check_size
from ichseg.scan.scale import LOWEST_HU
from ichseg.scan.volume import CTVolume

SCAN_NAME, MASK_NAME = "regular-grid-scan.nii.gz", "regular-grid-mask.nii.gz"

_LEAST_GAP_MM = 1.0
"""A step between two stacks of slices may be smaller than any slice is thick; the copy's slices are not."""


def needs_regular_grid(volume: CTVolume) -> bool:
    """Whether ITK programs refuse a NIfTI file of this scan, or there can be none."""
    return volume.geometry.is_tilted or not volume.geometry.is_even


def aslant_note(volume: CTVolume) -> str:
    """What to say beside a NIfTI mask of a scan whose slices are stacked aslant; empty for any other scan."""
    if not volume.geometry.is_tilted:
        return ""
    instead = "a copy of scan and mask on a regular grid (--regular-grid FOLDER)"
    if volume.dicom is not None:
        instead = (
            f"the DICOM-SEG (--out mask.dcm), which holds every slice where it is, or {instead}"
        )
    return (
        "The slices are stacked aslant, as under a tilted gantry: programs built on ITK (ITK-SNAP, 3D Slicer, elastix)"
        f" refuse such a NIfTI file, or show it at another angle. For them take {instead}."
    )


def regular_grid(
    volume: CTVolume, labels_zyx: npt.ArrayLike
) -> tuple[CTVolume, npt.NDArray[np.uint8]]:
    """Scan and mask resampled to perpendicular axes and evenly spaced slices.

    The slices of the copy are parallel to the scan's and keep its pixels' size; where the scan's are evenly spaced,
    they lie at the same heights, so that a slice is shifted in its plane and not mixed with another. HU are
    interpolated linearly, what no slice covers is air; a label is the nearest voxel's.

    Args:
        volume: any scan.
        labels_zyx: whole numbers 0..255, [z, y, x] of its shape.

    Returns:
        The scan, with a note that says what it is and the warnings of the original, and the labels as uint8 [z, y, x].

    Raises:
        VolumeError: the copy would be larger than any scan may be.

    """
    labels = np.asarray(labels_zyx).astype(np.uint8)
    where, shape = _target(volume.geometry, volume.shape_zyx)
    check_size(volume.name, int(np.prod(shape)), volume.hu_zyx.itemsize)
    hu_zyx = np.empty(shape, dtype=volume.hu_zyx.dtype)
    laid = np.empty(shape, dtype=np.uint8)
    own_mm = volume.geometry.slice_positions_mm
    between_mm = (own_mm[:-1] + own_mm[1:]) / 2
    shifted: dict[int, npt.NDArray[np.float64]] = {}
    for index, position_mm in enumerate(where.slice_positions_mm):
        nearest = int(np.searchsorted(between_mm, position_mm))
        laid[index] = _shifted(labels[nearest], volume.geometry, nearest, where, shape[1:], 0, 0)
        place = float(np.interp(position_mm, own_mm, np.arange(len(own_mm))))
        below, weight = int(place + 1e-6), place % 1 if abs(place - round(place)) > 1e-6 else 0.0
        pair = {below} if weight == 0 else {below, below + 1}
        shifted = {
            k: shifted[k]
            if k in shifted
            else _shifted(volume.hu_zyx[k], volume.geometry, k, where, shape[1:], 1, LOWEST_HU)
            for k in pair
        }
        plane = shifted[below]
        if weight:
            plane = (1 - weight) * plane + weight * shifted[below + 1]
        hu_zyx[index] = np.rint(plane) if hu_zyx.dtype == np.int16 else plane
    hu_zyx.setflags(write=False)
    dz, dy, dx = float(where.slice_heights_mm[0]), *where.spacing_yx_mm
    note = (
        f"This is a copy, resampled to a regular grid of {dx:.4g} x {dy:.4g} x {dz:.4g} mm; its values and edges are"
        " not the scanner's own."
    )
    copy = CTVolume(
        hu_zyx,
        where,
        f"{volume.name}, on a regular grid",
        (note,),
        volume.warnings,
        volume.label,
    )
    return copy, laid


def regular_grid_files(
    volume: CTVolume,
    labels_zyx: npt.ArrayLike,
    lesions: Sequence[Lesion] = (),
    *,
    method: str | None = None,
    made: str = "",
) -> tuple[dict[str, bytes], str]:
    """The copies of scan and mask as NIfTI files by their names, and what to say beside them.

    Args:
        volume: the scan.
        labels_zyx: whole numbers 0..255, [z, y, x].
        lesions: what the labels stand for; none for a mask of 0 and 1.
        method: the name of the method whose mask it is.
        made: what decided the mask besides (``mask_header.mask_record``).

    Returns:
        Content by file name, the scan first; a sentence with the volume on both grids.

    Raises:
        VolumeError: as ``regular_grid``.

    """
    copy, labels = regular_grid(volume, labels_zyx)
    said = {"resampled_from": volume.sha256}
    record = {**mask_record(copy, lesions, method=method, made=made), **said}
    scan_name, mask_name = file_name(volume, SCAN_NAME), file_name(volume, MASK_NAME)
    files = {
        scan_name: scan_bytes(copy, {**mask_record(copy), **said}),
        mask_name: mask_bytes(mask_name, labels, copy, record),
    }
    own_ml, copy_ml = volume_ml(np.asarray(labels_zyx) != 0, volume), volume_ml(labels != 0, copy)
    return files, (
        f"{scan_name} and {mask_name} are copies, resampled to a regular grid, which every NIfTI program opens: the"
        f" mask has {copy_ml:.2f} mL on it and {own_ml:.2f} mL on the scan's own grid, which is the one to report."
    )


def _target(
    scan: Geometry, shape_zyx: tuple[int, int, int]
) -> tuple[Geometry, tuple[int, int, int]]:
    """The regular grid that covers every voxel of a scan, and its shape."""
    across, down, dx, dy = _plane_axes(scan)
    positions_mm = scan.slice_positions_mm
    gaps_mm = np.diff(positions_mm)
    first_mm = positions_mm[0] - gaps_mm[0] / 2
    height_mm = positions_mm[-1] + gaps_mm[-1] / 2 - first_mm
    gap_mm = float(gaps_mm.mean() if scan.is_even else max(gaps_mm.min(), _LEAST_GAP_MM))
    slices = max(2, round(height_mm / gap_mm))
    centres_mm = first_mm + (np.arange(slices) + 0.5) * height_mm / slices
    corners = scan.corners_mm(shape_zyx)
    start = scan.origins_mm[0]
    places = (corners - start) @ np.stack([down / dy, across / dx], axis=1)
    low = np.floor(places.min(axis=(0, 1)) + 1e-6)
    rows, columns = (np.ceil(places.max(axis=(0, 1)) - 1e-6) - low).astype(int) + 1
    origin = start + low[0] * dy * down + low[1] * dx * across
    origins = origin + (centres_mm - origin @ scan.normal)[:, None] * scan.normal
    return Geometry(origins, dy * down, dx * across), (slices, int(rows), int(columns))


def _plane_axes(scan: Geometry) -> tuple[Float, Float, float, float]:
    """Perpendicular unit vectors along a slice's rows and columns, and the pixel's size along them."""
    dx = float(np.linalg.norm(scan.x_step_mm))
    across = scan.x_step_mm / dx
    perpendicular = scan.y_step_mm - (scan.y_step_mm @ across) * across
    dy = float(np.linalg.norm(perpendicular))
    return across, perpendicular / dy, dx, dy


def _shifted(
    plane: npt.NDArray[np.generic],
    scan: Geometry,
    index: int,
    where: Geometry,
    shape_yx: tuple[int, int],
    order: int,
    beyond: int,
) -> npt.NDArray[np.float64]:
    """A slice of the scan on the pixels of the regular grid, where it lies in its plane."""
    matrix = scan.to_pixels(np.stack([where.y_step_mm, where.x_step_mm], axis=1))
    offset = scan.to_pixels(where.origins_mm[0] - scan.origins_mm[index])
    found: npt.NDArray[np.float64] = ndimage.affine_transform(
        plane.astype(np.float64),
        matrix,
        offset,
        output_shape=shape_yx,
        order=order,
        mode="grid-constant" if order else "constant",
        cval=beyond,
    )
    return found
