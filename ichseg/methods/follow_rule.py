"""When a mask on the next slice is still the same hematoma: the rule, what is found, and why it ends."""

from __future__ import annotations

from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, TypeAlias

import numpy.typing as npt

from ichseg.arrays import BoolArray
from ichseg.marks.box import Box
from ichseg.scan.limits import BONE_IN_MASK_HU
from ichseg.scan.slabs import SLAB_MM

Boxes: TypeAlias = Sequence[Box] | npt.ArrayLike
#: Boxes by slice, from 0.
Prompts: TypeAlias = Mapping[int, Boxes]
Lesion: TypeAlias = Hashable

Direction = Literal[-1, 1]
How = Literal["prompt", "between", "followed"]
Reason = Literal[
    "end", "empty", "area", "growth", "hu", "bone", "overlap", "iou", "likeness", "cancelled"
]


@dataclass(frozen=True)
class Rule:
    """When a mask on the next slice is still the same hematoma, and how far around the last one to look.

    Chosen on some patients and measured on others: docs/propagation.md says which, and what each gave.
    """

    margin_mm: float = 2.0
    """Added to each side of a box, whatever the gap."""
    margin_per_mm: float = 0.2
    """Added to each side for each mm between the slices: a surface slants, so the next outline may lie outside."""
    reach_mm: float = 10.0
    """How far beyond a box blood is looked for that the box may have cut."""
    further_looks: int = 2
    """How often a slice is looked at again with a wider box, where the box may have cut the blood."""
    least_area_mm2: float = 8.0
    """A smaller mask ends its component, and a smaller component of a mask is a speck that is not followed."""
    most_growth: float = 8.0
    """The mask may be this many times the last one's area; more is a leak."""
    least_contrast: float = 0.55
    """Mean HU above the tissue around the prompted mask, as a share of what that had."""
    least_contrast_hu: float = 5.0
    """Mean HU above that tissue at any rate."""
    most_bone: float = 0.4
    """Share of the mask that is bone: more is a leak along the skull."""
    least_overlap: float = 0.7
    """Share of the mask that lies within the margin of the last slice's, or of that one's that is in this mask: where
    a lesion grows the second stays high, where it shrinks the first."""
    least_iou: float = 0.5
    """The model's own estimate of its IoU; a method without one is not judged by it."""
    bone_hu: float = BONE_IN_MASK_HU
    slab_mm: float = SLAB_MM
    """A thin series is followed by slabs so thick (``scan.slabs``); 0: slice by slice, whatever the series."""
    least_likeness: float | None = 0.1
    """Least mean of the lesion's discriminant in the mask (``likeness``): 1 is like the prompted blood, -1 like what
    surrounds it. A mask then has to pass this and the area alone. Growth, contrast, bone, overlap and IoU are asked
    where a method's embeddings tell no blood, where the prompted blood is too small to tell by, and where this is
    None."""


@dataclass(frozen=True)
class Evidence:
    """What a mask on one slice looks like; NaN where there is nothing to measure."""

    area_mm2: float
    mean_hu: float
    """Of the mask without its bone."""
    tissue_hu: float
    """Median of the soft tissue around the mask."""
    bone: float
    """Share of the mask that is bone."""
    growth: float
    """Area in units of the last slice's."""
    overlap: float
    """The larger of two shares: of this mask within the margin of the last slice's (moved by the geometry), and of the
    last slice's within this one."""
    iou: float
    """The model's own estimate, the best of the boxes'."""
    likeness: float = float("nan")
    """How much the mask looks like the prompted blood: the mean of the lesion's discriminant in it (``likeness``)."""


@dataclass(frozen=True, eq=False)
class Found:
    """One lesion on one slice."""

    lesion: Lesion
    slice_index: int
    how: How
    """A person's boxes, boxes interpolated between them, or boxes drawn around the last slice's mask."""
    boxes: tuple[Box, ...]
    """The boxes that the model answered; they can be shown, edited, and given again as prompts."""
    mask_yx: BoolArray
    """[y, x], native size: all that the model found for these boxes. Empty where a person's box held nothing."""
    evidence: Evidence


@dataclass(frozen=True)
class Stop:
    """Why a lesion was not followed further in one direction."""

    lesion: Lesion
    slice_index: int
    """The last slice that is marked, from 0."""
    direction: Direction
    """1 is towards the head."""
    reason: Reason
    value: float = float("nan")
    threshold: float = float("nan")

    @property
    def sentence(self) -> str:
        """For people, who count slices from 1.

        >>> Stop("a", 16, 1, "hu", 34.0, 41.0).sentence
        'stopped above slice 17: mean 34 HU, below 41'
        """
        side = "above" if self.direction == 1 else "below"
        return f"stopped {side} slice {self.slice_index + 1}: {self._because}"

    def record(self) -> dict[str, Any]:
        """For JSON: slice (from 0), direction, reason, value and threshold (None where there is none), sentence."""
        known = self.value == self.value
        return {
            "slice": self.slice_index,
            "direction": self.direction,
            "reason": self.reason,
            "value": self.value if known else None,
            "threshold": self.threshold if known else None,
            "sentence": self.sentence,
        }

    @property
    def _because(self) -> str:
        value, threshold = self.value, self.threshold
        return {
            "end": "the scan ends there",
            "empty": "nothing was found in its boxes",
            "area": f"area {_pair(value, ' mm²', threshold)}",
            "growth": f"area {value:.1f} times the last slice's, above {threshold:g}",
            "hu": f"mean {_pair(value, ' HU', threshold)}",
            "bone": f"{value:.0%} bone, above {threshold:.0%}",
            "overlap": f"overlap {value:.0%} with the last slice, below {threshold:.0%}",
            "iou": f"the model's own estimate {value:.2f}, below {threshold:.2f}",
            "likeness": f"likeness to the prompted blood {value:.2f}, below {threshold:.2f}",
            "cancelled": "cancelled",
        }[self.reason]


def _pair(value: float, unit: str, threshold: float) -> str:
    """A value below its threshold, with as many digits as tell them apart.

    >>> _pair(45.6, " HU", 46.2), _pair(45.6, " HU", 45.7)
    ('45.6 HU, below 46.2', '45.6 HU, below 45.7')
    """
    digits = next((n for n in range(3) if round(value, n) != round(threshold, n)), 2)
    return f"{value:.{digits}f}{unit}, below {threshold:.{digits}f}"
