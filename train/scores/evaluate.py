"""Scores of a predictor on slices with a reference mask: one function for training, the commands and the tests."""

from __future__ import annotations

import time
from collections.abc import Callable, Hashable, Iterable, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from ichseg.marks.box import box_from_mask
from ichseg.marks.edge import half_height_edge
from ichseg.methods.frame import MODEL_SIZE, PAPER, SliceFrame
from ichseg.methods.predictor import Predictor
from train.data.cache import REFERENCE_SIDE
from train.data.cases import CT_ICH_ASSUMED_PIXEL_MM
from train.data.slices import NativeSlice, keep_large
from train.scores.metrics import (
    Summary,
    batch_pooled,
    dice,
    jaccard,
    per_patient,
    summarise,
    surface_dice,
    volume_difference,
)
from train.scores.protocols import Protocol, prompt_boxes


@dataclass(frozen=True)
class Score:
    """One slice under one protocol. Areas are pixels; ``volume_difference`` is signed and relative."""

    patient: str
    scan: str
    slice: int
    types: str
    protocol: str
    dice: float
    jaccard: float
    volume_difference: float
    surface_dice: float
    predicted_px: int
    reference_px: int
    components: int
    seconds: float
    key: str = ""
    """Of a kept score: what it came from (``cache_key``)."""


def score(
    predictor: Predictor,
    slices: Iterable[NativeSlice],
    protocols: Sequence[Protocol],
    *,
    seed: int = 0,
    on_slice: Callable[[], None] | None = None,
    on_mask: Callable[[Protocol, npt.NDArray[np.bool_]], None] | None = None,
) -> list[Score]:
    """Score a predictor at native resolution: one row for each slice and protocol.

    ``on_slice`` is called after each slice, for a progress display, ``on_mask`` with each mask [y, x]. Surface Dice
    (2 mm) is NaN where the data set does not give the pixel spacing. The same seed draws the same jitter for every
    method.
    """
    rows = []
    for item in slices:
        started = time.perf_counter()
        embedding = predictor.embed(item.slice_hu)
        embedded = time.perf_counter() - started
        answered: dict[Hashable, tuple[npt.NDArray[np.bool_], float]] = {}
        for protocol in protocols:
            boxes = prompt_boxes(item, protocol, seed)
            # Around the only component of a slice two protocols draw the same box.
            again = predictor.second_look if protocol.refinement is None else protocol.refinement
            asked = (tuple(boxes), again)
            if asked not in answered:
                started = time.perf_counter()
                found = predictor.predict(embedding, boxes, second_look=again)
                answered[asked] = found.union, time.perf_counter() - started + embedded
            mask, seconds = answered[asked]
            if protocol.edge:
                assumed_mm = (CT_ICH_ASSUMED_PIXEL_MM, CT_ICH_ASSUMED_PIXEL_MM)
                spacing_mm = item.pixel_spacing_mm or assumed_mm
                mask, _ = half_height_edge(mask, item.slice_hu, spacing_mm)
            rows.append(_row(item, protocol, mask, seconds))
            if on_mask is not None:
                on_mask(protocol, mask)
        if on_slice is not None:
            on_slice()
    return rows


def score_as_paper(predictor: Predictor, slices: Iterable[NativeSlice]) -> tuple[float, float]:
    """Dice and Jaccard in the paper's own protocol: (mean over batches of 8 pooled slices of each)."""
    return batch_pooled(*masks_as_paper(predictor, slices))


def masks_as_paper(
    predictor: Predictor, slices: Iterable[NativeSlice]
) -> tuple[list[npt.NDArray[np.bool_]], list[npt.NDArray[np.bool_]]]:
    """(Predictions, references) in the paper's own protocol, bool [256, 256] each; slices without blood left are out.

    Everything happens at 256 x 256: the slice is resized, components under 100 px are dropped from the reference
    mask, and the box is the small mask's, grown by 3 px. The image goes in as HU again, so that every method takes it.
    """
    predictions, references = [], []
    for item in slices:
        rows, columns = item.slice_hu.shape
        frame = SliceFrame((rows, columns))
        least_px = 100 * (max(rows, columns) / REFERENCE_SIDE) ** 2
        reference = frame.mask(keep_large(item.mask, least_px) > 0)
        box = box_from_mask(reference, 3)
        if box is None:
            continue
        small_hu = frame.image(item.slice_hu) * PAPER.width + PAPER.low
        mask = predictor.predict(predictor.embed(small_hu), [box], second_look=False).union
        predictions.append(mask)
        references.append(reference)
    assert all(reference.shape == (MODEL_SIZE, MODEL_SIZE) for reference in references)
    return predictions, references


def summary_of(rows: Sequence[Score]) -> dict[str, dict[str, Summary]]:
    """For each protocol: per-slice Dice, Jaccard and absolute volume difference, and the same over patients."""
    out: dict[str, dict[str, Summary]] = {}
    for protocol in dict.fromkeys(row.protocol for row in rows):
        mine = [row for row in rows if row.protocol == protocol]
        patients = [row.patient for row in mine]
        out[protocol] = {
            "dice": summarise([row.dice for row in mine], patients),
            "jaccard": summarise([row.jaccard for row in mine], patients),
            "surface_dice": summarise([row.surface_dice for row in mine], patients),
            "volume_difference": summarise([abs(row.volume_difference) for row in mine], patients),
            "patient_dice": summarise(per_patient([row.dice for row in mine], patients).values()),
            "patient_jaccard": summarise(
                per_patient([row.jaccard for row in mine], patients).values()
            ),
            "patient_volume_difference": summarise(_patient_volume_differences(mine)),
        }
    return out


def by_type(rows: Sequence[Score], protocol: str) -> dict[str, Summary]:
    """Per-slice Dice for each hemorrhage type; a slice with several types counts under each."""
    mine = [row for row in rows if row.protocol == protocol]
    types = sorted({name for row in mine for name in row.types.split("+") if name})
    return {
        name: summarise(
            [row.dice for row in mine if name in row.types.split("+")],
            [row.patient for row in mine if name in row.types.split("+")],
        )
        for name in types
    }


def _row(
    item: NativeSlice, protocol: Protocol, mask: npt.NDArray[np.bool_], seconds: float
) -> Score:
    spacing = item.pixel_spacing_mm
    return Score(
        patient=item.patient_id,
        scan=item.scan_id,
        slice=item.slice_index,
        types="+".join(item.types),
        protocol=protocol.name,
        dice=dice(mask, item.mask),
        jaccard=jaccard(mask, item.mask),
        volume_difference=volume_difference(mask, item.mask),
        surface_dice=float("nan")
        if spacing is None
        else surface_dice(mask, item.mask, spacing_mm=spacing),
        predicted_px=int(mask.sum()),
        reference_px=int(item.mask.sum()),
        components=len(item.component_boxes),
        seconds=seconds,
    )


def _patient_volume_differences(rows: Sequence[Score]) -> list[float]:
    """|predicted - true| / true over each patient's slices taken together."""
    out = []
    for patient in dict.fromkeys(row.patient for row in rows):
        mine = [row for row in rows if row.patient == patient]
        reference = sum(row.reference_px for row in mine)
        out.append(
            abs(sum(row.predicted_px for row in mine) - reference) / reference
            if reference
            else float("nan")
        )
    return out
