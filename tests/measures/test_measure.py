"""Millilitres against closed forms on any slices; lengths, surface, ABC/2; how sure."""

from __future__ import annotations

import json
import math
import time
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from typing import Any, ClassVar

import nibabel as nib
import numpy as np
import numpy.typing as npt
import phantoms
import pytest
import SimpleITK as sitk
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from scipy import ndimage

from ichseg.errors import InputError, VolumeError
from ichseg.files.nifti_mask import read_mask
from ichseg.marks.box import Box, box_from_mask
from ichseg.measures.abc2 import abc2
from ichseg.measures.agreement import dice
from ichseg.measures.assessment import measure
from ichseg.measures.fields import measures_record
from ichseg.measures.intensity import hu_histogram, hu_statistics
from ichseg.measures.landmarks import Landmarks
from ichseg.measures.lengths import Line, longest_in_3d, longest_in_plane
from ichseg.measures.surface import surface_area_mm2, surface_mesh
from ichseg.measures.volume import SliceRow, slice_table, volume_ml
from ichseg.methods.catalogue import load_predictor
from ichseg.methods.predictor import Predictor, SliceEmbedding, SliceMasks
from ichseg.sample import sample_paths
from ichseg.scan.read import read_volume
from ichseg.scan.volume import CTVolume
from tests.moved_boxes import volume_range

Mask = npt.NDArray[np.bool_]

# The GE HiSpeed series in small: 4 mm below, 7 mm above, a step between, the gantry tilted.
TWO_STACKS_MM = (0.0, 4.0, 8.0, 13.1, 20.1, 27.1)


def painted(volume: CTVolume, per_slice: list[int]) -> Mask:
    """A mask with so many pixels on each slice."""
    mask = np.zeros(volume.shape_zyx, dtype=bool)
    for mask_yx, count in zip(mask, per_slice, strict=True):
        mask_yx.ravel()[:count] = True
    return mask


def test_an_anisotropic_even_grid_is_voxel_count_times_voxel_volume() -> None:
    volume = phantoms.scan((0, 5, 10), spacing_yx_mm=(0.6, 0.4))
    mask = painted(volume, [10, 20, 5])
    assert volume_ml(mask, volume) == pytest.approx(35 * 0.6 * 0.4 * 5 / 1000, rel=1e-12)


def test_two_slices_of_an_even_grid_count_fully() -> None:
    volume = phantoms.scan((0, 3))
    assert volume_ml(painted(volume, [4, 4]), volume) == pytest.approx(8 * 0.25 * 3 / 1000)


@pytest.mark.parametrize("tilt_degrees", [-25.0, 18.5, 30.0])
def test_a_tilted_even_grid_is_the_determinant_of_its_affine(tilt_degrees: float) -> None:
    volume = phantoms.scan((0, 5, 10, 15), spacing_yx_mm=(0.5, 0.7), tilt_degrees=tilt_degrees)
    voxel_mm3 = abs(np.linalg.det(volume.geometry.affine[:3, :3]))
    # The table moves 5 mm; the slices, leaning, are nearer to each other than that.
    assert voxel_mm3 == pytest.approx(0.5 * 0.7 * 5 * math.cos(math.radians(tilt_degrees)))
    assert volume_ml(painted(volume, [7, 0, 9, 1]), volume) == pytest.approx(17 * voxel_mm3 / 1000)


def test_each_slice_of_an_uneven_series_counts_with_its_own_height() -> None:
    volume = phantoms.scan(TWO_STACKS_MM)
    heights_mm = [4.0, 4.0, (4 + 5.1) / 2, (5.1 + 7) / 2, 7.0, 7.0]
    counts = [10, 20, 30, 40, 50, 60]
    expected = sum(n * 0.25 * h for n, h in zip(counts, heights_mm, strict=True)) / 1000
    assert volume_ml(painted(volume, counts), volume) == pytest.approx(expected, rel=1e-12)


