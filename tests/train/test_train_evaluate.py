"""Scores come through the predictor, at native size, and say what they are."""

from __future__ import annotations

import csv
import json
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from typer.testing import CliRunner

from ichseg.methods import identity
from ichseg.methods.in_box import InBoxPredictor
from ichseg.methods.predictor import SliceMasks
from tests.train.scans import write_scan
from train.__main__ import app
from train.data.cache import Prepared, prepare
from train.data.slices import native_slices
from train.scores import runs
from train.scores.cache import read_rows, write_rows
from train.scores.evaluate import Score, by_type, score, score_as_paper, summary_of
from train.scores.protocols import PROTOCOLS, prompt_boxes
from train.scores.runs import evaluate_run, parts
from train.write.evaluation import compare, write_report


class FillsTheBox(InBoxPredictor):
    """Says that all of a box is blood: its Dice follows from the boxes alone."""

    name = title = "fills the box"

    def find(self, inside_hu: npt.NDArray[np.number]) -> npt.NDArray[np.bool_]:
        return np.ones(inside_hu.shape, bool)


@pytest.fixture(scope="module")
def prepared(tmp_path_factory: pytest.TempPathFactory) -> Prepared:
    """256 x 256: one patient with a square of 40 x 20, one with two squares of 20 x 20 side by side."""
    root = tmp_path_factory.mktemp("data")
    for name, squares in (
        ("one", [(100, 140, 60, 80)]),
        ("two", [(40, 60, 60, 80), (120, 140, 60, 80)]),
    ):
        blood = np.zeros((256, 256, 2), bool)
        for x0, x1, y0, y1 in squares:
            blood[x0:x1, y0:y1, 1] = True
        hu = np.full(blood.shape, 36.0)
        hu[:8] = -1000
        write_scan(root, name, hu + 26 * blood, blood)
    return prepare("folder", root, tmp_path_factory.mktemp("cache"))


def test_scores_are_those_of_the_geometry(prepared: Prepared) -> None:
    rows = score(
        FillsTheBox(),
        native_slices(prepared, margin_px=0),
        [PROTOCOLS["slice"], PROTOCOLS["component"]],
    )
    got = {(row.patient, row.protocol): row for row in rows}
    assert (
        got["one", "slice"].dice
        == got["one", "component"].dice
        == got["two", "component"].dice
        == 1
    )
    # one box around both squares is 100 x 20 = 2000 px, of which 800 are blood
    whole = got["two", "slice"]
    assert (whole.predicted_px, whole.reference_px, whole.components) == (2000, 800, 2)
    assert whole.dice == 2 * 800 / 2800
    assert whole.jaccard == 800 / 2000
    assert whole.volume_difference == 1.5


def test_a_box_that_several_protocols_draw_is_answered_once(prepared: Prepared) -> None:
    asked = []

    class Counts(FillsTheBox):
        def predict(self, embedding: Any, boxes: Any, **rest: Any) -> SliceMasks:
            asked.append(len(boxes))
            return super().predict(embedding, boxes, **rest)

    rows = score(Counts(), native_slices(prepared), list(PROTOCOLS.values()))
    # One box per slice and two around components, as they are and jittered by 5 and by 10 px; nothing is refined.
    assert sorted(asked) == [1] * 6 + [2] * 3
    assert len(rows) == 2 * len(PROTOCOLS)
    assert all(row.seconds > 0 for row in rows)


def test_a_summary_is_over_slices_and_over_patients(prepared: Prepared) -> None:
    rows = score(FillsTheBox(), native_slices(prepared, margin_px=0), [PROTOCOLS["slice"]])
    summary = summary_of(rows)["slice"]
    assert summary["dice"].mean == pytest.approx((1 + 1600 / 2800) / 2)
    assert summary["dice"].n == summary["dice"].n_patients == 2
    assert summary["patient_volume_difference"].mean == pytest.approx(0.75)
    assert all(value.n == 2 for value in by_type(rows, "slice").values())


def test_jittered_boxes_move_within_their_bound_and_alike_for_all(prepared: Prepared) -> None:
    for item in native_slices(prepared, margin_px=0):
        protocol = PROTOCOLS["component jitter 10"]
        first, again = prompt_boxes(item, protocol, 0), prompt_boxes(item, protocol, 0)
        assert first == again
        assert first != prompt_boxes(item, protocol, 1)
        for before, after in zip(item.component_boxes, first, strict=True):
            moved = np.abs(np.subtract(before.xyxy, after.xyxy))
            assert moved.max() <= 10 * 256 / 512
            assert moved.max() > 0


def test_the_papers_protocol_pools_the_batch(prepared: Prepared) -> None:
    # Boxes grow by 3 px there: 46 x 26 and 106 x 26 around 800 px of blood each.
    dice, jaccard = score_as_paper(FillsTheBox(), native_slices(prepared))
    predicted = 46 * 26 + 106 * 26
    assert dice == pytest.approx(2 * 1600 / (predicted + 1600))
    assert jaccard == pytest.approx(1600 / predicted)


def test_scores_survive_their_file(prepared: Prepared, tmp_path: Path) -> None:
    rows = score(FillsTheBox(), native_slices(prepared), [PROTOCOLS["slice"]])
    write_rows(tmp_path / "scores.csv", rows)
    back = read_rows(tmp_path / "scores.csv", Score)
    assert [(row.patient, row.slice, row.reference_px) for row in back] == [
        (row.patient, row.slice, row.reference_px) for row in rows
    ]
    assert back[0].dice == pytest.approx(rows[0].dice, rel=1e-4)


