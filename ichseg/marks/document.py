"""The editable labelled mask of one scan: lesions, their boxes and masks, corrections, and one history of all of it."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from typing import Any, Literal, get_args

import numpy as np
import numpy.typing as npt

from ichseg.errors import BoxError, LesionError, VolumeError
from ichseg.marks.box import Box, as_boxes, box_from_mask

BoolArray = npt.NDArray[np.bool_]
Labels = npt.NDArray[np.uint8]

#: Steps that undo can go back. A step is a few kilobytes, so this bounds a session's history.
UNDO_LIMIT = 200

#: What a lesion can be, and how it is called in full.
TYPES = {
    "unspecified": "not specified",
    "IPH": "intraparenchymal hemorrhage",
    "IVH": "intraventricular hemorrhage",
    "SDH": "subdural hemorrhage",
    "EDH": "epidural hemorrhage",
    "SAH": "subarachnoid hemorrhage",
    "oedema": "perihematomal oedema",
}

#: Lesion colours, in turn: told apart with any colour vision, and bright enough for a dark image. The palette of Okabe
#: and Ito (Color Universal Design, 2008) without its black; its dark blue comes last.
PALETTE = ("#E69F00", "#56B4E9", "#F0E442", "#CC79A7", "#009E73", "#D55E00", "#0072B2")

#: A lesion's id is its label in a uint8 mask.
MAX_LESIONS = 255
MAX_NAME = 40

#: What a lesion's mask on a slice comes from: a box there, a box on another slice, or a person's hand (or file).
Origin = Literal["box", "propagated", "edited"]
#: A step after a model's answer: model, slice and mask [y, x] to the mask [y, x] that is taken in.
Step = Callable[[str, int, BoolArray], BoolArray]
ORIGINS: tuple[Origin, ...] = get_args(Origin)


@dataclass(frozen=True)
class Lesion:
    """One lesion: its label in the mask, and how it is shown. Raises LesionError for what it cannot be.

    >>> Lesion(2, "Left ventricle", type="IVH").colour
    '#56B4E9'
    """

    id: int
    """Its label, 1 to 255."""
    name: str = ""
    """For people, one line of at most 40 characters; "Lesion 2" unless given."""
    type: str = "unspecified"
    """One of TYPES."""
    colour: str = ""
    """#RRGGBB; from PALETTE, by id, unless given."""
    locked: bool = False
    """Whether its voxels are kept as they are."""
    visible: bool = True
    """Whether it is shown. Volumes and files hold it either way."""

    def __post_init__(self) -> None:
        if not 1 <= self.id <= MAX_LESIONS:
            raise LesionError(
                f"A lesion's number is 1 to {MAX_LESIONS}; got {self.id}; remove one that is not needed."
            )
        # A frozen dataclass sets its own defaults this way.
        object.__setattr__(self, "name", self.name.strip() or f"Lesion {self.id}")
        object.__setattr__(self, "colour", self.colour or PALETTE[(self.id - 1) % len(PALETTE)])
        if len(self.name) > MAX_NAME or not self.name.isprintable():
            raise LesionError(
                f"A lesion's name is one line of at most {MAX_NAME} characters; got "
                f"{self.name[: MAX_NAME + 1]!r}; shorten it."
            )
        if self.type not in TYPES:
            raise LesionError(
                f"A lesion's type is one of {', '.join(TYPES)}; got '{self.type}'; choose one of them."
            )
        if not re.fullmatch(r"#[0-9A-Fa-f]{6}", self.colour):
            raise LesionError(
                f"A lesion's colour is #RRGGBB; got '{self.colour}'; give e.g. {PALETTE[0]}."
            )

    @property
    def rgb(self) -> tuple[int, int, int]:
        """Its colour, each part 0 to 255."""
        red, green, blue = bytes.fromhex(self.colour[1:])
        return red, green, blue

    @property
    def is_blood(self) -> bool:
        """Whether its voxels count in a hematoma's millilitres: oedema does not."""
        return self.type != "oedema"


