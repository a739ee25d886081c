"""Where an example looks: crops around a box, and slices that are turned."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
from scipy import ndimage

from ichseg.marks.box import Box, box_from_mask
from train.data.cache import Slice
from train.data.slices import Labels


def random_crop(
    box: Box,
    shape_yx: tuple[int, int],
    sides: tuple[float, float],
    least_px: int,
    rng: np.random.Generator,
) -> Box:
    """A square of whole pixels that holds the box at a random place in it, on the slice as far as it can lie.

    At most as large as the slice's longer side, as in the predictor's refinement.
    """
    longest = max(box.width, box.height)
    side = int(np.ceil(min(max(rng.uniform(*sides) * longest, least_px), max(shape_yx))))
    starts = []
    for low, high, size in ((box.x0, box.x1, shape_yx[1]), (box.y0, box.y1, shape_yx[0])):
        first, last = int(np.ceil(high)) - side, int(np.floor(low))
        start = int(rng.integers(min(first, last), max(first, last) + 1))
        starts.append(min(max(start, 0), size - side) if side <= size else 0)
    return Box(starts[0], starts[1], starts[0] + side, starts[1] + side)


def moved(box: Box, origin: Box) -> Box:
    """A box in the coordinates of another's upper left corner."""
    return Box(box.x0 - origin.x0, box.y0 - origin.y0, box.x1 - origin.x0, box.y1 - origin.y0)


def turn(shape_yx: tuple[int, ...], degrees: float) -> tuple[npt.NDArray[np.float64], Any]:
    """The matrix and the offset, for a turn about the slice's centre, from turned to native (y, x)."""
    angle = np.deg2rad(degrees)
    matrix = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
    centre = (np.array(shape_yx) - 1) / 2
    return matrix, centre - matrix @ centre


def rotate(slice_hu: Slice, degrees: float, seen: Box) -> Slice:
    """The ``seen`` part of a slice turned about its centre, by linear interpolation; air comes in at the corners."""
    matrix, offset = turn(slice_hu.shape, degrees)
    turned: Slice = ndimage.affine_transform(
        slice_hu,
        matrix,
        offset + matrix @ (seen.y0, seen.x0),
        output_shape=(int(seen.height), int(seen.width)),
        order=1,
        cval=-100.0,
    )
    return turned


def rotate_labels(labels: Labels, degrees: float) -> Labels:
    """Labels turned about the slice's centre, by the nearest neighbour; only where they can land is looked at."""
    matrix, offset = turn(labels.shape, degrees)
    out = np.zeros_like(labels)
    held = box_from_mask(labels > 0)
    assert held is not None
    corners = np.array([[y, x] for y in (held.y0, held.y1) for x in (held.x0, held.x1)])
    landing = np.linalg.solve(matrix, (corners - offset).T).T  # native -> turned
    (y0, x0), (y1, x1) = landing.min(axis=0) - 1, landing.max(axis=0) + 1
    area = Box(np.floor(x0), np.floor(y0), np.ceil(x1), np.ceil(y1)).clip(
        (out.shape[0], out.shape[1])
    )
    if area.width <= 0 or area.height <= 0:
        return out
    out[area.slices()] = ndimage.affine_transform(
        labels,
        matrix,
        offset + matrix @ (area.y0, area.x0),
        output_shape=(int(area.height), int(area.width)),
        order=0,
    )
    return out
