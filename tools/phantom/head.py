"""What is where in the synthetic head: HU and blood at any point of it.

Head coordinates are MNI152 millimetres (RAS: x to the right, y to the front, z up), because the brain is
the MNI152 average's. Everything else is drawn over one another with signed distances (see `shapes`), in
the order of `Head.at`: scalp and face, skull, air, and last what is inside the skull. It has some 500 lines because all
of a head is drawn in one order, which is read best in one place.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from tools.phantom.brain import Brain
from tools.phantom.shapes import (
    Field,
    Floats,
    Path3D,
    Vector,
    blob,
    column,
    cover,
    ellipsoid,
    joined,
    mirrored,
    noise,
    paint,
    rounded,
    tube,
)

AIR, FAT, SKIN, MUSCLE, MUCOSA = -1000.0, -95.0, 50.0, 54.0, 45.0
COMPACT, SPONGY, THIN = 1350.0, 550.0, 800.0  # bone
CSF, WHITE, GREY, VESSEL, DURA, CLOT = 8.0, 29.0, 38.0, 52.0, 62.0, 66.0

ANATOMY_SEED = 152  # one head, however often it is scanned
FOLD_MM = 3.9  # standard deviation of the noise whose zeros are small sulci: about 17 mm apart

# Shapes that come in pairs are given for the right side (x > 0).
Ellipsoids = tuple[tuple[Vector, Vector], ...]  # centre, radii
Tubes = tuple[tuple[Path3D, float], ...]  # path, radius

MUSCLES: Ellipsoids = (
    ((38, 10, -58), (14, 17, 11)),  # lateral and medial pterygoid
    ((30, 8, -74), (8, 14, 14)),
    ((53, 26, -44), (9, 15, 24)),  # temporalis within the zygomatic arch, masseter
    ((60, 22, -74), (8, 19, 20)),
    ((20, -88, -62), (17, 14, 20)),  # neck
    ((12, -100, -58), (11, 8, 14)),
    ((46, -74, -66), (15, 12, 20)),
    ((59, -46, -70), (8, 14, 20)),
    ((14, -2, -70), (13, 9, 16)),  # before the spine
    ((33, 73, -37), (16, 6, 14)),  # eyelids
    ((0, 62, -80), (38, 24, 15)),  # palate and upper lip
    ((18, 80, -62), (8, 6, 12)),  # beside the nose
)
PAROTID: Ellipsoids = (((64, -8, -66), (8, 12, 15)),)
FACE_BONES: Ellipsoids = (
    ((45, 54, -50), (7, 6, 7)),  # cheek bone
    ((51, -8, -51), (9, 4.5, 4.5)),  # mandible: condyle, ramus, coronoid
    ((52, 2, -72), (3.2, 12, 20)),
    ((52, 24, -62), (2.5, 5, 13)),
)
FACE_STRUTS: Tubes = (
    (((62, -6, -50), (68, 14, -49), (64, 36, -50), (52, 49, -48)), 2.6),  # zygomatic arch
    (
        ((52, 48, -52), (50, 47, -34), (46, 53, -20), (30, 64, -17), (12, 70, -20)),
        2.8,
    ),  # orbit's rim
    (((52, 48, -50), (36, 62, -52), (20, 66, -50)), 3.2),
    (((42, 26, -30), (50, 46, -36)), 2.2),
    (((20, 10, -48), (22, 14, -80)), 2.0),  # pterygoid plates, styloid
    (((14, 8, -48), (13, 4, -80)), 1.2),
    (((45, -20, -52), (41, -12, -80)), 1.6),
)
EYE: Vector = (33, 63, -37)
EYE_MUSCLES: Tubes = (  # in a frame whose z is drawn together: upright sheets
    (((13, 24, -35), (31, 52, -36)), 2.2),  # the nerve
    (((15, 26, -35), (43, 48, -36), (45, 58, -36)), 1.9),
    (((12, 26, -35), (20, 46, -36), (22, 58, -36)), 1.9),
)
SELLA: Tubes = (
    (((8, -9, -27), (0, -10, -29), (0, -12, -38)), 1.6),  # dorsum, posterior and anterior clinoids
    (((20, 14, -25), (12, 4, -25)), 1.8),
)
ARTERIES: Tubes = (
    (((0, -18, -54), (0.5, -13, -36), (0, -12, -22)), 1.8),  # basilar
    (((9, -2, -26), (10, 4, -18), (24, 4, -18), (38, 6, -14)), 1.5),  # carotid, middle cerebral
    (((9, 6, -18), (2, 18, -14), (2, 30, -4), (2, 36, 6)), 1.1),  # anterior cerebral
    (((3, -12, -21), (16, -22, -18), (22, -34, -14)), 1.1),  # posterior cerebral
    (((1.5, -12, 14), (2, -30, 10), (0.5, -40, 8)), 1.0),  # internal cerebral veins
)


@dataclass(frozen=True)
class Hematoma:
    """A deep bleed of the left putamen and thalamus; `scale` multiplies its volume."""

    scale: float = 1.0
    centre: Vector = (-28.0, -7.0, 6.0)
    radii: Vector = (15.5, 25.5, 21.0)

    @property
    def growth(self) -> np.float32:
        """What `scale` makes of a length."""
        return np.float32(self.scale ** (1 / 3))

    def distance(self, p: Floats, rough: Field, fine: Field) -> Floats:
        """Signed distance to the clot's irregular surface."""
        centre = column(self.centre)
        p = centre + (p - centre) / self.growth
        x, y, z = self.centre
        shape = np.minimum.reduce(
            [
                ellipsoid(p, self.centre, self.radii) + 2.0,
                ellipsoid(p, (x + 2, y + 15, z - 1), (9, 12, 12)),
                ellipsoid(p, (x + 5, y - 15, z + 4), (10, 12, 11)),
                ellipsoid(p, (x - 7, y - 4, z + 3), (10, 14, 10)),
            ]
        )
        return (shape + 2.7 * rough.at(p) + 0.8 * fine.at(p)) * self.growth

    def before(self, p: Floats, room_mm: Floats) -> Floats:
        """Where the tissue now at `p` was before the bleed pushed it (mass effect; none at the skull)."""
        away = p - column(self.centre)
        q = np.sqrt(((away / column(self.radii)) ** 2).sum(0)) + 1e-3
        length = np.sqrt((away * away).sum(0)) + 1e-3
        outside = np.maximum(length * (1 - self.growth / q), 0.0)
        shift = 5.5 * self.growth * np.exp(-outside / 22.0) * np.clip(q * 1.2, 0, 1)
        shift *= 1 - np.exp(-((np.maximum(room_mm, 0) / 14.0) ** 2))
        return p - away / length * shift