def test_a_tilted_uneven_series_shrinks_every_height_by_the_cosine() -> None:
    upright = phantoms.scan(TWO_STACKS_MM)
    leaning = phantoms.scan(TWO_STACKS_MM, tilt_degrees=18.5)
    mask = painted(upright, [1, 2, 3, 4, 5, 6])
    ratio = volume_ml(mask, leaning) / volume_ml(mask, upright)
    assert ratio == pytest.approx(math.cos(math.radians(18.5)), rel=1e-12)


@pytest.mark.parametrize("spacing_mm", [(1.0, 1.0, 1.0), (5.0, 0.45, 0.45), (2.5, 0.4, 0.7)])
def test_an_ellipsoid_is_four_thirds_pi_abc(spacing_mm: tuple[float, float, float]) -> None:
    radii_mm = (14.0, 11.0, 9.0)
    shape = tuple(math.ceil(32 / step) + 1 for step in spacing_mm)
    dz, dy, dx = spacing_mm
    volume = phantoms.scan([dz * k for k in range(shape[0])], shape[1:], (dy, dx))
    mask = phantoms.ellipsoid(shape, spacing_mm, (16.0, 16.0, 16.0), radii_mm)
    expected_ml = 4 / 3 * math.pi * math.prod(radii_mm) / 1000
    assert volume_ml(mask, volume) == pytest.approx(expected_ml, rel=0.02)


def test_a_full_mask_of_the_real_tilted_uneven_series(shared_data: Path) -> None:
    folder = shared_data / "ge-head-ct"
    volume = read_volume(folder)
    full = np.ones(volume.shape_zyx, dtype=bool)
    # Straight from the headers: origins along the normal, each gap split between its two slices.
    import pydicom

    headers = [
        pydicom.dcmread(p, stop_before_pixels=True) for p in folder.rglob("*") if is_dicom(p)
    ]
    rows, columns = (float(step) for step in headers[0].PixelSpacing)
    across, down = np.reshape(np.array(headers[0].ImageOrientationPatient, dtype=float), (2, 3))
    normal = np.cross(across, down)
    places = sorted(float(normal @ np.array(h.ImagePositionPatient, float)) for h in headers)
    gaps = [b - a for a, b in pairwise(places)]
    height_mm = sum(gaps) + (gaps[0] + gaps[-1]) / 2
    expected_ml = 512 * 512 * rows * columns * height_mm / 1000
    assert volume_ml(full, volume) == pytest.approx(expected_ml, rel=1e-6)
    assert volume_ml(full, volume) == pytest.approx(
        sum(r.volume_ml for r in slice_table(full, volume))
    )


def is_dicom(path: Path) -> bool:
    return path.is_file() and path.read_bytes()[128:132] == b"DICM"


def test_any_label_counts_and_none_is_nothing() -> None:
    volume = phantoms.scan((0, 5))
    labels = np.zeros(volume.shape_zyx, dtype=np.uint8)
    labels[0, 0, :3] = (1, 2, 255)
    assert volume_ml(labels, volume) == pytest.approx(3 * 0.25 * 5 / 1000)
    assert volume_ml(np.zeros_like(labels), volume) == 0.0


def test_the_table_has_a_row_for_each_slice_with_blood() -> None:
    volume = phantoms.scan((0, 4, 8, 15), spacing_yx_mm=(0.5, 0.4))
    rows = slice_table(painted(volume, [0, 10, 0, 20]), volume)
    assert [row.slice_index for row in rows] == [1, 3]
    assert rows[0] == SliceRow(1, pytest.approx(2.0), pytest.approx(4.0), pytest.approx(0.008))
    assert rows[1] == SliceRow(3, pytest.approx(4.0), pytest.approx(7.0), pytest.approx(0.028))


@settings(deadline=None)
@given(
    hnp.arrays(bool, (6, 3, 4)),
    st.lists(st.floats(0.5, 9.0), min_size=5, max_size=5),
    st.floats(-30, 30),
)
def test_the_table_adds_up_to_the_volume(mask: Mask, gaps: list[float], tilt: float) -> None:
    volume = phantoms.scan(np.cumsum([0.0, *gaps]).tolist(), (3, 4), tilt_degrees=tilt)
    assert sum(row.volume_ml for row in slice_table(mask, volume)) == pytest.approx(
        volume_ml(mask, volume), rel=1e-9, abs=1e-12
    )


