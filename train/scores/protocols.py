"""How a slice is prompted when it is scored.

Boxes come from the reference mask, which is an optimistic setting: the jittered protocols say how much it matters.
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
    boxes: Literal["slice", "component"]
    """One box per slice, around all blood, or one per connected component."""
    jitter_px: float = 0.0
    """Each side of a box moves by up to this many pixels at 512 x 512."""
    refinement: bool | None = None
    """As in Predictor.predict; None is the model's own setting."""
    edge: bool = False
    """Whether the edge at half height is drawn on the mask, as the page and the command line do by default; where the
    set gives no pixel spacing, CT_ICH_ASSUMED_PIXEL_MM stands for it."""


PROTOCOLS = {
    protocol.name: protocol
    for protocol in (
        Protocol("slice", "slice"),
        Protocol("component", "component"),
        Protocol("slice jitter 5", "slice", jitter_px=5),
        Protocol("slice jitter 10", "slice", jitter_px=10),
        Protocol("component jitter 5", "component", jitter_px=5),
        Protocol("component jitter 10", "component", jitter_px=10),
        Protocol("slice unrefined", "slice", refinement=False),
        Protocol("component unrefined", "component", refinement=False),
        Protocol("slice edge", "slice", edge=True),
        Protocol("component edge", "component", edge=True),
    )
}


#: What the names say, for the foot of a table.
PROTOCOLS_TEXT = (
    "*slice*: one box per slice, around all blood; *component*: one box per connected component; *jitter N*: each side "
    "of a box moved by up to N pixels at 512 x 512; *unrefined*: without refinement; *edge*: with the edge at half "
    "height."
)


def prompt_boxes(item: NativeSlice, protocol: Protocol, seed: int) -> list[Box]:
    """The boxes that a protocol gives for a slice."""
    boxes = [item.slice_box] if protocol.boxes == "slice" else list(item.component_boxes)
    if not protocol.jitter_px:
        return boxes
    rows, columns = item.slice_hu.shape
    extent = protocol.jitter_px * max(rows, columns) / REFERENCE_SIDE
    rng = np.random.default_rng([seed, *item.scan_id.encode(), item.slice_index])
    return [jitter(box, extent, rng, (rows, columns)) for box in boxes]


def current_name(name: str) -> str:
    """A protocol's name as it is today, from one that was kept before 0.2.0.

    >>> current_name("piece jitter 10"), current_name("slice instant")
    ('component jitter 10', 'slice unrefined')
    """
    return name.replace("piece", "component").replace("instant", "unrefined")


def protocols_named(names: Iterable[str]) -> list[Protocol]:
    """The protocols of some names. Raises InputError for a name that is none of PROTOCOLS."""
    found = [(name, PROTOCOLS.get(current_name(name))) for name in names]
    if unknown := [name for name, protocol in found if protocol is None]:
        raise InputError(
            f"A protocol is one of {', '.join(PROTOCOLS)}; got '{min(unknown)}'; choose one of them."
        )
    return [protocol for _, protocol in found if protocol is not None]
