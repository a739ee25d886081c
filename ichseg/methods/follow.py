"""One box, the whole hematoma: from the prompted slices outward, slice by slice, until a stated rule ends it.

``propagation.propagate`` is the plain case: boxes on some slices in, a Segmentation out. ``follow`` is below it: a
generator over several lesions that gives every slice as it is found, with the boxes that were used, the evidence, and
for each direction a Stop that says in a sentence why it went no further.

How it goes. The model answers the boxes that a person gave. On a slice between two prompted ones the boxes are
interpolated. Beyond the outermost prompted slices, the next slice's boxes are drawn around the connected components of
the mask so far, moved by the scan's geometry (gantry tilt) and grown by a margin in mm that rises with the gap; so a
lesion may split, merge, and end in one component while another goes on. What the model finds there has to pass the
Rule, or that component ends; with the last one, so does the direction. What the lesion's blood looks like is learned
(``likeness``) from all slices that a person prompted, for both directions: the nearest one alone may be the lesion's
faint end, and holds fewer cells to learn from. A prompt always wins: nothing is followed onto a slice for which the
lesion has boxes of its own.

Arrays are [z, y, x] as in ``scan.geometry``; slices are numbered from 0 at the foot end, and from 1 in sentences.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

import numpy as np

from ichseg.arrays import BoolArray
from ichseg.errors import BoxError, check_cancelled
from ichseg.marks.box import Box, as_boxes
from ichseg.methods.backends import AT_ONCE
from ichseg.methods.follow_boxes import NextBoxes, near
from ichseg.methods.follow_evidence import measure, wider_box, with_bright
from ichseg.methods.follow_rule import (
    Direction,
    Evidence,
    Found,
    How,
    Lesion,
    Prompts,
    Reason,
    Rule,
    Stop,
)
from ichseg.methods.likeness import Cells, Discriminant, Prompted, discriminant_of
from ichseg.scan.limits import bone_above
from ichseg.scan.volume import CTVolume

if TYPE_CHECKING:
    from ichseg.methods.predictor import Predictor, SliceEmbedding


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
    checked = checked_prompts(lesions, volume.shape_zyx)
    run = _Run(predictor, volume, rule or Rule(), second_look, embed)
    return run.follow(checked, cancelled or (lambda: False))


def checked_prompts(
    lesions: Mapping[Lesion, Prompts], shape_zyx: tuple[int, int, int]
) -> dict[Lesion, dict[int, list[Box]]]:
    """Each lesion's boxes by slice, those without a box left out. Raises BoxError as ``follow`` does."""
    if not lesions:
        raise _no_box()
    return {name: _checked(prompts, shape_zyx) for name, prompts in lesions.items()}


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