def test_a_mask_of_another_shape_is_refused_in_one_sentence() -> None:
    volume = phantoms.scan()
    for measured in (volume_ml, slice_table, hu_statistics):
        with pytest.raises(VolumeError, match=r"\(4, 12, 16\); got \(4, 16, 12\); take"):
            measured(np.zeros((4, 16, 12)), volume)


def test_hu_statistics_of_four_voxels() -> None:
    volume = phantoms.scan()
    hu_zyx = volume.hu_zyx.copy()
    mask = painted(volume, [4, 0, 0, 0])
    hu_zyx[mask] = (50, 60, 60, 70)
    found = hu_statistics(mask, CTVolume(hu_zyx, volume.geometry, "phantom"))
    assert found is not None
    assert (found.voxels, found.mean, found.minimum, found.median, found.maximum) == (
        4,
        60,
        50,
        60,
        70,
    )
    assert found.sd == pytest.approx(math.sqrt(50))
    assert hu_statistics(np.zeros_like(mask), volume) is None


def test_dice_by_hand() -> None:
    a = np.array([[1, 1, 1, 0], [0, 0, 0, 0]])
    b = np.array([[0, 1, 1, 1], [1, 0, 0, 0]])
    assert dice(a, b) == pytest.approx(2 * 2 / (3 + 4))
    assert dice(a, a) == 1.0
    assert dice(a, np.zeros_like(a)) == 0.0
    assert math.isnan(dice(np.zeros_like(a), np.zeros_like(a)))
    with pytest.raises(VolumeError, match="one shape"):
        dice(a, b.T)


# Histogram and quartiles


def with_values(values: list[float]) -> CTVolume:
    """A scan whose first row on the first slice has these HU, and 0 elsewhere."""
    empty = phantoms.scan((0, 5), (4, 16), hu=0)
    hu_zyx = empty.hu_zyx.copy()
    hu_zyx[0, 0, : len(values)] = values
    return CTVolume(hu_zyx, empty.geometry, name="phantom")


def test_quartiles_and_histogram_by_hand() -> None:
    volume = with_values([-3, 0, 4, 5, 59, 60, 119, 120, 130])
    mask = painted(volume, [9, 0])
    found = hu_statistics(mask, volume)
    assert found is not None
    assert (found.lower_quartile, found.median, found.upper_quartile) == (4, 59, 119)
    histogram = hu_histogram(mask, volume)
    assert (histogram.below, histogram.above) == (1, 2)
    counted = dict(zip(histogram.edges_hu, histogram.voxels, strict=False))
    assert {edge: n for edge, n in counted.items() if n} == {0: 2, 5: 1, 55: 1, 60: 1, 115: 1}
    assert sum(histogram.voxels) + histogram.below + histogram.above == 9


# Lengths


def spanned(volume: CTVolume, line: Line) -> float:
    """The length of a line between its drawn ends, through the slice's RAS positions."""
    geometry = volume.geometry
    step = (line.x1_px - line.x0_px) * geometry.x_step_mm
    return float(np.linalg.norm(step + (line.y1_px - line.y0_px) * geometry.y_step_mm))


@pytest.mark.parametrize("tilt_degrees", [0.0, 18.5])
def test_a_boxs_longest_lines_are_its_diagonals(tilt_degrees: float) -> None:
    volume = phantoms.scan((0, 5, 10, 15), (40, 50), (0.7, 0.4), tilt_degrees)
    mask = np.zeros(volume.shape_zyx, dtype=bool)
    mask[1:3, 5:25, 10:40] = True
    dy, dx = 20 * 0.7, 30 * 0.4
    line, span = longest_in_plane(mask, volume), longest_in_3d(mask, volume)
    assert line is not None and span is not None
    assert line.length_mm == pytest.approx(math.hypot(dy, dx))
    assert spanned(volume, line) == pytest.approx(line.length_mm)
    assert sorted([line.x0_px, line.x1_px]) == [10, 40]
    assert sorted([line.y0_px, line.y1_px]) == [5, 25]
    # Two slices, each 5 cos(tilt) high; the stack leans by 5 sin(tilt) a slice along y.
    tilt = math.radians(tilt_degrees)
    leaning_mm, height_mm = 5 * math.sin(tilt), 10 * math.cos(tilt)
    assert span.length_mm == pytest.approx(math.hypot(dy + leaning_mm, dx, height_mm))