class Texture:
    """The head's own randomness: smooth noise of several widths, the same in every scan."""

    def __init__(self) -> None:
        rng = np.random.default_rng(ANATOMY_SEED)
        self.warp = [noise(rng, 38.0, 9.0) for _ in range(3)]
        self.wide, self.slow = noise(rng, 30.0, 7.0), noise(rng, 14.0, 4.0)
        self.medium, self.folds = noise(rng, 5.0, 1.6), noise(rng, FOLD_MM, 1.4)
        self.fine, self.cells = noise(rng, 2.2, 1.0), noise(rng, 1.5, 0.7)


@dataclass(frozen=True)
class Place:
    """Points of the head, with what the drawing asks about them again and again."""

    p: Floats
    hull: Floats  # distance to the convex shape of the cranium
    cavity: Floats  # distance to the inner surface of the skull
    texture: Texture

    def where(self, chosen: NDArray[np.bool_]) -> Place:
        """Some of the points."""
        return Place(self.p[:, chosen], self.hull[chosen], self.cavity[chosen], self.texture)

    @cached_property
    def m(self) -> Floats:
        return mirrored(self.p)

    @cached_property
    def slow(self) -> Floats:
        return self.texture.slow.at(self.p)

    @cached_property
    def medium(self) -> Floats:
        return self.texture.medium.at(self.p)

    @cached_property
    def fine(self) -> Floats:
        return self.texture.fine.at(self.p)

    @cached_property
    def cells(self) -> Floats:
        return self.texture.cells.at(self.p)

    @cached_property
    def uneven(self) -> Floats:
        """The points moved about a little, so that simple shapes become grown ones."""
        medium, slow = self.texture.medium, self.texture.slow
        return self.p + 1.6 * np.stack(
            [medium.at(self.p + k) + slow.at(self.p + k) for k in (0, 31, 63)]
        )

    @cached_property
    def thickness(self) -> Floats:
        """Of the calvarium in mm: thin at the temples, thick at the inion and the glabella."""
        return (
            6.3
            + 0.6 * self.texture.wide.at(self.p)
            + 1.2 * blob(self.m, (0, 70, 20), (25, 30, 30))
            + 7.0 * blob(self.m, (0, -104, -24), (14, 25, 12))
            + 9.0 * blob(self.m, (0, 74, -16), (24, 25, 11))
            - 2.8 * blob(self.m, (72, 0, -8), (18, 34, 26))
        )

    @cached_property
    def nose(self) -> Floats:
        """Distance to the pyramid of bone and cartilage."""
        x, y, z = self.p
        ridge = 79 + 0.42 * np.maximum(-24 - z, 0)
        side = (np.abs(x) - 2.0 - 0.5 * (ridge - y)) / 1.12
        return rounded(side, y - ridge, z + 23, 60 - y, radius_mm=1.5)

    @cached_property
    def orbit(self) -> Floats:
        cone = tube(self.m, ((14, 20, -30), (33, 60, -36)), 4.0, 19.5)
        return np.maximum(cone, self.p[1] - 62)


