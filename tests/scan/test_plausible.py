"""Warnings for voxels and heads that cannot be, and none for those that can."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import phantoms
import pytest

from ichseg.scan.geometry import Geometry
from ichseg.scan.plausible import doubts

SPACING_MM = (5.0, 2.0, 2.0)
SHAPE = (30, 128, 128)


@pytest.fixture(scope="module")
def head() -> npt.NDArray[np.int16]:
    """A skull 146 mm wide and 186 mm long that rises 80 mm from its widest slice, in air."""
    centre = (60.0, 128.0, 128.0)
    hu_zyx = np.full(SHAPE, -1000, dtype=np.int16)
    hu_zyx[phantoms.ellipsoid(SHAPE, SPACING_MM, centre, (80, 93, 73))] = 900
    hu_zyx[phantoms.ellipsoid(SHAPE, SPACING_MM, centre, (73, 86, 66))] = 35
    return hu_zyx


def grid(
    spacing_mm: tuple[float, float, float] = SPACING_MM,
    slices: int = SHAPE[0],
    origin: tuple[float, ...] = (10, 20, 30),
) -> Geometry:
    dz, dy, dx = spacing_mm
    affine = np.diag([-dx, -dy, dz, 1.0])
    affine[:3, 3] = origin
    return Geometry.from_affine(affine, slices)


def test_a_head_is_taken_as_it_is(head: npt.NDArray[np.int16]) -> None:
    assert doubts(head, grid()) == ()


@pytest.mark.parametrize(
    ("spacing_mm", "text"),
    [
        ((5.0, 0.9, 0.9), "66 mm wide and 84 mm long, under 90 mm"),
        ((5.0, 4.0, 4.0), "284 mm wide and 364 mm long, over 320 mm"),
        ((1.0, 2.0, 2.0), "would rise 17 mm"),
        ((15.0, 2.0, 2.0), "would rise 255 mm"),
        ((5.0, 2.0, 1.0), "1 x 2 mm, 5 mm apart, which no axial head CT has"),
    ],
)
def test_a_head_of_another_size_is_none(
    head: npt.NDArray[np.int16], spacing_mm: tuple[float, float, float], text: str
) -> None:
    (warning,) = doubts(head, grid(spacing_mm))
    assert text in warning


@pytest.mark.parametrize("spacing_mm", [SPACING_MM, (5.0, 0.9, 0.9), (1.0, 2.0, 2.0)])
@pytest.mark.parametrize(
    "part",
    [
        np.s_[:, 40:100, 40:90],  # through the skull on every side
        np.s_[:, :, :64],
        np.s_[24:],  # the vertex alone
        np.s_[26:],
        np.s_[:6],
        np.s_[10:16],
    ],
)
def test_what_cannot_be_judged_is_not(
    head: npt.NDArray[np.int16], part: tuple[slice, ...], spacing_mm: tuple[float, float, float]
) -> None:
    cut = head[part]
    assert doubts(cut, grid(spacing_mm, len(cut))) == ()


def test_neither_is_a_head_without_its_skull(head: npt.NDArray[np.int16]) -> None:
    stripped = np.where(head > 100, 0, np.maximum(head, 0)).astype(np.int16)
    windowed = np.clip(head, -20, 100).astype(np.int16)
    for hu_zyx in (stripped, windowed):
        assert doubts(hu_zyx, grid((5.0, 0.9, 0.9))) == ()


def test_shoulders_are_not_the_head(head: npt.NDArray[np.int16]) -> None:
    neck = np.full(SHAPE, -1000, dtype=np.int16)
    neck[:12, 60:70, 2:126] = 500  # 248 mm
    neck[12:, 60:70, 58:70] = 500
    together = np.concatenate([neck, head])
    assert doubts(together, grid((5.0, 2.0, 2.0), len(together))) == ()


@pytest.mark.parametrize("origin", [(0, 0, 0), (127, 127, 0), (63.5, 63.5, -14.5), (64, 64, -15)])
def test_unit_voxels_at_the_arrays_own_origin_are_a_default(
    head: npt.NDArray[np.int16], origin: tuple[float, ...]
) -> None:
    warning = doubts(head, grid((1.0, 1.0, 1.0), origin=origin))[0]
    assert "exactly 1 x 1 x 1 mm" in warning and "128 x 128 x 30 mm" in warning


def test_a_scan_that_was_resampled_to_1_mm_is_none(head: npt.NDArray[np.int16]) -> None:
    fine = np.repeat(np.repeat(np.repeat(head, 5, axis=0), 2, axis=1), 2, axis=2)
    assert doubts(fine, grid((1.0, 1.0, 1.0), len(fine), (117.3, 96.1, -54.0))) == ()


def test_slices_that_are_a_strip_are_no_slices() -> None:
    hu_zyx = np.zeros((128, 128, 30), dtype=np.int16)
    (warning,) = doubts(hu_zyx, grid((5.0, 0.9, 0.9), 128))
    assert "30 x 128 pixels" in warning and "axes" in warning
