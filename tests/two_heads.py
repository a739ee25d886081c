"""A small head with a skull and a clot, scanned on any geometry: baseline and follow-up with known motion and blood."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
from scipy.spatial.transform import Rotation

from ichseg.arrays import BoolArray, Float
from ichseg.scan.geometry import Geometry
from ichseg.scan.volume import CTVolume
from tests.phantoms import geometry

SIZE, PIXEL_MM = 100, 2.2
CLOT_MM = np.array([-24.0, 4.0, 12.0])


def head_at(p: Float, lengths: tuple[float, float, float] = (1, 1, 1)) -> Float:
    """HU at points [n, 3] in the head's mm: a shell of bone that is wider behind, with petrous bones and a nose."""
    x, y, z = (p / np.array(lengths)).T
    wide = 66 - 0.12 * y
    radius = np.sqrt((x / wide) ** 2 + (y / 84) ** 2 + (np.where(z > 0, z / 78, z / 62)) ** 2)
    inner = (x / (wide - 7)) ** 2 + (y / 77) ** 2 + (np.where(z > 0, z / 71, z / 55)) ** 2
    hu = np.where(radius < 1, np.where(inner < 1, 35.0, 1000.0), -1000.0)
    petrous = (np.abs(x) - 34) ** 2 / 24**2 + (y + 15 + 0.4 * np.abs(x)) ** 2 / 8**2
    hu[(petrous + (z + 34) ** 2 / 9**2 < 1) & (inner < 1)] = 1000
    nose = (x - 2) ** 2 / 10**2 + (y - 78) ** 2 / 16**2 + (z + 30) ** 2 / 18**2
    hu[nose < 1] = 900
    return hu


def scanned(
    motion: Float,
    positions_mm: npt.ArrayLike,
    *,
    tilt_degrees: float = 0.0,
    lengths: tuple[float, float, float] = (1, 1, 1),
    clot_radius_mm: float = 0.0,
    seed: int = 0,
) -> tuple[CTVolume, BoolArray]:
    """The head moved by a 4 x 4 of its mm to the table's, with noise; and where its clot, a ball at CLOT_MM, is."""
    where = geometry(np.asarray(positions_mm, float).tolist(), (PIXEL_MM, PIXEL_MM), tilt_degrees)
    to_corner = -(SIZE - 1) / 2 * (where.y_step_mm + where.x_step_mm)
    where = Geometry(where.origins_mm + to_corner, where.y_step_mm, where.x_step_mm)
    shape = (len(where.origins_mm), SIZE, SIZE)
    back = np.linalg.inv(motion)
    p = where.to_mm(*np.indices(shape).reshape(3, -1)) @ back[:3, :3].T + back[:3, 3]
    hu = head_at(p, lengths)
    clot = np.linalg.norm(p - CLOT_MM, axis=1) < clot_radius_mm
    hu[clot] = 68
    noise = np.random.default_rng(seed).normal(0, 4, hu.shape) * (hu > -1000)
    volume = CTVolume(np.rint(hu + noise).astype(np.int16).reshape(shape), where, name="head")
    return volume, clot.reshape(shape)


def moved(degrees: tuple[float, float, float], shift_mm: tuple[float, float, float]) -> Float:
    """A motion of the head, 4 x 4."""
    motion = np.eye(4)
    motion[:3, :3] = Rotation.from_euler("xyz", degrees, degrees=True).as_matrix()
    motion[:3, 3] = shift_mm
    return motion


OWN, OTHER = moved((2, 0, 3), (1, -2, 0)), moved((8, -7, -12), (12, -9, 16))
#: From the follow-up's table to the baseline's.
MOTION = OWN @ np.linalg.inv(OTHER)


def baseline(clot_radius_mm: float = 16.0) -> tuple[CTVolume, BoolArray]:
    """The first scan, 5 mm slices, and its clot."""
    return scanned(OWN, np.arange(-55, 82, 5), clot_radius_mm=clot_radius_mm)


def followup(clot_radius_mm: float = 18.0) -> tuple[CTVolume, BoolArray]:
    """The second scan, turned and moved, tilted 3 mm slices that do not show all of the head, and its clot."""
    return scanned(
        OTHER,
        np.arange(-35, 75, 3),
        tilt_degrees=12,
        clot_radius_mm=clot_radius_mm,
        seed=1,
    )
