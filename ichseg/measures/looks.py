"""What a mask on one slice looks like: blood, or other tissue that a box was drawn on.

A method answers any box. So where what it marked is as dark as its surroundings, or is no blood for the finder
(``methods.detection``), that is said beside the mask, which is kept.
"""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy import ndimage

from ichseg.arrays import BoolArray
from ichseg.marks.box import box_from_mask
from ichseg.marks.document import Segmentation
from ichseg.methods.frame import FloatArray
from ichseg.methods.proposals import probability_in
from ichseg.scan.limits import HIGHEST_BLOOD_HU, bone_above
from ichseg.scan.skull import intracranial
from ichseg.scan.volume import CTVolume

#: The surroundings: tissue inside the skull, so far from the mask. Nearer by, the blood's own blurred edge counts.
RING_MM = (3.0, 10.0)
#: HU of tissue: neither air and fat nor blood that is brighter than brain.
_TISSUE_HU = (0.0, 80.0)
#: A mask with less contrast than this to its surroundings is told. Chosen on the adapter's training patients, so that
#: few components of their reference masks, and most discs in slices without blood, have less.
LEAST_CONTRAST_HU = 6.0
#: Nothing under this is blood, whatever lies around it.
_FLUID_HU = 20.0
#: Where the finder's mean probability of blood under a mask is less than this, that is told.
LEAST_PROBABILITY = 0.1


@dataclass(frozen=True)
class Looks:
    """A mask on one slice in HU, against the brain around it. NaN is what cannot be told."""

    mean_hu: float
    """Of the mask."""
    around_hu: float
    """The median of the tissue inside the skull from 3 to 10 mm around it; NaN where there is none."""
    probability: float = math.nan
    """The finder's mean probability of blood under it; NaN without the finder, or where it is too small to say."""

    @property
    def contrast_hu(self) -> float:
        """How much brighter than its surroundings it is."""
        return self.mean_hu - self.around_hu

    @property
    def like(self) -> str:
        """What it looks like, where that is no blood; empty where nothing speaks against blood."""
        if self.mean_hu < 0:
            return "air or fat"
        if self.mean_hu < _FLUID_HU:
            return "fluid"
        if self.mean_hu >= HIGHEST_BLOOD_HU:
            return "bone or calcification"
        if self.contrast_hu < LEAST_CONTRAST_HU:
            return "brain"
        if self.probability < LEAST_PROBABILITY:
            return "something else than blood"
        return ""

    @property
    def sentence(self) -> str:
        """What to say beside the mask; empty where nothing speaks against blood.

        >>> Looks(35.2, 33.4, 0.031).sentence
        'Looks like brain: 35 HU, 2 above its surroundings; probability of blood 3 %'
        >>> Looks(63, 34, 0.9).sentence, Looks(63, 34).sentence
        ('', '')
        """
        if not self.like:
            return ""
        around, chance = "", ""
        if not math.isnan(self.contrast_hu):
            by = round(self.contrast_hu)
            side = "above" if by >= 0 else "below"
            around = f", {abs(by)} {side} its surroundings"
        if not math.isnan(self.probability):
            chance = f"; probability of blood {100 * self.probability:.0f} %"
        return f"Looks like {self.like}: {self.mean_hu:.0f} HU{around}{chance}"

    def record(self) -> dict[str, Any]:
        """For a JSON document: HU, probability (null where it is not known) and the sentence."""
        known = {
            key: None if math.isnan(value) else float(value) for key, value in asdict(self).items()
        }
        return {**known, "sentence": self.sentence}


def looks(
    volume: CTVolume,
    k: int,
    mask_yx: npt.ArrayLike,
    probability_yx: FloatArray | None = None,
    blood_yx: npt.ArrayLike | None = None,
) -> Looks | None:
    """What a mask on slice k looks like; None for an empty one.

    Args:
        volume: the scan.
        k: the slice, from 0.
        mask_yx: bool [y, x].
        probability_yx: the finder's probability of blood in the slice's frame [256, 256], where it is here.
        blood_yx: what else is marked on the slice, bool [y, x]: it is no surroundings.

    """
    mask = np.asarray(mask_yx, dtype=bool)
    hu_yx = np.asarray(volume.hu_zyx[k], dtype=np.float32)
    spacing = volume.geometry.spacing_yx_mm
    near = box_from_mask(mask, RING_MM[1] / min(spacing) + 1)
    if near is None:
        return None
    window = near.clip(mask.shape).slices()
    others = np.zeros_like(mask) if blood_yx is None else np.asarray(blood_yx, dtype=bool)
    around = _around(hu_yx, mask, others, window, spacing)
    inside = hu_yx[mask]
    # The skull's rim is no reason to call blood beside it bone, unless most of the mask is.
    bone = inside >= bone_above(HIGHEST_BLOOD_HU, float(hu_yx.max()))
    own = inside if bone.mean() > 0.5 else inside[~bone]
    return Looks(
        float(own.mean()),
        float(np.median(around)) if around.size else math.nan,
        math.nan if probability_yx is None else probability_in(probability_yx, mask),
    )


def _around(
    hu_yx: npt.NDArray[np.float32],
    mask: BoolArray,
    others: BoolArray,
    window: tuple[slice, slice],
    spacing: tuple[float, float],
) -> npt.NDArray[np.float32]:
    """The HU of the tissue around a mask, within the skull where a ring of bone is closed on the slice."""
    far_mm = ndimage.distance_transform_edt(~mask[window], sampling=spacing)
    ring = (far_mm >= RING_MM[0]) & (far_mm <= RING_MM[1]) & ~others[window]
    skull = intracranial(hu_yx)
    if skull.any():
        ring &= skull[window]
    hu = hu_yx[window]
    found: npt.NDArray[np.float32] = hu[ring & (hu > _TISSUE_HU[0]) & (hu < _TISSUE_HU[1])]
    return found


@dataclass(frozen=True)
class Told:
    """What is to be said of a lesion's mask on a slice."""

    slice_index: int
    lesion: int
    name: str
    looks: Looks

    @property
    def sentence(self) -> str:
        """For people, with the lesion's name."""
        said = self.looks.sentence
        return f"{self.name}: {said[0].lower()}{said[1:]}."

    def record(self) -> dict[str, Any]:
        """For a JSON document: ``slice`` from 0, ``lesion``, and what ``Looks.record`` has."""
        return {"slice": self.slice_index, "lesion": self.lesion, **self.looks.record()}


def told_of(
    marked: Segmentation,
    volume: CTVolume,
    model: str,
    k: int,
    probability_yx: FloatArray | None = None,
) -> list[Told]:
    """What a model's masks of the boxes on slice k look like, those alone that look like something else than blood."""
    every, found = marked.slice_mask(model, k), []
    for one in marked.lesions:
        if one.is_blood and marked.boxes(k, one.id):
            mask_yx = marked.slice_mask(model, k, one.id)
            seen = looks(volume, k, mask_yx, probability_yx, every)
            if seen is not None and seen.sentence:
                found.append(Told(k, one.id, one.name, seen))
    return found
