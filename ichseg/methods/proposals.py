"""Proposals: where blood is likely, as three-dimensional components with the boxes that a person would have drawn.

A ``BloodFinder`` (``detection.load_proposals``) gives the probability of blood at each pixel of a slice from its
embedding by the fine-tuned LiteMedSAM; ``find`` links what is likely over the slices. A proposal is a suggestion:
nothing counts it before a person, or ``--auto``, has accepted it.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy import ndimage

from ichseg.arrays import EIGHT_CONNECTED, BoolArray
from ichseg.errors import InputError
from ichseg.marks.box import Box
from ichseg.methods.frame import MODEL_SIZE, FloatArray, SliceFrame
from ichseg.scan.slabs import Slabs, slabs_of
from ichseg.scan.volume import CTVolume

#: Components are linked where their voxels touch, corners included, on a slice and over two slices.
_TOUCHING = np.ones((3, 3, 3), dtype=bool)
#: A slice, and a proposal, is as suspicious as the mean of this many of its likeliest pixels of the 256 x 256 frame.
TOP_PX = 40


@dataclass(frozen=True)
class FindRule:
    """How probabilities become proposals. The defaults stand in for a finder that brings no rule of its own."""

    extent: float = 0.3
    """A proposal reaches as far as the probability of blood is this or more."""
    faint: float = 0.1
    """What nowhere comes so far is proposed, too, where the probability is this or more: it reaches as far as that."""
    least_score: float = 0.3
    """And where its score is this or more."""
    accept_score: float = 0.5
    """From this score on a proposal is taken where nobody is asked, as by ``--auto``: fewer false, and more missed."""
    least_px: int = 12
    """Components of a slice under this area, in pixels of the 256 x 256 frame, get no box."""
    margin_px: float = 3.0
    """What boxes are grown by on each side, in pixels of the 256 x 256 frame: as in the adapter's training."""

    def __post_init__(self) -> None:
        for name in ("extent", "faint", "least_score", "accept_score"):
            if not 0 <= getattr(self, name) <= 1:
                raise InputError(
                    f"A rule's {name} is a probability, 0 to 1; got {getattr(self, name)}; give e.g. 0.5."
                )


@dataclass(frozen=True, eq=False)
class Proposal:
    """One suggestion: a three-dimensional component of likely blood. ``find`` makes them, strongest first."""

    boxes: Mapping[int, tuple[Box, ...]]
    """{slice: boxes in native pixels}, one for each connected component on the slice, grown by the rule's margin. Of a
    thin series on one slice for each slab: a lesion is followed from these."""
    score: float
    """By which proposals are ordered, 0 to 1: the mean probability of its TOP_PX likeliest pixels, with 0 for those
    that it lacks, so that a speck counts less than a clot."""
    peak: float
    """Its highest probability of blood."""
    mean: float
    """The mean probability of blood over it."""
    volume_ml: float
    """Rough: its voxels at the frame's resolution. The mask that follows from accepting it has the millilitres."""
    is_accepted: bool
    """Whether the rule takes it where nobody is asked."""
    where: Mapping[int, BoolArray] = field(repr=False)
    """{slice: the component in the 256 x 256 frame, bool [256, 256]}."""

    @property
    def slices(self) -> tuple[int, ...]:
        """The slices it has a box on, from the foot up."""
        return tuple(sorted(self.boxes))

    @property
    def largest_slice(self) -> int:
        """The slice on which it is largest: the one to show first."""
        return max(self.slices, key=lambda k: (int(self.where[k].sum()), -k))

    def region_zyx(self, shape_zyx: tuple[int, int, int]) -> BoolArray:
        """Its own region at the scan's native size, bool [z, y, x]: rougher than the mask for its boxes."""
        frame = SliceFrame(shape_zyx[1:])
        out = np.zeros(shape_zyx, dtype=bool)
        for k, part in self.where.items():
            out[k] = frame.positive(part.astype(np.float32) - 0.5)
        return out


def find(
    probability_zyx: npt.ArrayLike, volume: CTVolume, rule: FindRule | None = None
) -> list[Proposal]:
    """What a scan's probabilities of blood propose, strongest first; empty where nothing passes the rule.

    A thin series is gone through by its slabs (``scan.slabs``), and a proposal then has its boxes on the middle slice
    of each.

    Args:
        probability_zyx: [z, 256, 256], each slice in its frame, as ``BloodFinder.probabilities`` gives it; 0 on slices
            that were not looked at. Of a thin series the middle slice of each slab is read.
        volume: the scan, for the boxes' native pixels and the millilitres.
        rule: the finder's own (``BloodFinder.rule``) or another.

    Raises:
        InputError: an array of another shape.

    """
    rule = rule or FindRule()
    probability = np.asarray(probability_zyx, dtype=np.float32)
    if probability.shape != (volume.shape_zyx[0], MODEL_SIZE, MODEL_SIZE):
        raise InputError(
            f"Probabilities are one 256 x 256 frame for each of the scan's {volume.shape_zyx[0]} slices; got "
            f"{probability.shape}; stack what the finder gives for each slice."
        )
    slabs = slabs_of(volume)
    if slabs is None:
        return _found(probability, volume, rule)
    middles = [slab.middle for slab in slabs.each]
    return [_on_slices(one, slabs) for one in _found(probability[middles], slabs.scan, rule)]


