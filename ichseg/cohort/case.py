"""One scan from what was drawn to its masks and measures: for the command line's one scan, and each of many.

``Case`` is a scan, the boxes on it, and the model that answers them; ``Segmented`` is what came of it.
"""

from __future__ import annotations

import io
from collections.abc import Callable, Hashable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property, lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from ichseg.arrays import BoolArray, Labels
from ichseg.cohort.entry import Prompts, lesions_of
from ichseg.errors import BoxError, InputError
from ichseg.files import tables, write
from ichseg.files.session import SessionRecord, same_mask_note, segmentation_record
from ichseg.marks.box import Box
from ichseg.marks.document import Segmentation
from ichseg.marks.lesion import Lesion
from ichseg.measures.assessment import Assessment, assess_marked, automatically
from ichseg.measures.looks import Told, told_of
from ichseg.measures.ranges import Drawn, Ranges
from ichseg.measures.suggest import slice_probability
from ichseg.measures.volume import volume_ml
from ichseg.methods.automatic import Automatic
from ichseg.methods.catalogue import edge_setting, mask_identity
from ichseg.methods.detection import no_proposals
from ichseg.methods.edge_step import step_of
from ichseg.methods.follow_rule import Boxes, Stop
from ichseg.methods.propagation import propagate_lesions
from ichseg.scan.slabs import SliceOrSlab, hu_of, slabs_of
from ichseg.scan.volume import CTVolume

if TYPE_CHECKING:
    import pandas

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


#: So many embeddings of a scan are kept: all of a usual one, at 2 MB each.
EMBEDDINGS = 64


def embedder(predictor: Predictor, volume: CTVolume) -> Callable[[SliceOrSlab], SliceEmbedding]:
    """A method's embedding of a slice or a slab of a scan, each made once while it is among the last EMBEDDINGS."""
    return lru_cache(EMBEDDINGS)(lambda where: predictor.embed(hu_of(volume, where)))


@dataclass(frozen=True)
class Case:
    """One scan, what was drawn on it (``prompted_document``), and the model that answers."""

    volume: CTVolume
    marked: Segmentation
    predictor: Predictor
    propagate: bool = False
    automatic: Automatic | None = None
    """Of boxes that the program itself proposed and took (``automatic.automatic_case``)."""
    embedded: Callable[[SliceOrSlab], SliceEmbedding] | None = None
    """What gives the predictor's embeddings, where some are there already."""

    @property
    def follows(self) -> bool:
        """Whether the lesions are followed from their boxes.

        That is where it is asked, and for what was proposed in a thin series: its boxes are on one slice of each slab.
        """
        by_slabs = self.automatic is not None and slabs_of(self.volume) is not None
        return bool(self.marked.prompts()) and (self.propagate or by_slabs)

    @cached_property
    def embed(self) -> Callable[[SliceOrSlab], SliceEmbedding]:
        """The embedding of a slice or a slab."""
        return self.embedded or embedder(self.predictor, self.volume)

    def segmented(
        self,
        progress: Progress = lambda share: None,
        cancelled: Callable[[], bool] = lambda: False,
    ) -> Segmented:
        """What the model finds in the boxes, with its refinement, and then from them on, as the page does.

        ``progress`` is told a share that never falls. Raises InputError where ``cancelled`` ends it.
        """
        marked, predictor, name = self.marked, self.predictor, self.predictor.name
        drawn = marked.prompts()
        depth = len(self.volume.hu_zyx) if self.follows else 0
        part = len(drawn) / max(1, len(drawn) + depth)
        for number, ((k, lesion), boxes) in enumerate(drawn.items(), 1):
            if cancelled():
                raise stopped()
            found = predictor.predict(self.embed(k), boxes, second_look=predictor.second_look)
            marked.add_masks(k, {name: found.union}, lesion)
            progress(part * number / len(drawn))
        stops: tuple[Stop, ...] = ()
        if self.follows:
            by_lesion: dict[Hashable, dict[int, Boxes]] = {
                lesion: dict(one) for lesion, one in boxes_by_lesion(marked).items()
            }
            done = propagate_lesions(
                predictor,
                self.volume,
                by_lesion,
                embed=self.embed,
                progress=lambda share: progress(part + (1 - part) * share),
                cancelled=cancelled,
            )
            if done.cancelled:
                raise stopped()
            for lesion in boxes_by_lesion(marked):
                done.mark(marked, lesion, name, lesion)
            stops = tuple(done.stops)
        return Segmented(self, marked, refinement=predictor.second_look, stops=stops)

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


