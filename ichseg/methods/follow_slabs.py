"""The whole hematoma of a thin series: followed from slab to slab, then brought to the scan's own slices.

``follow_scan`` is ``follow`` for any scan. Where ``slabs_of`` finds a thin series, the boxes are answered on their own
slices, and, moved by the scan's geometry, on the slabs that hold them; from there the lesion is followed from slab to
slab. A slice between the middles of two slabs has their masks interpolated by shape (``edit.interpolate``). Beyond the
last slab's middle the mask goes on for as long as it is bright: what is over half of the way from the tissue to
the prompted blood there, in a mean of the slices about it.

The masks of slices without a box are no answers to boxes on them, so they have none.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np
from scipy import ndimage

from ichseg.arrays import EIGHT_CONNECTED, BoolArray, Float
from ichseg.errors import check_cancelled
from ichseg.marks.box import Box, box_from_mask
from ichseg.marks.edit import interpolate
from ichseg.methods.follow import checked_prompts, follow
from ichseg.methods.follow_boxes import united
from ichseg.methods.follow_evidence import measure
from ichseg.methods.follow_rule import Direction, Found, How, Lesion, Prompts, Rule, Stop
from ichseg.scan.limits import bone_above
from ichseg.scan.slabs import Slabs, SliceOrSlab, mean_about, slabs_of
from ichseg.scan.volume import CTVolume

if TYPE_CHECKING:
    from ichseg.methods.predictor import Predictor, SliceEmbedding

#: Beyond the last slab's middle, HU are judged after a Gaussian of so much on the slice.
_SMOOTH_MM = 1.0


def follow_scan(
    predictor: Predictor,
    volume: CTVolume,
    lesions: Mapping[Lesion, Prompts],
    *,
    rule: Rule | None = None,
    second_look: bool = False,
    embed: Callable[[SliceOrSlab], SliceEmbedding] | None = None,
    cancelled: Callable[[], bool] | None = None,
) -> Iterator[Found | Stop]:
    """Follow several lesions through a scan: a thin series by its slabs, others slice by slice.

    The arguments are those of ``follow``; ``embed`` is asked for slabs, too. What comes is of the scan's own slices.
    Raises BoxError before the first slice as ``follow`` does.
    """
    rule, cancelled = rule or Rule(), cancelled or (lambda: False)
    slabs = slabs_of(volume, rule.slab_mm) if rule.slab_mm else None
    if slabs is None:
        return follow(
            predictor,
            volume,
            lesions,
            rule=rule,
            second_look=second_look,
            embed=embed,
            cancelled=cancelled,
        )
    checked = checked_prompts(lesions, volume.shape_zyx)
    return _BySlabs(predictor, volume, slabs, rule, second_look, embed).follow(checked, cancelled)


class _Lesion:
    """What is known of one lesion: its boxes by slice, what was found by slab, and which slices are marked."""

    def __init__(self, prompts: Mapping[int, Sequence[Box]]) -> None:
        self.prompts = prompts
        self.slabs: dict[int, Found] = {}
        self.marked = set(prompts)

    def end(self, direction: Direction) -> int:
        """The last slice that is marked in a direction."""
        return max(self.marked) if direction == 1 else min(self.marked)

    def prompted_slab(self, direction: Direction) -> Found:
        """The last slab with a person's box in a direction."""
        own = [n for n, found in self.slabs.items() if found.how == "prompt"]
        return self.slabs[max(own) if direction == 1 else min(own)]


