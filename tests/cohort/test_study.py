"""A study's worth of scans in one run that is killed twice: what comes of it is what each scan gives alone."""

from __future__ import annotations

import csv
import importlib.util
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import phantoms
import pytest

from ichseg import cohort
from ichseg.cli import main as cli
from ichseg.cohort.rows import RESULT_COLUMNS
from ichseg.files.mask import read_labelled_mask
from ichseg.scan.read import read_volume
from tests.cohort import study
from tests.light_finder import LightFinder, use

ROOT = Path(__file__).resolve().parents[2]
BROKEN = (19, 20, 24)
OF_A_RUN = {"number", "scan", "state", "seconds", "mask", "baseline", "hours"}

#: The lightest method, and no boxes drawn anew.
LIGHT = ("--model", "threshold", "--no-range")

#: Ends as a kill does: in scan 8 between its mask and its record, or right after scan 16.
KILLED = """
import os, signal, sys
from pathlib import Path
from ichseg import cohort
from ichseg.cohort import jobs
from tests.light_finder import LightFinder, use

use(LightFinder(skull=False))
manifest, out, end = Path(sys.argv[1]), Path(sys.argv[2]), sys.argv[3]

def end_now(*_):
    os.kill(os.getpid(), signal.SIGKILL)

written = jobs.write_whole
def write_whole(path, content, **more):
    if end == "within 8" and path.name == "scan-0008.json":
        end_now()
    written(path, content, **more)
jobs.write_whole = write_whole

entries = [one.with_defaults(model="threshold") for one in cohort.read_manifest(manifest)]
todo = [cohort.Segment(one, out) for one in entries]
cohort.run(todo, on_done=lambda one: one.entry.number == 16 and end == "after 16" and end_now())
"""


class Run(NamedTuple):
    manifest: Path
    out: Path
    states: list[str]
    rows: list[dict[str, str]]
    shown: dict[str, Any]


def command(*arguments: object) -> int:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys, "argv", ["ichseg", *map(str, arguments)])
        with pytest.raises(SystemExit) as ended:
            cli.main()
    return int(ended.value.code or 0)


