"""The editable labelled mask of one scan: lesions, their boxes and masks, corrections, and one history of all of it."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

import numpy as np
import numpy.typing as npt

from ichseg.arrays import BoolArray
from ichseg.errors import BoxError, LesionError, VolumeError, check_cancelled
from ichseg.marks.box import Box, as_boxes
from ichseg.marks.history import History
from ichseg.marks.lesion import UNSPECIFIED, Lesion
from ichseg.marks.reading import Part, Reading
from ichseg.marks.state import (
    NOTHING,
    EdgeStep,
    Marks,
    State,
)


class Segmentation(Reading):
    """What a person has marked on one scan: lesions, the boxes of each, and each model's mask of each.

    **Lesions** are numbered from 1; lesion 1 is there from the start, and what is told none means it. On a slice and
    for a model no voxel is of two lesions:

    - a locked lesion never changes: what is written to another one yields to it, and to write to it is refused;
    - of boxes and edits the later one wins, and takes the voxels of lesions that are not locked;
    - propagated masks take only voxels that are free or were propagated: a prompt on a slice wins over one elsewhere.

    **Edits** belong to the model whose mask was corrected: the pane that it is compared with keeps the model's own
    answer. A corrected slice stays as it is until its own boxes are set again or it is cleared.

    **History**: every change is one step of undo, of lesions' properties too; undo also goes behind a lock. Changes
    that change nothing are not steps. A new change after an undo drops what could have been redone. Steps share what
    they leave alone, and masks are kept as the packed bits of their bounding box, so the history stays small.

    **The edge**: with ``edge`` on, what a model answers passes through ``edge_step`` (``methods.edge_step``) before it
    is taken in; ``set_edge`` is a step of undo. What a person corrected, or another lesion took voxels from, stays as
    it is.

    ``shape_zyx`` is the scan's shape. Slices are numbered from 0; masks are bool [y, x] at the slice's native size.
    Not thread-safe: it belongs to one user's session.

    >>> import numpy as np
    >>> from ichseg.marks.box import Box
    >>> marked = Segmentation((3, 4, 4))
    >>> blood = np.zeros((4, 4), dtype=bool)
    >>> blood[1:3, 1:4] = True
    >>> marked.set_slice(2, [Box(1, 1, 4, 3)], {"threshold": blood})
    >>> marked.marked_slices(), int(marked.mask_zyx("threshold").sum())
    ([2], 6)

    A second lesion takes a row of it, and gives it back:

    >>> ventricle = marked.add_lesion(type="IVH")
    >>> marked.apply_edit(2, ventricle, np.eye(4, dtype=bool), "threshold")
    >>> marked.labels_zyx("threshold")[2].tolist()
    [[2, 0, 0, 0], [0, 2, 1, 1], [0, 1, 2, 1], [0, 0, 0, 2]]
    >>> marked.origin(2, ventricle), marked.undo(), int(marked.mask_zyx("threshold").sum())
    ('edited', True, 6)
    """

    def __init__(
        self,
        shape_zyx: tuple[int, int, int],
        *,
        edge_step: EdgeStep | None = None,
        edge: bool = True,
    ) -> None:
        """Begin with one lesion and nothing marked; without ``edge_step`` the edge is off, whatever ``edge`` says."""
        self.shape_zyx = shape_zyx
        self.edge_step = edge_step
        self._history = History(State({1: Lesion(1)}, edge=edge and edge_step is not None))

    @classmethod
    def restored(
        cls,
        shape_zyx: tuple[int, int, int],
        lesions: Sequence[Lesion],
        boxes: Mapping[tuple[int, int], Sequence[Box]],
        model: str,
        parts: Iterable[Part],
        parameters: Mapping[int, Mapping[str, Any]] | None = None,
        *,
        edge_step: EdgeStep | None = None,
        edge: bool = True,
    ) -> Segmentation:
        """One that holds this and has no history: the inverse of ``lesions``, ``prompts``, ``parts``, ``parameters``.

        ``boxes`` maps (slice, lesion) to the boxes drawn there, ``parameters`` a lesion to those of its propagation.
        Where parts overlap, the later one wins. A part that ``is_whole`` passes through the edge where that is on.
        Raises LesionError where a lesion is named that is not among them, BoxError and VolumeError as ``set_boxes``
        does.
        """
        marked = cls(shape_zyx, edge_step=edge_step, edge=edge)
        step = State(
            {lesion.id: replace(lesion, locked=False) for lesion in lesions} or {1: Lesion(1)},
            edge=marked.edge,
        )
        marked._history = History(step)
        for (k, lesion), drawn in boxes.items():
            marked._check(k, lesion)
            step.marks[k, lesion] = Marks(tuple(as_boxes(drawn, shape_zyx[1:])))
        for part in parts:
            marked._check(part.k, part.lesion)
            own = part.mask_yx if part.answer_yx is None else part.answer_yx
            mask = marked._checked({model: own})[model]
            step.put(
                part.k,
                part.lesion,
                model,
                mask,
                part.origin,
                part.boxes,
                is_answer=part.is_whole,
                edge_step=edge_step,
            )
        step.lesions.update({lesion.id: lesion for lesion in lesions})
        step.parameters.update({(id, model): dict(p) for id, p in (parameters or {}).items()})
        return marked

    # Lesions

    def add_lesion(self, *, name: str = "", type: str = UNSPECIFIED, colour: str = "") -> int:
        """Add a lesion and return its number, the lowest that is free. Raises LesionError as ``Lesion`` does."""
        step = self._now.copy()
        new = Lesion(_free(step.lesions), name, type, colour)
        step.lesions[new.id] = new
        self._history.push(step)
        return new.id

    def set_lesion(
        self,
        id: int,
        *,
        name: str | None = None,
        type: str | None = None,
        colour: str | None = None,
        locked: bool | None = None,
        visible: bool | None = None,
    ) -> None:
        """Change properties of a lesion, locked or not. Raises LesionError as ``Lesion`` does."""
        given = {"name": name, "type": type, "colour": colour, "locked": locked, "visible": visible}
        changes: dict[str, Any] = {key: value for key, value in given.items() if value is not None}
        step = self._now.copy()
        step.lesions[id] = replace(self.lesion(id), **changes)
        self._history.push(step)

    def remove_lesion(self, id: int) -> None:
        """Remove a lesion with all that is marked of it. Raises LesionError for a locked one, and for the only one."""
        self._check(0, id, to_write=True)
        if len(self._now.lesions) == 1:
            raise LesionError(
                f"A scan has at least one lesion; {self.lesion(id).name} is the only one; clear it instead."
            )
        step = self._now.copy()
        del step.lesions[id]
        step.marks = {where: marks for where, marks in step.marks.items() if where[1] != id}
        step.parameters = {of: given for of, given in step.parameters.items() if of[0] != id}
        self._history.push(step)

    # Edits

    def set_slice(self, k: int, boxes: Sequence[Box], masks: Mapping[str, BoolArray]) -> None:
        """``set_boxes`` for lesion 1."""
        self.set_boxes(k, 1, boxes, masks)

    def set_boxes(
        self, k: int, lesion: int, boxes: Sequence[Box], masks: Mapping[str, BoolArray]
    ) -> None:
        """Replace what is marked of a lesion on slice k, edits too, by these boxes and each model's mask for them.

        No boxes means nothing of it on the slice, whatever the masks. Raises BoxError for a box or a slice that is
        not on the scan, VolumeError for a mask that is not the slice's size, LesionError for a lesion that is locked or
        not there.
        """
        self._check(k, lesion, to_write=True)
        valid = tuple(as_boxes(boxes, self.shape_zyx[1:]))
        step = self._now.copy()
        step.marks.pop((k, lesion), None)
        if valid:
            step.marks[k, lesion] = Marks(valid)
            for model, mask_yx in self._checked(masks).items():
                step.put(
                    k,
                    lesion,
                    model,
                    mask_yx,
                    "box",
                    valid,
                    is_answer=True,
                    edge_step=self.edge_step,
                )
        self._history.push(step)

    def check_writable(self, k: int, lesion: int) -> None:
        """Raise BoxError for a slice that is not there, LesionError for a lesion that is locked or not there."""
        self._check(k, lesion, to_write=True)

    def add_masks(self, k: int, masks: Mapping[str, BoolArray], lesion: int = 1) -> None:
        """Give slice k further models' masks for the boxes that a lesion has there; not a step of undo.

        They join every step that shows these boxes, so undo and redo keep them, and take only voxels that no other
        lesion has. A model that has a mask there gets the new one, unless it was edited or the lesion is locked. Raises
        BoxError where the lesion has no box on slice k.
        """
        self._check(k, lesion)
        now = self._now.marks.get((k, lesion))
        if now is None or not now.boxes:
            raise BoxError(
                f"A mask belongs to the boxes on its slice; slice {k} has none; draw a box first."
            )
        masks, locked = self._checked(masks), self.lesion(lesion).locked
        done: list[tuple[list[object], Marks]] = []
        for step in self._history.all():
            marks = step.marks.get((k, lesion))
            if marks is None or marks.boxes != now.boxes:
                continue
            # Steps that share what is on the slice go on sharing it.
            seen: list[object] = [
                step.edge,
                marks,
                *(step.marks.get((k, id)) for id in step.lesions if id != lesion),
            ]
            for known, fuller in done:
                if len(known) == len(seen) and all(
                    a is b for a, b in zip(known, seen, strict=True)
                ):
                    step.marks[k, lesion] = fuller
                    break
            else:
                for model, mask_yx in masks.items():
                    has = marks.parts.get(model)
                    if has is None or (has.origin == "box" and not locked):
                        step.put(
                            k,
                            lesion,
                            model,
                            mask_yx,
                            "box",
                            marks.boxes,
                            is_answer=True,
                            yields=True,
                            edge_step=self.edge_step,
                        )
                done.append((seen, step.marks[k, lesion]))

    def apply_edit(self, k: int, lesion: int, mask_after: BoolArray, model: str) -> None:
        """Put what a person made of a lesion's mask on slice k, bool [y, x], in the place of a model's mask.

        The boxes there stay; so do other models' masks. Raises as ``set_boxes`` does.
        """
        self.apply_edits({k: mask_after}, lesion, model)

    def apply_edits(self, masks_after: Mapping[int, BoolArray], lesion: int, model: str) -> None:
        """``apply_edit`` on several slices, {k: mask}, as one step: a copy or an interpolation, say."""
        step = self._now.copy()
        for k, mask_after in masks_after.items():
            self._check(k, lesion, to_write=True)
            step.edit(k, lesion, model, self._checked({model: mask_after})[model])
        self._history.push(step)

    def set_propagated(
        self,
        masks: Mapping[int, BoolArray],
        lesion: int,
        model: str,
        boxes: Mapping[int, Sequence[Box]],
        parameters: Mapping[str, Any] | None = None,
    ) -> None:
        """Replace a lesion's propagated masks by these, {k: mask}; where it has a box or an edit, that stays.

        Args:
            masks: slice -> bool [y, x]; an empty one is left out.
            lesion: its number.
            model: whose masks they are.
            boxes: slice -> the boxes that the model was asked. Give a slice's only where its answer to them, all
                together, is the mask itself: the record then keeps the boxes and makes the mask again. That of a slice
                without, as of a thin series that was followed by slabs, it keeps as it is before the edge.
            parameters: what the propagation went by, to be recorded; must be JSON. ``second_look``, where given, says
                whether these boxes were answered with one.

        Raises as ``set_boxes`` does.

        """
        self._check(0, lesion, to_write=True)
        step = self._now.copy()
        for (k, id), marks in list(step.marks.items()):
            if id == lesion and model in marks.parts and marks.parts[model].origin == "propagated":
                rest = {other: part for other, part in marks.parts.items() if other != model}
                step.marks[k, id] = Marks(marks.boxes, rest)
                if not rest and not marks.boxes:
                    del step.marks[k, id]
        for k, mask_yx in masks.items():
            check_cancelled()  # the edge takes its time on the slices of a thin series
            self._check(k, lesion)
            mask_yx = self._checked({model: mask_yx})[model]
            marks_there = step.marks.get((k, lesion), NOTHING)
            if mask_yx.any() and not marks_there.boxes and model not in marks_there.parts:
                asked = tuple(as_boxes(boxes.get(k, ()), self.shape_zyx[1:]))
                step.put(
                    k,
                    lesion,
                    model,
                    mask_yx,
                    "propagated",
                    asked,
                    is_answer=True,
                    edge_step=self.edge_step,
                )
        if parameters:
            step.parameters[lesion, model] = dict(parameters)
        else:
            step.parameters.pop((lesion, model), None)
        self._history.push(step)

    def set_edge(self, on: bool) -> None:
        """Draw the edge at half height on every mask that a model gave, or take it off again, as one step of undo.

        Edits, locked lesions, and masks that another lesion took voxels from stay as they are; a record then holds them
        voxel by voxel. Without ``edge_step`` nothing happens.
        """
        if self.edge_step is None or on == self.edge:
            return
        step = self._now.copy()
        step.edge = on
        for (k, id), marks in sorted(self._now.marks.items(), key=lambda one: one[0]):
            for model, part in marks.parts.items():
                if step.lesions[id].locked:
                    kept = replace(part, from_boxes=False, answer=None)
                    step.marks[k, id] = step.marks[k, id].with_part(model, kept)
                elif part.answer is not None:
                    step.put(
                        k,
                        id,
                        model,
                        part.answer.unpacked(self.shape_zyx[1:]),
                        part.origin,
                        part.boxes,
                        is_answer=True,
                        yields=True,
                        edge_step=self.edge_step,
                    )
        self._history.push(step)

    def import_labels(
        self, labels_zyx: npt.NDArray[Any], model: str, lesions: Iterable[Lesion] = ()
    ) -> dict[int, int]:
        """Take in a mask that was made before, as edits of a model's mask, in one step.

        Every label of ``labels_zyx`` (whole numbers 0..255, [z, y, x], such as a mask's reader gives) becomes a
        lesion: of the same number where that one is free or nothing is marked of it, else of the lowest free
        one; a binary mask, whatever its one value, always of the lowest. ``lesions`` are those that the labels stand
        for, where that is known (``sidecar.read_lesions``). Returns label -> lesion. Raises VolumeError for another
        shape, LesionError where there is no room for more lesions.
        """
        if labels_zyx.shape != self.shape_zyx:
            raise VolumeError(
                f"A mask has its scan's shape {self.shape_zyx}; got {labels_zyx.shape}; "
                "take the mask that was made on this scan."
            )
        step, found = self._now.copy(), {}
        known = {lesion.id: lesion for lesion in lesions}
        values = [int(value) for value in np.unique(labels_zyx) if value]
        used = {id for _, id in step.marks} | {
            one.id for one in step.lesions.values() if one.locked
        }
        for value in values:
            as_it_is = value not in used and (len(values) > 1 or value in known)
            id = value if as_it_is else _free(used)
            used.add(id)
            found[value] = id
            if value in known:
                step.lesions[id] = replace(known[value], id=id, locked=False)
            else:
                step.lesions.setdefault(id, Lesion(id))
            mask_zyx = labels_zyx == value
            for k in map(int, np.flatnonzero(mask_zyx.any(axis=(1, 2)))):
                step.edit(k, id, model, mask_zyx[k])
        self._history.push(step)
        return found

    def adopt(self, other: Segmentation) -> None:
        """Take what another document of this scan holds in the place of all that is here, as one step.

        Raises VolumeError for another shape, LesionError where a lesion here is locked.
        """
        if other.shape_zyx != self.shape_zyx:
            raise VolumeError(
                f"Marks have their scan's shape {self.shape_zyx}; got {other.shape_zyx}; take those of this scan."
            )
        for id in self._now.lesions:
            self._check(0, id, to_write=True)
        self._history.push(other._now.copy())

    def clear_slice(self, k: int, lesion: int | None = None) -> None:
        """Remove the boxes and masks of slice k, of one lesion or of all that are not locked."""
        self._check(k, lesion, to_write=lesion is not None)
        self._clear(lambda at, id: at == k and lesion in (None, id))

    def clear(self, lesion: int | None = None) -> None:
        """Remove all boxes and masks, of one lesion or of all that are not locked, as one step; the lesions stay."""
        self._check(0, lesion, to_write=lesion is not None)
        self._clear(lambda at, id: lesion in (None, id))

    # History

    @property
    def can_undo(self) -> bool:
        """Whether there is an earlier step."""
        return self._history.can_undo

    @property
    def can_redo(self) -> bool:
        """Whether a step was undone and nothing was edited since."""
        return self._history.can_redo

    def undo(self) -> bool:
        """Go back one step; False where there is none."""
        return self._history.undo()

    def redo(self) -> bool:
        """Take back the last undo; False where there is none."""
        return self._history.redo()

    @contextmanager
    def one_step(self) -> Iterator[None]:
        """Make all changes within it one step of undo; none of them stays where it ends with an exception.

        >>> marked = Segmentation((2, 4, 4))
        >>> with marked.one_step():
        ...     marked.add_lesion(type="SDH")
        ...     marked.set_lesion(1, locked=True)
        2
        >>> marked.undo(), marked.can_undo
        (True, False)
        """
        with self._history.one_step():
            yield

    # Parts of it

    def _clear(self, goes: Callable[[int, int], bool]) -> None:
        step = self._now.copy()
        step.marks = {
            (k, id): marks
            for (k, id), marks in step.marks.items()
            if step.lesions[id].locked or not goes(k, id)
        }
        self._history.push(step)

    def _checked(self, masks: Mapping[str, BoolArray]) -> dict[str, BoolArray]:
        for model, mask_yx in masks.items():
            if np.shape(mask_yx) != self.shape_zyx[1:]:
                raise VolumeError(
                    f"A mask has its slice's shape {self.shape_zyx[1:]}; that of {model} has "
                    f"{np.shape(mask_yx)}; predict on the native slice."
                )
        return {model: np.asarray(mask, dtype=bool) for model, mask in masks.items()}


def _free(taken: Iterable[int]) -> int:
    """The lowest number from 1 that is not taken."""
    return min(set(range(1, len(set(taken)) + 2)) - set(taken))
