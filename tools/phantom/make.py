"""Make a phantom: the synthetic head of ``ichseg.sample`` with a clot of its own, as a scanner of its own shows it.

Only slices with blood, and one on each side, are made: methods look at one slice at a time. Each pixel of a slice is
the mean of planes through its thickness, so that slanting surfaces have their partial volume. The reference volume is
the sum over all voxels of the share of each that blood fills, times the voxel's volume: exact up to the sampling, and
untouched by blur and noise, which come afterwards. The reference mask has the voxels that blood fills by half or more.

Blur is Gaussian in the plane. Noise has the spectrum of filtered back-projection, a ramp times the square of the blur's
transfer function, scaled to its standard deviation. Beam hardening is left out: it needs the whole head's projections.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from ichseg.replace_file import replacing
from tools.phantom.brain import Brain
from tools.phantom.design import Design, Kind
from tools.phantom.head import CSF, Head, Hematoma, Place, Texture, _membranes_and_vessels
from tools.phantom.sample import HEAD_SCALE, HeadPhantom
from tools.phantom.shapes import Field, Floats, Vector, column, cover, ellipsoid, paint

SIZE = 512
#: A slice is the mean of planes about so far apart; each pixel's lie a bit differently from its neighbours'.
PLANE_MM = 2.5
#: Farther than this from the blood the head is drawn in pixels of four times the size, and read between them.
FINE_MM = 12.0
COARSE = 4
#: The sample's clot, whose texture the phantoms' clots share: its mean HU above the tissue around it.
SAMPLE_CONTRAST_HU = 31.0
TISSUE_HU = 35.0


@dataclass(frozen=True)
class Phantom:
    """A scan with its reference. Arrays are [z, y, x] as ``ichseg.scan.geometry`` has them."""

    hu_zyx: NDArray[np.int16]
    share_zyx: NDArray[np.float32]
    """Share of each voxel that blood fills."""
    spacing_mm: tuple[float, float, float]

    @property
    def mask_zyx(self) -> NDArray[np.bool_]:
        """Voxels that blood fills by half or more."""
        return self.share_zyx >= 0.5

    @property
    def voxel_ml(self) -> float:
        """Millilitres of a voxel."""
        return float(np.prod(self.spacing_mm)) / 1000

    @property
    def volume_ml(self) -> float:
        """Millilitres of blood: the shares of all voxels together."""
        return float(self.share_zyx.sum(dtype=np.float64)) * self.voxel_ml

    def save(self, path: Path) -> None:
        """As .npz; shares in 250ths."""
        path.parent.mkdir(parents=True, exist_ok=True)
        shares = np.rint(self.share_zyx * 250).astype(np.uint8)
        with replacing(path) as part:
            np.savez_compressed(
                part, hu=self.hu_zyx, share=shares, spacing_mm=np.array(self.spacing_mm)
            )

    @classmethod
    def load(cls, path: Path) -> Phantom:
        """What ``save`` wrote."""
        with np.load(path) as held:
            spacing = tuple(float(mm) for mm in held["spacing_mm"])
            share = held["share"].astype(np.float32) / 250
            return cls(held["hu"], share, spacing)  # type: ignore[arg-type]


class Anatomy:
    """What all phantoms share: the brain and the textures, which take seconds to make."""

    def __init__(self) -> None:
        self.brain, self.texture = Brain(), Texture()


@cache
def anatomy() -> Anatomy:
    """The one anatomy of this process."""
    return Anatomy()


@dataclass(frozen=True)
class Clot:
    """A clot of a kind: an uneven shape at a place, scaled by ``growth`` about its centre (subdural: thickened)."""

    kind: Kind
    centre: Vector
    parts: tuple[tuple[Vector, Vector], ...]
    """Centre and radii of ellipsoids, of a clot of unit size."""
    side: int
    growth: float = 1.0

    @classmethod
    def drawn(cls, kind: Kind, rng: np.random.Generator) -> Clot:
        """A shape and a place by chance."""
        side = int(rng.choice([-1, 1]))
        spread = rng.uniform(-1, 1, 3)
        if kind == "deep":
            centre = (side * (26 + 4 * spread[0]), -4 + 12 * spread[1], 8 + 5 * spread[2])
        elif kind == "lobar":
            angle = rng.uniform(-0.8, 0.9) * np.pi / 2
            centre = (
                side * (36 + 6 * spread[0]),
                -18 + 46 * np.sin(angle),
                26 + 12 * spread[2],
            )
        elif kind == "ventricular":
            centre = (side * 16.0, -20 + 20 * spread[1], 14 + 6 * spread[2])
        else:
            centre = (side * 66.0, -18 + 30 * spread[1], 26 + 12 * spread[2])
        radii = 19 * np.exp(rng.uniform(-0.25, 0.25, 3))
        parts: list[tuple[tuple[float, ...], tuple[float, ...]]] = [
            (centre, tuple(map(float, radii)))
        ]
        for _ in range(3):
            away = rng.normal(size=3)
            away *= 14 / np.linalg.norm(away)
            where = tuple(float(a + b) for a, b in zip(centre, away, strict=True))
            parts.append((where, tuple(map(float, rng.uniform(8, 13, 3)))))
        return cls(kind, centre, tuple(parts), side)  # type: ignore[arg-type]

    def distance(self, p: Floats, cavity: Floats, rough: Field, fine: Field) -> Floats:
        """Distance in mm (negative inside) to the clot's surface."""
        if self.kind == "subdural":
            # A crescent: thickest in the middle of its cap on the inner table, gone at the cap's rim.
            wide = np.float32(0.75 * self.growth**0.4)
            away = (p - column(self.centre)) / (wide * column((60.0, 62.0, 46.0)))
            thick = 9.0 * self.growth * np.clip(1 - (away * away).sum(0), 0, None)
            thick = np.where(p[0] * self.side > 6, thick, 0)
            return np.where(thick > 0.8, -cavity - thick + 0.5 * rough.at(p), 9.0)
        centre = column(self.centre)
        q = centre + (p - centre) / np.float32(self.growth)
        shape = np.minimum.reduce([ellipsoid(q, *part) for part in self.parts])
        return (shape + 1.8 * rough.at(q) + 0.5 * fine.at(q)) * np.float32(self.growth)