class Head:
    """The whole synthetic head: ask it what is at any points."""

    def __init__(self, hematoma: Hematoma) -> None:
        self.brain, self.texture, self.hematoma = Brain(), Texture(), hematoma

    def at(self, p: Floats, height: Floats) -> tuple[Floats, Floats, Floats]:
        """HU, IPH share and IVH share at points `p` [3, n]; `height` is mm against gravity."""
        p = p + 1.8 * np.stack([w.at(p) for w in self.texture.warp])  # nobody is symmetric
        result = np.zeros((3, p.shape[1]), np.float32)
        result[0] = AIR
        hull = self.brain.hull_mm.at(p)
        near = hull < np.where(p[2] < 4, 45, 24)
        here = Place(p[:, near], hull[near], self.brain.cavity_mm(p[:, near]), self.texture)
        low = here.p[2] < 4
        face = here.where(low)

        hu = _scalp(here)
        below = hu[low]
        _muscles(face, below)
        _facial_bones(face, below)
        hu[low] = below
        _skull(here, hu)
        below = hu[low]
        _orbits(face, below)
        _nose_and_sinuses(face, below)
        _ears(face, below)
        hu[low] = below

        room = here.cavity < 2
        inside, iph, ivh = self._contents(here.where(room), height[near][room])
        share = cover(here.cavity[room])
        hu[room] += share * (inside - hu[room])
        drawn = np.zeros((3, hu.size), np.float32)
        drawn[0] = hu
        drawn[1:, room] = iph, ivh
        result[:, near] = drawn
        return result[0], result[1], result[2]

    # --- inside the skull ---

    def _contents(self, here: Place, height: Floats) -> tuple[Floats, Floats, Floats]:
        """HU inside the cranial cavity, and the shares of IPH and IVH there."""
        p = here.p
        b = self.hematoma.before(p, -here.cavity)
        clot_mm = self.hematoma.distance(p, self.texture.medium, self.texture.fine)
        hu = self._tissue(b, here.cavity)
        reach = 4.0 + 1.4 * here.slow
        oedema = 0.65 * np.exp(-((np.maximum(clot_mm, 0) / reach) ** 2))
        hu += oedema * np.minimum(17.0 - hu, 0)
        _membranes_and_vessels(here, b, hu)
        ventricle = cover(self.brain.ventricle_mm.at(b) - 0.9, 1.6)
        paint(hu, ventricle, CSF)
        self._calcium(b, hu)

        clot = cover(clot_mm, 1.0) * cover(here.cavity + 1)
        density = CLOT + 4.5 * self.texture.slow.at(2 * p) + 3.0 * here.medium
        density -= 9 * blob(p, (-31, -14, 3), (5, 4, 5)) + 4 * np.exp(-np.maximum(-clot_mm, 0) / 2)
        paint(hu, clot, density)
        bled = ventricle * self._in_ventricle(p, b, height, here.medium) * (1 - clot)
        paint(hu, bled, CLOT - 4 + 3 * here.medium)
        return hu, clot, bled

    @staticmethod
    def _in_ventricle(p: Floats, b: Floats, height: Floats, rough: Floats) -> Floats:
        """Where ventricles hold blood: level in the lowest part of the horns, clotted by the rupture."""
        # More has run to the side of the bleed; the third and fourth ventricle have no such pool.
        surface = np.where(np.abs(p[0]) < 12, -999.0, np.where(p[0] < 0, -27.0, -36.0))
        sunk = cover((height - surface).astype(np.float32), 4.0)
        cast = cover(ellipsoid(p, (-13, -4, 19), (12, 20, 11)) + 2 * rough, 2.0)
        third = cover(ellipsoid(b, (0, -14, 0), (5, 14, 9)) + 2 * rough, 2.0)
        return np.maximum(np.maximum(sunk, cast), third)

    def _tissue(self, b: Floats, cavity: Floats) -> Floats:
        """Grey and white matter and the fluid of sulci and cisterns."""
        sulcus = self._sulcus(b, cavity)
        grey = np.clip(0.5 + 2.2 * (self.brain.grey.at(b) - 0.5), 0, 1)
        grey = np.maximum(grey, cover(sulcus - 2.6, 1.5))
        hu = WHITE + (GREY - WHITE) * grey + 0.7 * self.texture.slow.at(b)
        paint(hu, np.clip(1.8 * self.brain.csf.at(b) - 0.2, 0, 1), CSF)
        paint(hu, cover(sulcus, 0.9), CSF)
        return hu

    def _sulcus(self, b: Floats, cavity: Floats) -> Floats:
        """Distance to small sulci, which an average brain has lost: zeros of noise on the convexity.

        The noise is read where the ray from the brain's middle meets a sphere, so that a sulcus runs
        down from the surface; the reading is moved about with depth, so that it winds.
        """
        away = b - column((0, -18, 12))
        length = np.sqrt((away * away).sum(0)) + 1e-3
        on_sphere = away / length * (62 + 0.15 * length)
        wind = np.stack([self.texture.medium.at(b + k) for k in (11, 47, 83)])
        across = np.abs(self.texture.folds.at(on_sphere + 1.3 * wind)) * (1.41 * FOLD_MM)
        depth = np.maximum(-cavity - 1.5, 0)
        floor = np.maximum(10.0 + 6.0 * self.texture.slow.at(on_sphere + 30), 1)
        half_width = 0.85 * np.clip(1.2 - depth / floor, 0, 1)
        below = np.maximum(depth - 1.2 * floor, 0)
        convexity = np.clip((b[2] + 20 + 0.35 * np.minimum(b[1] + 40, 0)) / 10, 0, 1)
        return np.hypot(across, below) - half_width + 9 * (1 - convexity)

    def _calcium(self, b: Floats, hu: Floats) -> None:
        """Calcified pineal gland and choroid plexus: common in adults, and a trap for thresholds."""
        fine = self.texture.fine.at(b)
        pineal = ellipsoid(b, (0.4, -27, 1), (1.8, 2.2, 2.4)) + 0.4 * fine
        paint(hu, cover(pineal), 170.0)
        for centre, radii, value in (
            ((25, -39, 7), (2.6, 3.6, 3.8), 230.0),
            ((-24, -40, 8), (2.0, 2.8, 3.0), 180.0),
        ):
            plexus = ellipsoid(b, centre, radii)
            paint(hu, cover(plexus - 1.6, 2.0), 42.0)
            paint(hu, cover(plexus + 0.8 * fine, 1.5), value)


