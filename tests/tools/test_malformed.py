"""Damaged scans of every format open or get one sentence: some hundred of the cases of tools/malformed.py."""

from __future__ import annotations

from pathlib import Path

import pytest

from tools import malformed

SEED, EACH = 20, 22
"""The command runs thousands: ``python -m tools.malformed --count 10000``."""


@pytest.mark.parametrize("kind", malformed.MAKERS)
def test_a_sound_scan_of_each_kind_opens_but_for_the_single_slice(
    kind: str, tmp_path: Path
) -> None:
    """The generator begins from scans that are right, else it would find nothing."""
    given = malformed.write(malformed.MAKERS[kind](), tmp_path)
    if kind == "dicom file":
        with pytest.raises(malformed.InputError, match="single slice"):
            malformed.read_volume(given)
    else:
        volume = malformed.read_volume(given)
        assert volume.shape_zyx == (6, 64, 64)
        assert volume.warnings == ()


@pytest.mark.parametrize("number", range(len(malformed.MAKERS)), ids=list(malformed.MAKERS))
def test_damaged_scans_open_or_get_a_sentence(number: int, tmp_path: Path) -> None:
    step = len(malformed.MAKERS)
    outcomes = [malformed.check(number + step * each, SEED, tmp_path) for each in range(EACH)]
    assert not [one for one in outcomes if not one.is_good]


def test_a_uid_that_damage_made_into_two_values(tmp_path: Path) -> None:
    """Case 5989 of seed 0: a list where the study's UID is a text."""
    outcome = malformed.check(5989, 0, tmp_path)
    assert outcome.is_good, outcome


def test_a_case_is_the_same_each_time() -> None:
    assert malformed.make(7, SEED) == malformed.make(7, SEED)
    assert malformed.make(7, SEED) != malformed.make(7, SEED + 1)


def test_what_ends_otherwise_is_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def fail(path: Path) -> None:
        raise ZeroDivisionError(f"at {path.name}")

    monkeypatch.setattr(malformed, "read_volume", fail)
    outcome = malformed.check(0, SEED, tmp_path)
    assert (outcome.result, outcome.text) == ("ZeroDivisionError", "at scan.nii")
    assert malformed.report([outcome]) == 1
    assert "case 0, nii: ZeroDivisionError: at scan.nii" in capsys.readouterr().out