@dataclass(frozen=True)
class Part:
    """One lesion's mask on one slice, by one model, as a record of the session keeps it."""

    k: int
    lesion: int
    origin: Origin
    mask_yx: BoolArray
    boxes: tuple[Box, ...] = ()
    """What the model was asked, here or by propagation; empty for an edited mask."""
    from_boxes: bool = False
    """Whether the model's answer to ``boxes`` is the mask, so that it can be made again from them. Not so once it was
    edited, or another lesion took voxels from it."""


class Segmentation:
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

    **The edge**: with ``edge`` on, what boxes give passes through ``edge_step`` (``edge.step_of``) before it is taken
    in; ``set_edge`` is a step of undo. What a person corrected, or another lesion took voxels from, stays as it is.

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
        self, shape_zyx: tuple[int, int, int], *, edge_step: Step | None = None, edge: bool = True
    ) -> None:
        """Begin with one lesion and nothing marked; without ``edge_step`` the edge is off, whatever ``edge`` says."""
        self.shape_zyx = shape_zyx
        self.edge_step = edge_step
        self._steps = [_Step({1: Lesion(1)}, edge=edge and edge_step is not None)]
        self._at = 0
        self._draft: _Step | None = None

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
        edge_step: Step | None = None,
        edge: bool = True,
    ) -> Segmentation:
        """One that holds this and has no history: the inverse of ``lesions``, ``prompts``, ``parts``, ``parameters``.

        ``boxes`` maps (slice, lesion) to the boxes drawn there, ``parameters`` a lesion to those of its propagation.
        Where parts overlap, the later one wins. The mask of a part ``from_boxes`` is the model's own answer, which
        passes through the edge where that is on. Raises LesionError where a lesion is named that is not among them,
        BoxError and VolumeError as ``set_boxes`` does.
        """
        marked = cls(shape_zyx, edge_step=edge_step, edge=edge)
        step = _Step(
            {lesion.id: replace(lesion, locked=False) for lesion in lesions} or {1: Lesion(1)},
            edge=marked.edge,
        )
        marked._steps = [step]
        for (k, lesion), drawn in boxes.items():
            marked._check(k, lesion)
            step.marks[k, lesion] = _Marks(tuple(as_boxes(drawn, shape_zyx[1:])))
        for part in parts:
            marked._check(part.k, part.lesion)
            mask = marked._checked({model: part.mask_yx})[model]
            marked._put(
                step, part.k, part.lesion, model, mask, part.origin, part.boxes, part.from_boxes
            )
        step.lesions.update({lesion.id: lesion for lesion in lesions})
        step.parameters.update({(id, model): dict(p) for id, p in (parameters or {}).items()})
        return marked

    # What is there now

    @property
    def lesions(self) -> list[Lesion]:
        """The lesions, by number; there is always one."""
        return [self._now.lesions[id] for id in sorted(self._now.lesions)]

    @property
    def named_lesions(self) -> list[Lesion]:
        """The lesions that a mask's file has to tell of: none where there is but the one from the start."""
        return [] if self.lesions == [Lesion(1)] else self.lesions

    def lesion(self, id: int) -> Lesion:
        """One lesion; LesionError where it is not there."""
        if id not in self._now.lesions:
            there = ", ".join(map(str, sorted(self._now.lesions)))
            raise LesionError(
                f"A lesion is one of those of this scan, {there}; got {id}; add it first."
            )
        return self._now.lesions[id]

    def boxes(self, k: int, lesion: int = 1) -> tuple[Box, ...]:
        """The boxes of a lesion on slice k; empty where none is drawn."""
        self._check(k, lesion)
        marks = self._now.marks.get((k, lesion))
        return marks.boxes if marks else ()

    def origin(self, k: int, lesion: int = 1, model: str | None = None) -> Origin | None:
        """What a lesion's mask on slice k comes from; None where there is nothing.

        Without a model: "edited" where any model's mask was, else "box" where one is drawn, else "propagated".
        """
        self._check(k, lesion)
        marks = self._now.marks.get((k, lesion))
        if marks is None:
            return None
        if model is not None:
            return marks.parts[model].origin if model in marks.parts else None
        found = {part.origin for part in marks.parts.values()} | ({"box"} if marks.boxes else set())
        return next((one for one in ("edited", "box", "propagated") if one in found), None)

    @property
    def edge(self) -> bool:
        """Whether the edge at half height is drawn on what boxes give."""
        return self._now.edge

    def answer(self, model: str, k: int, lesion: int = 1) -> BoolArray | None:
        """A model's own answer to a lesion's boxes on slice k, bool [y, x], before the edge; None where it is not kept.

        It is kept for a mask that boxes give, and no more once a person or another lesion changed it.
        """
        self._check(k, lesion)
        part = self._now.marks.get((k, lesion), _NOTHING).parts.get(model)
        if part is None or part.answer is None:
            return None
        return part.answer.unpacked(self.shape_zyx[1:])

    def slice_mask(self, model: str, k: int, lesion: int | None = None) -> BoolArray:
        """A model's mask on slice k, bool [y, x], of one lesion or of all blood; all False where it has none."""
        self._check(k, lesion)
        out = np.zeros(self.shape_zyx[1:], dtype=bool)
        for at, id, part in self._parts(model):
            if at == k and self._wanted(id, lesion):
                part.mask.paint(out)
        return out

    def mask_zyx(self, model: str, lesion: int | None = None) -> BoolArray:
        """A model's mask of the whole scan, bool [z, y, x], of one lesion or of all blood (oedema is not)."""
        out = np.zeros(self.shape_zyx, dtype=bool)
        for k, id, part in self._parts(model):
            if self._wanted(id, lesion):
                part.mask.paint(out[k])
        return out

    def slice_labels(self, model: str, k: int) -> Labels:
        """A model's mask on slice k with each voxel's lesion, uint8 [y, x]; 0 is none."""
        self._check(k)
        out = np.zeros(self.shape_zyx[1:], dtype=np.uint8)
        for at, id, part in self._parts(model):
            if at == k:
                part.mask.paint(out, id)
        return out

    def labels_zyx(self, model: str) -> Labels:
        """A model's mask of the whole scan with each voxel's lesion, uint8 [z, y, x]; 0 is none."""
        out = np.zeros(self.shape_zyx, dtype=np.uint8)
        for k, id, part in self._parts(model):
            part.mask.paint(out[k], id)
        return out

    def marked_slices(self, model: str | None = None, lesion: int | None = None) -> list[int]:
        """The slices with a box or a mask, in order; or those on which a model's mask is not empty."""
        return sorted(
            {
                k
                for (k, id), marks in self._now.marks.items()
                if lesion in (None, id)
                and ((model is None and marks.boxes) or marks.has_mask(model))
            }
        )

    @property
    def models(self) -> list[str]:
        """The models with a mask, even an empty one, on some slice, by name."""
        return sorted({model for marks in self._now.marks.values() for model in marks.parts})

    @property
    def nbytes(self) -> int:
        """Bytes held by the masks of now and of the whole history, each counted once."""
        held = {
            id(mask): len(mask.bits)
            for step in self._all_steps()
            for marks in step.marks.values()
            for part in marks.parts.values()
            for mask in (part.mask, part.answer)
            if mask is not None
        }
        return sum(held.values())

    # For a record

    def prompts(self) -> dict[tuple[int, int], tuple[Box, ...]]:
        """The boxes that a person drew, by (slice, lesion), in that order."""
        marks = self._now.marks
        return {where: marks[where].boxes for where in sorted(marks) if marks[where].boxes}

    def parts(self, model: str) -> list[Part]:
        """Every mask of a model, by slice and lesion."""
        return [
            Part(
                k,
                id,
                part.origin,
                part.mask.unpacked(self.shape_zyx[1:]),
                part.boxes,
                part.from_boxes,
            )
            for k, id, part in sorted(self._parts(model), key=lambda one: one[:2])
        ]

    def parameters(self, model: str, lesion: int = 1) -> dict[str, Any]:
        """What a lesion was propagated with (``set_propagated``); empty where it was not."""
        return dict(self._now.parameters.get((lesion, model), {}))

    # Lesions

    def add_lesion(self, *, name: str = "", type: str = "unspecified", colour: str = "") -> int:
        """Add a lesion and return its number, the lowest that is free. Raises LesionError as ``Lesion`` does."""
        step = self._now.copy()
        new = Lesion(_free(step.lesions), name, type, colour)
        step.lesions[new.id] = new
        self._push(step)
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
        self._push(step)

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
        self._push(step)

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
            step.marks[k, lesion] = _Marks(valid)
            for model, mask_yx in self._checked(masks).items():
                self._put(step, k, lesion, model, mask_yx, "box", valid, True)
        self._push(step)

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
        done: list[tuple[list[object], _Marks]] = []
        for step in self._all_steps():
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
                        self._put(
                            step, k, lesion, model, mask_yx, "box", marks.boxes, True, yields=True
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
            self._edit(step, k, lesion, model, self._checked({model: mask_after})[model])
        self._push(step)

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
                together, is the mask itself: the record then keeps the boxes and makes the mask again. The mask of a
                slice without is kept as it is.
            parameters: what the propagation went by, to be recorded; must be JSON. ``second_look``, where given, says
                whether these boxes were answered with one.

        Raises as ``set_boxes`` does.

        """
        self._check(0, lesion, to_write=True)
        step = self._now.copy()
        for (k, id), marks in list(step.marks.items()):
            if id == lesion and model in marks.parts and marks.parts[model].origin == "propagated":
                rest = {other: part for other, part in marks.parts.items() if other != model}
                step.marks[k, id] = _Marks(marks.boxes, rest)
                if not rest and not marks.boxes:
                    del step.marks[k, id]
        for k, mask_yx in masks.items():
            self._check(k, lesion)
            mask_yx = self._checked({model: mask_yx})[model]
            marks_there = step.marks.get((k, lesion), _NOTHING)
            if mask_yx.any() and not marks_there.boxes and model not in marks_there.parts:
                asked = tuple(as_boxes(boxes.get(k, ()), self.shape_zyx[1:]))
                self._put(step, k, lesion, model, mask_yx, "propagated", asked, bool(asked))
        if parameters:
            step.parameters[lesion, model] = dict(parameters)
        else:
            step.parameters.pop((lesion, model), None)
        self._push(step)

    def set_edge(self, on: bool) -> None:
        """Draw the edge at half height on every mask that boxes give, or take it off again, as one step of undo.

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
                elif part.from_boxes and part.answer is not None:
                    self._put(
                        step,
                        k,
                        id,
                        model,
                        part.answer.unpacked(self.shape_zyx[1:]),
                        part.origin,
                        part.boxes,
                        True,
                        yields=True,
                    )
        self._push(step)

    def import_labels(
        self, labels_zyx: npt.NDArray[Any], model: str, lesions: Iterable[Lesion] = ()
    ) -> dict[int, int]:
        """Take in a mask that was made before, as edits of a model's mask, in one step.

        Every label of ``labels_zyx`` (whole numbers 0..255, [z, y, x], such as ``volume.read_mask`` gives) becomes a
        lesion: of the same number where that one is free or nothing is marked of it, else of the lowest free
        one; a binary mask, whatever its one value, always of the lowest. ``lesions`` are those that the labels stand
        for, where that is known (``export.read_lesions``). Returns label -> lesion. Raises VolumeError for another
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
                self._edit(step, k, id, model, mask_zyx[k])
        self._push(step)
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
        self._push(other._now.copy())

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
        return self._at > 0

    @property
    def can_redo(self) -> bool:
        """Whether a step was undone and nothing was edited since."""
        return self._at < len(self._steps) - 1

    def undo(self) -> bool:
        """Go back one step; False where there is none."""
        if not self.can_undo:
            return False
        self._at -= 1
        return True

    def redo(self) -> bool:
        """Take back the last undo; False where there is none."""
        if not self.can_redo:
            return False
        self._at += 1
        return True

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
        if self._draft is not None:  # within another: that one's step
            yield
            return
        self._draft = self._now.copy()
        try:
            yield
            done = self._draft
        finally:
            self._draft = None
        self._push(done)

    @property
    def state(self) -> object:
        """What is there now, for ``changed_slices``; holds it as it is."""
        return self._now.copy()

    def changed_slices(self, since: object) -> list[int]:
        """The slices whose boxes or masks differ from an earlier ``state``, of any lesion or model, in order."""
        assert isinstance(since, _Step)
        before, now = since.marks, self._now.marks
        return sorted(
            {k for k, id in before.keys() | now.keys() if before.get((k, id)) != now.get((k, id))}
        )

    # Parts of it

    @property
    def _now(self) -> _Step:
        return self._draft or self._steps[self._at]

    def _all_steps(self) -> list[_Step]:
        return [*self._steps, *([self._draft] if self._draft else [])]

    def _parts(self, model: str) -> Iterator[tuple[int, int, _Part]]:
        """Slice, lesion and part of every mask of a model."""
        for (k, id), marks in self._now.marks.items():
            if model in marks.parts:
                yield k, id, marks.parts[model]

    def _wanted(self, id: int, lesion: int | None) -> bool:
        return self._now.lesions[id].is_blood if lesion is None else id == lesion

    def _push(self, step: _Step) -> None:
        if step == self._now:
            return
        if self._draft is not None:
            self._draft = step
            return
        self._steps[self._at + 1 :] = [step]
        del self._steps[: -(UNDO_LIMIT + 1)]
        self._at = len(self._steps) - 1

    def _edit(self, step: _Step, k: int, lesion: int, model: str, mask_yx: BoolArray) -> None:
        before = step.marks.get((k, lesion), _NOTHING)
        self._put(step, k, lesion, model, mask_yx, "edited")
        had, has = before.parts.get(model, _Part(_EMPTY)), step.marks[k, lesion].parts[model]
        if had.mask == has.mask:  # an eraser beside the blood makes no correction
            step.marks[k, lesion] = before
            if before is _NOTHING:
                del step.marks[k, lesion]

    def _put(
        self,
        step: _Step,
        k: int,
        lesion: int,
        model: str,
        mask_yx: BoolArray,
        origin: Origin,
        boxes: tuple[Box, ...] = (),
        from_boxes: bool = False,
        yields: bool = False,
    ) -> None:
        """Write one mask into a step, so that no voxel is of two lesions; ``yields``: to all of them."""
        answer = None
        if from_boxes:
            answer = _PackedMask.of(mask_yx)
            if step.edge and self.edge_step is not None:
                mask_yx = self.edge_step(model, k, mask_yx)
        kept, losers = mask_yx, []
        for id, other in step.lesions.items():
            part = step.marks.get((k, id), _NOTHING).parts.get(model)
            if id == lesion or part is None:
                continue
            theirs = part.mask.unpacked(self.shape_zyx[1:])
            if not (theirs & mask_yx).any():
                continue
            outranked = origin == "propagated" and part.origin != "propagated"
            if yields or other.locked or outranked:
                kept, from_boxes, answer = kept & ~theirs, False, None
            else:
                losers.append((id, part, theirs))
        for id, part, theirs in losers:
            left = replace(part, mask=_PackedMask.of(theirs & ~kept), from_boxes=False, answer=None)
            if left.mask != part.mask:
                step.marks[k, id] = step.marks[k, id].with_part(model, left)
        packed = _PackedMask.of(kept)
        if packed == answer:
            packed = answer  # held once
        new = _Part(packed, origin, boxes, from_boxes, answer)
        step.marks[k, lesion] = step.marks.get((k, lesion), _NOTHING).with_part(model, new)

    def _clear(self, goes: Callable[[int, int], bool]) -> None:
        step = self._now.copy()
        step.marks = {
            (k, id): marks
            for (k, id), marks in step.marks.items()
            if step.lesions[id].locked or not goes(k, id)
        }
        self._push(step)

    def _checked(self, masks: Mapping[str, BoolArray]) -> dict[str, BoolArray]:
        for model, mask_yx in masks.items():
            if np.shape(mask_yx) != self.shape_zyx[1:]:
                raise VolumeError(
                    f"A mask has its slice's shape {self.shape_zyx[1:]}; that of {model} has "
                    f"{np.shape(mask_yx)}; predict on the native slice."
                )
        return {model: np.asarray(mask, dtype=bool) for model, mask in masks.items()}

    def _check(self, k: int, lesion: int | None = None, to_write: bool = False) -> None:
        if not 0 <= k < self.shape_zyx[0]:
            raise BoxError(
                f"The scan has slices 0 to {self.shape_zyx[0] - 1}; got {k}; choose one of them."
            )
        if lesion is not None and self.lesion(lesion).locked and to_write:
            raise LesionError(
                f"A locked lesion stays as it is; {self.lesion(lesion).name} is locked; unlock it first."
            )


def _free(taken: Iterable[int]) -> int:
    """The lowest number from 1 that is not taken."""
    return min(set(range(1, len(set(taken)) + 2)) - set(taken))


@dataclass
class _Step:
    """One state of the whole: what it holds is shared with other steps and never changed in place."""

    lesions: dict[int, Lesion]
    marks: dict[tuple[int, int], _Marks] = field(default_factory=dict)
    """(slice, lesion) -> what is marked there."""
    parameters: dict[tuple[int, str], dict[str, Any]] = field(default_factory=dict)
    """(lesion, model) -> what it was propagated with."""
    edge: bool = False
    """Whether the edge is drawn on what boxes give."""

    def copy(self) -> _Step:
        return _Step(dict(self.lesions), dict(self.marks), dict(self.parameters), self.edge)


@dataclass(frozen=True, slots=True)
class _Marks:
    """What one slice holds of one lesion: boxes, and each model's mask."""

    boxes: tuple[Box, ...] = ()
    parts: Mapping[str, _Part] = field(default_factory=dict)

    def with_part(self, model: str, part: _Part) -> _Marks:
        return _Marks(self.boxes, {**self.parts, model: part})

    def has_mask(self, model: str | None) -> bool:
        return any(part.mask.bits for name, part in self.parts.items() if model in (None, name))


_NOTHING = _Marks()


@dataclass(frozen=True, slots=True)
class _PackedMask:
    """A mask [y, x] as the bits of its bounding box, row by row; no bits where it is empty."""

    y0: int
    x0: int
    height: int
    width: int
    bits: bytes

    @classmethod
    def of(cls, mask_yx: BoolArray) -> _PackedMask:
        tight = box_from_mask(mask_yx)
        if tight is None:
            return _EMPTY
        inside = mask_yx[tight.slices()]
        bits = np.packbits(inside).tobytes()
        return cls(int(tight.y0), int(tight.x0), inside.shape[0], inside.shape[1], bits)

    def paint(self, out_yx: npt.NDArray[Any], value: int = 1) -> None:
        """Write a value into an array [y, x] of the slice's size, where the mask is."""
        size = self.height * self.width
        bits = np.unpackbits(np.frombuffer(self.bits, dtype=np.uint8), count=size)
        inside = bits.reshape(self.height, self.width).view(bool)
        out_yx[self.y0 : self.y0 + self.height, self.x0 : self.x0 + self.width][inside] = value

    def unpacked(self, shape_yx: tuple[int, int]) -> BoolArray:
        out = np.zeros(shape_yx, dtype=bool)
        self.paint(out)
        return out


_EMPTY = _PackedMask(0, 0, 0, 0, b"")


@dataclass(frozen=True, slots=True)
class _Part:
    """One model's mask of one lesion on one slice; the fields of ``Part``."""

    mask: _PackedMask
    origin: Origin = "edited"
    boxes: tuple[Box, ...] = ()
    from_boxes: bool = False
    answer: _PackedMask | None = None
    """The model's own answer to the boxes, before the edge; None where the mask is not from boxes alone."""
