"""How often the reference volume lies in the range that jittered boxes give (measures.ranges).

The range is computed by the function that the page and the command line use, on patients the adapter never saw, from
boxes around the components of the reference mask. Where a set gives no pixel size, CT_ICH_ASSUMED_PIXEL_MM stands for
it; where it gives no slice heights, areas summed over slices stand for volumes, as all slices of a patient count alike.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from functools import partial

import numpy as np
import numpy.typing as npt

from ichseg.measures.spread import DRAWS, JITTER_MM, jittered_areas_px
from ichseg.methods.catalogue import load_predictor
from ichseg.methods.predictor import Predictor
from train.data.cache import Prepared
from train.data.cases import CT_ICH_ASSUMED_PIXEL_MM
from train.data.slices import NativeSlice, native_slices
from train.scores.cache import cache_key

#: How the boxes of a patient's slices move in one draw: all by the same parts, as jittered_areas_px has it, or each
#: slice's by their own, beside it.
MOVES = ("together", "apart")


@dataclass(frozen=True)
class Row:
    """One patient's reference volume and range, in pixels weighted by slice height where that is known.

    ``slices_covered`` counts the slices whose own reference area lies in their own range.
    """

    patient: str
    moves: str
    slices: int
    reference: float
    low: float
    median: float
    high: float
    slices_covered: int
    key: str = ""
    """Of what it came from (``cache_key``)."""

    @property
    def covered(self) -> bool:
        """Whether the reference volume lies in the range."""
        return self.low <= self.reference <= self.high


def cover(
    predictor: Predictor,
    slices: Iterable[NativeSlice],
    *,
    draws: int = DRAWS,
    jitter_mm: float = JITTER_MM,
    refinement: bool | None = False,
    seed: int = 0,
    on_slice: Callable[[], None] | None = None,
) -> list[Row]:
    """The range of each patient under each of MOVES; a slice is encoded once. ``on_slice`` shows progress."""
    found: dict[tuple[str, str], list[tuple[float, npt.NDArray[np.float64]]]] = {}
    for item in slices:
        embedding = predictor.embed(item.slice_hu)
        dy, dx = item.pixel_spacing_mm or (CT_ICH_ASSUMED_PIXEL_MM, CT_ICH_ASSUMED_PIXEL_MM)
        height = item.slice_height_mm or 1.0
        for moves in MOVES:
            own = (
                [seed] if moves == "together" else [seed, *item.scan_id.encode(), item.slice_index]
            )
            areas = jittered_areas_px(
                predictor,
                embedding,
                item.component_boxes,
                jitter_xy_px=(jitter_mm / dx, jitter_mm / dy),
                draws=draws,
                second_look=refinement,
                seed=int(np.random.SeedSequence(own).generate_state(1)[0]),
            )
            pair = (height * float(item.mask.sum()), height * areas.astype(np.float64))
            found.setdefault((item.patient_id, moves), []).append(pair)
        if on_slice is not None:
            on_slice()
    return [_row(*key, pairs) for key, pairs in found.items()]


def _row(patient: str, moves: str, pairs: Sequence[tuple[float, npt.NDArray[np.float64]]]) -> Row:
    total = np.sum([areas for _, areas in pairs], axis=0)
    return Row(
        patient=patient,
        moves=moves,
        slices=len(pairs),
        reference=sum(reference for reference, _ in pairs),
        low=float(total.min()),
        median=float(np.median(total)),
        high=float(total.max()),
        slices_covered=sum(
            bool(areas.min() <= reference <= areas.max()) for reference, areas in pairs
        ),
    )


def cover_parts(
    prepared: Prepared,
    parts: Sequence[tuple[str, str, Sequence[str]]],
    *,
    on_slice: Callable[[str, int], None] = lambda name, total: None,
) -> list[Row]:
    """Each part's patients, as ``train.scores.runs.parts`` has them; ``on_slice`` is told the part and its slices."""
    rows: list[Row] = []
    for name, source, patients in parts:
        slices = list(native_slices(prepared, patients))
        predictor = load_predictor(source)
        key = cache_key(
            predictor, prepared, refinement=False, code=("scores/coverage.py",), asked={}
        )
        found = cover(predictor, slices, on_slice=partial(on_slice, name, len(slices)))
        rows += [replace(row, key=key) for row in found]
    return rows
