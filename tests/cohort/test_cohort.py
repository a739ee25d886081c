"""Many scans: what a manifest says, what is kept and what is passed over, and the same answer through Ray."""

from __future__ import annotations

import csv
import importlib.util
import json
import os
import sys
import unicodedata
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import phantoms
import pytest

from ichseg import NOTICE, cohort
from ichseg.cli import main as cli
from ichseg.cohort import pool
from ichseg.errors import InputError
from ichseg.files.names import lesions_path, mask_name
from ichseg.files.nifti_mask import read_mask
from ichseg.files.records import json_bytes
from ichseg.files.session import load_session, segmentation_record
from ichseg.marks.document import Segmentation
from ichseg.marks.reading import Part
from ichseg.methods.catalogue import load_predictor
from ichseg.scan.read import read_volume

BOX = "32,20,49,34"  # around all of the phantom's blood, on every slice
BOXES = f"3:{BOX} 4:{BOX}"
NAMES = ("DOE_JANE", "ROE_RICHARD")  # of the source files: not to be met in logs or file names
VOXEL_ML = np.prod(phantoms.HEAD_SPACING_MM) / 1000


def write_manifest(path: Path, rows: Sequence[dict[str, str]]) -> Path:
    with path.open("w", newline="") as file:
        writer = csv.DictWriter(file, cohort.COLUMNS)
        writer.writeheader()
        writer.writerows(rows)
    return path


@pytest.fixture(scope="module")
def blood() -> np.ndarray[Any, np.dtype[np.bool_]]:
    return phantoms.head_hu()[1]


@pytest.fixture
def manifest(tmp_path: Path, blood: np.ndarray[Any, np.dtype[np.bool_]]) -> Path:
    """Two good scans, the first with its reference mask, around one that is no scan."""
    folder = tmp_path / "in"
    folder.mkdir()
    for name in NAMES:
        phantoms.save_nifti(folder / f"{name}.nii.gz", phantoms.head_hu()[0])
    phantoms.save_nifti(folder / "truth.nii.gz", blood.astype(np.uint8))
    (folder / "broken.nii.gz").write_bytes(b"not a scan")
    rows = [
        {"scan": f"{NAMES[0]}.nii.gz", "boxes": BOXES, "truth": "truth.nii.gz"},
        {"scan": "broken.nii.gz", "boxes": BOXES},
        {"scan": f"{NAMES[1]}.nii.gz", "boxes": f"4:{BOX}"},
    ]
    return write_manifest(folder / "manifest.csv", rows)


def segments(manifest: Path, out: Path, model: str = "threshold") -> list[cohort.Segment]:
    return [cohort.Segment(entry, out, model) for entry in cohort.read_manifest(manifest)]


Command = Callable[..., tuple[int, str, str]]


@pytest.fixture
def command(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Command:
    def call(*arguments: object) -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "argv", ["ichseg", *map(str, arguments)])
        with pytest.raises(SystemExit) as ended:
            cli.main()
        out, err = capsys.readouterr()
        assert ended.value.code is None or isinstance(ended.value.code, int)
        return ended.value.code or 0, out, err

    return call


# What a manifest says


def test_boxes_stand_with_their_slice() -> None:
    found = cohort.parse_boxes("12:120,80,180,140  13:1;2;3;4 12:5,6,7,8")
    assert {k: [box.xyxy for box in boxes] for k, boxes in found.items()} == {
        12: [(120, 80, 180, 140), (5, 6, 7, 8)],
        13: [(1, 2, 3, 4)],
    }


@pytest.mark.parametrize("text", ["120,80,180,140", "-1:1,2,3,4", "x:1,2,3,4", "3:1,2,3"])
def test_boxes_that_are_none_are_refused(text: str) -> None:
    with pytest.raises(InputError, match=r"give e\.g\."):
        cohort.parse_boxes(text)


HEADS = {
    "comma": 'scan,boxes,truth\n"a.nii","3:1,2,3,4",t.nii\n',
    "semicolon": "scan;boxes;truth\r\na.nii;3:1,2,3,4;t.nii\r\n;;\r\n",
    "tab": "scan\tboxes\ttruth\na.nii\t3:1,2,3,4\tt.nii\n\t\t\n",
    "hint": "sep=;\r\nscan;boxes;truth\r\na.nii;3:1,2,3,4;t.nii\r\n",
    "old Mac": "scan;boxes;truth\ra.nii;3:1,2,3,4;t.nii\r",
}