@settings(deadline=None)
@given(
    mask=hnp.arrays(bool, (3, 6, 7)),
    spacing=st.tuples(st.floats(0.3, 2), st.floats(0.3, 2)),
    tilt_degrees=st.floats(-30, 30),
)
def test_the_longest_line_is_that_of_all_pairs_of_corners(
    mask: Mask, spacing: tuple[float, float], tilt_degrees: float
) -> None:
    volume = phantoms.scan((0, 4, 11), (6, 7), spacing, tilt_degrees)
    best = 0.0
    for mask_yx in mask:
        labels, count = ndimage.label(mask_yx, np.ones((3, 3)))
        for component in range(1, count + 1):
            y, x = np.nonzero(labels == component)
            ends = np.array(
                [(a + i, b + j) for a, b in zip(y, x, strict=True) for i in (0, 1) for j in (0, 1)]
            )
            apart = (ends[:, None] - ends) * spacing
            best = max(best, float(np.linalg.norm(apart, axis=2).max()))
    line = longest_in_plane(mask, volume)
    assert (0.0 if line is None else line.length_mm) == pytest.approx(best)


def test_a_length_never_spans_from_one_component_to_another() -> None:
    volume = phantoms.scan((0, 5), (20, 60))
    mask = np.zeros(volume.shape_zyx, dtype=bool)
    mask[0, 2:6, 2:8] = mask[0, 2:4, 50:52] = True
    line, span = longest_in_plane(mask, volume), longest_in_3d(mask, volume)
    assert line is not None and span is not None
    assert line.length_mm == pytest.approx(math.hypot(4 * 0.5, 6 * 0.5))
    assert span.length_mm == pytest.approx(math.hypot(2, 3, 5))
    assert (span.start_slice_index, span.end_slice_index) == (0, 0)


BALL_MM = 15.0


def ball(
    spacing_mm: tuple[float, float, float], radius_mm: float = BALL_MM
) -> tuple[Mask, CTVolume]:
    """A ball in the middle of a scan with this spacing."""
    return ellipsoid(spacing_mm, (radius_mm,) * 3)


def ellipsoid(
    spacing_mm: tuple[float, float, float], radii_mm: tuple[float, ...]
) -> tuple[Mask, CTVolume]:
    shape = tuple(
        math.ceil((2 * radius + 14) / step)
        for radius, step in zip(radii_mm, spacing_mm, strict=True)
    )
    centre = tuple((n - 1) * step / 2 for n, step in zip(shape, spacing_mm, strict=True))
    dz, dy, dx = spacing_mm
    volume = phantoms.scan([dz * k for k in range(shape[0])], shape[1:], (dy, dx))
    return phantoms.ellipsoid(shape, spacing_mm, centre, radii_mm), volume


@pytest.mark.parametrize("spacing_mm", [(1.0, 1.0, 1.0), (5.0, 0.5, 0.4), (2.5, 0.8, 0.4)])
def test_a_balls_longest_lines_are_its_diameter(spacing_mm: tuple[float, float, float]) -> None:
    mask, volume = ball(spacing_mm)
    line, span = longest_in_plane(mask, volume), longest_in_3d(mask, volume)
    assert line is not None and span is not None
    pixel_mm = math.hypot(*spacing_mm[1:])
    assert 2 * BALL_MM - spacing_mm[0] / 2 < line.length_mm < 2 * BALL_MM + pixel_mm
    assert 2 * BALL_MM - pixel_mm < span.length_mm < 2 * BALL_MM + math.hypot(*spacing_mm)


# Against SimpleITK


def itk_shape(mask: Mask, volume: CTVolume) -> sitk.LabelShapeStatisticsImageFilter:
    image = sitk.GetImageFromArray(mask.astype(np.uint8))
    dz, dy, dx = volume.spacing_mm
    image.SetSpacing((dx, dy, dz))
    shape = sitk.LabelShapeStatisticsImageFilter()
    shape.ComputeFeretDiameterOn()
    shape.Execute(image)
    return shape


