"""One box, the whole hematoma: from the prompted slices outward, slice by slice, until a stated rule ends it.

``propagate`` is the plain case: boxes on some slices in, a Segmentation out. ``follow`` is what it stands on: a
generator over several lesions that gives every slice as it is found, with the boxes that were used, the evidence, and
for each direction a Stop that says in a sentence why it went no further.

How it goes. The model answers the boxes that a person gave. On a slice between two prompted ones the boxes are
interpolated. Beyond the outermost prompted slices, the next slice's boxes are drawn around the pieces of the mask
so far, moved by the scan's geometry (gantry tilt) and grown by a margin in mm that rises with the gap; so a
lesion may split, merge, and end in one piece while another goes on. What the model finds there has to pass the
Rule, or that piece ends; with the last piece, so does the direction. A prompt always wins: nothing is followed
onto a slice for which the lesion has boxes of its own.

Arrays are [z, y, x] as in ``scan.geometry``; slices are numbered from 0 at the foot end, and from 1 in sentences.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Hashable, Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from types import ModuleType
from typing import TYPE_CHECKING, Any, Literal, TypeAlias

import numpy as np
import numpy.typing as npt
from scipy import ndimage
from scipy.optimize import linear_sum_assignment

from ichseg.arrays import EIGHT_CONNECTED
from ichseg.errors import BoxError
from ichseg.marks.box import Box, as_boxes, box_from_mask
from ichseg.marks.document import Segmentation
from ichseg.marks.state import EdgeStep
from ichseg.methods.edge_step import step_of
from ichseg.scan.limits import BONE_IN_MASK_HU, bone_above
from ichseg.scan.volume import CTVolume

if TYPE_CHECKING:
    from ichseg.methods.predictor import Predictor, SliceEmbedding

BoolArray = npt.NDArray[np.bool_]
#: What is bright and thinner than this is a vessel or the rim of the skull.
_THIN_MM = 4.0
#: A mask that comes this close to its box's side may have been cut by it.
_TOUCH_MM = 0.5
Boxes: TypeAlias = Sequence[Box] | npt.ArrayLike
#: Boxes by slice, from 0.
Prompts: TypeAlias = Mapping[int, Boxes]
Lesion: TypeAlias = Hashable

Direction = Literal[-1, 1]
How = Literal["prompt", "between", "followed"]
Reason = Literal["end", "empty", "area", "growth", "hu", "bone", "overlap", "iou", "cancelled"]


@dataclass(frozen=True)
class Rule:
    """When a mask on the next slice is still the same hematoma, and how far around the last one to look.

    Chosen on some patients and measured on others: docs/propagation.md says which, and what each gave.
    """

    margin_mm: float = 2.0
    """Added to each side of a box, whatever the gap."""
    margin_per_mm: float = 0.2
    """Added to each side for each mm between the slices: a surface slants, so the next outline may lie outside."""
    reach_mm: float = 10.0
    """How far beyond a box blood is looked for that the box may have cut."""
    further_looks: int = 2
    """How often a slice is looked at again with a wider box, where the box may have cut the blood."""
    least_area_mm2: float = 8.0
    """A smaller mask ends its piece, and a smaller piece of a mask is a speck that is not followed."""
    most_growth: float = 8.0
    """The mask may be this many times the last one's area; more is a leak."""
    least_contrast: float = 0.55
    """Mean HU above the tissue around the prompted mask, as a share of what that had."""
    least_contrast_hu: float = 5.0
    """Mean HU above that tissue at any rate."""
    most_bone: float = 0.4
    """Share of the mask that is bone: more is a leak along the skull."""
    least_overlap: float = 0.7
    """Share of the mask that lies within the margin of the last slice's, or of that one's that is in this mask: where
    a lesion grows the second stays high, where it shrinks the first."""
    least_iou: float = 0.5
    """The model's own estimate of its IoU; a method without one is not judged by it."""
    bone_hu: float = BONE_IN_MASK_HU