class PhantomHead(Head):
    """The synthetic head with another clot, and with blood in the ventricles only where the clot is there."""

    def __init__(self, design: Design, clot: Clot) -> None:
        self.brain, self.texture = anatomy().brain, anatomy().texture
        self.design, self.clot = design, clot
        scale = (design.volume_ml / 34.0) if clot.kind in ("lobar", "deep") else 1e-3
        radii = clot.parts[0][1]
        self.hematoma = Hematoma(scale, clot.centre, radii)

    def share(self, p: Floats, cavity: Floats) -> Floats:
        """Share of points [3, n] that blood fills."""
        distance = self.clot.distance(p, cavity, self.texture.medium, self.texture.fine)
        share = cover(distance, 1.0) * cover(cavity + 1)
        if self.clot.kind == "ventricular":
            inside = self.brain.ventricle_mm.at(self.hematoma.before(p, -cavity)) - 0.9
            return share * cover(inside, 1.6)
        if self.clot.kind != "subdural":
            share = share * cover(2 - p[0] * self.clot.side)  # no clot crosses the falx
        return share

    def _contents(self, here: Place, height: Floats) -> tuple[Floats, Floats, Floats]:
        p, design = here.p, self.design
        b = self.hematoma.before(p, -here.cavity)
        clot_mm = self.clot.distance(p, here.cavity, self.texture.medium, self.texture.fine)
        hu = self._tissue(b, here.cavity)
        if design.oedema:
            reach = 4.0 + 1.4 * here.slow
            oedema = 0.65 * np.exp(-((np.maximum(clot_mm, 0) / reach) ** 2))
            hu += oedema * np.minimum(17.0 - hu, 0)
        _membranes_and_vessels(here, b, hu)
        paint(hu, cover(self.brain.ventricle_mm.at(b) - 0.9, 1.6), CSF)
        self._calcium(b, hu)
        clot = self.share(p, here.cavity)
        texture = (design.blood_hu - TISSUE_HU) / SAMPLE_CONTRAST_HU
        density = 4.5 * self.texture.slow.at(2 * p) + 3.0 * here.medium
        density -= 4 * np.exp(-np.maximum(-clot_mm, 0) / 2)
        paint(hu, clot, design.blood_hu + texture * density)
        return hu, clot, np.zeros_like(clot)


