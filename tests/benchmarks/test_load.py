"""People at once: the scans they open, what is made of answers, and one person in truth."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from benchmarks import load
from ichseg.scan.read import read_volume


def test_each_person_has_a_scan_of_their_own(tmp_path: Path) -> None:
    one, two = (
        read_volume(load.make_scan(tmp_path / f"{number}.nii", number)) for number in (1, 2)
    )
    assert one.sha256 != two.sha256
    assert one.shape_zyx == (load.SLICES, *two.shape_zyx[1:])
    assert (one.hu_zyx != two.hu_zyx).sum() == 1


def test_the_hash_and_the_reply_are_found_where_they_stand() -> None:
    assert load.hash_of({"scan": {"shape": [1], "sha256": "ab"}}) == "ab"
    reply = {"done": 3}
    output: dict[str, Any] = {"data": [{"props": {"reply": reply}}]}
    assert load.Person.reply_in(output) == reply
    with pytest.raises(RuntimeError, match="no answer"):
        load.Person.reply_in({"error": "x"})


@pytest.mark.slow  # a server and two days of a person's: some 12 s
def test_one_person_beside_a_hostile_client_waits_and_fails_in_nothing() -> None:
    text = load.measure([1], "tests/e2e/light_app.py")
    rows = dict(
        line.strip("| ").split(" | ") for line in text.splitlines() if line.startswith("| ")
    )
    assert "The server ended with status 0." in text
    assert rows["failures, wrong answers, crossed scans"] == "0"
    assert rows["people's files left on the server"] == "0"
    hostile = next(cell for name, cell in rows.items() if name.startswith("hostile"))
    assert hostile.endswith("; 0")
    assert "box on an embedded slice" in rows
