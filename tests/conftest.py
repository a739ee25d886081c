"""What several test files share: where things are, and what this machine has."""

from __future__ import annotations

import gc
import os
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

import ichseg.page  # noqa: F401 - before anything imports gradio
from tools import browser

if TYPE_CHECKING:
    from ichseg.page.controller import Controller
    from tests.pages import BoxModel, CloserModel

if "PYTEST_XDIST_WORKER" in os.environ:  # workers share the cores; before anything imports torch
    os.environ.setdefault("OMP_NUM_THREADS", "1")

ROOT = Path(__file__).resolve().parent.parent
NO_BROWSER = "there is no Chromium to drive the page with"


# Nothing that collecting the tests imports is ever garbage, and to look for some took a tenth of the time.
gc.disable()


def pytest_collection_finish() -> None:
    """From here on it is looked for again, among what the tests themselves make."""
    gc.freeze()
    gc.enable()


def pytest_xdist_auto_num_workers() -> int:
    """One process more than there are cores: a test of the page waits now and then."""
    return (os.cpu_count() or 1) + 1


@pytest.fixture(scope="session")
def root() -> Path:
    """The project's own folder."""
    return ROOT


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """The real scans that are not part of the project; the test skips where they are absent."""
    folder = ROOT.parent / "shared" / "data"
    if not folder.is_dir():
        pytest.skip("the real scans are not here (looked for ../shared/data beside the project)")
    return folder


@pytest.fixture(scope="session")
def chromium() -> str:
    """The path of a Chromium to drive. Without one the test is left out, and fails in CI."""
    found = browser.find()
    if found:
        return found
    reason = f"{NO_BROWSER}; to have one: {browser.HOW}"
    if os.environ.get("CI"):
        pytest.fail(reason, pytrace=False)
    pytest.skip(reason)


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Say at the very end what was left out for want of a browser, and how to have it."""
    skipped = terminalreporter.stats.get("skipped", [])
    count = sum(NO_BROWSER in str(one.longrepr) for one in skipped)
    if count:
        terminalreporter.write_line(
            f"{count} browser tests were left out: {NO_BROWSER}. To have one: {browser.HOW}.",
            red=True,
        )


@pytest.fixture
def fakes(monkeypatch: pytest.MonkeyPatch) -> dict[str, BoxModel]:
    """A catalogue of three fake models, the first two of them the defaults."""
    from ichseg.methods import catalogue
    from ichseg.methods.method import Method
    from tests.pages import BoxModel

    names = ("one", "two", "three")
    made = {name: BoxModel(name) for name in names}
    rows = {
        name: Method(name, name.title(), "A fake.", lambda method, *_: made[method.name])
        for name in names
    }
    monkeypatch.setattr(catalogue, "CATALOGUE", rows)
    monkeypatch.setattr(catalogue, "default_model", lambda: "one")
    monkeypatch.setattr(catalogue, "default_baseline", lambda: "two")
    return made


@pytest.fixture
def controller(fakes: dict[str, BoxModel], tmp_path: Path) -> Iterator[Controller]:
    """A controller of these models, whose every scan is a numbered one."""
    from ichseg.page.controller import Controller
    from ichseg.page.embeddings import Embeddings
    from tests.pages import numbered_scan

    embeddings = Embeddings(fakes.__getitem__, budget_bytes=100_000)
    made = Controller(tmp_path, embeddings=embeddings, read=lambda path, **_: numbered_scan())
    yield made
    made.close()


@pytest.fixture
def unhurried(controller: Controller, monkeypatch: pytest.MonkeyPatch) -> Controller:
    """A controller whose background embeds nothing."""
    monkeypatch.setattr(controller.embeddings, "plan", lambda *_: None)
    return controller


@pytest.fixture
def closer(controller: Controller, fakes: dict[str, BoxModel]) -> CloserModel:
    """The left method, with a refinement."""
    from tests.pages import CloserModel

    model = CloserModel("one")
    fakes["one"] = model
    return model


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Skip what asks for an accelerator where there is none."""
    marked = [item for item in items if item.get_closest_marker("gpu")]
    if not marked:
        return
    import torch

    if not torch.cuda.is_available():
        for item in marked:
            item.add_marker(pytest.mark.skip(reason="needs an accelerator, and torch sees none"))
