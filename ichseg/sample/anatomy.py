"""What is where in the synthetic head: HU and blood at any point of it.

Head coordinates are MNI152 millimetres (RAS: x to the right, y to the front, z up), because the brain
comes from the MNI152 grey and white matter maps. Everything else (skull, face, sinuses, orbits, vessels,
blood) is drawn with distance functions: a point's signed distance in mm to a surface, negative inside,
turned into the share of the point that is covered. Points are float32 arrays [3, n].
"""

from __future__ import annotations

import gzip
from dataclasses import dataclass
from importlib.metadata import distribution
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

Floats = NDArray[np.float32]
Vector = tuple[float, float, float]

AIR, FAT, SKIN, MUSCLE, BONE, DIPLOE = -1000.0, -95.0, 25.0, 52.0, 1350.0, 550.0
CSF, WHITE, GREY, VESSEL, DURA = 8.0, 30.0, 37.0, 50.0, 62.0
ANATOMY_SEED = 152  # one head, however often it is scanned


# --- drawing with distances -----------------------------------------------------------------------


def cover(distance: Floats, width_mm: float = 0.7) -> Floats:
    """Share of a point that lies inside: 1 deep inside, 0 outside, linear over `width_mm`."""
    return np.clip(0.5 - distance / width_mm, 0.0, 1.0)


def paint(hu: Floats, share: Floats, value: float | Floats) -> None:
    """Let `value` cover `share` of each point of `hu`, in place."""
    hu += share * (value - hu)


def ellipsoid(p: Floats, centre: Vector, radii: Vector) -> Floats:
    """Approximate signed distance to an ellipsoid (exact on its surface)."""
    q = (p - np.float32(centre)[:, None]) / np.float32(radii)[:, None]
    length = np.sqrt((q * q).sum(0)) + 1e-6
    gradient = np.sqrt(((q / np.float32(radii)[:, None]) ** 2).sum(0)) + 1e-6
    return length * (length - 1.0) / gradient


def tube(p: Floats, path: list[Vector], radius: float, end_radius: float | None = None) -> Floats:
    """Signed distance to a tube along a polyline; the radius may change evenly along each piece."""
    last = radius if end_radius is None else end_radius
    best = np.full(p.shape[1], np.inf, np.float32)
    for start, stop in zip(path[:-1], path[1:], strict=True):
        a, ab = np.float32(start), np.float32(stop) - np.float32(start)
        t = np.clip(ab @ (p - a[:, None]) / (ab @ ab), 0.0, 1.0)
        gap = p - a[:, None] - ab[:, None] * t
        best = np.minimum(best, np.sqrt((gap * gap).sum(0)) - (radius + t * (last - radius)))
    return best


def blob(p: Floats, centre: Vector, widths: Vector) -> Floats:
    """A smooth bump: 1 at the centre, a Gaussian of these standard deviations around it."""
    q = (p - np.float32(centre)[:, None]) / np.float32(widths)[:, None]
    return np.exp(-0.5 * (q * q).sum(0))


def mirrored(p: Floats) -> Floats:
    """The points folded onto the right half, for structures that come in pairs."""
    return np.stack([np.abs(p[0]), p[1], p[2]])


@dataclass(frozen=True)
class Field:
    """Values on an even grid in head coordinates, read between grid points by linear interpolation."""

    values: Floats
    origin: Vector
    step_mm: float
    periodic: bool = False

    def at(self, p: Floats) -> Floats:
        index = (p - np.float32(self.origin)[:, None]) / np.float32(self.step_mm)
        mode = "grid-wrap" if self.periodic else "nearest"
        return ndimage.map_coordinates(self.values, index, order=1, mode=mode)


def noise(rng: np.random.Generator, correlation_mm: float, step_mm: float) -> Field:
    """Periodic smooth Gaussian noise of unit standard deviation."""
    values = ndimage.gaussian_filter(
        rng.standard_normal((96, 96, 96)), correlation_mm / step_mm, mode="wrap"
    )
    return Field((values / values.std()).astype(np.float32), (0, 0, 0), step_mm, periodic=True)


# --- the brain, from the MNI152 maps --------------------------------------------------------------