@pytest.mark.parametrize("spacing_mm", [(1.0, 1.0, 1.0), (5.0, 0.5, 0.4)])
@pytest.mark.parametrize("radii_mm", [(12.0, 12.0, 12.0), (15.0, 9.0, 20.0)])
def test_simpleitk_finds_the_same_volume_diameter_and_surface(
    spacing_mm: tuple[float, float, float], radii_mm: tuple[float, float, float]
) -> None:
    mask, volume = ellipsoid(spacing_mm, radii_mm)
    shape = itk_shape(mask, volume)
    assert volume_ml(mask, volume) == pytest.approx(shape.GetPhysicalSize(1) / 1000, rel=1e-9)
    span = longest_in_3d(mask, volume)
    assert span is not None
    # Feret's diameter is between the centres of voxels, ours between their outer corners.
    feret = shape.GetFeretDiameter(1)
    assert feret < span.length_mm <= feret + math.hypot(*spacing_mm) + 1e-6
    # Its surface is Crofton's, from the number of times that lines cross the border.
    assert surface_area_mm2(mask, volume) == pytest.approx(shape.GetPerimeter(1), rel=0.1)


# Surface


@pytest.mark.parametrize("radius_mm", [8.0, 20.0])
@pytest.mark.parametrize(
    ("spacing_mm", "within"),
    [((1.0, 1.0, 1.0), 0.03), ((1.0, 0.45, 0.45), 0.03), ((5.0, 0.45, 0.45), 0.08)],
)
def test_a_balls_surface(
    radius_mm: float, spacing_mm: tuple[float, float, float], within: float
) -> None:
    mask, volume = ball(spacing_mm, radius_mm)
    assert surface_area_mm2(mask, volume) == pytest.approx(4 * math.pi * radius_mm**2, rel=within)


@pytest.mark.parametrize("tilt_degrees", [0.0, 20.0])
def test_the_surface_is_closed_and_holds_the_volume_on_uneven_and_tilted_slices(
    tilt_degrees: float,
) -> None:
    positions_mm = [0, 4, 8, 12, 16, 20, 25, 32, 39, 46, 53]
    volume = phantoms.scan(positions_mm, (100, 110), (0.5, 0.45), tilt_degrees)
    tilt = math.radians(tilt_degrees)
    z, y, x = np.meshgrid(positions_mm, np.arange(100) * 0.5, np.arange(110) * 0.45, indexing="ij")
    # A ball about a point of the leaning grid, by true distance.
    away = (z - 26) * math.sin(tilt) + (y - 25), (z - 26) * math.cos(tilt), x - 24
    mask = sum(part**2 for part in away) <= 16**2
    mesh = surface_mesh(mask, volume)
    assert mesh is not None
    points, faces = mesh
    edges = np.sort(np.concatenate([faces[:, [0, 1]], faces[:, [1, 2]], faces[:, [2, 0]]]), axis=1)
    assert set(np.unique(edges, axis=0, return_counts=True)[1]) == {2}, "every edge has two faces"
    corners = points[faces]
    held_ml = (
        abs(np.einsum("ij,ij->i", corners[:, 0], np.cross(corners[:, 1], corners[:, 2])).sum())
        / 6000
    )
    # Straight lines from outline to outline stay inside a ball.
    assert 0.92 * volume_ml(mask, volume) < held_ml < volume_ml(mask, volume)
    assert surface_area_mm2(mask, volume) == pytest.approx(4 * math.pi * 16**2, rel=0.08)


def test_one_voxel_has_a_surface_and_no_mask_has_none() -> None:
    volume = phantoms.scan((0, 5))
    mask = painted(volume, [0, 0])
    assert surface_area_mm2(mask, volume) == 0 and surface_mesh(mask, volume) is None
    mask[1, 4, 4] = True
    assert 0 < surface_area_mm2(mask, volume) < 2 * (0.25 + 2 * 0.5 * 5)


# ABC/2


