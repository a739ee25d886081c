"""``suggest``: where blood is likely in a scan, each place with its boxes, its masks and its millilitres.

A suggestion counts for nothing until somebody accepts it (``marks.accept``).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np

from ichseg.arrays import BoolArray
from ichseg.errors import VolumeError
from ichseg.marks.accept import accept
from ichseg.marks.box import Box
from ichseg.marks.document import Segmentation
from ichseg.measures.volume import slice_ml
from ichseg.methods.catalogue import load_predictor
from ichseg.methods.detection import load_proposals
from ichseg.methods.edge_step import step_of
from ichseg.methods.proposals import Proposal, probability_in
from ichseg.scan.slabs import SliceOrSlab, hu_of, slab_at, slices_of
from ichseg.scan.volume import CTVolume

if TYPE_CHECKING:
    from ichseg.methods.blood_finder import BloodFinder
    from ichseg.methods.frame import FloatArray
    from ichseg.methods.predictor import Predictor, SliceEmbedding

#: So many are offered, the strongest: more than that nobody steps through.
MOST = 32

#: What stands beside proposals wherever they are shown.
MAY_MISS = "Proposals may miss blood, thin and faint blood above all, and may be no blood. Look at every slice."
#: And where there are none.
NOTHING_FOUND = (
    "Nothing was proposed. That does not mean that there is no blood: look at every slice, and draw a box where you "
    "see it."
)

Answer = Callable[[SliceOrSlab, Sequence[Box]], BoolArray]
"""A slice or a slab and its boxes to the mask [y, x] by which a method answers all of them."""


@dataclass(frozen=True, eq=False)
class Suggestion:
    """A proposal with the masks by which a method answers its boxes; its type is not told."""

    proposal: Proposal
    masks: Mapping[int, BoolArray] = field(repr=False)
    """{slice from 0: bool [y, x]}; of a thin series those of the slabs, each on its middle slice."""
    volume_ml: float
    """Of the masks, by each slice's own height; of a thin series by the slabs'."""
    probability: float
    """The mean probability of blood over the masks; NaN where they are empty or too small to say."""

    @property
    def boxes(self) -> Mapping[int, tuple[Box, ...]]:
        """{slice: boxes in native pixels}, as ``propagate``, ``segment`` and ``accept`` take them."""
        return self.proposal.boxes

    @property
    def score(self) -> float:
        """How sure the finder is, 0 to 1: what suggestions are ordered by."""
        return self.proposal.score

    @property
    def largest_slice(self) -> int:
        """The slice to look at first, from 0."""
        return self.proposal.largest_slice


def suggest(
    volume: CTVolume,
    *,
    model: str | Predictor | None = None,
    finder: str | BloodFinder | None = None,
    edge: bool = True,
    embed: Callable[[SliceOrSlab], SliceEmbedding] | None = None,
    progress: Callable[[float], None] | None = None,
    cancelled: Callable[[], bool] | None = None,
) -> list[Suggestion]:
    """Where blood is likely in a scan, strongest first; empty where nothing is proposed, which does not mean no blood.

    Args:
        volume: the scan.
        model: a method's name, one that is loaded, or None for the default: its masks answer the boxes, with its own
            refinement.
        finder: as ``load_proposals`` takes it, or one that is loaded.
        edge: draw the edge at half height on the masks, where the method takes it.
        embed: a slice or, of a thin series, a slab to its embedding by ``finder.embedded_by``, for a caller that keeps
            them.
        progress: called with the share that is done, 0 to 1, never falling.
        cancelled: asked before each slice; what was found until then is returned.

    Raises:
        VolumeError: what is given is no scan.
        WeightsError: the finder's weights, or the method's, are not here.

    """
    found, probability_zyx = propose(
        volume,
        finder=finder,
        embed=embed,
        progress=None if progress is None else lambda share: progress(0.8 * share),
        cancelled=cancelled,
    )
    predictor = load_predictor(model) if model is None or isinstance(model, str) else model

    def answer(where: SliceOrSlab, boxes: Sequence[Box]) -> BoolArray:
        return predictor.predict(predictor.embed(hu_of(volume, where)), boxes).union

    suggestions = []
    for number, one in enumerate(found, 1):
        if cancelled is not None and cancelled():
            break
        suggestions.append(
            answered(one, volume, predictor.name, answer, probability_zyx, edge=edge)
        )
        if progress is not None:
            progress(0.8 + 0.2 * number / len(found))
    return suggestions


def propose(
    volume: CTVolume,
    *,
    finder: str | BloodFinder | None = None,
    embed: Callable[[SliceOrSlab], SliceEmbedding] | None = None,
    progress: Callable[[float], None] | None = None,
    cancelled: Callable[[], bool] | None = None,
) -> tuple[list[Proposal], FloatArray]:
    """(The proposals, strongest first and at most MOST; the probabilities [z, 256, 256] that they come from).

    The arguments are those of ``suggest``.
    """
    if not isinstance(volume, CTVolume):
        raise VolumeError(
            f"Blood is proposed in a scan that was read; got {type(volume).__name__}; "
            "read it first: ichseg.read_volume(path)."
        )
    ready = load_proposals(finder) if finder is None or isinstance(finder, str) else finder
    if embed is None:
        base = load_predictor(ready.embedded_by)

        def embed(where: SliceOrSlab) -> SliceEmbedding:
            return base.embed(hu_of(volume, where))

    probability_zyx = ready.probabilities(volume, embed, progress=progress, cancelled=cancelled)
    return ready.find(probability_zyx, volume)[:MOST], probability_zyx


def slice_probability(volume: CTVolume, k: int) -> FloatArray:
    """The probability of blood in slice k's frame [256, 256], by the finder that ships.

    Raises WeightsError where its weights are not here.
    """
    finder = load_proposals()
    seen = hu_of(volume, slab_at(volume, k))
    return finder.of_slice(volume, k, load_predictor(finder.embedded_by).embed(seen))


def answered(
    proposal: Proposal,
    volume: CTVolume,
    model: str,
    answer: Answer,
    probability_zyx: Mapping[int, FloatArray] | FloatArray,
    *,
    edge: bool,
) -> Suggestion:
    """A proposal with the masks that it would have if it were accepted now, and nothing else were marked.

    Args:
        proposal: as ``find`` gives it.
        volume: the scan.
        model: whose masks they are.
        answer: that method's answer to the boxes of a slice, or of a slab where there are any.
        probability_zyx: by slice, the probability of blood in its frame [256, 256].
        edge: whether the edge at half height is on.

    """
    alone = Segmentation(volume.shape_zyx, edge_step=step_of(volume), edge=edge)
    (lesion,) = accept(alone, [proposal.boxes])
    for k, boxes in proposal.boxes.items():
        alone.add_masks(k, {model: answer(slab_at(volume, k), boxes)}, lesion)
    masks = {k: alone.slice_mask(model, k, lesion) for k in proposal.slices}
    ml = {k: _ml(mask, volume, slab_at(volume, k)) for k, mask in masks.items()}
    chances = {k: probability_in(probability_zyx[k], mask) for k, mask in masks.items()}
    known = [k for k, chance in chances.items() if not np.isnan(chance)]
    mean = (
        sum(ml[k] * chances[k] for k in known) / sum(ml[k] for k in known)
        if known
        else float("nan")
    )
    return Suggestion(proposal, masks, sum(ml.values()), mean)


def _ml(mask_yx: BoolArray, volume: CTVolume, where: SliceOrSlab) -> float:
    """The millilitres of a mask on a slice, or on all slices of a slab."""
    return sum(slice_ml(mask_yx, volume, k) for k in slices_of(where))
