"""Slices as another scanner might have given them: noise, sharpness, contrast and brightness."""

from __future__ import annotations

import numpy as np
from scipy import ndimage

from ichseg.methods.frame import PAPER
from train.data.cache import Slice
from train.data.example_config import ExampleConfig


def weathered(hu: Slice, scale: float, config: ExampleConfig, rng: np.random.Generator) -> Slice:
    """HU with the configured denoising, blur, noise, contrast and shift.

    Args:
        hu: a slice [y, x], or some of one scan [n, y, x], which are all changed alike.
        scale: pixels of the slice to one at 512 x 512.
        config: how much of each.
        rng: what is drawn from.

    """
    on_slices = (1,) * (hu.ndim - 2)
    if config.median_px:
        hu = ndimage.median_filter(hu, size=(*on_slices, config.median_px, config.median_px))
    if config.blur_px:
        sigma = rng.uniform(0, config.blur_px * scale)
        hu = ndimage.gaussian_filter(hu, sigma, axes=(-2, -1))
    if config.noise_hu or config.hu_scale or config.hu_shift:
        # 8-bit data end at 100 HU, where bone is flat: it must stay white, whatever is added.
        hu = np.where(hu >= PAPER.high - 1, hu + 200, hu)
    if config.noise_hu:
        sd = np.float32(rng.uniform(0, config.noise_hu))
        hu = hu + sd * rng.standard_normal(hu.shape, dtype=np.float32)
    if config.hu_scale:
        hu = (hu - 35) * np.float32(1 + rng.uniform(-config.hu_scale, config.hu_scale)) + 35
    if config.hu_shift:
        hu = hu + np.float32(rng.uniform(-config.hu_shift, config.hu_shift))
    return hu
