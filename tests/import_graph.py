"""Who imports whom in a package, read from its source: imports in functions and under TYPE_CHECKING count."""

from __future__ import annotations

import ast
from collections.abc import Mapping
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent


def import_graph(package: str, root: Path = ROOT) -> dict[str, set[str]]:
    """Each module of a package, by its dotted name, with the modules of the package that it imports.

    ``from a.b import c`` is an import of the module ``a.b.c`` where there is one, else of ``a.b``. A package's
    ``__init__`` goes by the package's name; that a module's own packages are loaded before it is not counted.
    """
    files = {_name(path, root): path for path in sorted((root / package).rglob("*.py"))}
    return {
        name: {found for found in _imports(path, root, files) if found != name}
        for name, path in files.items()
    }


def _name(path: Path, root: Path) -> str:
    parts = path.relative_to(root).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def _imports(path: Path, root: Path, modules: Mapping[str, Path]) -> set[str]:
    """The modules, of those named, that a file imports."""
    package = path.relative_to(root).parent.parts
    found = set[str]()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            base = package[: len(package) - node.level + 1] if node.level else ()
            origin = ".".join([*base, *([node.module] if node.module else [])])
            for alias in node.names:
                inner = f"{origin}.{alias.name}"
                found.add(inner if inner in modules else origin)
    return {name for name in found if name in modules}


def circles(graph: Mapping[str, set[str]]) -> list[list[str]]:
    """The groups of modules that import each other, over however many steps, each sorted."""
    reached = {name: _reached(graph, name) for name in graph}
    groups = {
        tuple(sorted(other for other in reached[name] if name in reached.get(other, ())))
        for name in graph
        if name in reached[name]
    }
    return [list(group) for group in sorted(groups)]


def _reached(graph: Mapping[str, set[str]], start: str) -> set[str]:
    """All modules that a module comes to by its imports, itself only if they lead back to it."""
    todo, seen = list(graph.get(start, ())), set[str]()
    while todo:
        name = todo.pop()
        if name not in seen:
            seen.add(name)
            todo += graph.get(name, ())
    return seen


def upward(graph: Mapping[str, set[str]], layers: tuple[tuple[str, ...], ...]) -> list[str]:
    """The imports that go up or sideways: "a -> b" where b is in no lower layer than a, and not in a's own package.

    ``layers`` goes from the lowest up; each names the modules or packages that stand side by side in it. A module in no
    layer is named alone.
    """
    rank = {place: number for number, layer in enumerate(layers) for place in layer}

    def place_of(name: str) -> str | None:
        places = [place for place in rank if name == place or name.startswith(f"{place}.")]
        return max(places, key=len, default=None)

    wrong = []
    for name, imported in sorted(graph.items()):
        mine = place_of(name)
        if mine is None:
            wrong.append(name)
            continue
        for other in sorted(imported):
            theirs = place_of(other)
            if theirs is not None and theirs != mine and rank[theirs] >= rank[mine]:
                wrong.append(f"{name} -> {other}")
    return wrong
