"""What a mask on one slice looks like, and what is as bright as the blood beside it."""

from __future__ import annotations

import numpy as np
from scipy import ndimage

from ichseg.arrays import EIGHT_CONNECTED, BoolArray
from ichseg.marks.box import Box, box_from_mask
from ichseg.methods.follow_boxes import grown, near, touches, united
from ichseg.methods.follow_rule import Evidence, Rule
from ichseg.scan.volume import CTVolume

#: What is bright and thinner than this is a vessel or the rim of the skull.
_THIN_MM = 4.0
#: A mask that comes this close to its box's side may have been cut by it.
_TOUCH_MM = 0.5


def measure(
    volume: CTVolume,
    k: int,
    mask: BoolArray,
    iou: float,
    bone_hu: float,
    last: tuple[BoolArray, BoolArray] | None = None,
) -> Evidence:
    """Measure a mask [y, x] on slice k, against the last slice's (as it is, and grown by the margin)."""
    nan = float("nan")
    pixels = int(np.count_nonzero(mask))
    area_mm2 = pixels * volume.geometry.pixel_area_mm2
    if pixels == 0:
        return Evidence(0.0, nan, nan, nan, 0.0, 0.0, iou)
    dy, dx = volume.geometry.spacing_yx_mm
    tight = box_from_mask(mask, 12 / min(dy, dx))
    assert tight is not None
    inside = tight.slices()
    mask_near, hu = mask[inside], volume.hu_zyx[k][inside]
    bone = hu > bone_hu
    blood = hu[mask_near & ~bone]
    far_mm = ndimage.distance_transform_edt(~mask_near, sampling=(dy, dx))
    around = hu[(far_mm > 2) & (far_mm <= 8) & (hu > 0) & (hu < 80)]
    growth = overlap = nan
    if last is not None:
        before, around_before = last
        earlier = int(np.count_nonzero(before))
        growth = pixels / earlier if earlier else nan
        kept = np.count_nonzero(mask & before) / earlier if earlier else 0.0
        overlap = float(max(np.count_nonzero(mask & around_before) / pixels, kept))
    return Evidence(
        area_mm2=area_mm2,
        mean_hu=float(blood.mean()) if blood.size else nan,
        tissue_hu=float(np.median(around)) if around.size else nan,
        bone=float(bone[mask_near].mean()),
        growth=growth,
        overlap=overlap,
        iou=iou,
    )


def with_bright(
    volume: CTVolume,
    k: int,
    mask: BoolArray,
    box: Box | None = None,
    *,
    bright_hu: float,
    bone_hu: float,
    reach_mm: float,
) -> BoolArray:
    """A mask [y, x] with what is as bright as the blood and joined to it, within reach of it and of its box.

    Bright is over ``bright_hu``, short of bone, and wider than a vessel or the rim of the skull.
    """
    spacing = volume.geometry.spacing_yx_mm
    tight = box_from_mask(mask)
    if tight is None:
        return mask
    window = grown(united(box or tight, tight), reach_mm, spacing, mask.shape).slices()
    size = [max(1, round(1.5 / step)) for step in spacing]
    hu = volume.hu_zyx[k][window].astype(np.float32)
    bone = ndimage.binary_dilation(hu > bone_hu, EIGHT_CONNECTED)
    smooth = ndimage.uniform_filter(hu, size)
    bright = (smooth > bright_hu) & ~bone
    dull_mm = ndimage.distance_transform_edt(np.pad(bright, 1), sampling=spacing)[1:-1, 1:-1]
    core = dull_mm > _THIN_MM / 2
    labels, _ = ndimage.label(core, EIGHT_CONNECTED)
    joined = np.isin(labels, np.unique(labels[mask[window] & core])) & core
    found = mask.copy()
    found[window] |= near(joined, _THIN_MM / 2, spacing)
    return found


def wider_box(
    volume: CTVolume,
    k: int,
    mask: BoolArray,
    box: Box,
    *,
    bright_hu: float,
    bone_hu: float,
    rule: Rule,
) -> Box | None:
    """A wider box where a box may have cut the blood of slice k short; None where the mask [y, x] in it seems whole."""
    spacing = volume.geometry.spacing_yx_mm
    tight = box_from_mask(
        with_bright(
            volume, k, mask, box, bright_hu=bright_hu, bone_hu=bone_hu, reach_mm=rule.reach_mm
        )
    )
    if tight is None or not touches(tight, box, _TOUCH_MM, spacing, mask.shape):
        return None
    return united(box, grown(tight, rule.margin_mm, spacing, mask.shape))
