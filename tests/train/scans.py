"""Made-up scans on disk, as ``python -m train prepare --dataset folder`` reads them."""

from __future__ import annotations

from pathlib import Path

import nibabel as nib
import numpy as np


def write_scan(root: Path, name: str, hu_xyz: np.ndarray, mask_xyz: np.ndarray) -> None:
    affine = np.diag([-1.0, -1.0, 5.0, 1.0])
    for folder, values in (
        ("images", hu_xyz.astype(np.int16)),
        ("masks", mask_xyz.astype(np.uint8)),
    ):
        (root / folder).mkdir(parents=True, exist_ok=True)
        nib.save(nib.Nifti1Image(values, affine), root / folder / f"{name}.nii.gz")
