"""The brain of the synthetic head: tissue, ventricles and cranial cavity from the MNI152 maps."""

from __future__ import annotations

import gzip
from importlib.metadata import distribution
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from tools.phantom.shapes import Field, Floats, Vector


def read_map(name: str) -> tuple[Floats, Vector]:
    """An MNI152 map (`gm`, `wm` or `t1`) from the installed nilearn, as 0..1, and its origin in mm."""
    file = f"nilearn/datasets/data/mni_icbm152_{name}_tal_nlin_sym_09a_converted.nii.gz"
    raw = gzip.decompress(Path(str(distribution("nilearn").locate_file(file))).read_bytes())
    shape = np.frombuffer(raw, "<i2", 3, 42)
    srow = np.frombuffer(raw, "<f4", 12, 280).reshape(3, 4)
    start = int(np.frombuffer(raw, "<f4", 1, 108)[0])
    data = np.frombuffer(raw, np.uint8, int(shape.prod()), start).reshape(shape, order="F")
    x, y, z = (float(v) for v in srow[:, 3])
    return data.astype(np.float32) / 255.0, (x, y, z)


def signed_distance(mask: NDArray[np.bool_], step_mm: float) -> Floats:
    """Distance in mm to the edge of a mask, negative inside."""
    outside = ndimage.distance_transform_edt(~mask)
    inside = ndimage.distance_transform_edt(mask)
    return ((outside - inside) * step_mm).astype(np.float32)


def closed(mask: NDArray[np.bool_], radius: float) -> NDArray[np.bool_]:
    """Morphological closing with a ball, by distances (radius in grid steps)."""
    grown = ndimage.distance_transform_edt(~mask) <= radius
    return ndimage.distance_transform_edt(grown) > radius


def surface(mask: NDArray[np.bool_], step_mm: float, smooth_mm: float) -> Floats:
    """Distance to a smoothed surface around a mask, with room for the fluid around the brain."""
    smooth = ndimage.gaussian_filter(signed_distance(mask, step_mm), smooth_mm / step_mm)
    return smooth - np.float32(1.6)


class Brain:
    """The MNI152 brain on a grid wide enough for the head: tissue shares, ventricles, cranial cavity."""

    def __init__(self) -> None:
        (gm, origin), (wm, _), (t1, _) = read_map("gm"), read_map("wm"), read_map("t1")
        pad = ((22, 21), (16, 41), (28, 7))  # to even numbers
        gm, wm, t1 = (np.pad(a, pad) for a in (gm, wm, t1))
        origin = (origin[0] - pad[0][0], origin[1] - pad[1][0], origin[2] - pad[2][0])
        x, y, z = (
            np.arange(n, dtype=np.float32) + o for n, o in zip(gm.shape, origin, strict=True)
        )
        x, y, z = x[:, None, None], y[None, :, None], z[None, None, :]

        brain = t1 > 0
        coarse = brain[::2, ::2, ::2]
        # The vault is smooth. At the base only small gaps close: those of the petrous ridges and the
        # sphenoid wings stay open, and are filled with bone.
        base = np.where(z > -16, closed(brain, 14), closed(brain, 6))
        base |= (x / 16) ** 2 + ((y + 2) / 15) ** 2 + ((z + 23) / 9) ** 2 < 1  # suprasellar cistern

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
        self.ventricle_mm = field(ventricle_mm)
        self._base_mm = field(surface(base, 1.0, 1.4))
        self._vault_mm = field(surface(closed(coarse, 17), 2.0, 4.0), 2.0)
        self.hull_mm = field(surface(closed(coarse, 22), 2.0, 4.0), 2.0)

    def cavity_mm(self, p: Floats) -> Floats:
        """Signed distance to the inner surface of the skull."""
        base, vault = self._base_mm.at(p), self._vault_mm.at(p)
        return base + np.clip((p[2] + 14) / 18, 0, 1) * (vault - base)

    @staticmethod
    def _ventricles(csf: Floats, x: Floats, y: Floats, z: Floats) -> NDArray[np.bool_]:
        """The lateral, third and fourth ventricles: the large bodies of fluid in generous boxes."""
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
