"""Varied slices: whose blood they have, that it stays in the skull, and that each is always the same."""

from __future__ import annotations

import numpy as np

from ichseg.scan.skull import intracranial
from tests.train.heads import BLOOD_HU, BRAIN_HU, STRANGER_HU
from train.data.cache import Prepared
from train.data.varied import plans, vary


def test_the_second_half_is_laid_into_slices_without_blood(heads: Prepared) -> None:
    made = plans(heads, 40)
    assert all(plan.host == plan.donor for plan in made[:20])
    for plan in made:
        assert heads.scans[plan.donor.scan_id].slices[plan.donor.slice_index].mask_row is not None
    for plan in made[20:]:
        assert heads.scans[plan.host.scan_id].slices[plan.host.slice_index].is_bloodless
    # Of three patients with blood each gives about a third, however many slices of blood they have.
    share = np.mean([plan.donor.scan_id == "b" for plan in made])
    assert 0.2 < share < 0.5
    assert plans(heads, 40) == made


def test_a_slice_of_ones_own_keeps_its_blood(heads: Prepared) -> None:
    for number, plan in enumerate(plans(heads, 12)[:6]):
        made = vary(heads, plan, number)
        reference = heads.mask(plan.donor.scan_id, plan.donor.slice_index)
        assert made.hu.shape == (3, *reference.shape)
        assert any(np.array_equal(made.mask, one) for one in (reference, reference[:, ::-1]))
        again = vary(heads, plan, number)
        assert np.array_equal(made.hu, again.hu) and np.array_equal(made.mask, again.mask)


def test_implants_are_inside_another_skull_and_fade_on_its_neighbours(heads: Prepared) -> None:
    made = [
        (plan, vary(heads, plan, number))
        for number, plan in enumerate(plans(heads, 60))
        if plan.host != plan.donor
    ]
    for plan, one in made:
        assert one.mask.any()
        inside = intracranial(heads.slice_hu(plan.host.scan_id, plan.host.slice_index))
        assert not (one.mask & ~(inside | inside[:, ::-1])).any()
        below, middle, above = one.hu[:, one.mask].mean(axis=1)
        donated = STRANGER_HU if plan.donor.scan_id == "stranger" else BLOOD_HU
        assert BRAIN_HU + 5 < middle < 1.25 * donated
        assert min(below, above) < middle + 2
