"""THE table of readers: what it says of the formats, and a format that is added to it from outside."""

from __future__ import annotations

import gzip
import json
import sys
import zipfile
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import phantoms
import pytest

from ichseg.cli.main import main
from ichseg.cohort.manifest import read_manifest
from ichseg.errors import VolumeError
from ichseg.scan import intake
from ichseg.scan.formats import READERS, InputFile, Reader
from ichseg.scan.geometry import Geometry
from ichseg.scan.hounsfield import Plane, stack_hounsfield
from ichseg.scan.read import read_volume
from ichseg.scan.volume import CTVolume

MAGIC, SHAPE_ZYX = b"MADE-UP\n", (8, 64, 64)


def read_made_up(file: InputFile, add_offset: int) -> CTVolume:
    """A format of this test: its magic, and then the voxels as int16, [z, y, x]."""
    with file.open() as stream:
        content = stream.read()
    stored = np.frombuffer(content[len(MAGIC) :], "<i2").reshape(SHAPE_ZYX)
    planes = (Plane(plane, 1.0, float(add_offset)) for plane in stored)
    hu_zyx, notes = stack_hounsfield(file.name, SHAPE_ZYX, planes)
    affine = np.diag([-3.0, -3.0, 5.0, 1.0])
    return CTVolume(hu_zyx, Geometry.from_affine(affine, SHAPE_ZYX[0]), "made up", notes)


ROW = Reader(
    kind="made-up",
    titles=("Made-up",),
    recognises=lambda head: head.startswith(MAGIC),
    read=read_made_up,
    suffixes=(".made",),
)


@pytest.fixture
def added() -> Iterator[None]:
    """The table with one more row, and nothing else changed."""
    READERS.append(ROW)
    yield
    READERS.remove(ROW)


@pytest.fixture
def scan(tmp_path: Path) -> Path:
    path = tmp_path / "head.made"
    path.write_bytes(MAGIC + phantoms.head_hu()[0].astype("<i2").tobytes())
    return path


def test_a_format_that_is_no_row_is_none(scan: Path) -> None:
    with pytest.raises(VolumeError, match=r"MetaImage \(.mha\) or DICOM .*, but this file is none"):
        read_volume(scan)


@pytest.mark.usefixtures("added")
def test_an_added_format_opens_as_any_other(scan: Path, tmp_path: Path) -> None:
    """By name or by content, in a folder, in a zip, in a gzip; with an offset; with every check of a scan."""
    expected = np.maximum(phantoms.head_hu()[0], -1024)
    nameless = tmp_path / "folder" / "I0001"
    nameless.parent.mkdir()
    nameless.write_bytes(scan.read_bytes())
    packed = tmp_path / "head.made.gz"
    packed.write_bytes(gzip.compress(scan.read_bytes()))
    archive = tmp_path / "head.zip"
    with zipfile.ZipFile(archive, "w") as file:
        file.write(scan, "head.made")
    for path in (scan, nameless, nameless.parent, packed, archive):
        volume = read_volume(path)
        np.testing.assert_array_equal(volume.hu_zyx, expected)
        assert volume.spacing_mm == (5.0, 3.0, 3.0)
    raised = read_volume(scan, add_offset=24)
    np.testing.assert_array_equal(raised.hu_zyx, expected + 24)


@pytest.mark.usefixtures("added")
def test_the_command_line_tells_of_an_added_format(
    scan: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys, "argv", ["ichseg", "info", str(scan), "--json"])
    with pytest.raises(SystemExit) as ended:
        main()
    assert not ended.value.code
    assert json.loads(capsys.readouterr().out)["scan"]["shape_zyx"] == list(SHAPE_ZYX)


@pytest.mark.usefixtures("added")
def test_messages_name_an_added_format(scan: Path, tmp_path: Path) -> None:
    text = tmp_path / "notes.txt"
    text.write_text("no scan")
    rule = "a scan is NIfTI (.nii, .nii.gz), NRRD, MetaImage (.mha), Made-up or DICOM (folder, zip, files)"
    with pytest.raises(VolumeError) as error:
        read_volume(text)
    assert str(error.value).startswith(f"notes.txt: {rule}, but this file is none of them; ")
    with pytest.raises(VolumeError, match="a NIfTI, NRRD, MetaImage or Made-up scan is opened by"):
        read_volume([scan, phantoms.save_nifti(tmp_path / "a.nii.gz", phantoms.head_hu()[0])])
    with pytest.raises(VolumeError, match="only DICOM comes in series"):
        read_volume(scan, series="1")


@pytest.mark.usefixtures("added")
def test_a_folder_of_many_scans_has_those_of_an_added_format(scan: Path) -> None:
    (scan.parent / "head.json").write_text("{}")
    (scan.parent / "mask.seg.nrrd").write_text("")
    (scan.parent / "notes.txt").write_text("")
    assert [entry.scan for entry in read_manifest(scan.parent)] == ["head.made"]


@pytest.mark.parametrize("row", READERS, ids=[row.kind for row in READERS])
def test_each_row_names_a_function_that_is_there(row: Reader) -> None:
    assert callable(row.function())
    assert row.kind not in ("zip", "archive", "image", "other")


def test_each_name_and_beginning_is_of_the_row_that_says_so() -> None:
    for row in READERS:
        assert {intake.kind_of(f"SCAN{end.upper()}", b"x" * 1024) for end in row.suffixes} <= {
            row.kind
        }
    assert intake.kind_of("a", bytes(128) + b"DICM") == "dicom"
    assert intake.kind_of("a", bytes(344) + b"n+1\0") == "nifti"
    assert intake.kind_of("a", b"ObjectType = Image") == "nrrd"
    assert intake.kind_of("a", bytes(344) + b"ni1\0") == "header"
    assert intake.kind_of("._scan.nii", b"\x00\x05\x16\x07") == "other"
    assert len({row.kind for row in READERS}) == len(READERS)
