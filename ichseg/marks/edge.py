"""The edge of blood at half height: where the HU crosses the middle between the blood inside and the tissue outside.

A network draws as generously as the labels that it learned from. Where blood lies in tissue its edge can be measured: a
scanner blurs an edge evenly to both sides, so the edge is where the HU is half of the way, as a nodule's or a vessel's
width is measured. Half of the way between the blood and the tissue *at* the edge: oedema is darkest and a clot palest
there, so both are read off the mean profile across the outline, as two slopes joined by a blurred step
(``_step_across``). ``half_height_edge`` moves a mask's outline there. It leaves alone what it cannot judge: blood that
is thin, that lies along bone or air, that has too little tissue beside it, or that is too like that tissue. An outline
moves by ``Edge.reach_mm`` at most. Everything is on one slice.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
import numpy.typing as npt
from scipy import ndimage
from scipy.special import ndtr

from ichseg.arrays import EIGHT_CONNECTED
from ichseg.scan.limits import AIR_BESIDE_EDGE_HU, BONE_BESIDE_EDGE_HU, bone_above

BoolArray = npt.NDArray[np.bool_]
FloatArray = npt.NDArray[np.float32]
_NOTHING_HU = -1000.0
#: Of the profile across an outline: the width of a bin, and how many must hold a pixel.
_BIN_MM = 0.25
_LEAST_BINS = 12
#: What is tried for the blurred step: standard deviations, as of scanners and slanting surfaces, and places.
_BLURS_MM = np.array([0.6, 0.8, 1.0, 1.2, 1.4, 1.7, 2.0, 2.5])
_PLACES_MM = np.linspace(-1.2, 1.2, 25)
#: A level beyond these is noise.
_LEVELS = (0.3, 0.6)

#: Why a connected component was left as it was.
Reason = Literal["thin", "bone", "tissue", "contrast"]


@dataclass(frozen=True)
class Edge:
    """Where an outline may move, and what it takes to judge it. Lengths are mm on the slice."""

    reach_mm: float = 2.0
    """How far an outline may move."""
    passes: int = 4
    """How often the outline is drawn: core, ring and profile of a pass lie about the outline of the one before."""
    smooth_mm: float = 0.5
    """Standard deviation of the Gaussian that the HU are smoothed with against noise."""
    core_mm: tuple[float, float] = (1.5, 4.0)
    """The blood beside the edge is so far inside of the outline; where the blood is not that thick, its innermost
    part."""
    ring_mm: tuple[float, float] = (1.2, 3.0)
    """The tissue beside the edge is so far outside of the outline."""
    local_mm: float = 6.0
    """Standard deviation of the Gaussian that weights core and ring about a place of the outline."""
    least_core_mm: float = 4.0
    """Blood whose largest inscribed circle has a smaller radius is thin and is left alone: half height lies inside of a
    small round edge, by the square of the blur over twice the radius, 0.2 mm at a blur of 1.4 mm."""
    profile_mm: float = 5.0
    """The profile across the outline goes so far to each side."""
    level_cost: float = 0.02
    """What holds the slopes of the profile near zero where noise would decide: the square of a slope (share of the
    contrast a mm) costs so much of the square of a misfit (share of the contrast)."""
    level_up: float = 0.04
    """The level is raised by this share of the contrast. What the rule itself leaves: on the phantoms of both choosing
    seeds (``tools.phantom.design``) volumes would be 2 % too large without it."""
    bone_mm: float = 3.0
    """An outline nearer to bone or air than this is left alone there."""
    bone_blur_mm: float = 1.5
    """Tissue nearer to bone or air than this is not measured: their blur is in it."""
    bone_hu: float = BONE_BESIDE_EDGE_HU
    air_hu: float = AIR_BESIDE_EDGE_HU
    least_ring: float = 0.5
    """Share of the ring about a place that must be tissue on the slice; elsewhere the outline is left alone."""
    least_contrast_hu: float = 8.0
    """Blood must be this much brighter than the tissue about a place; elsewhere the outline is left alone."""
    least_judged: float = 0.7
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
    measured = _off(solid, edge.bone_blur_mm, spacing_yx_mm) & ~others
    # The first time core and ring are those of the outline as it was, which may hold the blurred edge itself; from then
    # on they lie about the edge that was found.
    after, part = one, 0.0
    for number in range(edge.passes):
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
        contrast_hu = core_hu - tissue_hu
        level = 0.5
        if number:
            height = np.divide(hu - tissue_hu, contrast_hu, out=np.zeros_like(hu), where=able)
            level = _level(after, height, able & measured, spacing_yx_mm, edge)
        after = np.where(band & able, smooth > tissue_hu + level * contrast_hu, one)
        after = _without_specks(after, one & (inside_mm > edge.reach_mm), band)
    return after, Judged(pixels, int(after.sum()), part, None)


def _level(
    one: BoolArray,
    height: FloatArray,
    where: BoolArray,
    spacing_yx_mm: tuple[float, float],
    edge: Edge,
) -> float:
    """The height between tissue (0) and core (1) at which the edge of a component lies.

    Half of the way between blood and tissue at the edge, less for a curved outline: half height lies inside of an edge
    of radius R that is blurred by s, by s^2 / 2 R, where the blurred step falls by 1 / (s sqrt(2 pi)) a mm. A closed
    outline of length L turns by 2 pi, so 1 / R is 2 pi / L on average, whatever its shape.

    Args:
        one: the component [y, x].
        height: of each pixel, 0 as the tissue and 1 as the core beside it.
        where: the pixels that can be judged.
        spacing_yx_mm: a pixel's height and width.
        edge: how far the profile goes, and what holds its slopes.

    """
    off_mm = np.where(one, -_distance(one, spacing_yx_mm), _distance(~one, spacing_yx_mm))
    near = where & (np.abs(off_mm) < edge.profile_mm)
    bins = np.floor((off_mm[near] + edge.profile_mm) / _BIN_MM).astype(np.intp)
    count = np.bincount(bins).astype(np.float64)
    held = count > 0
    if held.sum() < _LEAST_BINS:
        return 0.5
    at_mm = np.bincount(bins, off_mm[near])[held] / count[held]
    profile = np.bincount(bins, height[near])[held] / count[held]
    blood, tissue, blur_mm = _step_across(at_mm, profile, count[held], edge.level_cost)
    length_mm = float((np.abs(off_mm) < 1).sum()) * spacing_yx_mm[0] * spacing_yx_mm[1] / 2
    total_mm = float(np.hypot(blur_mm, edge.smooth_mm))
    curved = total_mm / (2 * np.sqrt(2 * np.pi)) * 2 * np.pi / max(length_mm, edge.least_core_mm)
    low, high = _LEVELS
    return float(np.clip((blood + tissue) / 2 - curved + edge.level_up, low, high))


def _step_across(
    at_mm: npt.NDArray[np.float64],
    profile: npt.NDArray[np.float64],
    count: npt.NDArray[np.float64],
    slope_cost: float,
) -> tuple[float, float, float]:
    """Fit two slopes joined by a blurred step to a profile by least squares.

    Args:
        at_mm: places across the outline [n], negative inside.
        profile: heights there [n].
        count: their weights [n].
        slope_cost: what the square of a slope costs.

    Returns:
        The heights of blood and of tissue at the step, and the step's blur in mm (standard deviation).

    """
    blur, place = (a.reshape(-1, 1) for a in np.meshgrid(_BLURS_MM, _PLACES_MM, indexing="ij"))
    x = (at_mm - place) / blur
    outside, density = ndtr(x), np.exp(-(x**2) / 2) / np.sqrt(2 * np.pi)
    # A step and a ramp to each side, blurred; for each blur and place the rest is linear.
    parts = np.stack(
        [
            1 - outside,
            outside,
            (at_mm - place) * (1 - outside) - blur * density,
            (at_mm - place) * outside + blur * density,
        ],
        axis=-1,
    )
    cost = np.diag([1e-6, 1e-6, slope_cost, slope_cost]) * count.sum()
    weighted = parts * count[:, None]
    normal = np.einsum("tni,tnj->tij", weighted, parts) + cost
    found = np.linalg.solve(normal, np.einsum("tni,n->ti", weighted, profile)[..., None])[..., 0]
    misfit = (count * (profile - np.einsum("tni,ti->tn", parts, found)) ** 2).sum(axis=1)
    best = int(np.argmin(misfit + np.einsum("ti,ij,tj->t", found, cost, found)))
    return float(found[best, 0]), float(found[best, 1]), float(blur[best, 0])


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
    off = _off(solid, edge.bone_blur_mm, spacing_yx_mm) & _off(
        others, edge.ring_mm[0], spacing_yx_mm
    )
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
