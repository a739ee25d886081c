"""The command line as a person and as a script meet it: what is printed where, and how it exits."""

from __future__ import annotations

import csv
import json
import math
import os
import re
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

import nibabel as nib
import numpy as np
import phantoms
import pytest

from ichseg import NOTICE
from ichseg.cli import main as cli
from ichseg.files.names import lesions_path
from ichseg.files.nifti_mask import read_mask
from ichseg.files.records import json_bytes
from ichseg.files.session import segmentation_record
from ichseg.files.sidecar import read_lesions
from ichseg.files.write import save_mask
from ichseg.marks import edit
from ichseg.marks.box import Box
from ichseg.marks.document import Segmentation
from ichseg.marks.lesion import Lesion
from ichseg.measures.spread import DRAWS
from ichseg.measures.volume import volume_ml
from ichseg.methods.backends import BACKEND_VARIABLE
from ichseg.methods.catalogue import available, load_predictor
from ichseg.methods.identity import identity_of
from ichseg.scan.read import read_volume
from ichseg.scan.series_info import SeriesInfo
from ichseg.scan.volume import CTVolume

ROOT = Path(__file__).resolve().parents[2]
VOXEL_ML = math.prod(phantoms.HEAD_SPACING_MM) / 1000
BOX = "32,20,49,34"  # around all of the phantom's blood, on every slice
SCAN_KEYS = {
    *("sha256", "shape_zyx", "spacing_mm", "slice_heights_mm"),
    *("tilt_degrees", "evenly_spaced", "label", "warnings", "notes"),
}
SEGMENT_KEYS = {
    *("schema_version", "scan", "lesions", "boxes", "propagated", "edits", "model"),
    *("weights_sha256", "second_look", "edge", "identity", "mask_sha256", "labels_sha256"),
    *("slices", "volume_ml", "versions", "notice"),
}


class Answer(NamedTuple):
    code: int
    out: str
    err: str

    @property
    def json(self) -> Any:
        """The one JSON object that stdout holds; no progress goes to what is no terminal."""
        assert (self.code, self.err) == (0, "")
        found = json.loads(self.out)
        assert isinstance(found, dict)
        assert found["notice"] == NOTICE
        return found

    @property
    def sentence(self) -> str:
        """What a refusal says: one line on stderr, nothing on stdout, exit 2."""
        assert (self.code, self.out) == (2, "")
        assert self.err.startswith("Error: ") and self.err.count("\n") == 1, self.err
        return self.err


Run = Callable[..., Answer]


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Run:
    """The command line in this process."""

    def call(*arguments: object) -> Answer:
        monkeypatch.setattr(sys, "argv", ["ichseg", *map(str, arguments)])
        with pytest.raises(SystemExit) as ended:
            cli.main()
        out, err = capsys.readouterr()
        code = ended.value.code
        assert code is None or isinstance(code, int)
        return Answer(code or 0, out, err)

    return call


