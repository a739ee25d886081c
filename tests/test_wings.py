"""The wings of the house import one way, without circles."""

from __future__ import annotations

from pathlib import Path

from tests.import_graph import ROOT, circles, import_graph

#: From the lowest up; each imports only what stands before it.
WINGS = ("scan", "marks", "methods", "measures", "files", "archive", "cohort", "cli", "page")
#: Below all wings: they import nothing of the package but each other.
GROUND = ("", "arrays", "commit", "errors", "file_lock", "json_fields", "replace_file", "sample")

LONGEST = 500


def wing_of(module: str) -> str:
    return [*module.split("."), ""][1]


def test_every_wing_imports_only_those_before_it() -> None:
    order = dict.fromkeys(GROUND, 0) | {name: n for n, name in enumerate(WINGS, 1)}
    wrong = [
        f"{name} imports {other}"
        for name, others in import_graph("ichseg").items()
        if name not in ("ichseg", "ichseg.__main__")
        for other in sorted(others)
        if order[wing_of(other)] > order[wing_of(name)]
    ]
    assert not wrong, "\n".join(wrong)


def test_no_modules_import_each_other_in_a_circle() -> None:
    graph = import_graph("ichseg")
    # The package's own names are fetched when they are first used: who asks for its notice imports no wing.
    del graph["ichseg"]
    assert circles(graph) == []


def code_files() -> list[Path]:
    folders = ("ichseg", "train", "tools", "benchmarks")
    python = [path for folder in folders for path in (ROOT / folder).rglob("*.py")]
    return sorted([*python, *(ROOT / "ichseg").rglob("*.js"), ROOT / "app.py"])


def test_no_file_is_longer_than_a_person_reads_at_a_time() -> None:
    for path in code_files():
        lines = path.read_text(encoding="utf-8").splitlines()
        reason = any("lines because" in line for line in lines[:10])
        assert len(lines) <= LONGEST or reason, (
            f"{path.relative_to(ROOT)} has {len(lines)} lines; say why in the first, or split it"
        )


def test_tests_mirror_the_wings() -> None:
    folders = {path.name for path in (ROOT / "tests").iterdir() if path.is_dir()}
    assert set(WINGS) - {"cohort"} <= folders
    assert folders <= {*WINGS, "data", "e2e", "train", "tools", "benchmarks", "__pycache__"}
