"""Warnings for a voxel or a head that cannot be: every scan is looked at when it is read, whatever its format.

What is looked at is what a wrong voxel size would change. A doubt is said and never mended here: the header is the
only statement of size that there is. Nothing is said of what cannot be judged, such as a head without its skull, or a
crop through it.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
from scipy import ndimage

from ichseg.arrays import EIGHT_CONNECTED
from ichseg.scan.limits import SOLID_BONE_HU
from ichseg.scan.scale import Hounsfield

if TYPE_CHECKING:
    from ichseg.scan.geometry import Geometry

HEAD_MM = (90.0, 320.0)
"""Extents of bone across a head in a slice: a newborn's skull is some 95 mm wide; an adult's is 150 mm wide and 195 mm
long, and chin, jaw and ears included no head comes near 320 mm."""

VAULT_MM = (35.0, 160.0)
"""From the slice where a skull is widest up to its vertex: 80 to 110 mm in an adult, some 50 mm in a newborn."""

_MOST_ANISOTROPIC = 1.5
"""Pixels of CT are square; where the header of a tilted series keeps its shear, they are up to 1.15 times as long."""

_NARROW_MM, _TALL_MM = 90.0, 400.0
_SLICES_LOOKED_AT = 48
_BLOCKS = 128
_FEWEST_SLICES = 8
_WIDEST_SKULL_MM = 220.0
"""What is wider is shoulders."""


def doubts(hu_zyx: Hounsfield, geometry: Geometry) -> tuple[str, ...]:
    """The warnings that a scan's voxels and head call for, [z, y, x] in HU; empty where there is none."""
    default = _default_voxels(hu_zyx.shape, geometry)
    odd_axes = _odd_axes(hu_zyx.shape, geometry, bool(default))
    return (*default, *odd_axes) if odd_axes else (*default, *_impossible_head(hu_zyx, geometry))