def read_map(name: str) -> tuple[Floats, Vector]:
    """An MNI152 map (`gm`, `wm` or `t1`) from the installed nilearn, as 0..1, and its origin in mm."""
    file = f"nilearn/datasets/data/mni_icbm152_{name}_tal_nlin_sym_09a_converted.nii.gz"
    raw = gzip.decompress(Path(str(distribution("nilearn").locate_file(file))).read_bytes())
    shape = np.frombuffer(raw, "<i2", 3, 42)
    srow = np.frombuffer(raw, "<f4", 12, 280).reshape(3, 4)
    start = int(np.frombuffer(raw, "<f4", 1, 108)[0])
    data = np.frombuffer(raw, np.uint8, int(shape.prod()), start).reshape(shape, order="F")
    return data.astype(np.float32) / 255.0, tuple(float(v) for v in srow[:, 3])


def signed_distance(mask: NDArray[np.bool_], step_mm: float) -> Floats:
    """Distance in mm to the edge of a mask, negative inside."""
    outside = ndimage.distance_transform_edt(~mask)
    inside = ndimage.distance_transform_edt(mask)
    return ((outside - inside) * step_mm).astype(np.float32)


def closed(mask: NDArray[np.bool_], radius: float) -> NDArray[np.bool_]:
    """Morphological closing with a ball, by distances (radius in grid steps)."""
    grown = ndimage.distance_transform_edt(~mask) <= radius
    return ndimage.distance_transform_edt(grown) > radius


class Brain:
    """The MNI152 brain on a grid wide enough for the head: tissue shares, ventricles, cranial cavity."""

    def __init__(self) -> None:
        (gm, origin), (wm, _), (t1, _) = read_map("gm"), read_map("wm"), read_map("t1")
        pad = ((22, 22), (16, 40), (28, 6))
        gm, wm, t1 = (np.pad(a, pad) for a in (gm, wm, t1))
        origin = tuple(o - b for o, (b, _) in zip(origin, pad, strict=True))
        x, y, z = (np.arange(n, dtype=np.float32) + o for n, o in zip(gm.shape, origin, strict=True))
        x, y, z = x[:, None, None], y[None, :, None], z[None, None, :]

        brain = t1 > 0
        # Sulci and fissures close over small gaps; the gaps of the skull base (petrous ridge,
        # sphenoid wings) stay open and are filled with bone.
        cavity = np.where(z > -16, closed(brain, 14), closed(brain, 6))
        cavity_mm = ndimage.gaussian_filter(signed_distance(cavity, 1.0), 1.2) - 1.6
        coarse = cavity_mm[::2, ::2, ::2] < 0
        hull_mm = ndimage.gaussian_filter(signed_distance(closed(coarse, 22), 2.0), 1.0)

        csf = np.where(brain, 1.0 - gm - wm, 1.0)
        ventricle = self._ventricles(csf * brain, np.abs(x), y, z)
        ventricle_mm = ndimage.gaussian_filter(signed_distance(ventricle, 1.0), 0.6)
        # The maps hold a thin false rim of grey matter where white matter meets a ventricle.
        thick = ndimage.grey_opening(gm, size=(4, 4, 4))
        gm = np.where((ventricle_mm < 5) & (ventricle_mm > -3), thick, gm)
        grey = gm / np.maximum(gm + wm, 0.05)

        def field(values: Floats, step: float = 1.0) -> Field:
            return Field(np.ascontiguousarray(values, np.float32), origin, step)

        self.csf, self.grey = field(csf), field(grey)
        self.ventricle_mm, self.cavity_mm = field(ventricle_mm), field(cavity_mm)
        self.hull_mm = field(hull_mm, 2.0)

    @staticmethod
    def _ventricles(csf: Floats, x: Floats, y: Floats, z: Floats) -> NDArray[np.bool_]:
        """The lateral, third and fourth ventricles: the fluid connected to seeds in generous boxes."""
        lateral = (x > 1) & (x < 26) & (y > -48) & (y < 40) & (z > 0) & (z < 32)
        horns = (x > 13) & (x < 42) & (y > -90) & (y < -22) & (z > -14) & (z < 24)
        horns &= y > -62 - (z - 2) * 2.0
        temporal = (x > 20) & (x < 42) & (y > -36) & (y < 0) & (z > -24) & (z < -4)
        third = (x < 4) & (y > -28) & (y < 6) & (z > -12) & (z < 10)
        fourth = (x < 12) & (y > -50) & (y < -28) & (z > -48) & (z < -18)
        fluid = (csf > 0.42) & (lateral | horns | temporal | third | fourth)
        labels, count = ndimage.label(fluid)
        sizes = np.bincount(labels.ravel(), minlength=count + 1)
        sizes[0] = 0
        return np.isin(labels, np.flatnonzero(sizes > 120))