def _membranes_and_vessels(here: Place, b: Floats, hu: Floats) -> None:
    """Falx, tentorium, venous sinuses and arteries, a bit denser than brain, in place."""
    _, y, z = here.p
    m, depth = here.m, -here.cavity
    falx = np.maximum(m[0] - 0.6, np.maximum(depth - np.where(y > -10, 20.0, 42.0), -6 - z))
    paint(hu, cover(falx, 0.9), DURA)
    apex = np.interp(y, [-95, -80, -70, -60, -50], [-16, -12, -3, 4, 6]).astype(np.float32)
    tent = np.abs(z - apex + 0.55 * m[0]) / 1.15 - 0.7
    tent = np.maximum(tent, np.maximum(y + 46, m[0] - 60))
    paint(hu, 0.7 * cover(tent, 0.9), DURA)
    sagittal = np.maximum(m[0] - np.maximum(4.2 - 0.6 * depth, 0), depth - 7)
    sagittal = np.maximum(sagittal, np.where(y > -40, 20.0, -20.0) - z)
    straight = tube(here.p, ((0, -44, 8), (0, -70, -2), (0, -96, -15)), 1.7)
    lateral = tube(m, ((3, -100, -17), (35, -88, -22), (56, -58, -30), (50, -42, -46)), 3.6)
    for vein in (sagittal, straight, np.maximum(lateral, depth - 7)):
        paint(hu, cover(vein.astype(np.float32)), VESSEL + 4)
    both = mirrored(b)
    for path, radius in ARTERIES:
        paint(hu, 0.85 * cover(tube(both, path, radius)), VESSEL)
    paint(hu, cover(ellipsoid(here.p, (0, 1, -31), (6, 6, 3))), MUCOSA)  # pituitary
    for path, radius in SELLA:
        paint(hu, cover(tube(m, path, radius)), THIN)


