"""Every download of the page, opened by a library that is not ours."""

from __future__ import annotations

import csv
import io
import json
import re
from pathlib import Path
from typing import Any

import meshio
import nibabel as nib
import numpy as np
import numpy.typing as npt
import pygltflib
import pypdfium2
import pytest

from ichseg import NOTICE
from ichseg.volume import CTVolume
from tests.e2e.driver import Viewer


def more(viewer: Viewer, kind: str, folder: Path) -> Path:
    """Download something from the menu."""
    viewer.page.click("[data-do=more]")
    return viewer.download(kind, folder)


def check_files(
    viewer: Viewer, mask_zyx: npt.NDArray[np.bool_], scan: CTVolume, folder: Path
) -> tuple[dict[str, Any], str]:
    """Download all that a NIfTI scan gives and hold each file to the mask of its one lesion.

    Returns the measures' record and the report's text.
    """
    ml = float((mask_zyx.sum(axis=(1, 2)) * scan.voxel_volumes_ml).sum())
    record = json.loads(more(viewer, "json", folder).read_text())
    assert record["total"]["volume_ml"] == pytest.approx(ml) and record["notice"] == NOTICE
    rows = list(csv.DictReader(io.StringIO(more(viewer, "csv", folder).read_text())))
    assert float(rows[0]["volume_ml"]) == pytest.approx(ml, abs=1e-3)
    assert rows[0]["abc2_set_by_hand"] == ""

    report = pypdfium2.PdfDocument(more(viewer, "pdf", folder))
    text = " ".join(page.get_textpage().get_text_range() for page in report)
    text = re.sub(r"\s+", " ", text)
    assert 1 <= len(report) <= 2 and text.count(NOTICE) >= len(report)
    assert f"{ml:.1f} mL" in text

    surface = meshio.read(more(viewer, "stl", folder))
    a, b, c = (surface.points[surface.cells[0].data[:, i]].astype(float) for i in range(3))
    assert np.einsum("ij,ij->", a, np.cross(b, c)) / 6000 == pytest.approx(ml, rel=0.01)
    gltf = pygltflib.GLTF2().load(more(viewer, "glb", folder))
    assert [node.name for node in gltf.nodes if node.mesh is not None] == ["Lesion 1"]
    image = nib.load(viewer.download("mask", folder))
    assert int(np.count_nonzero(image.dataobj)) == int(mask_zyx.sum())
    for path in folder.iterdir():
        assert path.name.startswith("hematoma")
    return record, text
