"""The cross-validation document: its numbers are those of the scores, its curves those of the folds."""

from __future__ import annotations

from pathlib import Path

import pytest
from PIL import Image

from ichseg.errors import InputError
from train.scores.evaluate import Score
from train.write.cross_validation import WORST, write_cross_validation
from train.write.evaluation import write_report


def row(
    patient: str, k: int, dice: float, types: str = "edh", protocol: str = "component"
) -> Score:
    return Score(patient, patient, k, types, protocol, dice, dice / 2, 0.1, dice, 90, 100, 1, 0.5)


@pytest.fixture
def scored(tmp_path: Path) -> list[Path]:
    """Two methods on two patients: 0.4, 0.6 and 0.8 by the second."""
    folders = []
    for name, lift in (("plain", 0.0), ("tuned", 0.2)):
        rows = [row("a", 0, 0.2 + lift), row("a", 1, 0.4 + lift), row("b", 3, 0.6 + lift, "iph")]
        write_report(tmp_path / name, rows, {"all": {"dice": 0.5, "jaccard": 0.25}}, title=name)
        folders.append(tmp_path / name)
    return folders


def test_the_tables_hold_the_means_by_method_type_and_patient(
    tmp_path: Path, scored: list[Path]
) -> None:
    text = write_cross_validation(tmp_path / "docs" / "cv", scored, [])
    assert text == (tmp_path / "docs" / "cv.md").read_text()
    assert "3 slices of 2 patients" in text
    assert "| tuned | 0.600 ± " in text  # (0.4 + 0.6 + 0.8) / 3
    assert "| tuned | 0.5000 | 0.2500 |" in text
    assert "| edh | 2 | 1 | 0.300 ± " in text
    assert "| a | 2 | 0.300 | 0.500 |" in text
    assert "| b | 1 | 0.600 | 0.800 |" in text


def test_the_worst_slices_come_first_and_are_so_many(tmp_path: Path) -> None:
    rows = [row("a", k, 0.9 - 0.01 * k) for k in range(WORST + 5)]
    write_report(tmp_path / "m", rows, None, title="m")
    text = write_cross_validation(tmp_path / "cv", [tmp_path / "m"], [])
    listed = [line for line in text.splitlines() if line.startswith("| a | ") and "edh" in line]
    assert [int(line.split("|")[2]) for line in listed] == [WORST + 4 - i for i in range(WORST)]


def test_the_curves_of_every_fold_are_drawn(tmp_path: Path, scored: list[Path]) -> None:
    for fold in range(2):
        folder = tmp_path / "run" / f"fold-{fold}"
        folder.mkdir(parents=True)
        (folder / "epochs.csv").write_text(
            "epoch,train_loss,validation_loss,validation_dice\n1,0.3,0.01,0.7\n2,0.2,0.01,0.8\n"
        )
    text = write_cross_validation(tmp_path / "cv", scored, [tmp_path / "run"])
    assert "(cv-curves.png)" in text
    with Image.open(tmp_path / "cv-curves.png") as picture:
        assert min(picture.size) > 300


def test_a_folder_without_scores_is_refused_by_name(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="'nothing' has no summary"):
        write_cross_validation(tmp_path / "cv", [tmp_path / "nothing"], [])