def test_an_ellipsoids_abc2_is_its_axes_and_its_volume() -> None:
    radii_mm = (15.0, 9.0, 20.0)
    mask, volume = ellipsoid((2.5, 0.4, 0.5), radii_mm)
    found = abc2(mask, volume)
    assert found is not None
    assert found.a.length_mm == pytest.approx(40, abs=0.7)
    assert found.b.length_mm == pytest.approx(18, abs=0.7)
    assert found.angle_degrees == pytest.approx(90, abs=3)
    assert found.volume_ml == pytest.approx(
        found.a.length_mm * found.b.length_mm * found.c_mm / 2000
    )
    # Areas fall as 1 - (z / c)^2: over 75 % up to c / 2, over 25 % up to c sqrt(3) / 2, so C is 1.366 c, not 2 c.
    c_mm = 15 * (1 + (math.sqrt(3) - 1) / 2)
    assert found.c_mm == pytest.approx(c_mm, abs=2.5)
    truth_ml = 4 / 3 * math.pi * math.prod(radii_mm) / 1000
    assert found.volume_ml / truth_ml == pytest.approx(0.65, abs=0.1)
    for line in (found.a, found.b):
        assert line.slice_index == found.a.slice_index
        assert spanned(volume, line) == pytest.approx(line.length_mm)


def test_each_slice_counts_in_c_by_its_area_and_its_own_height() -> None:
    volume = phantoms.scan((0, 4, 8, 12, 19, 26), (40, 40))
    mask = painted(volume, [19, 20, 60, 61, 80, 0])  # 24, 25, 75 and 76 % of the largest
    found = abc2(mask, volume)
    assert found is not None
    assert [(one.weight, one.height_mm) for one in found.slices] == [
        (0.0, 4.0),
        (0.5, 4.0),
        (0.5, 4.0),
        (1.0, 5.5),
        (1.0, 7.0),
    ]
    assert found.c_mm == pytest.approx(0.5 * 4 + 0.5 * 4 + 5.5 + 7)
    assert found.a.slice_index == 4


def test_b_is_the_chord_at_right_angles_to_a_also_in_a_turned_component() -> None:
    volume = phantoms.scan((0, 5), (120, 120), (0.5, 0.5))
    y, x = np.mgrid[:120, :120]
    turn = math.radians(30)
    along = (x - 60) * math.cos(turn) + (y - 60) * math.sin(turn)
    beside = -(x - 60) * math.sin(turn) + (y - 60) * math.cos(turn)
    mask = np.zeros(volume.shape_zyx, dtype=bool)
    mask[0] = (along / 50) ** 2 + (beside / 20) ** 2 <= 1
    found = abc2(mask, volume)
    assert found is not None
    assert found.a.length_mm == pytest.approx(50, abs=0.8)
    assert found.b.length_mm == pytest.approx(20, abs=0.8)
    assert found.angle_degrees == pytest.approx(90, abs=0.01)
    tilted = math.degrees(math.atan2(found.a.y1_px - found.a.y0_px, found.a.x1_px - found.a.x0_px))
    assert tilted % 180 == pytest.approx(30, abs=2)


def test_moved_lines_and_a_given_c_take_the_place_of_what_is_found() -> None:
    mask, volume = ellipsoid((5.0, 0.5, 0.5), (15.0, 9.0, 20.0))
    found = abc2(mask, volume)
    assert found is not None and found.edited == ()
    rows, columns = volume.shape_zyx[1:]
    middle_y, middle_x = rows / 2, columns / 2
    edited = abc2(mask, volume, a_px=(middle_x - 30, middle_y, middle_x + 30, middle_y), c_mm=20)
    assert edited is not None and edited.edited == ("a", "c")
    assert edited.a.length_mm == pytest.approx(30)
    assert edited.b.length_mm == pytest.approx(18, abs=1), "B follows the new A"
    assert edited.volume_ml == pytest.approx(30 * edited.b.length_mm * 20 / 2000)
    both = abc2(mask, volume, b_px=(middle_x, middle_y - 5, middle_x + 5, middle_y + 5))
    assert both is not None and both.edited == ("b",)
    assert both.a == found.a and both.b.length_mm == pytest.approx(math.hypot(2.5, 5))
    leaning = math.atan2(found.a.y1_px - found.a.y0_px, found.a.x1_px - found.a.x0_px)
    between = math.degrees(math.atan2(10, 5) - leaning) % 180
    assert both.angle_degrees == pytest.approx(min(between, 180 - between))