def sized(design: Design) -> PhantomHead:
    """The design's head, its clot grown until it holds the volume aimed at, within 3 % where there is room."""
    clot = Clot.drawn(design.kind, np.random.default_rng([design.seed, 1]))
    step = 1.0 if design.volume_ml < 8 else 2.5
    reach = 90.0 if design.kind == "subdural" else 22.0 if design.volume_ml < 8 else 55.0
    axis = np.arange(-reach, reach, step, dtype=np.float32)
    p = np.stack(np.meshgrid(axis, axis, axis, indexing="ij")).reshape(3, -1)
    p += column(clot.centre)
    cavity = anatomy().brain.cavity_mm(p)
    p, cavity = p[:, cavity < 1], cavity[cavity < 1]
    low, high = 0.05, 4.0
    for _ in range(12):
        middle = float(np.sqrt(low * high))
        head = PhantomHead(design, Clot(clot.kind, clot.centre, clot.parts, clot.side, middle))
        ml = float(head.share(p, cavity).sum()) * (step * HEAD_SCALE) ** 3 / 1000
        low, high = (middle, high) if ml < design.volume_ml else (low, middle)
        if abs(ml / design.volume_ml - 1) < 0.03:
            break
    return head


def make(design: Design) -> Phantom:
    """The phantom of a design."""
    head, rng = sized(design), np.random.default_rng([design.seed, 2])
    pose = HeadPhantom(
        rotation_degrees=tuple(map(float, rng.uniform(-6, 6, 3))),  # type: ignore[arg-type]
        translation_mm=tuple(map(float, rng.uniform(-4, 4, 3))),  # type: ignore[arg-type]
        seed=design.seed,
    )
    offset_mm = float(rng.uniform(0, design.slice_mm))
    lowest, highest = _extent_mm(head, pose)
    first = int(np.floor((lowest - offset_mm) / design.slice_mm)) - 1
    last = int(np.ceil((highest - offset_mm) / design.slice_mm)) + 1
    slices = [
        _slice(head, pose, offset_mm + k * design.slice_mm, design) for k in range(first, last + 1)
    ]
    ideal = np.stack([hu for hu, _ in slices])
    share = np.stack([share for _, share in slices])
    marked = np.flatnonzero(share.any(axis=(1, 2)))
    keep = slice(max(marked[0] - 1, 0), marked[-1] + 2)
    hu = seen(ideal[keep], design, rng)
    spacing = (design.slice_mm, design.pixel_mm, design.pixel_mm)
    return Phantom(np.clip(np.rint(hu), -1024, 3071).astype(np.int16), share[keep], spacing)


def seen(ideal_zyx: Floats, design: Design, rng: np.random.Generator) -> Floats:
    """What the scanner makes of ideal slices in HU [z, y, x]: blurred in the plane, and noisy."""
    sigma_px = design.blur_mm / design.pixel_mm
    blurred = ndimage.gaussian_filter(ideal_zyx, (0, sigma_px, sigma_px))
    return blurred + noise(ideal_zyx.shape, design, rng)


