"""Agreement between two folders of masks: by hand, and with what another library and an analysis of variance give."""

from __future__ import annotations

import csv
import json
import math
import sys
from pathlib import Path
from typing import Any

import numpy as np
import phantoms
import pytest

from ichseg.cli import main as cli
from ichseg.cohort.agree import agreement_rows, summaries
from ichseg.errors import InputError
from ichseg.files.write import save_mask
from ichseg.marks.lesion import Lesion

TYPED = (Lesion(1, type="IPH"), Lesion(2, type="IVH"))
VOXEL_ML = math.prod(phantoms.HEAD_SPACING_MM) / 1000


def command(*arguments: object) -> int:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys, "argv", ["ichseg", *map(str, arguments)])
        with pytest.raises(SystemExit) as ended:
            cli.main()
    return int(ended.value.code or 0)


def labels(iph: int, ivh: int = 0, shift: int = 0) -> np.ndarray[Any, np.dtype[np.uint8]]:
    """Two bars along a row: so many voxels of label 1, and of label 2 on another row."""
    out = np.zeros(phantoms.HEAD_SHAPE_ZYX, dtype=np.uint8)
    out[3, 20, 10 + shift : 10 + shift + iph] = 1
    out[4, 40, 10 : 10 + ivh] = 2
    return out


@pytest.fixture
def readers(tmp_path: Path) -> tuple[Path, Path]:
    """Six scans by two readers, who see 10, 12, ... voxels and 1 to 3 more; the last by the first reader alone."""
    a, b = tmp_path / "a", tmp_path / "b"
    for folder in (a, b):
        folder.mkdir()
    for number in range(6):
        phantoms.save_nifti(a / f"{number}.nii.gz", labels(10 + 2 * number, 4))
        more = 10 + 2 * number + 1 + number % 3
        phantoms.save_nifti(b / f"{number}.nii.gz", labels(more, 4))
    phantoms.save_nifti(a / "alone.nii.gz", labels(9))
    return a, b


def test_each_lesion_has_a_row_and_all_blood_has_one(readers: tuple[Path, Path]) -> None:
    rows = agreement_rows(*readers)
    first = [row for row in rows if row["mask_a"] == "0.nii.gz"]
    assert [row["lesion"] for row in first] == ["label 1", "label 2", "all blood"]
    assert first[0]["a_ml"] == pytest.approx(10 * VOXEL_ML)
    assert first[0]["difference_ml"] == pytest.approx(VOXEL_ML)
    assert first[0]["dice"] == pytest.approx(2 * 10 / 21)
    # One boundary voxel of 21 is 3 mm off, and the tolerance is 2.
    assert first[0]["surface_dice"] == pytest.approx(20 / 21)
    assert (first[1]["dice"], first[1]["surface_dice"]) == (1.0, 1.0)
    assert first[2]["a_ml"] == pytest.approx(14 * VOXEL_ML)
    (alone,) = [row for row in rows if row.get("error")]
    assert alone["mask_a"] == "alone.nii.gz" and alone["mask_b"] is None


