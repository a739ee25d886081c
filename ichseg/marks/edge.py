"""The edge of blood at half height: where the HU crosses the middle between the blood inside and the tissue outside.

A network draws as generously as the labels that it learned from. Where blood lies in tissue its edge can be measured: a
scanner blurs an edge evenly to both sides, so the edge is where the HU is half of the way, as a nodule's or a vessel's
width is measured. ``half_height_edge`` moves a mask's outline there. It leaves alone what it cannot judge: blood that
is thin, that lies along bone or air, that has too little tissue beside it, or that is too like that tissue. An outline
moves by ``Edge.reach_mm`` at most. Everything is on one slice.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
import numpy.typing as npt
from scipy import ndimage

from ichseg.arrays import EIGHT_CONNECTED
from ichseg.scan.limits import AIR_BESIDE_EDGE_HU, BONE_BESIDE_EDGE_HU, bone_above

BoolArray = npt.NDArray[np.bool_]
FloatArray = npt.NDArray[np.float32]
_NOTHING_HU = -1000.0

#: Why a connected component was left as it was.
Reason = Literal["thin", "bone", "tissue", "contrast"]


@dataclass(frozen=True)
class Edge:
    """Where an outline may move, and what it takes to judge it. Lengths are mm on the slice."""

    reach_mm: float = 1.5
    """How far an outline may move."""
    smooth_mm: float = 0.5
    """Standard deviation of the Gaussian that the HU are smoothed with against noise."""
    core_mm: tuple[float, float] = (1.5, 4.0)
    """The blood beside the edge is so far inside of the outline; where the blood is not that thick, its innermost
    part. As near as the tissue on the other side: what the blur mixes of each into the other then cancels out, and
    oedema and a paler rim are measured where they lie."""
    ring_mm: tuple[float, float] = (1.2, 3.0)
    """The tissue beside the edge is so far outside of the outline."""
    local_mm: float = 6.0
    """Standard deviation of the Gaussian that weights core and ring about a place of the outline."""
    least_core_mm: float = 4.0
    """Blood whose largest inscribed circle has a smaller radius is thin and is left alone: half height lies inside of a
    small round edge, by the square of the blur over twice the radius, 0.2 mm at a blur of 1.4 mm."""
    bone_mm: float = 3.0
    """An outline nearer to bone or air than this is left alone there."""
    bone_hu: float = BONE_BESIDE_EDGE_HU
    air_hu: float = AIR_BESIDE_EDGE_HU
    least_ring: float = 0.5
    """Share of the ring about a place that must be tissue on the slice; elsewhere the outline is left alone."""
    least_contrast_hu: float = 8.0
    """Blood must be this much brighter than the tissue about a place; elsewhere the outline is left alone."""
    least_judged: float = 0.9
    """Share of a component's outline that must be judged; with less the whole component is left alone."""


@dataclass(frozen=True)
class Judged:
    """What became of one connected component of a mask, by size."""

    pixels_before: int
    pixels_after: int
    outline: float
    """Share of its outline that could be judged, 0 to 1."""
    left_alone: Reason | None
    """Why the component is as it was; None where its outline was moved to half height."""


def half_height_edge(
    mask_yx: npt.ArrayLike,
    slice_hu: npt.ArrayLike,
    spacing_yx_mm: tuple[float, float],
    edge: Edge | None = None,
) -> tuple[BoolArray, tuple[Judged, ...]]:
    """Move the outline of blood to half height where it can be judged.

    Args:
        mask_yx: blood, bool [y, x].
        slice_hu: the slice [y, x] in HU.
        spacing_yx_mm: a pixel's height and width.
        edge: how; the default is what the page and the command line do.

    Returns:
        The mask [y, x], and what was judged of each 8-connected component, the largest first.

    """
    edge = edge or Edge()
    rows, columns = np.shape(mask_yx)
    # Beyond the slice is nothing to be judged by: as air.
    pad_px = int(np.ceil((edge.ring_mm[1] + edge.local_mm) / min(spacing_yx_mm)))
    mask = np.pad(np.asarray(mask_yx, dtype=bool), pad_px)
    hu = np.pad(np.asarray(slice_hu, dtype=np.float32), pad_px, constant_values=_NOTHING_HU)
    labels, count = ndimage.label(mask, EIGHT_CONNECTED)
    out, judged = mask.copy(), []
    for number, place in enumerate(ndimage.find_objects(labels, count), 1):
        window = tuple(slice(side.start - pad_px, side.stop + pad_px) for side in place)
        one = labels[window] == number
        others = mask[window] & ~one
        after, verdict = _component(one, others, hu[window], float(hu.max()), spacing_yx_mm, edge)
        if verdict.left_alone is None:
            out[window] = (out[window] & ~one) | after
        judged.append(verdict)
    inside = np.s_[pad_px : pad_px + rows, pad_px : pad_px + columns]
    return out[inside], tuple(sorted(judged, key=lambda one: -one.pixels_before))