def _on_slices(on_slabs: Proposal, slabs: Slabs) -> Proposal:
    """What was found on slabs, by the scan's own slices."""
    return replace(
        on_slabs,
        boxes={slabs.each[n].middle: boxes for n, boxes in on_slabs.boxes.items()},
        where={k: part for n, part in on_slabs.where.items() for k in slabs.each[n].slices},
    )


def _found(probability: FloatArray, volume: CTVolume, rule: FindRule) -> list[Proposal]:
    """``find`` on the slices of a volume, whatever their thickness."""
    frame = SliceFrame(volume.shape_zyx[1:])
    px_ml = volume.voxel_volumes_ml / (frame.scale_yx[0] * frame.scale_yx[1])
    found = []
    for place, inside in _components(probability, rule):
        values = probability[place][inside]
        if (score := top_mean(values)) < rule.least_score:
            continue
        where = {}
        for k, part in enumerate(inside, place[0].start):
            if part.any():
                where[k] = np.zeros((MODEL_SIZE, MODEL_SIZE), dtype=bool)
                where[k][place[1:]] = part
        boxes = {k: tuple(_boxes(part, frame, rule)) for k, part in where.items()}
        if not any(boxes.values()):
            continue
        found.append(
            Proposal(
                boxes={k: some for k, some in boxes.items() if some},
                score=score,
                peak=float(values.max()),
                mean=float(values.mean()),
                volume_ml=float(sum(part.sum() * px_ml[k] for k, part in where.items())),
                is_accepted=score >= rule.accept_score,
                where=where,
            )
        )
    return sorted(found, key=lambda one: (-one.score, -one.volume_ml, one.slices))


def _components(
    probability: FloatArray, rule: FindRule
) -> Iterator[tuple[tuple[slice, ...], BoolArray]]:
    """Each component's place in the scan, and which voxels there are its own: first the clear ones, then the faint."""
    for least, most in ((rule.extent, np.inf), (rule.faint, rule.extent)):
        labels, _ = ndimage.label(probability >= least, _TOUCHING)
        for number, place in enumerate(ndimage.find_objects(labels), 1):
            inside = labels[place] == number
            if probability[place][inside].max() < most:
                yield place, inside


def top_mean(probabilities: npt.NDArray[np.floating[Any]]) -> float:
    """The mean of the TOP_PX highest values, with 0 for those that lack: of a proposal, or of a whole slice.

    >>> float(round(top_mean(np.full(TOP_PX // 2, 0.8)), 3))
    0.4
    """
    values = np.ravel(probabilities)
    if values.size > TOP_PX:
        values = np.partition(values, values.size - TOP_PX)[-TOP_PX:]
    return float(values.sum(dtype=np.float64) / TOP_PX)


def probability_in(probability_yx: FloatArray, mask_yx: BoolArray) -> float:
    """The mean probability of blood under a native mask [y, x] of a slice whose frame [256, 256] is given.

    NaN for a mask that is too small to fill half of any pixel of the frame, and for an empty one.
    """
    rows, columns = mask_yx.shape
    inside = SliceFrame((rows, columns)).mask(mask_yx)
    return float(np.asarray(probability_yx)[inside].mean()) if inside.any() else float("nan")


def _boxes(part: BoolArray, frame: SliceFrame, rule: FindRule) -> list[Box]:
    """A native box for each component of a frame's mask that is large enough, grown by the margin."""
    labels, _ = ndimage.label(part, EIGHT_CONNECTED)
    along_y, along_x = frame.scale_yx
    out = []
    for number, (rows, columns) in enumerate(ndimage.find_objects(labels), 1):
        if np.count_nonzero(labels[rows, columns] == number) < rule.least_px:
            continue
        margin = rule.margin_px
        box = Box(
            (columns.start - margin) / along_x,
            (rows.start - margin) / along_y,
            (columns.stop + margin) / along_x,
            (rows.stop + margin) / along_y,
        )
        out.append(box.clip(frame.shape_yx))
    return out
