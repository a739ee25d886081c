"""How Gradio is imported here: without a message to its makers, and without rewriting its type files.

Each import of Gradio renders a .pyi beside each of its components and compares it with the one of its wheel. That is a
third of the import, it writes where Gradio is installed, and it has no setting.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from importlib.abc import Loader, MetaPathFinder
from importlib.machinery import ModuleSpec, PathFinder
from types import ModuleType

_WRITER = "gradio.component_meta"


class _WithoutTypeFiles(MetaPathFinder):
    """Takes the rendering out of the one module that does it, once that is loaded."""

    def find_spec(
        self, name: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        if name != _WRITER:
            return None
        spec = PathFinder.find_spec(name, path, target)
        if spec is not None and spec.loader is not None:
            spec.loader = _Quiet(spec.loader)
        return spec


class _Quiet(Loader):
    def __init__(self, loader: Loader) -> None:
        self._loader = loader

    def create_module(self, spec: ModuleSpec) -> ModuleType | None:
        return self._loader.create_module(spec)

    def exec_module(self, module: ModuleType) -> None:
        self._loader.exec_module(module)
        vars(module)["create_or_modify_pyi"] = lambda *_: None


def prepare() -> None:
    """To be called before Gradio is imported for the first time."""
    os.environ.setdefault("GRADIO_ANALYTICS_ENABLED", "False")
    sys.meta_path.insert(0, _WithoutTypeFiles())