class _BySlabs:
    """One propagation through a thin series."""

    def __init__(
        self,
        predictor: Predictor,
        volume: CTVolume,
        slabs: Slabs,
        rule: Rule,
        second_look: bool,
        embed: Callable[[SliceOrSlab], SliceEmbedding] | None,
    ) -> None:
        self.predictor, self.volume, self.slabs = predictor, volume, slabs
        self.rule, self.second_look, self.embed = rule, second_look, embed
        self.bone_hu = bone_above(rule.bone_hu, float(volume.hu_zyx.max()))
        self.positions_mm = volume.geometry.slice_positions_mm
        self.middles_mm = slabs.scan.geometry.slice_positions_mm
        self.below = np.searchsorted(self.middles_mm, self.positions_mm, side="right") - 1
        """Of each slice, the slab whose middle is the next one below it; -1 where there is none."""

    def follow(
        self, lesions: Mapping[Lesion, dict[int, list[Box]]], cancelled: Callable[[], bool]
    ) -> Iterator[Found | Stop]:
        known = {name: _Lesion(prompts) for name, prompts in lesions.items()}
        for name, prompts in lesions.items():
            for k, boxes in prompts.items():
                if not cancelled():
                    yield self._prompted(name, k, boxes)
        embed = self.embed
        steps = follow(
            self.predictor,
            self.slabs.scan,
            {name: self._on_slabs(prompts) for name, prompts in lesions.items()},
            rule=self.rule,
            second_look=self.second_look,
            embed=None if embed is None else lambda n: embed(self.slabs.each[n]),
            cancelled=cancelled,
        )
        for step in steps:
            one = known[step.lesion]
            new = self._inside(one, step) if isinstance(step, Found) else self._beyond(one, step)
            for found in new:
                one.marked.add(found.slice_index)
                yield found
            if isinstance(step, Stop):
                yield replace(step, slice_index=one.end(step.direction))

    # From a person's boxes to slabs

    def _prompted(self, name: Lesion, k: int, boxes: Sequence[Box]) -> Found:
        """The answer to a person's boxes on their own slice."""
        check_cancelled()
        embedding = (self.embed or self._embedded)(k)
        answer = self.predictor.predict(embedding, boxes, second_look=self.second_look)
        iou = float(np.fmax.reduce(answer.iou))  # NaN where a method makes no estimate
        evidence = measure(self.volume, k, answer.union, iou, self.bone_hu)
        return Found(name, k, "prompt", tuple(boxes), answer.union, evidence)

    def _embedded(self, k: int) -> SliceEmbedding:
        return self.predictor.embed(self.volume.hu_zyx[k])

    def _on_slabs(self, prompts: Mapping[int, Sequence[Box]]) -> dict[int, list[Box]]:
        """A person's boxes on the slabs that hold their slices; those of one slab that overlap are one."""
        found: dict[int, list[Box]] = {}
        for k, boxes in prompts.items():
            n = self.slabs.number(k)
            down, right = self._shift_px(n, k)
            moved = [self._moved(box, -down, -right) for box in boxes]
            found[n] = _joined(found[n], moved) if n in found else moved
        return found

    def _moved(self, box: Box, down: float, right: float) -> Box:
        """A box so many pixels on, cut to the slice; where nothing would be left of it, as it is."""
        there = Box(box.x0 + right, box.y0 + down, box.x1 + right, box.y1 + down)
        inside = there.clip(self.volume.shape_zyx[1:])
        return inside if inside.width > 0 and inside.height > 0 else box

    def _shift_px(self, n: int, k: int) -> Float:
        """How many pixels (down, right) a point moves from slab n to slice k when it goes straight across."""
        geometry = self.volume.geometry
        way_mm = self.slabs.scan.geometry.origins_mm[n] - geometry.origins_mm[k]
        return geometry.to_pixels(way_mm)

    # From slabs to slices

    def _inside(self, one: _Lesion, new: Found) -> Iterator[Found]:
        """The slices between the middle of a slab that was found and those of its neighbours that are known."""
        n = new.slice_index
        one.slabs[n] = new
        for low in (n - 1, n):
            if low in one.slabs and low + 1 in one.slabs:
                yield from self._between(one, one.slabs[low], one.slabs[low + 1])

    def _between(self, one: _Lesion, low: Found, high: Found) -> Iterator[Found]:
        slices = np.flatnonzero(self.below == low.slice_index)
        places_mm = self.middles_mm[[low.slice_index, high.slice_index]]
        masks = interpolate(
            {0: low.mask_yx, len(slices) + 1: high.mask_yx},
            [places_mm[0], *self.positions_mm[slices], places_mm[1]],
            self.volume.geometry.spacing_yx_mm,
        )
        for place, k in enumerate(map(int, slices), 1):
            if k not in one.prompts and place in masks and masks[place].any():
                nearer = low if self.positions_mm[k] < places_mm.mean() else high
                yield _of_slice(nearer, k, masks[place])

    def _beyond(self, one: _Lesion, stop: Stop) -> Iterator[Found]:
        """The slices beyond the middle of the last slab on which the blood goes on."""
        n, step = stop.slice_index, stop.direction
        if stop.reason == "cancelled" or n not in one.slabs:
            return
        last, prompted = one.slabs[n], one.prompted_slab(step).evidence
        bright_hu = (prompted.mean_hu + prompted.tissue_hu) / 2
        mask = last.mask_yx
        for k in map(int, np.flatnonzero(self.below == (n if step == 1 else n - 1))[::step]):
            check_cancelled()
            shift_px = np.rint(self._shift_px(n, k))
            here = self._bright(k, _shifted(mask, shift_px), bright_hu)
            if not here.any():
                return
            if k not in one.prompts:
                yield _of_slice(last, k, here)
            mask = _shifted(here, -shift_px)  # what has ended does not come again

    def _bright(self, k: int, mask_yx: BoolArray, bright_hu: float) -> BoolArray:
        """What of a mask is bright on slice k, without holes and specks: bool [y, x]."""
        spacing = self.volume.geometry.spacing_yx_mm
        out = np.zeros_like(mask_yx)
        around = box_from_mask(mask_yx, 3 * _SMOOTH_MM / min(spacing))
        if around is None:
            return out
        inside = around.slices()
        hu = mean_about(self.volume, k)[inside]
        smooth = ndimage.gaussian_filter(hu, [_SMOOTH_MM / mm for mm in spacing])
        bright = ndimage.binary_fill_holes(mask_yx[inside] & (smooth > bright_hu))
        labels, _ = ndimage.label(bright, EIGHT_CONNECTED)
        pixels = np.bincount(labels.ravel())
        large = pixels * self.volume.geometry.pixel_area_mm2 >= self.rule.least_area_mm2
        large[0] = False
        out[inside] = large[labels]
        return out


def _shifted(mask_yx: BoolArray, shift_px: Float) -> BoolArray:
    """A mask so many whole pixels (down, right) on."""
    if not shift_px.any():
        return mask_yx
    return np.asarray(ndimage.shift(mask_yx, shift_px, order=0, prefilter=False))


def _of_slice(slab: Found, k: int, mask_yx: BoolArray) -> Found:
    """What was found on a slab as it is on slice k; it was asked no boxes there."""
    how: How = "followed" if slab.how == "followed" else "between"
    return replace(slab, slice_index=k, how=how, boxes=(), mask_yx=mask_yx)


def _joined(boxes: Sequence[Box], more: Sequence[Box]) -> list[Box]:
    """Boxes of one slab, those that overlap as one."""
    out = list(boxes)
    for box in more:
        for other in [one for one in out if _overlap(one, box)]:
            out.remove(other)
            box = united(box, other)
        out.append(box)
    return out


def _overlap(a: Box, b: Box) -> bool:
    return min(a.x1, b.x1) > max(a.x0, b.x0) and min(a.y1, b.y1) > max(a.y0, b.y0)