@dataclass(frozen=True)
class Evidence:
    """What a mask on one slice looks like; NaN where there is nothing to measure."""

    area_mm2: float
    mean_hu: float
    """Of the mask without its bone."""
    tissue_hu: float
    """Median of the soft tissue around the mask."""
    bone: float
    """Share of the mask that is bone."""
    growth: float
    """Area in units of the last slice's."""
    overlap: float
    """The larger of two shares: of this mask within the margin of the last slice's (moved by the geometry), and of the
    last slice's within this one."""
    iou: float
    """The model's own estimate, the best of the boxes'."""


@dataclass(frozen=True, eq=False)
class Found:
    """One lesion on one slice."""

    lesion: Lesion
    slice_index: int
    how: How
    """A person's boxes, boxes interpolated between them, or boxes drawn around the last slice's mask."""
    boxes: tuple[Box, ...]
    """The boxes that the model answered; they can be shown, edited, and given again as prompts."""
    mask_yx: BoolArray
    """[y, x], native size: all that the model found for these boxes. Empty where a person's box held nothing."""
    evidence: Evidence


@dataclass(frozen=True)
class Stop:
    """Why a lesion was not followed further in one direction."""

    lesion: Lesion
    slice_index: int
    """The last slice that is marked, from 0."""
    direction: Direction
    """1 is towards the head."""
    reason: Reason
    value: float = float("nan")
    threshold: float = float("nan")

    @property
    def sentence(self) -> str:
        """For people, who count slices from 1.

        >>> Stop("a", 16, 1, "hu", 34.0, 41.0).sentence
        'stopped above slice 17: mean 34 HU, below 41'
        """
        side = "above" if self.direction == 1 else "below"
        return f"stopped {side} slice {self.slice_index + 1}: {self._because}"

    def record(self) -> dict[str, Any]:
        """For JSON: slice (from 0), direction, reason, value and threshold (None where there is none), sentence."""
        known = self.value == self.value
        return {
            "slice": self.slice_index,
            "direction": self.direction,
            "reason": self.reason,
            "value": self.value if known else None,
            "threshold": self.threshold if known else None,
            "sentence": self.sentence,
        }

    @property
    def _because(self) -> str:
        value, threshold = self.value, self.threshold
        return {
            "end": "the scan ends there",
            "empty": "nothing was found in its boxes",
            "area": f"area {_pair(value, ' mm²', threshold)}",
            "growth": f"area {value:.1f} times the last slice's, above {threshold:g}",
            "hu": f"mean {_pair(value, ' HU', threshold)}",
            "bone": f"{value:.0%} bone, above {threshold:.0%}",
            "overlap": f"overlap {value:.0%} with the last slice, below {threshold:.0%}",
            "iou": f"the model's own estimate {value:.2f}, below {threshold:.2f}",
            "cancelled": "cancelled",
        }[self.reason]


def _pair(value: float, unit: str, threshold: float) -> str:
    """A value below its threshold, with as many digits as tell them apart.

    >>> _pair(45.6, " HU", 46.2), _pair(45.6, " HU", 45.7)
    ('45.6 HU, below 46.2', '45.6 HU, below 45.7')
    """
    digits = next((n for n in range(3) if round(value, n) != round(threshold, n)), 2)
    return f"{value:.{digits}f}{unit}, below {threshold:.{digits}f}"


