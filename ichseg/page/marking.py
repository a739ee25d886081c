"""What a person marks on an open scan: boxes and their masks, the whole hematoma from a box, corrections by hand.

Every mask that is not drawn comes from the catalogue's models through the one store of embeddings. Nothing here knows
the page's messages but for a slice's state (``Marking.slice_state``).
"""

from __future__ import annotations

import itertools
import logging
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np

from ichseg.errors import BoxError, InputError
from ichseg.marks import edit
from ichseg.marks.box import Box, as_boxes
from ichseg.marks.lesion import Lesion
from ichseg.methods.catalogue import title_of
from ichseg.methods.follow import Propagation, Rule, follow
from ichseg.page.embeddings import Embeddings, Key
from ichseg.page.session import BoolArray, Case, Session
from ichseg.scan.volume import CTVolume

if TYPE_CHECKING:
    from ichseg.methods.predictor import SliceEmbedding

MAX_BOXES = 64

#: What smoothing takes for the size of a dent, in mm: about two pixels of a usual head CT.
SMOOTH_MM = 1.0

_log = logging.getLogger(__name__)

Trouble = dict[str, str]
"""Model -> what went wrong with it, in a sentence."""


class Marking:
    """Makes and changes what is marked on cases. Hold the session's lock, but for ``look_again`` and ``follow``."""

    def __init__(self, embeddings: Embeddings) -> None:
        self.embeddings = embeddings
        self._states = itertools.count(1)

    def embedding(self, case: Case, volume: CTVolume, model: str, k: int) -> SliceEmbedding:
        """Slice k's embedding by a model, for a person who waits for it."""
        return self.embeddings.get(Key(case.owner, model, k), volume.hu_zyx[k])

    # Boxes

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
        """The boxes of slice k that a model is still to look at again; ``again``: those where it failed, too."""
        if (k, model) in case.failed:
            return []
        boxes = case.unrefined(k, model)
        if not boxes or not self.embeddings.load(model).second_look:
            return []
        return [box for box in boxes if again or (k, model, box) not in case.looks_failed]

    def look_again(
        self,
        session: Session,
        case: Case,
        volume: CTVolume,
        k: int,
        names: Iterable[str],
        trouble: Trouble,
        patience_seconds: float | None,
    ) -> None:
        """Give slice k the second look of its boxes; without holding the session while a model is at work.

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
                    mask = self.embeddings.look_again(key, volume.hu_zyx[k], box, patience_seconds)
                except Exception as error:
                    _log.exception("the second look of %s failed on slice %d", model, k)
                    case.looks_failed.add((k, model, box))
                    trouble[model] = (
                        f"{title_of(model)} could not look closer at slice {k + 1} ({type(error).__name__}); "
                        "what is shown is its first answer; try again, or choose another method."
                    )
                    break
                if mask is None:
                    return
                case.remember(k, model, box, mask, refined=True)
                with session.lock:
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
            # Without the second look, which a person need not wait for: it comes when they rest.
            predicted = predictor.predict(embedding, new, second_look=False)
            for box, mask in zip(new, predicted.masks, strict=True):
                case.remember(k, model, box, mask)
                union |= mask
        return union

    # The whole hematoma

    def follow(
        self,
        case: Case,
        volume: CTVolume,
        lesion: int,
        model: str,
        prompts: Mapping[int, Sequence[Box]],
        done: Propagation,
        cancelled: Callable[[], bool],
    ) -> Iterator[float]:
        """Follow a lesion from its boxes through the scan by one model into ``done``; gives the share that is done.

        Without holding the session: a person may look on meanwhile.
        """
        predictor = self.embeddings.load(model)
        steps = follow(
            predictor,
            volume,
            {lesion: prompts},
            rule=done.rule,
            second_look=done.second_look,
            embed=partial(self.embedding, case, volume, model),
            cancelled=cancelled,
        )
        return done.collect(steps, [lesion])

    @staticmethod
    def prompts(case: Case, lesion: int) -> dict[int, tuple[Box, ...]]:
        """A lesion's boxes by slice; BoxError where it has none, LesionError where it is locked."""
        case.segmentation.check_writable(0, lesion)
        boxes = {k: drawn for (k, id), drawn in case.segmentation.prompts().items() if id == lesion}
        if not boxes:
            raise BoxError(
                f"The whole hematoma is found from a box; {case.segmentation.lesion(lesion).name} has none; "
                "draw one on the slice where it is largest."
            )
        return boxes

    @staticmethod
    def nothing_found(volume: CTVolume) -> Propagation:
        """A propagation before it began, as it was measured best: by the default rule, without second looks."""
        return Propagation(volume.shape_zyx, Rule(), second_look=False)

    # Corrections by hand

    def correct(self, case: Case, volume: CTVolume, op: Mapping[str, Any]) -> int:
        """Change the first model's mask of a lesion as a person asks; return the slice to show.

        ``op`` has "slice", "lesion" and "tool": "brush" or "erase" ("points", x and y in pixels, and "radius_mm"),
        "piece" ("points", one in the piece to take away), "fill", "smooth", "copy" ("onto", a slice), "between" (all of
        the lesion's edited slices). "hu_range" limits brush and copy to voxels of these HU.
        """
        marked, model = case.segmentation, case.models[0]
        k, lesion, tool = int(op["slice"]), int(op["lesion"]), str(op["tool"])
        marked.check_writable(k, lesion)
        mask, slice_hu = marked.slice_mask(model, k, lesion), volume.hu_zyx[k]
        spacing_yx_mm = (float(volume.spacing_mm[1]), float(volume.spacing_mm[2]))
        limits = _hu_range(op)
        if tool == "between":
            after = self._between(case, volume, lesion)
        elif tool == "copy":
            onto = int(op["onto"])
            marked.check_writable(onto, lesion)
            copied = edit.copy_to_slice(mask, volume.hu_zyx[onto] if limits else None, limits)
            after = {onto: marked.slice_mask(model, onto, lesion) | copied}
        elif tool == "brush":
            hu = slice_hu if limits else None
            after = {
                k: edit.brush(
                    mask,
                    op["points"],
                    float(op["radius_mm"]),
                    spacing_yx_mm,
                    slice_hu=hu,
                    hu_range=limits,
                )
            }
        elif tool == "erase":
            after = {k: edit.erase(mask, op["points"], float(op["radius_mm"]), spacing_yx_mm)}
        elif tool == "piece":
            x, y = op["points"][0]
            after = {k: edit.erase_piece(mask, (int(y), int(x)))}
        elif tool == "fill":
            after = {k: edit.fill_holes(mask)}
        elif tool == "smooth":
            after = {k: edit.smooth(mask, SMOOTH_MM, spacing_yx_mm)}
        else:
            raise InputError(
                f"A tool is brush, erase, piece, fill, smooth, copy or between; got '{tool}'; choose one of them."
            )
        marked.apply_edits(after, lesion, model)
        return next(iter(after)) if tool == "copy" else k

    @staticmethod
    def _between(case: Case, volume: CTVolume, lesion: int) -> dict[int, BoolArray]:
        """Masks for the slices between a lesion's edited ones; InputError where there is no such slice."""
        marked, model = case.segmentation, case.models[0]
        edited = [
            k
            for k in marked.marked_slices(model, lesion)
            if marked.origin(k, lesion, model) == "edited"
        ]
        spacing_yx_mm = (float(volume.spacing_mm[1]), float(volume.spacing_mm[2]))
        made = edit.interpolate(
            {k: marked.slice_mask(model, k, lesion) for k in edited},
            volume.geometry.slice_positions_mm,
            spacing_yx_mm,
        )
        if not made:
            names = ", ".join(str(k + 1) for k in edited) or "none"
            raise InputError(
                f"Slices are filled in between two that were corrected by hand and are not neighbours; got {names}; "
                "correct one more."
            )
        return made

    # What the page is told

    def slice_state(self, case: Case, volume: CTVolume, k: int) -> dict[str, Any]:
        """Slice k as the page shows it: boxes and each shown model's mask as runs by lesion, the blood in mL by model.

        ``origin`` is where the first model's masks come from, ``rough`` the models whose second look is to come; ``n``
        rises from state to state.
        """
        marked, voxel_ml = case.segmentation, float(volume.voxel_volumes_ml[k])
        ids = [lesion.id for lesion in marked.lesions]
        masks: dict[str, dict[int, BoolArray]] = {}
        for model in dict.fromkeys(case.models):
            there = [id for id in ids if marked.origin(k, id, model) is not None]
            if there and (k, model) not in case.failed:
                masks[model] = {id: marked.slice_mask(model, k, id) for id in there}
        case.slice_ml[k] = {
            model: {id: int(mask.sum()) * voxel_ml for id, mask in by_lesion.items()}
            for model, by_lesion in masks.items()
        }
        origins = {id: marked.origin(k, id, case.models[0]) for id in ids}
        return {
            "n": next(self._states),
            "boxes": {
                str(id): [box.xyxy for box in boxes] for id in ids if (boxes := marked.boxes(k, id))
            },
            "masks": {
                model: {str(id): runs(mask) for id, mask in by_lesion.items()}
                for model, by_lesion in masks.items()
            },
            "ml": {model: blood_ml(case.slice_ml[k][model], marked.lesions) for model in masks},
            "origin": {str(id): origin for id, origin in origins.items() if origin is not None},
            "rough": [model for model in masks if self.rough(case, k, model)],
        }

    @staticmethod
    def total_ml(case: Case, model: str) -> float | None:
        """A model's blood on all marked slices in mL; None where it failed on one of them."""
        slices = case.segmentation.marked_slices()
        if any((k, model) in case.failed for k in slices):
            return None
        lesions = case.segmentation.lesions
        return sum(blood_ml(case.slice_ml.get(k, {}).get(model, {}), lesions) for k in slices)

    @staticmethod
    def lesions_state(case: Case) -> list[dict[str, Any]]:
        """The lesions for the page: what they are called, and each one's mL and stops by the first model."""
        marked, model = case.segmentation, case.models[0]
        return [
            {
                "id": lesion.id,
                "name": lesion.name,
                "type": lesion.type,
                "colour": lesion.colour,
                "locked": lesion.locked,
                "visible": lesion.visible,
                "blood": lesion.is_blood,
                "ml": sum(
                    by_model.get(model, {}).get(lesion.id, 0.0)
                    for k, by_model in case.slice_ml.items()
                    if marked.origin(k, lesion.id, model) is not None
                ),
                "stops": marked.parameters(model, lesion.id).get("stops", []),
            }
            for lesion in marked.lesions
        ]


def runs(mask_yx: BoolArray) -> list[int]:
    """A mask as the flat indices, row by row, at which it turns on and off by turns.

    >>> runs(np.array([[0, 1, 1], [0, 0, 1]], dtype=bool))
    [1, 3, 5, 6]
    """
    flat = np.concatenate([[0], mask_yx.ravel().astype(np.int8), [0]])
    indices: list[int] = np.flatnonzero(np.diff(flat)).tolist()
    return indices


def blood_ml(ml: Mapping[int, float], lesions: Iterable[Lesion]) -> float:
    """The millilitres of those lesions that are blood."""
    return sum(ml.get(lesion.id, 0.0) for lesion in lesions if lesion.is_blood)


def _hu_range(op: Mapping[str, Any]) -> tuple[float, float] | None:
    given = op.get("hu_range")
    return None if given is None else (float(given[0]), float(given[1]))