def _component(
    one: BoolArray,
    others: BoolArray,
    hu: FloatArray,
    slice_max_hu: float,
    spacing_yx_mm: tuple[float, float],
    edge: Edge,
) -> tuple[BoolArray, Judged]:
    """One component in a window of its slice, beside other blood: its mask at half height, and what was judged."""
    pixels = int(one.sum())
    inside_mm, outside_mm = _distance(one, spacing_yx_mm), _distance(~one, spacing_yx_mm)
    if inside_mm.max() < edge.least_core_mm:
        return one, Judged(pixels, pixels, 0.0, "thin")
    solid = (hu > bone_above(edge.bone_hu, slice_max_hu)) | (hu < edge.air_hu)
    band = (inside_mm <= edge.reach_mm) & (outside_mm <= edge.reach_mm) & ~others
    outline = one & ~ndimage.binary_erosion(one)
    smooth = ndimage.gaussian_filter(hu, [edge.smooth_mm / step for step in spacing_yx_mm])
    far_from_bone = _off(solid, edge.bone_mm, spacing_yx_mm)
    # The first time core and ring are those of the outline as it was, which may hold the blurred edge itself; the
    # second time they lie about the edge that was found.
    after, part = one, 0.0
    for _ in range(2):
        if not after.any():
            break
        core_hu, tissue_hu, enough = _both_sides(after, others, hu, solid, spacing_yx_mm, edge)
        bright = core_hu - tissue_hu >= edge.least_contrast_hu
        able = far_from_bone & enough & bright
        part = float(able[outline].mean())
        if part < edge.least_judged:
            shares: dict[Reason, float] = {
                "bone": float(far_from_bone[outline].mean()),
                "tissue": float(enough[outline].mean()),
                "contrast": float(bright[outline].mean()),
            }
            reason = min(shares, key=lambda name: shares[name])
            return one, Judged(pixels, pixels, part, reason)
        after = np.where(band & able, smooth > (core_hu + tissue_hu) / 2, one)
        after = _without_specks(after, one & (inside_mm > edge.reach_mm), band)
    return after, Judged(pixels, int(after.sum()), part, None)


def _both_sides(
    one: BoolArray,
    others: BoolArray,
    hu: FloatArray,
    solid: BoolArray,
    spacing_yx_mm: tuple[float, float],
    edge: Edge,
) -> tuple[FloatArray, FloatArray, BoolArray]:
    """About each place: the HU of the blood's core and of the tissue beside it, and whether there is enough of that."""
    inside_mm, outside_mm = _distance(one, spacing_yx_mm), _distance(~one, spacing_yx_mm)
    core = (inside_mm >= min(edge.core_mm[0], 0.6 * float(inside_mm.max()))) & ~solid
    core &= inside_mm <= edge.core_mm[1]
    ring = (outside_mm >= edge.ring_mm[0]) & (outside_mm <= edge.ring_mm[1])
    off = _off(solid, edge.reach_mm, spacing_yx_mm) & _off(others, edge.ring_mm[0], spacing_yx_mm)
    sigma_px = [edge.local_mm / step for step in spacing_yx_mm]
    core_hu, _ = _local_mean(hu, core, sigma_px)
    tissue_hu, tissue = _local_mean(hu, ring & off, sigma_px)
    whole = ndimage.gaussian_filter(ring.astype(np.float32), sigma_px, mode="constant")
    return core_hu, tissue_hu, tissue >= edge.least_ring * np.maximum(whole, 1e-6)


def _without_specks(mask: BoolArray, inside: BoolArray, band: BoolArray) -> BoolArray:
    """A mask without what is not joined to the inside, and without the holes within the band: both are noise."""
    labels, _ = ndimage.label(mask)
    joined = np.isin(labels, np.unique(labels[inside & mask])) & mask
    return joined | (ndimage.binary_fill_holes(joined) & ~joined & band)


def _distance(mask: BoolArray, spacing_yx_mm: tuple[float, float]) -> FloatArray:
    """Distance in mm of each of a mask's pixels to the outline, which runs half a pixel off the next one's middle."""
    if mask.all():
        return np.full(mask.shape, np.inf, dtype=np.float32)
    far = ndimage.distance_transform_edt(mask, sampling=spacing_yx_mm)
    half = min(spacing_yx_mm) / 2
    return np.where(mask, far - half, 0).astype(np.float32)


def _off(solid: BoolArray, reach_mm: float, spacing_yx_mm: tuple[float, float]) -> BoolArray:
    """What lies farther than a reach from some pixels."""
    if not solid.any():
        return np.ones(solid.shape, dtype=bool)
    return np.asarray(ndimage.distance_transform_edt(~solid, sampling=spacing_yx_mm) > reach_mm)


def _local_mean(
    hu: FloatArray, where: BoolArray, sigma_px: list[float]
) -> tuple[FloatArray, FloatArray]:
    """The Gaussian mean of some pixels about each place, and their weight there."""
    weight = ndimage.gaussian_filter(where.astype(np.float32), sigma_px, mode="constant")
    total = ndimage.gaussian_filter(np.where(where, hu, 0), sigma_px, mode="constant")
    return total / np.maximum(weight, 1e-9), weight
