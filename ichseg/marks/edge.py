"""The edge of blood at half height: where the HU crosses the middle between the blood inside and the tissue outside.

A network draws as generously as the labels that it learned from, and in noise it misses parts of pale blood. Where
blood lies in tissue its edge can be measured: a scanner blurs an edge evenly to both sides, so the edge is where the HU
is half of the way, as a nodule's or a vessel's width is measured. Half of the way between the blood and the tissue *at*
the edge: oedema is darkest and a clot palest there, so both are read off the mean profile across the outline, as two
slopes joined by a blurred step (``_step_across``).

Noise must not draw the outline. It is the one that divides the slice in two at that height and is short at the same
time (Chan and Vese 2001, with means about each place), found by thresholding a blurred mask and the heights together,
again and again (Wang, Li, Wei and Wang 2017). First roughly, on a smoothed slice with a stiff outline, which finds what
the network missed or took along; then finely.

``half_height_edge`` moves a mask's outline there. It leaves alone what it cannot judge: blood that is thin, that lies
along bone or air, that has too little tissue beside it, or that is too like that tissue. An outline moves by
``Edge.reach_mm`` at most, and beyond ``Edge.free_mm`` only for a clear edge. Everything is on one slice.
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
#: The blur that is taken for granted where no profile is read.
_USUAL_BLUR_MM = 1.2
#: A level beyond these is noise.
_LEVELS = (0.3, 0.6)

#: Why a connected component was left as it was.
Reason = Literal["thin", "bone", "tissue", "contrast"]


@dataclass(frozen=True)
class Stage:
    """How the outline is drawn for some passes. Lengths are mm on the slice."""

    passes: int
    """How often it is drawn: core, ring and profile of a pass lie about the outline of the one before."""
    smooth_mm: float
    """Standard deviation of the Gaussian that the HU are smoothed with against noise."""
    stiff_mm: float
    """Standard deviation of the Gaussian that the mask is blurred with: what is narrower is smoothed away."""
    local_mm: float
    """Standard deviation of the Gaussian that weights core and ring about a place of the outline."""
    steps: int
    """A pass thresholds so many times at most."""
    profile: bool
    """Whether the level is read off the profile across the outline; otherwise it is half of the way."""


@dataclass(frozen=True)
class Edge:
    """Where an outline may move, and what it takes to judge it. Lengths are mm on the slice."""

    reach_mm: float = 5.0
    """How far an outline may move."""
    free_mm: float = 2.0
    """So far it moves freely; beyond, each mm costs ``pull`` of the contrast."""
    pull: float = 0.1
    rough: Stage = Stage(2, smooth_mm=2.0, stiff_mm=3.0, local_mm=15.0, steps=12, profile=False)
    """First: where most of the contrast is, whatever the noise and wherever the model's outline lies."""
    fine: Stage = Stage(3, smooth_mm=0.5, stiff_mm=1.5, local_mm=6.0, steps=8, profile=True)
    """Then: half height beside each place."""
    height_weight: float = 2.0
    """Heights count so much against the blurred mask: the more, the less stiff the outline."""
    most_height: float = 0.75
    """No pixel counts as farther than this from the level, in shares of the contrast: not calcium, nor fluid."""
    core_mm: tuple[float, float] = (1.5, 8.0)
    """The blood beside the edge is so far inside of the outline; where the blood is not that thick, its innermost
    part."""
    ring_mm: tuple[float, float] = (1.2, 6.0)
    """The tissue beside the edge is so far outside of the outline."""
    tissue_hu: float = 10.0
    """Tissue is what is so near to the ring's median at most, after a Gaussian of ``tissue_smooth_mm``: fluid and
    vessels in the ring are not."""
    tissue_smooth_mm: float = 2.0
    least_core_mm: float = 4.0
    """Blood whose largest inscribed circle has a smaller radius is thin and is left alone: half height lies inside of a
    small round edge, by the square of the blur over twice the radius, 0.2 mm at a blur of 1.4 mm."""
    profile_mm: float = 5.0
    """The profile across the outline goes so far to each side."""
    level_cost: float = 0.02
    """What holds the slopes of the profile near zero where noise would decide: the square of a slope (share of the
    contrast a mm) costs so much of the square of a misfit (share of the contrast)."""
    level_trust: float = 0.6
    """Share of what the profile says against half of the way: it is read from one slice, and noise is in it."""
    level_up: float = 0.01
    """The level is raised by this share of the contrast: what the rule itself leaves on the phantoms of the choosing
    seeds (``tools.phantom.design``)."""
    bone_mm: float = 3.0
    """An outline nearer to bone or air than this is left alone there."""
    bone_blur_mm: float = 1.5
    """Tissue nearer to bone or air than this is not measured: their blur is in it."""
    bone_hu: float = BONE_BESIDE_EDGE_HU
    air_hu: float = AIR_BESIDE_EDGE_HU
    least_ring: float = 0.5
    """Share of the ``near_ring_mm`` about a place that must be on the slice and free of bone, air and other blood;
    elsewhere the outline is left alone."""
    near_ring_mm: float = 3.0
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
    pad_px = int(np.ceil((edge.reach_mm + edge.ring_mm[1]) / min(spacing_yx_mm)))
    mask = np.pad(np.asarray(mask_yx, dtype=bool), pad_px)
    hu = np.pad(np.asarray(slice_hu, dtype=np.float32), pad_px, constant_values=_NOTHING_HU)
    labels, count = ndimage.label(mask, EIGHT_CONNECTED)
    out, judged = mask.copy(), []
    for number, place in enumerate(ndimage.find_objects(labels, count), 1):
        window = tuple(slice(side.start - pad_px, side.stop + pad_px) for side in place)
        one = labels[window] == number
        seen = _Window(one, mask[window] & ~one, hu[window], float(hu.max()), spacing_yx_mm, edge)
        after, verdict = _component(seen, edge)
        if verdict.left_alone is None:
            out[window] = (out[window] & ~one) | after
        judged.append(verdict)
    inside = np.s_[pad_px : pad_px + rows, pad_px : pad_px + columns]
    return out[inside], tuple(sorted(judged, key=lambda one: -one.pixels_before))


