"""What a wheel holds beside the package's sources: the weights of its methods, and the commit it was built from.

setuptools calls it (pyproject.toml, ``tool.setuptools.cmdclass``): ``pip install .``, ``pip wheel .``.
"""

from __future__ import annotations

import json
import shutil
import sys
from pathlib import Path

from setuptools.command.build_py import build_py

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))  # the build runs elsewhere

from ichseg.commit import of_checkout  # noqa: E402

#: Entries of the manifest that reproduce the cross-validation and that no method of the package needs.
NOT_SHIPPED = "folds/"


class BuildPy(build_py):  # type: ignore[misc]  # setuptools has no types
    """As setuptools' own, and then the weights and the commit into the package's folder."""

    def run(self) -> None:
        super().run()
        if self.editable_mode:  # there the checkout itself has both
            return
        package = Path(self.build_lib) / "ichseg"
        for name in weight_files():
            target = package / "weights" / name
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(ROOT / "weights" / name, target)
        if commit := of_checkout(ROOT):
            (package / "COMMIT").write_text(f"{commit}\n", encoding="utf-8")


def weight_files() -> list[str]:
    """Names below weights/: README and manifest, and the folders of what the manifest lists of the shipped methods."""
    weights = ROOT / "weights"
    manifest = json.loads((weights / "manifest.json").read_text(encoding="utf-8"))
    listed = {
        Path(file["path"]).parent
        for name, entry in manifest.items()
        if not name.startswith(NOT_SHIPPED)
        for file in entry["files"]
    }
    found = [path for folder in sorted(listed) for path in sorted((weights / folder).iterdir())]
    return [
        *("README.md", "manifest.json"),
        *(path.relative_to(weights).as_posix() for path in found if path.is_file()),
    ]
