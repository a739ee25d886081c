"""Every download of the page, opened by a library that is not ours."""

from __future__ import annotations

import csv
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
from playwright.sync_api import Download

from ichseg import NOTICE
from ichseg.scan.volume import CTVolume
from tests.e2e.driver import PATIENCE_MS, Viewer


def more(viewer: Viewer, kind: str, folder: Path) -> Path:
    """Download something from the menu."""
    viewer.page.click("[data-do=more]")
    return viewer.download(kind, folder)


def tables(viewer: Viewer, folder: Path, count: int = 3) -> dict[str, list[dict[str, str]]]:
    """Download the tables of all measures, so many: the rows of each by how its file's name ends."""
    files: list[Download] = []

    def keep(file: Download) -> None:
        files.append(file)

    viewer.page.on("download", keep)
    viewer.page.click("[data-do=more]")
    viewer.page.click("[data-save=csv]")
    while len(files) < count:  # in whatever order the browser begins them
        viewer.page.wait_for_event("download", timeout=PATIENCE_MS)
    viewer.page.remove_listener("download", keep)
    found = {}
    for file in files:
        path = folder / file.suggested_filename
        file.save_as(path)
        found[path.stem.rpartition("-")[2]] = list(csv.DictReader(path.open()))
    return found


def check_files(
    viewer: Viewer, mask_zyx: npt.NDArray[np.bool_], scan: CTVolume, folder: Path
) -> tuple[dict[str, Any], str]:
    """Download all that a NIfTI scan gives and hold each file to the mask of its one lesion.

    Returns the measures' record and the report's text.
    """
    ml = float((mask_zyx.sum(axis=(1, 2)) * scan.voxel_volumes_ml).sum())
    record = json.loads(more(viewer, "json", folder).read_text())
    assert record["total"]["volume_ml"] == pytest.approx(ml) and record["notice"] == NOTICE
    with_growth = (record["growth"] is not None) + bool(record["scores"])
    rows = tables(viewer, folder, 3 + with_growth)
    (lesion,), (total,) = rows["measures"], rows["total"]
    assert float(lesion["volume_ml"]) == float(total["volume_ml"]) == pytest.approx(ml, abs=1e-3)
    assert sum(float(row["volume_ml"]) for row in rows["slices"]) == pytest.approx(ml, abs=1e-2)
    assert lesion["abc2_set_by_hand"] == "" and lesion["scan"] == scan.sha256[:8]

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
        assert path.name.startswith(f"hematoma-{scan.sha256[:8]}-")
    return record, text