@pytest.mark.parametrize("kind", HEADS)
@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig"])
def test_a_manifest_is_read_as_spreadsheets_save_it(
    tmp_path: Path, kind: str, encoding: str
) -> None:
    path = tmp_path / "list.csv"
    path.write_bytes(HEADS[kind].encode(encoding))
    (entry,) = cohort.read_manifest(path)
    assert (entry.scan, entry.boxes) == ("a.nii", "3:1,2,3,4")
    assert entry.truth == tmp_path / "t.nii"


@pytest.mark.parametrize("encoding", ["utf-16", "utf-16-le", "utf-32", "mac-roman"])
def test_another_encoding_is_refused_with_what_to_save(tmp_path: Path, encoding: str) -> None:
    path = tmp_path / "list.csv"
    path.write_bytes("scan\tboxes\nMüller.nii\t3:1,2,3,4\n".encode(encoding))
    with pytest.raises(InputError, match=r'list\.csv is not: .* save it as "CSV UTF-8"'):
        cohort.read_manifest(path)


@pytest.mark.parametrize("forms", [("NFC", "NFD"), ("NFD", "NFC")])
def test_a_name_with_an_umlaut_is_found_however_it_is_spelled(
    tmp_path: Path, forms: tuple[str, str]
) -> None:
    on_disk, written = (unicodedata.normalize(form, "Müller.nii") for form in forms)
    (tmp_path / on_disk).touch()
    (tmp_path / "list.csv").write_text(f"scan\n{written}\n", encoding="utf-8")
    (entry,) = cohort.read_manifest(tmp_path / "list.csv")
    assert entry.path.exists()


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("", "has nothing"),
        ("scan,boxes\n", "no row"),
        ("file,boxes\na,b\n", "boxes, file"),
        ("scan,boxes\na.nii,3:1,2,3,4\n", "beyond the header"),
        ("scan,out\na.nii,m.nii\nb.nii,m.nii\n", "m.nii more than once"),
        ("scan,add_offset\na.nii,some\n", "row 1"),
    ],
)
def test_a_manifest_that_is_none_is_refused(tmp_path: Path, text: str, says: str) -> None:
    path = tmp_path / "list.csv"
    path.write_text(text)
    with pytest.raises(InputError, match=says):
        cohort.read_manifest(path)


def test_a_manifest_that_is_not_there_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"none\.csv"):
        cohort.read_manifest(tmp_path / "none.csv")


def test_paths_are_relative_to_the_manifest(manifest: Path) -> None:
    entries = cohort.read_manifest(manifest.parent)  # the folder stands for the manifest in it
    assert [entry.number for entry in entries] == [1, 2, 3]
    assert entries[0].path == manifest.parent / f"{NAMES[0]}.nii.gz"
    assert entries[0].truth == manifest.parent / "truth.nii.gz"
    assert entries[1].truth is None


def test_a_scan_alone_is_not_many(manifest: Path, tmp_path: Path) -> None:
    assert cohort.is_cohort(manifest) and cohort.is_cohort(manifest.parent)
    assert not cohort.is_cohort(manifest.parent / f"{NAMES[0]}.nii.gz")
    series = tmp_path / "dicom"
    (series / "001").mkdir(parents=True)
    assert not cohort.is_cohort(series)


# What is done


