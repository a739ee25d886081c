"""Real slices and their boxes, for how well masks agree."""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
from PIL import Image

from ichseg.marks.box import Box, boxes_from_mask

#: Components of blood that are smaller are left out: on these a pixel more or less is a tenth.
LEAST_COMPONENT_PX = 100
MARGIN_PX = 6


class RealSlice(NamedTuple):
    """A slice of CT-ICH 1.0.0 [y, x] in HU, a box around each larger component of blood, and the blood itself."""

    slice_hu: npt.NDArray[np.float32]
    boxes: list[Box]
    blood: npt.NDArray[np.bool_]


def ct_ich_slices(root: Path, count: int) -> list[RealSlice]:
    """At most so many slices, spread over all that have blood; none where the data are not at root."""
    paths = sorted((root / "ct-ich-1.0.0" / "Patients_CT").glob("*/brain/*_HGE_Seg.jpg"))
    found = []
    for path in paths[:: max(1, len(paths) // count)][:count]:
        image = path.with_name(path.name.replace("_HGE_Seg", ""))
        grey, mask = (np.asarray(Image.open(one).convert("L")) for one in (image, path))
        blood = mask >= 128
        boxes = [
            box.grow(MARGIN_PX, (blood.shape[0], blood.shape[1]))
            for box in boxes_from_mask(blood)
            if blood[box.slices()].sum() >= LEAST_COMPONENT_PX
        ]
        if boxes:
            # The data set's rendering: level 40, width 120.
            found.append(RealSlice(grey.astype(np.float32) * (120 / 255) - 20, boxes, blood))
    return found