# --- outside the skull ----------------------------------------------------------------------------


def _scalp(here: Place) -> Floats:
    """HU of skin and fat around the skull, the face and the neck, and of the muscle on the skull."""
    p, m = here.p, here.m
    skull = here.hull - here.thickness
    temporalis = 9.0 * blob(m, (68, 14, -16), (22, 22, 26))
    skin = joined(
        skull - 5.5 - 0.7 * here.texture.wide.at(p + 40) - temporalis,
        ellipsoid(p, (0, 24, -62), (72, 56, 56)) + 0.6 * here.slow,
        ellipsoid(p, (0, -12, -60), (74, 50, 44)),
        ellipsoid(p, (0, -50, -92), (68, 66, 58)),
        ellipsoid(m, EYE, (18, 17.5, 17)),
        ellipsoid(m, (44, 52, -58), (17, 18, 20)) + 0.6 * here.slow,
        here.nose - 3.5,
        radius_mm=1.5,
    )
    hu = np.full(p.shape[1], AIR, np.float32)
    ear = np.abs(ellipsoid(m, (78, -30, -40), (10, 15, 27)) + here.slow) - 0.9 - 0.5 * here.medium
    concha = np.abs(ellipsoid(m, (76, -26, -42), (7, 8, 12)) + here.medium) - 1.0
    paint(hu, cover(np.maximum(np.minimum(ear, concha), 73 - m[0])), SKIN)
    paint(hu, cover(skin), SKIN)
    paint(hu, cover(skin + 2.3), FAT + 8 * here.medium)
    muscle = np.maximum(skull - 0.5 - temporalis * 0.9, 3 - temporalis)
    galea = np.maximum(np.abs(skull - 1.4) - 0.7, skin + 1)
    strands = 45 * np.clip(np.abs(here.fine) - 1.2, 0, 1)  # of fat between the fibres
    paint(hu, cover(np.minimum(muscle, galea)), MUSCLE + 5 * here.medium - strands)
    return hu


def _muscles(here: Place, hu: Floats) -> None:
    """Muscles and glands in the fat of face and neck, in place."""
    grown, fat = mirrored(here.uneven), np.abs(hu - FAT) < 40
    for shapes, value in ((MUSCLES, MUSCLE), (PAROTID, 18.0)):
        for centre, radii in shapes:
            strand = ellipsoid(grown, centre, radii) + 0.6 * here.fine
            paint(hu, cover(strand) * fat, value + 5 * here.medium)