def boxes_by_lesion(marked: Segmentation) -> dict[int, dict[int, tuple[Box, ...]]]:
    """The boxes that a person drew, by lesion and slice."""
    found: dict[int, dict[int, tuple[Box, ...]]] = {}
    for (k, lesion), boxes in marked.prompts().items():
        found.setdefault(lesion, {})[k] = boxes
    return dict(sorted(found.items()))


@dataclass(frozen=True, repr=False)
class Segmented:
    """A segmented case: its document, how it was made, and what it comes to."""

    case: Case
    marked: Segmentation
    refinement: bool | None
    stops: tuple[Stop, ...] = ()
    changed: tuple[str, ...] = ()
    """Of a record run again: what is not as it was."""
    same_mask: bool | None = None
    """Of a record run again: whether the mask is the one it tells of; None where it does not say."""
    from_record: bool = field(default=False, kw_only=True)

    @property
    def volume(self) -> CTVolume:
        """The scan."""
        return self.case.volume

    @property
    def predictor(self) -> Predictor:
        """The method that answered."""
        return self.case.predictor

    @property
    def model(self) -> str:
        """The method's name."""
        return self.predictor.name

    @property
    def mask_zyx(self) -> BoolArray:
        """The mask of all blood, bool [z, y, x], on the scan's own grid."""
        return self.marked.mask_zyx(self.model)

    @property
    def labels_zyx(self) -> Labels:
        """The mask with each lesion's number, uint8 [z, y, x]."""
        return self.marked.labels_zyx(self.model)

    @cached_property
    def volume_ml(self) -> float:
        """The volume of all blood in mL, by each slice's own height."""
        return volume_ml(self.mask_zyx, self.volume)

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
        if self.looks:
            record["looks"] = [one.record() for one in self.looks]
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
        notes += [f"{one.sentence[:-1]} (--slice {one.slice_index})." for one in self.looks]
        if self.same_mask is not None:
            changed = list(self.changed)
            notes += [same_mask_note(self.same_mask, changed), *changed]
        return notes

    @cached_property
    def looks(self) -> list[Told]:
        """The masks of boxes that look like something else than blood, which are kept (``measures.looks``).

        The finder of blood is asked of slices where the HU speak against blood already, if its weights are here.
        """
        found = []
        for k in sorted({k for k, _ in self.marked.prompts()}):
            told = told_of(self.marked, self.volume, self.model, k)
            if told and not no_proposals():
                probability_yx = slice_probability(self.volume, k)
                told = told_of(self.marked, self.volume, self.model, k, probability_yx)
            found += told
        return found

    def assessment(self, with_range: bool = True, progress: Progress | None = None) -> Assessment:
        """All measures, with the range of volumes where it is wanted and the masks come from boxes (``Ranges``).

        The range takes the model 16 answers a box, or 17 propagations a lesion.
        """
        found, predictor = self._measured, self.predictor
        if not with_range or self.case.automatic is not None:
            return found
        edge = edge_setting(self.model, self.marked.edge) is True
        drawn = Drawn.of(self.marked, self.model, refined=bool(self.refinement), edge=edge)
        now_ml = {one.label: one.volume_ml for one in found.measures if one.label is not None}
        ranges = Ranges().within(
            drawn, self.volume, now_ml, predictor, self.case.embed, progress=progress
        )
        return replace(found, ranges=ranges, no_range=drawn.no_range)

    @cached_property
    def _measured(self) -> Assessment:
        """All measures, without the range."""
        found = assess_marked(
            self.marked,
            self.volume,
            model=self.model,
            model_title=self.predictor.title,
            weights_sha256=self.predictor.weights_sha256,
            second_look=self.refinement,
            identity=self.identity,
        )
        automatic = self.case.automatic
        return found if automatic is None else automatically(found, automatic)

    def to_dataframe(self, rows: Literal["lesions", "slices"] = "lesions") -> pandas.DataFrame:
        """The measures as a pandas table: a row for each lesion, or for each slice of each lesion.

        The columns are those of ``measures.csv`` and ``measures-slices.csv``, units in their names; without the range.

        Raises:
            InputError: pandas is not installed, or ``rows`` is neither.

        """
        try:
            import pandas
        except ModuleNotFoundError as error:
            raise InputError(
                "A table is one of pandas, which is not installed; install it: pip install 'ichseg[dataframe]'."
            ) from error
        made = {"lesions": tables.lesions_csv, "slices": tables.slices_of}
        if rows not in made:
            raise InputError(f"A table's rows are lesions or slices; got '{rows}'; choose one.")
        return pandas.read_csv(io.BytesIO(made[rows](self._measured)))

    def save(self, path: str | Path, inputs: Iterable[Path] = ()) -> list[Path]:
        """Write the mask, or the measures without the range, in the format of the name; returns what was written."""
        path = Path(path)
        if write.is_measured(path):
            return write.save_measures(path, self._measured, inputs=inputs)
        made = self.identity.short
        write.save_marked(path, self.marked, self.model, self.volume, made=made, inputs=inputs)
        return [one for one in write.outputs(path, "mask") if one.is_file()]

    @property
    def largest_slice(self) -> int:
        """The slice with most blood, from 0; of an empty mask the first that is marked."""
        areas = np.count_nonzero(self.labels_zyx, axis=(1, 2))
        return int(areas.argmax()) if areas.any() else min(self.marked.marked_slices(), default=0)

    def picture_png(self, k: int | None = None) -> bytes:
        """A picture of slice k, or of the one with most blood, with outlines and boxes, as PNG."""
        from ichseg.files.picture import slice_png

        k = self.largest_slice if k is None else k
        if not 0 <= k < len(self.volume.hu_zyx):
            raise BoxError(
                f"The scan has slices 0 to {len(self.volume.hu_zyx) - 1}; got {k}; choose one of them."
            )
        lesions = self.marked.lesions
        return slice_png(
            self.volume,
            k,
            mask_yx=self.labels_zyx[k],
            boxes=[box for one in lesions for box in self.marked.boxes(k, one.id)],
            scale=1.0,
            caption=f"{self.predictor.title}: {self.volume_ml:.1f} mL",
            colours={one.id: one.rgb for one in lesions} if self.marked.named_lesions else None,
        )

    def _repr_png_(self) -> bytes:
        """What a notebook shows."""
        return self.picture_png()

    def __repr__(self) -> str:
        slices = np.flatnonzero(self.labels_zyx.any(axis=(1, 2)))
        where = f"slices {slices[0]} to {slices[-1]}" if slices.size else "no slice"
        return f"<Segmented by {self.model}: {self.volume_ml:.2f} mL on {where}>"

    def __rich_repr__(self) -> Iterator[tuple[str, object]]:
        yield "model", self.model
        yield "volume_ml", round(self.volume_ml, 2)
        yield "slices", np.flatnonzero(self.labels_zyx.any(axis=(1, 2))).tolist()
        yield "scan", self.volume.called
        yield "warnings", list(self.volume.warnings)


def stopped() -> InputError:
    """What is said where ``cancelled`` ended a segmentation."""
    return InputError(
        "A segmentation is kept whole or not at all; this one was stopped on the way; ask for it again."
    )


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