class _Window:
    """One component with its surroundings on the slice, and what stays the same however its outline moves."""

    def __init__(
        self,
        one: BoolArray,
        others: BoolArray,
        hu: FloatArray,
        slice_max_hu: float,
        spacing_yx_mm: tuple[float, float],
        edge: Edge,
    ) -> None:
        self.one, self.hu, self.spacing_yx_mm = one, hu, spacing_yx_mm
        inside_mm, outside_mm = self.distances(one)
        self.thick_mm = float(inside_mm.max())
        self.band = (np.maximum(inside_mm, outside_mm) <= edge.reach_mm) & ~others
        away_mm = inside_mm - outside_mm
        self.pull = edge.pull * np.sign(away_mm) * np.maximum(np.abs(away_mm) - edge.free_mm, 0)
        self.outline = one & ~ndimage.binary_erosion(one)
        self.solid = (hu > bone_above(edge.bone_hu, slice_max_hu)) | (hu < edge.air_hu)
        self.far_from_bone = _off(self.solid, edge.bone_mm, spacing_yx_mm)
        self.measured = _off(self.solid, edge.bone_blur_mm, spacing_yx_mm) & ~others
        self.tissue = self.measured & _off(others, edge.ring_mm[0], spacing_yx_mm)
        self.plain_hu = self.smoothed(hu, edge.tissue_smooth_mm)

    def distances(self, mask: BoolArray) -> tuple[FloatArray, FloatArray]:
        """How far each pixel lies inside and outside of a mask's outline, in mm; 0 on the other side."""
        return _distance(mask, self.spacing_yx_mm), _distance(~mask, self.spacing_yx_mm)

    def smoothed(self, image: npt.NDArray[np.generic], sigma_mm: float) -> FloatArray:
        """After a Gaussian."""
        sigma_px = [sigma_mm / step for step in self.spacing_yx_mm]
        return np.asarray(ndimage.gaussian_filter(np.float32(image), sigma_px, truncate=3.0))

    def about(self, values: FloatArray, sigma_mm: float) -> FloatArray:
        """A Gaussian's weighted sum about each place, nothing beyond the window: three boxes, as long as it is wide."""
        size = [
            max(1, round(np.sqrt(4 * (sigma_mm / step) ** 2 + 1))) for step in self.spacing_yx_mm
        ]
        for _ in range(3):
            values = ndimage.uniform_filter(values, size, mode="constant")
        return values

    def mean_about(self, where: BoolArray, sigma_mm: float) -> FloatArray:
        """The mean HU of some pixels about each place."""
        weight = self.about(where.astype(np.float32), sigma_mm)
        total = self.about(np.where(where, self.hu, np.float32(0)), sigma_mm)
        return np.asarray(total / np.maximum(weight, 1e-6), dtype=np.float32)


def _component(seen: _Window, edge: Edge) -> tuple[BoolArray, Judged]:
    """One component in a window of its slice: its mask at half height, and what was judged."""
    one, pixels = seen.one, int(seen.one.sum())
    if seen.thick_mm < edge.least_core_mm:
        return one, Judged(pixels, pixels, 0.0, "thin")
    after, part = one, 0.0
    # Core and ring are those of the outline as it was at first; from then on they lie about the edge that was found.
    for stage in (edge.rough, edge.fine):
        smooth = seen.smoothed(seen.hu, stage.smooth_mm)
        for _ in range(stage.passes):
            inside_mm, outside_mm = seen.distances(after)
            core_hu, tissue_hu, enough = _both_sides(seen, inside_mm, outside_mm, stage, edge)
            contrast_hu = core_hu - tissue_hu
            bright = contrast_hu >= edge.least_contrast_hu
            able = seen.far_from_bone & enough & bright
            part = float(able[seen.outline].mean())
            if part < edge.least_judged:
                shares: dict[Reason, float] = {
                    "bone": float(seen.far_from_bone[seen.outline].mean()),
                    "tissue": float(enough[seen.outline].mean()),
                    "contrast": float(bright[seen.outline].mean()),
                }
                reason = min(shares, key=lambda name: shares[name])
                return one, Judged(pixels, pixels, part, reason)
            contrast_hu = np.where(able, contrast_hu, np.float32(1))
            height = (seen.hu - tissue_hu) / contrast_hu
            off_mm = outside_mm - inside_mm
            level = _level(off_mm, height, able & seen.measured, seen.spacing_yx_mm, stage, edge)
            over = np.clip((smooth - tissue_hu) / contrast_hu - level, *_both(edge.most_height))
            after = _short_outline(seen, after, over + seen.pull, seen.band & able, stage, edge)
            if not after.any():
                return one, Judged(pixels, pixels, part, "contrast")
    return after, Judged(pixels, int(after.sum()), part, None)