def _facial_bones(here: Place, hu: Floats) -> None:
    """Walls of the orbits, cheek bones, mandible and the bones of the nose, in place."""
    bone = COMPACT - 450 + 250 * here.medium
    x, y, z = here.m
    walls = np.maximum(np.abs(here.orbit - 0.6) - 0.6, y - 54 + 0.25 * np.maximum(x - 20, 0))
    grown = mirrored(here.uneven)
    struts = [tube(grown, path, radius) for path, radius in FACE_STRUTS]
    solid = [ellipsoid(grown, centre, radii) for centre, radii in FACE_BONES]
    nose = np.maximum(np.abs(here.nose + 1.0) - 0.9, np.abs(z + 39) - 16)
    paint(hu, cover(walls), 0.6 * bone)
    for shape in (joined(*struts, *solid, radius_mm=0.7), nose):
        paint(hu, cover(shape), bone)


def _skull(here: Place, hu: Floats) -> None:
    """Inner table, diploe and outer table of the vault, and the bone of the base, in place."""
    p, m, thickness, cavity = here.p, here.m, here.thickness, here.cavity
    # Below and in front of the cranial base is the face: no vault there, only a shell of bone.
    roof = p[2] + 15.0 + 0.14 * (66 - p[1])
    back = 8.0 - p[1] - 0.9 * np.maximum(-40 - p[2], 0) + 5 * here.slow
    not_face = -rounded(roof, back, radius_mm=4.0)
    # At the temples the bone follows the brain, further back and up it fills what is between.
    filled = 4.0 + 40 * np.clip((-8 - p[1]) / 25, 0, 1) + 40 * np.clip(p[2] / 30, 0, 1)
    vault = rounded(here.hull - thickness, not_face, cavity - filled, radius_mm=1.5)
    bone = joined(
        vault,
        cavity - 2.2 - 0.6 * here.slow,
        ellipsoid(p, (0, 0, -44), (24, 20, 14)) + here.slow,  # sphenoid body, clivus
        tube(p, ((0, -12, -34), (0, -24, -60)), 9.0),
        ellipsoid(m, (54, -38, -48), (13, 17, 20)),  # mastoid
        radius_mm=1.0,
    )
    marrow = np.minimum(-bone, cavity) - (1.5 + 0.3 * here.medium)
    marrow = np.minimum(
        marrow, np.minimum(thickness - here.hull, np.maximum(cavity, here.hull)) - 1.6
    )
    value = np.full(p.shape[1], COMPACT, np.float32)
    paint(value, cover(-marrow, 1.2), SPONGY + 130 * here.medium + 90 * here.fine)
    paint(hu, cover(bone), value)


def _orbits(here: Place, hu: Floats) -> None:
    """Fat, globe with lens, nerve, muscles and gland of both orbits, in place."""
    m, outside = here.m, 2.0 - here.cavity
    paint(hu, cover(np.maximum(here.orbit + 0.4, outside)), FAT)
    flat = np.stack([m[0], m[1], EYE[2] + 0.4 * (m[2] - EYE[2])])
    for path, radius in EYE_MUSCLES:
        paint(hu, cover(np.maximum(tube(flat, path, radius), outside)), MUSCLE)
    gland = ellipsoid(m, (42, 60, -27), (4, 7, 4)) + 0.8 * here.fine
    paint(hu, cover(np.maximum(gland, outside)), MUCOSA)
    globe = ellipsoid(m, EYE, (12, 12, 12))
    paint(hu, cover(globe - 0.7), MUSCLE)
    paint(hu, cover(globe + 0.9), 11.0)
    paint(hu, cover(ellipsoid(m, (EYE[0], EYE[1] + 8, EYE[2]), (4.8, 2.3, 4.8))), 95.0)


