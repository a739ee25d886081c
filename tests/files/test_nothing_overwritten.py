"""No file that a command reads is written to, under whatever name, and no file is ever there by half."""

from __future__ import annotations

import csv
import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import phantoms
import pytest

from ichseg import cohort
from ichseg.cli import main as cli
from ichseg.errors import InputError
from ichseg.files.names import lesions_path
from ichseg.files.nifti_mask import write_mask
from ichseg.files.records import json_bytes
from ichseg.files.session import segmentation_record
from ichseg.files.write import save_mask, save_measures
from ichseg.marks.lesion import Lesion
from ichseg.measures.assessment import assess
from ichseg.methods.catalogue import load_predictor
from ichseg.scan.read import read_volume

ROOT = Path(__file__).resolve().parents[2]
BOX = "32,20,49,34"  # around all of the phantom's blood, on every slice
SEGMENT = ("--slice", "3", "--box", BOX, "--model", "threshold")
Command = Callable[..., tuple[int, str]]


@pytest.fixture
def command(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Command:
    def call(*arguments: object) -> tuple[int, str]:
        monkeypatch.setattr(sys, "argv", ["ichseg", *map(str, arguments)])
        with pytest.raises(SystemExit) as ended:
            cli.main()
        code = ended.value.code
        assert code is None or isinstance(code, int)
        return code or 0, "".join(capsys.readouterr())

    return call


def scan_at(path: Path) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    return phantoms.save_nifti(path, phantoms.head_hu()[0])


def contents(folder: Path) -> dict[Path, bytes]:
    """All that is in a folder, by name."""
    return {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}


@pytest.fixture
def places(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, Path]:
    """Names by which the scan in/scan.nii.gz can be written to."""
    scan = scan_at(tmp_path / "in" / "scan.nii.gz")
    (tmp_path / "link.nii.gz").symlink_to(scan)
    (tmp_path / "hard.nii.gz").hardlink_to(scan)
    (tmp_path / "door").symlink_to(scan.parent)
    monkeypatch.chdir(tmp_path)
    return {
        "itself": scan,
        "relative": Path("in/scan.nii.gz"),
        "dots": scan.parent / ".." / "in" / "scan.nii.gz",
        "link": tmp_path / "link.nii.gz",
        "hard link": tmp_path / "hard.nii.gz",
        "linked folder": tmp_path / "door" / "scan.nii.gz",
    }


NAMES = ("itself", "relative", "dots", "link", "hard link", "linked folder")


@pytest.mark.parametrize("name", NAMES)
def test_segment_leaves_its_scan_alone(
    command: Command, places: dict[str, Path], tmp_path: Path, name: str
) -> None:
    before = contents(tmp_path)
    for given in (places["itself"], places["link"]):
        code, said = command("segment", given, *SEGMENT, "--out", places[name])
        assert code == 2 and "never written over" in said and said.count("\n") == 1
    assert contents(tmp_path) == before


@pytest.mark.parametrize("name", NAMES)
def test_a_manifests_row_leaves_the_scan_of_every_row_alone(
    command: Command, places: dict[str, Path], tmp_path: Path, name: str
) -> None:
    out = tmp_path / "out"
    out.mkdir()
    other = scan_at(tmp_path / "in" / "other.nii.gz")
    rows = [
        {"scan": other, "boxes": f"3:{BOX}", "out": os.path.relpath(places[name], out)},
        {"scan": places["itself"], "boxes": f"3:{BOX}"},
    ]
    code, said = command("segment", manifest(tmp_path, rows), "--model", "threshold", "--out", out)
    assert code == 1 and "never written over" in said
    assert places["itself"].read_bytes() == other.read_bytes()
    assert not (out / "scan-0001.json").exists()
    assert (out / "scan-0002.json").exists()


def manifest(folder: Path, rows: Sequence[dict[str, object]], name: str = "list.csv") -> Path:
    with (folder / name).open("w", newline="") as file:
        writer = csv.DictWriter(file, cohort.COLUMNS)
        writer.writeheader()
        writer.writerows(rows)
    return folder / name


@pytest.fixture
def two(tmp_path: Path) -> list[dict[str, object]]:
    """The rows of two scans, the second with a reference and the record of a session."""
    a, b = scan_at(tmp_path / "a.nii.gz"), scan_at(tmp_path / "b.nii.gz")
    volume, predictor = read_volume(b), load_predictor("threshold")
    marked, _ = cohort.predict(volume, cohort.parse_boxes(f"3:{BOX}"), predictor)
    record = segmentation_record(volume, marked, model="threshold", weights_sha256={})
    for name in ("s-lesions.json", "scan-0001.json"):
        (tmp_path / name).write_bytes(json_bytes(record))
    phantoms.save_nifti(tmp_path / "truth.nii.gz", phantoms.head_hu()[1].astype(np.uint8))
    second = {"scan": b, "session": "s-lesions.json", "truth": "truth.nii.gz"}
    return [{"scan": a, "boxes": f"3:{BOX}"}, second]


@pytest.mark.parametrize("out", ["b.nii.gz", "truth.nii.gz", "s.nii.gz", "x/../truth.nii.gz"])
def test_a_row_leaves_reference_and_record_of_every_row_alone(
    command: Command, tmp_path: Path, two: list[dict[str, object]], out: str
) -> None:
    """s.nii.gz is no input, but what is written beside it is called as the record is."""
    before = contents(tmp_path)
    two[0]["out"] = out
    code, said = command(
        "segment", manifest(tmp_path, two), "--model", "threshold", "--out", tmp_path
    )
    assert code == 1 and "never written over" in said
    after = contents(tmp_path)
    assert {path: after[path] for path in before} == before


def test_a_rows_own_record_is_not_written_over_by_another_rows(
    command: Command, tmp_path: Path, two: list[dict[str, object]]
) -> None:
    two[1]["session"] = "scan-0001.json"
    before = (tmp_path / "scan-0001.json").read_bytes()
    code, _ = command("segment", manifest(tmp_path, two), "--out", tmp_path)
    assert code == 1 and (tmp_path / "scan-0001.json").read_bytes() == before
    assert (tmp_path / "scan-0002.json").exists()


def test_a_manifest_is_not_written_over(
    command: Command, tmp_path: Path, two: list[dict[str, object]]
) -> None:
    path = manifest(tmp_path, two, "results.csv")
    before = contents(tmp_path)
    code, said = command("segment", path, "--out", tmp_path)
    assert code == 2 and "never written over" in said
    assert contents(tmp_path) == before


@pytest.mark.parametrize("names", [("m.nii.gz", "m.nii"), ("m.nii", "M.nii"), ("m.nii", "./m.nii")])
def test_two_rows_never_share_a_file(
    command: Command, tmp_path: Path, two: list[dict[str, object]], names: tuple[str, str]
) -> None:
    """m.nii.gz and m.nii would have one file beside them; on some disks M.nii is m.nii."""
    for row, name in zip(two, names, strict=True):
        row["out"] = name
    out = tmp_path / "out"
    code, _ = command("segment", manifest(tmp_path, two), "--model", "threshold", "--out", out)
    assert code != 0
    assert not (out / "scan-0002.json").exists()


@pytest.mark.parametrize("out", [".", "results"])
def test_a_folder_that_is_read_scan_by_scan_takes_no_results(
    command: Command, tmp_path: Path, out: str
) -> None:
    folder = tmp_path / "scans"
    scan_at(folder / "a.nii.gz")
    (folder / "a.json").write_text("{}")
    code, said = command("segment", folder, "--out", folder / out)
    assert code == 2 and "outside of it" in said
    assert sorted(path.name for path in folder.iterdir()) == ["a.json", "a.nii.gz"]


@pytest.mark.parametrize("name", ["mask.nii.gz", "seg.dcm", "report.pdf", "deep/mask.zip"])
def test_a_dicom_folder_takes_no_output(command: Command, tmp_path: Path, name: str) -> None:
    hu_zyx = phantoms.head_hu()[0]
    images = phantoms.dicom_slices(hu_zyx, [5.0 * k for k in range(len(hu_zyx))])
    series = phantoms.save_dicom(tmp_path / "series", images)
    (series / "deep").mkdir()
    before = contents(tmp_path)
    code, said = command("segment", series, *SEGMENT, "--out", series / name)
    assert code == 2 and "outside of it" in said
    image = next(path for path in before if path.suffix == ".dcm")
    code, said = command("segment", series, *SEGMENT, "--out", image)
    assert code == 2 and contents(tmp_path) == before


def test_measure_leaves_all_that_it_reads_alone(command: Command, tmp_path: Path) -> None:
    scan = scan_at(tmp_path / "scan.nii.gz")
    volume, (_, blood) = read_volume(scan), phantoms.head_hu()
    masks = [tmp_path / "one.nii.gz", tmp_path / "two.nii.gz"]
    for mask in masks:
        save_mask(mask, blood.astype(np.uint8), volume, [Lesion(1, type="IPH")])
    before = contents(tmp_path)
    for out in (tmp_path / "one-lesions.json", tmp_path / "two-lesions.json"):
        code, said = command("measure", scan, masks[0], "--followup", scan, masks[1], "--out", out)
        assert code == 2 and "never written over" in said
    assert contents(tmp_path) == before


def test_outputs_of_one_run_are_files_of_their_own(command: Command, tmp_path: Path) -> None:
    scan = scan_at(tmp_path / "scan.nii.gz")
    for pair in (("m.nii.gz", "m-lesions.json"), ("t.csv", "t-slices.csv"), ("m.zip", "./m.zip")):
        outs = [argument for name in pair for argument in ("--out", tmp_path / name)]
        code, said = command("segment", scan, *SEGMENT, *outs)
        assert code == 2 and "a file of its own" in said
    assert [path.name for path in tmp_path.iterdir()] == ["scan.nii.gz"]


def test_the_library_leaves_a_scan_alone(tmp_path: Path) -> None:
    scan = scan_at(tmp_path / "scan.nii.gz")
    volume, before = read_volume(scan), scan.read_bytes()
    mask_zyx = phantoms.head_hu()[1]
    with pytest.raises(InputError, match="never written over"):
        write_mask(scan, mask_zyx, volume)
    with pytest.raises(InputError, match="never written over"):
        save_mask(scan, mask_zyx, volume)
    table = tmp_path / "scan.csv"
    found = assess(mask_zyx.astype(np.uint8), volume, [Lesion(1)])
    table.write_bytes(b"a list")
    with pytest.raises(InputError, match="never written over"):
        save_measures(table, found, inputs=[table])
    assert (scan.read_bytes(), table.read_bytes()) == (before, b"a list")


def test_a_pairs_other_half_is_an_input(tmp_path: Path) -> None:
    from ichseg.replace_file import inputs_of

    for name in ("scan.hdr", "Scan.IMG", "other.img", "DICOMDIR"):
        (tmp_path / name).touch()
    assert set(inputs_of(tmp_path / "scan.hdr")) == {tmp_path / "scan.hdr", tmp_path / "Scan.IMG"}
    assert inputs_of(tmp_path / "other.img") == [tmp_path / "other.img"]
    assert tmp_path in inputs_of(tmp_path / "DICOMDIR")


def test_what_labels_meant_goes_with_the_mask_that_they_were_of(tmp_path: Path) -> None:
    volume = read_volume(scan_at(tmp_path / "scan.nii.gz"))
    mask, labels = tmp_path / "mask.nii.gz", phantoms.head_hu()[1].astype(np.uint8)
    save_mask(mask, labels, volume, [Lesion(1, type="SDH")])
    assert lesions_path(mask).is_file()
    save_mask(mask, labels, volume)
    assert not lesions_path(mask).exists()
    lesions_path(mask).write_text('{"mine": true}')  # not written here: not ours to delete
    save_mask(mask, labels, volume)
    assert lesions_path(mask).is_file()


# Killed in the middle

KILLED = """
import os, signal, sys
from pathlib import Path
plain = Path.write_bytes
def cut(self, content):
    if {which}:
        with self.open("wb") as file:
            file.write(content[: len(content) // 2]); file.flush(); os.kill(os.getpid(), signal.SIGKILL)
    return plain(self, content)
Path.write_bytes = cut
sys.argv = ["ichseg", *sys.argv[1:]]
from ichseg.cli.main import main
main()
"""


def killed(which: str, *arguments: object) -> None:
    """Run a command that is killed when it has half written the file that ``which`` is true of."""
    run = subprocess.run(
        [sys.executable, "-c", KILLED.format(which=which), *map(str, arguments)],
        cwd=ROOT,
        capture_output=True,
        check=False,
    )
    assert run.returncode == -signal.SIGKILL, run.stderr.decode()


def test_a_kill_leaves_the_old_mask(tmp_path: Path) -> None:
    scan = scan_at(tmp_path / "scan.nii.gz")
    mask = tmp_path / "mask.nii.gz"
    mask.write_bytes(b"old")
    killed("self.suffix == '.gz'", "segment", scan, *SEGMENT, "--out", mask)
    assert mask.read_bytes() == b"old"
    left = {path.name for path in tmp_path.iterdir()} - {"scan.nii.gz", "mask.nii.gz"}
    assert len(left) == 1 and left.pop().startswith(".part-")


def test_a_killed_cohort_goes_on_and_keeps_no_half(tmp_path: Path, command: Command) -> None:
    scan_at(tmp_path / "a.nii.gz")
    path = manifest(tmp_path, [{"scan": "a.nii.gz", "boxes": f"3:{BOX}"}])
    out = tmp_path / "out"
    arguments = ("segment", path, "--model", "threshold", "--out", out)
    assert command(*arguments)[0] == 0
    first = contents(out)
    (tmp_path / "list.csv").write_text((tmp_path / "list.csv").read_text().replace("3:", "4:"))
    killed("self.suffix == '.json'", *arguments)  # the other mask is there, its record is not
    assert not (out / "scan-0001.json").exists()
    (tmp_path / "list.csv").write_text((tmp_path / "list.csv").read_text().replace("4:", "3:"))
    code, _ = command(*arguments)
    assert code == 0
    after = contents(out)
    assert {name: after[name] for name in first if name.suffix == ".gz"} == {
        name: content for name, content in first.items() if name.suffix == ".gz"
    }
    # What was left behind is no result, and no scan of a folder either.
    (left,) = (one for one in after if one not in first)
    assert left.name.startswith(".part-")
    assert [json.loads(after[one])["mask"] for one in after if one.name == "scan-0001.json"]
    assert left not in {entry.path for entry in cohort.read_manifest(out)}
    # The next run deletes it, once it is too old to be another machine's that is still at work.
    os.utime(left, (0, 0))
    assert command(*arguments)[0] == 0 and set(contents(out)) == set(after) - {left}