@pytest.mark.parametrize(
    ("moved", "sentence"),
    [
        ({"a_px": (3, 3, 3, 3)}, "A runs between two points of the slice; got 3, 3 to 3, 3"),
        ({"a_px": (0, 3, 1e-200, 3)}, "A runs between two points of the slice; got 0, 3 to 1e-200"),
        ({"b_px": (3, math.nan, 3, 9)}, "B runs between two points of the slice; got 3, nan"),
        ({"c_mm": 0.0}, "C is a length of more than 0 mm; got 0"),
        ({"c_mm": math.inf}, "C is a length of more than 0 mm; got inf"),
    ],
)
def test_an_edit_that_is_no_line_is_refused(moved: dict[str, Any], sentence: str) -> None:
    mask, volume = ellipsoid((5.0, 0.5, 0.5), (15.0, 9.0, 20.0))
    with pytest.raises(InputError, match=sentence):
        abc2(mask, volume, **moved)


def test_nothing_has_no_abc2() -> None:
    volume = phantoms.scan()
    assert abc2(np.zeros(volume.shape_zyx), volume) is None


# All of it


def test_each_lesion_is_measured_by_itself_and_all_together() -> None:
    volume = phantoms.scan((0, 5, 10, 15), (30, 40))
    labels = np.zeros(volume.shape_zyx, dtype=np.uint8)
    labels[0:2, 3:9, 3:9] = 1
    labels[2, 9, 9] = 1  # touches the component below it at a corner
    labels[0, 20:22, 20:30] = 2
    labels[3, 20:22, 20:30] = 2
    whole, (first, second) = measure(labels, volume)
    assert (whole.label, first.label, second.label) == (None, 1, 2)
    assert whole.volume_ml == pytest.approx(first.volume_ml + second.volume_ml)
    assert (first.pieces, second.pieces, whole.pieces) == (1, 2, 3)
    assert second.largest_piece_ml == pytest.approx(20 * 0.25 * 5 / 1000)
    assert whole.abc2 is None and first.abc2 is not None and first.side is None
    assert [row.slice_index for row in second.slices] == [0, 3]
    assert json.loads(json.dumps(measures_record(whole), allow_nan=False))["voxels"] == 113
    one, lesions = measure(labels == 2, volume)
    assert replace(lesions[0], label=None) == one and one.abc2 == second.abc2


def test_an_empty_mask_measures_nothing() -> None:
    volume = phantoms.scan()
    whole, lesions = measure(np.zeros(volume.shape_zyx), volume)
    assert lesions == () and whole.hu is None and whole.abc2 is None
    assert (whole.volume_ml, whole.pieces, whole.surface_area_mm2) == (0, 0, 0)


def test_a_full_sized_scan_takes_less_than_smoothing_it_eight_times() -> None:
    scan, reference = (nib.load(path) for path in sample_paths())
    hu = np.asarray(scan.dataobj).transpose(2, 1, 0)[:, ::-1, ::-1]
    labels = np.asarray(reference.dataobj).transpose(2, 1, 0)[:, ::-1, ::-1]
    hu, labels = (np.concatenate([array, array[-10:]]) for array in (hu, labels))
    where = phantoms.geometry([5.0 * k for k in range(40)], (0.45, 0.45))
    volume = CTVolume(np.ascontiguousarray(hu), where, name="phantom")
    assert volume.shape_zyx == (40, 512, 512)
    surface_area_mm2(labels == 2, volume)  # imports the library
    begun = time.process_time()
    ndimage.gaussian_filter(volume.hu_zyx.astype(np.float32), 2)
    smoothed = time.process_time()
    measure(labels, volume, Landmarks(volume))
    assert time.process_time() - smoothed < 8 * (smoothed - begun)


# How sure


