"""A synthetic head CT with a known hematoma, and its follow-up; `python -m tools.phantom.sample` made them.

>>> ct, truth = sample_paths()
>>> ct.name, truth.name
('head_ct.nii.gz', 'head_ct_truth.nii.gz')
>>> [path.name for path in sample_paths(followup=True)]
['head_ct_followup.nii.gz', 'head_ct_followup_truth.nii.gz']
"""

from __future__ import annotations

from pathlib import Path


def sample_paths(followup: bool = False) -> tuple[Path, Path]:
    """The synthetic scan (HU, int16) and its reference mask (uint8: 1 = IPH, 2 = IVH), on one grid.

    ``followup`` gives the second scan of the same head: lain down anew, the hematoma 40 % larger.
    """
    here = Path(__file__).parent
    name = "head_ct_followup" if followup else "head_ct"
    return here / f"{name}.nii.gz", here / f"{name}_truth.nii.gz"