@dataclass
class Propagation:
    """All that ``follow`` found, by lesion and slice, and why it ended."""

    shape_zyx: tuple[int, int, int]
    rule: Rule
    second_look: bool
    found: dict[Lesion, dict[int, Found]] = field(default_factory=dict)
    stops: list[Stop] = field(default_factory=list)

    def collect(self, steps: Iterator[Found | Stop], lesions: Iterable[Lesion]) -> Iterator[float]:
        """Take up what ``follow`` gives for these lesions, and give the share that is done, 0 to 1, after each step."""
        self.found = {name: {} for name in lesions}
        share = _Share(self.shape_zyx[0], self.found)
        for item in steps:
            if isinstance(item, Stop):
                self.stops.append(item)
            else:
                self.found[item.lesion][item.slice_index] = item
            yield share.after(item)

    @property
    def cancelled(self) -> bool:
        """Whether it was ended from outside, and what is here is a part."""
        return any(stop.reason == "cancelled" for stop in self.stops)

    def mask_zyx(self, lesion: Lesion | None = None) -> BoolArray:
        """One lesion's mask, or all lesions' together: bool [z, y, x]."""
        out = np.zeros(self.shape_zyx, dtype=bool)
        for name in self.found if lesion is None else [lesion]:
            for k, found in self.found[name].items():
                out[k] |= found.mask_yx
        return out

    def segmentation(
        self, model: str, *, edge_step: EdgeStep | None = None, edge: bool = True
    ) -> Segmentation:
        """What was found as a document: the lesions numbered from 1, the prompts as boxes, the rest as propagated.

        Each lesion's parameters are the rule, the second look and the stops. ``edge_step`` and ``edge`` are those of
        ``Segmentation``: propagation itself goes by the model's own answers.
        """
        out = Segmentation(self.shape_zyx, edge_step=edge_step, edge=edge)
        for number, (name, slices) in enumerate(self.found.items(), 1):
            if number > 1:
                out.add_lesion()
            for k, found in slices.items():
                if found.how == "prompt":
                    out.set_boxes(k, number, found.boxes, {model: found.mask_yx})
            self.mark(out, number, model, name)
        return out

    def mark(self, marked: Segmentation, number: int, model: str, name: Lesion) -> None:
        """Put what was found of one lesion on slices without a prompt into a document, as its lesion ``number``.

        What the lesion was propagated to before goes; its own boxes and edits stay.
        """
        others = {k: one for k, one in self.found[name].items() if one.how != "prompt"}
        stops = [stop.record() for stop in self.stops if stop.lesion == name]
        marked.set_propagated(
            {k: one.mask_yx for k, one in others.items()},
            number,
            model,
            {k: one.boxes for k, one in others.items()},
            {"rule": asdict(self.rule), "second_look": self.second_look, "stops": stops},
        )

    def labels_zyx(self) -> npt.NDArray[np.uint8]:
        """Lesions numbered from 1 in their order: uint8 [z, y, x].

        Where two of them claim a voxel, a prompted slice wins over an interpolated one, that over a followed one, and
        then the first lesion over the later.
        """
        out = np.zeros(self.shape_zyx, dtype=np.uint8)
        for how in ("followed", "between", "prompt"):
            for number, name in reversed(list(enumerate(self.found, 1))):
                for k, found in self.found[name].items():
                    if found.how == how:
                        out[k][found.mask_yx] = number
        return out


def propagate(
    predictor: Predictor,
    volume: CTVolume,
    prompts: Prompts | Mapping[Lesion, Prompts],
    *,
    rule: Rule | None = None,
    second_look: bool = False,
    edge: bool = True,
    embed: Callable[[int], SliceEmbedding] | None = None,
    progress: Callable[[float], None] | None = None,
    cancelled: Callable[[], bool] | None = None,
) -> Segmentation:
    """The whole hematoma from boxes on one slice or a few.

    Args:
        predictor: any method of the catalogue.
        volume: the scan.
        prompts: {slice: boxes}, or {lesion: {slice: boxes}} for several lesions.
        rule: when to stop; the measured one by default.
        second_look: as in ``Predictor.predict``; here it is off unless asked for, as it costs an encoding a box
            (``python -m train propagate --second-look`` measures what it gives).
        edge: draw the edge at half height (``ichseg.marks.edge``) on what was found, where the method takes it.
        embed: slice index to its embedding by this predictor, for a caller that keeps them.
        progress: called with the share that is done, 0 to 1, never falling.
        cancelled: asked before each step; True ends it with what there is.

    Returns:
        The boxes used on each slice and the predictor's mask for them.

    Raises:
        BoxError: no box at all, or one that is not on the scan.

    """
    several = any(isinstance(value, Mapping) for value in prompts.values())
    lesions: Mapping[Lesion, Prompts] = prompts if several else {1: prompts}  # type: ignore[assignment,dict-item]
    done = propagate_lesions(
        predictor,
        volume,
        lesions,
        rule=rule,
        second_look=second_look,
        embed=embed,
        progress=progress,
        cancelled=cancelled,
    )
    return done.segmentation(predictor.name, edge_step=step_of(volume), edge=edge)