def test_limits_and_correlation_are_those_of_the_textbooks(readers: tuple[Path, Path]) -> None:
    iph, ivh, blood = summaries(agreement_rows(*readers))
    assert (iph.lesion, ivh.lesion, blood.lesion) == ("label 1", "label 2", "all blood")
    difference = np.array([1, 2, 3, 1, 2, 3]) * VOXEL_ML
    assert iph.bias_ml == pytest.approx(2 * VOXEL_ML)
    sd = math.sqrt(4 / 5) * VOXEL_ML
    assert iph.sd_ml == pytest.approx(sd)
    assert (iph.low_ml, iph.high_ml) == pytest.approx(
        (2 * VOXEL_ML - 1.96 * sd, 2 * VOXEL_ML + 1.96 * sd)
    )
    assert iph.bias_ci_ml == pytest.approx(2.5706 * sd / math.sqrt(6), rel=1e-4)  # t of 5 degrees

    # ICC(2,1) of Shrout and Fleiss, from the mean squares of a two-way analysis of variance
    a = np.arange(10, 22, 2) * VOXEL_ML
    table = np.stack([a, a + difference], axis=1)
    n, k = table.shape
    grand, rows, columns = table.mean(), table.mean(axis=1), table.mean(axis=0)
    between = k * ((rows - grand) ** 2).sum() / (n - 1)
    raters = n * ((columns - grand) ** 2).sum() / (k - 1)
    rest = ((table - rows[:, None] - columns + grand) ** 2).sum() / ((n - 1) * (k - 1))
    expected = (between - rest) / (between + (k - 1) * rest + k * (raters - rest) / n)
    if iph.icc is None:
        pytest.skip("pingouin is not installed (pip install -r requirements-agree.txt)")
    assert iph.icc == pytest.approx(expected, abs=1e-6)
    assert iph.icc_low is not None and iph.icc_high is not None
    assert iph.icc_low < iph.icc < iph.icc_high
    assert ivh.icc is None and "alike" in ivh.not_computed


def test_lesions_go_by_type_where_both_tell_it_and_masks_by_their_scan(tmp_path: Path) -> None:
    volume = phantoms.scan([5.0 * k for k in range(8)], (64, 64), (3.0, 3.0), hu=phantoms.BRAIN_HU)
    a, b = tmp_path / "a", tmp_path / "b"
    for folder in (a, b):
        folder.mkdir()
    swapped = np.array([0, 2, 1], dtype=np.uint8)[labels(10, 4)]
    save_mask(a / "first.seg.nrrd", labels(10, 4), volume, TYPED)
    other = (Lesion(1, type="IVH"), Lesion(2, type="IPH"))
    save_mask(b / "otherwise.nii.gz", swapped, volume, other)
    iph, ivh, blood = agreement_rows(a, b)
    assert (iph["lesion"], ivh["lesion"], blood["lesion"]) == ("IPH", "IVH", "all blood")
    assert iph["dice"] == ivh["dice"] == blood["dice"] == 1.0


def test_masks_on_two_grids_cost_a_row(readers: tuple[Path, Path]) -> None:
    a, b = readers
    phantoms.save_nifti(b / "alone.nii.gz", labels(9)[:, :50])
    phantoms.store_nifti(b / "0.nii.gz", labels(9), np.diag([1.0, 1.0, 1.0, 1.0]))
    errors = {row["mask_a"]: row["error"] for row in agreement_rows(a, b) if row.get("error")}
    assert list(errors) == ["0.nii.gz"]  # a mask that is cut to its extent lies on the same grid


def test_folders_without_a_pair_are_refused(tmp_path: Path) -> None:
    for name in "ab":
        (tmp_path / name).mkdir()
        phantoms.save_nifti(tmp_path / name / f"{name}.nii.gz", labels(9))
    with pytest.raises(InputError, match="none goes with another"):
        agreement_rows(tmp_path / "a", tmp_path / "b")
    with pytest.raises(InputError, match="is none; check its path"):
        agreement_rows(tmp_path / "a", tmp_path / "nothing")


def test_the_command_writes_tables_and_a_plot(
    readers: tuple[Path, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    pytest.importorskip("matplotlib")
    out = tmp_path / "out"
    assert command("agree", *readers, "--out", out, "--json") == 1  # one mask is alone
    shown = json.loads(capsys.readouterr().out)
    assert shown["failed"] == 1 and len(shown["summaries"]) == 3
    with (out / "agreement-summary.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert [row["pairs"] for row in rows] == ["6", "6", "6"]
    assert (out / "bland-altman.png").read_bytes()[:4] == b"\x89PNG"
    frictionless = pytest.importorskip("frictionless")
    report = frictionless.validate(str(out / "datapackage.json"))
    assert report.valid, report.flatten(["fieldName", "note"])[:5]
    assert command("agree", *readers) == 1
    assert "label 1" in capsys.readouterr().out
