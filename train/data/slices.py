"""Slices at their own size, with the boxes that they are scored by."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy import ndimage

from ichseg.arrays import EIGHT_CONNECTED
from ichseg.marks.box import Box, box_from_mask
from ichseg.methods.frame import MODEL_SIZE
from train.data.cache import Mask, Prepared, ScanEntry, Slice, SliceEntry

Labels = npt.NDArray[np.int32]


@dataclass(frozen=True, eq=False)
class NativeSlice:
    """A slice at its own size with its reference mask, untouched, for scoring.

    ``mask`` has all marked blood, the smallest speck included. ``component_boxes`` has one box per 8-connected
    component of at least ``least_component_px``, and ``slice_box`` holds those components: a stray pixel of a coarse
    label is nothing a person would draw a box around, but it stays in the reference mask. Boxes are native pixels.
    """

    patient_id: str
    scan_id: str
    slice_index: int
    types: tuple[str, ...]
    slice_hu: Slice
    mask: Mask
    slice_box: Box
    component_boxes: tuple[Box, ...]
    pixel_spacing_mm: tuple[float, float] | None
    slice_height_mm: float | None


def native_slices(
    prepared: Prepared,
    patients: Iterable[str] | None = None,
    *,
    margin_px: float = 3.0,
    least_component_px: float = 10.0,
) -> Iterator[NativeSlice]:
    """Every slice with blood of some patients (all by default), in order.

    ``margin_px`` is added to the boxes on each side, in pixels of the 256 x 256 frame as in training;
    ``least_component_px`` is an area at 512 x 512. Where no component is that large, the largest has a box.
    """
    for scan in prepared.scans_of(patients):
        margin = margin_px * max(scan.shape_zyx[1:]) / MODEL_SIZE
        for k, entry in enumerate(scan.slices):
            if entry.mask_row is None:
                continue
            mask = prepared.mask(scan.scan_id, k)
            labels = label_components(mask, entry, least_component_px * scan.reference_scale**2)
            if not labels.any():
                labels = largest_component(mask).astype(np.int32)
            whole = box_from_mask(labels > 0, margin)
            assert whole is not None
            boxes = (box_from_mask(labels == i, margin) for i in range(1, labels.max() + 1))
            heights = scan.slice_heights_mm
            yield NativeSlice(
                patient_id=scan.patient_id,
                scan_id=scan.scan_id,
                slice_index=k,
                types=entry.types,
                slice_hu=prepared.slice_hu(scan.scan_id, k),
                mask=mask,
                slice_box=whole,
                component_boxes=tuple(box for box in boxes if box is not None),
                pixel_spacing_mm=scan.pixel_spacing_mm,
                slice_height_mm=None if heights is None else heights[k],
            )


def label_components(mask: Mask, entry: SliceEntry, least_px: float) -> Labels:
    """The 8-connected components of at least ``least_px`` pixels, numbered from 1 in scan order: int32 [y, x]."""
    extent = Box(*entry.mask_xyxy) if entry.mask_xyxy is not None else None
    return keep_large(mask, least_px, extent)


def keep_large(mask: Mask, least_px: float, extent: Box | None = None) -> Labels:
    """Label a mask's 8-connected components from 1, without those under ``least_px`` pixels: int32 [y, x].

    ``extent`` is a box known to hold the mask, which saves looking for it.
    """
    out = np.zeros(mask.shape, dtype=np.int32)
    extent = extent or box_from_mask(mask)
    if extent is None:
        return out
    labels, count = ndimage.label(mask[extent.slices()], EIGHT_CONNECTED)
    kept = np.bincount(labels.ravel(), minlength=count + 1) >= least_px
    kept[0] = False
    out[extent.slices()] = np.where(kept, np.cumsum(kept), 0)[labels]
    return out


def largest_component(mask: Mask) -> Mask:
    labels, count = ndimage.label(mask, EIGHT_CONNECTED)
    if count == 0:
        return np.zeros(mask.shape, dtype=bool)
    largest: Mask = labels == 1 + np.argmax(np.bincount(labels.ravel())[1:])
    return largest


def bloodless_slices(scan: ScanEntry) -> Iterator[tuple[str, int]]:
    """Slices without blood whose neighbours have none either, where a thin rim may have gone unmarked."""
    free = [entry.is_bloodless for entry in scan.slices]
    for k in range(len(free)):
        if all(free[max(k - 1, 0) : k + 2]):
            yield scan.scan_id, k
