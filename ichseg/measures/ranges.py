"""Which range a volume has, for every door: of boxes moved on their slices, or of propagations begun elsewhere.

A lesion whose mask boxes gave has the range of its boxes drawn anew (``spread.jittered_areas_px``). One that was
propagated has that of propagations from other slices and boxes (``spread.propagated_ml``). One that a person corrected,
or that came from a file, has none, and a sentence says so. ``Ranges`` does the work in portions and remembers it.
"""

from __future__ import annotations

import time
from collections import OrderedDict
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np
import numpy.typing as npt

from ichseg.arrays import Labels
from ichseg.marks.box import Box
from ichseg.marks.document import Segmentation
from ichseg.measures.spread import (
    DRAWS,
    Start,
    VolumeRange,
    jitter_in_pixels,
    jittered_areas_px,
    propagated_ml,
    range_of,
    range_of_areas,
    starts,
)
from ichseg.methods.edge_step import step_of
from ichseg.methods.follow_rule import Rule
from ichseg.methods.rule_record import rule_of
from ichseg.scan.volume import CTVolume

if TYPE_CHECKING:
    from ichseg.methods.predictor import Predictor, SliceEmbedding
    from ichseg.scan.slabs import SliceOrSlab

#: Draws of a slice's boxes that go to the model at once: who draws meanwhile waits for so many decodings at most.
DRAWS_AT_ONCE = 4

#: Slices, and propagations, whose draws are remembered; 16 numbers each.
REMEMBERED = 2048

#: Beyond so long ``Ranges.within`` begins no further propagation.
MOST_SECONDS = 120.0

_NO_RANGE = "A range is that of drawn boxes; some of this mask was corrected by hand or loaded."

Areas = npt.NDArray[np.int64]
Boxes: TypeAlias = tuple[Box, ...]
Embed: TypeAlias = "Callable[[SliceOrSlab], SliceEmbedding]"

#: A method, whether with the edge, where its propagation may begin (``spread.starts``), and its rule.
_SpreadKey: TypeAlias = tuple[str, bool, tuple[Start, ...], Rule]


@dataclass(frozen=True, eq=False)
class Drawn:
    """What one method's masks come from, at one moment: all that their ranges depend on.

    ``boxes`` are those that a person drew of each lesion whose mask they gave, by slice; ``rules`` are those of the
    lesions that were propagated from there; ``clipped`` are the lesions of which another has taken voxels since. Of
    those without ``boxes``, ``no_range`` says what else their mask comes from, and under None why all blood has none.
    ``refined`` says whether boxes were answered with a refinement, ``edge`` whether the edge at half height was drawn.
    """

    model: str
    refined: bool
    edge: bool
    labels_zyx: Labels
    blood: tuple[int, ...]
    boxes: Mapping[int, Mapping[int, Boxes]]
    rules: Mapping[int, Rule]
    clipped: frozenset[int]
    no_range: Mapping[int | None, str]

    @classmethod
    def of(cls, marked: Segmentation, model: str, *, refined: bool, edge: bool) -> Drawn:
        """What a model's masks in a document come from now."""
        parts = [part for part in marked.parts(model) if part.mask_yx.any()]
        other: dict[int | None, str] = {}
        rules: dict[int, Rule] = {}
        for part in parts:
            if part.origin == "edited":
                other[part.lesion] = _NO_RANGE
            elif part.origin == "propagated":
                rule = marked.parameters(model, part.lesion).get("rule")
                if rule is None:
                    other[part.lesion] = _NO_RANGE
                else:
                    rules[part.lesion] = rule_of(rule)
        boxes: dict[int, dict[int, Boxes]] = {}
        for (k, lesion), drawn in marked.prompts().items():
            if lesion not in other:
                boxes.setdefault(lesion, {})[k] = drawn
        blood = tuple(one.id for one in marked.lesions if one.is_blood)
        if lacking := [other[lesion] for lesion in blood if lesion in other]:
            other[None] = lacking[0]
        return cls(
            model=model,
            refined=refined,
            edge=edge,
            labels_zyx=marked.labels_zyx(model),
            blood=blood,
            boxes=boxes,
            rules={lesion: rule for lesion, rule in rules.items() if lesion in boxes},
            clipped=frozenset(part.lesion for part in parts if not part.is_whole),
            no_range=other,
        )


