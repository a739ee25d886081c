"""A method is one row with its loader: one that is added from outside works at every door."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import nibabel
import numpy as np
import numpy.typing as npt
import phantoms
import pytest

from ichseg.cli import main as cli
from ichseg.methods import catalogue
from ichseg.methods.in_box import InBoxPredictor
from ichseg.methods.method import Method
from ichseg.page.choices import choices

BOX = "32,20,49,34"


class BrightPredictor(InBoxPredictor):
    """Everything above 50 HU in the box."""

    name = "bright"
    title = "Above 50 HU"

    def find(self, inside_hu: npt.NDArray[np.number]) -> npt.NDArray[np.bool_]:
        return np.asarray(inside_hu > 50)


def load(method: Method, device: str, backend: str) -> BrightPredictor:
    return BrightPredictor()


@pytest.fixture(autouse=True)
def _row(monkeypatch: pytest.MonkeyPatch) -> None:
    row = Method("bright", "Above 50 HU", "Voxels above 50 HU inside the box.", load)
    monkeypatch.setitem(catalogue.CATALOGUE, "bright", row)
    monkeypatch.setattr(catalogue, "_LOADED", {})


@pytest.fixture
def scan(tmp_path: Path) -> Path:
    return phantoms.save_nifti(tmp_path / "head.nii.gz", phantoms.head_hu()[0])


def ask(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], *arguments: object
) -> dict[str, object]:
    monkeypatch.setattr(sys, "argv", ["ichseg", *map(str, arguments), "--json"])
    with pytest.raises(SystemExit) as ended:
        cli.main()
    out, err = capsys.readouterr()
    assert ended.value.code in (None, 0), err
    return dict(json.loads(out))


def test_segment_compare_and_many_scans_take_it_by_its_name(
    scan: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    one = ("--slice", 3, "--box", BOX)
    found = ask(monkeypatch, capsys, "segment", scan, *one, "--model", "bright")
    blood = phantoms.head_hu()[0][3, 20:34, 32:49] > 50
    voxel_ml = abs(np.linalg.det(nibabel.load(scan).affine)) / 1000
    assert found["model"] == "bright"
    assert found["volume_ml"] == pytest.approx(np.count_nonzero(blood) * voxel_ml)
    compared = ask(monkeypatch, capsys, "compare", scan, *one, "--models", "bright,threshold")
    assert "bright" in json.dumps(compared)
    listed = tmp_path / "list.csv"
    listed.write_text(f'scan,boxes\n{scan.name},"3:{BOX}"\n', encoding="utf-8")
    out = tmp_path / "masks"
    many = ask(monkeypatch, capsys, "segment", listed, "--model", "bright", "--out", out)
    assert "bright" in json.dumps(many) and list(out.glob("*.nii.gz"))


def test_the_pages_list_and_what_is_said_of_it_come_from_the_row() -> None:
    (choice,) = (one for one in choices() if one["name"] == "bright")
    assert choice["title"] == catalogue.title_of("bright") == "Above 50 HU"
    assert choice["missing"] == "" and not catalogue.takes_edge("bright")
    identity = catalogue.mask_identity(catalogue.load_predictor("bright"), edge=True)
    assert identity.model == "bright" and "edge" not in identity.settings
