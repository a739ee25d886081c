"""Masks as NIfTI, on the scan's own grid: written, and read onto it again."""

from __future__ import annotations

import gzip
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ichseg.errors import refusal
from ichseg.files.mask_grid import place_labels, whole_labels
from ichseg.files.mask_header import mask_record, record_text, short_text
from ichseg.replace_file import write_whole
from ichseg.scan.geometry import (
    POSITION_TOLERANCE_MM,
    Geometry,
    display_axes,
    spacing_text,
)
from ichseg.scan.intake import kind_on_disk
from ichseg.scan.nifti import comments, display_grid, nifti_bytes, open_nifti
from ichseg.scan.nifti_grid import NiftiGrid, nifti_geometry
from ichseg.scan.nifti_header import Placement, place_voxels
from ichseg.scan.volume import CTVolume, ScanPath


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
            f"this series has {spacing_text(volume.geometry)}",
            "export the slice-wise CSV and PNG instead",
        )
    said = mask_record(volume) if record is None else record
    data = nifti_bytes(volume.source or display_grid(volume), labels, *_said(said))
    return gzip.compress(data, 6, mtime=0) if name.lower().endswith(".gz") else data


def scan_bytes(volume: CTVolume, record: Mapping[str, Any]) -> bytes:
    """The HU of a scan as gzipped NIfTI on its own grid, with what the file says of itself in its header."""
    grid = volume.source or display_grid(volume)
    return gzip.compress(nifti_bytes(grid, volume.hu_zyx, *_said(record)), 6, mtime=0)


def _said(record: Mapping[str, Any]) -> tuple[str, str]:
    """What a file says of itself: in short for ``descrip``, and in full for a comment."""
    return short_text(record), record_text(record)


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
    if not path.is_file() or kind_on_disk(path) != "nifti":
        raise refusal(
            path.name,
            "a mask is a NIfTI file",
            "this is " + ("something else" if path.exists() else "not there"),
            "give the .nii or .nii.gz drawn on this scan",
        )
    with open_nifti(path, least=1) as file:
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
    return np.ascontiguousarray(on_grid), comments(path)


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
        grids.append((own, nifti_geometry(affine, own)))
    return grids


def _distance_mm(one: Geometry, other: Geometry, shape_zyx: tuple[int, ...]) -> float:
    """The furthest that a voxel of one grid lies from the same voxel of another."""
    return float(np.abs(one.corners_mm(shape_zyx) - other.corners_mm(shape_zyx)).max())
