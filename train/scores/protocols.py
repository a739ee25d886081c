"""How a slice is prompted when it is scored.

Boxes come from the truth, which is an optimistic setting: the jittered protocols say how much it matters.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal

import numpy as np

from ichseg.errors import InputError
from ichseg.marks.box import Box, jitter
from train.data.cache import REFERENCE_SIDE
from train.data.slices import NativeSlice


@dataclass(frozen=True)
class Protocol:
    """How a slice is prompted and scored."""

    name: str
    boxes: Literal["slice", "piece"]
    """One box around all blood, or one around each piece."""
    jitter_px: float = 0.0
    """Each side of a box moves by up to this many pixels at 512 x 512."""
    second_look: bool | None = None
    """As in Predictor.predict; None is the model's own setting."""
    edge: bool = False
    """Whether the edge at half height is drawn on the mask, as the page and the command line do by default; where the
    set gives no pixel spacing, CT_ICH_ASSUMED_PIXEL_MM stands for it."""


PROTOCOLS = {
    protocol.name: protocol
    for protocol in (
        Protocol("slice", "slice"),
        Protocol("piece", "piece"),
        Protocol("slice jitter 5", "slice", jitter_px=5),
        Protocol("slice jitter 10", "slice", jitter_px=10),
        Protocol("piece jitter 5", "piece", jitter_px=5),
        Protocol("piece jitter 10", "piece", jitter_px=10),
        Protocol("slice instant", "slice", second_look=False),
        Protocol("piece instant", "piece", second_look=False),
        Protocol("slice edge", "slice", edge=True),
        Protocol("piece edge", "piece", edge=True),
    )
}


def prompt_boxes(item: NativeSlice, protocol: Protocol, seed: int) -> list[Box]:
    """The boxes that a protocol gives for a slice."""
    boxes = [item.slice_box] if protocol.boxes == "slice" else list(item.piece_boxes)
    if not protocol.jitter_px:
        return boxes
    rows, columns = item.slice_hu.shape
    extent = protocol.jitter_px * max(rows, columns) / REFERENCE_SIDE
    rng = np.random.default_rng([seed, *item.scan_id.encode(), item.slice_index])
    return [jitter(box, extent, rng, (rows, columns)) for box in boxes]


def protocols_named(names: Iterable[str]) -> list[Protocol]:
    """The protocols of some names. Raises InputError for a name that is none of PROTOCOLS."""
    names = list(names)
    if unknown := set(names) - set(PROTOCOLS):
        raise InputError(
            f"A protocol is one of {', '.join(PROTOCOLS)}; got '{min(unknown)}'; choose one of them."
        )
    return [PROTOCOLS[name] for name in names]
