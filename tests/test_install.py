"""The package as people install it: a wheel in a new environment, away from the checkout and without Gradio."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
import sysconfig
import tarfile
import tomllib
import venv
import zipfile
from pathlib import Path

import nibabel
import numpy as np
import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from setuptools.errors import SetupError
from test_architecture import REQUIREMENTS, imports, requirement_lines, sources, within

import ichseg
from ichseg import commit
from tools import build_wheel

ROOT = Path(__file__).resolve().parent.parent
BOX = ("--slice", "13", "--box", "285,174,349,291")
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
#: What the core must run without: {library: the extra that brings it, the sources that import it}.
EXTRAS = {
    "gradio": ("page", "ichseg/page/"),
    "ray": ("ray", "ichseg/cohort/"),
    "pandas": ("dataframe", "ichseg/cohort/"),
}

#: Makes a library as good as absent in an environment that reuses another's packages.
WITHOUT = """
import sys
class Absent:
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] in {absent}:
            raise ModuleNotFoundError(f"No module named {{name!r}}", name=name)
sys.meta_path.insert(0, Absent())
"""


def needed(extra: str = "") -> dict[str, Requirement]:
    """The core's requirements in the metadata, or an extra's, by name."""
    lines = PROJECT["optional-dependencies"][extra] if extra else PROJECT["dependencies"]
    return {canonicalize_name(one.name): one for one in map(Requirement, lines)}


def test_every_range_holds_what_is_pinned_and_ends_before_the_next_major_version() -> None:
    pins = {
        canonicalize_name(one.name): next(iter(one.specifier)).version
        for name in REQUIREMENTS
        for one in map(Requirement, requirement_lines(name))
    }
    for extra in ("", *PROJECT["optional-dependencies"]):
        for name, one in needed(extra).items():
            major = int(pins[name].split(".")[0])
            assert pins[name] in one.specifier, one
            assert f"{major + 1}.0" not in one.specifier, one
    page = {
        canonicalize_name(Requirement(line).name) for line in requirement_lines("requirements.txt")
    }
    assert page <= {name for extra in ("", "page", "train", "dataframe") for name in needed(extra)}


@pytest.mark.skipif(shutil.which("make") is None, reason="make is not here")
def test_what_python_has_compiled_is_kept_whatever_the_environment_says() -> None:
    """What make installs is not compiled: without this each process would compile it anew."""
    told = "told:\n\t@echo $${PYTHONDONTWRITEBYTECODE-kept}\n"
    run = subprocess.run(
        ["make", "-s", "-f", "Makefile", "-f", "-", "told"],
        cwd=ROOT, input=told, capture_output=True, text=True, check=True,
        env=os.environ | {"PYTHONDONTWRITEBYTECODE": "1"},
    )  # fmt: skip
    assert run.stdout == "kept\n"


@pytest.mark.parametrize("library", EXTRAS)
def test_what_an_extra_brings_is_no_part_of_the_core(library: str) -> None:
    extra, place = EXTRAS[library]
    assert library in needed(extra) and library not in needed()
    users = [
        name
        for name in sources("ichseg")
        if any(within(module, library) for module in imports(name))
    ]
    assert users and all(name.startswith(place) for name in users)


def test_the_version_is_the_newest_of_the_changelog() -> None:
    assert PROJECT["dynamic"] == ["version"]
    text = (ROOT / "CHANGELOG.md").read_text(encoding="utf-8")
    dated = re.findall(r"^## \[([\d.]+)\] - \d{4}-\d\d-\d\d$", text, flags=re.MULTILINE)
    assert dated[0] == ichseg.__version__
    assert text.index("## [Unreleased]") < text.index(f"## [{dated[0]}]")


def git(folder: Path, *arguments: str) -> str:
    who = ("-c", "user.name=n", "-c", "user.email=e@example.org")
    run = subprocess.run(
        ["git", *who, *arguments], cwd=folder, capture_output=True, text=True, check=True
    )
    return run.stdout.strip()


def test_a_checkout_says_its_commit_and_whether_files_differ_from_it(tmp_path: Path) -> None:
    assert commit.of_checkout(tmp_path) == ""
    (tmp_path / "pyproject.toml").write_text("")
    git(tmp_path, "init", "-q")
    git(tmp_path, "add", ".")
    git(tmp_path, "commit", "-q", "-m", "first")
    at = git(tmp_path, "rev-parse", "HEAD")[:12]
    assert commit.of_checkout(tmp_path) == at
    (tmp_path / "pyproject.toml").write_text("[project]")
    assert commit.of_checkout(tmp_path) == f"{at}-dirty"
    # A package below another project's checkout is not of its commit.
    (tmp_path / "inside").mkdir()
    assert commit.of_checkout(tmp_path / "inside") == ""


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Built from a source archive, and that from a copy of the project's files: nothing is left in the checkout."""
    if not (ROOT / ".git").exists():
        pytest.skip("needs a git clone, to know which files are the project's")
    copy, built = tmp_path_factory.mktemp("copy"), tmp_path_factory.mktemp("wheel")
    listed = ("ls-files", "-z", "--cached", "--others", "--exclude-standard")
    for name in git(ROOT, *listed).split("\0"):
        if name.startswith(("ichseg/", "tools/", "weights/")) or "/" not in name:
            if not (ROOT / name).is_file():
                continue
            (copy / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(ROOT / name, copy / name)
    setup = (sys.executable, "-c", "from setuptools import setup; setup()", "--quiet")
    subprocess.run([*setup, "sdist", "--formats=tar", "--dist-dir", built], cwd=copy, check=True)
    (archive,) = built.glob("*.tar")
    with tarfile.open(archive) as source:
        source.extractall(built, filter="data")
    pip = (sys.executable, "-m", "pip", "--disable-pip-version-check", "wheel", "--quiet")
    offline = ("--no-deps", "--no-index", "--no-build-isolation")
    tree = built / archive.name.removesuffix(".tar")
    subprocess.run([*pip, *offline, "--wheel-dir", built, tree], check=True)
    (found,) = built.glob("*.whl")
    return found


@pytest.mark.slow
def test_the_wheel_holds_the_package_with_its_files_and_the_methods_weights(wheel: Path) -> None:
    with zipfile.ZipFile(wheel) as archive:
        names = set(archive.namelist())
        (metadata,) = (name for name in names if name.endswith(".dist-info/METADATA"))
        described = archive.read(metadata).decode()
    assert f"Version: {ichseg.__version__}" in described
    package = {name for name in git(ROOT, "ls-files", "-z", "ichseg").split("\0") if name}
    assert {name for name in package if (ROOT / name).is_file()} <= names
    weights = {name for name in names if name.startswith("ichseg/weights/")}
    manifest = json.loads((ROOT / "weights/manifest.json").read_text(encoding="utf-8"))
    shipped = {
        f"ichseg/weights/{file['path']}"
        for name, entry in manifest.items()
        for file in entry["files"]
        if not name.startswith("folds/")
    }
    assert shipped <= weights and not [name for name in weights if "/folds/" in name]
    others = names - package - weights
    assert {name.split("/")[0].removesuffix(".dist-info") for name in others} <= {
        f"ichseg-{ichseg.__version__}"
    }


def test_a_tree_without_weights_is_not_packed(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(build_wheel, "ROOT", tmp_path)
    with pytest.raises(SetupError, match=r"weights/manifest\.json is not in this tree; build from"):
        build_wheel.weight_files()
    listed = {"some": {"files": [{"path": "some/model.safetensors"}]}}
    (tmp_path / "weights").mkdir()
    (tmp_path / "weights/manifest.json").write_text(json.dumps(listed))
    with pytest.raises(SetupError, match=r"weights/some/model\.safetensors is not in this tree"):
        build_wheel.weight_files()


@pytest.fixture(scope="module")
def installed(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The scripts of a new environment with the wheel, whose other packages are this one's, without the extras'."""
    folder = tmp_path_factory.mktemp("environment")
    venv.create(folder, with_pip=False)
    scripts = folder / ("Scripts" if os.name == "nt" else "bin")
    python = next(scripts.glob("python*"))
    asked = [python, "-c", "import sysconfig; print(sysconfig.get_path('purelib'))"]
    packages = Path(
        subprocess.run(asked, capture_output=True, text=True, check=True).stdout.strip()
    )
    (packages / "others.pth").write_text(sysconfig.get_path("purelib"), encoding="utf-8")
    (packages / "sitecustomize.py").write_text(WITHOUT.format(absent=set(EXTRAS)), encoding="utf-8")
    pip = (sys.executable, "-m", "pip", "--disable-pip-version-check", "--python", python)
    install = ("install", "--quiet", "--no-deps", "--no-index", "--no-compile", wheel)
    subprocess.run([*pip, *install], check=True)
    return scripts


def elsewhere() -> dict[str, str]:
    """This environment's variables without what would lead back to the checkout."""
    back = ("PYTHONPATH", "ICHSEG_WEIGHTS", "VIRTUAL_ENV")
    return {name: value for name, value in os.environ.items() if name not in back}


@pytest.mark.slow
def test_the_installed_command_gives_the_checkouts_mask_without_gradio(
    installed: Path, tmp_path: Path
) -> None:
    sample = tmp_path / "head.nii.gz"
    shutil.copyfile(ROOT / "ichseg/sample/head_ct.nii.gz", sample)
    (script,) = installed.glob("ichseg*")
    asked = ("segment", sample, *BOX, "--json", "--out")
    masks, records = [], []
    for name, command, folder in (
        ("wheel", [script], tmp_path),
        ("checkout", [sys.executable, "-m", "ichseg"], ROOT),
    ):
        out = tmp_path / f"{name}.nii.gz"
        run = subprocess.run(
            [*command, *asked, out], cwd=folder, env=elsewhere(), capture_output=True, text=True
        )
        assert run.returncode == 0, run.stderr
        masks.append(np.asanyarray(nibabel.load(out).dataobj))
        records.append(json.loads(run.stdout))
    assert masks[0].any() and (masks[0] == masks[1]).all()
    assert records[0]["model"] == records[1]["model"] == "litemedsam-rslora"
    assert records[0]["identity"] == records[1]["identity"]


@pytest.mark.slow
def test_the_installed_library_is_not_the_checkouts_and_needs_no_gradio(
    installed: Path, tmp_path: Path
) -> None:
    code = (
        "import importlib.util as u, ichseg, ichseg.methods.weights as w\n"
        "print(ichseg.__file__, w.WEIGHTS_DIR, u.find_spec('train'), sep='\\n')\n"
        "import gradio"
    )
    run = subprocess.run(
        [next(installed.glob("python*")), "-c", code],
        cwd=tmp_path,
        env=elsewhere(),
        capture_output=True,
        text=True,
    )
    where, weights, train = run.stdout.splitlines()
    environment = str(installed.parent)
    assert where.startswith(environment) and weights.startswith(environment)
    assert train == "None"
    assert "No module named 'gradio'" in run.stderr
