"""Masks of proposals that nobody accepted but the program: marked as automatic wherever they are told of."""

from __future__ import annotations

import csv
import json
from pathlib import Path
from typing import Any

import numpy as np
import pypdfium2
import pytest

from ichseg import cohort
from ichseg.cli import main as cli
from ichseg.files.report import report_pdf
from ichseg.files.tables import lesions_csv, measures_record
from ichseg.json_fields import RecordError
from ichseg.marks.box import Box
from ichseg.methods import automatic
from ichseg.methods.automatic import Automatic, detection_error
from ichseg.methods.catalogue import load_predictor
from ichseg.methods.predictor import SliceEmbedding
from ichseg.methods.threshold import ThresholdPredictor
from ichseg.scan.read import read_volume
from tests import phantoms
from tests.light_finder import LightFinder, use

SCORES = {
    "patients_with_blood": 28,
    "automatic_dice": {"mean": 0.5123, "sd": 0.25},
    "sensitivity_at_2_false_a_scan": 0.764,
    "clean_scans_false_ml": {"mean": 0.8, "highest": 7.25},
}
PLAIN = ("--model", "threshold", "--no-edge")


@pytest.fixture(autouse=True)
def finder(monkeypatch: pytest.MonkeyPatch) -> LightFinder:
    return use(LightFinder(skull=False), monkeypatch)


