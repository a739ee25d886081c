"""Finding or installing a Chromium, and saying so where there is none."""

from __future__ import annotations

from pathlib import Path

import pytest

from tools import browser


@pytest.fixture
def bare(monkeypatch: pytest.MonkeyPatch) -> list[list[str]]:
    """A machine without a browser and without a way to one; the commands that it was asked to run."""
    asked: list[list[str]] = []
    monkeypatch.delenv("CHROMIUM", raising=False)
    monkeypatch.setattr(browser.shutil, "which", lambda _: None)
    monkeypatch.setattr(browser, "_playwrights", lambda: None)
    monkeypatch.setattr(browser, "_try", asked.append)
    return asked


def test_a_browser_that_is_named_is_taken_first(
    bare: list[list[str]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    named = tmp_path / "chromium"
    named.touch()
    monkeypatch.setenv("CHROMIUM", str(named))
    monkeypatch.setattr(browser.shutil, "which", lambda _: "/other")
    assert browser.find() == str(named)
    named.unlink()
    assert browser.find() is None  # neither is there


def test_one_is_installed_where_none_is_and_said_where_that_fails(
    bare: list[list[str]], capsys: pytest.CaptureFixture[str]
) -> None:
    browser.main()
    assert [command[1:] for command in bare] == [["-m", "playwright", "install", "chromium"]]
    said = capsys.readouterr().out
    assert said.count("\n") == 1 and browser.HOW in said and "left out" in said


def test_debians_package_is_the_last_resort_of_root(
    bare: list[list[str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(browser.shutil, "which", lambda name: "/x" if name == "apt-get" else None)
    monkeypatch.setattr(browser.os, "geteuid", lambda: 1000, raising=False)
    browser.install()
    assert len(bare) == 1
    monkeypatch.setattr(browser.os, "geteuid", lambda: 0, raising=False)
    browser.install()
    assert [command[0] for command in bare[2:]] == ["apt-get", "apt-get"]