def propagate_lesions(
    predictor: Predictor,
    volume: CTVolume,
    lesions: Mapping[Lesion, Prompts],
    *,
    rule: Rule | None = None,
    second_look: bool = False,
    embed: Callable[[int], SliceEmbedding] | None = None,
    progress: Callable[[float], None] | None = None,
    cancelled: Callable[[], bool] | None = None,
) -> Propagation:
    """Collect what ``follow`` gives; the arguments are those of ``propagate``."""
    done = Propagation(volume.shape_zyx, rule or Rule(), second_look)
    steps = done.collect(
        follow(
            predictor,
            volume,
            lesions,
            rule=rule,
            second_look=second_look,
            embed=embed,
            cancelled=cancelled,
        ),
        lesions,
    )
    for share in steps:
        if progress is not None:
            progress(share)
    return done


def follow(
    predictor: Predictor,
    volume: CTVolume,
    lesions: Mapping[Lesion, Prompts],
    *,
    rule: Rule | None = None,
    second_look: bool = False,
    embed: Callable[[int], SliceEmbedding] | None = None,
    cancelled: Callable[[], bool] | None = None,
) -> Iterator[Found | Stop]:
    """Follow several lesions through a scan, all of them and both directions in step.

    The prompted slices come first, then those between them, then round by round the next slice of every lesion
    and direction. All boxes on one slice go to the model together. Each lesion gets two stops in the end, one a
    direction. The arguments are those of ``propagate``; a caller that wants to show or to edit what comes uses this.

    Raises BoxError before the first slice for a lesion without a box, or a box or slice that is not on the scan.
    """
    if not lesions:
        raise _no_box()
    checked = {name: _checked(prompts, volume.shape_zyx) for name, prompts in lesions.items()}
    run = _Run(predictor, volume, rule or Rule(), second_look, embed)
    return run.follow(checked, cancelled or (lambda: False))


def _checked(prompts: Prompts, shape_zyx: tuple[int, int, int]) -> dict[int, list[Box]]:
    depth = shape_zyx[0]
    out = {}
    for k, boxes in sorted(prompts.items()):
        if not 0 <= k < depth:
            raise BoxError(f"The scan has slices 0 to {depth - 1}; got {k}; choose one of them.")
        if valid := as_boxes(boxes, shape_zyx[1:]):
            out[int(k)] = valid
    if not out:
        raise _no_box()
    return out


def _no_box() -> BoxError:
    return BoxError(
        "Propagation starts from at least one box for each lesion; got none; draw a box on the slice where the "
        "blood is largest."
    )


class _Share:
    """How much of the work is done: a slice is settled when it is found, or lies beyond a stop."""

    def __init__(self, depth: int, lesions: Iterable[Lesion]) -> None:
        self._depth = depth
        self._open = {(name, k) for name in lesions for k in range(depth)}
        self._all = len(self._open)

    def after(self, item: Found | Stop) -> float:
        k = item.slice_index
        if isinstance(item, Stop):
            beyond = range(k + 1, self._depth) if item.direction == 1 else range(k)
            self._open -= {(item.lesion, other) for other in beyond}
        else:
            self._open.discard((item.lesion, k))
        return 1 - len(self._open) / self._all


@dataclass
class _Front:
    """Where a lesion stands in one direction."""

    lesion: Lesion
    direction: Direction
    last: Found
    contrast_hu: float
    """Mean HU above the tissue around it where a person marked it."""
    tissue_hu: float

    @property
    def next_index(self) -> int:
        return self.last.slice_index + self.direction


@dataclass(frozen=True)
class _Job:
    """Boxes to be answered on one slice; ``places`` says which of a look's they replace."""

    slice_index: int
    boxes: tuple[Box, ...]
    places: tuple[int, ...] = ()


@dataclass
class _Look:
    """What the model answered to the boxes of a job."""

    slice_index: int
    places: tuple[int, ...]
    boxes: list[Box]
    masks: list[BoolArray]
    """[y, x] each"""
    iou: list[float]

    def take_better(self, wider: _Look) -> None:
        """Take the wider boxes' answers where the model does not think less of them."""
        for n, box, mask, iou in zip(
            wider.places, wider.boxes, wider.masks, wider.iou, strict=True
        ):
            if not iou < self.iou[n]:  # so that a method without an estimate has the wider
                self.boxes[n], self.masks[n], self.iou[n] = box, mask, iou


