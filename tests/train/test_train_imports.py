"""Imports inside train go one way, and no file of it is too long to read."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.import_graph import circles, import_graph, upward

#: From the lowest up; what stands in one line imports nothing beside it.
LAYERS = (
    ("train", "train.data"),
    ("train.scores",),
    ("train.write",),
    ("train.recipes", "train.loss"),
    ("train.loop", "train.forest"),
    ("train.adapter", "train.baselines"),
    ("train.proposals", "train.sweep", "train.soften", "train.export", "train.base_weights"),
    ("train.options",),
    ("train.proposals_cli",),
    ("train.__main__",),
)


def test_imports_go_one_way() -> None:
    graph = import_graph("train")
    assert len(graph) > 30
    assert circles(graph) == []
    assert upward(graph, LAYERS) == []


@pytest.mark.parametrize("folder", ["train", "tests/train"])
def test_no_file_is_longer_than_500_lines(root: Path, folder: str) -> None:
    counted = {
        path.name: len(path.read_text().splitlines()) for path in (root / folder).rglob("*.py")
    }
    assert {name: lines for name, lines in counted.items() if lines > 500} == {}
