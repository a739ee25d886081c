"""The edge as a step after an answer: on its own slice, and between two slabs on a mean of the slices about it."""

from __future__ import annotations

import numpy as np
import phantoms
from scipy import ndimage

from ichseg.methods.edge_step import step_of
from ichseg.scan.volume import CTVolume


def test_between_slabs_the_edge_is_drawn_in_the_noise_of_a_thin_series() -> None:
    """A cylinder of blood of 10 mm radius, 0.8 mm blur, noise of 12 HU on slices of 0.5 mm."""
    y, x = np.indices((128, 128))
    away_mm = np.hypot(y - 63.5, x - 63.5) * 0.5
    hu = ndimage.gaussian_filter(np.where(away_mm < 10, 65.0, 35.0), 1.6)
    noise = np.random.default_rng(3).normal(0, 12, (40, 128, 128))
    where = phantoms.geometry(list(0.5 * np.arange(40)), (0.5, 0.5))
    volume = CTVolume(np.rint(hu + noise).astype(np.int16), where, name="thin")
    generous, true = away_mm < 11, away_mm < 10
    step = step_of(volume)
    off = [
        np.count_nonzero(step("litemedsam", 20, generous, of_slabs) ^ true) / true.sum()
        for of_slabs in (True, False)
    ]
    assert off[0] < 0.04 and off[0] < off[1]


def test_a_method_without_the_edge_keeps_its_mask_there_too() -> None:
    mask = np.ones((12, 16), bool)
    step = step_of(phantoms.scan())
    assert step("threshold", 1, mask, True) is mask