def _default_voxels(shape_zyx: Sequence[int], geometry: Geometry) -> tuple[str, ...]:
    """A warning for the grid that a program writes when it knows of none.

    That is voxels of exactly 1 x 1 x 1 mm along the axes, with the origin at a corner or in the middle of the array
    (``numpy.eye(4)``, its flips, ITK's and NIfTI's own defaults). A scan that was resampled to 1 mm keeps its place.
    """
    if not geometry.is_even:
        return ()
    affine = geometry.affine
    steps = affine[:3, :3]
    one_each = np.abs(np.abs(steps) - np.abs(np.rint(steps))).max() < 1e-6
    if not one_each or not np.allclose(np.abs(steps).sum(axis=0), 1.0, atol=1e-6):
        return ()
    lengths = np.abs(steps) @ np.array(shape_zyx[::-1])  # along the patient's own axes
    origin = np.abs(affine[:3, 3])
    usual = np.stack([0 * lengths, lengths - 1, (lengths - 1) / 2, lengths / 2, lengths // 2])
    if not (np.abs(usual - origin) < 1e-3).any(axis=0).all():
        return ()
    z, y, x = shape_zyx
    return (
        "The voxels are exactly 1 x 1 x 1 mm and the origin is the array's own, as a program writes where it knows no"
        f" voxel size: the scan would be {x} x {y} x {z} mm. Millilitres and millimetres are not to be trusted"
        " until the true voxel size is in the header.",
    )


def _odd_axes(shape_zyx: Sequence[int], geometry: Geometry, is_default: bool) -> tuple[str, ...]:
    """A warning where the axis that the header calls foot to head is plainly another one.

    That shows in pixels that are not square, in slices that are a strip of a stack too tall for a head, and, where the
    header ``is_default``, in slices that have one side much shorter than there are slices.
    """
    slices, rows, columns = shape_zyx
    dy, dx = geometry.spacing_yx_mm
    dz = float(np.median(np.diff(geometry.slice_positions_mm)))
    is_oblong = max(dy, dx) > _MOST_ANISOTROPIC * min(dy, dx)
    is_strip = min(rows * dy, columns * dx) < _NARROW_MM and slices * dz > _TALL_MM
    is_turned = is_default and slices > 2 * min(rows, columns)
    if not (is_oblong or is_strip or is_turned):
        return ()
    return (
        f"The slices would be {columns} x {rows} pixels of {dx:.4g} x {dy:.4g} mm, {dz:.4g} mm apart, which no axial"
        " head CT has: the scan was made or saved in another plane, or its header names the axes wrongly. Check the"
        " picture; what is measured in a slice's plane, and what a model finds, is in doubt.",
    )


def _impossible_head(hu_zyx: Hounsfield, geometry: Geometry) -> tuple[str, ...]:
    """A warning for a skull of a size that no head has.

    In each of up to 48 slices the largest connected part of bone is measured across and down. It is too large where
    the upper half of the slices shows that (shoulders, in the lower slices of a neck, do not count). It is too small
    where it lies clear of the image's edges, so that it was not cropped, and gets smaller below its widest slice as
    well as above, so that the widest part of the head was scanned, and not the vertex alone. How high the vault rises
    can be told where the vertex was scanned, too.
    """
    chosen = np.unique(np.linspace(0, len(hu_zyx) - 1, _SLICES_LOOKED_AT).round().astype(int))
    found = [(int(index), _bone_extent(hu_zyx[index])) for index in chosen]
    seen = [(index, *extent) for index, extent in found if extent is not None]
    if len(seen) < 2:
        return ()
    sizes = np.array([size for _, *size, _ in seen]) * geometry.spacing_yx_mm
    least, most = HEAD_MM
    largest = np.percentile(sizes[len(sizes) // 2 :], 90, axis=0)
    if largest.max() > most:
        return (_head_warning(largest, f"over {most:g} mm"),)
    areas = sizes.prod(axis=1) * (sizes[:, 1] < _WIDEST_SKULL_MM)
    widest = int(areas.argmax())
    if any(is_cut for *_, is_cut in seen) or len(seen) < _FEWEST_SLICES or widest < len(seen) // 5:
        return ()
    largest = np.percentile(sizes, 95, axis=0)
    if largest.min() < least:
        return (_head_warning(largest, f"under {least:g} mm"),)
    if float(areas[-1]) > float(areas.max()) / 2:  # the vertex is not in the scan
        return ()
    positions = geometry.slice_positions_mm
    height = float(positions[seen[-1][0]] - positions[seen[widest][0]])
    least, most = VAULT_MM
    if least <= height <= most:
        return ()
    limit = f"under {least:g}" if height < least else f"over {most:g}"
    return (
        f"The skull would rise {height:.0f} mm from its widest slice to its top, which is {limit} mm and cannot be: the"
        " distance of the slices is in doubt, and with it every millilitre.",
    )


def _bone_extent(slice_hu: npt.NDArray[Any]) -> tuple[int, int, bool] | None:
    """Rows and columns that the largest part of bone reaches over, and whether it ends at the image's edge.

    None where there is hardly any. Bone is looked for in blocks of pixels, so that thin bone holds together.
    """
    step = max(1, -(-max(slice_hu.shape) // _BLOCKS))
    bone = slice_hu > SOLID_BONE_HU
    padded = np.pad(bone, [(0, -size % step) for size in bone.shape])
    rows, columns = (size // step for size in padded.shape)
    blocks = padded.reshape(rows, step, columns, step).any(axis=(1, 3))
    labels, count = ndimage.label(blocks, EIGHT_CONNECTED)
    if not count:
        return None
    sizes = np.bincount(labels.ravel())
    sizes[0] = 0
    if sizes.max() < 8:
        return None
    down, across = ndimage.find_objects(labels)[int(sizes.argmax()) - 1]
    own = bone[down.start * step : down.stop * step, across.start * step : across.stop * step]
    own_rows, own_columns = np.flatnonzero(own.any(axis=1)), np.flatnonzero(own.any(axis=0))
    first_row, first_column = down.start * step, across.start * step
    is_cut = (
        first_row + own_rows[0] == 0
        or first_column + own_columns[0] == 0
        or first_row + own_rows[-1] == slice_hu.shape[0] - 1
        or first_column + own_columns[-1] == slice_hu.shape[1] - 1
    )
    return int(np.ptp(own_rows)) + 1, int(np.ptp(own_columns)) + 1, bool(is_cut)


def _head_warning(size_mm: npt.NDArray[np.float64], limit: str) -> str:
    down, across = size_mm
    return (
        f"The skull would be {across:.0f} mm wide and {down:.0f} mm long, {limit} and so no head: the voxel size in the"
        " header is in doubt, and with it every millilitre."
    )