@pytest.fixture(scope="module", autouse=True)
def finder() -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        use(LightFinder(skull=False), patch)
        yield


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Run:
    folder = tmp_path_factory.mktemp("study")
    manifest, out = study.make(folder / "scans"), folder / "out"
    for end in ("within 8", "after 16"):
        killed = subprocess.run(
            [sys.executable, "-c", KILLED, str(manifest), str(out), end],
            cwd=ROOT, check=False,
            env={**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": f"{ROOT}{os.pathsep}{ROOT / 'tests'}"},
        )  # fmt: skip
        assert killed.returncode == -9
    with pytest.MonkeyPatch.context() as patch:
        said: list[str] = []
        patch.setattr(sys.stdout, "write", said.append)
        code = command("segment", manifest, *LIGHT, "--out", out, "--json")
    assert code == 1
    with (out / "results.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    shown = json.loads("".join(said))
    return Run(manifest, out, [row["state"] for row in shown["scans"]], rows, shown)


def test_a_run_that_was_killed_goes_on_where_it_was(run: Run) -> None:
    by_number = {row["number"]: row["state"] for row in run.shown["scans"]}
    kept = [number for number, state in by_number.items() if state == "kept"]
    passed_over = [number for number, state in by_number.items() if state == "passed over"]
    assert kept == list(range(1, 17)) and passed_over == list(BROKEN)
    assert not list(run.out.glob(".part-*"))


def test_masks_and_rows_are_those_of_each_scan_alone(run: Run, tmp_path: Path) -> None:
    with run.manifest.open(newline="") as file:
        asked = list(csv.DictReader(file))
    for number, row in enumerate(asked, 1):
        if number in BROKEN:
            continue
        scan = run.manifest.parent / row["scan"]
        options = [f"--lesion={one}" for one in row["lesions"].split()]
        for part in row["boxes"].split():
            k, _, box = part.partition(":")
            options += [f"--slice={k}", f"--box={box}"]
        options += ["--auto"] * (row["auto"] == "yes")
        volume = read_volume(scan)
        name = "mask.nii.gz" if volume.geometry.is_even else "mask.zip"
        folder = tmp_path / str(number)
        folder.mkdir()
        table = folder / "measures.csv"
        command(
            "segment", scan, *options, "--propagate", *LIGHT,
            "--out", folder / name, "--out", table, "--json",
        )  # fmt: skip
        mine = [one for one in run.rows if one["number"] == str(number)]
        mask = read_labelled_mask(run.out / mine[0]["mask"], volume)
        alone = read_labelled_mask(folder / name, volume)
        np.testing.assert_array_equal(mask.labels_zyx, alone.labels_zyx)
        with table.open(newline="") as file:
            rows = list(csv.DictReader(file))
        assert len(rows) == len(mine) == (2 if number == 21 else 1)
        for one, single in zip(mine, rows, strict=True):
            shared = one.keys() & single.keys() - OF_A_RUN
            assert {key: one[key] for key in shared} == {key: single[key] for key in shared}
            assert len(shared) > 40
            assert one["extent"] == ("automatic" if row["auto"] else "propagated")


def test_one_bad_scan_costs_one_row_of_a_kind(run: Run) -> None:
    assert run.shown["failures"] == {"scan or mask": [19, 20], "boxes or lesions": [24]}
    bad = [row for row in run.rows if row["error"]]
    assert [int(row["number"]) for row in bad] == list(BROKEN)
    assert len(run.rows) == study.SCANS + 1  # scan 21 has two lesions


def test_lesions_have_rows_of_their_own(run: Run) -> None:
    iph, ivh = (row for row in run.rows if row["number"] == "21")
    assert (iph["type"], ivh["type"]) == ("IPH", "IVH")
    assert float(iph["volume_ml"]) > 3 * float(ivh["volume_ml"]) > 0
    whole = float(iph["volume_ml"]) + float(ivh["volume_ml"])
    assert float(iph["blood_ml"]) == pytest.approx(whole, abs=1e-3)
    assert iph["slices_boxed"] == "1" and int(iph["slices_propagated"]) >= 1


def test_rows_say_how_slices_were_marked_and_what_is_special_about_a_scan(run: Run) -> None:
    by_number = {row["number"]: row for row in run.rows}
    automatic, tilted = by_number["9"], by_number["15"]
    assert automatic["slices_boxed"] == "0" and int(automatic["slices_automatic"]) >= 1
    assert tilted["slices_boxed"] == "1" and tilted["slices_automatic"] == "0"
    assert "12.0 degrees" in tilted["scan_notes"] and by_number["1"]["scan_notes"] == ""


def test_the_volume_is_that_of_the_blood(run: Run) -> None:
    """65 HU in 35 without noise: the threshold finds the blood, but for what its median rounds off."""
    voxel_ml = float(np.prod(phantoms.HEAD_SPACING_MM)) / 1000
    for number in (1, 10, 15, 22):
        true_ml = (study.head(12.0 + number / 4) == phantoms.BLOOD_HU).sum() * voxel_ml
        true_ml *= np.cos(np.radians(12)) if number == 15 else 1  # a slice's own height
        (row,) = (row for row in run.rows if row["number"] == str(number))
        assert float(row["volume_ml"]) == pytest.approx(true_ml, rel=0.1)


def test_the_range_of_many_is_that_of_one(run: Run, tmp_path: Path) -> None:
    manifest, table = tmp_path / "list.csv", tmp_path / "alone.csv"
    scan = run.manifest.with_name("scan-1.nii.gz")
    manifest.write_text(f'scan,boxes\n{scan},"{study.SLICE}:{study.BOX}"\n')
    light = ("--model", "threshold", "--out")
    command("segment", manifest, *light, tmp_path / "out", "--json")
    box = ("--slice", study.SLICE, "--box", study.BOX)
    command("segment", scan, *box, *light, table, "--json")
    ranges = []
    for path in (tmp_path / "out" / "results.csv", table):
        with path.open(newline="") as file:
            (row,) = csv.DictReader(file)
        ranges.append([row[f"range_{name}_ml"] for name in ("low", "median", "high")])
        assert all(ranges[-1])
    assert ranges[0] == ranges[1]


def test_a_pair_of_scans_gives_rows_of_growth(run: Run) -> None:
    with (run.out / "growth.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert [row["definition"].split(":")[0] for row in rows] == ["classic", "absolute", "revised"]
    before, after = (
        next(float(row["volume_ml"]) for row in run.rows if row["number"] == number)
        for number in ("1", "23")
    )
    assert float(rows[0]["growth_ml"]) == pytest.approx(after - before, abs=1e-3)
    assert float(rows[0]["growth_ml_per_hour"]) == pytest.approx((after - before) / 6, abs=1e-3)


def test_a_correction_changes_one_row(run: Run, tmp_path: Path) -> None:
    out = tmp_path / "out"
    shutil.copytree(run.out, out)
    corrected = json.loads((out / "scan-0002.json").read_text())
    corrected["propagated"] = []  # a person took all but the boxed slice away
    (out / cohort.CORRECTED_NAME).mkdir()
    del corrected["mask_sha256"], corrected["labels_sha256"]
    (out / cohort.CORRECTED_NAME / "any name.json").write_text(json.dumps(corrected))
    command("segment", run.manifest, *LIGHT, "--out", out, "--json")
    with (out / "results.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert [row["number"] for row in rows if row["state"] == "done"] == ["2"]
    for was, now in zip(run.rows, rows, strict=True):
        leave = {"state"}
        same = {k: v for k, v in was.items() if k not in leave} == {
            k: v for k, v in now.items() if k not in leave
        }
        assert same is (now["number"] != "2")
    (changed,) = (row for row in rows if row["number"] == "2")
    assert (changed["extent"], changed["slices_marked"]) == ("record", "1")


def test_measuring_the_masks_gives_the_same_volumes(run: Run, tmp_path: Path) -> None:
    with run.manifest.open(newline="") as file:
        asked = list(csv.DictReader(file))
    path = run.manifest.with_name("masks.csv")
    masks = {row["number"]: row["mask"] for row in run.rows}
    with path.open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["scan", "mask", "baseline", "hours"])
        for number in (1, 17, 21, 23):
            row = asked[number - 1]
            mask = os.path.relpath(run.out / masks[str(number)], path.parent)
            writer.writerow([row["scan"], mask, row["baseline"], row["hours"]])
    out = tmp_path / "out"
    assert command("measure", path, "--out", out, "--json") == 0
    with (out / "results.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    was = {(row["scan_sha256"], row["lesion"]): row["volume_ml"] for row in run.rows}
    assert len(rows) == 5
    for row in rows:
        assert row["volume_ml"] == was[row["scan_sha256"], row["lesion"]]
        assert row["extent"] == "mask file" and row["model"] == "threshold"
    assert (out / "growth.csv").is_file()


# The tables for other programs


@pytest.fixture
def table(run: Run) -> Iterator[Path]:
    yield run.out / "results.csv"


def test_pandas_reads_it_without_an_argument(table: Path, run: Run) -> None:
    pandas = pytest.importorskip("pandas")
    frame = pandas.read_csv(table)
    assert list(frame.columns) == [column.name for column in RESULT_COLUMNS]
    numbers = [one.name for one in RESULT_COLUMNS if one.kind in ("number", "integer")]
    for name in numbers:
        assert pandas.api.types.is_numeric_dtype(frame[name]), name
    total = sum(float(row["volume_ml"]) for row in run.rows if row["volume_ml"])
    assert frame["volume_ml"].sum() == pytest.approx(total)


@pytest.mark.parametrize(
    ("name", "column"), [("results.csv", "volume_ml"), ("growth.csv", "growth_ml")]
)
def test_r_reads_it_without_an_argument(run: Run, name: str, column: str) -> None:
    rscript = shutil.which("Rscript")
    if rscript is None:
        pytest.skip("R is not installed (r-base-core)")
    table = run.out / name
    code = f"t <- read.csv(commandArgs(TRUE)[1]); cat(nrow(t), sum(t${column}, na.rm = TRUE))"
    said = subprocess.run(
        [rscript, "-e", code, str(table)], capture_output=True, text=True, check=True
    ).stdout.split()
    with table.open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert int(said[0]) == len(rows)
    total = sum(float(row[column]) for row in rows if row[column])
    assert float(said[1]) == pytest.approx(total, rel=1e-5)


def test_a_validator_finds_the_tables_as_the_dictionary_says(run: Run) -> None:
    if importlib.util.find_spec("frictionless") is None:
        pytest.skip("frictionless is not installed (pip install -r requirements-dev.txt)")
    from frictionless import Package, validate

    path = run.out / "datapackage.json"
    report = validate(str(path))
    assert report.valid, report.flatten(["title", "rowNumber", "fieldName", "note"])[:5]
    package = Package(str(path))
    assert [one.name for one in package.resources] == ["results", "growth"]
    volume = package.get_resource("results").schema.get_field("volume_ml")
    assert volume.type == "number" and volume.to_descriptor()["unit"] == "mL"