# --- the blood ------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Hematoma:
    """A deep bleed of the left putamen and thalamus, in head coordinates; `scale` is its volume's."""

    scale: float = 1.0
    centre: Vector = (-28.0, -7.0, 6.0)
    radii: Vector = (15.5, 25.5, 21.0)

    @property
    def growth(self) -> float:
        return float(self.scale ** (1 / 3))

    def distance(self, p: Floats, rough: Field, fine: Field) -> Floats:
        """Signed distance in mm to the irregular surface of the clot."""
        centre = np.float32(self.centre)[:, None]
        p = centre + (p - centre) / np.float32(self.growth)
        c, r = self.centre, self.radii
        body = ellipsoid(p, c, r)
        front = ellipsoid(p, (c[0] + 2, c[1] + 15, c[2] - 1), (9, 12, 12))
        back = ellipsoid(p, (c[0] + 5, c[1] - 15, c[2] + 4), (10, 12, 11))
        side = ellipsoid(p, (c[0] - 7, c[1] - 4, c[2] + 3), (10, 14, 10))
        shape = np.minimum(np.minimum(body + 2.0, front), np.minimum(back, side))
        return (shape + 1.9 * rough.at(p) + 0.7 * fine.at(p)) * np.float32(self.growth)

    def push(self, p: Floats, room_mm: Floats) -> Floats:
        """Where the tissue now at `p` was before the bleed pushed it away (mass effect)."""
        away = p - np.float32(self.centre)[:, None]
        q = np.sqrt(((away / np.float32(self.radii)[:, None]) ** 2).sum(0)) + 1e-3
        length = np.sqrt((away * away).sum(0)) + 1e-3
        outside = np.maximum(length * (1 - self.growth / q), 0.0)
        shift = 5.5 * self.growth * np.exp(-outside / 22.0) * np.clip(q * 1.2, 0, 1)
        shift *= 1 - np.exp(-((np.maximum(room_mm, 0) / 14.0) ** 2))
        return p - away / length * shift


# --- the head -------------------------------------------------------------------------------------


