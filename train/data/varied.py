"""Slices with blood that are varied before they are embedded: what a frozen encoder cannot be shown again and again.

Half of them are slices of a patient's own, half have real blood of one patient laid into a slice of another. All have
another contrast, brightness, noise and sharpness than the scan, and one in two is mirrored. Number ``i`` is always the
same, so that nothing but what a network sees of it has to be kept.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from ichseg.arrays import BoolArray
from ichseg.scan.limits import HIGHEST_BLOOD_HU
from ichseg.scan.skull import intracranial
from train.data.cache import Mask, Prepared, ScanEntry, Slice
from train.data.example_config import ExampleConfig
from train.data.implants import paste
from train.data.slices import Labels, bloodless_slices, label_components
from train.data.weather import weathered

#: What the recipe ``crops`` does to HU, which made the adapter's masks hold on scans unlike its own.
_WEATHER = ExampleConfig(hu_shift=4, hu_scale=0.1, noise_hu=3, blur_px=1)
#: Donors' components from this area at 512 x 512.
_LEAST_PX = 30.0
#: Implanted blood is this much as far above the brain as the donor's: published bleeds are fainter than these.
_CONTRAST = (0.6, 1.1)


@dataclass(frozen=True)
class Place:
    """A slice of a scan."""

    scan_id: str
    slice_index: int


@dataclass(frozen=True)
class Plan:
    """Whose blood, and whose slice: the same where no blood is laid into another head."""

    donor: Place
    host: Place


@dataclass(frozen=True, eq=False)
class VariedSlice:
    """A varied slice in HU with the one below and the one above, float32 [3, y, x], and its blood, bool [y, x]."""

    hu: npt.NDArray[np.float32]
    mask: Mask


def plans(prepared: Prepared, count: int) -> list[Plan]:
    """Who gives and who takes, for each of so many, patient by patient alike: first of their own, then implants."""
    rng = np.random.default_rng(0)
    donors = {
        scan.patient_id: some for scan in prepared.scans.values() if (some := _with_blood(scan))
    }
    hosts = [Place(*pair) for scan in prepared.scans.values() for pair in bloodless_slices(scan)]
    made = []
    for number in range(count):
        some = donors[str(rng.choice(list(donors)))]
        donor = some[rng.integers(len(some))]
        host = hosts[rng.integers(len(hosts))] if 2 * number >= count and hosts else donor
        made.append(Plan(donor, host))
    return made


def _with_blood(scan: ScanEntry) -> list[Place]:
    return [Place(scan.scan_id, k) for k, one in enumerate(scan.slices) if one.mask_row is not None]


def vary(prepared: Prepared, plan: Plan, number: int) -> VariedSlice:
    """Make one. Blood that does not fit into the other head stays in its own."""
    rng = np.random.default_rng([1, number])
    made = None if plan.host == plan.donor else _implanted(prepared, plan, rng)
    if made is None:
        made = (
            _stack(prepared, plan.donor),
            prepared.mask(plan.donor.scan_id, plan.donor.slice_index),
        )
    hu, mask = made
    hu = weathered(hu, prepared.scans[plan.host.scan_id].reference_scale, _WEATHER, rng)
    if rng.random() < 0.5:
        hu, mask = hu[..., ::-1], mask[:, ::-1]
    return VariedSlice(np.ascontiguousarray(hu, dtype=np.float32), np.ascontiguousarray(mask))


def _implanted(
    prepared: Prepared, plan: Plan, rng: np.random.Generator
) -> tuple[Slice, Mask] | None:
    """The host's slices with one component of the donor's blood, which its neighbours have fainter."""
    donor_hu = prepared.slice_hu(plan.donor.scan_id, plan.donor.slice_index)
    hu = _stack(prepared, plan.host)
    inside_donor, inside = intracranial(donor_hu), intracranial(hu[1])
    share, share_donor = inside.mean(), inside_donor.mean()
    labels = _labels(prepared, plan.donor)
    if not labels.any() or not 0 < 0.6 * share_donor <= share <= 1.6 * share_donor:
        return None
    component: BoolArray = labels == rng.integers(1, labels.max() + 1)
    pasted = paste(donor_hu, component, inside_donor, hu[1], inside, rng)
    if pasted is None:
        return None
    change = (pasted[0] - hu[1]) * np.float32(rng.uniform(*_CONTRAST))
    for k, share in ((0, rng.uniform()), (1, 1.0), (2, rng.uniform())):
        hu[k] += np.where(hu[k] < HIGHEST_BLOOD_HU, np.float32(share) * change, np.float32(0))
    return hu, pasted[1]


def _stack(prepared: Prepared, place: Place) -> Slice:
    """A slice and its neighbours in HU, [3, y, x]; its own where the scan ends."""
    last = prepared.scans[place.scan_id].shape_zyx[0] - 1
    around = (max(place.slice_index - 1, 0), place.slice_index, min(place.slice_index + 1, last))
    return np.stack([prepared.slice_hu(place.scan_id, k) for k in around])


def _labels(prepared: Prepared, place: Place) -> Labels:
    scan = prepared.scans[place.scan_id]
    least = _LEAST_PX * scan.reference_scale**2
    mask = prepared.mask(place.scan_id, place.slice_index)
    return label_components(mask, scan.slices[place.slice_index], least)
