"""A server that goes away: what a person drew is kept by the page, and goes back on the same scan."""

from __future__ import annotations

import json
import os
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Browser

from ichseg.sample import sample_paths
from tests.e2e.conftest import Server, free_port, start
from tests.e2e.driver import Viewer
from tests.pages import wait_until

PATIENCE_MS = 30_000


class Service:
    """app.py on one port, which may be killed and started again."""

    def __init__(self, root: Path, folder: Path) -> None:
        self.root, self.folder, self.port = root, folder, free_port()
        self.process: subprocess.Popen[bytes] | None = None

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def start(self) -> None:
        self.process = start(self.root, self.folder, self.port)

    def kill(self) -> None:
        if self.process is not None:
            self.process.kill()
            self.process.wait(timeout=20)


@pytest.fixture
def service(root: Path, tmp_path: Path) -> Iterator[Service]:
    (tmp_path / "server").mkdir()
    running = Service(root, tmp_path / "server")
    running.start()
    yield running
    running.kill()


@pytest.mark.slow
def test_boxes_outlive_a_server_that_restarts_while_one_is_pending(
    browser: Browser, service: Service, tmp_path: Path
) -> None:
    context = browser.new_context(viewport={"width": 1440, "height": 900})
    page = context.new_page()
    left = []
    page.on("framenavigated", lambda frame: left.append(frame.url))
    page.on("dialog", lambda dialog: left.append(dialog.type))
    viewer = Viewer(page, service.url).open_sample()
    k = viewer.slice
    viewer.draw((287, 172, 351, 294))
    before = viewer.ml(0)
    assert before[0] > 0
    left.clear()

    service.kill()
    viewer.go_to(k + 1).draw((290, 176, 350, 290), wait=False)
    strip = page.locator(".ich-kept")
    strip.wait_for(timeout=PATIENCE_MS)
    assert "does not answer" in strip.inner_text()
    service.start()
    page.get_by_text("The server was restarted").wait_for(timeout=5000)  # no patience runs out
    said = page.inner_text(".ich-kept p")
    assert "open the scan again" in said and "2 boxes" in said and said.count(".") == 1
    assert viewer.go_to(k).ml(0)[0] == before[0]  # what was shown still is

    with page.expect_download() as started:
        page.click("[data-do=save_kept]")
    saved = tmp_path / started.value.suggested_filename
    started.value.save_as(saved)
    record = json.loads(saved.read_text())
    assert [box["slice"] for box in record["boxes"]] == [k, k + 1]

    token = viewer.token
    page.click("[data-do=open_again]")
    viewer.opened(token)
    assert viewer.ml(0) == (0, 0)
    page.click("[data-do=put_back]")
    strip.wait_for(state="hidden", timeout=PATIENCE_MS)
    viewer.settle().go_to(k)
    assert viewer.ml(0)[0] == pytest.approx(before[0], abs=0.011)
    assert viewer.ml(0)[1] > before[1]

    # The file is one that Load takes.
    viewer.do("clear").settle()
    page.set_input_files(".ich-mask-file", str(saved))
    page.wait_for_function("() => document.querySelector('.ich-total-ml').textContent !== '–'")
    viewer.settle().go_to(k)
    assert viewer.ml(0)[0] == pytest.approx(before[0], abs=0.011)
    assert left == []  # no reload, and nothing that asks to leave
    context.close()


def test_a_line_that_breaks_for_a_moment_loses_nothing(browser: Browser, server: Server) -> None:
    context = browser.new_context(viewport={"width": 1440, "height": 900})
    viewer = Viewer(context.new_page(), server.url).open_sample()
    strip = viewer.page.locator(".ich-kept")
    context.set_offline(True)
    viewer.draw((287, 172, 351, 294), wait=False)
    strip.wait_for(timeout=PATIENCE_MS)
    context.set_offline(False)
    viewer.settle()
    assert viewer.ml(0)[0] > 0 and not strip.is_visible()
    context.close()


def test_what_was_drawn_outlives_a_reload_and_a_crash_of_the_page(
    browser: Browser, server: Server
) -> None:
    context = browser.new_context(viewport={"width": 1440, "height": 900})
    page = context.new_page()
    page.on("dialog", lambda dialog: dialog.accept())
    viewer = Viewer(page, server.url).open_sample()
    k = viewer.slice
    before = viewer.draw((287, 172, 351, 294)).ml(0)
    page.reload()
    page.wait_for_selector(".ich[data-live]")
    strip = page.locator(".ich-kept")
    strip.wait_for(timeout=PATIENCE_MS)
    assert page.inner_text(".ich-kept p") == (
        "1 box is kept of a scan that was open before: open that scan to go on, or save them."
    )
    stored = page.evaluate("() => Object.values(localStorage).join()")
    assert '"boxes"' in stored and "voxels" not in stored and '"label":null' in stored
    viewer.open_sample()
    page.click("[data-do=put_back]")
    strip.wait_for(state="hidden", timeout=PATIENCE_MS)
    viewer.settle().go_to(k)
    assert viewer.ml(0)[0] == pytest.approx(before[0], abs=0.011)

    viewer.go_to(k + 1).draw((290, 176, 350, 290))
    page.wait_for_timeout(600)
    page.close(run_before_unload=False)  # as where the browser crashes
    other = Viewer(context.new_page(), server.url)
    other.page.locator(".ich-kept").wait_for(timeout=PATIENCE_MS)
    assert other.page.inner_text(".ich-kept p").startswith("2 boxes are kept of a scan")
    other.page.click("[data-do=forget_kept]")
    assert other.page.evaluate("() => localStorage.length") == 0
    context.close()


def test_two_scans_opened_in_quick_succession_do_not_cross(
    browser: Browser, server: Server, tmp_path: Path
) -> None:
    """The second is the one on screen, also where the first takes longer, and boxes go to it."""
    context = browser.new_context(viewport={"width": 1440, "height": 900})
    viewer = Viewer(context.new_page(), server.url)
    scan = sample_paths()[0].read_bytes()
    (tmp_path / "first.nii.gz").write_bytes(scan)
    (tmp_path / "second.nii.gz").write_bytes(scan)
    viewer.open_files(tmp_path / "first.nii.gz").open_files(tmp_path / "second.nii.gz")
    viewer.page.wait_for_function(
        "() => document.querySelector('.ich-scan').textContent === 'second'"
    )
    viewer.opened().draw((287, 172, 351, 294))
    assert viewer.ml(0)[0] > 0 and viewer.alert_text() == ""
    assert viewer.page.inner_text(".ich-scan") == "second"
    context.close()


@pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="no /proc")
def test_a_server_that_nobody_asks_rests(server: Server) -> None:
    """Gradio's queue alone would take 0.07 s a second, of a laptop's battery."""

    def seconds() -> float:
        fields = Path(f"/proc/{server.pid}/stat").read_text().rpartition(")")[2].split()
        return sum(map(int, fields[11:13])) / os.sysconf("SC_CLK_TCK")

    def in_a_second() -> float:
        before = seconds()
        time.sleep(1)
        return seconds() - before

    # What the last person asked for may still be under way.
    wait_until(lambda: in_a_second() <= 0.04, seconds=20)