class _Run:
    """One propagation: the predictor, the scan, the rule."""

    def __init__(
        self,
        predictor: Predictor,
        volume: CTVolume,
        rule: Rule,
        second_look: bool,
        embed: Callable[[int], SliceEmbedding] | None,
    ) -> None:
        self.predictor = predictor
        self.volume = volume
        self.rule = rule
        self.second_look = second_look
        self.embed = embed
        self.bone_hu = bone_above(rule.bone_hu, float(volume.hu_zyx.max()))
        self._kept: dict[int, SliceEmbedding] = {}

    def follow(
        self, lesions: Mapping[Lesion, dict[int, list[Box]]], cancelled: Callable[[], bool]
    ) -> Iterator[Found | Stop]:
        fronts = []
        for name, prompts in lesions.items():
            marked: dict[int, Found] = {}
            if not cancelled():
                for found in self._prompted(name, prompts):
                    marked[found.slice_index] = found
                    yield found
            ends: tuple[tuple[Direction, int], ...] = ((-1, min(prompts)), (1, max(prompts)))
            for direction, k in ends:
                if k not in marked:
                    yield Stop(name, k, direction, "cancelled")
                elif not marked[k].mask_yx.any():
                    yield Stop(name, k, direction, "empty")
                else:
                    evidence = marked[k].evidence
                    contrast_hu = evidence.mean_hu - evidence.tissue_hu
                    fronts.append(
                        _Front(name, direction, marked[k], contrast_hu, evidence.tissue_hu)
                    )
        while fronts:
            if cancelled():
                for front in fronts:
                    yield Stop(front.lesion, front.last.slice_index, front.direction, "cancelled")
                return
            steps = self._round(fronts)
            yield from steps
            fronts = [
                front for front, step in zip(fronts, steps, strict=True) if _went_on(front, step)
            ]

    def _prompted(self, name: Lesion, prompts: dict[int, list[Box]]) -> Iterator[Found]:
        """The slices with a person's boxes, and those between them."""
        jobs = [
            _Job(k, tuple(prompts[k]) if k in prompts else self._between(prompts, k))
            for k in range(min(prompts), max(prompts) + 1)
        ]
        for job, look in zip(jobs, self._answer(jobs), strict=True):
            k, mask = job.slice_index, _any(look.masks)
            how: How = "prompt" if k in prompts else "between"
            yield Found(name, k, how, job.boxes, mask, self._evidence(k, mask, _best(look.iou)))

    def _round(self, fronts: Sequence[_Front]) -> list[Found | Stop]:
        """One step of every front: the next slice, or why there is none."""
        jobs = [self._next_job(front) for front in fronts]
        asked = {n: job for n, job in enumerate(jobs) if isinstance(job, _Job)}
        looks = dict(zip(asked, self._answer(list(asked.values())), strict=True))
        for _ in range(self.rule.further_looks):
            wider = {n: self._wider(fronts[n], look) for n, look in looks.items()}
            again = {n: job for n, job in wider.items() if job.boxes}
            for n, look in zip(again, self._answer(list(again.values())), strict=True):
                looks[n].take_better(look)
        return [
            job if isinstance(job, Stop) else self._judge(front, looks[n])
            for n, (front, job) in enumerate(zip(fronts, jobs, strict=True))
        ]

    def _wider(self, front: _Front, look: _Look) -> _Job:
        """Wider boxes where the box may have cut the blood short; none where all seem whole.

        A mask that reaches its box's side was cut by it. And where the box is full of blood, the model may take a part
        for the whole: so the box is drawn again around what is as bright as the blood on the prompted slice.
        """
        spacing, shape_yx = self.volume.geometry.spacing_yx_mm, look.masks[0].shape
        boxes, places = [], []
        for n, (box, mask) in enumerate(zip(look.boxes, look.masks, strict=True)):
            tight = self._bright_around(front, look.slice_index, mask, box)
            if tight is not None and _touches(tight, box, _TOUCH_MM, spacing, shape_yx):
                boxes.append(_united(box, _grown(tight, self.rule.margin_mm, spacing, shape_yx)))
                places.append(n)
        return _Job(look.slice_index, tuple(boxes), tuple(places))

    def _bright_around(self, front: _Front, k: int, mask: BoolArray, box: Box) -> Box | None:
        """The tight box of a mask and of what is as bright as the blood and joined to it, within reach of its box.

        Bright is over half of the way from the tissue to the blood of the prompted slice, short of bone, and wider than
        a vessel or the rim of the skull.
        """
        spacing, reach_mm = self.volume.geometry.spacing_yx_mm, self.rule.reach_mm
        tight = box_from_mask(mask)
        if tight is None:
            return None
        window = _grown(_united(box, tight), reach_mm, spacing, mask.shape).slices()
        size = [max(1, round(1.5 / step)) for step in spacing]
        hu = self.volume.hu_zyx[k][window].astype(np.float32)
        bone = ndimage.binary_dilation(hu > self.bone_hu, EIGHT_CONNECTED)
        smooth = ndimage.uniform_filter(hu, size)
        bright = (smooth > front.tissue_hu + 0.5 * front.contrast_hu) & ~bone
        dull_mm = ndimage.distance_transform_edt(np.pad(bright, 1), sampling=spacing)[1:-1, 1:-1]
        core = dull_mm > _THIN_MM / 2
        labels, _ = ndimage.label(core, EIGHT_CONNECTED)
        joined = np.isin(labels, np.unique(labels[mask[window] & core])) & core
        found = np.zeros_like(mask)
        found[window] = _near(joined, _THIN_MM / 2, spacing)
        return box_from_mask(found | mask)

    def _next_job(self, front: _Front) -> _Job | Stop:
        k, mask = front.last.slice_index, front.last.mask_yx
        if not 0 <= front.next_index < len(self.volume.hu_zyx):
            return Stop(front.lesion, k, front.direction, "end")
        boxes = self._boxes_around(mask, k, front.next_index)
        if not boxes:
            area = front.last.evidence.area_mm2
            return Stop(front.lesion, k, front.direction, "area", area, self.rule.least_area_mm2)
        return _Job(front.next_index, boxes)

    def _judge(self, front: _Front, look: _Look) -> Found | Stop:
        """Keep what each box gave where it passes the rule; the largest piece's reason where none does."""
        k, onto = front.last.slice_index, look.slice_index
        before = self._moved(front.last.mask_yx, k, onto)
        near = _near(before, self._margin_mm(k, onto), self.volume.geometry.spacing_yx_mm)
        kept, refused = [], []
        for n, (mask, iou) in enumerate(zip(look.masks, look.iou, strict=True)):
            evidence = self._evidence(onto, mask, iou, (before, near))
            stop = self._objection(front, evidence)
            if stop is None:
                kept.append(n)
            else:
                refused.append((evidence.area_mm2, stop))
        if not kept:
            return max(refused, key=lambda pair: pair[0])[1]
        mask = _any([look.masks[n] for n in kept])
        evidence = self._evidence(onto, mask, _best([look.iou[n] for n in kept]), (before, near))
        boxes = tuple(look.boxes[n] for n in kept)
        return Found(front.lesion, onto, "followed", boxes, mask, evidence)

    def _objection(self, front: _Front, evidence: Evidence) -> Stop | None:
        """The first part of the rule that the evidence does not pass."""
        rule = self.rule
        contrast_hu = max(rule.least_contrast * front.contrast_hu, rule.least_contrast_hu)
        least_hu = front.tissue_hu + contrast_hu
        checks: tuple[tuple[Reason, float, float, bool], ...] = (
            ("area", evidence.area_mm2, rule.least_area_mm2, False),
            ("growth", evidence.growth, rule.most_growth, True),
            ("bone", evidence.bone, rule.most_bone, True),
            ("hu", evidence.mean_hu, least_hu, False),
            ("overlap", evidence.overlap, rule.least_overlap, False),
            ("iou", evidence.iou, rule.least_iou, False),
        )
        for reason, value, threshold, is_upper in checks:
            if value > threshold if is_upper else value < threshold:
                k = front.last.slice_index
                return Stop(front.lesion, k, front.direction, reason, value, threshold)
        return None

    # The model

    def _answer(self, jobs: Sequence[_Job]) -> list[_Look]:
        """The model's answers, job by job; the slices encoded together, all boxes of a slice asked at once."""
        wanted: dict[int, list[Box]] = {}
        places = []
        for job in jobs:
            boxes = wanted.setdefault(job.slice_index, [])
            places.append(slice(len(boxes), len(boxes) + len(job.boxes)))
            boxes += job.boxes
        embeddings = self._embeddings(list(wanted))
        answers = {
            k: self.predictor.predict(embeddings[k], boxes, second_look=self.second_look)
            for k, boxes in wanted.items()
        }
        return [
            _Look(
                k := job.slice_index,
                job.places,
                list(job.boxes),
                list(answers[k].masks[place]),
                [float(value) for value in answers[k].iou[place]],
            )
            for job, place in zip(jobs, places, strict=True)
        ]

    def _embeddings(self, slices: Sequence[int]) -> Mapping[int, SliceEmbedding]:
        from ichseg.methods.predictor import SliceEmbedding  # not above: it brings torch

        if self.embed is not None:
            return {k: self.embed(k) for k in slices}
        if self.second_look and self.predictor.second_look:
            # A second look encodes a crop around each box: the slice's own encoding would be thrown away.
            return {k: SliceEmbedding(self.volume.hu_zyx[k]) for k in slices}
        new = [k for k in slices if k not in self._kept]
        embedded = self.predictor.embed_many([self.volume.hu_zyx[k] for k in new]) if new else []
        self._kept.update(zip(new, embedded, strict=True))
        return self._kept

    # Where to look

    def _boxes_around(self, mask: BoolArray, k: int, onto: int) -> tuple[Box, ...]:
        """A box for each piece of the mask on slice k, as they are to be looked for on another slice."""
        margin_mm = self._margin_mm(k, onto)
        dy, dx = self.volume.geometry.spacing_yx_mm
        down, right = self._shift_px(k, onto)
        boxes = []
        least_px = self.rule.least_area_mm2 / self.volume.geometry.pixel_area_mm2
        for box in _groups(mask, margin_mm / 2, (dy, dx), least_px):
            moved = Box(box.x0 + right, box.y0 + down, box.x1 + right, box.y1 + down)
            grown = _grown(moved, margin_mm, (dy, dx), mask.shape)
            if grown.width > 0 and grown.height > 0:
                boxes.append(grown)
        return tuple(boxes)

    def _margin_mm(self, k: int, onto: int) -> float:
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

    def _moved(self, mask: BoolArray, k: int, onto: int) -> BoolArray:
        """A mask [y, x] of slice k where it would lie on another one, to the nearest pixel."""
        down, right = (round(shift) for shift in self._shift_px(k, onto))
        if not down and not right:
            return mask
        return np.asarray(ndimage.shift(mask, (down, right), order=0, prefilter=False))

    def _between(self, prompts: Mapping[int, Sequence[Box]], k: int) -> tuple[Box, ...]:
        """The boxes of the prompted slices on either side of k, interpolated by position in mm."""
        low = max(other for other in prompts if other < k)
        high = min(other for other in prompts if other > k)
        positions = self.volume.geometry.slice_positions_mm
        share = (positions[k] - positions[low]) / (positions[high] - positions[low])
        below = np.array([self._box_on(box, low, k) for box in prompts[low]])
        above = np.array([self._box_on(box, high, k) for box in prompts[high]])
        pairs = _matched(below, above)
        between = [(1 - share) * below[i] + share * above[j] for i, j in pairs]
        return tuple(Box(*map(float, xyxy)).clip(self.volume.shape_zyx[1:]) for xyxy in between)

    def _box_on(self, box: Box, k: int, onto: int) -> npt.NDArray[np.float64]:
        down, right = self._shift_px(k, onto)
        return np.asarray(box.xyxy) + np.array([right, down, right, down])

    # What is there

    def _evidence(
        self, k: int, mask: BoolArray, iou: float, last: tuple[BoolArray, BoolArray] | None = None
    ) -> Evidence:
        """Measure a mask [y, x] on slice k, against the last slice's (as it is, and grown by the margin)."""
        nan = float("nan")
        pixels = int(np.count_nonzero(mask))
        area_mm2 = pixels * self.volume.geometry.pixel_area_mm2
        if pixels == 0:
            return Evidence(0.0, nan, nan, nan, 0.0, 0.0, iou)
        dy, dx = self.volume.geometry.spacing_yx_mm
        tight = box_from_mask(mask, 12 / min(dy, dx))
        assert tight is not None
        inside = tight.slices()
        mask_near, hu = mask[inside], self.volume.hu_zyx[k][inside]
        bone = hu > self.bone_hu
        blood = hu[mask_near & ~bone]
        far_mm = ndimage.distance_transform_edt(~mask_near, sampling=(dy, dx))
        around = hu[(far_mm > 2) & (far_mm <= 8) & (hu > 0) & (hu < 80)]
        growth = overlap = nan
        if last is not None:
            before, near = last
            earlier = int(np.count_nonzero(before))
            growth = pixels / earlier if earlier else nan
            kept = np.count_nonzero(mask & before) / earlier if earlier else 0.0
            overlap = float(max(np.count_nonzero(mask & near) / pixels, kept))
        return Evidence(
            area_mm2=area_mm2,
            mean_hu=float(blood.mean()) if blood.size else nan,
            tissue_hu=float(np.median(around)) if around.size else nan,
            bone=float(bone[mask_near].mean()),
            growth=growth,
            overlap=overlap,
            iou=iou,
        )