def test_a_report_gives_every_figure_with_its_spread(prepared: Prepared, tmp_path: Path) -> None:
    rows = score(FillsTheBox(), native_slices(prepared, margin_px=0), [PROTOCOLS["slice"]])
    text = write_report(
        tmp_path, rows, {"all": {"dice": 0.5, "jaccard": 0.4}}, title="fills the box"
    )
    assert "2 slices of 2 patients" in text
    assert "optimistic" in text
    assert "| slice | 0.786 ± 0.303 |" in text
    assert "Dice 0.5000, Jaccard 0.4000" in text
    assert "0.786 ± 0.303" in compare([tmp_path / "summary.json"], "slice")


def test_the_command_scores_a_catalogue_model(prepared: Prepared, tmp_path: Path) -> None:
    arguments = [
        "evaluate",
        "--data",
        str(prepared.folder),
        "--model",
        "threshold",
        "--out",
        str(tmp_path),
    ]
    result = CliRunner().invoke(app, [*arguments, "--protocol", "slice", "--protocol", "component"])
    assert result.exit_code == 0, result.output
    content = json.loads((tmp_path / "summary.json").read_text())
    assert content["protocols"]["component"]["dice"]["mean"] > 0.95
    with (tmp_path / "scores.csv").open() as file:
        assert {row["protocol"] for row in csv.DictReader(file)} == {"slice", "component"}


def test_a_folds_validation_patients_are_scored_apart_from_its_test(
    prepared: Prepared, tmp_path: Path
) -> None:
    fold = tmp_path / "run" / "fold-0"
    (fold / "adapter").mkdir(parents=True)
    (fold / "curves.png").write_bytes(b"drawn")
    (fold / "split.json").write_text('{"train": [], "validation": ["one"], "test": ["two"]}')
    for part, patient in (("test", "two"), ("validation", "one")):
        found = list(parts(prepared, run=tmp_path / "run", part=part))  # type: ignore[arg-type]
        assert found == [("fold-0", str(fold / "adapter"), [patient])]


class Half(FillsTheBox):
    """Says that the left half of a box is blood."""

    def __init__(self, name: str = "half") -> None:
        self.name = self.title = name

    def find(self, inside_hu: npt.NDArray[np.number]) -> npt.NDArray[np.bool_]:
        mask = np.zeros(inside_hu.shape, bool)
        mask[:, : inside_hu.shape[1] // 2] = True
        return mask


Evaluate = Callable[..., list[Score]]


@pytest.fixture
def evaluated(prepared: Prepared, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Evaluate:
    """Evaluate one of two models into one folder, and say which slices were scored for it."""
    models = {"full": FillsTheBox(), "half": Half()}
    monkeypatch.setattr(runs, "load_predictor", models.__getitem__)
    plain = runs.score
    scored: list[str] = []

    def counted(predictor: Any, slices: Any, protocols: Any) -> list[Score]:
        rows = plain(predictor, slices, protocols)
        scored.extend(f"{predictor.name}: {row.patient} {row.protocol}" for row in rows)
        return rows

    monkeypatch.setattr(runs, "score", counted)

    def run(model: str, expected: int, names: Sequence[str] = ("slice",), **rest: Any) -> Any:
        scored.clear()
        protocols = [PROTOCOLS[name] for name in names]
        rows, pooled = evaluate_run(prepared, tmp_path, protocols, model=model, **rest)
        assert len(scored) == expected, scored
        return rows, pooled

    return run


def test_one_models_scores_are_not_handed_out_under_anothers_title(evaluated: Evaluate) -> None:
    full, as_paper = evaluated("full", 2)
    half, half_as_paper = evaluated("half", 2)
    assert as_paper != half_as_paper
    for one, two in zip(full, half, strict=True):
        assert two.predicted_px < 0.6 * one.predicted_px
    assert [row.dice for row in evaluated("half", 0)[0]] == pytest.approx(
        [row.dice for row in half], rel=1e-4
    )
    assert evaluated("half", 0)[1] == half_as_paper


def test_a_subset_is_not_handed_out_as_all(evaluated: Evaluate) -> None:
    one, pooled_one = evaluated("full", 1, patients=["one"])
    both, pooled_both = evaluated("full", 1)  # the other one alone is scored now
    assert {row.patient for row in one} == {"one"}
    assert {row.patient for row in both} == {"one", "two"}
    assert pooled_one != pooled_both
    again, _ = evaluated("full", 0, patients=["two"])
    assert {row.patient for row in again} == {"two"}


def test_scores_are_kept_by_protocol(evaluated: Evaluate) -> None:
    evaluated("full", 2)
    rows, _ = evaluated("full", 2, ["slice", "component"])
    assert len(rows) == 4
    assert len(evaluated("full", 0, ["component"])[0]) == 2


def test_scores_of_another_program_or_of_before_keys_are_made_anew(
    evaluated: Evaluate, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    evaluated("full", 2)
    monkeypatch.setattr(identity, "code_sha256", lambda: "another")
    evaluated("full", 2)
    rows = read_rows(tmp_path / "scores-all.csv", Score)
    write_rows(tmp_path / "scores-all.csv", [replace(row, key="") for row in rows])
    evaluated("full", 2)
