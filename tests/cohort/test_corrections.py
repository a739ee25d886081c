"""Which record of a person's takes a scan's place."""

from __future__ import annotations

import json
import os
from pathlib import Path

from ichseg.cohort.corrections import CORRECTED_NAME, corrected_record
from ichseg.replace_file import PART


def test_the_newest_record_of_the_scan_counts_and_not_what_a_killed_writer_left(
    tmp_path: Path,
) -> None:
    folder = tmp_path / CORRECTED_NAME
    assert corrected_record(tmp_path, lambda: "mine") is None
    folder.mkdir()
    names = ("old.json", "new.json", "other.json", f"{PART}7-abcd.json")
    for seconds, name in enumerate(names):
        whose = "other" if name == "other.json" else "mine"
        (folder / name).write_text(json.dumps({"scan": {"sha256": whose}}))
        os.utime(folder / name, (seconds, seconds))
    assert corrected_record(tmp_path, lambda: "mine") == folder / "new.json"
