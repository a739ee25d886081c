"""One scan from what was drawn to its masks and measures: for the command line's one scan, and each of many.

``Case`` is a scan, the boxes on it, and the model that answers them; ``Segmented`` is what came of it.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cache, cached_property
from typing import TYPE_CHECKING, Any

from ichseg.cohort.entry import Prompts, lesions_of
from ichseg.files.session import SessionRecord, same_mask_note, segmentation_record
from ichseg.marks.box import Box
from ichseg.marks.document import Segmentation
from ichseg.marks.lesion import Lesion
from ichseg.measures.assessment import Assessment, assess_marked, automatically
from ichseg.measures.ranges import Drawn, Ranges
from ichseg.methods.automatic import Automatic
from ichseg.methods.catalogue import edge_setting, mask_identity
from ichseg.methods.edge_step import step_of
from ichseg.methods.follow_rule import Boxes, Stop
from ichseg.methods.propagation import propagate_lesions
from ichseg.scan.volume import CTVolume

if TYPE_CHECKING:
    from ichseg.methods.identity import Identity
    from ichseg.methods.predictor import Predictor, SliceEmbedding

Progress = Callable[[float], None]
"""Called with the share that is done, 0 to 1."""


def prompted_document(
    volume: CTVolume, prompts: Prompts, types: Mapping[int, str], edge: bool = True
) -> Segmentation:
    """A scan's document with its lesions and boxes, checked before any model is loaded.

    Raises BoxError and LesionError as ``Segmentation.set_boxes`` does.
    """
    marked = _document(volume, lesions_of(prompts, types), edge)
    for (k, lesion), boxes in prompts.items():
        marked.set_boxes(k, lesion, boxes, {})
    return marked


def _document(volume: CTVolume, lesions: Sequence[Lesion], edge: bool) -> Segmentation:
    step = step_of(volume)
    return Segmentation.restored(volume.shape_zyx, lesions, {}, "", (), edge_step=step, edge=edge)


@dataclass(frozen=True)
class Case:
    """One scan, what was drawn on it (``prompted_document``), and the model that answers."""

    volume: CTVolume
    marked: Segmentation
    predictor: Predictor
    propagate: bool = False
    automatic: Automatic | None = None
    """Of boxes that the program itself proposed and took (``automatic.automatic_document``)."""

    @cached_property
    def embed(self) -> Callable[[int], SliceEmbedding]:
        """The embedding of a slice, made once."""
        return cache(lambda k: self.predictor.embed(self.volume.hu_zyx[k]))

    def segmented(self, progress: Progress = lambda share: None) -> Segmented:
        """What the model finds in the boxes, or from them on."""
        if self.propagate:
            return self._propagated(progress)
        marked, predictor = self.marked, self.predictor
        drawn = marked.prompts()
        for number, ((k, lesion), boxes) in enumerate(drawn.items(), 1):
            found = predictor.predict(self.embed(k), boxes, second_look=predictor.second_look)
            marked.add_masks(k, {predictor.name: found.union}, lesion)
            progress(number / len(drawn))
        return Segmented(self, marked, refinement=predictor.second_look)

    def run_again(self, saved: SessionRecord, progress: Progress | None = None) -> Segmented:
        """A saved record's masks, made once more. Raises InputError as ``SessionRecord.check_model`` does."""
        changed = saved.check_model(self.predictor)
        marked = saved.run(self.predictor, self.volume, embed=self.embed, progress=progress)
        return Segmented(
            self,
            marked,
            refinement=saved.second_look,
            changed=tuple(changed),
            same_mask=saved.is_same(marked, self.predictor.name),
            from_record=True,
        )

    def _propagated(self, progress: Progress) -> Segmented:
        """The whole hematoma of each lesion from its boxes, and why it ended."""
        by_lesion: dict[Hashable, dict[int, Boxes]] = {
            lesion: dict(drawn) for lesion, drawn in boxes_by_lesion(self.marked).items()
        }
        name = self.predictor.name
        done = propagate_lesions(
            self.predictor, self.volume, by_lesion, embed=self.embed, progress=progress
        )
        marked = _document(self.volume, self.marked.lesions, self.marked.edge)
        for lesion in boxes_by_lesion(self.marked):
            for k, found in done.found[lesion].items():
                if found.how == "prompt":
                    marked.set_boxes(k, lesion, found.boxes, {name: found.mask_yx})
            done.mark(marked, lesion, name, lesion)
        # As it was done: a propagation answers without a refinement.
        return Segmented(self, marked, refinement=False, stops=tuple(done.stops))