def noise(shape_zyx: tuple[int, ...], design: Design, rng: np.random.Generator) -> Floats:
    """Noise of filtered back-projection with the design's standard deviation: float32 [z, y, x].

    Its power is the frequency times the square of the blur's transfer function; slices are independent.
    """
    _, rows, columns = shape_zyx
    fy = np.fft.fftfreq(rows, design.pixel_mm)[:, None]
    fx = np.fft.rfftfreq(columns, design.pixel_mm)[None]
    frequency = np.hypot(fy, fx)
    amplitude = np.sqrt(frequency) * np.exp(-2 * (np.pi * design.blur_mm * frequency) ** 2)
    out = np.empty(shape_zyx, np.float32)
    for k in range(shape_zyx[0]):
        white = np.fft.rfft2(rng.standard_normal((rows, columns)))
        out[k] = np.fft.irfft2(white * amplitude, (rows, columns))
    return out * np.float32(design.noise_hu / out.std())


def _extent_mm(head: PhantomHead, pose: HeadPhantom) -> tuple[float, float]:
    """Where along the scanner's axis the blood begins and ends."""
    axis = np.arange(-105, 106, 3.0, dtype=np.float32)
    p = np.stack(np.meshgrid(axis, axis, axis, indexing="ij")).reshape(3, -1)
    at = pose.to_head(p)
    cavity = anatomy().brain.cavity_mm(at)
    inside = cavity < 1
    warped = at[:, inside] + 1.8 * np.stack([w.at(at[:, inside]) for w in head.texture.warp])
    share = head.share(warped, anatomy().brain.cavity_mm(warped))
    z = p[2, inside][share > 0]
    return float(z.min()) - 3, float(z.max()) + 3


def _slice(
    head: PhantomHead, pose: HeadPhantom, height_mm: float, design: Design
) -> tuple[Floats, Floats]:
    """Ideal HU and share of blood [y, x] of the slice whose middle is at a height, averaged through its thickness."""
    axis = (np.arange(SIZE, dtype=np.float32) - (SIZE - 1) / 2) * np.float32(design.pixel_mm)
    few = axis.reshape(-1, COARSE).mean(1)
    everywhere = np.ones((few.size, few.size), bool)
    hu, share = (_enlarged(part) for part in _drawn(head, pose, height_mm, design, few, everywhere))
    if share.any():
        far_mm = ndimage.distance_transform_edt(share == 0, sampling=design.pixel_mm)
        fine = far_mm < FINE_MM
        hu_near, share_near = _drawn(head, pose, height_mm, design, axis, fine)
        hu = np.where(fine, hu_near, hu)
        share = np.where(fine, share_near, 0)
    return hu, share


def _enlarged(image: Floats) -> Floats:
    """An image COARSE times as large each way, read linearly between its pixels' middles."""
    at = (np.arange(SIZE) + 0.5) / COARSE - 0.5
    grid = np.stack(np.meshgrid(at, at, indexing="ij"))
    return ndimage.map_coordinates(image, grid, order=1, mode="nearest")


def _drawn(
    head: PhantomHead,
    pose: HeadPhantom,
    height_mm: float,
    design: Design,
    axis_mm: Floats,
    wanted: NDArray[np.bool_],
) -> tuple[Floats, Floats]:
    """Ideal HU and share of blood on a square grid, where wanted; air and none elsewhere."""
    y, x = (a[wanted] for a in np.meshgrid(-axis_mm, -axis_mm, indexing="ij"))
    row, across = np.nonzero(wanted)
    within = (row * 0.5698403 + across * 0.7548777) % 1.0  # evenly spread over neighbours
    planes = max(1, round(design.slice_mm / PLANE_MM))
    total = np.zeros((3, x.size), np.float32)
    inside = (x / 92) ** 2 + (y / 118) ** 2 < 1  # beyond lies no head
    total[0, ~inside] = -1000
    x, y, within = x[inside], y[inside], within[inside]
    for plane in range(planes):
        part = (plane + within) / planes - 0.5
        z = (height_mm + part * design.slice_mm).astype(np.float32)
        total[:, inside] += np.stack(head.at(pose.to_head(np.stack([x, y, z])), y)) / planes
    hu = np.full(wanted.shape, -1000, np.float32)
    share = np.zeros(wanted.shape, np.float32)
    hu[wanted], share[wanted] = total[0], total[1]
    return hu, share