@pytest.fixture(scope="module")
def head(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A head CT with a hematoma of 65 HU on slices 2 to 5."""
    folder = tmp_path_factory.mktemp("head")
    return phantoms.save_nifti(folder / "head.nii.gz", phantoms.head_hu()[0])


@pytest.fixture(scope="module")
def truth(head: Path) -> Path:
    blood = phantoms.head_hu()[1].astype(np.uint8)
    return phantoms.save_nifti(head.parent / "truth.nii.gz", blood)


def labelled(path: Path, iph: int, ivh: int) -> Path:
    """A mask with so many voxels of intraparenchymal and of intraventricular blood."""
    labels = np.zeros(phantoms.HEAD_SHAPE_ZYX, dtype=np.uint8)
    labels[3].ravel()[:iph] = 1
    labels[4].ravel()[:ivh] = 2
    return phantoms.save_nifti(path, labels)


# the edge


def test_the_edge_is_drawn_unless_it_is_turned_off_and_the_record_says_which(
    run: Run, head: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def top_half(mask: np.ndarray[Any, Any], *_: object) -> tuple[np.ndarray[Any, Any], tuple[()]]:
        out = mask.copy()
        out[: int(np.flatnonzero(mask.any(axis=1)).mean())] = False
        return out, ()

    monkeypatch.setattr("ichseg.methods.catalogue.takes_edge", lambda name: True)
    monkeypatch.setattr("ichseg.methods.edge_step.half_height_edge", top_half)
    box = ("segment", head, "--slice", 3, "--box", BOX, "--model", "threshold", "--json")
    drawn, off = run(*box).json, run(*box, "--no-edge").json
    assert (drawn["edge"], off["edge"]) == (True, False)
    assert 0 < drawn["volume_ml"] < 0.7 * off["volume_ml"]
    assert drawn["identity"] != off["identity"]


# the back end


@pytest.mark.slow
def test_a_back_end_can_be_forced(run: Run, head: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(BACKEND_VARIABLE, "auto")  # put back as it was, whatever the command sets
    box = ("--slice", 3, "--box", BOX, "--model", "litemedsam", "--json")
    forced = run("segment", head, *box, "--backend", "torch").json
    assert os.environ[BACKEND_VARIABLE] == "torch"  # for what the command starts, too
    free = run("segment", head, *box, "--backend", "auto").json
    assert forced["volume_ml"] == pytest.approx(free["volume_ml"], rel=0.05)


def test_a_back_end_that_is_none_is_one_sentence(
    run: Run, head: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(BACKEND_VARIABLE, "auto")
    for command in (
        ("segment", head, "--slice", 3, "--box", BOX),
        ("compare", head, "--slice", 3, "--box", BOX),
        ("benchmark", head.parent, "--out", head.parent / "scores"),
    ):
        refused = run(*command, "--backend", "tpu").sentence
        assert "auto, torch or openvino; got 'tpu'; choose one of them." in refused
    assert os.environ[BACKEND_VARIABLE] == "auto"


# info


def test_info_says_what_a_scan_is(run: Run, head: Path) -> None:
    found = run("info", head, "--json").json
    assert set(found) == {"scan", "hu_range", "other_series", "versions", "notice"}
    assert set(found["scan"]) == SCAN_KEYS
    assert found["scan"]["shape_zyx"] == [8, 64, 64]
    assert found["scan"]["spacing_mm"] == pytest.approx([5, 3, 3])
    assert found["hu_range"] == [-1000, 65]


def test_info_for_people(run: Run, head: Path) -> None:
    shown = run("info", head)
    assert shown.code == 0
    for text in (
        "head",
        "8 of 64 x 64 pixels",
        "3 x 3",
        "5.00",
        "0.0 degrees",
        "-1000 to 65",
        NOTICE,
    ):
        assert text in shown.out


def test_info_names_the_other_series_as_they_are_asked_for(
    run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: dict[str, object] = {}
    others = (
        SeriesInfo("1.2.3", 4, "CT series 4", 60),
        SeriesInfo("1.2.5", None, "MR", 9, refusal="not CT"),
    )

    def read(path: Path, **options: object) -> CTVolume:
        asked.update(options)
        return replace(phantoms.scan(), series=others)

    monkeypatch.setattr("ichseg.cli.inputs.read_volume", read)
    monkeypatch.setenv("COLUMNS", "120")
    options = ("--series", "7", "--add-offset", "-1024")
    shown = run("info", "folder", *options).out
    assert asked == {"series": "7", "add_offset": -1024}
    assert "--series 4" in shown and "CT series 4, 60 slices" in shown
    assert "--series 1.2.5" in shown and "MR, 9 slices (not CT)" in shown
    found = run("info", "folder", *options, "--json").json["other_series"]
    assert [(other["key"], other["number"]) for other in found] == [("1.2.3", 4), ("1.2.5", None)]


def test_warnings_stand_before_notes_wherever_a_scan_is_shown(
    run: Run, head: Path, truth: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def read(path: Path, **options: Any) -> CTVolume:
        return replace(read_volume(path, **options), warnings=("In doubt.",), notes=("Tilted.",))

    monkeypatch.setattr("ichseg.cli.inputs.read_volume", read)
    box = ("--slice", 3, "--box", BOX)
    for command in (
        ("info", head),
        ("segment", head, *box, "--model", "threshold"),
        ("compare", head, *box, "--models", "threshold"),
        ("measure", head, truth),
    ):
        assert "Warning: In doubt.\nTilted.\n" in run(*command).out
    assert run("info", head, "--json").json["scan"]["warnings"] == ["In doubt."]


# segment


def test_segment_gives_the_volume_in_the_boxes(run: Run, head: Path) -> None:
    found = run(
        "segment", head, "--slice", 3, "--box", BOX, "--slice", 2, "--box", BOX,
        "--model", "threshold", "--json",
    ).json  # fmt: skip
    assert set(found) == SEGMENT_KEYS
    box_xyxy = [32, 20, 49, 34]
    assert found["boxes"] == [{"slice": k, "lesion": 1, "box_xyxy": box_xyxy} for k in (2, 3)]
    assert (found["model"], found["weights_sha256"]) == ("threshold", {})
    blood = phantoms.head_hu()[1]
    for row, k in zip(found["slices"], (2, 3), strict=True):
        assert row["slice"] == k and row["height_mm"] == pytest.approx(5)
        assert row["area_mm2"] == pytest.approx(blood[k].sum() * 9, rel=0.1)  # its median filter
        assert row["volume_ml"] == pytest.approx(row["area_mm2"] * 5 / 1000)
    assert found["volume_ml"] == pytest.approx(sum(row["volume_ml"] for row in found["slices"]))


def test_segment_for_people_counts_slices_both_ways(run: Run, head: Path) -> None:
    shown = run("segment", head, "--slice", 3, "--box", BOX, "--model", "threshold")
    assert shown.code == 0
    cells = [line.strip("│ ").split("│") for line in shown.out.splitlines() if line.startswith("│")]
    assert [cell.strip() for cell in cells[0][:2]] == ["4", "3"]
    assert cells[-1][0].strip() == "Total" and cells[-1][-1].strip() == cells[0][-1].strip()
    assert shown.out.rstrip().endswith(NOTICE)


def test_two_boxes_on_one_slice_are_one_mask(run: Run, head: Path) -> None:
    def ml(*boxes: str) -> float:
        pairs = [word for box in boxes for word in ("--slice", 3, "--box", box)]
        return float(
            run("segment", head, *pairs, "--model", "threshold", "--json").json["volume_ml"]
        )

    left, right = "32,20,40,34", "40,20,49,34"
    assert ml(left, right) == pytest.approx(ml(left) + ml(right))
    assert ml(left, left) == pytest.approx(ml(left))


def test_the_mask_lies_on_the_scans_own_grid(run: Run, head: Path, tmp_path: Path) -> None:
    out = tmp_path / "mask.nii.gz"
    found = run(
        "segment", head, "--slice", 3, "--box", BOX, "--model", "threshold", "--out", out, "--json"
    ).json
    image, scan = nib.load(out), nib.load(head)
    assert image.shape == scan.shape
    np.testing.assert_array_equal(image.affine, scan.affine)
    assert np.asarray(image.dataobj).sum() * VOXEL_ML == pytest.approx(found["volume_ml"])


def test_a_box_may_overhang_to_the_left(run: Run, head: Path) -> None:
    found = run(
        "segment", head, "--slice", 3, "--box", "-5,-5,49,34", "--model", "threshold", "--json"
    ).json
    assert found["boxes"][0]["box_xyxy"] == [0, 0, 49, 34]
    assert found["volume_ml"] > 0


def test_the_answer_is_itself_a_session_that_gives_the_same_mask(
    run: Run, head: Path, tmp_path: Path
) -> None:
    first, second = tmp_path / "first.nii.gz", tmp_path / "second.nii.gz"
    prompts = ("--slice", 3, "--box", "32.25,20,49,34", "--slice", 4, "--box", BOX)
    answer = run("segment", head, *prompts, "--model", "threshold", "--out", first, "--json")
    session = tmp_path / "session.json"
    session.write_text(answer.out)
    again = run("segment", head, "--session", session, "--out", second, "--json").json
    assert again.pop("same_mask") is True and again.pop("session_notes") == []
    assert again == answer.json
    assert first.read_bytes() == second.read_bytes()


def test_a_mask_that_came_out_differently_is_not_called_the_same(
    run: Run, head: Path, tmp_path: Path
) -> None:
    answer = run("segment", head, "--slice", 3, "--box", BOX, "--model", "threshold", "--json")
    session = tmp_path / "session.json"
    session.write_text(json.dumps({**answer.json, "mask_sha256": "0" * 64}))
    assert run("segment", head, "--session", session, "--json").json["same_mask"] is False
    assert "The mask differs from the session's" in run("segment", head, "--session", session).out


def a_session_with_corrections(path: Path, scan: Path, model: str) -> Segmentation:
    """Save a record of two lesions on the head: a box each, one slice propagated, one brushed."""
    volume, predictor = read_volume(scan), load_predictor(model)
    marked = Segmentation(volume.shape_zyx)
    marked.add_lesion(name="Ventricle", type="IVH")
    boxes = {(3, 1): Box(32, 20, 41, 34), (3, 2): Box(38, 20, 49, 34), (4, 1): Box(32, 20, 49, 34)}
    masks = {
        (k, lesion): predictor.predict(predictor.embed(volume.hu_zyx[k]), [box]).union
        for (k, lesion), box in boxes.items()
    }
    for k, lesion in ((3, 1), (3, 2)):
        marked.set_boxes(k, lesion, [boxes[k, lesion]], {model: masks[k, lesion]})
    marked.set_propagated({4: masks[4, 1]}, 1, model, {4: [boxes[4, 1]]}, {"margin_mm": 3.0})
    marked.apply_edit(2, 2, edit.stroke((64, 64), [(36, 27), (44, 27)], 9.0, (3.0, 3.0)), model)
    record = segmentation_record(
        volume,
        marked,
        model=model,
        weights_sha256=predictor.weights_sha256,
        identity=identity_of(predictor, refinement=predictor.second_look),
        second_look=predictor.second_look,
    )
    path.write_bytes(json_bytes(record))
    return marked


@pytest.mark.parametrize("model", ["threshold", pytest.param("litemedsam", marks=pytest.mark.slow)])
def test_a_corrected_session_makes_the_same_labelled_mask_again(
    run: Run, head: Path, tmp_path: Path, model: str
) -> None:
    if not available(model)[0]:
        pytest.skip(f"the weights of {model} are not here")
    session, out = tmp_path / "session.json", tmp_path / "mask.nii.gz"
    marked = a_session_with_corrections(session, head, model)
    found = run("segment", head, "--session", session, "--out", out, "--json").json
    assert found.pop("same_mask") is True and found.pop("session_notes") == []
    assert found == json.loads(session.read_text()), "it is the same record"
    labels = marked.labels_zyx(model)
    assert set(np.unique(labels)) == {0, 1, 2}
    np.testing.assert_array_equal(read_mask(out, read_volume(head)), labels)
    assert read_lesions(out) == marked.lesions


def test_a_corrected_session_for_people_names_each_lesion(
    run: Run, head: Path, tmp_path: Path
) -> None:
    session = tmp_path / "session.json"
    marked = a_session_with_corrections(session, head, "threshold")
    shown = run("segment", head, "--session", session)
    ventricle_ml = (marked.labels_zyx("threshold") == 2).sum() * VOXEL_ML
    assert f"2. Ventricle (intraventricular hemorrhage): {ventricle_ml:.2f} mL" in shown.out
    assert "The mask is the session's, voxel for voxel." in shown.out


@pytest.mark.skipif(not available("litemedsam")[0], reason="the weights of LiteMedSAM are not here")
def test_a_network_is_run_again_with_its_own_weights_only(
    run: Run, head: Path, tmp_path: Path
) -> None:
    answer = run("segment", head, "--slice", 3, "--box", BOX, "--model", "litemedsam", "--json")
    blood_ml = phantoms.head_hu()[1][3].sum() * VOXEL_ML
    assert answer.json["volume_ml"] == pytest.approx(blood_ml, rel=0.3)
    session = tmp_path / "session.json"
    session.write_text(answer.out)
    assert run("segment", head, "--session", session, "--json").json["same_mask"] is True
    other = {"litemedsam/model.safetensors": "0" * 64}
    session.write_text(json.dumps({**answer.json, "weights_sha256": other}))
    assert "expected litemedsam/model.safetensors 000000000000, got" in (
        run("segment", head, "--session", session, "--json").sentence
    )


def test_a_session_of_another_scan_is_refused(run: Run, head: Path, tmp_path: Path) -> None:
    other_hu = phantoms.head_hu(blood_radii_mm=(9.0, 15.0, 15.0))[0]
    other = phantoms.save_nifti(tmp_path / "other.nii.gz", other_hu)
    answer = run("segment", head, "--slice", 3, "--box", BOX, "--model", "threshold", "--json")
    session = tmp_path / "session.json"
    session.write_text(answer.out)
    sentence = run("segment", other, "--session", session, "--json").sentence
    assert (
        "A session belongs to the scan it was made on" in sentence and "those of other" in sentence
    )


# compare


def test_compare_scores_each_model_on_the_boxed_slices_and_in_total(
    run: Run, head: Path, truth: Path
) -> None:
    found = run(
        "compare", head, "--slice", 3, "--box", BOX, "--slice", 2, "--box", "40,20,49,34",
        "--slice", 0, "--box", "0,0,5,5", "--models", "threshold", "--truth", truth, "--json",
    ).json  # fmt: skip
    assert set(found) == {"scan", "boxes", "models", "caveat", "versions", "notice"}
    assert "optimistic" in found["caveat"]
    (model,) = found["models"]
    blood = phantoms.head_hu()[1]
    assert [row["slice"] for row in model["slices"]] == [0, 2, 3]
    empty, half, whole = model["slices"]
    assert (empty["dice"], empty["volume_ml"], empty["truth_ml"]) == (None, 0, 0)
    assert whole["dice"] > 0.9
    # A box over a part of the blood finds that part: Dice is 2 a / (a + b).
    part, all_of_it = half["volume_ml"], half["truth_ml"]
    assert half["dice"] == pytest.approx(2 * part / (part + all_of_it))
    assert half["difference_ml"] == pytest.approx(part - all_of_it)
    boxed, total = model["boxed_slices"], model["whole_scan"]
    assert boxed["volume_ml"] == total["volume_ml"] == pytest.approx(part + whole["volume_ml"])
    assert boxed["truth_ml"] == pytest.approx(blood[[2, 3]].sum() * VOXEL_ML)
    assert total["truth_ml"] == pytest.approx(blood.sum() * VOXEL_ML)
    assert total["dice"] < boxed["dice"]


def test_compare_without_truth_gives_volumes_only(run: Run, head: Path) -> None:
    found = run(
        "compare", head, "--slice", 3, "--box", BOX, "--models", "threshold,threshold", "--json"
    ).json
    assert found["caveat"] is None
    (model,) = found["models"]
    assert set(model["whole_scan"]) == {"volume_ml"}


def test_compare_for_people(
    run: Run, head: Path, truth: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "200")
    shown = run(
        "compare", head, "--slice", 3, "--box", BOX, "--models", "threshold", "--truth", truth
    )
    assert shown.code == 0
    for text in (
        load_predictor("threshold").title,
        "with a box",
        "whole scan",
        "Dice",
        "optimistic",
        NOTICE,
    ):
        assert text in shown.out


# measure


def test_measure_counts_the_mask_in_millilitres(run: Run, head: Path, truth: Path) -> None:
    found = run("measure", head, truth, "--json").json
    assert set(found) == {
        *("baseline", "followup", "further", "growth", "timeline", "scores", "versions", "notice"),
    }
    assert found["followup"] is found["growth"] is found["timeline"] is None
    assert found["further"] == []
    baseline, blood = found["baseline"], phantoms.head_hu()[1]
    assert set(baseline) == {
        *("scan", "volume_ml", "iph_ml", "ivh_ml", "slices", "hu", "total", "lesions", "notes")
    }
    assert baseline["total"]["volume_ml"] == baseline["volume_ml"]
    assert [(one["label"], one["type"]) for one in baseline["lesions"]] == [(1, "unspecified")]
    assert baseline["lesions"][0]["abc2"]["volume_ml"] > 0
    assert [score["total"] for score in found["scores"]] == [None, None, None]
    assert baseline["volume_ml"] == pytest.approx(blood.sum() * VOXEL_ML)
    assert baseline["iph_ml"] is None and baseline["ivh_ml"] is None
    assert baseline["hu"]["voxels"] == blood.sum()
    assert (baseline["hu"]["mean"], baseline["hu"]["sd"]) == (65, 0)


def test_measure_of_an_empty_mask_has_no_hu(run: Run, head: Path, tmp_path: Path) -> None:
    empty = labelled(tmp_path / "empty.nii.gz", 0, 0)
    baseline = run("measure", head, empty, "--json").json["baseline"]
    assert (baseline["volume_ml"], baseline["slices"], baseline["hu"]) == (0, [], None)
    assert run("measure", head, empty).code == 0


@pytest.mark.parametrize(
    ("before", "after", "of", "verdicts"),
    [
        # voxels of (IPH, IVH); 45 uL each: 200 are 9 mL
        ((200, 0), (266, 0), "all blood", (True, False, True)),  # 2.97 mL, but 33 %
        ((600, 0), (700, 0), "all blood", (False, False, None)),  # 4.5 mL, 16.7 %
        ((600, 0), (900, 0), "all blood", (True, True, True)),  # 13.5 mL
        ((600, 0), (600, 1), "iph", (False, False, True)),  # new IVH
        ((600, 50), (610, 60), "iph", (False, False, False)),  # IVH grew by 0.45 mL
        ((600, 50), (610, 73), "iph", (False, False, True)),  # by 1.035 mL
        ((600, 400), (600, 0), "iph", (False, False, False)),  # IVH cleared
    ],
)
def test_growth_is_judged_by_the_published_definitions(
    run: Run,
    head: Path,
    tmp_path: Path,
    before: tuple[int, int],
    after: tuple[int, int],
    of: str,
    verdicts: tuple[bool, bool, bool | None],
) -> None:
    first = labelled(tmp_path / "first.nii.gz", *before)
    second = labelled(tmp_path / "second.nii.gz", *after)
    found = run("measure", head, first, "--followup", head, second, "--json").json
    growth = found["growth"]
    assert growth["of"] == of
    assert growth["growth_ml"] == pytest.approx((after[0] - before[0]) * VOXEL_ML)
    assert growth["growth_percent"] == pytest.approx(100 * (after[0] / before[0] - 1))
    definitions = growth["definitions"]
    assert [definitions[name]["expansion"] for name in ("classic", "absolute", "revised")] == [
        *verdicts
    ]
    assert all(definition["source"] for definition in definitions.values())
    if of == "iph":
        assert found["followup"]["ivh_ml"] == pytest.approx(after[1] * VOXEL_ML)


def test_strict_asks_for_more_than_the_threshold(run: Run, head: Path, tmp_path: Path) -> None:
    first = labelled(tmp_path / "first.nii.gz", 100, 0)
    second = labelled(tmp_path / "second.nii.gz", 133, 0)  # 33 % exactly, 1.5 mL
    for flag, classic in ((), True), (("--strict",), False):
        found = run("measure", head, first, "--followup", head, second, *flag, "--json").json
        assert found["growth"]["strict"] is not classic
        assert found["growth"]["definitions"]["classic"]["expansion"] is classic


def test_growth_for_people_names_the_rules_and_their_sources(
    run: Run, head: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "200")
    first = labelled(tmp_path / "first.nii.gz", 600, 10)
    second = labelled(tmp_path / "second.nii.gz", 900, 10)
    shown = run("measure", head, first, "--followup", head, second)
    assert shown.code == 0
    for text in (
        *("Baseline: head", "Follow-up: head", "growth >= 6 mL or >= 33 %", "Dowlatshahi"),
        *(
            "Yogendrakumar",
            "Growth of intraparenchymal blood: +13.50 mL (+50.0 %)",
            "beyond readers' error (7.7 mL with intraventricular blood",
            "LiteMedSAM + rsLoRA's own error is 17 % ± 13 % of the volume",
            "Intraventricular",
            NOTICE,
        ),
    ):
        assert text in shown.out
    assert shown.out.count(NOTICE) == 1


def test_the_rate_the_error_and_each_lesion_are_shown(
    run: Run, head: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "220")
    first = labelled(tmp_path / "first.nii.gz", 600, 50)
    second = labelled(tmp_path / "second.nii.gz", 700, 50)
    later = ("--followup", head, second, "--hours", 6)
    growth = run("measure", head, first, *later, "--json").json["growth"]
    assert growth["growth_ml_per_hour"] == pytest.approx(100 * VOXEL_ML / 6)
    assert growth["within_measurement_error"] is True
    assert growth["reading_error"]["between_raters_ml"] == 7.7
    shown = run("measure", head, first, *later)
    for text in (
        *("+0.75 mL/h over 6 h", "within readers' error", "1. Lesion 1 (IPH)", "2. Lesion 2 (IVH)"),
        *("Longest in 3D, mm", "ABC/2, mL", "Weights in C", "hardly any voxel of the scan is bone"),
        *("BRAIN", "hours from onset to the baseline CT", "intraventricular blood 2"),
    ):
        assert text in shown.out


def test_three_scans_are_told_over_time(
    run: Run, head: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "220")
    masks = [labelled(tmp_path / f"{n}.nii.gz", n, 50) for n in (600, 900, 700)]
    later = ("--followup", head, masks[1], head, masks[2])
    out = tmp_path / "over-time.svg"
    found = run(
        "measure", head, masks[0], *later, "--hours", 6, "--hours", 24, "--out", out, "--json"
    ).json
    whole, line = found["timeline"]["total"]["points"], found["timeline"]["lesions"][0]
    assert [one["ml"] for one in whole] == pytest.approx([n * VOXEL_ML for n in (600, 900, 700)])
    assert (line["name"], line["type"]) == ("Lesion 1", "IPH")
    last = line["points"][2]
    assert last["from_baseline"]["growth_ml_per_hour"] == pytest.approx(100 * VOXEL_ML / 24)
    assert last["from_previous"]["growth_ml_per_hour"] == pytest.approx(-200 * VOXEL_ML / 18)
    assert last["from_baseline"]["within_measurement_error"] is True
    assert found["growth"]["growth_ml"] == pytest.approx(300 * VOXEL_ML)
    assert [one["iph_ml"] for one in found["further"]] == pytest.approx([700 * VOXEL_ML])
    assert "Volume against time" in out.read_text()
    shown = run("measure", head, masks[0], *later)
    for text in (
        *("Follow-up (scan 3): head", "All: intraparenchymal blood", "Expansion since baseline"),
        *("+4.5 mL (+17 %), within error", "-9.0 mL (-22 %)"),
        *("The hours of scan 2, 3 are not known", NOTICE),
    ):
        assert text in shown.out


def test_what_cannot_be_told_over_time_is_refused(run: Run, head: Path, tmp_path: Path) -> None:
    mask = labelled(tmp_path / "mask.nii.gz", 600, 50)
    pair = ("--followup", head, mask)
    assert "Each later scan comes with its mask; got" in run("measure", head, mask, head).sentence
    hours = ("--hours", 6, "--hours", 5)
    assert (
        "rise from above 0; got 6, 5; give both in the order"
        in run("measure", head, mask, *pair, head, mask, *hours).sentence
    )
    plot = run("measure", head, mask, "--out", tmp_path / "x.svg")
    assert "Volume against time is of two scans or more" in plot.sentence


def test_a_score_is_shown_when_all_it_asks_for_is_known(
    run: Run, head: Path, tmp_path: Path
) -> None:
    mask = labelled(tmp_path / "mask.nii.gz", 600, 50)  # 27 mL and IVH
    asked = ("--gcs", 12, "--age", 81, "--supratentorial", "--onset-hours", 1.5, "--no-warfarin")
    scores = {
        one["name"]: one for one in run("measure", head, mask, *asked, "--json").json["scores"]
    }
    assert scores["ICH score"]["total"] == 1 + 0 + 1 + 0 + 1
    assert scores["BRAIN"]["total"] is None
    assert scores["BRAIN"]["missing"] == ["recurrent intracerebral hemorrhage"]
    assert (scores["BRAIN"]["least"], scores["BRAIN"]["most"]) == (7 + 0 + 2 + 4, 17)
    assert scores["NAG"]["missing"] == ["NIHSS", "anticoagulant at onset", "glucose, mg/dL"]
    refused = run("measure", head, mask, "--gcs", 2).sentence
    assert "Glasgow Coma Scale is a number from 3 to 15; got 2" in refused


def test_labels_are_what_they_are_said_to_be_and_oedema_is_no_blood(
    run: Run, head: Path, tmp_path: Path
) -> None:
    labels = np.zeros(phantoms.HEAD_SHAPE_ZYX, dtype=np.uint8)
    labels[3, 5, :10], labels[4, 5, :20], labels[3, 9, :40] = 1, 4, 7
    mask = phantoms.save_nifti(tmp_path / "many.nii.gz", labels)
    kinds = ("--label", "1=IPH", "--label", "4=sdh", "--label", "7=oedema")
    found = run("measure", head, mask, *kinds, "--json").json["baseline"]
    assert found["volume_ml"] == pytest.approx(30 * VOXEL_ML)
    assert [(one["label"], one["type"]) for one in found["lesions"]] == [
        (1, "IPH"),
        (4, "SDH"),
        (7, "oedema"),
    ]
    assert found["lesions"][2]["volume_ml"] == pytest.approx(40 * VOXEL_ML)
    two = phantoms.save_nifti(
        tmp_path / "two.nii.gz", np.where(labels == 7, 0, labels).astype("u1")
    )
    found = run("measure", head, two, *kinds[:4], "--json").json["baseline"]
    assert [one["type"] for one in found["lesions"]] == ["IPH", "SDH"]
    for wrong in ("IPH", "0=IPH", "256=IPH", "x=IPH", "1=bruise"):
        assert f"got '{wrong}'; give e.g." in run("measure", head, mask, "--label", wrong).sentence


def test_the_followup_has_an_offset_of_its_own(run: Run, head: Path, tmp_path: Path) -> None:
    stored = phantoms.head_hu()[0] + np.int16(1024)
    later = phantoms.save_nifti(tmp_path / "later.nii.gz", stored)
    mask = labelled(tmp_path / "mask.nii.gz", 600, 0)
    asked = ("measure", head, mask, "--followup", later, mask)
    assert "add_offset=-1024" in run(*asked).sentence
    found = run(*asked, "--followup-add-offset", -1024, "--json").json
    assert found["followup"]["hu"] == found["baseline"]["hu"]
    assert found["growth"]["growth_ml"] == 0


def test_the_samples_growth_is_40_percent(run: Run) -> None:
    from ichseg.sample import sample_paths

    growth = run(
        "measure", *sample_paths(), "--followup", *sample_paths(followup=True), "--json"
    ).json["growth"]
    assert growth["growth_percent"] == pytest.approx(40, abs=3)
    assert [one["expansion"] for one in growth["definitions"].values()] == [True, False, True]
    assert growth["within_measurement_error"] is False


def test_one_label_of_any_value_is_blood(run: Run, head: Path, tmp_path: Path) -> None:
    labels = phantoms.head_hu()[1].astype(np.uint8) * 255
    mask = phantoms.save_nifti(tmp_path / "mask255.nii.gz", labels)
    baseline = run("measure", head, mask, "--json").json["baseline"]
    assert baseline["volume_ml"] == pytest.approx(phantoms.head_hu()[1].sum() * VOXEL_ML)


@pytest.fixture
def doubled(head: Path, tmp_path: Path) -> list[Path]:
    """Masks of a baseline with 600 voxels of label 1 and 20 of 2, and of a follow-up with 1200 and 20."""
    return [labelled(tmp_path / f"{n}.nii.gz", n, 20) for n in (600, 1200)]


@pytest.mark.parametrize("kind", ["SDH", "EDH", "SAH", "unspecified"])
def test_a_hematoma_of_any_type_that_doubles_has_expanded(
    run: Run, head: Path, doubled: list[Path], kind: str
) -> None:
    first, second = doubled
    asked = ("measure", head, first, "--followup", head, second, "--label", f"1={kind}")
    found = run(*asked, "--label", "2=IVH", "--json").json
    grown = found["growth"]
    assert grown["growth_ml"] == pytest.approx(600 * VOXEL_ML)
    assert (grown["of"], grown["counted"]) == ("not ivh", "blood outside the ventricles")
    assert grown["definitions"]["classic"]["expansion"] is True
    assert grown["reading_error"]["between_raters_ml"] == 7.7
    assert found["baseline"]["iph_ml"] is None
    brain = found["scores"][0]
    assert brain["items"][0] == {**brain["items"][0], "value": None, "points": None}
    assert "intraparenchymal volume, mL" in brain["missing"]


def test_a_mask_says_itself_what_its_labels_are(run: Run, head: Path, tmp_path: Path) -> None:
    volume, masks = read_volume(head), []
    lesions = [Lesion(1, "Ventricle", "IVH"), Lesion(2, "Putamen", "IPH")]
    for iph in (600, 1200):
        labels = np.zeros(volume.shape_zyx, np.uint8)
        labels[4].ravel()[:20], labels[3].ravel()[:iph] = 1, 2
        masks.append(tmp_path / f"own-{iph}.nii.gz")
        save_mask(masks[-1], labels, volume, lesions)
    out = tmp_path / "evidence.json"
    asked = ("measure", head, masks[0], "--followup", head, masks[1])
    found = run(*asked, "--json").json
    assert found["baseline"]["iph_ml"] == pytest.approx(600 * VOXEL_ML)
    assert found["baseline"]["ivh_ml"] == pytest.approx(20 * VOXEL_ML)
    assert found["growth"]["growth_ml"] == pytest.approx(600 * VOXEL_ML)
    assert found["growth"]["of"] == "iph" and found["baseline"]["notes"] == []
    assert found["scores"][0]["items"][0]["value"] == pytest.approx(600 * VOXEL_ML)
    assert [(one["label"], one["name"], one["type"]) for one in found["baseline"]["lesions"]] == [
        *((1, "Ventricle", "IVH"), (2, "Putamen", "IPH"))
    ]
    refused = run(*asked, "--label", "1=IPH").sentence
    assert "label 1 of the baseline is IVH in the mask's own list and IPH by --label" in refused
    run(*asked, "--out", out)
    assert json.loads(out.read_text())["growth"]["growth_ml"] == found["growth"]["growth_ml"]


def test_a_lone_label_is_not_renumbered(run: Run, head: Path, tmp_path: Path) -> None:
    volume, masks = read_volume(head), []
    known = [Lesion(1, "Clot", "IPH"), Lesion(3, "Subdural", "SDH", "#123456")]
    for voxels in (300, 500):
        labels = np.zeros(volume.shape_zyx, np.uint8)
        labels[3].ravel()[:voxels] = 3
        masks.append(tmp_path / f"lone-{voxels}.nii.gz")
        save_mask(masks[-1], labels, volume, known)
    out = [tmp_path / name for name in ("a.json", "a.csv", "a.pdf")]
    asked = ("measure", head, masks[0], "--followup", head, masks[1])
    found = run(*asked, "--json").json
    (lesion,) = found["baseline"]["lesions"]
    assert (lesion["label"], lesion["name"], lesion["type"]) == (3, "Subdural", "SDH")
    assert found["growth"]["growth_ml"] == pytest.approx(200 * VOXEL_ML)
    shown = run(*asked, *(word for path in out for word in ("--out", path))).out
    assert "Growth of all blood: +9.00 mL" in shown
    (lesion,) = json.loads(out[0].read_text())["lesions"]
    assert (lesion["id"], lesion["name"], lesion["colour"]) == (3, "Subdural", "#123456")
    assert ",3,Subdural,SDH" in out[1].read_text()
    for path in masks:
        lesions_path(path).unlink()
    nobody = run(*asked, "--json").json
    assert [one["label"] for one in nobody["baseline"]["lesions"]] == [3]
    assert nobody["growth"]["growth_ml"] == pytest.approx(200 * VOXEL_ML)


def test_the_follow_up_may_number_its_labels_otherwise(
    run: Run, head: Path, tmp_path: Path, doubled: list[Path]
) -> None:
    labels = np.zeros(phantoms.HEAD_SHAPE_ZYX, np.uint8)
    labels[3].ravel()[:1200], labels[4].ravel()[:20] = 7, 1
    second = phantoms.save_nifti(tmp_path / "other.nii.gz", labels)
    asked = ("measure", head, doubled[0], "--followup", head, second, "--json")
    said = ("--label", "1=IPH", "--label", "2=IVH")
    found = run(*asked, *said, "--followup-label", "1=IVH", "--followup-label", "7=IPH").json
    assert found["growth"]["growth_ml"] == pytest.approx(600 * VOXEL_ML)
    assert found["growth"]["ivh_growth_ml"] == 0
    assert "say what they are" in run(*asked).sentence


# Evidence


def test_measure_writes_each_kind_of_evidence(run: Run, head: Path, tmp_path: Path) -> None:
    mask = labelled(tmp_path / "mask.nii.gz", 600, 40)
    begins = {
        "a.pdf": b"%PDF",
        "b.csv": b"scan,",
        "c.json": b"{",
        "d.glb": b"glTF",
        "e.stl": b"Rese",
    }
    outs = [word for name in begins for word in ("--out", tmp_path / name)]
    asked = ("measure", head, mask, "--followup", head, mask, "--nihss", 12, *outs)
    said = run(*asked).out.replace("\n", "")
    assert all(f"Written: {tmp_path / name}" in said for name in begins)
    assert all((tmp_path / f"b-{kind}.csv").is_file() for kind in ("total", "growth", "scores"))
    for name, magic in begins.items():
        assert (tmp_path / name).read_bytes().startswith(magic)
    record = json.loads((tmp_path / "c.json").read_text())
    assert [(one["id"], one["type"]) for one in record["lesions"]] == [(1, "IPH"), (2, "IVH")]
    assert record["total"]["volume_ml"] == pytest.approx(640 * VOXEL_ML)
    assert (record["role"], record["growth"]["growth_ml"]) == ("baseline", 0)
    assert [score["name"] for score in record["scores"]] == ["BRAIN", "NAG", "ICH score"]
    assert record["model"] is None and record["model_title"] == "Read from a mask file"
    (note,) = record["notes"]
    assert "taken for 1 intraparenchymal hemorrhage, 2 intraventricular hemorrhage" in note


def test_lesions_beside_a_mask_keep_their_names(run: Run, head: Path, tmp_path: Path) -> None:
    blood = phantoms.head_hu()[1].astype(np.uint8)
    mask = tmp_path / "mask.nii.gz"
    save_mask(mask, blood, read_volume(head), [Lesion(1, "Putamen", colour="#123456")])
    assert run("measure", head, mask, "--out", tmp_path / "a.json").code == 0
    (lesion,) = json.loads((tmp_path / "a.json").read_text())["lesions"]
    assert (lesion["name"], lesion["colour"]) == ("Putamen", "#123456")


def test_the_range_of_a_propagation_is_from_other_slices_too(
    run: Run, head: Path, tmp_path: Path
) -> None:
    asked = ("segment", head, "--slice", 3, "--box", BOX, "--model", "threshold", "--propagate")
    said = run(*asked, "--out", tmp_path / "m.json").out
    record = json.loads((tmp_path / "m.json").read_text())
    given = record["total"]["range"]
    assert set(given["from_slices"]) == {2, 3, 4, 5}
    assert given["low_ml"] <= record["total"]["volume_ml"] <= given["high_ml"]
    assert f"{given['low_ml']:.1f} to {given['high_ml']:.1f} mL {given['covers']}." in said
    assert {stop["lesion"] for stop in record["stops"]} == {1} and len(record["stops"]) == 2
    tables = tmp_path / "m.csv"
    run(*asked, "--out", tables)
    (total,) = csv.DictReader((tmp_path / "m-total.csv").open())
    assert total["stops"] == "; ".join(stop["sentence"] for stop in record["stops"])
    assert total["boxes"] == f"3:{BOX}"


def test_a_measured_mask_says_what_its_file_says_made_it(
    run: Run, head: Path, tmp_path: Path
) -> None:
    volume, blood = read_volume(head), phantoms.head_hu()[1].astype(np.uint8)
    save_mask(tmp_path / "m.nii.gz", blood, volume, method="litemedsam-rslora")
    run("measure", head, tmp_path / "m.nii.gz", "--out", tmp_path / "m.json")
    record = json.loads((tmp_path / "m.json").read_text())
    assert record["model"] is None and record["model_error"]["patients"] == 28
    assert record["model_title"] == (
        "Read from a mask file, which says that LiteMedSAM + rsLoRA made it"
    )


def test_a_label_is_what_the_files_call_the_scan(run: Run, head: Path, tmp_path: Path) -> None:
    asked = ("segment", head, "--slice", 3, "--box", BOX, "--model", "threshold")
    out = ("--out", tmp_path / "m.json", "--out", tmp_path / "m.csv")
    run(*asked, *out, "--scan-label", "ward-3")
    assert json.loads((tmp_path / "m.json").read_text())["scan"]["label"] == "ward-3"
    rows = list(csv.DictReader((tmp_path / "m-slices.csv").open()))
    assert {(row["scan"], row["method"]) for row in rows} == {("ward-3", "threshold")}
    assert "never a patient's name" in run(*asked, "--scan-label", "Doe, Jane").sentence
    mask = phantoms.save_nifti(tmp_path / "t.nii.gz", phantoms.head_hu()[1].astype(np.uint8))
    run("measure", head, mask, "--scan-label", "a", "--out", tmp_path / "m.json")
    assert json.loads((tmp_path / "m.json").read_text())["scan"]["label"] == "a"


def test_segment_writes_the_mask_and_the_report_with_its_range(
    run: Run, head: Path, tmp_path: Path
) -> None:
    outs = (
        "--out",
        tmp_path / "m.nii.gz",
        "--out",
        tmp_path / "m.json",
        "--out",
        tmp_path / "m.pdf",
    )
    said = run("segment", head, "--slice", 3, "--box", BOX, "--model", "threshold", *outs, "--json")
    record = json.loads((tmp_path / "m.json").read_text())
    assert record["total"]["volume_ml"] == pytest.approx(said.json["volume_ml"])
    assert record["boxes"] == said.json["boxes"]
    given = record["total"]["range"]
    assert given["low_ml"] <= record["total"]["volume_ml"] <= given["high_ml"]
    assert len(given["draws_ml"]) == DRAWS
    assert record["slices_by"] == {"box": 1}
    volume = read_volume(head)
    assert volume_ml(read_mask(tmp_path / "m.nii.gz", volume), volume) == pytest.approx(
        said.json["volume_ml"]
    )


def test_a_dicom_seg_has_the_patients_name_only_where_it_is_asked_for(
    run: Run, tmp_path: Path
) -> None:
    images = phantoms.dicom_slices(phantoms.head_hu()[0], [5.0 * k for k in range(8)], (3.0, 3.0))
    folder = phantoms.save_dicom(tmp_path / "ct", images)
    asked = ("segment", folder, "--slice", 3, "--box", BOX, "--model", "threshold")
    without = run(*asked, "--out", tmp_path / "a.dcm")
    assert "are left empty" in without.out.replace("\n", " ")
    named = run(*asked, "--identified", "--out", tmp_path / "b.dcm")
    assert "treat them likewise" in named.out.replace("\n", " ")
    name = phantoms.PATIENT.encode()
    assert name not in (tmp_path / "a.dcm").read_bytes()
    assert name in (tmp_path / "b.dcm").read_bytes()
    assert phantoms.PATIENT not in without.out + without.err + named.out + named.err


# What is refused


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (("info", "absent.nii.gz"), "absent.nii.gz"),
        (("segment", "{head}"), "got 0 --slice and 0 --box; give e.g."),
        (("segment", "{head}", "--slice", 3), "got 1 --slice and 0 --box"),
        (
            ("segment", "{head}", "--slice", 3, "--slice", 4, "--box", BOX),
            "got 2 --slice and 1 --box",
        ),
        (("segment", "{head}", "--slice", 8, "--box", BOX), "slices 0 to 7; got 8"),
        (("segment", "{head}", "--slice", -1, "--box", BOX), "slices 0 to 7; got -1"),
        (("segment", "{head}", "--slice", 3, "--box", "1,2,3"), "got '1,2,3'"),
        (("segment", "{head}", "--slice", 3, "--box", "9,9,3,12"), "x0 < x1"),
        (("segment", "{head}", "--slice", 3, "--box", "nan,9,13,12"), "finite"),
        (("segment", "{head}", "--slice", 3, "--box", "70,9,80,12"), "wholly outside"),
        (("segment", "{head}", "--slice", 3, "--box", BOX, "--model", "thresold"), "'thresold'"),
        (("segment", "{head}", "--slice", 3, "--box", BOX, "--out", "mask.png"), "got mask.png"),
        (("segment", "{head}", "--slice", 3, "--box", BOX, "--out", "no/m.zip"), "no folder no"),
        (("segment", "{head}", "--session", "absent.json"), "absent.json cannot"),
        (("segment", "{head}", "--session", "x.json", "--slice", 3), "leave them out"),
        (("segment", "{head}", "--session", "x.json", "--model", "threshold"), "leave them out"),
        (
            ("compare", "{head}", "--slice", 3, "--box", BOX, "--models", " , "),
            "at least one model",
        ),
        (("compare", "{head}", "--slice", 3, "--box", BOX, "--models", "sm"), "'sm'"),
        (("compare", "{head}", "--slice", 3, "--box", BOX, "--truth", "absent.nii"), "absent.nii"),
        (
            ("segment", "{head}", "--slice", 3, "--box", BOX, "--out", "m.dcm"),
            "-mask.nii.gz in place of m.dcm",
        ),
        (("measure", "{head}", "{truth}", "--out", "a.docx"), "one of .pdf, .csv, .json"),
        (("measure", "{head}", "{truth}", "--out", "a.pdf", "--out", "no/b.pdf"), "no folder no"),
        (("measure", "{head}", "absent.nii.gz"), "absent.nii.gz"),
        (("measure", "{head}", "{head}"), "head.nii.gz"),
        (("measure", "{head}", "{truth}", "--followup", "{head}", "absent.nii"), "absent.nii"),
    ],
)
@pytest.mark.parametrize("flag", [(), ("--json",)], ids=["people", "json"])
def test_bad_input_is_one_line_and_exit_2(
    run: Run,
    head: Path,
    truth: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    arguments: tuple[object, ...],
    sentence: str,
    flag: tuple[str, ...],
) -> None:
    monkeypatch.chdir(tmp_path)
    words = [str(word).format(head=head, truth=truth) for word in arguments]
    said = run(*words, *flag).sentence
    assert sentence in said
    assert str(head.parent) not in said, "a file is named by its base name"
    assert list(tmp_path.iterdir()) == [], "nothing is written"


def test_labels_that_are_not_told_what_they_are_are_refused(
    run: Run, head: Path, tmp_path: Path
) -> None:
    labels = np.zeros(phantoms.HEAD_SHAPE_ZYX, dtype=np.uint8)
    labels[3, 0, :3] = (1, 3, 4)
    mask = phantoms.save_nifti(tmp_path / "many.nii.gz", labels)
    assert (
        "the mask of the baseline has 1, 3, 4; say what they are, e.g. --label 4=SDH"
        in run("measure", head, mask).sentence
    )


@pytest.mark.parametrize(
    "arguments",
    [
        ("segment",),
        ("inform", "x"),
        ("info", "x", "--loud"),
        ("segment", "x", "--slice", "three", "--box", BOX),
        ("measure", "x", "y", "--followup", "z"),
    ],
)
def test_wrong_usage_exits_2_with_nothing_on_stdout(run: Run, arguments: tuple[str, ...]) -> None:
    answer = run(*arguments)
    assert (answer.code, answer.out) == (2, "")
    assert answer.err


# As a process


def process(*arguments: object) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "ichseg", *map(str, arguments)],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )


def test_as_a_process_json_is_alone_on_stdout(head: Path) -> None:
    answer = process("segment", head, "--slice", 3, "--box", BOX, "--model", "threshold", "--json")
    assert answer.returncode == 0, answer.stderr
    assert answer.stdout.count("\n{") == 0 and answer.stdout.endswith("}\n")
    assert set(json.loads(answer.stdout)) == SEGMENT_KEYS


def test_as_a_process_a_refusal_is_one_line(head: Path) -> None:
    answer = process("segment", head, "--slice", 99, "--box", BOX)
    assert (answer.returncode, answer.stdout) == (2, "")
    assert answer.stderr == "Error: The scan has slices 0 to 7; got 99; choose one of them.\n"


def test_help_names_every_command() -> None:
    answer = process("--help")
    assert answer.returncode == 0
    for command in ("info", "segment", "compare", "measure"):
        assert command in answer.stdout


# On real input


def test_the_real_tilted_series_from_end_to_end(
    run: Run, shared_data: Path, tmp_path: Path
) -> None:
    folder = shared_data / "ge-head-ct"
    scan = run("info", folder, "--json").json["scan"]
    assert scan["tilt_degrees"] == pytest.approx(18.5, abs=0.05)
    assert not scan["evenly_spaced"] and len(scan["slice_heights_mm"]) == 28
    assert any("gantry tilt 18.5 degrees" in note for note in scan["notes"])
    prompt = ("--slice", 20, "--box", "200,200,300,300", "--model", "threshold")
    refused = run("segment", folder, *prompt, "--out", tmp_path / "mask.nii.gz")
    assert re.search(r"write hematoma-\w{8}-mask-slices\.zip instead", refused.sentence)
    found = run("segment", folder, *prompt, "--out", tmp_path / "mask.zip", "--json").json
    assert (tmp_path / "mask.zip").stat().st_size > 0
    row = found["slices"][0] if found["slices"] else {"volume_ml": 0.0, "height_mm": 7.0}
    assert row["height_mm"] == pytest.approx(7, abs=0.01)
    assert found["volume_ml"] == pytest.approx(row["volume_ml"])


def test_the_sample_from_end_to_end(run: Run, tmp_path: Path) -> None:
    sample = pytest.importorskip("ichseg.sample", reason="the sample is not here")
    scan, truth = sample.sample_paths()
    volume = read_volume(scan)
    labels = read_mask(truth, volume)
    k = int(np.argmax((labels == 1).sum(axis=(1, 2))))
    rows, columns = np.nonzero(labels[k] == 1)
    box = f"{columns.min()},{rows.min()},{columns.max() + 1},{rows.max() + 1}"
    prompts = ("--slice", k, "--box", box)
    found = run("compare", scan, *prompts, "--models", "threshold", "--truth", truth, "--json").json
    assert found["models"][0]["slices"][0]["dice"] > 0.7
    measured = run("measure", scan, truth, "--json").json["baseline"]
    assert measured["iph_ml"] == pytest.approx(30, rel=0.2)
    assert measured["ivh_ml"] > 0
    assert 50 < measured["hu"]["mean"] < 75