@pytest.fixture(scope="module")
def head(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two cuboids of blood, of two slices and of one."""
    hu = np.full((6, 128, 128), 35, np.int16)
    hu[1:3, 40:60, 30:60] = hu[4, 80:92, 80:92] = 65
    return phantoms.save_nifti(tmp_path_factory.mktemp("scan") / "head.nii.gz", hu)


def run(monkeypatch: pytest.MonkeyPatch, *arguments: object) -> None:
    monkeypatch.setattr("sys.argv", ["ichseg", *map(str, arguments)])
    with pytest.raises(SystemExit) as ended:
        cli.main()
    assert not ended.value.code, arguments


def test_auto_takes_what_is_sure_and_says_everywhere_that_nobody_marked_it(
    head: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setattr(automatic, "_scores", lambda finder: SCORES)
    report, table = tmp_path / "report.pdf", tmp_path / "measures.csv"
    run(monkeypatch, "segment", head, "--auto", *PLAIN, "--json", "--out", report, "--out", table)
    record = json.loads(capsys.readouterr().out)
    assert [one["id"] for one in record["lesions"]] == [1, 2]
    assert {(row["slice"], row["lesion"]) for row in record["boxes"]} == {(1, 1), (2, 1), (4, 2)}
    told = record["automatic"]
    assert [row["lesion"] for row in told["lesions"]] == [1, 2] and told["weights_sha256"]
    assert (
        "no person marked or checked" in told["notes"][0] and "took 2 lesions" in told["notes"][0]
    )
    assert "Dice of the whole hematoma 0.51 ± 0.25; 76 % of lesions" in told["notes"][1]
    assert "0.8 mL were taken for blood on average, 7.2 mL at most" in told["notes"][1]
    rows = list(csv.DictReader(table.open(encoding="utf-8")))
    assert [row["automatic"] for row in rows] == ["yes", "yes"]
    assert report.stat().st_size > 1000

    # Run again from its record it is still automatic.
    saved = tmp_path / "record.json"
    saved.write_text(json.dumps(record))
    run(monkeypatch, "segment", head, "--session", saved, "--json")
    again = json.loads(capsys.readouterr().out)
    assert again["same_mask"] is True and again["automatic"] == told
    run(monkeypatch, "segment", head, "--auto", *PLAIN)
    assert "Automatic: no person marked" in " ".join(capsys.readouterr().out.split())


def test_a_slice_is_embedded_once_for_the_finder_and_the_method(
    head: Path, finder: LightFinder, monkeypatch: pytest.MonkeyPatch
) -> None:
    volume, embedded = read_volume(head), []
    predictor = ThresholdPredictor()
    embed = predictor.embed

    def counting(slice_hu: np.ndarray) -> SliceEmbedding:
        embedded.append(1)
        return embed(slice_hu)

    monkeypatch.setattr(predictor, "embed", counting)
    done = cohort.automatic_case(volume, predictor, edge=False).segmented()
    assert done.volume_ml > 0 and len(embedded) == len(volume.hu_zyx)
    # A method whose embeddings the finder does not read embeds what it answers itself.
    finder.embedded_by = "fcm"
    cohort.automatic_case(volume, predictor, edge=False).segmented()
    assert len(embedded) == len(volume.hu_zyx) + 3


def test_what_is_taken_in_a_thin_series_is_followed_by_its_slabs() -> None:
    volume = phantoms.scan(tuple(0.5 * np.arange(60)), (96, 96))  # six slabs of ten slices
    volume.hu_zyx[20:45, 30:60, 30:60] = 65
    case = cohort.automatic_case(volume, load_predictor("threshold"), edge=False)
    assert {k for k, _ in case.marked.prompts()} == {25, 35} and case.follows
    blood = case.segmented().mask_zyx
    true = volume.hu_zyx == 65
    assert blood.sum() == pytest.approx(true.sum(), rel=0.06)


def test_a_report_says_in_its_first_lines_that_it_is_automatic(head: Path) -> None:
    volume = read_volume(head)
    marked, how = cohort.automatic_document(volume, edge=False)
    done = cohort.Case(volume, marked, load_predictor("threshold"), automatic=how).segmented()
    found = done.assessment()
    text = " ".join(
        pypdfium2.PdfDocument(report_pdf(found))[0].get_textpage().get_text_range().split()
    )
    assert text.index("Automatic: no person marked") < text.index("of blood in 2 lesions")
    assert "Cross-validated on 28 patients with blood" in text
    assert "from boxes proposed there" in text
    assert found.model_error is None and measures_record(found)["automatic"] == how.record()
    assert b"nobody drew these" in lesions_csv(found)


def test_a_scan_without_proposals_has_no_blood_counted_and_says_what_that_does_not_mean(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    hu = np.full((4, 64, 64), 35, np.int16)
    hu[:, :8] = -1000
    clean = phantoms.save_nifti(tmp_path / "clean.nii.gz", hu)
    out = tmp_path / "mask.nii.gz"
    run(monkeypatch, "segment", clean, "--auto", "--propagate", *PLAIN, "--out", out)
    said = " ".join(capsys.readouterr().out.split())
    assert "took nothing by itself" in said and "does not mean that there is no blood" in said
    assert out.is_file()


@pytest.mark.parametrize(
    "more",
    [
        ("--slice", "1", "--box", "1,1,5,5"),
        ("--lesion", "1=IVH"),
        ("--session", "saved.json"),
    ],
)
def test_what_contradicts_auto_is_refused_in_one_sentence(
    head: Path,
    more: tuple[str, ...],
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setattr("sys.argv", ["ichseg", "segment", str(head), "--auto", *more])
    with pytest.raises(SystemExit) as ended:
        cli.main()
    assert ended.value.code == 2
    assert "With --auto the program itself says" in capsys.readouterr().err


def test_many_scans_are_marked_automatically_where_a_row_or_the_option_asks(
    head: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    manifest = tmp_path / "study.csv"
    manifest.write_text(
        f'scan,boxes,auto\n{head},,yes\n{head},"1:30,40,60,60",\n{head},"1:30,40,60,60",yes\n'
    )
    entries = [one.with_defaults(auto=True) for one in cohort.read_manifest(manifest)]
    assert [one.auto for one in entries] == [True, False, True]
    jobs = [cohort.Segment(one, tmp_path / "out", "threshold", edge=False) for one in entries]
    first, second, third = cohort.run(jobs)
    assert first.record is not None and second.record is not None
    rows: list[Any] = first.record["rows"]
    assert {row["extent"] for row in rows} == {"automatic"} and len(rows) == 2
    assert "no person marked" in rows[0]["notes"] and "automatic" in first.record
    assert second.record["rows"][0]["extent"] == "boxed slices"
    assert "automatic" not in second.record
    assert third.error is not None and "also has boxes" in third.error
    assert cohort.run(jobs[:1])[0].state == "kept"


def test_a_box_on_healthy_brain_is_told_beside_its_mask_which_stays(
    head: Path, monkeypatch: pytest.MonkeyPatch, finder: LightFinder
) -> None:
    predictor = load_predictor("threshold")
    monkeypatch.setattr(predictor, "find", lambda inside_hu: np.ones_like(inside_hu, bool))
    volume = read_volume(head)

    def segmented(box: Box) -> cohort.Segmented:
        marked = cohort.prompted_document(volume, {(3, 1): [box]}, {}, False)
        return cohort.Case(volume, marked, predictor).segmented()

    done = segmented(Box(90, 90, 110, 110))
    said = "Lesion 1: looks like brain: 35 HU, 0 above its surroundings; probability of blood 0 % (--slice 3)."
    assert said in done.notes and done.volume_ml > 0 and finder.looked == [3]
    (row,) = done.record()["looks"]
    assert (row["slice"], row["lesion"], row["mean_hu"], row["probability"]) == (3, 1, 35.0, 0.0)
    monkeypatch.setattr("ichseg.cohort.case.no_proposals", lambda: "It is not here.")
    alone = segmented(Box(90, 90, 110, 110))
    assert "35 HU, 0 above its surroundings (--slice 3)." in " ".join(alone.notes)
    bleeding = cohort.prompted_document(volume, {(1, 1): [Box(30, 40, 60, 60)]}, {}, False)
    good = cohort.Case(volume, bleeding, predictor).segmented()
    assert good.looks == [] and "looks" not in good.record()


def test_a_record_that_is_none_is_refused() -> None:
    how = Automatic("light", {"a": "b"}, {1: 0.5})
    assert Automatic.from_record(json.loads(json.dumps(how.record()))) == how
    for wrong in ({"finder": 1}, {"lesions": [{}]}, {"weights_sha256": []}):
        with pytest.raises(RecordError):
            Automatic.from_record({**how.record(), **wrong})
    assert "not measured" in detection_error("nobody")
