"""What the page is told of an open scan: the scan itself, a slice's boxes and masks, the lesions, the totals."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np

from ichseg import NOTICE
from ichseg.files.records import scan_record, versions
from ichseg.files.session import SCHEMA_VERSION
from ichseg.measures.volume import blood_ml, slice_ml
from ichseg.page.case import BoolArray, Case
from ichseg.scan.series_info import SeriesInfo
from ichseg.scan.volume import CTVolume


def slice_state(case: Case, volume: CTVolume, k: int, rough: list[str]) -> dict[str, Any]:
    """Slice k as the page shows it: boxes and each shown model's mask as runs by lesion, the blood in mL by model.

    ``origin`` is where the first model's masks come from; ``rough`` names the models whose refinement is to come.
    """
    marked = case.segmentation
    ids = [lesion.id for lesion in marked.lesions]
    masks: dict[str, dict[int, BoolArray]] = {}
    for model in dict.fromkeys(case.models):
        there = [id for id in ids if marked.origin(k, id, model) is not None]
        if there and (k, model) not in case.failed:
            masks[model] = {id: marked.slice_mask(model, k, id) for id in there}
    case.slice_ml[k] = {
        model: {id: slice_ml(mask, volume, k) for id, mask in by_lesion.items()}
        for model, by_lesion in masks.items()
    }
    origins = {id: marked.origin(k, id, case.models[0]) for id in ids}
    return {
        "boxes": {
            str(id): [box.xyxy for box in boxes] for id in ids if (boxes := marked.boxes(k, id))
        },
        "masks": {
            model: {str(id): runs(mask) for id, mask in by_lesion.items()}
            for model, by_lesion in masks.items()
        },
        "ml": {model: blood_ml(case.slice_ml[k][model], marked.lesions) for model in masks},
        "origin": {str(id): origin for id, origin in origins.items() if origin is not None},
        "rough": [model for model in masks if model in rough],
    }


def total_ml(case: Case, model: str) -> float | None:
    """A model's blood on all marked slices in mL; None where it failed on one of them."""
    slices = case.segmentation.marked_slices()
    if any((k, model) in case.failed for k in slices):
        return None
    lesions = case.segmentation.lesions
    return sum(blood_ml(case.slice_ml.get(k, {}).get(model, {}), lesions) for k in slices)


def lesions_state(case: Case) -> list[dict[str, Any]]:
    """The lesions for the page: what they are called, and each one's mL and stops by the first model."""
    marked, model = case.segmentation, case.models[0]
    return [
        {
            "id": lesion.id,
            "name": lesion.name,
            "type": lesion.type,
            "colour": lesion.colour,
            "locked": lesion.locked,
            "visible": lesion.visible,
            "blood": lesion.is_blood,
            "ml": case.lesion_ml(lesion.id, model),
            "stops": marked.parameters(model, lesion.id).get("stops", []),
        }
        for lesion in marked.lesions
    ]


def reference_state(case: Case) -> dict[str, Any] | None:
    """The reference mask for the page, None where there is none."""
    mask = case.reference_zyx
    if mask is None:
        return None
    slices = map(int, np.flatnonzero(mask.any(axis=(1, 2))))
    return {"slices": {str(k): runs(mask[k]) for k in slices}}


def scan_state(case: Case, volume: CTVolume, voxels: Path | None) -> dict[str, Any]:
    """What the browser needs to show a scan; without ``voxels`` it has them."""
    depth, rows, columns = volume.shape_zyx
    return {
        "voxels": None if voxels is None else str(voxels),
        "shape": [depth, rows, columns],
        "spacing": [round(float(mm), 4) for mm in volume.spacing_mm],
        "name": volume.name,
        "record": {
            "schema_version": SCHEMA_VERSION,
            "scan": scan_record(volume),
            "versions": versions(),
            "notice": NOTICE,
        },
        "warnings": list(volume.warnings),
        "notes": list(volume.notes),
        "even": volume.geometry.is_even,
        "tilted": volume.geometry.is_tilted,
        "sample": case.is_sample,
        "study": _study_state(case),
        "dicom": volume.dicom is not None,
        "archive": case.upload is not None and bool(case.upload.study_uid),
        "series": [] if case.study_row else [*series_state(volume.series), *_archived(case)],
    }


def _study_state(case: Case) -> dict[str, Any] | None:
    """Which row of the operator's study the scan is: its key, and its number; None for any other scan."""
    row = case.study_row
    return None if row is None else {"key": row.key, "number": row.entry.number}


def _archived(case: Case) -> list[dict[str, Any]]:
    """The other series of a scan's study in the archive, each with the operation that opens it by its key."""
    if case.upload is None:
        return []
    op = {"op": "archive", "wanted": case.upload.study_uid}
    return [{**one, "op": op} for one in series_state(case.upload.others)]


def series_state(found: Iterable[SeriesInfo]) -> list[dict[str, Any]]:
    """DICOM series for the page's chooser, those that cannot be opened with the reason."""
    return [
        {
            "key": one.key,
            "number": one.number,
            "label": one.label,
            "slices": one.slices,
            "refusal": one.refusal,
        }
        for one in found
    ]


def runs(mask_yx: BoolArray) -> list[int]:
    """A mask as the flat indices, row by row, at which it turns on and off by turns.

    >>> runs(np.array([[0, 1, 1], [0, 0, 1]], dtype=bool))
    [1, 3, 5, 6]
    """
    flat = np.concatenate([[0], mask_yx.ravel().astype(np.int8), [0]])
    indices: list[int] = np.flatnonzero(np.diff(flat)).tolist()
    return indices