def _both(most: float) -> tuple[float, float]:
    return -most, most


def _short_outline(
    seen: _Window, after: BoolArray, over: FloatArray, free: BoolArray, stage: Stage, edge: Edge
) -> BoolArray:
    """The mask whose outline follows the zero of ``over`` (share of the contrast) and is short, where it is free.

    One connected component without holes, or nothing.
    """
    for _ in range(stage.steps):
        blurred = seen.smoothed(after, stage.stiff_mm)
        new = np.where(free, blurred - 0.5 + edge.height_weight * over > 0, seen.one)
        if (new == after).all():
            break
        after = new
    labels, count = ndimage.label(after)
    if count > 1:
        after = labels == 1 + int(np.argmax(np.bincount(labels.ravel())[1:]))
    return np.asarray(after | (ndimage.binary_fill_holes(after) & ~after & seen.band))


def _level(
    off_mm: FloatArray,
    height: FloatArray,
    where: BoolArray,
    spacing_yx_mm: tuple[float, float],
    stage: Stage,
    edge: Edge,
) -> float:
    """The height between tissue (0) and core (1) at which the edge of a component lies.

    Half of the way between blood and tissue at the edge, less for a curved outline. Half height lies inside of an edge
    of radius R that is blurred by s, by s^2 / 2 R, where the blurred step falls by 1 / (s sqrt(2 pi)) a mm; and a mask
    blurred by s is s / (2 R sqrt(2 pi)) under a half on its outline. A closed outline of length L turns by 2 pi, so
    1 / R is 2 pi / L on average, whatever its shape.

    Args:
        off_mm: of each pixel [y, x], how far outside of the outline it lies, negative inside.
        height: of each pixel, 0 as the tissue and 1 as the core beside it.
        where: the pixels that can be judged.
        spacing_yx_mm: a pixel's height and width.
        stage: how the outline is drawn.
        edge: how far the profile goes, and what holds its slopes.

    """
    level, blur_mm = 0.5, _USUAL_BLUR_MM
    near = where & (np.abs(off_mm) < edge.profile_mm)
    bins = np.floor((off_mm[near] + edge.profile_mm) / _BIN_MM).astype(np.intp)
    count = np.bincount(bins).astype(np.float64)
    held = count > 0
    if stage.profile and held.sum() >= _LEAST_BINS:
        at_mm = np.bincount(bins, off_mm[near])[held] / count[held]
        profile = np.bincount(bins, height[near])[held] / count[held]
        blood, tissue, blur_mm = _step_across(at_mm, profile, count[held], edge.level_cost)
        level += edge.level_trust * ((blood + tissue) / 2 - level)
    length_mm = float((np.abs(off_mm) < 1).sum()) * spacing_yx_mm[0] * spacing_yx_mm[1] / 2
    bent = 2 * np.pi / max(length_mm, edge.least_core_mm)
    spread_mm = float(np.hypot(blur_mm, stage.smooth_mm)) + stage.stiff_mm / edge.height_weight
    level += edge.level_up - spread_mm * bent / (2 * np.sqrt(2 * np.pi))
    low, high = _LEVELS
    return float(np.clip(level, low, high))


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
    seen: _Window, inside_mm: FloatArray, outside_mm: FloatArray, stage: Stage, edge: Edge
) -> tuple[FloatArray, FloatArray, BoolArray]:
    """About each place: the HU of the blood's core and of the tissue beside it, and whether there is enough of that."""
    core = (inside_mm >= min(edge.core_mm[0], 0.6 * float(inside_mm.max()))) & ~seen.solid
    core &= inside_mm <= edge.core_mm[1]
    ring = (outside_mm >= edge.ring_mm[0]) & (outside_mm <= edge.ring_mm[1])
    near = (ring & (outside_mm <= edge.near_ring_mm)).astype(np.float32)
    tissue = ring & seen.tissue
    if tissue.any():
        median_hu = float(np.median(seen.hu[tissue]))
        tissue &= np.abs(seen.plain_hu - median_hu) < edge.tissue_hu
    there = seen.about(near * seen.tissue, stage.local_mm)
    enough = there >= edge.least_ring * np.maximum(seen.about(near, stage.local_mm), 1e-6)
    core_hu, tissue_hu = (seen.mean_about(where, stage.local_mm) for where in (core, tissue))
    return core_hu, tissue_hu, enough


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