def _went_on(front: _Front, step: Found | Stop) -> bool:
    if isinstance(step, Stop):
        return False
    front.last = step
    return True


def _any(masks: Sequence[BoolArray]) -> BoolArray:
    """All masks [y, x] together."""
    return np.asarray(np.any(masks, axis=0))


def _best(iou: Sequence[float]) -> float:
    """The best of several estimates; NaN where a method makes none."""
    return max((value for value in iou if value == value), default=float("nan"))


def _near(mask: BoolArray, reach_mm: float, spacing_yx_mm: tuple[float, float]) -> BoolArray:
    """All that lies within a reach of a mask [y, x]."""
    near = np.zeros_like(mask)
    around = box_from_mask(mask, np.ceil(reach_mm / min(spacing_yx_mm)))
    if around is not None:
        inside = around.slices()
        far_mm = ndimage.distance_transform_edt(~mask[inside], sampling=spacing_yx_mm)
        near[inside] = far_mm <= reach_mm
    return near


def _grown(
    box: Box, margin_mm: float, spacing_yx_mm: tuple[float, float], shape_yx: tuple[int, ...]
) -> Box:
    """A box with a margin on each side, cut to the slice."""
    rows, columns = shape_yx
    y, x = (margin_mm / step for step in spacing_yx_mm)
    return Box(box.x0 - x, box.y0 - y, box.x1 + x, box.y1 + y).clip((rows, columns))


