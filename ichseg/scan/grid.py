"""The grid of a file as a scan without values: for masks that are read without the scan that they were drawn on."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from ichseg.errors import refusal
from ichseg.scan.geometry import Geometry
from ichseg.scan.intake import kind_on_disk
from ichseg.scan.nifti import open_nifti
from ichseg.scan.nrrd import open_image
from ichseg.scan.volume import CTVolume


def grid_of(path: Path) -> CTVolume:
    """A scan of zeros on the grid of a NIfTI, NRRD or MetaImage file. Raises VolumeError for any other file."""
    kind = kind_on_disk(path) if path.is_file() else "none"
    if kind == "nifti":
        with open_nifti(path, least=1) as file:
            return _empty(path.name, file.grid.shape_zyx, file.geometry)
    if kind == "nrrd":
        image = open_image(path, least=1)
        z, y, x = image.values.shape[:3]
        return _empty(path.name, (z, y, x), image.geometry)
    raise refusal(
        path.name,
        "a mask that is read without its scan is NIfTI, NRRD or MetaImage",
        "this is another file",
        "save it in one of these formats",
    )


def _empty(name: str, shape_zyx: tuple[int, int, int], geometry: Geometry) -> CTVolume:
    zeros = np.broadcast_to(
        np.zeros(1, dtype=np.int16), shape_zyx
    )  # no memory for what is never looked at
    return CTVolume(zeros, geometry, name)
