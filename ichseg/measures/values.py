"""What was measured of a mask: the subject that measures are taken of, and their values."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any

import numpy as np
from scipy import ndimage

from ichseg.measures.abc2 import ABC2
from ichseg.measures.intensity import HUHistogram, HUStatistics
from ichseg.measures.landmarks import InnerTable, Landmarks, Side
from ichseg.measures.lengths import TOUCHING, Floats, Line, Mask, Span, cropped
from ichseg.measures.spread import VolumeRange
from ichseg.measures.volume import SliceRow
from ichseg.scan.volume import CTVolume


@dataclass(frozen=True, eq=False)
class Subject:
    """What a measure is taken of.

    ``mask_zyx`` is bool [z, y, x] of the scan's shape: one lesion, or (``is_several``) several of them together.
    ``landmarks`` is None where the side and the distance to the skull were not asked for.
    """

    mask_zyx: Mask
    volume: CTVolume
    landmarks: Landmarks | None = None
    is_several: bool = False

    @cached_property
    def components_ml(self) -> Floats:
        """The volume of each connected component in mL; components are 26-connected in 3D."""
        cut, (lowest, _, _) = cropped(self.mask_zyx)
        labels, count = ndimage.label(cut, structure=TOUCHING) if cut.size else (cut, 0)
        found_ml = np.zeros(count + 1)
        for k, labels_yx in enumerate(labels, lowest):
            counts = np.bincount(labels_yx.ravel(), minlength=count + 1)
            found_ml += counts * self.volume.voxel_volumes_ml[k]
        return found_ml[1:]


@dataclass(frozen=True)
class Measures:
    """What there is to say of one lesion, or of all blood together (``label`` None).

    ``values`` holds a value for each row of ``FIELDS``, by its key; None where there is none. ``reasons`` says why, for
    the rows that do not know it themselves. The properties are those that other code reads.
    """

    label: int | None
    values: Mapping[str, Any]
    reasons: Mapping[str, str] = field(default_factory=dict)

    def with_value(self, key: str, value: Any, reason: str = "") -> Measures:
        """The same measures with another value of one row, and why it has none."""
        reasons = {**self.reasons, **({key: reason} if reason else {})}
        return replace(self, values={**self.values, key: value}, reasons=reasons)

    @property
    def voxels(self) -> int:
        """How many voxels it has."""
        return int(self.values["voxels"])

    @property
    def volume_ml(self) -> float:
        """Its volume."""
        return float(self.values["volume_ml"])

    @property
    def pieces(self) -> int:
        """How many connected components it has, 26-connected in 3D."""
        return int(self.values["pieces"])

    @property
    def largest_piece_ml(self) -> float:
        """The volume of the largest of them."""
        return float(self.values["largest_piece_ml"])

    @property
    def slices(self) -> tuple[SliceRow, ...]:
        """Its share on each slice, from foot to head."""
        return tuple(self.values["slices"])

    @property
    def longest_in_plane(self) -> Line | None:
        """Its longest line on a slice."""
        found: Line | None = self.values["longest_in_plane"]
        return found

    @property
    def longest_in_3d(self) -> Span | None:
        """Its longest line in 3D."""
        found: Span | None = self.values["longest_in_3d"]
        return found

    @property
    def abc2(self) -> ABC2 | None:
        """Its ABC/2; None for the whole of several lesions: add theirs."""
        found: ABC2 | None = self.values["abc2"]
        return found

    @property
    def surface_area_mm2(self) -> float:
        """The area of its surface."""
        return float(self.values["surface_area_mm2"])

    @property
    def hu(self) -> HUStatistics | None:
        """Its Hounsfield units."""
        found: HUStatistics | None = self.values["hu"]
        return found

    @property
    def histogram(self) -> HUHistogram:
        """How many of its voxels have which HU."""
        found: HUHistogram = self.values["histogram"]
        return found

    @property
    def side(self) -> Side | None:
        """Its side of the head, or why that is not given; None where it was not asked for."""
        found: Side | None = self.values["side"]
        return found

    @property
    def inner_table(self) -> InnerTable | None:
        """Its distance to the skull, or why that is not given; None where it was not asked for."""
        found: InnerTable | None = self.values["inner_table"]
        return found

    @property
    def range(self) -> VolumeRange | None:
        """Its volume under jittered boxes; None where that was not asked for."""
        found: VolumeRange | None = self.values.get("range")
        return found
