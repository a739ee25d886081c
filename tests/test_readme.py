"""The README says what is there: its tree, its links, its commands and its example."""

from __future__ import annotations

import ast
import json
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from typer.testing import CliRunner

from ichseg.cli.main import app

PAGES = (
    "README.md",
    *(
        f"docs/{name}.md"
        for name in (
            "command-line",
            "library",
            "api",
            "training",
            "deployment",
            "how-it-works",
            "limits",
            "architecture",
        )
    ),
)


@pytest.fixture(scope="module")
def readme(root: Path) -> str:
    return (root / "README.md").read_text(encoding="utf-8")


@pytest.fixture(scope="module")
def library(root: Path) -> str:
    return (root / "docs" / "library.md").read_text(encoding="utf-8")


def blocks(text: str, language: str = "") -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```$", text, re.M | re.S)


def test_the_table_of_wings_is_what_is_there(root: Path) -> None:
    page = (root / "docs" / "architecture.md").read_text(encoding="utf-8")
    page = page.split("Data flows one way")[0]  # below are tables of a wing's own modules
    named = set(re.findall(r"^\| `(\w+)/` \|", page, re.M))
    wings = {path.parent.name for path in (root / "ichseg").glob("*/__init__.py")}
    folders = {"ichseg", "weights", "train", "tools", "benchmarks", "tests", "docs"}
    assert named == wings | folders


@pytest.mark.parametrize("name", PAGES)
def test_links_within_the_repository_resolve(root: Path, name: str) -> None:
    page = root / name
    links = re.findall(r"\]\((?!https?:)([^)#]+)\)", page.read_text(encoding="utf-8"))
    assert name != "README.md" or "docs/screenshot.png" in links
    assert not [link for link in links if not (page.parent / link).exists()]


def test_the_make_targets_it_names_exist(root: Path, readme: str) -> None:
    targets = set(re.findall(r"^(\w+):", (root / "Makefile").read_text(), re.M))
    assert set(re.findall(r"\bmake (\w+)", "\n".join(blocks(readme)))) <= targets


def test_the_options_it_names_exist(root: Path) -> None:
    """Asked of the command line itself: each command's help names every option shown with it."""
    page = (root / "docs" / "command-line.md").read_text(encoding="utf-8")
    shown: dict[str, set[str]] = {}
    for command, rest in re.findall(r"python -m ichseg (\w+)(.*)", page):
        shown.setdefault(command, {"--json"}).update(re.findall(r"--[a-z-]+", rest))
    many = {"benchmark", "report", "agree"}
    assert set(shown) == {"info", "segment", "compare", "measure", "follow", *many}
    plain = {"COLUMNS": "200", "NO_COLOR": "1", "TERM": "dumb"}
    for command, options in shown.items():
        said = CliRunner().invoke(app, [command, "--help"], env=plain).output
        assert not {option for option in options if option not in said}, command


@pytest.fixture
def quick_default(monkeypatch: pytest.MonkeyPatch) -> None:
    """A default method that answers at once."""
    monkeypatch.setattr("ichseg.methods.catalogue.default_model", lambda: "threshold")


def test_the_python_examples_run(
    quick_default: None,
    library: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    nibabel = pytest.importorskip("nibabel")
    from ichseg.sample import sample_paths

    monkeypatch.chdir(tmp_path)
    scan = nibabel.load(sample_paths()[0])
    nibabel.save(scan, "head_ct.nii.gz")
    for code in blocks(library, "python")[:2]:
        exec(compile(code, "library.md", "exec"), {})
        assert re.fullmatch(r"[\d.e-]+ mL\n", capsys.readouterr().out)
    saved = nibabel.load("mask.nii.gz")
    assert saved.shape == scan.shape
    np.testing.assert_array_equal(saved.affine, scan.affine)


def test_the_example_of_the_axes_runs_and_prints_what_the_page_says(
    library: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    nibabel = pytest.importorskip("nibabel")
    from ichseg.sample import sample_paths

    monkeypatch.chdir(tmp_path)
    nibabel.save(nibabel.load(sample_paths()[0]), "head_ct.nii.gz")
    (code,) = (one for one in blocks(library, "python") if "to_display" in one)
    exec(compile(code, "library.md", "exec"), {})
    printed = capsys.readouterr().out.strip()
    assert f"prints `{printed}`" in library
    # By the rule that stands beside it, for a file of 512 x 512 in RAS: i and j from 170 to 239, 210 to 329.
    assert printed == f"--slice 12 --box {511 - 239},{511 - 329},{512 - 170},{512 - 210}"


def test_the_table_says_how_far_a_volume_is_off(readme: str) -> None:
    """The figure is the one that the page, the report and the growth print: it comes from the training record."""
    from ichseg.methods.catalogue import default_model
    from ichseg.methods.model_error import model_error

    own = model_error(default_model())
    assert own is not None
    (row,) = re.findall(r"^\| Volume: (.*)$", readme, re.M)
    assert f"{own.mean_percent:.0f} % ± {own.sd_percent:.0f} %" in row
    assert f"{own.patients} patients" in readme
    assert own.on_phantoms and own.on_phantoms in " ".join(readme.split())


def test_the_notebook_runs_on_the_sample_from_its_first_cell_to_its_last(
    quick_default: None,
    root: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    notebook = json.loads((root / "docs" / "library.ipynb").read_text(encoding="utf-8"))
    assert notebook["nbformat"] == 4
    monkeypatch.chdir(tmp_path)
    there: dict[str, Any] = {}
    for cell in notebook["cells"]:
        if cell["cell_type"] == "code":
            assert cell["outputs"] == [] and cell["execution_count"] is None
            *lines, last = ast.parse("".join(cell["source"])).body
            exec(compile(ast.Module(lines, []), cell["id"], "exec"), there)
            if isinstance(last, ast.Expr):  # what a notebook shows
                there["shown"] = eval(
                    compile(ast.Expression(last.value), cell["id"], "eval"), there
                )
            else:
                exec(compile(ast.Module([last], []), cell["id"], "exec"), there)
    assert there["found"]._repr_png_().startswith(b"\x89PNG")
    assert 0.8 < there["shown"] <= 1  # the last cell's Dice
    assert " mL on " in capsys.readouterr().out
    assert (tmp_path / "mask.nii.gz").is_file() and (tmp_path / "record.json").is_file()
