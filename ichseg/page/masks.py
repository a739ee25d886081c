"""The masks by which the methods answer boxes, and their refinement, for the panels that show or save them.

Every mask that is not drawn comes from the catalogue's models through the one store of embeddings.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING

import numpy as np

from ichseg.errors import BoxError, InputError
from ichseg.marks.box import Box, as_boxes
from ichseg.methods.catalogue import title_of
from ichseg.page.case import BoolArray, Case
from ichseg.page.embeddings import Embeddings, Key
from ichseg.page.sessions import Session
from ichseg.scan.slabs import Slab, SliceOrSlab, hu_of
from ichseg.scan.volume import CTVolume

if TYPE_CHECKING:
    from ichseg.methods.predictor import SliceEmbedding

MAX_BOXES = 64

_log = logging.getLogger(__name__)

Trouble = dict[str, str]
"""Model -> what went wrong with it, in a sentence."""


class Masks:
    """Makes the masks of boxes on cases. Hold the session's lock, but for ``refine``."""

    def __init__(self, embeddings: Embeddings) -> None:
        self.embeddings = embeddings

    def embedding(
        self, case: Case, volume: CTVolume, model: str, where: SliceOrSlab
    ) -> SliceEmbedding:
        """A slice's or a slab's embedding by a model, for a person who waits for it."""
        return self.embeddings.get(Key.of(case.owner, model, where), hu_of(volume, where))

    def set_boxes(
        self,
        case: Case,
        volume: CTVolume,
        k: int,
        lesion: int,
        boxes: Sequence[Sequence[float]],
        trouble: Trouble,
        *,
        first: bool = False,
    ) -> bool:
        """Make these a lesion's boxes on slice k, with every shown model's first answer to them.

        ``first``: with the first model's alone where the others have yet to embed the slice. True where it came to
        that: ``complete`` makes the rest, and until then they count as failed, so that no total lacks a slice.
        """
        case.segmentation.check_writable(k, lesion)
        asked = list(dict.fromkeys(as_boxes(boxes, volume.shape_zyx[1:])))
        if len(asked) > MAX_BOXES:
            raise BoxError(
                f"A slice takes at most {MAX_BOXES} boxes; got {len(asked)}; use larger ones."
            )
        later = [name for name in case.models[1:] if first and self._waits(case, k, asked, name)]
        now = [name for name in case.models if name not in later]
        masks = self._masks(case, volume, k, asked, now, trouble)
        case.segmentation.set_boxes(k, lesion, asked, masks)
        case.failed.update((k, name) for name in later)
        return bool(later)

    def _waits(self, case: Case, k: int, boxes: Sequence[Box], model: str) -> bool:
        """Whether an answer to these boxes, other than the first model's, has to wait for an embedding."""
        if model == case.models[0] or Key(case.owner, model, k) in self.embeddings:
            return False
        return any(case.recall(k, model, box) is None for box in boxes)

    def answer(
        self, case: Case, volume: CTVolume, where: SliceOrSlab, boxes: Sequence[Box], model: str
    ) -> BoolArray:
        """A model's first answer to boxes on a slice, remembered, or on a slab, together; nothing is marked."""
        if not isinstance(where, Slab):
            return self._mask(case, volume, where, boxes, model)
        embedding = self.embedding(case, volume, model, where)
        return self.embeddings.load(model).predict(embedding, boxes, second_look=False).union

    def complete(self, case: Case, volume: CTVolume, k: int, trouble: Trouble) -> None:
        """Show the best masks that are known of slice k's boxes, and make those that a shown model lacks."""
        self._improve(case, k)
        for lesion in case.segmentation.lesions:
            boxes = case.segmentation.boxes(k, lesion.id)
            lacking = [
                model
                for model in case.models
                if case.segmentation.origin(k, lesion.id, model) is None
            ]
            if boxes and lacking:
                masks = self._masks(case, volume, k, boxes, lacking, trouble)
                case.segmentation.add_masks(k, masks, lesion.id)

    def rough(self, case: Case, k: int, model: str, *, again: bool = False) -> list[Box]:
        """The boxes of slice k whose mask a model is still to refine; ``again``: those where that failed, too."""
        if (k, model) in case.failed:
            return []
        boxes = case.unrefined(k, model)
        if not boxes or not self.embeddings.load(model).second_look:
            return []
        return [box for box in boxes if again or (k, model, box) not in case.refinement_failed]

    def refine(
        self,
        session: Session,
        case: Case,
        volume: CTVolume,
        k: int,
        names: Iterable[str],
        trouble: Trouble,
        patience_seconds: float | None,
    ) -> None:
        """Refine the masks of slice k's boxes; without holding the session while a model is at work.

        None for the patience: a person waits for this, and boxes where it failed are tried again.
        """
        for model in dict.fromkeys(names):
            with session.lock:
                todo = self.rough(case, k, model, again=patience_seconds is None)
            for box in todo:
                with session.lock:
                    gone = session.case is not case or box not in case.unrefined(k, model)
                if gone:
                    return
                key = Key(case.owner, model, k)
                try:
                    mask = self.embeddings.refine(key, volume.hu_zyx[k], box, patience_seconds)
                except Exception as error:
                    _log.exception("the refinement by %s failed on slice %d", model, k)
                    with session.lock:
                        case.refinement_failed.add((k, model, box))
                    trouble[model] = (
                        f"{title_of(model)} could not refine its mask on slice {k + 1} ({type(error).__name__}); "
                        "what is shown is its first answer; try again, or choose another method."
                    )
                    break
                if mask is None:
                    return
                with session.lock:
                    case.remember(k, model, box, mask, refined=True)
                    self._improve(case, k)

    def _improve(self, case: Case, k: int) -> None:
        """Show the best masks that are known of slice k's boxes, where all of a model's are."""
        marked = case.segmentation
        for lesion in marked.lesions:
            boxes = marked.boxes(k, lesion.id)
            for model in case.models if boxes else ():
                known = [case.recall(k, model, box) for box in boxes]
                masks = [mask for mask in known if mask is not None]
                if len(masks) < len(boxes) or marked.origin(k, lesion.id, model) == "edited":
                    continue
                best = np.any(masks, axis=0)
                known_best = marked.answer(model, k, lesion.id)
                if known_best is None:  # what another lesion took voxels from
                    known_best = marked.slice_mask(model, k, lesion.id)
                if not np.array_equal(best, known_best):
                    marked.add_masks(k, {model: best}, lesion.id)

    def _masks(
        self,
        case: Case,
        volume: CTVolume,
        k: int,
        boxes: Sequence[Box],
        names: Iterable[str],
        trouble: Trouble,
    ) -> dict[str, BoolArray]:
        """Each model's mask for these boxes on slice k together; a model that fails is told of and left out."""
        masks = {}
        for model in dict.fromkeys(names):
            case.failed.add((k, model))
            try:
                masks[model] = self._mask(case, volume, k, boxes, model)
                case.failed.discard((k, model))
            except InputError as error:
                trouble[model] = str(error)
            except Exception as error:
                _log.exception("%s failed on slice %d", model, k)
                trouble[model] = (
                    f"{title_of(model)} failed on slice {k + 1} ({type(error).__name__}); "
                    "choose another method, or try again."
                )
        return masks

    def _mask(
        self, case: Case, volume: CTVolume, k: int, boxes: Sequence[Box], model: str
    ) -> BoolArray:
        union = np.zeros(volume.shape_zyx[1:], dtype=bool)
        new = []
        for box in boxes:
            known = case.recall(k, model, box)
            if known is None:
                new.append(box)
            else:
                union |= known
        if new:
            embedding = self.embedding(case, volume, model, k)
            predictor = self.embeddings.load(model)
            # Without the refinement, which a person need not wait for: it comes after 350 ms without input.
            predicted = predictor.predict(embedding, new, second_look=False)
            for box, mask in zip(new, predicted.masks, strict=True):
                case.remember(k, model, box, mask)
                union |= mask
        return union
