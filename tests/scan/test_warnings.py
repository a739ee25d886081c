"""What makes a millilitre doubtful stands wherever the number does: on the screen, and in every file."""

from __future__ import annotations

import csv
import gzip
import io
import json
import sys
import zipfile
from collections.abc import Callable
from pathlib import Path

import nibabel as nib
import numpy as np
import phantoms
import pypdfium2
import pytest

from ichseg.cli import main as cli
from ichseg.files.write import endings
from ichseg.scan.read import read_volume

BOX = "8,8,56,56"
Command = Callable[..., str]


@pytest.fixture
def scan(tmp_path: Path) -> Path:
    """A head whose header has a writer's default in the place of the voxel's size."""
    path = tmp_path / "head.nii.gz"
    nib.save(nib.Nifti1Image(phantoms.head_hu()[0].T.astype(np.int16), np.eye(4)), path)
    return path


@pytest.fixture
def warning(scan: Path) -> str:
    (found,) = read_volume(scan).warnings
    return found


@pytest.fixture
def command(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Command:
    def call(*arguments: object) -> str:
        monkeypatch.setattr(sys, "argv", ["ichseg", *map(str, arguments)])
        with pytest.raises(SystemExit) as ended:
            cli.main()
        out, err = capsys.readouterr()
        assert not ended.value.code, err
        return " ".join(out.split())

    return call


def said_in(path: Path) -> str:
    """All text of a file, as its own format has it."""
    content = path.read_bytes()
    if path.name.endswith(".nii.gz"):
        content = gzip.decompress(content)
    if path.suffix == ".zip":
        with zipfile.ZipFile(io.BytesIO(content)) as archive:
            return archive.read("README.txt").decode()
    if path.suffix == ".pdf":
        page = pypdfium2.PdfDocument(content)[0]
        return " ".join(page.get_textpage().get_text_range().split())
    return content.decode(errors="replace")


def test_a_warning_is_on_the_screen_and_in_every_file_of_one_scan(
    scan: Path, warning: str, command: Command, tmp_path: Path
) -> None:
    out = tmp_path / "out"
    out.mkdir()
    # Of a DICOM scan alone; 80 bytes for text, which say that there is one; of two scans.
    own = (".dcm", ".stl", ".svg")
    names = [f"m{suffix}" for suffix in endings("measures") if not suffix.endswith(own)]
    asked = ("segment", scan, "--slice", 3, "--box", BOX, "--model", "threshold")
    names += [
        f"mask-{number}{ending}"
        for number, ending in enumerate(endings("mask"))
        if f"m{ending}" not in names
    ]
    outs = [word for name in names for word in ("--out", out / name)]
    assert f"Warning: {warning}" in command(*asked, *outs)
    written = sorted(out.iterdir())
    assert len(written) >= len(names)
    assert not [path.name for path in written if warning not in said_in(path)]
    assert warning in command(*asked, "--json")
    for line in (("info", scan), ("measure", scan, out / "mask-0.nii.gz")):
        assert f"Warning: {warning}" in command(*line)
        assert warning in command(*line, "--json")
    assert warning in command("compare", *asked[1:6], "--models", "threshold", "--json")


@pytest.mark.parametrize("what", ["segment", "benchmark"])
def test_a_warning_is_in_the_table_and_the_records_of_many_scans(
    scan: Path, warning: str, command: Command, tmp_path: Path, what: str
) -> None:
    manifest, out = tmp_path / "list.csv", tmp_path / "out"
    manifest.write_text(f'scan,boxes\n{scan.name},"3:{BOX}"\n')
    models = ("--model" if what == "segment" else "--models", "threshold")
    assert f"Scan 1: Warning: {warning}" in command(what, manifest, *models, "--out", out)
    (row,) = csv.DictReader((out / "results.csv").open())
    assert row["warnings"] == warning and float(row["volume_ml"]) > 0
    for path in out.glob("s*-0001.json"):
        assert json.loads(path.read_text())["scan"]["warnings"] == [warning]
    again = json.loads(command(what, manifest, *models, "--out", out, "--json"))
    assert again["scans"][0]["warnings"] == warning
