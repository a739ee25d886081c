"""The README says what is there: its tree, its links, its commands and its example."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest


@pytest.fixture(scope="module")
def readme(root: Path) -> str:
    return (root / "README.md").read_text(encoding="utf-8")


def blocks(text: str, language: str = "") -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```$", text, re.M | re.S)


def test_the_file_tree_names_only_what_exists(root: Path, readme: str) -> None:
    tree = next(block for block in blocks(readme) if block.startswith("app.py"))
    folder = Path()
    for line in tree.splitlines():
        indent, name = re.match(r"( *)(\S+)", line).groups()  # type: ignore[union-attr]
        if not indent:
            folder = Path(name) if name.endswith("/") else Path()
        assert (root / (folder / name if indent else name)).exists(), line


def test_every_module_of_the_library_is_in_the_tree(root: Path, readme: str) -> None:
    internal = {"__init__.py", "errors.py"}
    rooms = {path.name for path in (root / "ichseg").glob("*.py")} - internal
    assert not {name for name in rooms if f"  {name} " not in readme}


def test_links_within_the_repository_resolve(root: Path, readme: str) -> None:
    links = re.findall(r"\]\((?!https?:)([^)#]+)\)", readme)
    assert "docs/screenshot.png" in links
    assert not [link for link in links if not (root / link).exists()]


def test_the_make_targets_it_names_exist(root: Path, readme: str) -> None:
    targets = set(re.findall(r"^(\w+):", (root / "Makefile").read_text(), re.M))
    assert set(re.findall(r"\bmake (\w+)", "\n".join(blocks(readme)))) <= targets


def test_the_options_it_names_exist(root: Path, readme: str) -> None:
    """Asked of the command line itself: each command's help names every option shown with it."""
    shown: dict[str, set[str]] = {}
    for command, rest in re.findall(r"python -m ichseg (\w+)(.*)", readme):
        shown.setdefault(command, {"--json"}).update(re.findall(r"--[a-z-]+", rest))
    assert set(shown) == {"info", "segment", "compare", "measure", "benchmark"}
    for command, options in shown.items():
        run = subprocess.run(
            [sys.executable, "-m", "ichseg", command, "--help"],
            cwd=root, capture_output=True, text=True, check=True,
            env={"PATH": "/usr/bin:/bin", "COLUMNS": "200", "NO_COLOR": "1", "TERM": "dumb"},
        )  # fmt: skip
        assert not {option for option in options if option not in run.stdout}, command


def test_the_python_example_runs(
    readme: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    nibabel = pytest.importorskip("nibabel")
    from ichseg.sample import sample_paths

    monkeypatch.chdir(tmp_path)
    scan = nibabel.load(sample_paths()[0])
    nibabel.save(scan, "head_ct.nii.gz")
    code, _ = blocks(readme, "python")
    exec(compile(code, "README.md", "exec"), {})
    assert re.fullmatch(r"[\d.e-]+ mL\n", capsys.readouterr().out)
    saved = nibabel.load("mask.nii.gz")
    assert saved.shape == scan.shape
    np.testing.assert_array_equal(saved.affine, scan.affine)


def test_the_example_of_the_axes_runs_and_prints_what_the_readme_says(
    readme: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    nibabel = pytest.importorskip("nibabel")
    from ichseg.sample import sample_paths

    monkeypatch.chdir(tmp_path)
    nibabel.save(nibabel.load(sample_paths()[0]), "head_ct.nii.gz")
    _, code = blocks(readme, "python")
    exec(compile(code, "README.md", "exec"), {})
    printed = capsys.readouterr().out.strip()
    assert f"prints `{printed}`" in readme
    # By the rule that stands beside it, for a file of 512 x 512 in RAS: i and j from 170 to 239, 210 to 329.
    assert printed == f"--slice 12 --box {511 - 239},{511 - 329},{512 - 170},{512 - 210}"


def test_the_first_screen_says_how_far_a_volume_is_off(readme: str) -> None:
    """The figure is the one that the page, the report and the growth print: it comes from the training record."""
    from ichseg.methods.catalogue import default_model, model_error

    own = model_error(default_model())
    assert own is not None
    first_screen = " ".join(readme.split("```")[0].split())
    assert own.figure in first_screen
