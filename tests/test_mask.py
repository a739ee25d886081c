"""Masks that were made before, read onto their scan."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import phantoms
import pytest

from ichseg import export
from ichseg.errors import InputError
from ichseg.mask import read_labelled_mask
from ichseg.segmentation import Lesion

LESIONS = (Lesion(1, "Ventricle", "IVH"), Lesion(3, "Putamen", "IPH"))


def test_a_mask_brings_what_its_sidecar_says(tmp_path: Path) -> None:
    volume = phantoms.scan()
    labels = np.zeros(volume.shape_zyx, np.uint8)
    labels[1, 3, 2:12], labels[2, 4:6, 2:5] = 1, 3
    export.save_mask(tmp_path / "m.nii.gz", labels, volume, LESIONS)
    given = read_labelled_mask(tmp_path / "m.nii.gz", volume)
    np.testing.assert_array_equal(given.labels_zyx, labels)
    assert given.lesions == LESIONS
    export.lesions_path(tmp_path / "m.nii.gz").unlink()
    assert read_labelled_mask(tmp_path / "m.nii.gz", volume).lesions == ()
    export.lesions_path(tmp_path / "m.nii.gz").write_text("[")
    with pytest.raises(InputError, match="delete it, or save the mask again"):
        read_labelled_mask(tmp_path / "m.nii.gz", volume)
