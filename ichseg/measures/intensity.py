"""Hounsfield units inside a mask: their statistics and their histogram."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from ichseg.measures.volume import in_mask
from ichseg.scan.volume import CTVolume


@dataclass(frozen=True)
class HUStatistics:
    """Hounsfield units inside a mask; the spread is the population's (divided by the voxel count)."""

    voxels: int
    mean: float
    sd: float
    minimum: float
    lower_quartile: float
    median: float
    upper_quartile: float
    maximum: float


def hu_statistics(mask_zyx: npt.ArrayLike, volume: CTVolume) -> HUStatistics | None:
    """HU statistics of the voxels of a mask [z, y, x], each voxel once; None for an empty mask."""
    values = volume.hu_zyx[in_mask(mask_zyx, volume)].astype(np.float64)
    if values.size == 0:
        return None
    lower, median, upper = (float(value) for value in np.percentile(values, (25, 50, 75)))
    return HUStatistics(
        voxels=values.size,
        mean=float(values.mean()),
        sd=float(values.std()),
        minimum=float(values.min()),
        lower_quartile=lower,
        median=median,
        upper_quartile=upper,
        maximum=float(values.max()),
    )


@dataclass(frozen=True)
class HUHistogram:
    """Voxels by HU: ``voxels[i]`` of them lie in edges_hu[i] <= HU < edges_hu[i + 1], others below or above all."""

    edges_hu: tuple[float, ...]
    voxels: tuple[int, ...]
    below: int
    above: int


#: Every 5 HU from water to beyond what clotted blood reaches, the same for every lesion, so that two compare.
HISTOGRAM_EDGES_HU = tuple(float(hu) for hu in range(0, 125, 5))


def hu_histogram(
    mask_zyx: npt.ArrayLike, volume: CTVolume, edges_hu: Sequence[float] = HISTOGRAM_EDGES_HU
) -> HUHistogram:
    """How many voxels of a mask [z, y, x] have which HU; ``edges_hu`` rises."""
    values = volume.hu_zyx[in_mask(mask_zyx, volume)]
    place = np.searchsorted(np.asarray(edges_hu, dtype=np.float64), values, side="right")
    counts = np.bincount(place, minlength=len(edges_hu) + 1)
    return HUHistogram(
        edges_hu=tuple(float(edge) for edge in edges_hu),
        voxels=tuple(int(count) for count in counts[1:-1]),
        below=int(counts[0]),
        above=int(counts[-1]),
    )
