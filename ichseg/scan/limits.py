"""HU limits between air, blood and bone: every one that the program goes by, what it is for, and where it is from.

Acute blood is some 50 to 80 HU, at most 100 where it has clotted, and cortical bone 700 and more. Between them lie the
pixels that bone and brain share, so that no one limit fits all: what must not lose blood takes a high one, what must
not take bone for blood a low one.
"""

from __future__ import annotations

HIGHEST_BLOOD_HU = 95.0
"""From here on a pixel is not blood: for fuzzy c-means and the random forest, for what a closed ring of bone encloses,
and on images that end below any bone. Those of CT-ICH, the training data, are 8-bit and end at 100 HU."""

BONE_BESIDE_EDGE_HU = 120.0
"""Above this is bone for the edge at half height, which is left alone within 3 mm of it. Low, so that the blurred rim
of the skull counts as bone; chosen with the edge's other numbers on phantoms (docs/phantoms)."""

BONE_IN_MASK_HU = 150.0
"""Above this is bone for following a hematoma through the scan, which ends where too much of a mask is bone. Higher
than the edge's, so that noise in bright blood does not count; chosen with the rule's other numbers on patients of
CT-ICH (docs/propagation.md)."""

SOLID_BONE_HU = 300.0
"""From here on a voxel is bone and nothing else, contrast medium and small calcifications left out: for the skull's
surface, the midline, the distance to the inner table and the size of the head."""

AIR_BESIDE_EDGE_HU = -150.0
"""Below this is air, for the edge at half height; fat is -50 to -120 HU."""


def bone_above(limit_hu: float, highest_hu: float) -> float:
    """The limit of bone for a scan whose highest value is ``highest_hu``.

    An 8-bit scan, as of CT-ICH, may end below ``limit_hu``: what is near its end is bone then.

    >>> bone_above(BONE_IN_MASK_HU, 2000.0), bone_above(BONE_IN_MASK_HU, 100.0)
    (150.0, 95.0)
    """
    return limit_hu if highest_hu > limit_hu else HIGHEST_BLOOD_HU
