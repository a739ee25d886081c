"""One table of HU limits: no other module has one of its own for bone."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from ichseg.marks.edge import Edge
from ichseg.methods.follow_rule import Rule
from ichseg.scan import limits

_OWN = re.compile(r"(?im)^\s*\w*bone\w*_hu\s*(:[^=]*)?=\s*-?[0-9]|hu\w*\s*>=?\s*(95|120|150|300)\b")


@pytest.mark.parametrize("folder", ["ichseg", "train", "benchmarks"])
def test_no_limit_of_bone_stands_elsewhere(root: Path, folder: str) -> None:
    found = {
        path.relative_to(root).as_posix()
        for path in (root / folder).rglob("*.py")
        if _OWN.search(path.read_text(encoding="utf-8"))
    }
    assert found <= {"ichseg/scan/limits.py"}


def test_the_rules_go_by_the_table() -> None:
    assert (Edge().bone_hu, Edge().air_hu) == (120.0, -150.0)
    assert Rule().bone_hu == limits.BONE_IN_MASK_HU == 150.0
    assert limits.HIGHEST_BLOOD_HU == 95.0 and limits.SOLID_BONE_HU == 300.0
    assert limits.bone_above(120.0, 100.0) == 95.0
