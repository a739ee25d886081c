"""How much like the prompted blood a mask has to look, chosen for each part of a run on its other parts."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from ichseg.methods.follow_rule import Rule
from train.scores.propagation import EVERY_SLICE, Row

#: The least likenesses that are tried.
LIKENESSES = (0.0, 0.1, 0.2, 0.3, 0.4, 0.5)


def rules_tried() -> tuple[Rule, ...]:
    """The rules that are measured side by side: the thresholds alone, and each least likeness."""
    return tuple(Rule(least_likeness=least) for least in (None, *LIKENESSES))


def best_likeness(rows: Sequence[Row]) -> str:
    """Of the least likenesses that were tried, the one by which one box has the best mean Dice; the lower of equals."""
    dice_of: dict[str, list[float]] = {}
    for row in rows:
        if row.way == "one box" and not row.refinement and row.least_likeness:
            dice_of.setdefault(row.least_likeness, []).append(row.dice)
    return max(sorted(dice_of), key=lambda tried: float(np.mean(dice_of[tried])))


def likeness_by_part(rows: Sequence[Row]) -> dict[str, str]:
    """For each part the best of the other parts' patients: those to be scored have no say in their own rule."""
    parts = sorted({row.part for row in rows})
    return {part: best_likeness([row for row in rows if row.part != part]) for part in parts}


def by_likeness(rows: Sequence[Row], likeness: Mapping[str, str]) -> list[Row]:
    """The rows by the rule with this least likeness, by part, and those of a box on every slice."""
    return [
        row for row in rows if row.way == EVERY_SLICE or row.least_likeness == likeness[row.part]
    ]
