"""Whether a mask looks like the prompted blood: a linear discriminant in the embedding of the prompted slices.

The discriminant is fitted anew for each lesion: the cells of the embedding under the prompted mask against a ring of
cells around it. It is scaled to 1 in the mean of the mask and -1 in that of the ring, so that its mean under a mask on
another slice says on which side that mask is: this blood, or what surrounds it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy import ndimage

from ichseg.arrays import BoolArray
from ichseg.methods.frame import FloatArray, SliceFrame, Window

#: The ring is made of the cells that lie farther from the mask than the first and no farther than the second, in cells:
#: those that touch the mask may hold some of its blood.
RING_CELLS = (1.0, 5.0)
#: A discriminant wants as much blood as fills this share of a cell: less says too little of how this blood looks.
LEAST_CELLS = 0.5
#: How far the covariance is shrunk towards a scaled identity: there are fewer cells than channels.
SHRINKAGE = 0.5

_SHARE = Window(width=1, level=0.5)


@dataclass(frozen=True, eq=False)
class Cells:
    """The cells of one slice's embedding, and where on the slice they lie."""

    features: npt.NDArray[np.float16]
    """[rows, columns, channels], a square of cells that fills the frame."""
    frame: SliceFrame

    def share(self, mask_yx: BoolArray) -> FloatArray:
        """The share of each cell that a native mask [y, x] fills: float32 [rows, columns], 0 to 1."""
        rows, columns = self.features.shape[:2]
        image = self.frame.image(mask_yx, _SHARE)
        return np.asarray(
            image.reshape(rows, len(image) // rows, columns, -1).mean(axis=(1, 3)), np.float32
        )

    @property
    def seen(self) -> BoolArray:
        """The cells on which there is something of the slice, bool [rows, columns]: the others are padding."""
        side = self.frame.size / len(self.features)
        rows, columns = (np.arange(len(self.features)) * side < n for n in self.frame.content_yx)
        return np.asarray(rows[:, None] & columns)


@dataclass(frozen=True, eq=False)
class Discriminant:
    """A linear function of a cell's features: 1 in the mean of the prompted blood, -1 in that of what surrounds it."""

    weights: npt.NDArray[np.float64]
    """[channels]"""
    offset: float

    def mean_in(self, cells: Cells, mask_yx: BoolArray) -> float:
        """Its mean under a native mask [y, x], each cell by its share in the mask; NaN under an empty one."""
        share = cells.share(mask_yx)
        where = share > 0
        if not where.any():
            return float("nan")
        values = cells.features[where].astype(np.float64) @ self.weights + self.offset
        return float(np.average(values, weights=share[where]))


def ring_around(share: FloatArray) -> BoolArray:
    """The cells that surround a mask, bool, from the share of each cell that it fills."""
    touched = share > 0
    if not touched.any():
        return np.zeros(share.shape, dtype=bool)
    away = ndimage.distance_transform_edt(~touched)
    low, high = RING_CELLS
    return np.asarray((away > low) & (away <= high))


@dataclass(frozen=True, eq=False)
class Prompted:
    """A prompted slice, from which a discriminant learns."""

    cells: Cells
    mask_yx: BoolArray
    """[y, x], the prompted blood."""
    blood_yx: BoolArray
    """[y, x], that, what its box may have cut off, and other lesions' blood: the ring lies around it all."""


def discriminant_of(prompted: Sequence[Prompted]) -> Discriminant | None:
    """The discriminant of a lesion from its prompted slices, all of them together.

    None where they hold too few cells to tell (LEAST_CELLS), as with a speck.
    """
    blood, shares, around = [], [], []
    for one in prompted:
        cells, share = one.cells, one.cells.share(one.mask_yx)
        blood.append(cells.features[share > 0])
        shares.append(share[share > 0])
        around.append(cells.features[ring_around(cells.share(one.blood_yx)) & cells.seen])
    filled = sum(float(share.sum()) for share in shares)
    if filled < LEAST_CELLS or not any(map(len, around)):
        return None
    return fitted(np.concatenate(blood), np.concatenate(shares), np.concatenate(around))


def fitted(blood: npt.ArrayLike, shares: npt.ArrayLike, around: npt.ArrayLike) -> Discriminant:
    """Fisher's linear discriminant between two groups of cells, with a shrunk covariance.

    Args:
        blood: features of cells with blood [n, channels].
        shares: how much each of them counts [n], over 0: the share of the cell that is blood.
        around: features of the cells around it [m, channels].

    """
    inside, outside = (np.asarray(some, dtype=np.float64) for some in (blood, around))
    counts = np.asarray(shares, dtype=np.float64)
    mean_in, mean_out = np.average(inside, axis=0, weights=counts), outside.mean(axis=0)
    off_in, off_out = inside - mean_in, outside - mean_out
    scatter = (off_in * counts[:, None]).T @ off_in + off_out.T @ off_out
    covariance = scatter / (counts.sum() + len(outside))
    channels = len(covariance)
    shrunk = (1 - SHRINKAGE) * covariance
    # The least number keeps cells that are all alike, as on made-up slices, from having no covariance at all.
    spread = max(float(np.trace(covariance)) / channels, 1e-7)
    shrunk[np.diag_indices(channels)] += SHRINKAGE * spread
    direction = np.linalg.solve(shrunk, mean_in - mean_out)
    apart = float(direction @ (mean_in - mean_out))
    if apart <= 0:  # both groups are alike: nothing tells them apart
        return Discriminant(np.zeros(channels), 0.0)
    weights = 2 / apart * direction
    return Discriminant(weights, float(-weights @ (mean_in + mean_out) / 2))
