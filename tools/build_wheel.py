"""What a wheel and a source archive hold beside the package's sources: the methods' weights, and the commit.

setuptools calls it (pyproject.toml, ``tool.setuptools.cmdclass``): ``pip install .``, ``python -m build``.
"""

from __future__ import annotations

import json
import shutil
import sys
from pathlib import Path

from setuptools.command.build_py import build_py
from setuptools.command.sdist import sdist
from setuptools.errors import SetupError

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))  # the build runs elsewhere

from ichseg.commit import commit  # noqa: E402

#: Entries of the manifest that reproduce the cross-validation and that no method of the package needs.
NOT_SHIPPED = "folds/"


class BuildPy(build_py):  # type: ignore[misc]  # setuptools has no types
    """As setuptools' own, and then the weights and the commit into the package's folder."""

    def run(self) -> None:
        super().run()
        if self.editable_mode:  # there the checkout itself has both
            return
        package = Path(self.build_lib) / "ichseg"
        copy_weights(package / "weights")
        write_commit(package)


class Sdist(sdist):  # type: ignore[misc]
    """As setuptools' own, and then the weights and the commit, so that a wheel can be built from it."""

    def make_release_tree(self, base_dir: str, files: list[str]) -> None:
        super().make_release_tree(base_dir, files)
        copy_weights(Path(base_dir) / "weights")
        write_commit(Path(base_dir) / "ichseg")


def copy_weights(folder: Path) -> None:
    """Copy the weights of the shipped methods. Raises SetupError where one of them is not here."""
    for name in weight_files():
        target = folder / name
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(ROOT / "weights" / name, target)


def write_commit(folder: Path) -> None:
    """Say in a package's folder which commit it is, where that is known."""
    if commit():
        (folder / "COMMIT").write_text(f"{commit()}\n", encoding="utf-8")


def weight_files() -> list[str]:
    """Names below weights/: README and manifest, and the folders of what the manifest lists of the shipped methods.

    Raises SetupError where one of them is not here.
    """
    weights = ROOT / "weights"
    if not (weights / "manifest.json").is_file():
        raise _lacks("manifest.json")
    manifest = json.loads((weights / "manifest.json").read_text(encoding="utf-8"))
    listed = [
        Path(file["path"])
        for name, entry in manifest.items()
        if not name.startswith(NOT_SHIPPED)
        for file in entry["files"]
    ]
    if lacking := [path for path in listed if not (weights / path).is_file()]:
        raise _lacks(lacking[0].as_posix())
    folders = sorted({path.parent for path in listed})
    found = [path for folder in folders for path in sorted((weights / folder).iterdir())]
    return [
        *("README.md", "manifest.json"),
        *(path.relative_to(weights).as_posix() for path in found if path.is_file()),
    ]


def _lacks(name: str) -> SetupError:
    return SetupError(
        f"A package of ichseg has its methods' weights inside; weights/{name} is not in this tree; "
        "build from a whole clone or from the source archive."
    )
