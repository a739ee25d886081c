"""The page's scripts, markup and style: how they hang together, how they are served, and their own tests under node."""

from __future__ import annotations

import re
import shutil
import subprocess
import tomllib
from graphlib import TopologicalSorter
from pathlib import Path
from posixpath import dirname, join, normpath

import pytest
from starlette.applications import Starlette
from starlette.testclient import TestClient

from ichseg.page.panel import Panel
from ichseg.page.panels import PANELS
from ichseg.page.viewer import markup, script_routes, scripts, scripts_path, style

IMPORT = re.compile(r'^(?:import|export)\b[^;]*?"(\.[^"]+)";', re.M)


def imports() -> dict[str, set[str]]:
    """Every module by its path, with the modules that it imports."""
    return {
        name: {normpath(join(dirname(name), path)) for path in IMPORT.findall(content.decode())}
        for name, content in scripts().items()
    }


def test_modules_import_what_is_there_and_never_in_a_circle() -> None:
    graph = imports()
    missing = {(name, one) for name, found in graph.items() for one in found - graph.keys()}
    assert not missing
    TopologicalSorter(graph).prepare()  # raises CycleError, which names the circle


def test_no_panel_imports_another_and_the_core_imports_none() -> None:
    for name, found in imports().items():
        own = dirname(name)
        strangers = {one for one in found if dirname(one) not in {own, "viewer"}}
        assert not strangers, f"{name} imports {strangers}"


def test_every_module_is_used() -> None:
    graph = imports()
    entries = {"viewer/start.js", *(name for name in graph if name.endswith("/panel.js"))}
    assert graph.keys() == entries | set().union(*graph.values())


def test_a_panel_may_come_from_outside(tmp_path: Path) -> None:
    """A folder and a row: nothing else of the page changes."""
    (tmp_path / "panel.html").write_text(
        "<!-- slot: buttons -->\n<button>Seven</button>\n<!-- slot: sections -->\n<p>7</p>\n"
    )
    (tmp_path / "panel.css").write_text(".seven { color: red; }")
    panels = (*PANELS, Panel("seven", "Seven", tmp_path))
    html = markup(panels)
    follow_up, seven = html.index('data-do="followup"'), html.index("<button>Seven</button>")
    assert follow_up < seven < html.index('class="ich-row ich-downloads"')
    assert "<p>7</p>" in html and style(panels).endswith(".seven { color: red; }")
    assert "slot:" not in html and "Seven" not in markup()


def test_the_recipe_s_panel_stands_on_what_is_there(root: Path, tmp_path: Path) -> None:
    recipe = (root / "docs" / "recipes" / "panel.md").read_text(encoding="utf-8")
    (html,) = re.findall(r"```html\n(.*?)```", recipe, re.S)
    (script,) = re.findall(r"```js\n(.*?)```", recipe, re.S)
    (tmp_path / "panel.html").write_text(html)
    assert 'data-do="note"' in markup((*PANELS, Panel("note", "Notes", tmp_path)))
    used = re.findall(r'^import \{ (.*?) \} from "../../(viewer/.*?)";', script, re.M)
    assert used
    for names, module in used:
        exports = r"^export (?:async )?(?:const|function|class) (\w+)"
        assert set(names.split(", ")) <= set(re.findall(exports, scripts()[module].decode(), re.M))


@pytest.mark.parametrize("text", ["<!-- slot: nowhere -->\n<p>7</p>", "<p>7</p>"])
def test_markup_outside_of_a_slot_is_refused(tmp_path: Path, text: str) -> None:
    (tmp_path / "panel.html").write_text(text)
    with pytest.raises(
        ValueError, match=r"stands in a slot of viewer\.html, top, .*; got .*; name one"
    ):
        markup([Panel("seven", "Seven", tmp_path)])


def test_gradio_can_take_the_markup_as_a_template() -> None:
    """It evaluates the markup as a template literal, and Handlebars before."""
    assert not set("`\\") & set(markup()) and "${" not in markup() and "{{" not in markup()


def test_scripts_are_served_under_a_path_that_changes_with_them(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    client = TestClient(Starlette(routes=script_routes()))
    address = f"/gradio_api{scripts_path()}/"
    for name, content in scripts().items():
        answer = client.get(address + name)
        assert (answer.status_code, answer.content) == (200, content)
        assert answer.headers["content-type"].startswith("text/javascript")
        assert "immutable" in answer.headers["cache-control"]
    for name in ("viewer/boot.js", "viewer/viewer.css", "../viewer.py", "viewer/../../viewer.py"):
        assert client.get(address + name).status_code == 404
    assert client.get("/gradio_api/viewer/0123456789abcdef/viewer/start.js").status_code == 404

    before = scripts_path()
    changed = dict(scripts()) | {"viewer/hub.js": b"// changed"}
    monkeypatch.setattr("ichseg.page.viewer.scripts", lambda: changed)
    scripts_path.cache_clear()
    try:
        assert scripts_path() != before
    finally:
        scripts_path.cache_clear()


def test_the_package_has_every_file_of_the_page(root: Path) -> None:
    settings = tomllib.loads((root / "pyproject.toml").read_text(encoding="utf-8"))
    patterns = settings["tool"]["setuptools"]["package-data"]

    def included(path: Path) -> bool:
        """By the patterns of the package that it lies in, which are of paths below the package's folder."""
        package = next(one for one in path.parents if (one / "__init__.py").is_file())
        name = ".".join(package.relative_to(root).parts)
        below = path.relative_to(package)
        return any(
            below.match(one) and below.parts[:-1] == Path(one).parts[:-1]
            for one in [*patterns["*"], *patterns.get(name, [])]
        )

    files = [
        path
        for path in (root / "ichseg" / "page").rglob("*.*")
        if path.suffix in {".js", ".html", ".css"}
    ]
    assert {path.suffix for path in files} == {".js", ".html", ".css"}
    assert not [path for path in files if not included(path)]


def test_the_scripts_own_tests(root: Path) -> None:
    """What needs no page: geometry, numbers, outlines, what is kept; under ``node --test``."""
    node = shutil.which("node")
    if node is None:
        pytest.skip("node is not here; the scripts' own tests (tests/page/js) need it")
    tests = sorted(str(path) for path in (root / "tests" / "page" / "js").glob("*.test.mjs"))
    run = subprocess.run(
        [node, "--test", *tests], cwd=root, capture_output=True, text=True, timeout=120
    )
    assert run.returncode == 0, run.stdout + run.stderr