class Filling(Predictor):
    """A method whose mask is the box itself, so that its range has a closed form; it counts what is asked."""

    name = title = "filling"
    weights_sha256: ClassVar = {}

    def __init__(self) -> None:
        self.embedded, self.looks = 0, set[bool | None]()

    def embed(self, slice_hu: npt.ArrayLike) -> SliceEmbedding:
        self.embedded += 1
        return SliceEmbedding(np.asarray(slice_hu))

    def predict(
        self, embedding: SliceEmbedding, boxes: Any, *, second_look: bool | None = None
    ) -> SliceMasks:
        self.looks.add(second_look)
        masks = np.zeros((len(boxes), *embedding.shape_yx), dtype=bool)
        for mask, box in zip(masks, boxes, strict=True):
            mask[round(box.y0) : round(box.y1), round(box.x0) : round(box.x1)] = True
        return SliceMasks(masks, np.full(len(boxes), np.nan, np.float32))


def test_the_range_is_that_of_boxes_within_the_jitter() -> None:
    volume = phantoms.scan((0, 4, 11), (200, 200), (0.5, 0.25))
    boxes = {0: [Box(60, 60, 140, 100)], 2: [Box(60, 60, 140, 100), Box(60, 140, 100, 180)]}
    found = volume_range(Filling(), volume, boxes)
    exact_ml = sum((80 * 40 + (k == 2) * 40 * 40) * 0.125 * h / 1000 for k, h in ((0, 4), (2, 7)))
    # 3 mm are 12 pixels of 0.25 mm across and 6 pixels of 0.5 mm down.
    least, most = ((80 + 24 * s) * (40 + 12 * s) for s in (-1, 1))
    assert len(found.draws_ml) == 16
    assert found.low_ml == min(found.draws_ml) < exact_ml < max(found.draws_ml) == found.high_ml
    assert found.low_ml > (least * 4 + (least + 16 * 28) * 7) * 0.125 / 1000
    assert found.high_ml < (most * 4 + (most + 64 * 52) * 7) * 0.125 / 1000
    assert found.low_ml <= found.median_ml <= found.high_ml


def test_the_range_is_the_same_each_time_and_takes_embeddings_that_are_there() -> None:
    volume = phantoms.scan((0, 5), (100, 100))
    boxes = {0: [Box(20, 20, 60, 60)], 1: []}
    predictor = Filling()
    here = predictor.embed(volume.hu_zyx[0])
    once = volume_range(predictor, volume, boxes, embedding=lambda k: {0: here}[k])
    assert predictor.embedded == 1 and predictor.looks == {False}
    assert volume_range(predictor, volume, boxes) == once
    assert volume_range(predictor, volume, boxes, seed=1) != once
    still = volume_range(predictor, volume, boxes, jitter_mm=0)
    assert still.low_ml == still.high_ml == pytest.approx(1600 * 0.25 * 5 / 1000)
    assert len(volume_range(predictor, volume, boxes, draws=3).draws_ml) == 3


def test_one_draw_moves_all_boxes_alike() -> None:
    """So that moves on many slices do not average out: ten slices have the range of one, times ten."""
    volume = phantoms.scan([5.0 * k for k in range(10)], (100, 100))
    one = volume_range(Filling(), volume, {0: [Box(20, 20, 60, 60)]})
    ten = volume_range(Filling(), volume, {k: [Box(20, 20, 60, 60)] for k in range(10)})
    assert ten.draws_ml == pytest.approx([10 * ml for ml in one.draws_ml])


@pytest.mark.slow
def test_the_sample_through_the_model_has_a_range_about_its_number() -> None:
    volume = read_volume(sample_paths()[0])
    reference = read_mask(sample_paths()[1], volume) == 1
    predictor = load_predictor("litemedsam")
    k = int(reference.sum(axis=(1, 2)).argmax())
    box = box_from_mask(reference[k])
    assert box is not None
    embedding = predictor.embed(volume.hu_zyx[k])
    found = volume_range(predictor, volume, {k: [box]}, embedding=lambda _: embedding)
    number_ml = predictor.predict(embedding, [box]).union.sum() * volume.voxel_volumes_ml[k]
    # The model without an adapter takes much or little of this clot, as the box falls.
    assert 0.5 * number_ml < found.low_ml < number_ml <= 1.05 * found.high_ml < 1.5 * number_ml
