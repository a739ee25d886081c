"""Everything that is measured of a labelled mask: of each lesion, and of all blood together."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt
from scipy import ndimage

from ichseg.measures.abc2 import ABC2, abc2
from ichseg.measures.intensity import HUHistogram, HUStatistics, hu_histogram, hu_statistics
from ichseg.measures.landmarks import InnerTable, Landmarks, Side
from ichseg.measures.lengths import (
    TOUCHING,
    Line,
    Mask,
    Span,
    cropped,
    longest_in_3d,
    longest_in_plane,
)
from ichseg.measures.surface import surface_area_mm2
from ichseg.measures.volume import SliceRow, in_mask, slice_table, volume_ml
from ichseg.scan.volume import CTVolume


@dataclass(frozen=True)
class Measures:
    """What there is to say of one lesion, or of all blood together (``label`` None); plain values for JSON.

    ``pieces`` are 26-connected in 3D. ``abc2`` is None for the whole of several lesions: add theirs. ``side`` and
    ``inner_table`` are None where they were not asked for, and otherwise give their number or say why there is none.
    """

    label: int | None
    voxels: int
    volume_ml: float
    pieces: int
    largest_piece_ml: float
    slices: tuple[SliceRow, ...]
    longest_in_plane: Line | None
    longest_in_3d: Span | None
    abc2: ABC2 | None
    surface_area_mm2: float
    hu: HUStatistics | None
    histogram: HUHistogram
    side: Side | None
    inner_table: InnerTable | None


def measure(
    labels_zyx: npt.ArrayLike, volume: CTVolume, landmarks: Landmarks | None = None
) -> tuple[Measures, tuple[Measures, ...]]:
    """Everything about a mask: all that is not 0 together, and each label by itself.

    Args:
        labels_zyx: [z, y, x] of the scan's shape, bool or whole numbers; each number but 0 is a lesion.
        volume: the scan.
        landmarks: ``Landmarks(volume)``, to have the side and the distance to the skull too; made once for a scan.

    """
    labels = np.asarray(labels_zyx)
    in_any = in_mask(labels, volume)
    values = np.unique(labels[in_any])
    lesions = tuple(_measures(labels == value, volume, landmarks, int(value)) for value in values)
    whole = (
        replace(lesions[0], label=None)
        if len(lesions) == 1
        else replace(_measures(in_any, volume, landmarks, None), abc2=None)
    )
    return whole, lesions


def _measures(
    mask: Mask, volume: CTVolume, landmarks: Landmarks | None, label: int | None
) -> Measures:
    cut, (lowest, _, _) = cropped(mask)
    labels, pieces = ndimage.label(cut, structure=TOUCHING) if cut.size else (cut, 0)
    pieces_ml = np.zeros(pieces + 1)
    for k, labels_yx in enumerate(labels, lowest):
        counts = np.bincount(labels_yx.ravel(), minlength=pieces + 1)
        pieces_ml += counts * volume.voxel_volumes_ml[k]
    return Measures(
        label=label,
        voxels=int(np.count_nonzero(mask)),
        volume_ml=volume_ml(mask, volume),
        pieces=int(pieces),
        largest_piece_ml=float(pieces_ml[1:].max(initial=0.0)),
        slices=tuple(slice_table(mask, volume)),
        longest_in_plane=longest_in_plane(mask, volume),
        longest_in_3d=longest_in_3d(mask, volume),
        abc2=abc2(mask, volume),
        surface_area_mm2=surface_area_mm2(mask, volume),
        hu=hu_statistics(mask, volume),
        histogram=hu_histogram(mask, volume),
        side=None if landmarks is None else landmarks.side(mask),
        inner_table=None if landmarks is None else landmarks.inner_table(mask),
    )
