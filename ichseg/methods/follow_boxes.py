"""Where on the next slice to look: boxes moved by the scan's geometry, grown by a margin, or interpolated."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import numpy.typing as npt
from scipy import ndimage
from scipy.optimize import linear_sum_assignment

from ichseg.arrays import EIGHT_CONNECTED, BoolArray
from ichseg.marks.box import Box, box_from_mask
from ichseg.methods.follow_rule import Rule
from ichseg.scan.volume import CTVolume


class NextBoxes:
    """Where the blood of one slice of a scan is to be looked for on another."""

    def __init__(self, volume: CTVolume, rule: Rule) -> None:
        self.volume = volume
        self.rule = rule

    def boxes_around(self, mask: BoolArray, k: int, onto: int) -> tuple[Box, ...]:
        """A box for each group of components of the mask on slice k, as they are to be looked for on another slice."""
        margin_mm = self.margin_mm(k, onto)
        dy, dx = self.volume.geometry.spacing_yx_mm
        down, right = self._shift_px(k, onto)
        boxes = []
        least_px = self.rule.least_area_mm2 / self.volume.geometry.pixel_area_mm2
        for box in groups(mask, margin_mm / 2, (dy, dx), least_px):
            moved = Box(box.x0 + right, box.y0 + down, box.x1 + right, box.y1 + down)
            larger = grown(moved, margin_mm, (dy, dx), mask.shape)
            if larger.width > 0 and larger.height > 0:
                boxes.append(larger)
        return tuple(boxes)

    def margin_mm(self, k: int, onto: int) -> float:
        """How far around a mask of slice k blood is looked for on another slice."""
        positions = self.volume.geometry.slice_positions_mm
        return self.rule.margin_mm + self.rule.margin_per_mm * abs(positions[onto] - positions[k])

    def _shift_px(self, k: int, onto: int) -> tuple[float, float]:
        """How many pixels (down, right) a point moves between two slices when it goes straight across.

        Straight is along the slices' normal; where the stack is sheared, as under a tilted gantry, the
        same anatomy has other indices on the next slice.
        """
        geometry = self.volume.geometry
        offset = geometry.origins_mm[k] - geometry.origins_mm[onto]
        down, right = (
            float(offset @ step / (step @ step))
            for step in (geometry.y_step_mm, geometry.x_step_mm)
        )
        return down, right

    def moved(self, mask: BoolArray, k: int, onto: int) -> BoolArray:
        """A mask [y, x] of slice k where it would lie on another one, to the nearest pixel."""
        down, right = (round(shift) for shift in self._shift_px(k, onto))
        if not down and not right:
            return mask
        return np.asarray(ndimage.shift(mask, (down, right), order=0, prefilter=False))

    def between(self, prompts: Mapping[int, Sequence[Box]], k: int) -> tuple[Box, ...]:
        """The boxes of the prompted slices on either side of k, interpolated by position in mm."""
        low = max(other for other in prompts if other < k)
        high = min(other for other in prompts if other > k)
        positions = self.volume.geometry.slice_positions_mm
        share = (positions[k] - positions[low]) / (positions[high] - positions[low])
        below = np.array([self._box_on(box, low, k) for box in prompts[low]])
        above = np.array([self._box_on(box, high, k) for box in prompts[high]])
        pairs = matched(below, above)
        found = [(1 - share) * below[i] + share * above[j] for i, j in pairs]
        return tuple(Box(*map(float, xyxy)).clip(self.volume.shape_zyx[1:]) for xyxy in found)

    def _box_on(self, box: Box, k: int, onto: int) -> npt.NDArray[np.float64]:
        down, right = self._shift_px(k, onto)
        return np.asarray(box.xyxy) + np.array([right, down, right, down])


def near(mask: BoolArray, reach_mm: float, spacing_yx_mm: tuple[float, float]) -> BoolArray:
    """All that lies within a reach of a mask [y, x]."""
    found = np.zeros_like(mask)
    around = box_from_mask(mask, np.ceil(reach_mm / min(spacing_yx_mm)))
    if around is not None:
        inside = around.slices()
        far_mm = ndimage.distance_transform_edt(~mask[inside], sampling=spacing_yx_mm)
        found[inside] = far_mm <= reach_mm
    return found


def grown(
    box: Box, margin_mm: float, spacing_yx_mm: tuple[float, float], shape_yx: tuple[int, ...]
) -> Box:
    """A box with a margin on each side, cut to the slice."""
    rows, columns = shape_yx
    y, x = (margin_mm / step for step in spacing_yx_mm)
    return Box(box.x0 - x, box.y0 - y, box.x1 + x, box.y1 + y).clip((rows, columns))


def touches(
    tight: Box,
    box: Box,
    reach_mm: float,
    spacing_yx_mm: tuple[float, float],
    shape_yx: tuple[int, ...],
) -> bool:
    """Whether a mask's tight box comes within a reach of a side of the box that the slice's edge does not make."""
    return united(box, grown(tight, reach_mm, spacing_yx_mm, shape_yx)) != box


def united(a: Box, b: Box) -> Box:
    """The smallest box around both."""
    return Box(min(a.x0, b.x0), min(a.y0, b.y0), max(a.x1, b.x1), max(a.y1, b.y1))


def groups(
    mask: BoolArray, reach_mm: float, spacing_yx_mm: tuple[float, float], least_px: float
) -> list[Box]:
    """The tight box of each group of components that lie within twice a reach of one another, specks left out."""
    labels, count = ndimage.label(near(mask, reach_mm, spacing_yx_mm), EIGHT_CONNECTED)
    labels[~mask] = 0
    pixels = np.bincount(labels.ravel(), minlength=count + 1)
    return [
        Box(columns.start, rows.start, columns.stop, rows.stop)
        for number, (rows, columns) in enumerate(ndimage.find_objects(labels, count), 1)
        if pixels[number] >= least_px
    ]


def matched(
    below: npt.NDArray[np.float64], above: npt.NDArray[np.float64]
) -> list[tuple[int, int]]:
    """Pairs of boxes [n, 4] and [m, 4] by the distance of their centres; each box is in a pair.

    As many as there are go one to one; what is left over goes with its nearest, as where a lesion splits.
    """
    gap = np.linalg.norm(_centres(below)[:, None] - _centres(above)[None], axis=-1)
    pairs = [(int(i), int(j)) for i, j in zip(*linear_sum_assignment(gap), strict=True)]
    pairs += [
        (i, int(gap[i].argmin())) for i in range(len(below)) if i not in {p[0] for p in pairs}
    ]
    pairs += [
        (int(gap[:, j].argmin()), j) for j in range(len(above)) if j not in {p[1] for p in pairs}
    ]
    return pairs


def _centres(boxes: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    return (boxes[:, :2] + boxes[:, 2:]) / 2