@dataclass
class _Front:
    """Where a lesion stands in one direction."""

    direction: Direction
    last: Found
    discriminant: Discriminant | None
    """What tells this lesion's blood from what surrounds it; None where the method or the mask cannot tell."""
    contrast_hu: float = field(init=False)
    """Mean HU above the tissue around it where a person marked it."""
    tissue_hu: float = field(init=False)

    def __post_init__(self) -> None:
        evidence = self.last.evidence
        self.tissue_hu = evidence.tissue_hu
        self.contrast_hu = evidence.mean_hu - evidence.tissue_hu

    @property
    def lesion(self) -> Lesion:
        return self.last.lesion

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
    embedding: SliceEmbedding

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
        self.boxes = NextBoxes(volume, rule)
        self._kept: dict[int, SliceEmbedding] = {}
        self._cells: dict[int, Cells] = {}
        """Of the prompted slices."""

    def follow(
        self, lesions: Mapping[Lesion, dict[int, list[Box]]], cancelled: Callable[[], bool]
    ) -> Iterator[Found | Stop]:
        marked: dict[Lesion, dict[int, Found]] = {name: {} for name in lesions}
        for name, prompts in lesions.items():
            for found in self._prompted(name, prompts, cancelled):
                marked[name][found.slice_index] = found
                yield found
        discriminants = self._discriminants(marked)
        fronts = []
        for name, prompts in lesions.items():
            ends: tuple[tuple[Direction, int], ...] = ((-1, min(prompts)), (1, max(prompts)))
            for direction, k in ends:
                if k not in marked[name]:
                    yield Stop(name, k, direction, "cancelled")
                elif not marked[name][k].mask_yx.any():
                    yield Stop(name, k, direction, "empty")
                else:
                    fronts.append(_Front(direction, marked[name][k], discriminants[name]))
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

    def _prompted(
        self, name: Lesion, prompts: dict[int, list[Box]], cancelled: Callable[[], bool]
    ) -> Iterator[Found]:
        """The slices with a person's boxes, and those between them, a few at a time until it is cancelled."""
        jobs = [
            _Job(k, tuple(prompts[k]) if k in prompts else self.boxes.between(prompts, k))
            for k in range(min(prompts), max(prompts) + 1)
        ]
        at_once = AT_ONCE if self.embed is None else 1
        for i in range(0, len(jobs), at_once):
            if cancelled():
                return
            some = jobs[i : i + at_once]
            for job, look in zip(some, self._answer(some), strict=True):
                k, mask = job.slice_index, _any(look.masks)
                how: How = "prompt" if k in prompts else "between"
                evidence = measure(self.volume, k, mask, _best(look.iou), self.bone_hu)
                cells = self._cells_of(look) if how == "prompt" else None
                if cells is not None:
                    self._cells[k] = cells
                yield Found(name, k, how, job.boxes, mask, evidence)

    def _discriminants(
        self, marked: Mapping[Lesion, Mapping[int, Found]]
    ) -> dict[Lesion, Discriminant | None]:
        """What tells each lesion's blood from what surrounds it, from its prompted slices; None where nothing does."""
        blood: dict[int, BoolArray] = {}
        for found in (one for slices in marked.values() for one in slices.values()):
            if found.slice_index in self._cells:
                so_far = blood.get(found.slice_index, found.mask_yx)
                blood[found.slice_index] = so_far | self._with_bright(found)
        return {
            name: discriminant_of(
                [
                    Prompted(self._cells[k], found.mask_yx, blood[k])
                    for k, found in slices.items()
                    if found.how == "prompt" and k in self._cells
                ]
            )
            for name, slices in marked.items()
        }

    def _with_bright(self, found: Found) -> BoolArray:
        """A mask with what may be more of its blood, as its box may have cut it."""
        evidence = found.evidence
        return with_bright(
            self.volume,
            found.slice_index,
            found.mask_yx,
            bright_hu=(evidence.tissue_hu + evidence.mean_hu) / 2,
            bone_hu=self.bone_hu,
            reach_mm=self.rule.reach_mm,
        )

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
        for the whole: so the box is drawn again around what is as bright as the blood on the prompted slice: over
        half of the way from the tissue to that blood.
        """
        boxes, places = [], []
        for n, (box, mask) in enumerate(zip(look.boxes, look.masks, strict=True)):
            larger = wider_box(
                self.volume,
                look.slice_index,
                mask,
                box,
                bright_hu=front.tissue_hu + 0.5 * front.contrast_hu,
                bone_hu=self.bone_hu,
                rule=self.rule,
            )
            if larger is not None:
                boxes.append(larger)
                places.append(n)
        return _Job(look.slice_index, tuple(boxes), tuple(places))

    def _next_job(self, front: _Front) -> _Job | Stop:
        k, mask = front.last.slice_index, front.last.mask_yx
        if not 0 <= front.next_index < len(self.volume.hu_zyx):
            return Stop(front.lesion, k, front.direction, "end")
        boxes = self.boxes.boxes_around(mask, k, front.next_index)
        if not boxes:
            area = front.last.evidence.area_mm2
            return Stop(front.lesion, k, front.direction, "area", area, self.rule.least_area_mm2)
        return _Job(front.next_index, boxes)

    def _judge(self, front: _Front, look: _Look) -> Found | Stop:
        """Keep what each box gave where it passes the rule; the reason of the largest where none does."""
        k, onto = front.last.slice_index, look.slice_index
        before = self.boxes.moved(front.last.mask_yx, k, onto)
        around = near(before, self.boxes.margin_mm(k, onto), self.volume.geometry.spacing_yx_mm)
        cells = None if front.discriminant is None else self._cells_of(look)

        def evidence_of(mask: BoolArray, iou: float) -> Evidence:
            seen = measure(self.volume, onto, mask, iou, self.bone_hu, (before, around))
            if front.discriminant is None or cells is None:
                return seen
            return replace(seen, likeness=front.discriminant.mean_in(cells, mask))

        kept, refused = [], []
        for n, (mask, iou) in enumerate(zip(look.masks, look.iou, strict=True)):
            evidence = evidence_of(mask, iou)
            stop = self._objection(front, evidence)
            if stop is None:
                kept.append(n)
            else:
                refused.append((evidence.area_mm2, stop))
        if not kept:
            return max(refused, key=lambda pair: pair[0])[1]
        mask = _any([look.masks[n] for n in kept])
        evidence = evidence_of(mask, _best([look.iou[n] for n in kept]))
        boxes = tuple(look.boxes[n] for n in kept)
        return Found(front.lesion, onto, "followed", boxes, mask, evidence)

    def _objection(self, front: _Front, evidence: Evidence) -> Stop | None:
        """The first part of the rule that the evidence does not pass."""
        for reason, value, threshold, is_upper in self._checks(front, evidence):
            if value > threshold if is_upper else value < threshold:
                k = front.last.slice_index
                return Stop(front.lesion, k, front.direction, reason, value, threshold)
        return None

    def _checks(
        self, front: _Front, evidence: Evidence
    ) -> Iterator[tuple[Reason, float, float, bool]]:
        """The rule's parts for this lesion: reason, value, threshold, and whether the threshold is an upper one."""
        rule = self.rule
        yield "area", evidence.area_mm2, rule.least_area_mm2, False
        if front.discriminant is not None and rule.least_likeness is not None:
            yield "likeness", evidence.likeness, rule.least_likeness, False
            return
        contrast_hu = max(rule.least_contrast * front.contrast_hu, rule.least_contrast_hu)
        yield "growth", evidence.growth, rule.most_growth, True
        yield "bone", evidence.bone, rule.most_bone, True
        yield "hu", evidence.mean_hu, front.tissue_hu + contrast_hu, False
        yield "overlap", evidence.overlap, rule.least_overlap, False
        yield "iou", evidence.iou, rule.least_iou, False

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
        answers = {}
        for k, boxes in wanted.items():
            check_cancelled()
            answers[k] = self.predictor.predict(embeddings[k], boxes, second_look=self.second_look)
        return [
            _Look(
                k := job.slice_index,
                job.places,
                list(job.boxes),
                list(answers[k].masks[place]),
                [float(value) for value in answers[k].iou[place]],
                embeddings[k],
            )
            for job, place in zip(jobs, places, strict=True)
        ]

    def _cells_of(self, look: _Look) -> Cells | None:
        """The cells of a slice that tell blood from what surrounds it, where the method has such, and the rule asks."""
        return None if self.rule.least_likeness is None else self.predictor.cells(look.embedding)

    @staticmethod
    def _embedded(embed: Callable[[int], SliceEmbedding], k: int) -> SliceEmbedding:
        check_cancelled()
        return embed(k)

    def _embeddings(self, slices: Sequence[int]) -> Mapping[int, SliceEmbedding]:
        if self.embed is not None:
            return {k: self._embedded(self.embed, k) for k in slices}
        new = [k for k in slices if k not in self._kept]
        embedded = self.predictor.embed_many([self.volume.hu_zyx[k] for k in new]) if new else []
        self._kept.update(zip(new, embedded, strict=True))
        return self._kept


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
