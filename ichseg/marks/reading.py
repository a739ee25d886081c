"""What is marked on a scan now: lesions, boxes, masks; to be read, by whoever holds the document."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np

from ichseg.arrays import BoolArray, Labels
from ichseg.errors import BoxError, LesionError
from ichseg.marks.box import Box
from ichseg.marks.history import History
from ichseg.marks.lesion import Lesion
from ichseg.marks.state import (
    NOTHING,
    Origin,
    PackedPart,
    State,
)


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
    answer_yx: BoolArray | None = None
    """The mask before the edge where it is a model's own answer, though to no boxes on its slice: that of a slab."""

    @property
    def is_whole(self) -> bool:
        """Whether it is what the model answered: nobody edited it, and no other lesion took voxels from it."""
        return self.from_boxes or self.answer_yx is not None


class Reading:
    """What a ``Segmentation`` holds now. Nothing here changes it."""

    shape_zyx: tuple[int, int, int]
    _history: History

    @property
    def _now(self) -> State:
        return self._history.now

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
        """Whether the edge at half height is drawn on what a model answers."""
        return self._now.edge

    def answer(self, model: str, k: int, lesion: int = 1) -> BoolArray | None:
        """A model's own answer on slice k, bool [y, x], before the edge; None where it is not kept.

        It is kept until a person or another lesion changes the mask.
        """
        self._check(k, lesion)
        part = self._now.marks.get((k, lesion), NOTHING).parts.get(model)
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
            for step in self._history.all()
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
                None
                if part.answer is None or part.from_boxes
                else part.answer.unpacked(self.shape_zyx[1:]),
            )
            for k, id, part in sorted(self._parts(model), key=lambda one: one[:2])
        ]

    def parameters(self, model: str, lesion: int = 1) -> dict[str, Any]:
        """What a lesion was propagated with (``set_propagated``); empty where it was not."""
        return dict(self._now.parameters.get((lesion, model), {}))

    @property
    def state(self) -> object:
        """What is there now, for ``changed_slices``; holds it as it is."""
        return self._now.copy()

    def changed_slices(self, since: object) -> list[int]:
        """The slices whose boxes or masks differ from an earlier ``state``, of any lesion or model, in order."""
        assert isinstance(since, State)
        before, now = since.marks, self._now.marks
        return sorted(
            {k for k, id in before.keys() | now.keys() if before.get((k, id)) != now.get((k, id))}
        )

    def _parts(self, model: str) -> Iterator[tuple[int, int, PackedPart]]:
        """Slice, lesion and part of every mask of a model."""
        for (k, id), marks in self._now.marks.items():
            if model in marks.parts:
                yield k, id, marks.parts[model]

    def _wanted(self, id: int, lesion: int | None) -> bool:
        return self._now.lesions[id].is_blood if lesion is None else id == lesion

    def _check(self, k: int, lesion: int | None = None, to_write: bool = False) -> None:
        if not 0 <= k < self.shape_zyx[0]:
            raise BoxError(
                f"The scan has slices 0 to {self.shape_zyx[0] - 1}; got {k}; choose one of them."
            )
        if lesion is not None and self.lesion(lesion).locked and to_write:
            raise LesionError(
                f"A locked lesion stays as it is; {self.lesion(lesion).name} is locked; unlock it first."
            )