def test_one_bad_scan_is_passed_over(manifest: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    done = cohort.run(segments(manifest, out))
    assert [one.state for one in done] == ["done", "passed over", "done"]
    assert done[1].error is not None and "broken.nii.gz" in done[1].error
    sha = read_volume(manifest.parent / f"{NAMES[0]}.nii.gz").sha256[:8]
    written = sorted(path.name for path in out.iterdir())
    assert written == [
        f"scan-0001-hematoma-{sha}-mask.nii.gz",
        "scan-0001.json",
        f"scan-0003-hematoma-{sha}-mask.nii.gz",
        "scan-0003.json",
    ]


def test_the_masks_are_those_of_the_boxes(
    manifest: Path, tmp_path: Path, blood: np.ndarray[Any, np.dtype[np.bool_]]
) -> None:
    cohort.run(segments(manifest, tmp_path))
    volume = read_volume(manifest.parent / f"{NAMES[0]}.nii.gz")
    mask = read_mask(tmp_path / f"scan-0001-{mask_name(volume)}", volume) != 0
    assert set(np.flatnonzero(mask.any(axis=(1, 2)))) == {3, 4}
    # 65 HU in 35 HU without noise: the threshold finds the blood, but for what its median rounds off
    overlap = 2 * (mask & blood)[3:5].sum() / (mask[3:5].sum() + blood[3:5].sum())
    assert overlap > 0.97
    record = json.loads((tmp_path / "scan-0001.json").read_text())
    assert record["volume_ml"] == pytest.approx(mask.sum() * VOXEL_ML)
    assert record["whole_scan"]["truth_ml"] == pytest.approx(blood.sum() * VOXEL_ML)
    assert record["whole_scan"]["dice"] == pytest.approx(
        2 * (mask & blood).sum() / (mask.sum() + blood.sum())
    )


@pytest.mark.slow
def test_what_is_finished_is_kept_until_it_came_from_something_else(
    manifest: Path, tmp_path: Path
) -> None:
    out = tmp_path / "out"
    first = cohort.run(segments(manifest, out))
    before = (out / "scan-0001.json").stat().st_mtime_ns
    again = cohort.run(segments(manifest, out))
    assert [one.state for one in again] == ["kept", "passed over", "kept"]
    assert (out / "scan-0001.json").stat().st_mtime_ns == before
    assert again[0].record == json.loads(json.dumps(first[0].record))

    next(out.glob("scan-0003-*-mask.nii.gz")).unlink()
    phantoms.save_nifti(manifest.parent / "broken.nii.gz", phantoms.head_hu()[0])  # mended
    assert [one.state for one in cohort.run(segments(manifest, out))] == ["kept", "done", "done"]
    phantoms.save_nifti(manifest.parent / "truth.nii.gz", phantoms.head_hu()[1].astype(np.int16))
    assert [one.state for one in cohort.run(segments(manifest, out))] == ["done", "kept", "kept"]
    other = cohort.run(segments(manifest, out, "litemedsam"))
    assert [one.state for one in other] == ["done"] * 3


def test_records_are_sessions_and_a_folder_of_them_gives_the_same_masks(
    manifest: Path, tmp_path: Path
) -> None:
    first = tmp_path / "first"
    cohort.run(segments(manifest, first))
    assert load_session(first / "scan-0003.json").model == "threshold"
    folder = tmp_path / "folder"
    folder.mkdir()
    phantoms.save_nifti(folder / "a.nii.gz", phantoms.head_hu()[0])
    phantoms.save_nifti(folder / "a-truth.nii.gz", phantoms.head_hu()[1].astype(np.uint8))
    phantoms.save_nifti(folder / "b.nii.gz", phantoms.head_hu()[0])
    (folder / "a.json").write_bytes((first / "scan-0003.json").read_bytes())
    entries = cohort.read_manifest(folder)
    assert [(entry.scan, entry.session is not None) for entry in entries] == [
        ("a.nii.gz", True),
        ("b.nii.gz", False),
    ]
    a, b = cohort.run([cohort.Segment(entry, tmp_path / "second") for entry in entries])
    assert a.record is not None and a.record["same_mask"] is True
    assert a.record["whole_scan"]["truth_ml"] > 0
    assert b.error is not None and "neither" in b.error


def test_a_session_of_two_lesions_and_an_edit_is_made_again_whole(tmp_path: Path) -> None:
    scan = phantoms.save_nifti(tmp_path / "a.nii.gz", phantoms.head_hu()[0])
    volume, predictor = read_volume(scan), load_predictor("threshold")
    marked, _ = cohort.predict(volume, cohort.parse_boxes(BOXES), predictor)
    second = marked.add_lesion(name="second", type="IVH")
    brushed = np.zeros(volume.shape_zyx[1:], dtype=bool)
    brushed[2:5, 3:9] = True
    parts = [*marked.parts("threshold"), Part(6, second, "edited", brushed)]
    marked = Segmentation.restored(
        volume.shape_zyx, marked.lesions, marked.prompts(), "threshold", parts
    )
    record = segmentation_record(volume, marked, model="threshold", weights_sha256={})
    (tmp_path / "a.json").write_bytes(json_bytes(record))
    out = tmp_path / "out"
    (found,) = cohort.run([cohort.Segment(one, out) for one in cohort.read_manifest(tmp_path)])
    assert found.record is not None and found.record["same_mask"] is True
    labels = read_mask(out / f"scan-0001-{mask_name(volume)}", volume)
    np.testing.assert_array_equal(labels, marked.labels_zyx("threshold"))
    assert np.count_nonzero(labels == second) == 18
    assert sorted(path.name for path in out.iterdir()) == [
        lesions_path(Path(f"scan-0001-{mask_name(volume)}")).name,
        f"scan-0001-{mask_name(volume)}",
        "scan-0001.json",
    ]


def test_a_mask_never_lands_on_an_input(manifest: Path) -> None:
    scan = f"{NAMES[0]}.nii.gz"
    write_manifest(manifest, [{"scan": scan, "boxes": BOXES, "out": scan}])
    before = (manifest.parent / scan).read_bytes()
    (found,) = cohort.run(segments(manifest, manifest.parent))
    assert found.error is not None and "never written over" in found.error
    assert (manifest.parent / scan).read_bytes() == before


def test_an_internal_error_costs_one_scan_only() -> None:
    found = dict(cohort.each(lambda number: 6 / number, [1, 0, 3]))
    assert (found[0], found[2]) == (6, 2)
    assert isinstance(found[1], cohort.Failure) and "ZeroDivisionError" in found[1].sentence


# The commands


def test_segment_takes_a_manifest(command: Command, manifest: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    code, shown, err = command("segment", manifest, "--model", "threshold", "--out", out, "--json")
    found = json.loads(shown)
    assert code == 1
    assert found["passed_over"] == 1 and found["notice"] == NOTICE
    assert [row["state"] for row in found["scans"]] == ["done", "passed over", "done"]
    assert err == "Passed over 1 of 3 scans: 2\n"
    with (out / "results.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert [row["scan"] for row in rows] == [
        f"{NAMES[0]}.nii.gz",
        "broken.nii.gz",
        f"{NAMES[1]}.nii.gz",
    ]
    assert "broken.nii.gz" in rows[1]["error"]
    assert [row["notice"] for row in rows] == [NOTICE] * 3 and len(rows[0]["scan_sha256"]) == 64
    for path in out.iterdir():  # the user's own table repeats the names; nothing else does
        assert not any(name in path.name for name in NAMES)
        if path.name != "results.csv":
            assert not any(name.encode() in path.read_bytes() for name in NAMES)


def test_benchmark_compares_models_over_scans(
    command: Command, manifest: Path, tmp_path: Path
) -> None:
    names = ("benchmark", manifest, "--models", "threshold,litemedsam", "--out", tmp_path / "out")
    code, shown, _ = command(*names, "--json")
    found = json.loads(shown)
    assert code == 1
    assert [one["model"] for one in found["models"]] == ["threshold", "litemedsam"]
    rows = [row for row in found["scans"] if row.get("model") == "threshold"]
    assert [row["number"] for row in rows] == [1, 3]
    threshold = found["models"][0]
    assert threshold["scans"] == 1  # one of the two good ones has a reference mask
    assert threshold["boxed_dice_mean"] == rows[0]["boxed_dice"] > 0.97
    assert threshold["boxed_dice_sd"] is None
    assert threshold["difference_ml_mean"] == pytest.approx(abs(rows[0]["difference_ml"]))
    code, shown, _ = command(*names)
    assert code == 1 and "threshold" in shown and "optimistic" in shown


def test_averages_are_over_scans_with_a_reference() -> None:
    def outcome(number: int, dice: float | None, difference_ml: float) -> cohort.Outcome:
        scores = {"volume_ml": 9.0, "truth_ml": 5.0, "difference_ml": difference_ml, "dice": dice}
        model = {
            "model": "m",
            "boxed_slices": scores,
            "whole_scan": scores,
            "seconds_a_slice": number,
        }
        entry = cohort.Entry(number, "s", Path("s"))
        return cohort.Outcome(entry, "done", {"scan": {"sha256": "ab"}, "models": [model]})

    (found,) = cohort.averages([outcome(1, 0.5, -4), outcome(2, 0.7, 2), outcome(3, None, 0)])
    assert found["scans"] == 3
    assert found["dice_mean"] == pytest.approx(0.6)
    assert found["dice_sd"] == pytest.approx(0.02**0.5)
    assert found["difference_ml_mean"] == 2
    assert found["seconds_a_slice"] == 2


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (("--box", BOX, "--slice", "3", "--out", "o"), "--slice, --box"),
        (("--scan-label", "ward-3", "--out", "o"), "--scan-label"),
        (("--hours", "-1", "--out", "o"), "hours are a number above 0"),
        (("--lesion", "1=bone", "--out", "o"), "--lesion"),
        ((), "no --out"),
    ],
)
def test_options_of_one_scan_are_refused_for_many(
    command: Command, manifest: Path, arguments: tuple[str, ...], says: str
) -> None:
    code, shown, err = command("segment", manifest, *arguments)
    assert (code, shown) == (2, "") and says in err and err.count("\n") == 1


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (("--strict",), "--strict"),
        (("--gcs", "14"), "the findings of scores"),
        (("--followup-label", "1=IPH"), "--followup-label"),
        (("--hours", "nan"), "hours are a number above 0"),
        (("--label", "1=bone"), "label"),
    ],
)
def test_measure_refuses_for_many_what_it_would_not_heed(
    command: Command, manifest: Path, tmp_path: Path, arguments: tuple[str, ...], says: str
) -> None:
    code, shown, err = command("measure", manifest, *arguments, "--out", tmp_path / "out")
    assert (code, shown) == (2, "") and says in err and err.count("\n") == 1


