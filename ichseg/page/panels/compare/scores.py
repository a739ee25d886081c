"""How the methods shown agree, with each other and with a reference mask."""

from __future__ import annotations

import math
from typing import Any

from ichseg.measures import agreement
from ichseg.page.case import BoolArray, Case
from ichseg.page.sessions import Session
from ichseg.scan.volume import CTVolume


def scores(session: Session, case: Case, volume: CTVolume, k: int) -> dict[str, Any]:
    """How the methods shown agree with the first of them, and with the reference mask where there is one.

    By scope: slice k, the marked slices, and with a reference mask the whole scan. None for what has no value.
    """
    with session.lock:
        marked = case.segmentation.marked_slices()
        names = [
            name
            for name in dict.fromkeys(case.models)
            if not any((j, name) in case.failed for j in marked)
        ]
        masks = {name: case.segmentation.mask_zyx(name) for name in names}
        reference = case.reference_zyx
    scopes: list[tuple[str, list[int] | None]] = [("slice", [k]), ("marked", marked)]
    if reference is not None:
        scopes.append(("whole", None))
    return {
        "slice": k,
        "marked": len(marked),
        "first": names[0] if names else None,
        "scopes": [
            {
                "scope": scope,
                "rows": [
                    {
                        "model": name,
                        **_pair_score(masks[names[0]], mask, volume, slices),
                        **(
                            {}
                            if reference is None
                            else _reference_score(mask, reference, volume, slices)
                        ),
                    }
                    for name, mask in masks.items()
                ],
            }
            for scope, slices in scopes
        ],
    }


def _pair_score(
    first_zyx: BoolArray, mask_zyx: BoolArray, volume: CTVolume, slices: list[int] | None
) -> dict[str, Any]:
    """A mask's millilitres and its Dice with the first method's, on some slices or (None) all."""
    found = agreement.compare(mask_zyx, first_zyx, volume, slices)
    return {"ml": found.volume_ml, "with_first": _finite(found.dice)}


def _reference_score(
    mask_zyx: BoolArray, reference_zyx: BoolArray, volume: CTVolume, slices: list[int] | None
) -> dict[str, Any]:
    found = agreement.compare(mask_zyx, reference_zyx, volume, slices)
    return {
        "reference_ml": found.reference_ml,
        "dice": _finite(found.dice),
        "jaccard": _finite(found.jaccard),
        "surface_dice": _finite(found.surface_dice),
        "difference_ml": found.difference_ml,
        "difference_percent": _finite(found.difference_percent),
    }


def _finite(value: float) -> float | None:
    return value if math.isfinite(value) else None
