"""A study of 24 small scans with known blood, of every kind that a manifest meets, for the tests of many scans."""

from __future__ import annotations

import csv
from pathlib import Path
from typing import Any

import numpy as np
import phantoms

from ichseg.files.write import save_mask
from ichseg.scan.read import read_volume

BOX = "32,20,49,34"
"""Around the parenchymal blood of every scan, in pixels."""
IVH_BOX = "20,36,27,43"
SLICE = 3
SCANS = 24


def head(blood_mm: float = 15.0, with_ivh: bool = False) -> np.ndarray[Any, np.dtype[np.int16]]:
    """A head with an ellipsoid of blood, in the ventricle a small one, too: HU [z, y, x]."""
    hu_zyx = phantoms.head_hu((9.0, blood_mm, blood_mm))[0]
    if with_ivh:
        where = phantoms.ellipsoid(
            phantoms.HEAD_SHAPE_ZYX, phantoms.HEAD_SPACING_MM, (17, 118, 70), (6.0, 7.0, 7.0)
        )
        hu_zyx[where] = phantoms.BLOOD_HU
    return hu_zyx


def make(folder: Path) -> Path:
    """The scans, and the manifest of them.

    1 to 10 NIfTI, of which 9 and 10 are marked by the program itself, 11 to 14 DICOM, 15 and 16 tilted, 17 and 18
    uneven, 19 broken, 20 not there, 21 with IVH, 22 with the reference mask, 23 the follow-up of 1, 24 a box that is
    none.
    """
    folder.mkdir(parents=True)
    rows: list[dict[str, str]] = []
    dz, dy, dx = phantoms.HEAD_SPACING_MM
    even = [dz * k for k in range(phantoms.HEAD_SHAPE_ZYX[0])]
    for number in range(1, SCANS + 1):
        name, hu_zyx = f"scan-{number}", head(12.0 + number / 4, with_ivh=number == 21)
        row = {"boxes": f"{SLICE}:{BOX}", "propagate": "yes"}
        if number in range(11, 19):
            positions = [*even[:-1], even[-1] + 2.5] if number in (17, 18) else even
            tilt = 12.0 if number in (15, 16) else 0.0
            images = phantoms.dicom_slices(hu_zyx, positions, (dy, dx), tilt_degrees=tilt)
            phantoms.save_dicom(folder / name, images)
        else:
            name += ".nii.gz"
            phantoms.save_nifti(folder / name, hu_zyx)
        if number == 19:
            (folder / name).write_bytes(b"not a scan")
        elif number in (9, 10):
            row |= {"boxes": "", "auto": "yes"}
        elif number == 20:
            (folder / name).unlink()
        elif number == 21:
            row |= {"boxes": f"{SLICE}:{BOX} {SLICE}:{IVH_BOX}@2", "lesions": "1=IPH 2=IVH"}
        elif number == 22:
            blood = (hu_zyx == phantoms.BLOOD_HU).astype(np.uint8)
            save_mask(folder / "truth.nii.gz", blood, read_volume(folder / name))
            row |= {"truth": "truth.nii.gz"}
        elif number == 23:
            row |= {"baseline": "scan-1.nii.gz", "hours": "6"}
        elif number == 24:
            row |= {"boxes": "3:10,20,10,20"}
        rows.append({"scan": name, **row})
    path = folder / "manifest.csv"
    with path.open("w", newline="") as file:
        columns = ["scan", "boxes", "lesions", "propagate", "auto", "truth", "baseline", "hours"]
        writer = csv.DictWriter(file, columns, restval="")
        writer.writeheader()
        writer.writerows(rows)
    return path