def _touches(
    tight: Box,
    box: Box,
    reach_mm: float,
    spacing_yx_mm: tuple[float, float],
    shape_yx: tuple[int, ...],
) -> bool:
    """Whether a mask's tight box comes within a reach of a side of the box that the slice's edge does not make."""
    near = _grown(tight, reach_mm, spacing_yx_mm, shape_yx)
    return _united(box, near) != box


def _united(a: Box, b: Box) -> Box:
    return Box(min(a.x0, b.x0), min(a.y0, b.y0), max(a.x1, b.x1), max(a.y1, b.y1))


def _groups(
    mask: BoolArray, reach_mm: float, spacing_yx_mm: tuple[float, float], least_px: float
) -> list[Box]:
    """The tight box of each group of pieces that lie within twice a reach of one another, specks left out."""
    labels, count = ndimage.label(_near(mask, reach_mm, spacing_yx_mm), EIGHT_CONNECTED)
    labels[~mask] = 0
    pixels = np.bincount(labels.ravel(), minlength=count + 1)
    return [
        Box(columns.start, rows.start, columns.stop, rows.stop)
        for number, (rows, columns) in enumerate(ndimage.find_objects(labels, count), 1)
        if pixels[number] >= least_px
    ]


def _matched(
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


class _Callable(ModuleType):
    """The library's ``ichseg.propagate`` is the function; importing this module puts the module under that name."""

    __call__ = staticmethod(propagate)


sys.modules[__name__].__class__ = _Callable