class Ranges:
    """The ranges of one scan's volumes; it remembers draws by what they depend on, so that none is done twice."""

    def __init__(self) -> None:
        self._areas: OrderedDict[tuple[str, bool, int, Boxes], Areas] = OrderedDict()
        self._spreads: OrderedDict[_SpreadKey, list[float]] = OrderedDict()
        self._starts: OrderedDict[tuple[Any, ...], tuple[Start, ...]] = OrderedDict()

    def portions(
        self,
        drawn: Drawn,
        volume: CTVolume,
        predictor: Predictor,
        embed: Embed,
        cancelled: Callable[[], bool] = lambda: False,
    ) -> Iterator[float]:
        """Work in portions; gives the share that is done, before each of them.

        A portion is a few draws of a slice's boxes, or one propagation from moved boxes, which ``cancelled`` ends.
        Whoever asks stops when somebody else has to come first: what is done is kept, and not done again.
        """
        edge = partial(step_of(volume), drawn.model) if drawn.edge else None
        slices = {
            (drawn.model, drawn.edge, k, boxes)
            for lesion, by_slice in drawn.boxes.items()
            if lesion not in drawn.rules
            for k, boxes in by_slice.items()
        }
        spreads = {self._spread_key(drawn, lesion): None for lesion in drawn.rules}
        whole = DRAWS * len(slices) + (1 + DRAWS) * len(spreads)

        def share() -> float:
            done = sum(len(self._areas.get(key, ())) for key in slices)
            return (done + sum(len(self._spreads.get(key, ())) for key in spreads)) / whole

        for key in sorted(slices, key=lambda one: one[2]):
            while (first := len(self._areas.get(key, ()))) < DRAWS:
                yield share()
                more = jittered_areas_px(
                    predictor,
                    embed(key[2]),
                    key[3],
                    jitter_xy_px=jitter_in_pixels(volume),
                    draws=min(DRAWS_AT_ONCE, DRAWS - first),
                    first=first,
                    edge=None if edge is None else partial(edge, key[2]),
                )
                self._areas[key] = np.concatenate([self._areas.get(key, more[:0]), more])
        for spread in spreads:
            # First the boxes as they are, then the draws.
            while len(draws := self._spreads.setdefault(spread, [])) < 1 + DRAWS:
                yield share()
                _, _, options, rule = spread
                ml = propagated_ml(
                    predictor,
                    volume,
                    options,
                    len(draws) - 1 if draws else None,
                    rule=rule,
                    edge=edge,
                    embed=embed,
                    cancelled=cancelled,
                )
                if ml is not None:
                    draws.append(ml)
        for kept in (self._areas, self._spreads, self._starts):
            while len(kept) > REMEMBERED:
                kept.popitem(last=False)

    def known(
        self, drawn: Drawn, volume: CTVolume, now_ml: Mapping[int, float], *, least: int = DRAWS
    ) -> dict[int | None, VolumeRange]:
        """The ranges that are known by now, by lesion and (None) for all blood.

        Args:
            drawn: what the masks come from.
            volume: the scan.
            now_ml: the volume that each lesion's range stands beside.
            least: so many propagations make a range; of boxes on their slices it takes all draws.

        """
        ranges: dict[int | None, VolumeRange] = {}
        for lesion, ml in now_ml.items():
            if lesion in drawn.rules:
                key = self._spread_key(drawn, lesion)
                own, *draws = self._spreads.get(key) or [0.0]
                if len(draws) >= least:
                    ranges[lesion] = range_of(draws, own, ml, key[2])
                continue
            areas_px = {
                k: self._areas.get((drawn.model, drawn.edge, k, boxes), np.zeros(0, dtype=np.int64))
                for k, boxes in drawn.boxes.get(lesion, {}).items()
            }
            if areas_px and all(len(one) == DRAWS for one in areas_px.values()):
                found = range_of_areas(areas_px, volume)
                # The draws are of first answers, and know of no other lesion.
                carried = drawn.refined or lesion in drawn.clipped
                ranges[lesion] = found.carried_to(ml) if carried else found
        blood = [lesion for lesion in now_ml if lesion in drawn.blood]
        if blood and all(lesion in ranges for lesion in blood):
            ranges[None] = VolumeRange.together([ranges[lesion] for lesion in blood])
        return ranges

    def within(
        self,
        drawn: Drawn,
        volume: CTVolume,
        now_ml: Mapping[int, float],
        predictor: Predictor,
        embed: Embed,
        *,
        progress: Callable[[float], None] | None = None,
        most_seconds: float = MOST_SECONDS,
    ) -> dict[int | None, VolumeRange]:
        """``known`` after the work; a propagation is begun after ``most_seconds`` only where a range has none yet."""
        end = time.monotonic() + most_seconds
        wanted = {lesion for lesion in drawn.boxes if lesion in now_ml}
        for share in self.portions(drawn, volume, predictor, embed):
            if progress is not None:
                progress(share)
            if time.monotonic() >= end and wanted <= set(
                self.known(drawn, volume, now_ml, least=1)
            ):
                break
        return self.known(drawn, volume, now_ml, least=1)

    def _spread_key(self, drawn: Drawn, lesion: int) -> _SpreadKey:
        """What a lesion's draws depend on: where another has taken voxels since, on the mask as it was before."""
        boxes, rule = drawn.boxes[lesion], drawn.rules[lesion]
        by_slice = tuple(sorted(boxes.items(), key=lambda item: item[0]))
        of = (drawn.model, drawn.edge, by_slice, rule)
        if lesion not in drawn.clipped or of not in self._starts:
            self._starts[of] = starts(drawn.labels_zyx == lesion, boxes)
        return drawn.model, drawn.edge, self._starts[of], rule
