"""What every method measures on the phantoms, with tight and loose boxes, with and without the edge at half height.

A box goes around each connected component of the reference mask on every slice, as many pixels wider on each side as it
is loose. A method's masks are kept under an identity of all that made them, so that scoring goes on where it stopped;
the edge is drawn anew each time.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from ichseg.marks.box import Box, boxes_from_mask
from ichseg.marks.edge import half_height_edge
from ichseg.measures.agreement import dice
from ichseg.methods.predictor import Predictor
from ichseg.replace_file import replacing
from tools.phantom.design import Design
from tools.phantom.make import Phantom
from train.data.slices import keep_large

Masks = NDArray[np.bool_]

#: How many pixels a box lies off the blood on each side.
BOXES_PX = {"tight": 3, "loose": 8}
#: A component of the reference mask with fewer pixels gets no box: nobody would draw one.
LEAST_PX = 10


@dataclass(frozen=True)
class Measured:
    """One phantom by one method with one kind of box."""

    phantom: str
    kind: str
    method: str
    boxes: str
    edge: bool
    true_ml: float
    """The shares of all voxels together."""
    mask_ml: float
    """Of the reference mask: voxels that blood fills by half or more."""
    found_ml: float
    dice: float
    """With the reference mask."""

    @property
    def difference(self) -> float:
        """Found less true, as a share of the true volume."""
        return self.found_ml / self.true_ml - 1


def boxes_on(mask_yx: Masks, margin_px: int) -> list[Box]:
    """The boxes around the components of a slice's reference mask."""
    return boxes_from_mask(keep_large(mask_yx, LEAST_PX) > 0, margin_px)


def found_masks(method: Predictor, phantom: Phantom, kept: Path, margin_px: int) -> Masks:
    """A method's mask of a phantom [z, y, x] without an edge, from the file where it is kept if it is there."""
    if kept.exists():
        with np.load(kept) as held:
            shape = tuple(held["shape"])
            return (
                np.unpackbits(held["bits"], count=int(np.prod(shape))).reshape(shape).astype(bool)
            )
    out = np.zeros(phantom.hu_zyx.shape, dtype=bool)
    for k, reference in enumerate(phantom.mask_zyx):
        if boxes := boxes_on(reference, margin_px):
            out[k] = method.predict(method.embed(phantom.hu_zyx[k]), boxes).union
    kept.parent.mkdir(parents=True, exist_ok=True)
    with replacing(kept) as part:
        np.savez_compressed(part, shape=np.array(out.shape), bits=np.packbits(out))
    return out


def made_by(method: Predictor) -> str:
    """What a method's own masks depend on: weights, settings and what computes them."""
    text = json.dumps(
        [dict(method.weights_sha256), dict(method.settings), method.computed_by], sort_keys=True
    )
    return hashlib.sha256(text.encode()).hexdigest()[:12]


def kept_path(out: Path, design: Design, method: str, made_by: str, margin_px: int) -> Path:
    """Where a method's mask of a phantom is kept: under a hash of the design, of the method and of the box."""
    text = json.dumps([design.identity, method, made_by, margin_px])
    key = hashlib.sha256(text.encode()).hexdigest()[:12]
    return out / "masks" / method / f"{design.name}-{margin_px}px-{key}.npz"


def measured(
    phantom: Phantom, design: Design, method: str, boxes: str, found: Masks
) -> Iterator[Measured]:
    """A mask's rows, without and with the edge."""
    edged = found.copy()
    for k in np.flatnonzero(found.any(axis=(1, 2))):
        edged[k], _ = half_height_edge(found[k], phantom.hu_zyx[k], phantom.spacing_mm[1:])
    reference = phantom.mask_zyx
    for edge, mask in ((False, found), (True, edged)):
        yield Measured(
            phantom=design.name,
            kind=design.kind,
            method=method,
            boxes=boxes,
            edge=edge,
            true_ml=phantom.volume_ml,
            mask_ml=float(reference.sum()) * phantom.voxel_ml,
            found_ml=float(mask.sum()) * phantom.voxel_ml,
            dice=dice(mask, reference),
        )


def agreement(rows: Sequence[Measured]) -> tuple[float, float, float]:
    """(Bias, lower and upper 95 % limit of agreement) of the relative difference: mean and mean -+ 1.96 SD."""
    differences = np.array([row.difference for row in rows])
    spread = 1.96 * float(differences.std(ddof=1)) if len(rows) > 1 else float("nan")
    bias = float(differences.mean())
    return bias, bias - spread, bias + spread


def record(rows: Sequence[Measured]) -> list[dict[str, object]]:
    """Rows for a CSV."""
    return [asdict(row) for row in rows]
