"""The reader of imports, on a package made up for it."""

from __future__ import annotations

from pathlib import Path

from tests.import_graph import circles, import_graph, upward


def write(root: Path, **files: str) -> None:
    for name, text in files.items():
        path = root / "made" / (name.replace("__", "/", 1) if "__" in name[1:] else name)
        path.with_suffix(".py").parent.mkdir(parents=True, exist_ok=True)
        path.with_suffix(".py").write_text(text)


def test_every_form_of_import_is_seen(tmp_path: Path) -> None:
    write(
        tmp_path,
        low__one="import os\nfrom typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    from made.high import top\n",
        low__two="def late():\n    from .one import thing\n",
        high__top="import made.low.two\nfrom ..low import one, nothing\nfrom made.low.one import thing\n",
    )
    (tmp_path / "made" / "__init__.py").write_text("from made.low import one\n")
    (tmp_path / "made" / "low" / "__init__.py").write_text("")
    assert import_graph("made", tmp_path) == {
        "made": {"made.low.one"},
        "made.low": set(),
        "made.low.one": {"made.high.top"},
        "made.low.two": {"made.low.one"},
        "made.high.top": {"made.low", "made.low.one", "made.low.two"},
    }


def test_a_circle_is_found_over_several_steps_and_named_once() -> None:
    graph = {"a": {"b"}, "b": {"c"}, "c": {"a", "d"}, "d": set(), "e": {"a"}}
    assert circles(graph) == [["a", "b", "c"]]
    assert circles({"a": {"b"}, "b": {"c"}, "c": set()}) == []
    assert circles({"a": {"b"}, "b": {"a"}, "x": {"y"}, "y": {"x"}}) == [["a", "b"], ["x", "y"]]


def test_an_import_that_goes_up_or_sideways_is_named() -> None:
    layers = (("p.low",), ("p.mid", "p.beside"), ("p.__main__",))
    graph = {
        "p.low.a": {"p.low.b"},
        "p.low.b": {"p.mid"},
        "p.mid": {"p.low.a"},
        "p.beside": {"p.mid"},
        "p.__main__": {"p.mid", "p.low.b"},
    }
    assert upward(graph, layers) == ["p.beside -> p.mid", "p.low.b -> p.mid"]
    assert upward({"p.new": set()}, layers) == ["p.new"]
