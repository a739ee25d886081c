"""A prepared scan as the library has it, and the lesions of its reference mask."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
from scipy import ndimage

from ichseg.scan.geometry import Geometry
from ichseg.scan.volume import CTVolume
from train.data.cache import Prepared, ScanEntry
from train.data.cases import CT_ICH_ASSUMED_PIXEL_MM
from train.data.slices import keep_large

Mask = npt.NDArray[np.bool_]

#: CT-ICH's slices are about 5 mm apart; the release gives no positions.
ASSUMED_GAP_MM = 5.0

#: As in ``native_slices``: the least component at 512 x 512.
LEAST_COMPONENT_PX = 10.0


def volume_of(prepared: Prepared, scan: ScanEntry) -> CTVolume:
    """A prepared scan as the library has it; 0.35 mm and 5 mm are assumed where the set gives no spacing."""
    hu = np.stack([prepared.slice_hu(scan.scan_id, k) for k in range(len(scan.slices))])
    dy, dx = scan.pixel_spacing_mm or (CT_ICH_ASSUMED_PIXEL_MM, CT_ICH_ASSUMED_PIXEL_MM)
    heights = np.array(scan.slice_heights_mm or [ASSUMED_GAP_MM] * len(hu))
    positions = np.concatenate([[0], np.cumsum((heights[1:] + heights[:-1]) / 2)])
    origins = np.stack([0 * positions, 0 * positions, positions], axis=1)
    geometry = Geometry(origins, np.array([0, -dy, 0]), np.array([-dx, 0, 0]))
    return CTVolume(hu, geometry, name=scan.scan_id)


def reference_of(prepared: Prepared, scan: ScanEntry) -> Mask:
    """A scan's reference mask, bool [z, y, x]."""
    return np.stack([prepared.mask(scan.scan_id, k) for k in range(len(scan.slices))])


def lesions_of(reference_zyx: Mask, scan: ScanEntry) -> list[Mask]:
    """The reference mask's 26-connected components that have, on some slice, one large enough for a box."""
    labels, count = ndimage.label(reference_zyx, np.ones((3, 3, 3)))
    least_px = LEAST_COMPONENT_PX * scan.reference_scale**2
    components = (labels == number for number in range(1, count + 1))
    return [
        component
        for component in components
        if any(keep_large(m, least_px).any() for m in component)
    ]
