"""Signs on non-contrast CT as measurements: irregular surface, uneven HU, satellites. None of them is a verdict.

Readers' signs need a reader's eye. These are numbers beside it, each by a published definition, and comparable between
scans of one slice thickness only: thin slices show more of a surface, and more noise.
"""

from __future__ import annotations

import math

import numpy as np
from scipy import ndimage
from scipy.spatial import cKDTree

from ichseg.measures.intensity import hu_statistics
from ichseg.measures.lengths import TOUCHING, cropped, longest_in_plane
from ichseg.measures.surface import surface_area_mm2
from ichseg.measures.values import Subject
from ichseg.measures.volume import volume_ml

#: A satellite is smaller than this on every slice, and no farther from the largest component than that, as the sign is
#: used by Yu et al., Stroke 2017;48:1517 (not read at the source), after Shimoda et al., Cerebrovasc Dis 2017;44:105.
SATELLITE_MM, SATELLITE_REACH_MM = 10.0, 20.0


def irregularity_percent(subject: Subject) -> float | None:
    """The hematoma irregularity index; None for several lesions together, and for an empty mask.

    The radius of a sphere of the same surface over that of a sphere of the same volume, times 100: 100 for a sphere
    (BMC Neurology 2022, doi:10.1186/s12883-022-02983-w).
    """
    volume_mm3 = 1000 * volume_ml(subject.mask_zyx, subject.volume)
    if subject.is_several or not volume_mm3:
        return None
    area_mm2 = surface_area_mm2(subject.mask_zyx, subject.volume)
    return 100 * math.sqrt(area_mm2 / (4 * math.pi)) / (3 * volume_mm3 / (4 * math.pi)) ** (1 / 3)


def hu_variation_percent(subject: Subject) -> float | None:
    """The coefficient of variation of the HU, their standard deviation over their mean, in per cent; None without one.

    As a measure of heterogeneity: Frontiers in Neurology 2022, doi:10.3389/fneur.2022.999223. Noise is in it.
    """
    found = hu_statistics(subject.mask_zyx, subject.volume)
    return 100 * found.sd / found.mean if found is not None and found.mean > 0 else None


def satellites(subject: Subject) -> int | None:
    """How many components beside the largest are smaller than SATELLITE_MM and within SATELLITE_REACH_MM of it.

    Components touch in 3D, corners included; distances are between voxels' middles. None for several lesions.
    """
    if subject.is_several:
        return None
    cut, corner = cropped(subject.mask_zyx)
    labels, count = ndimage.label(cut, structure=TOUCHING) if cut.size else (cut, 0)
    if count < 2:
        return 0
    where, boxes = subject.volume.geometry, ndimage.find_objects(labels)
    places = []
    for number, box in enumerate(boxes, 1):
        starts = [side.start for side in box]
        places.append(np.argwhere(labels[box] == number) + starts + np.array(corner))
    voxels_ml = subject.volume.voxel_volumes_ml
    largest = int(np.argmax([voxels_ml[at[:, 0]].sum() for at in places]))
    main = cKDTree(where.to_mm(*places[largest].T))
    found = 0
    for number, at in enumerate(places):
        if number == largest or main.query(where.to_mm(*at.T))[0].min() > SATELLITE_REACH_MM:
            continue
        sides_mm = (np.ptp(at[:, 1:], axis=0) + 1) * where.spacing_yx_mm
        if np.hypot(*sides_mm) < SATELLITE_MM:
            found += 1
        elif sides_mm.max() < SATELLITE_MM:
            one = np.zeros(subject.mask_zyx.shape, dtype=bool)
            one[tuple(at.T)] = True
            line = longest_in_plane(one, subject.volume)
            found += line is None or line.length_mm < SATELLITE_MM
    return found