def test_how_far_it_is_and_the_expected_end_are_told(
    manifest: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, command: Command
) -> None:
    from ichseg.cli import many

    monkeypatch.setattr(many, "_SAY_EVERY_SECONDS", 0.0)
    light = ("--model", "threshold", "--no-range", "--lesion", "1=IPH")
    code, shown, err = command("segment", manifest, *light, "--out", tmp_path / "out", "--json")
    assert code == 1
    assert "2 of 3 scans, 1 passed over, about 0 minutes left" in err
    rows = json.loads(shown)["scans"]
    assert [row.get("type") for row in rows] == ["IPH", None, "IPH"]


# Through Ray


def test_ray_is_asked_for_in_one_sentence_where_it_is_absent(
    command: Command, manifest: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "ray", None)  # what an import of it then finds
    code, shown, err = command(
        "segment", manifest, "--out", tmp_path / "out", "--ray-address", "auto"
    )
    assert (code, shown) == (2, "")
    assert "requirements-ray.txt" in err and err.count("\n") == 1


def test_ray_is_not_imported_unless_asked_for(manifest: Path, tmp_path: Path) -> None:
    import subprocess

    code = (
        "import sys; from pathlib import Path; from ichseg import cohort; "
        "jobs = [cohort.Segment(e, Path(sys.argv[2]), 'threshold') for e in cohort.read_manifest(Path(sys.argv[1]))]; "
        "cohort.run(jobs); print('ray' in sys.modules)"
    )
    run = subprocess.run(
        [sys.executable, "-c", code, str(manifest), str(tmp_path / "out")],
        capture_output=True, text=True, check=True, cwd=Path(cohort.__file__).parents[2],
    )  # fmt: skip
    assert run.stdout.split() == ["False"]