def _nose_and_sinuses(here: Place, hu: Floats) -> None:
    """Nasal cavity, ethmoid, sphenoid, maxillary and frontal sinuses, in place."""
    p = here.uneven
    m, fine = mirrored(p), here.fine
    x, y, z = m
    wide = 3 + 10 * np.clip((-40 - z) / 18, 0, 1)
    nasal = rounded(x - wide, y - 76, 22 - y, z + 32, -74 - z)
    ethmoid = rounded(x - 12 - 0.05 * (60 - y), np.abs(y - 44) - 19, np.abs(z + 38) - 9)
    sphenoid = ellipsoid(m, (8, 11, -40), (9.5, 13, 9)) + 1.2 * here.slow
    maxillary = rounded(
        14.5 - x,
        (y - 64 + 0.4 * (x - 14)) / 1.08,
        (x - 16 - (y - 26)) / 1.41,
        z + 49,
        1.5 - here.orbit,
        -80 - z,
        radius_mm=2.5,
    )
    spaces = np.minimum(np.minimum(nasal, ethmoid), maxillary)
    for space in (nasal, ethmoid, maxillary):
        paint(hu, cover(np.maximum(np.abs(space - 0.3) - 0.6, y - 70)), THIN + 250 * here.medium)
    paint(hu, cover(spaces), MUCOSA)

    septum = np.abs(p[0] - 1.6 * np.sin(y / 13) - 0.5) - 1.3
    lower = ellipsoid(m, (8, 46, -64), (5.0, 22, 11)) + 0.8 * fine
    middle = ellipsoid(m, (6.5, 44, -52), (3.0, 18, 7)) + 0.8 * fine
    paint(hu, cover(np.maximum(nasal, septum + 0.9)), 350.0)
    nasal_air = np.maximum(nasal + 1.0, -np.minimum(np.minimum(lower, middle), septum))
    sphenoid_air = np.maximum(sphenoid, 0.7 - np.abs(p[0] - 2.5 - 0.1 * y))
    paint(hu, cover(np.minimum(np.minimum(nasal_air, maxillary + 1.2), sphenoid_air)), AIR)
    # Ethmoid cells: thin walls across, one along each side and one in the middle.
    across = np.abs((y + 2.5 * here.cells + 0.5 * z) % 7.0 - 3.5) - 0.75
    along = np.abs(x - 6.5 - 0.8 * here.cells) - 0.7
    walls = np.minimum(np.minimum(across, along), x - 0.9)
    paint(hu, cover(np.maximum(ethmoid + 0.3, -walls)), AIR)
    paint(hu, cover(np.maximum(ethmoid, walls)), 420.0)

    # The frontal sinus opens between the tables of the frontal bone, in lobes.
    lobes = 1 - (x / 24) ** 2 - ((z + 16) / 11) ** 2 + 0.35 * here.texture.slow.at(2 * p)
    half = (here.thickness * 0.5 - 2.0) * np.sqrt(np.clip(lobes, 0, 1)) - 0.8 * np.abs(here.medium)
    septum = np.abs(p[0] - 2 - 0.3 * (y - 76)) - 0.8
    frontal = np.maximum(np.abs(here.hull - here.thickness * 0.5) - half, -septum)
    paint(hu, cover(np.maximum(frontal, 40 - y)), AIR)
    paint(hu, cover(ellipsoid(p, (0, 14, -66), (13, 12, 13))), AIR)  # nasopharynx


def _ears(here: Place, hu: Floats) -> None:
    """Mastoid cells, foramina of the petrous bone, ear canal and tympanic cavity, in place."""
    m, outside = mirrored(here.uneven), 2.0 - here.cavity
    mastoid = np.maximum(ellipsoid(m, (54, -38, -47), (11.5, 15.5, 18.5)), outside + 0.5)
    paint(hu, cover(mastoid, 3.0), 500.0)
    paint(hu, cover(np.maximum(mastoid, (0.1 - here.cells) * 1.6)), AIR)
    for centre, radii in (((22, -33, -57), (7, 5, 9)), ((25, -16, -53), (3.5, 5, 7))):
        paint(hu, cover(np.maximum(ellipsoid(m, centre, radii), outside)), MUCOSA)
    canal = tube(here.m, ((47, -22, -43), (62, -22, -43), (84, -24, -42)), 3.2)
    paint(hu, cover(np.maximum(canal, outside)), AIR)
    tympanum = np.maximum(ellipsoid(m, (46, -23, -41), (4, 5, 6)), outside)
    paint(hu, cover(np.maximum(tympanum, -here.cells - 0.6)), AIR)
