"""The inner table of the skull as a surface: how far one scan's lies from another's."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy import ndimage

from ichseg.arrays import BoolArray, Float
from ichseg.scan.geometry import Geometry
from ichseg.scan.skull import intracranial
from ichseg.scan.volume import CTVolume

_PIXEL_MM = 1.0
_SLICE_MM = 2.4
"""Slices nearer to each other than this are left out: the skull does not change between them."""
_MOST_MM = 15.0


@dataclass(frozen=True)
class Match:
    """How far two inner tables lie apart, either from the other, where both are in view.

    ``median_mm`` and ``p90_mm`` are of all places; ``area_cm2`` is that of the smaller of the two parts; ``pixel_mm``
    that of the coarser of the two grids they were read on.
    """

    median_mm: float
    p90_mm: float
    area_cm2: float
    pixel_mm: float = 1.0


@dataclass(frozen=True, eq=False)
class InnerTable:
    """A scan's inner table: on each slice with a closed ring of bone, the signed distance from what it encloses.

    Attributes:
        geometry: of the slices that are held, and of their pixels of about 1 mm.
        signed_mm: float32 [z, y, x], negative inside; NaN on slices without a closed ring.

    """

    geometry: Geometry
    signed_mm: npt.NDArray[np.float32]

    @classmethod
    def of(cls, volume: CTVolume) -> InnerTable:
        """Find it on a scan."""
        where = volume.geometry
        positions, kept = where.slice_positions_mm, [0]
        for k in range(1, len(positions)):
            if positions[k] - positions[kept[-1]] >= _SLICE_MM:
                kept.append(k)
        steps = [max(1, round(_PIXEL_MM / mm)) for mm in where.spacing_yx_mm]
        small = Geometry(
            where.to_mm(kept, *([(step - 1) / 2] * len(kept) for step in steps)),
            where.y_step_mm * steps[0],
            where.x_step_mm * steps[1],
        )
        slices = [_signed_mm(volume.hu_zyx[k], steps, small.spacing_yx_mm) for k in kept]
        return cls(small, np.stack(slices))

    def match(self, other: InnerTable, motion: Float) -> Match | None:
        """How far another scan's lies from this one, None without overlap; ``motion`` 4 x 4 brings its mm to here."""
        back = np.asarray(np.linalg.inv(motion))
        found = [self._apart(other, motion), other._apart(self, back)]
        if not all(len(apart) for apart, _ in found):
            return None
        apart = np.concatenate([one for one, _ in found])
        return Match(
            float(np.median(apart)),
            float(np.percentile(apart, 90)),
            min(area for _, area in found),
            max(max(one.geometry.spacing_yx_mm) for one in (self, other)),
        )

    def _apart(self, other: InnerTable, motion: Float) -> tuple[Float, float]:
        """Distances in mm of another's places from this inner table, and the area in cm2 that they stand for."""
        points_mm, area_mm2 = other.places_mm()
        if not len(points_mm):
            return np.zeros(0), 0.0
        index = self.geometry.to_index(points_mm @ motion[:3, :3].T + motion[:3, 3]).T
        shape = np.array(self.signed_mm.shape)[:, None]
        inside = ((index >= 0) & (index <= shape - 1)).all(axis=0)
        index, area_mm2 = index[:, inside], area_mm2[inside]
        # Along the surface's own normal: on a slanting wall the distance within a slice is longer.
        value = self._read(self.signed_mm, index)
        slope = np.stack([self._read(part, index) for part in self._gradient()])
        length = np.clip(np.linalg.norm(slope, axis=0), 1.0, 4.0)
        held = np.isfinite(value) & np.isfinite(length)
        far = np.minimum(np.abs(value[held]) / length[held], _MOST_MM)
        return np.asarray(far, dtype=np.float64), float(area_mm2[held].sum()) / 100

    def _gradient(self) -> tuple[npt.NDArray[np.float32], ...]:
        positions = self.geometry.slice_positions_mm
        dy, dx = self.geometry.spacing_yx_mm
        if len(positions) < 2:
            zero = np.zeros_like(self.signed_mm)
            return zero, *np.gradient(self.signed_mm, dy, dx, axis=(1, 2))
        return tuple(
            np.gradient(
                self.signed_mm,
                positions,
                np.arange(self.signed_mm.shape[1]) * dy,
                np.arange(self.signed_mm.shape[2]) * dx,
            )
        )

    @staticmethod
    def _read(field: npt.NDArray[np.float32], index: Float) -> Float:
        return np.asarray(
            ndimage.map_coordinates(field, index, order=1, mode="nearest"), np.float64
        )

    def places_mm(self) -> tuple[Float, Float]:
        """Places on the inner table, RAS+ mm [n, 3], and the area in mm2 that each stands for [n]."""
        dy, dx = self.geometry.spacing_yx_mm
        heights = self.geometry.slice_heights_mm
        near = np.abs(self.signed_mm) <= max(dy, dx) / 2  # a line about one pixel wide
        z, y, x = np.nonzero(near)
        return self.geometry.to_mm(z, y, x), heights[z] * np.sqrt(dy * dx)


def _signed_mm(
    slice_hu: npt.NDArray[np.floating], steps: list[int], spacing_yx_mm: tuple[float, float]
) -> npt.NDArray[np.float32]:
    rows, columns = (size // step for size, step in zip(slice_hu.shape, steps, strict=True))
    inside = intracranial(slice_hu)[: rows * steps[0], : columns * steps[1]]
    # Calcium and clots of over 95 HU are no skull.
    inside = ndimage.binary_fill_holes(inside)
    if not inside.any():
        return np.full((rows, columns), np.nan, dtype=np.float32)
    coarse: BoolArray = (
        inside.reshape(rows, steps[0], columns, steps[1]).mean(axis=(1, 3), dtype=np.float32) >= 0.5
    )
    half = min(spacing_yx_mm) / 2
    out = ndimage.distance_transform_edt(~coarse, sampling=spacing_yx_mm)
    within = ndimage.distance_transform_edt(coarse, sampling=spacing_yx_mm)
    return np.where(coarse, half - within, out - half).astype(np.float32)
