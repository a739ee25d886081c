"""The boxes and masks of one scan, with undo and redo."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from ichseg.errors import BoxError, VolumeError
from ichseg.prompt import Box, as_boxes, box_from_mask

BoolArray = npt.NDArray[np.bool_]

#: Steps that undo can go back. A step is a few kilobytes, so this bounds a session's history.
UNDO_LIMIT = 200


class Segmentation:
    """What a person has marked on one scan: the boxes of each slice, and each model's mask for them.

    Every edit is one step of undo. Edits that change nothing are not steps. A new edit after an
    undo drops what could have been redone. Steps share the slices that they leave alone, and masks
    are kept as the packed bits of their bounding box, so the history stays small.

    ``shape_zyx`` is the scan's shape. Slices are numbered from 0; masks are bool [y, x] at the
    slice's native size. Not thread-safe: it belongs to one user's session.

    >>> import numpy as np
    >>> from ichseg.prompt import Box
    >>> marked = Segmentation((3, 4, 4))
    >>> blood = np.zeros((4, 4), dtype=bool)
    >>> blood[1:3, 1:4] = True
    >>> marked.set_slice(2, [Box(1, 1, 4, 3)], {"threshold": blood})
    >>> marked.marked_slices(), int(marked.mask_zyx("threshold").sum())
    ([2], 6)
    >>> marked.undo(), marked.marked_slices()
    (True, [])
    """

    def __init__(self, shape_zyx: tuple[int, int, int]) -> None:
        self.shape_zyx = shape_zyx
        self._steps: list[dict[int, _Slice]] = [{}]
        self._at = 0

    # What is there now

    def boxes(self, k: int) -> tuple[Box, ...]:
        """The boxes on slice k; empty where nothing is marked."""
        self._check_slice(k)
        marked = self._now.get(k)
        return marked.boxes if marked else ()

    def slice_mask(self, model: str, k: int) -> BoolArray:
        """A model's mask on slice k, bool [y, x]; all False where it has none."""
        self._check_slice(k)
        out = np.zeros(self.shape_zyx[1:], dtype=bool)
        marked = self._now.get(k)
        if marked and model in marked.masks:
            marked.masks[model].paint(out)
        return out

    def mask_zyx(self, model: str) -> BoolArray:
        """A model's mask of the whole scan, bool [z, y, x]."""
        out = np.zeros(self.shape_zyx, dtype=bool)
        for k, marked in self._now.items():
            if model in marked.masks:
                marked.masks[model].paint(out[k])
        return out

    def marked_slices(self, model: str | None = None) -> list[int]:
        """The slices with a box, in order; or those on which a model's mask is not empty."""
        return sorted(
            k
            for k, marked in self._now.items()
            if model is None or (model in marked.masks and marked.masks[model].bits)
        )

    @property
    def models(self) -> list[str]:
        """The models with a mask, even an empty one, on some slice, by name."""
        return sorted({model for marked in self._now.values() for model in marked.masks})

    @property
    def nbytes(self) -> int:
        """Bytes held by the masks of now and of the whole history, each counted once."""
        held = {id(marked): marked for step in self._steps for marked in step.values()}
        return sum(len(mask.bits) for marked in held.values() for mask in marked.masks.values())

    # Edits

    def set_slice(self, k: int, boxes: Sequence[Box], masks: Mapping[str, BoolArray]) -> None:
        """Replace what is marked on slice k by these boxes and each model's mask for them.

        No boxes means nothing on the slice, whatever the masks. Raises BoxError for a box or a
        slice that is not on the scan, VolumeError for a mask that is not the slice's size.
        """
        self._check_slice(k)
        valid = tuple(as_boxes(boxes, self.shape_zyx[1:]))
        step = {other: marked for other, marked in self._now.items() if other != k}
        if valid:
            step[k] = _Slice(valid, self._packed(masks))
        self._push(step)

    def add_masks(self, k: int, masks: Mapping[str, BoolArray]) -> None:
        """Give slice k further models' masks for the boxes that it has; not a step of undo.

        They join every step that shows these boxes, so undo and redo keep them. A model that has
        a mask there gets the new one. Raises BoxError where slice k has no box.
        """
        self._check_slice(k)
        marked = self._now.get(k)
        if marked is None:
            raise BoxError(
                f"A mask belongs to the boxes on its slice; slice {k} has none; draw a box first."
            )
        fuller = _Slice(marked.boxes, {**marked.masks, **self._packed(masks)})
        for step in self._steps:
            if step.get(k) is marked:
                step[k] = fuller

    def clear_slice(self, k: int) -> None:
        """Remove the boxes and masks of slice k."""
        self.set_slice(k, (), {})

    def clear(self) -> None:
        """Remove all boxes and masks, as one step."""
        self._push({})

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

    @property
    def _now(self) -> dict[int, _Slice]:
        return self._steps[self._at]

    def _push(self, step: dict[int, _Slice]) -> None:
        if step == self._now:
            return
        self._steps[self._at + 1 :] = [step]
        del self._steps[: -(UNDO_LIMIT + 1)]
        self._at = len(self._steps) - 1

    def _packed(self, masks: Mapping[str, BoolArray]) -> dict[str, _PackedMask]:
        for model, mask_yx in masks.items():
            if np.shape(mask_yx) != self.shape_zyx[1:]:
                raise VolumeError(
                    f"A mask has its slice's shape {self.shape_zyx[1:]}; that of {model} has "
                    f"{np.shape(mask_yx)}; predict on the native slice."
                )
        return {
            model: _PackedMask.of(np.asarray(mask, dtype=bool)) for model, mask in masks.items()
        }

    def _check_slice(self, k: int) -> None:
        if not 0 <= k < self.shape_zyx[0]:
            raise BoxError(
                f"The scan has slices 0 to {self.shape_zyx[0] - 1}; got {k}; choose one of them."
            )


@dataclass(frozen=True, slots=True)
class _Slice:
    """What one slice holds: at least one box, and each model's mask for them."""

    boxes: tuple[Box, ...]
    masks: Mapping[str, _PackedMask]


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
            return cls(0, 0, 0, 0, b"")
        inside = mask_yx[tight.slices()]
        bits = np.packbits(inside).tobytes()
        return cls(int(tight.y0), int(tight.x0), inside.shape[0], inside.shape[1], bits)

    def paint(self, out_yx: BoolArray) -> None:
        """Write the mask into an array of zeros [y, x] of the slice's size."""
        size = self.height * self.width
        inside = np.unpackbits(np.frombuffer(self.bits, dtype=np.uint8), count=size)
        out_yx[self.y0 : self.y0 + self.height, self.x0 : self.x0 + self.width] = inside.reshape(
            self.height, self.width
        )
