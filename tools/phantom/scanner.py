"""From what is in the head to what a CT scanner shows of it: blur, beam hardening, noise.

The scanner's errors are made where a scanner makes them, in the projections: each slice's water and bone
are projected, hardened and partly corrected, the quanta counted; only the *difference* to the ideal
projections is reconstructed (filtered back-projection) and added to the ideal image. So the anatomy stays
exact, and cupping, the dark bar between the petrous bones and the texture and streaks of noise come out
of the physics.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage, sparse

Floats = NDArray[np.floating[Any]]

VIEWS = 400  # over half a turn
DETECTOR_MM = 0.5
POINT_SPREAD_MM = 0.50  # standard deviation in the plane, as of a soft head kernel
CUTOFF_PER_MM = 0.80  # where the kernel ends
QUANTA = 3.3e6  # a ray and view in air, through a slice of 5 mm: sets the noise
BONE_CORRECTION = 0.4  # share of the bone's beam hardening that the scanner takes away

# Five energies of a 120 kV head beam: keV 50, 60, 70, 80, 100. Linear attenuation in 1/cm of water and of
# cortical bone of 1.92 g/cm3 (mass attenuation coefficients: NIST, Hubbell and Seltzer).
SPECTRUM = np.array([0.20, 0.28, 0.25, 0.17, 0.10])
WATER = np.array([0.2269, 0.2059, 0.1937, 0.1837, 0.1707])
CORTICAL = np.array([0.8145, 0.6044, 0.5010, 0.4280, 0.3562])
CORTICAL_HU = 1600.0
AIR_BELOW_HU = -975.0  # recorded as -1024, as scanners do that mask the air around the patient


def materials(hu: Floats) -> tuple[Floats, Floats]:
    """Water and cortical bone in each pixel, relative to the pure material."""
    bone = np.clip((hu - 100.0) / (CORTICAL_HU - 100.0), 0.0, None)
    water = np.clip(1.0 + np.minimum(hu, 100.0) / 1000.0, 0.0, None) * np.clip(1.0 - bone, 0.0, 1.0)
    return water.astype(np.float32), bone.astype(np.float32)


def hardening(water_cm: Floats, bone_cm: Floats) -> tuple[Floats, Floats]:
    """The error that hardening leaves in a projection, and the attenuation the detector sees."""

    def seen(w: Floats, b: Floats) -> Floats:
        ray = np.exp(-np.multiply.outer(WATER, w) - np.multiply.outer(CORTICAL, b))
        return -np.log(np.tensordot(SPECTRUM, ray, 1))

    table_cm = np.linspace(0.0, 60.0, 601)
    table = seen(table_cm, np.zeros_like(table_cm))
    mean_water, mean_bone = SPECTRUM @ WATER, SPECTRUM @ CORTICAL
    attenuation = seen(water_cm, bone_cm)
    corrected = np.interp(attenuation, table, table_cm) * mean_water
    ideal = mean_water * water_cm + mean_bone * bone_cm
    return (1.0 - BONE_CORRECTION) * (corrected - ideal), attenuation


def rays(x_mm: Floats, y_mm: Floats, angle: float, bins: int, bin_mm: float) -> sparse.csr_matrix:
    """[pixels, bins] matrix that reads a parallel projection at each pixel, linearly."""
    s = (x_mm * np.cos(angle) + y_mm * np.sin(angle)) / bin_mm + (bins - 1) / 2
    low = np.clip(np.floor(s).astype(np.int32), 0, bins - 2)
    part = (s - low).astype(np.float32)
    data = np.stack([1 - part, part], 1).ravel()
    index = np.stack([low, low + 1], 1).ravel()
    return sparse.csr_matrix((data, index, np.arange(0, 2 * s.size + 1, 2)), shape=(s.size, bins))


def kernel(bins: int) -> Floats:
    """Frequency response of the reconstruction filter: a ramp that fades out at the cutoff."""
    frequency = np.fft.rfftfreq(2 * bins, DETECTOR_MM)
    fade = np.cos(0.5 * np.pi * np.minimum(frequency / CUTOFF_PER_MM, 1.0)) ** 1.5
    return (frequency * fade).astype(np.float32)


def scan(
    slices_hu: Floats, pixel_mm: float, seed: int | list[int], quanta: float = QUANTA
) -> Floats:
    """What the scanner makes of ideal slices [z, y, x] in HU: blurred, hardened, noisy."""
    rng = np.random.default_rng(seed)
    count, size = slices_hu.shape[0], slices_hu.shape[-1]
    half = slices_hu.reshape(count, size // 2, 2, size // 2, 2).mean((2, 4))
    water, bone = materials(half)
    small = (np.arange(size // 2, dtype=np.float32) - (size // 2 - 1) / 2) * 2 * pixel_mm
    small_y, small_x = (a.ravel() for a in np.meshgrid(small, small, indexing="ij"))
    columns = np.concatenate([water, bone]).reshape(2 * count, -1).T.astype(np.float32)
    coarse_bins = int(size * 0.75)

    full = (np.arange(size, dtype=np.float32) - (size - 1) / 2) * pixel_mm
    y, x = (a.ravel() for a in np.meshgrid(full, full, indexing="ij"))
    circle = np.hypot(x, y) < full[-1]
    bins = int(size * pixel_mm / DETECTOR_MM) + 4
    response = kernel(bins)
    coarse_s = (np.arange(coarse_bins) - (coarse_bins - 1) / 2) * 2 * pixel_mm
    fine_s = (np.arange(bins) - (bins - 1) / 2) * DETECTOR_MM

    error = np.zeros((int(circle.sum()), count), np.float32)
    for angle in np.arange(VIEWS) * np.pi / VIEWS:
        lines = rays(small_x, small_y, angle, coarse_bins, 2 * pixel_mm).T @ columns
        lines *= 2 * pixel_mm / 10.0  # cm of material along each ray
        wrong, attenuation = hardening(lines[:, :count], lines[:, count:])
        fluctuation = np.sqrt(np.exp(attenuation) / quanta)
        both = np.stack([wrong, fluctuation]).transpose(0, 2, 1).reshape(2 * count, -1)
        both = np.stack([np.interp(fine_s, coarse_s, row) for row in both])
        sinogram = both[:count] + both[count:] * rng.standard_normal((count, bins))
        spectrum = np.fft.rfft(sinogram, 2 * bins, axis=1) * response
        filtered = np.fft.irfft(spectrum, axis=1)[:, :bins].T.astype(np.float32)
        error += rays(x[circle], y[circle], angle, bins, DETECTOR_MM) @ filtered
    # 1/cm -> HU; the filter is in 1/mm, the projections without unit.
    error *= np.pi / VIEWS * 10.0 / (SPECTRUM @ WATER) * 1000.0

    result = ndimage.gaussian_filter(slices_hu, (0, *(POINT_SPREAD_MM / pixel_mm,) * 2))
    result = result.reshape(count, -1)
    result[:, circle] += error.T
    result[:, ~circle] = -1024.0
    result[result < AIR_BELOW_HU] = -1024.0
    return result.reshape(slices_hu.shape)
