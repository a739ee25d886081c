"""A mask's values and its place: whole numbers, laid onto the grid of the scan that it was drawn on."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ichseg.errors import refusal
from ichseg.scan.geometry import POSITION_TOLERANCE_MM, Geometry
from ichseg.scan.volume import CTVolume

_WHOLE_LABEL, _COARSEST_LABEL = 1e-5, 0.02


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
        error_mm = np.abs(geometry.corners_mm(shape) - scan.corners_mm(shape)).max()
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
    steps = scan.to_pixels(origin - scan.origins_mm[k])
    y, x = (int(step) for step in np.rint(np.clip(steps, -1e6, 1e6)))
    nearest = scan.origins_mm[k] + y * scan.y_step_mm + x * scan.x_step_mm
    placed, size = Geometry(nearest[None], scan.y_step_mm, scan.x_step_mm), (1, rows, columns)
    error_mm = float(np.abs(geometry.corners_mm(size) - placed.corners_mm(size)).max())
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
