"""What a mask looks like: HU against a ring of brain, and the finder's probability, in closed form."""

from __future__ import annotations

import math

import numpy as np
import pytest

from ichseg.measures.looks import LEAST_CONTRAST_HU, looks
from ichseg.scan.volume import CTVolume
from tests import phantoms


def scan(hu: float) -> tuple[CTVolume, np.ndarray]:
    """Brain of 35 HU with a square of another value; pixels of 0.5 mm."""
    made = phantoms.scan((0, 5), (120, 120))
    mask = np.zeros((120, 120), bool)
    mask[50:70, 50:70] = True
    made.hu_zyx[0][mask] = hu
    return made, mask


@pytest.mark.parametrize(
    ("hu", "like"),
    [
        (-60, "air or fat"),
        (8, "fluid"),
        (35, "brain"),
        (35 + LEAST_CONTRAST_HU - 1, "brain"),
        (35 + LEAST_CONTRAST_HU + 1, ""),
        (65, ""),
        (180, "bone or calcification"),
    ],
)
def test_a_mask_is_like_blood_or_like_something_else(hu: float, like: str) -> None:
    found = looks(*_of(hu))
    assert found is not None
    assert (found.like, found.mean_hu, found.around_hu) == (like, hu, 35)
    assert bool(found.sentence) == bool(like) and math.isnan(found.probability)


def _of(hu: float) -> tuple[CTVolume, int, np.ndarray]:
    made, mask = scan(hu)
    return made, 0, mask


def test_the_finders_probability_speaks_for_itself() -> None:
    made, mask = scan(65)
    seen = np.full((256, 256), 0.04, np.float32)
    found = looks(made, 0, mask, seen)
    assert found is not None and found.probability == pytest.approx(0.04)
    assert found.sentence == (
        "Looks like something else than blood: 65 HU, 30 above its surroundings; probability of blood 4 %"
    )
    assert found.record()["probability"] == pytest.approx(0.04)
    plain = looks(made, 0, mask)
    assert plain is not None and plain.record()["probability"] is None


def test_the_ring_is_tissue_alone() -> None:
    """What is marked beside it, bone and air are no surroundings; what lies near is not, for blood blurs."""
    made, mask = scan(65)
    made.hu_zyx[0, 47:73, 47:73][~mask[47:73, 47:73]] = 55  # 1.5 mm of blur
    made.hu_zyx[0, 80:100] = 65
    other = np.zeros_like(mask)
    other[80:100] = True
    made.hu_zyx[0, :45, :] = 900
    found = looks(made, 0, mask, None, other)
    assert found is not None and found.around_hu == 35
    made.hu_zyx[0][~mask & ~other] = 900
    alone = looks(made, 0, mask, None, other)
    assert alone is not None and math.isnan(alone.contrast_hu)
    assert alone.sentence == ""


def test_an_empty_mask_looks_like_nothing() -> None:
    made, mask = scan(65)
    assert looks(made, 1, np.zeros_like(mask)) is None
