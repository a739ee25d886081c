"""One state of what is marked on a scan: each slice's boxes and masks, packed, and how one is written into it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Literal, Protocol, get_args

import numpy as np
import numpy.typing as npt

from ichseg.arrays import BoolArray
from ichseg.marks.box import Box, box_from_mask
from ichseg.marks.lesion import Lesion

#: What a lesion's mask on a slice comes from: a box there, a box on another slice, or a person's hand (or file).
Origin = Literal["box", "propagated", "edited"]


class EdgeStep(Protocol):
    """A step after a model's answer on slice k: its mask [y, x] to the one that is taken in."""

    def __call__(
        self, model: str, k: int, mask_yx: BoolArray, of_slabs: bool = False, /
    ) -> BoolArray:
        """``of_slabs``: whether the mask is no answer to boxes on the slice, but lies between those on two slabs."""
        ...


ORIGINS: tuple[Origin, ...] = get_args(Origin)

#: Of what one slice holds of one lesion, beside its masks.
_MARKS_BYTES = 500


@dataclass
class State:
    """One state of the whole: what it holds is shared with other steps and never changed in place."""

    lesions: dict[int, Lesion]
    marks: dict[tuple[int, int], Marks] = field(default_factory=dict)
    """(slice, lesion) -> what is marked there."""
    parameters: dict[tuple[int, str], dict[str, Any]] = field(default_factory=dict)
    """(lesion, model) -> what it was propagated with."""
    edge: bool = False
    """Whether the edge is drawn on what a model answers."""

    def copy(self) -> State:
        """The same state, to be changed."""
        return State(dict(self.lesions), dict(self.marks), dict(self.parameters), self.edge)

    def bytes_beside(self, other: State) -> int:
        """About how many bytes this holds that another state does not."""
        return sum(
            marks.nbytes
            for where, marks in self.marks.items()
            if other.marks.get(where) is not marks
        )

    def put(
        self,
        k: int,
        lesion: int,
        model: str,
        mask_yx: BoolArray,
        origin: Origin,
        boxes: tuple[Box, ...] = (),
        *,
        is_answer: bool = False,
        yields: bool = False,
        edge_step: EdgeStep | None = None,
    ) -> None:
        """Write one mask, bool [y, x], so that no voxel is of two lesions; ``yields``: to all of them.

        A mask that is a model's own answer passes through ``edge_step`` where the edge is on, and what it was before
        is kept.
        """
        answer = None
        if is_answer:
            answer = PackedMask.of(mask_yx)
            if self.edge and edge_step is not None:
                mask_yx = edge_step(model, k, mask_yx, not boxes)
        kept, losers = mask_yx, []
        for id, other in self.lesions.items():
            part = self.marks.get((k, id), NOTHING).parts.get(model)
            if id == lesion or part is None:
                continue
            theirs = part.mask.unpacked(mask_yx.shape)
            if not (theirs & mask_yx).any():
                continue
            outranked = origin == "propagated" and part.origin != "propagated"
            if yields or other.locked or outranked:
                kept, is_answer, answer = kept & ~theirs, False, None
            else:
                losers.append((id, part, theirs))
        for id, part, theirs in losers:
            left = replace(part, mask=PackedMask.of(theirs & ~kept), from_boxes=False, answer=None)
            if left.mask != part.mask:
                self.marks[k, id] = self.marks[k, id].with_part(model, left)
        packed = PackedMask.of(kept)
        if packed == answer:
            packed = answer  # held once
        new = PackedPart(packed, origin, boxes, is_answer and bool(boxes), answer)
        self.marks[k, lesion] = self.marks.get((k, lesion), NOTHING).with_part(model, new)

    def edit(self, k: int, lesion: int, model: str, mask_yx: BoolArray) -> None:
        """Write what a person made of a mask, bool [y, x]."""
        before = self.marks.get((k, lesion), NOTHING)
        self.put(k, lesion, model, mask_yx, "edited")
        had, has = before.parts.get(model, PackedPart(EMPTY)), self.marks[k, lesion].parts[model]
        if had.mask == has.mask:  # an eraser beside the blood makes no correction
            self.marks[k, lesion] = before
            if before is NOTHING:
                del self.marks[k, lesion]


@dataclass(frozen=True, slots=True)
class Marks:
    """What one slice holds of one lesion: boxes, and each model's mask."""

    boxes: tuple[Box, ...] = ()
    parts: Mapping[str, PackedPart] = field(default_factory=dict)

    def with_part(self, model: str, part: PackedPart) -> Marks:
        """The same with another mask of a model."""
        return Marks(self.boxes, {**self.parts, model: part})

    @property
    def nbytes(self) -> int:
        """About how many bytes it takes in memory."""
        return _MARKS_BYTES + sum(
            len(mask.bits)
            for part in self.parts.values()
            for mask in {id(mask): mask for mask in (part.mask, part.answer) if mask}.values()
        )

    def has_mask(self, model: str | None) -> bool:
        """Whether a model's mask, or any without a model, has a pixel."""
        return any(part.mask.bits for name, part in self.parts.items() if model in (None, name))


NOTHING = Marks()


@dataclass(frozen=True, slots=True)
class PackedMask:
    """A mask [y, x] as the bits of its bounding box, row by row; no bits where it is empty."""

    y0: int
    x0: int
    height: int
    width: int
    bits: bytes

    @classmethod
    def of(cls, mask_yx: BoolArray) -> PackedMask:
        """A mask, bool [y, x], packed."""
        tight = box_from_mask(mask_yx)
        if tight is None:
            return EMPTY
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
        """The mask, bool [y, x], on a slice of (rows, columns)."""
        out = np.zeros(shape_yx, dtype=bool)
        self.paint(out)
        return out


EMPTY = PackedMask(0, 0, 0, 0, b"")


@dataclass(frozen=True, slots=True)
class PackedPart:
    """One model's mask of one lesion on one slice; the fields of ``Part``."""

    mask: PackedMask
    origin: Origin = "edited"
    boxes: tuple[Box, ...] = ()
    from_boxes: bool = False
    answer: PackedMask | None = None
    """The model's own answer, before the edge; None where a person or another lesion changed the mask."""
