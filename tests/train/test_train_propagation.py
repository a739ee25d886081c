"""One box against a box on every slice: the counts follow from the geometry of two small scans."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from typer.testing import CliRunner

from ichseg.errors import InputError
from ichseg.marks.box import Box
from ichseg.methods import identity
from ichseg.methods.catalogue import load_predictor
from ichseg.methods.follow_rule import Rule
from ichseg.methods.frame import SliceFrame
from ichseg.methods.proposals import Proposal, find
from ichseg.scan.volume import CTVolume
from tests.train.scans import write_scan
from train.__main__ import app
from train.data.cache import Prepared, prepare
from train.scores import cache
from train.scores.cache import read_rows
from train.scores.confirmed import confirmed
from train.scores.likeness import best_likeness, by_likeness, likeness_by_part, rules_tried
from train.scores.propagation import (
    CHOSEN_ON,
    EVERY_SLICE,
    WAYS,
    WITH_PROPOSALS,
    Asked,
    Remembering,
    Row,
    measure_run,
    measure_scan,
    prompts_of,
    sample_boxes,
)
from train.scores.runs import parts
from train.scores.scans import lesions_of, volume_of
from train.write.propagation import report


@pytest.fixture(scope="module")
def prepared(tmp_path_factory: pytest.TempPathFactory) -> Prepared:
    """Patient one has one rod of blood on slices 2 to 6; patient two another on 1 to 3 as well, apart from it."""
    root = tmp_path_factory.mktemp("scans")
    rod = np.zeros((9, 128, 128), bool)
    rod[2:7, 40:70, 40:70] = True
    both = rod.copy()
    both[1:4, 40:60, 90:110] = True
    for name, blood in (("one", rod), ("two", both)):
        write_scan(root, name, np.where(blood, 65, 35).transpose(2, 1, 0), blood.transpose(2, 1, 0))
    return prepare("folder", root, tmp_path_factory.mktemp("cache"))


@pytest.fixture(scope="module")
def rows(prepared: Prepared, tmp_path_factory: pytest.TempPathFactory) -> list[Row]:
    path = tmp_path_factory.mktemp("out") / "rows.csv"
    chosen = parts(prepared, model="threshold")
    return measure_run(prepared, path, chosen, load_predictor, rules=rules_tried())


def of(rows: list[Row], patient: str, way: str) -> Row:
    now = (row for row in rows if not row.least_likeness)
    (row,) = (row for row in now if (row.patient, row.way) == (patient, way))
    return row


def test_lesions_are_the_components_of_the_reference_in_space(prepared: Prepared) -> None:
    scan = prepared.scans["two"]
    reference = np.stack([prepared.mask("two", k) for k in range(9)])
    lesions = lesions_of(reference, scan)
    assert sorted(int(lesion.sum()) for lesion in lesions) == [3 * 400, 5 * 900]
    assert len(prompts_of("one box", reference, lesions, scan)) == 1
    by_lesion = prompts_of("slice per lesion", reference, lesions, scan)
    assert sorted(k for boxes in by_lesion.values() for k in boxes) == [1, 2]
    assert len(prompts_of(EVERY_SLICE, reference, lesions, scan)[0]) == 6
    margin = 3 * 128 / 256
    assert prompts_of("one slice", reference, lesions, scan)[0] == {
        2: [Box(40 - margin, 40 - margin, 70 + margin, 70 + margin)]
    }


def test_one_box_finds_one_rod_and_a_box_a_lesion_both(rows: list[Row]) -> None:
    every = of(rows, "one", EVERY_SLICE)
    assert every.reference_px == 5 * 900 and every.boxes == 5
    assert every.dice > 0.98 and every.missed_slices == every.false_slices == 0
    one = of(rows, "one", "one slice")
    assert (one.boxes, one.missed_slices, one.false_slices) == (1, 0, 0)
    assert one.dice == pytest.approx(every.dice, abs=0.005)
    assert one.stops == "area:2"
    two = of(rows, "two", "slice per lesion")
    assert two.boxes == two.lesions == 2
    assert [float(value) > 0.98 for value in two.lesion_dice.split()] == [True, True]
    assert two.marked_px == pytest.approx(two.reference_px, rel=0.02)


def proposed(volume: CTVolume, inside: dict[int, tuple[slice, slice]]) -> list[Proposal]:
    """What a finder would propose that sees blood in these places: {slice: native rows and columns}."""
    chance = np.zeros((len(volume.hu_zyx), 256, 256), np.float32)
    for k, (rows, columns) in inside.items():
        native = np.zeros(volume.shape_zyx[1:], bool)
        native[rows, columns] = True
        chance[k][SliceFrame(native.shape).mask(native)] = 0.9
    return list(find(chance, volume))


def test_accepted_proposals_are_followed_as_lesions(prepared: Prepared) -> None:
    def propose(_: object, volume: CTVolume) -> list[Proposal]:
        first, second, tissue = (
            (slice(40, 70),) * 2,
            (slice(40, 60), slice(90, 110)),
            slice(90, 110),
        )
        places = {2: first, 6: (tissue, tissue)}
        return proposed(volume, places) + proposed(volume, {1: second})

    asked = {"key": Asked(Rule(), refinement=False, proposals=True)}
    predictor, scan = load_predictor("threshold"), prepared.scans["two"]
    rows = {
        row.way: row for row in measure_scan(predictor, prepared, scan, "fold-0", asked, propose)
    }
    assert list(rows) == list(WITH_PROPOSALS)
    # The box of both is around all blood of slice 2; one box a lesion leaves nothing to accept.
    assert [rows[way].accepted for way in WITH_PROPOSALS] == [2, 0, 0]
    none = rows["proposals"]
    assert none.boxes == 0 and none.dice > 0.98 and not none.missed_slices
    lesser = measure_scan(
        predictor, prepared, prepared.scans["one"], "fold-0", asked, lambda *_: []
    )
    assert [(row.marked_px, row.dice) for row in lesser if row.way == "proposals"] == [(0, 0.0)]


def test_a_proposal_is_confirmed_where_it_is_mostly_blood_that_is_not_marked(
    prepared: Prepared,
) -> None:
    volume = volume_of(prepared, prepared.scans["two"])
    reference = np.stack([prepared.mask("two", k) for k in range(9)])
    (right,) = proposed(volume, {4: (slice(40, 70), slice(40, 70))})
    (wide,) = proposed(volume, {4: (slice(20, 90), slice(20, 90))})
    nothing = np.zeros_like(reference)
    assert confirmed([right, wide], reference, nothing) == [right]
    assert confirmed([right], reference, reference) == []
    half = nothing.copy()
    half[4, 40:56, 40:70] = True
    assert confirmed([right], reference, half) == []
    half[4, 54:56] = False
    assert confirmed([right], reference, half) == [right]


def test_false_voxels_are_each_counted_in_one_place(rows: list[Row]) -> None:
    for row in rows:
        where = (row.false_bone, row.false_middle, row.false_bright, row.false_pale, row.false_rest)
        overlap = row.dice * (row.reference_px + row.marked_px) / 2
        assert sum(where) == pytest.approx(row.marked_px - overlap, abs=0.5)


def test_rows_survive_their_file_and_are_not_measured_twice(
    prepared: Prepared, rows: list[Row], tmp_path: Path
) -> None:
    path = tmp_path / "rows.csv"
    chosen = parts(prepared, model="threshold", patients=["one"])
    first = measure_run(prepared, path, chosen, load_predictor)
    assert [row.dice for row in read_rows(path, Row)] == pytest.approx(
        [row.dice for row in first], rel=1e-4
    )
    again = measure_run(prepared, path, chosen, load_predictor)
    assert [row.seconds for row in again] == pytest.approx([r.seconds for r in first], rel=1e-4)
    other = measure_run(prepared, path, chosen, load_predictor, rules=[Rule(least_area_mm2=20)])
    shared = {row.key for row in other} & {row.key for row in first}
    assert shared == {row.key for row in first if row.way == EVERY_SLICE}
    assert {row.patient for row in read_rows(path, Row)} == {"one"}


def test_a_box_is_answered_once() -> None:
    asking = Remembering(load_predictor("threshold"))
    hu = np.full((40, 40), 35.0)
    hu[10:20, 10:20] = 65
    boxes = [Box(8, 8, 22, 22), Box(0, 0, 9, 9)]
    first = asking.predict(asking.embed(hu), boxes)
    again = asking.predict(asking.embed(hu), boxes[::-1])
    assert asking.answered == 2
    assert (first.masks == again.masks[::-1]).all()


def test_the_scan_has_its_own_spacing_or_the_assumed_one(prepared: Prepared) -> None:
    scan = prepared.scans["one"]
    volume = volume_of(prepared, scan)
    assert scan.pixel_spacing_mm is not None and scan.slice_heights_mm is not None
    assert volume.geometry.spacing_yx_mm == pytest.approx(scan.pixel_spacing_mm)
    assert volume.slice_heights_mm == pytest.approx(np.array(scan.slice_heights_mm))


def test_an_unfinished_fold_is_refused(prepared: Prepared, tmp_path: Path) -> None:
    (tmp_path / "fold-0").mkdir()
    with pytest.raises(InputError, match="fold-0' is not; resume it"):
        parts(prepared, run=tmp_path)


def test_the_samples_boxes_are_within_their_bound() -> None:
    reference = np.zeros((5, 60, 60), bool)
    reference[1, 28:32, 28:32] = True  # under a quarter of the largest
    reference[2:4, 20:40, 20:40] = True
    boxes = sample_boxes(reference, (0.5, 0.5), 6)
    assert [k for k, _ in boxes] == [2, 3, 2, 3, 2, 3]
    off = np.abs(np.array([box.xyxy for _, box in boxes]) - (20, 20, 40, 40))
    assert 0 < off.max() <= 3 / 0.5


def test_the_command_writes_the_document(prepared: Prepared, tmp_path: Path) -> None:
    out = tmp_path / "propagation"
    arguments = ["--data", prepared.folder, "--model", "threshold", "--out", out, "--no-sample"]
    result = CliRunner().invoke(app, ["propagate", *map(str, arguments)])
    assert result.exit_code == 0, result.output
    text = (tmp_path / "propagation.md").read_text()
    for way in WAYS:
        assert f"- {way}: " in text
    assert "2 patients." in text and "| one | unknown | threshold | 1 | 0.9" in text
    assert read_rows(tmp_path / "propagation.csv", Row)


def test_patients_the_rule_was_chosen_on_are_told_apart(rows: list[Row]) -> None:
    renamed = [dataclasses.replace(r, patient=CHOSEN_ON[0]) for r in rows if r.patient == "one"]
    text = report([*renamed, *(r for r in rows if r.patient == "two")], "threshold")
    held_out, chosen = text.split("## Patients that the rule was chosen on")
    assert "1 patients." in held_out and "1 patients." in chosen


def tried(part: str, patient: str, every: float, dice: dict[str, float]) -> list[Row]:
    """Rows of one patient: a box on every slice, and every other way by least likeness."""
    nothing: dict[str, Any] = dict.fromkeys((one.name for one in dataclasses.fields(Row)), 0)
    texts = {"kind": "iph", "lesion_dice": "", "stops": "", "least_likeness": ""}
    told = nothing | texts | {"patient": patient, "part": part, "reference_px": 1}
    return [Row(**told | {"way": EVERY_SLICE, "dice": every})] + [
        Row(**told | {"way": way, "dice": value, "least_likeness": least})
        for least, value in dice.items()
        for way in WAYS
        if way != EVERY_SLICE
    ]


def test_a_parts_least_likeness_is_chosen_on_the_other_parts() -> None:
    rows = [
        *tried("fold-0", "a", 0.9, {"": 0.99, "0.10": 0.2, "0.20": 0.8}),
        *tried("fold-1", "b", 0.8, {"": 0.99, "0.10": 0.7, "0.20": 0.6}),
        *tried("fold-1", "c", 0.8, {"": 0.99, "0.10": 0.5, "0.20": 0.5}),
    ]
    assert best_likeness(rows) == "0.20"
    likeness = likeness_by_part(rows)
    assert likeness == {"fold-0": "0.10", "fold-1": "0.20"}
    now = by_likeness(rows, likeness)
    assert [row.dice for row in now if row.way == "one box"] == [0.2, 0.6, 0.5]
    assert [row.dice for row in now if row.way == EVERY_SLICE] == [0.9, 0.8, 0.8]
    text = report(rows, "run")
    assert "Chosen: fold-0 0.10, fold-1 0.20; on all patients 0.20." in text
    assert "| 0.10 | 0.467 | 0.467 | 0.467 |" in text
    assert "| one box | all (3) | 0.990 ± 0.000 | 0.433 ± 0.208 | -0.557 (-0.790 to" in text


def test_figures_of_another_program_or_model_are_not_printed_again(
    prepared: Prepared, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "rows.csv"

    def keys(model: str = "threshold") -> set[str]:
        chosen = parts(prepared, model=model, patients=["one"])
        return {row.key for row in measure_run(prepared, path, chosen, load_predictor)}

    first = keys()
    assert keys() == first
    monkeypatch.setattr(identity, "code_sha256", lambda: "another")
    second = keys()
    assert second.isdisjoint(first) and keys("fcm").isdisjoint(second)
    assert {row.key for row in read_rows(path, Row)} == keys("fcm")
    third = keys("fcm")
    monkeypatch.setattr(cache, "_code", lambda names: "another")
    assert keys("fcm").isdisjoint(third)
