"""A synthetic head CT with a hematoma of known truth; `python -m ichseg.sample.make` made it.

>>> ct, truth = sample_paths()
>>> ct.name, truth.name
('head_ct.nii.gz', 'head_ct_truth.nii.gz')
"""

from __future__ import annotations

from pathlib import Path


def sample_paths() -> tuple[Path, Path]:
    """The synthetic scan (HU, int16) and its truth mask (uint8: 1 = IPH, 2 = IVH), on one grid."""
    here = Path(__file__).parent
    return here / "head_ct.nii.gz", here / "head_ct_truth.nii.gz"
