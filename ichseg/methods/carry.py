"""From a marked baseline to proposals on its follow-up: boxes by the registration, then the method from there on.

``carried_labels`` says where a baseline's lesions lie on the follow-up's own grid, to draw boxes and outlines by: it is
never measured. ``carry`` draws boxes around that, widens them where blood has grown out of them, leaves out slices on
which there is none any more, and goes on slice by slice as from a person's boxes (``propagation``). So comes a document
in which every lesion has the number, the name and the type that it has on the baseline.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Hashable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from ichseg.arrays import BoolArray, Labels
from ichseg.errors import InputError
from ichseg.marks.box import Box
from ichseg.marks.document import Segmentation
from ichseg.marks.lesion import Lesion
from ichseg.methods.edge_step import step_of
from ichseg.methods.follow_boxes import groups, grown
from ichseg.methods.follow_evidence import measure, wider_box
from ichseg.methods.follow_rule import Evidence, Rule
from ichseg.methods.propagation import Propagation, propagate_lesions
from ichseg.scan.limits import bone_above
from ichseg.scan.registration import Registration
from ichseg.scan.slabs import SliceOrSlab
from ichseg.scan.volume import CTVolume

if TYPE_CHECKING:
    from ichseg.methods.predictor import Predictor, SliceEmbedding

#: Slices on which a lesion has this share of its largest area get boxes; beyond them it is followed.
LEAST_SHARE = 0.25
#: A clot that has grown to three times its volume is wider by 44 %: so often a box is drawn wider.
LOOKS = 4


@dataclass(frozen=True, eq=False)
class Carried:
    """What was found on a follow-up of what is marked on its baseline.

    ``marked`` is the document of the follow-up, ``lost`` the lesions of which nothing was found there.
    """

    marked: Segmentation
    lost: tuple[Lesion, ...]

    @property
    def notes(self) -> list[str]:
        """Sentences to say with it."""
        notes = [
            "The follow-up was marked by the registration and the method, and by no person: look at every slice."
        ]
        if self.lost:
            names = " and ".join(lesion.name for lesion in self.lost)
            notes.append(f"Nothing was found of {names} where it was: draw a box if it is there.")
        return notes


def carried_labels(
    labels_zyx: npt.NDArray[np.integer],
    baseline: CTVolume,
    followup: CTVolume,
    registration: Registration,
) -> Labels:
    """Where a baseline's lesions lie on the follow-up's own grid, uint8 [z, y, x]: each voxel has the nearest label.

    It serves boxes and outlines. Volumes are measured on each scan's own mask.
    """
    out = np.zeros(followup.shape_zyx, dtype=np.uint8)
    own = np.argwhere(np.asarray(labels_zyx))
    if not len(own):
        return out
    there = followup.geometry.to_index(registration.to_followup(baseline.geometry.to_mm(*own.T)))
    # A voxel of the follow-up may lie between two of the baseline: a voxel of either to each side.
    spare = np.ceil(np.divide(baseline.spacing_mm, followup.spacing_mm)).astype(int) + 1
    low = np.maximum(np.floor(there.min(axis=0)).astype(int) - spare, 0)
    high = np.minimum(np.ceil(there.max(axis=0)).astype(int) + spare + 1, followup.shape_zyx)
    if (high <= low).any():
        return out
    window = np.indices(high - low).reshape(3, -1) + low[:, None]
    places = registration.to_baseline(followup.geometry.to_mm(*window))
    nearest = np.rint(baseline.geometry.to_index(places)).astype(np.intp)
    inside = ((nearest >= 0) & (nearest < baseline.shape_zyx)).all(axis=1)
    found = window[:, inside]
    out[tuple(found)] = np.asarray(labels_zyx)[tuple(nearest[inside].T)]
    return out


def carry(
    predictor: Predictor,
    baseline: tuple[CTVolume, npt.NDArray[np.integer], Sequence[Lesion]],
    followup: CTVolume,
    registration: Registration,
    *,
    edge: bool = True,
    rule: Rule | None = None,
    embed: Callable[[SliceOrSlab], SliceEmbedding] | None = None,
    progress: Callable[[float], None] | None = None,
    cancelled: Callable[[], bool] | None = None,
) -> Carried:
    """Mark a follow-up by what is marked on its baseline.

    Args:
        predictor: any method of the catalogue.
        baseline: the scan, its labelled mask [z, y, x], and the lesions that the labels stand for.
        followup: the later scan.
        registration: of the two.
        edge: draw the edge at half height, where the method takes it.
        rule: of the propagation.
        embed: slice index of the follow-up to its embedding by this predictor, for a caller that keeps them.
        progress: called with the share that is done, 0 to 1.
        cancelled: asked before each step; True ends it with what there is.

    Raises:
        InputError: no lesion with a voxel on the baseline, or none that lies on the follow-up.

    """
    rule = rule or Rule()
    present, prompts = prompts_on(
        predictor, baseline, followup, registration, rule=rule, embed=embed, cancelled=cancelled
    )
    found = Propagation(followup.shape_zyx, rule, second_look=False)
    if prompts:
        found = propagate_lesions(
            predictor,
            followup,
            prompts,
            rule=rule,
            embed=embed,
            progress=progress,
            cancelled=cancelled,
        )
    kept = [
        lesion for lesion in present if lesion.id in prompts and found.mask_zyx(lesion.id).any()
    ]
    marked = document({predictor.name: found}, kept or present, followup, edge=edge)
    lost = tuple(lesion for lesion in present if lesion not in kept)
    return Carried(marked, lost)


def prompts_on(
    predictor: Predictor,
    baseline: tuple[CTVolume, npt.NDArray[np.integer], Sequence[Lesion]],
    followup: CTVolume,
    registration: Registration,
    *,
    rule: Rule | None = None,
    embed: Callable[[SliceOrSlab], SliceEmbedding] | None = None,
    cancelled: Callable[[], bool] | None = None,
) -> tuple[list[Lesion], dict[Hashable, Mapping[int, Sequence[Box]]]]:
    """The lesions of a baseline, and the boxes that each is looked for in on its follow-up: by lesion, then slice.

    A lesion of which nothing is there has none. The arguments are those of ``carry``.
    """
    volume, labels, lesions = baseline
    present = [one for one in lesions if one.is_blood and (np.asarray(labels) == one.id).any()]
    if not present:
        raise InputError(
            "Lesions are carried over from a marked baseline; nothing is marked on it; mark the blood there first."
        )
    there = carried_labels(labels, volume, followup, registration)
    look = _Look(predictor, followup, rule or Rule(), embed)
    prompts: dict[Hashable, Mapping[int, Sequence[Box]]] = {}
    for lesion in present:
        if cancelled is not None and cancelled():
            break
        if boxes := look.boxes_of(there == lesion.id):
            prompts[lesion.id] = boxes
    return present, prompts


def document(
    found: Mapping[str, Propagation], lesions: Iterable[Lesion], volume: CTVolume, *, edge: bool
) -> Segmentation:
    """What several methods found from the same boxes as one document, by name; lesions keep what they are called.

    Args:
        found: by the method's name; its lesions are the numbers of ``lesions``.
        lesions: those that the document has.
        volume: the scan.
        edge: whether the edge at half height is drawn on it.

    """
    lesions = [replace(lesion, locked=False, visible=True) for lesion in lesions]
    marked = Segmentation.restored(
        volume.shape_zyx, lesions, {}, next(iter(found)), (), edge_step=step_of(volume), edge=edge
    )
    for lesion in lesions:
        asked: dict[int, tuple[Box, ...]] = {}
        masks: dict[int, dict[str, BoolArray]] = {}
        for model, one in found.items():
            for k, slice_ in one.found.get(lesion.id, {}).items():
                if slice_.how == "prompt":
                    asked[k] = slice_.boxes
                    masks.setdefault(k, {})[model] = slice_.mask_yx
        for k, boxes in sorted(asked.items()):
            marked.set_boxes(k, lesion.id, boxes, masks[k])
        for model, one in found.items():
            if lesion.id in one.found:
                one.mark(marked, lesion.id, model, lesion.id)
    return marked


class _Look:
    """A method's look at a follow-up where lesions are expected."""

    def __init__(
        self,
        predictor: Predictor,
        volume: CTVolume,
        rule: Rule,
        embed: Callable[[SliceOrSlab], SliceEmbedding] | None,
    ) -> None:
        self.predictor, self.volume, self.rule = predictor, volume, rule
        self._embed = embed
        self._kept: dict[int, SliceEmbedding] = {}
        self.bone_hu = bone_above(rule.bone_hu, float(volume.hu_zyx.max()))

    def embedding(self, k: int) -> SliceEmbedding:
        """That of a slice, made once."""
        if self._embed is not None:
            return self._embed(k)
        if k not in self._kept:
            self._kept[k] = self.predictor.embed(self.volume.hu_zyx[k])
        return self._kept[k]

    def boxes_of(self, expected_zyx: BoolArray) -> dict[int, list[Box]]:
        """The boxes that a lesion is looked for in, by slice, from where it is expected; none where it is gone."""
        areas = np.count_nonzero(expected_zyx, axis=(1, 2))
        spacing = self.volume.geometry.spacing_yx_mm
        least_px = self.rule.least_area_mm2 / self.volume.geometry.pixel_area_mm2
        slices = np.flatnonzero(areas >= max(1, LEAST_SHARE * areas.max(initial=0)))
        order = sorted(map(int, slices), key=lambda k: -areas[k])
        found: dict[int, list[Box]] = {}
        contrast_hu = None
        for k in order:
            expected = expected_zyx[k]
            tight = groups(expected, self.rule.margin_mm / 2, spacing, min(least_px, areas[k]))
            boxes = [grown(box, self.rule.margin_mm, spacing, expected.shape) for box in tight]
            boxes, evidence = self._widened(k, boxes)
            own = evidence.mean_hu - evidence.tissue_hu
            least_hu = max(
                self.rule.least_contrast_hu, self.rule.least_contrast * (contrast_hu or 0.0)
            )
            if evidence.area_mm2 < self.rule.least_area_mm2 or not own >= least_hu:
                continue
            if contrast_hu is None:  # of the slice with the most blood that still has some
                contrast_hu = own
            found[k] = [_whole(box) for box in boxes]
        return found

    def _widened(self, k: int, boxes: list[Box]) -> tuple[list[Box], Evidence]:
        """Boxes as wide as the blood that is in them, and what the method's mask in them looks like."""
        for look in range(LOOKS + 1):
            masks = self.predictor.predict(self.embedding(k), boxes, second_look=False).masks
            evidence = measure(self.volume, k, np.any(masks, axis=0), float("nan"), self.bone_hu)
            if look == LOOKS or not np.isfinite(evidence.mean_hu - evidence.tissue_hu):
                break
            bright_hu = (evidence.mean_hu + evidence.tissue_hu) / 2
            wider = [
                wider_box(
                    self.volume,
                    k,
                    mask,
                    box,
                    bright_hu=bright_hu,
                    bone_hu=self.bone_hu,
                    rule=self.rule,
                )
                for box, mask in zip(boxes, masks, strict=True)
            ]
            if not any(wider):
                break
            boxes = [new or box for new, box in zip(wider, boxes, strict=True)]
        return boxes, evidence


def _whole(box: Box) -> Box:
    """A box in whole pixels."""
    return Box(math.floor(box.x0), math.floor(box.y0), math.ceil(box.x1), math.ceil(box.y1))
