"""A scan that nobody marked: what the program proposes and takes by itself, as a document to be answered."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from ichseg.cohort.case import Case, Progress, embedder, prompted_document
from ichseg.marks.accept import accept
from ichseg.marks.document import Segmentation
from ichseg.measures.suggest import propose
from ichseg.methods.automatic import Automatic
from ichseg.methods.detection import load_proposals
from ichseg.scan.slabs import SliceOrSlab
from ichseg.scan.volume import CTVolume

if TYPE_CHECKING:
    from ichseg.methods.blood_finder import BloodFinder
    from ichseg.methods.predictor import Predictor, SliceEmbedding


def automatic_document(
    volume: CTVolume,
    edge: bool = True,
    *,
    finder: str | BloodFinder | None = None,
    embed: Callable[[SliceOrSlab], SliceEmbedding] | None = None,
    progress: Progress | None = None,
    cancelled: Callable[[], bool] | None = None,
) -> tuple[Segmentation, Automatic]:
    """A scan's document with a lesion for each proposal that the finder is sure enough of, and how it came about.

    What is taken is said by the finder's own rule (``FindRule.accept_score``); the arguments are those of
    ``measures.suggest.suggest``. Raises WeightsError where the finder's weights are not here.
    """
    ready = load_proposals(finder) if finder is None or isinstance(finder, str) else finder
    found, _ = propose(volume, finder=ready, embed=embed, progress=progress, cancelled=cancelled)
    taken = [one for one in found if one.is_accepted]
    marked = prompted_document(volume, {}, {}, edge)
    lesions = accept(marked, [one.boxes for one in taken])
    scores = {lesion: one.score for lesion, one in zip(lesions, taken, strict=True)}
    return marked, Automatic(ready.name, dict(ready.weights_sha256), scores)


def automatic_case(
    volume: CTVolume,
    predictor: Predictor,
    edge: bool = True,
    *,
    propagate: bool = False,
    finder: BloodFinder | None = None,
    progress: Progress | None = None,
    cancelled: Callable[[], bool] | None = None,
) -> Case:
    """That document, to be answered by a method: where the finder reads its embeddings, each is made once for both."""
    ready = load_proposals() if finder is None else finder
    embed = embedder(predictor, volume)
    marked, automatic = automatic_document(
        volume,
        edge,
        finder=ready,
        embed=embed if ready.embedded_by == predictor.name else None,
        progress=progress,
        cancelled=cancelled,
    )
    return Case(volume, marked, predictor, propagate, automatic, embed)