def boxes_by_lesion(marked: Segmentation) -> dict[int, dict[int, tuple[Box, ...]]]:
    """The boxes that a person drew, by lesion and slice."""
    found: dict[int, dict[int, tuple[Box, ...]]] = {}
    for (k, lesion), boxes in marked.prompts().items():
        found.setdefault(lesion, {})[k] = boxes
    return dict(sorted(found.items()))


@dataclass(frozen=True)
class Segmented:
    """A segmented case: its document, and how it was made."""

    case: Case
    marked: Segmentation
    refinement: bool | None
    stops: tuple[Stop, ...] = ()
    changed: tuple[str, ...] = ()
    """Of a record run again: what is not as it was."""
    same_mask: bool | None = None
    """Of a record run again: whether the mask is the one it tells of; None where it does not say."""
    from_record: bool = field(default=False, kw_only=True)

    @cached_property
    def identity(self) -> Identity:
        """All that decided the mask, besides the scan and its boxes."""
        return mask_identity(self.case.predictor, refinement=self.refinement, edge=self.marked.edge)

    def record(self) -> dict[str, Any]:
        """The JSON object; itself a record for --session."""
        predictor = self.case.predictor
        record = segmentation_record(
            self.case.volume,
            self.marked,
            model=predictor.name,
            weights_sha256=predictor.weights_sha256,
            second_look=self.refinement,
            identity=self.identity,
        )
        if self.case.automatic is not None:
            record["automatic"] = self.case.automatic.record()
        if self.from_record:
            record["same_mask"] = self.same_mask
            record["session_notes"] = list(self.changed)
        return record

    @property
    def notes(self) -> list[str]:
        """What has to be said beside the volume: how much of the scan it is of, and what has changed."""
        notes = [
            f"Propagation {stop.sentence} (--slice {stop.slice_index})." for stop in self.stops
        ]
        automatic = self.case.automatic
        if automatic is not None:
            notes += automatic.notes
        whole = self.case.propagate or self.from_record or automatic is not None
        if note := extent_note(self.marked, whole):
            notes.append(note)
        if self.same_mask is not None:
            changed = list(self.changed)
            notes += [same_mask_note(self.same_mask, changed), *changed]
        return notes

    def assessment(self, with_range: bool = True, progress: Progress | None = None) -> Assessment:
        """All measures, with the range of volumes where it is wanted and the masks come from boxes (``Ranges``)."""
        predictor, volume = self.case.predictor, self.case.volume
        name = predictor.name
        found = assess_marked(
            self.marked,
            volume,
            model=name,
            model_title=predictor.title,
            weights_sha256=predictor.weights_sha256,
            second_look=self.refinement,
            identity=self.identity,
        )
        if self.case.automatic is not None:
            return automatically(found, self.case.automatic)
        if not with_range:
            return found
        edge = edge_setting(name, self.marked.edge) is True
        drawn = Drawn.of(self.marked, name, refined=bool(self.refinement), edge=edge)
        now_ml = {one.label: one.volume_ml for one in found.measures if one.label is not None}
        ranges = Ranges().within(
            drawn, volume, now_ml, predictor, self.case.embed, progress=progress
        )
        return replace(found, ranges=ranges, no_range=drawn.no_range)


def extent_note(marked: Segmentation, whole: bool) -> str:
    """That a volume is of the boxed slices alone, where nothing went on from them; empty otherwise."""
    slices = sorted({k for k, _ in marked.prompts()})
    if whole or not slices:
        return ""
    where = "the 1 slice with a box" if len(slices) == 1 else f"the {len(slices)} slices with a box"
    return (
        f"Counted on {where} alone: blood on other slices is not in this volume; propagation goes on to the whole "
        "hematoma."
    )