class Head:
    """The whole synthetic head: ask it what is at any points."""

    def __init__(self, hematoma: Hematoma) -> None:
        rng = np.random.default_rng(ANATOMY_SEED)
        self.brain = Brain()
        self.hematoma = hematoma
        self.warp = [noise(rng, 26.0, 6.0) for _ in range(3)]
        self.slow, self.medium = noise(rng, 14.0, 4.0), noise(rng, 5.0, 1.6)
        self.fine, self.cells = noise(rng, 2.2, 1.0), noise(rng, 1.5, 0.7)

    def at(self, p: Floats, height: Floats) -> tuple[Floats, Floats, Floats]:
        """HU, IPH share and IVH share at points `p` [3, n]; `height` is mm against gravity."""
        p = p + 2.0 * np.stack([w.at(p) for w in self.warp])  # nobody is symmetric
        hull, cavity = self.brain.hull_mm.at(p), self.brain.cavity_mm.at(p)
        hu = np.full(p.shape[1], AIR, np.float32)
        near = hull < 60
        p, hull, cavity, height = p[:, near], hull[near], cavity[near], height[near]
        head = self._scalp(p, hull)
        low = p[2] < 12
        if low.any():
            head[low] = self._face(p[:, low], head[low], hull[low], cavity[low])
        self._skull(p, head, hull, cavity)
        if low.any():
            head[low] = self._air_spaces(p[:, low], head[low], hull[low], cavity[low])
        inside, iph, ivh = self._contents(p, cavity, height)
        paint(head, cover(cavity), inside)
        hu[near] = head
        blood = np.zeros((2, hu.size), np.float32)
        blood[:, near] = iph, ivh
        return hu, blood[0], blood[1]

    # --- outside the skull ---

    def _thickness(self, p: Floats) -> Floats:
        """Thickness of the calvarium in mm: thin at the temples, thick at the inion and glabella."""
        m = mirrored(p)
        return (
            6.3
            + 0.7 * self.slow.at(p)
            + 1.2 * blob(m, (0, 70, 20), (25, 30, 30))
            + 7.0 * blob(m, (0, -104, -24), (14, 25, 12))
            + 9.0 * blob(m, (0, 74, -16), (24, 25, 11))
            - 2.8 * blob(m, (72, 0, -8), (18, 34, 26))
        )

    def _scalp(self, p: Floats, hull: Floats) -> Floats:
        """Skin, fat and muscle around the skull, the face and the neck."""
        m = mirrored(p)
        skull = hull - self._thickness(p)
        temporalis = 9.0 * blob(m, (68, 14, -16), (22, 22, 26))
        skin = skull - 5.0 - 0.8 * self.slow.at(p + 40) - temporalis
        body = [
            ellipsoid(p, (0, 26, -62), (72, 56, 56)),
            ellipsoid(p, (0, -50, -92), (68, 66, 56)),
            tube(p, [(0, 82, -34), (0, 92, -50), (0, 106, -66)], 7.0, 12.0),
            ellipsoid(m, (33, 62, -37), (17, 16, 17)),
        ]
        for part in body:
            skin = np.minimum(skin, part + 0.8 * self.slow.at(p))
        hu = np.full(p.shape[1], AIR, np.float32)
        ear = np.abs(ellipsoid(m, (80, -30, -40), (9, 14, 26))) - 1.3
        ear = np.maximum(ear, m[0] * -1 + 76)
        paint(hu, cover(ear), SKIN)
        paint(hu, cover(skin), SKIN)
        paint(hu, cover(skin + 1.5), FAT + 8 * self.medium.at(p))
        fibres = MUSCLE + 5 * self.medium.at(p)
        muscle = np.maximum(skull - 0.5 - temporalis * 0.9, 3 - temporalis)
        galea = np.maximum(np.abs(skull - 1.4) - 0.7, skin + 1)
        paint(hu, cover(np.minimum(muscle, galea)), fibres)
        for centre, radii in (
            ((38, 12, -57), (13, 17, 11)),
            ((57, 25, -54), (7, 13, 24)),
            ((59, 22, -74), (8, 17, 20)),
            ((24, -84, -70), (19, 15, 22)),
            ((12, -98, -64), (11, 9, 16)),
            ((46, -72, -70), (14, 12, 20)),
            ((58, -46, -72), (8, 14, 22)),
            ((14, 6, -66), (16, 14, 14)),
        ):
            strand = ellipsoid(m, centre, radii) + 1.6 * self.medium.at(p)
            paint(hu, cover(np.maximum(strand, skin + 3)), fibres)
        return hu

    @staticmethod
    def _face_region(p: Floats) -> Floats:
        """Below and in front of the cranial base: negative where the vault's bone does not go."""
        roof = p[2] + 15.0 + 0.14 * (66 - p[1])
        back = 8.0 - p[1] - 0.9 * np.maximum(-40 - p[2], 0)
        return np.maximum(roof, back)

    @staticmethod
    def _orbit(m: Floats) -> Floats:
        return np.maximum(tube(m, [(14, 20, -30), (33, 60, -36)], 4.0, 19.5), m[1] - 62)

    def _face(self, p: Floats, hu: Floats, hull: Floats, cavity: Floats) -> Floats:
        """Orbits and facial bones (air comes later, over the bone)."""
        m = mirrored(p)
        bone = BONE - 350 + 200 * self.medium.at(p)
        orbit = self._orbit(m)
        walls = np.maximum(np.abs(orbit - 0.9) - 0.9, m[1] - 54 + 0.25 * np.maximum(m[0] - 20, 0))
        paint(hu, cover(walls), bone)
        for path, radius in (
            ([(62, -6, -50), (68, 14, -49), (62, 36, -50), (50, 47, -46)], 2.6),
            ([(50, 46, -50), (50, 47, -34), (46, 52, -20), (30, 64, -17), (12, 70, -20)], 3.6),
            ([(5, 72, -22), (6, 80, -38), (5, 86, -46)], 1.6),
            ([(42, 26, -30), (50, 46, -36)], 2.2),
            ([(52, -8, -50), (55, -5, -70)], 4.0),
            ([(18, 6, -50), (22, 8, -75)], 2.0),
        ):
            paint(hu, cover(tube(m, path, radius)), bone)
        return hu

    def _skull(self, p: Floats, hu: Floats, hull: Floats, cavity: Floats) -> None:
        """Inner table, diploe, outer table, and the bone of the base, in place."""
        thickness = self._thickness(p)
        face = self._face_region(p)
        vault = np.maximum(hull - thickness, -face)
        shell = cavity - (2.2 + 0.6 * self.slow.at(p))
        body = np.minimum(
            ellipsoid(p, (0, -2, -42), (24, 20, 18)), tube(p, [(0, -10, -34), (0, -24, -60)], 10.0)
        )
        bone = np.minimum(np.minimum(vault, shell), body)
        spongy = np.minimum(-bone, cavity) - (1.5 + 0.3 * self.medium.at(p))
        spongy = np.minimum(spongy, np.minimum(thickness - hull, np.maximum(cavity, hull)) - 1.6)
        value = np.full(p.shape[1], BONE, np.float32)
        paint(value, cover(-spongy, 1.2), DIPLOE + 130 * self.medium.at(p) + 90 * self.fine.at(p))
        paint(hu, cover(bone), value)

    def _air_spaces(self, p: Floats, hu: Floats, hull: Floats, cavity: Floats) -> Floats:
        """Sinuses, nasal cavity, mastoid cells, ear canals, and the orbits' contents."""
        m = mirrored(p)
        cells, bone = self.cells.at(p), np.float32(BONE - 300)
        soft = 45 + 5 * self.medium.at(p)

        # Orbit: fat, globe with lens, nerve and muscles.
        orbit = np.maximum(self._orbit(m) + 0.4, -(cavity - 2.0))
        paint(hu, cover(orbit), FAT)
        for path, radius in (
            ([(13, 24, -30), (31, 52, -37)], 2.0),
            ([(15, 26, -30), (43, 48, -36), (45, 58, -36)], 1.7),
            ([(12, 26, -30), (20, 46, -36), (22, 58, -36)], 1.7),
            ([(14, 26, -28), (32, 48, -24), (33, 60, -25)], 1.7),
            ([(14, 26, -33), (32, 48, -48), (33, 60, -48)], 1.7),
        ):
            paint(hu, cover(np.maximum(tube(m, path, radius), cavity * -1 + 1)), soft)
        globe = ellipsoid(m, (33, 63, -37), (12, 12, 12))
        paint(hu, cover(globe - 0.8), soft)
        paint(hu, cover(globe + 0.8), 12.0)
        paint(hu, cover(ellipsoid(m, (33, 71, -37), (4.6, 2.2, 4.6))), 75.0)

        # Nose, ethmoid, sphenoid, maxilla, frontal: bone around, air within, mucosa between.
        nasal = ellipsoid(p, (0, 48, -60), (15, 34, 20))
        ethmoid = ellipsoid(m, (5, 44, -38), (8.5, 22, 12))
        sphenoid = np.minimum(
            ellipsoid(m, (7, 10, -40), (8.5, 13, 9)) + 0.8 * self.slow.at(p), np.float32(99)
        )
        maxillary = ellipsoid(m, (27, 44, -64), (13, 17, 15)) + 1.2 * self.slow.at(p)
        for space in (nasal, ethmoid, maxillary):
            paint(hu, cover(np.maximum(np.abs(space - 0.5) - 0.7, p[1] - 78)), bone)
        paint(hu, cover(np.minimum(np.minimum(nasal, ethmoid), maxillary)), soft)
        air = np.maximum(nasal + 1.0, 2.6 - np.abs(np.abs(p[0] + 0.1 * (p[1] - 50)) - 7))
        air = np.minimum(air, np.maximum(nasal + 1, 1.2 - np.abs(m[0] - 2.6)))
        air = np.minimum(air, maxillary + 1.5)
        air = np.minimum(air, np.maximum(sphenoid, 0.7 - np.abs(p[0] - 1.5)))
        paint(hu, cover(air), AIR)
        comb = np.abs((p[1] + 3 * cells) % 9.0 - 4.5) - 0.6
        paint(hu, cover(np.maximum(ethmoid + 0.6, -np.minimum(comb, m[0] - 1.0))), AIR)
        paint(hu, cover(np.maximum(ethmoid, comb)), 300.0)
        thickness = self._thickness(p)
        frontal = np.maximum(np.abs(hull - thickness * 0.52) - (thickness * 0.5 - 2.2), m[0] - 23)
        frontal = np.maximum(frontal, np.abs(p[2] + 16 + 0.1 * m[0]) - 8 + 0.8 * self.slow.at(p))
        frontal = np.maximum(np.maximum(frontal, -(np.abs(p[0] - 2) - 0.8)), 40 - p[1])
        paint(hu, cover(frontal), AIR)

        # Ear: mastoid cells, canal, tympanic cavity; pharynx.
        mastoid = np.maximum(ellipsoid(m, (57, -36, -45), (12, 16, 18)), 2.5 - cavity)
        mastoid = np.maximum(mastoid, hull - thickness + 2.0)
        paint(hu, cover(np.maximum(mastoid, (0.1 - cells) * 1.8)), AIR)
        canal = tube(m, [(47, -22, -43), (62, -22, -43), (84, -24, -42)], 3.2)
        paint(hu, cover(np.maximum(canal, 2 - cavity)), AIR)
        tympanum = np.maximum(ellipsoid(m, (46, -23, -41), (4, 5, 6)), 2 - cavity)
        paint(hu, cover(np.maximum(tympanum, -cells - 0.6)), AIR)
        pharynx = ellipsoid(p, (0, 14, -66), (13, 12, 13))
        paint(hu, cover(pharynx), AIR)
        return hu

    # --- inside the skull ---

    def _contents(
        self, p: Floats, cavity: Floats, height: Floats
    ) -> tuple[Floats, Floats, Floats]:
        """HU inside the cranial cavity, and the shares of IPH and IVH there."""
        hu = np.full(p.shape[1], CSF, np.float32)
        iph, ivh = np.zeros_like(hu), np.zeros_like(hu)
        here = cavity < 2
        p, cavity, height = p[:, here], cavity[here], height[here]
        b = self.hematoma.push(p, -cavity)
        tissue = self._tissue(b, cavity)
        clot_mm = self.hematoma.distance(p, self.medium, self.fine)
        ventricle_mm = self.brain.ventricle_mm.at(b)
        self._oedema(tissue, p, clot_mm)
        self._vessels(tissue, p, b, cavity)
        ventricle = cover(ventricle_mm - 0.9, 1.6)
        paint(tissue, ventricle, CSF)
        self._calcium(tissue, b)

        clot = cover(clot_mm, 1.0) * cover(cavity + 1)
        density = 62.0 + 4.5 * self.slow.at(2 * p) + 3.0 * self.medium.at(p)
        density -= 9 * blob(p, (-31, -14, 3), (5, 4, 5)) + 4 * np.exp(-np.maximum(-clot_mm, 0) / 2)
        paint(tissue, clot, density)
        # In the ventricles blood sinks to the lowest part of the horns, and clots by the rupture.
        sunk = cover(height - self._level(p), 4.0)
        cast = cover(ellipsoid(p, (-13, -4, 19), (12, 20, 11)) + 2 * self.medium.at(p), 2.0)
        third = cover(ellipsoid(b, (0, -14, 0), (5, 14, 9)) + 2 * self.medium.at(p), 2.0)
        bled = ventricle * np.maximum(np.maximum(sunk, cast), third) * (1 - clot)
        paint(tissue, bled, 61.0 + 3 * self.medium.at(p))
        hu[here], iph[here], ivh[here] = tissue, clot, bled
        return hu, iph, ivh

    @staticmethod
    def _level(p: Floats) -> Floats:
        """Height in mm of the blood's surface in the horns: more has run to the side of the bleed."""
        return np.where(np.abs(p[0]) < 12, -999.0, np.where(p[0] < 0, -27.0, -36.0)).astype("f4")

    def _tissue(self, b: Floats, cavity: Floats) -> Floats:
        """Grey and white matter and the fluid of sulci and cisterns."""
        grey = self.brain.grey.at(b)
        grey = np.clip(0.5 + 1.25 * (grey - 0.5), 0, 1)
        hu = WHITE + (GREY - WHITE) * grey + 0.7 * self.slow.at(b)
        csf = self.brain.csf.at(b)
        csf = np.clip(1.55 * csf - 0.08, 0, 1)
        paint(hu, csf, CSF)
        return hu

    def _oedema(self, hu: Floats, p: Floats, clot_mm: Floats) -> None:
        reach = 3.2 + 1.2 * self.slow.at(p)
        share = 0.62 * np.exp(-((np.maximum(clot_mm, 0) / reach) ** 2))
        hu += share * np.minimum(18.0 - hu, 0)

    def _vessels(self, hu: Floats, p: Floats, b: Floats, cavity: Floats) -> None:
        """Falx, tentorium, venous sinuses and the arteries of the base, in place."""
        m = mirrored(p)
        depth = -cavity
        reach = np.where(p[1] > -10, 20.0, 42.0)
        falx = np.maximum(np.abs(p[0]) - 0.75, np.maximum(depth - reach, -6 - p[2]))
        paint(hu, cover(falx, 0.9), DURA)
        apex = np.interp(p[1], [-95, -80, -70, -60, -50], [-16, -12, -3, 4, 6]).astype("f4")
        tent = np.abs(p[2] - apex + 0.55 * m[0]) / 1.15 - 0.7
        notch = np.maximum(p[1] + 46 + 0 * m[0], 0) * 1.0
        tent = np.maximum(tent, np.maximum(notch, p[2] * 0 + m[0] - 60))
        paint(hu, 0.7 * cover(tent, 0.9), DURA)
        sagittal = np.maximum(np.abs(p[0]) - np.maximum(4.2 - 0.6 * depth, 0), depth - 7)
        sagittal = np.maximum(sagittal, np.where(p[1] > -40, 20 - p[2], -20 - p[2]))
        straight = tube(p, [(0, -44, 8), (0, -70, -2), (0, -96, -15)], 1.7)
        lateral = tube(m, [(3, -100, -17), (35, -88, -22), (56, -58, -30), (50, -42, -46)], 3.6)
        for vein in (sagittal, straight, np.maximum(lateral, depth - 7)):
            paint(hu, cover(vein), VESSEL + 6)
        for path, radius in (
            ([(0, -18, -54), (0.5, -13, -36), (0, -12, -22)], 1.7),
            ([(9, -2, -26), (10, 4, -18), (24, 4, -18), (38, 6, -14)], 1.5),
            ([(9, 6, -18), (2, 18, -14), (2, 30, -4), (2, 36, 6)], 1.1),
            ([(3, -12, -21), (16, -22, -18), (22, -34, -14)], 1.1),
            ([(1.5, -12, 14), (2, -30, 10), (0.5, -40, 8)], 1.0),
        ):
            paint(hu, 0.85 * cover(tube(mirrored(b), path, radius)), VESSEL)

    def _calcium(self, hu: Floats, b: Floats) -> None:
        """Calcified pineal gland and choroid plexus: common in adults, and a trap for thresholds."""
        pineal = ellipsoid(b, (0.4, -27, 1), (1.8, 2.2, 2.4)) + 0.4 * self.fine.at(b)
        paint(hu, cover(pineal), 170.0)
        for centre, radii, value in (
            ((25, -39, 7), (2.6, 3.6, 3.8), 230.0),
            ((-24, -40, 8), (2.0, 2.8, 3.0), 180.0),
        ):
            plexus = ellipsoid(b, centre, radii)
            paint(hu, cover(plexus - 1.6, 2.0), 42.0)
            paint(hu, cover(plexus + 0.8 * self.fine.at(b), 1.5), value)
