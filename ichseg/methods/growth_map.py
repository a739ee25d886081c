"""Blood in both of two scans, only before and only now, on the grid of one of them: to be seen, not measured."""

from __future__ import annotations

import numpy as np

from ichseg.arrays import BoolArray, Labels
from ichseg.marks.lesion import Lesion

#: The parts by name, in the order of a legend: a number, what people call it, and its colour.
PARTS = {
    "both": Lesion(1, "in both", colour="#ffffff"),
    "gone": Lesion(2, "only before", colour="#56b4e9"),
    "fresh": Lesion(3, "only now", colour="#ff4d6d"),
}
#: The numbers of the parts that are seen through, for they lie around what is in both.
CLEAR = (PARTS["gone"].id, PARTS["fresh"].id)


def growth_map(before_zyx: BoolArray, now_zyx: BoolArray) -> Labels:
    """The numbers of PARTS, uint8 of the masks' shape, of blood before and now on one grid.

    >>> growth_map(np.array([True, True, False, False]), np.array([True, False, True, False])).tolist()
    [1, 2, 3, 0]
    """
    parts = [before_zyx & now_zyx, before_zyx, now_zyx]
    return np.select(parts, [one.id for one in PARTS.values()]).astype(np.uint8)