def dies_at_one(number: int) -> int:
    if number == 1:
        os._exit(1)
    return os.getpid()


def test_side_by_side_gives_the_same_masks_and_the_same_refusal(
    manifest: Path, tmp_path: Path
) -> None:
    here = cohort.run(segments(manifest, tmp_path / "here"))
    there = cohort.run(segments(manifest, tmp_path / "there"), where=cohort.LOCAL)
    assert [one.state for one in there] == ["done", "passed over", "done"]
    assert [one.record for one in there] == [one.record for one in here]
    assert there[1].error == here[1].error
    for path in (tmp_path / "here").glob("*.nii.gz"):
        assert path.read_bytes() == (tmp_path / "there" / path.name).read_bytes()


@pytest.mark.slow
def test_a_process_that_dies_costs_one_job_only() -> None:
    found = dict(cohort.each(dies_at_one, range(8), where=cohort.LOCAL, processes=1))
    died = found.pop(1)
    assert isinstance(died, cohort.Failure) and died.kind == "process ended"
    assert sorted(found) == [0, *range(2, 8)]
    # Those that were not under way go on in one new process, not each in its own.
    assert len({found[number] for number in range(3, 8)}) == 1


@pytest.fixture(scope="module")
def cluster() -> Iterator[str]:
    """A Ray cluster of this machine alone, started once for the tests below, and its address."""
    if importlib.util.find_spec("ray") is None:
        pytest.skip("ray is not installed (pip install -r requirements-ray.txt)")
    with pytest.MonkeyPatch.context() as patch:
        # Ray's workers give way to all else unless told not to, and other tests may be running.
        patch.setenv("RAY_worker_niceness", "0")
        with pool._ray("local"):
            yield "auto"


@pytest.mark.slow
def test_a_cluster_gives_the_same_masks(cluster: str, manifest: Path, tmp_path: Path) -> None:
    here = cohort.run(segments(manifest, tmp_path / "here"))
    there = cohort.run(segments(manifest, tmp_path / "there"), where=cluster)
    assert [one.record for one in there] == [one.record for one in here]
    assert there[1].error == here[1].error


@pytest.mark.slow
def test_a_worker_of_a_cluster_that_dies_costs_one_job_only(cluster: str) -> None:
    def work(number: int) -> int:  # pickled by value: a cluster's worker has no tests
        if number == 1:
            os._exit(1)
        return number

    found = dict(cohort.each(work, [0, 1, 2], where=cluster))
    assert (found[0], found[2]) == (0, 2)
    assert isinstance(found[1], cohort.Failure)
