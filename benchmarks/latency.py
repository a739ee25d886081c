"""How fast the page is in a browser, and what a session costs: rows for bench.py's table.

Starts app.py as a person would, and drives it in an installed Chromium on the sample scan. The background embedding is
waited for before anything is timed that it could disturb.
"""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from functools import partial
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from playwright.sync_api import Browser, Page, sync_playwright  # noqa: E402

from benchmarks.table import Row  # noqa: E402
from ichseg.files.nifti_mask import read_mask  # noqa: E402
from ichseg.marks.box import Box, box_from_mask  # noqa: E402
from ichseg.sample import sample_paths  # noqa: E402
from ichseg.scan.read import read_volume  # noqa: E402
from ichseg.scan.volume import CTVolume  # noqa: E402

CHROMIUM_ARGUMENTS = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]

# Milliseconds from an event on the left canvas until what it changed is painted. A task that is
# posted from an animation frame runs after that frame's drawing.
TIMER = """
window.measured = [];
const root = document.querySelector('.ich');
const painted = (start) => requestAnimationFrame(() => {
  const after = new MessageChannel();
  after.port1.onmessage = () => window.measured.push(performance.now() - start);
  after.port2.postMessage(0);
});
let released = 0;
const canvas = root.querySelector('.ich-stage canvas');
canvas.addEventListener('wheel', (event) => painted(event.timeStamp), { capture: true });
window.addEventListener('pointerup', (event) => { released = event.timeStamp; }, { capture: true });
new MutationObserver(() => { if (released) painted(released); released = 0; })
  .observe(root, { attributes: true, attributeFilter: ['data-done'] });
"""


@contextmanager
def serving() -> Iterator[tuple[subprocess.Popen[bytes], str, float]]:
    """app.py on a free port: the process, its address, and when it was started."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    environment = os.environ | {"GRADIO_SERVER_PORT": str(port), "GRADIO_SERVER_NAME": "127.0.0.1"}
    with tempfile.TemporaryFile() as log:
        start = time.perf_counter()
        process = subprocess.Popen(
            [sys.executable, "app.py"], cwd=ROOT, env=environment, stdout=log, stderr=log
        )
        try:
            while True:
                try:
                    socket.create_connection(("127.0.0.1", port), timeout=1).close()
                    break
                except OSError:
                    if process.poll() is not None:
                        log.seek(0)
                        sys.exit(f"app.py ended before it served:\n{log.read().decode()}")
                    time.sleep(0.02)
            yield process, f"http://127.0.0.1:{port}", start
        finally:
            process.terminate()
            process.wait(timeout=20)


def ps_of(pid: int, column: str) -> str:
    """One column that ps prints of a process, on Linux and macOS alike."""
    command = ["ps", "-o", f"{column}=", "-p", str(pid)]
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()


def resident_mb(process: subprocess.Popen[bytes]) -> float:
    return int(ps_of(process.pid, "rss")) / 1024


def settled_mb(process: subprocess.Popen[bytes], window_seconds: float = 6.0) -> float:
    """Resident memory once the process is idle: every slice that will be embedded is."""
    last = ""
    while last != (now := ps_of(process.pid, "time")):  # its CPU time, in whole seconds
        last = now
        time.sleep(window_seconds)
    return resident_mb(process)


def new_page(browser: Browser, address: str) -> Page:
    page = browser.new_context(viewport={"width": 1440, "height": 900}).new_page()
    page.goto(address)
    page.wait_for_selector(".ich[data-live]", timeout=60_000)
    return page


def open_sample(page: Page) -> float:
    """Click the sample, wait until it is shown; milliseconds."""
    return _opened(page, lambda: page.click("[data-do=sample]:visible"))


def open_file(page: Page, scan: Path) -> float:
    """Give the page a file, wait until it is shown; milliseconds."""
    return _opened(page, lambda: page.set_input_files(".ich-file", [str(scan)]))


def _opened(page: Page, give: Callable[[], object]) -> float:
    start = time.perf_counter()
    give()
    page.wait_for_selector(".ich[data-state=ready]", timeout=60_000)
    return (time.perf_counter() - start) * 1e3


def go_to(page: Page, k: int) -> None:
    """Show slice k (from 0); the slider counts from 1."""
    page.evaluate(
        """(value) => {
             const slider = document.querySelector('.ich-slider');
             slider.value = value;
             slider.dispatchEvent(new Event('input', { bubbles: true }));
           }""",
        k + 1,
    )
    page.wait_for_selector(f".ich[data-slice='{k}']")


def settled(page: Page) -> None:
    page.wait_for_selector(".ich[data-pending='0']", timeout=60_000)


def drag_box(page: Page, box: Box, shape_yx: tuple[int, int]) -> None:
    """Drag a box, in pixels of the slice, on the left canvas at its first zoom."""
    frame = page.locator(".ich-stage canvas").first.bounding_box()
    assert frame is not None
    rows, columns = shape_yx
    scale = min(frame["width"] / columns, frame["height"] / rows)
    left = frame["x"] + (frame["width"] - columns * scale) / 2
    top = frame["y"] + (frame["height"] - rows * scale) / 2
    x0, y0, x1, y1 = box.xyxy
    page.mouse.move(left + x0 * scale, top + y0 * scale)
    page.mouse.down()
    page.mouse.move(left + (x0 + x1) / 2 * scale, top + (y0 + y1) / 2 * scale)
    page.mouse.move(left + x1 * scale, top + y1 * scale)
    page.mouse.up()


def measured(page: Page, action: Callable[[], object]) -> float:
    """The one time in ms that TIMER takes of an action."""
    page.evaluate("window.measured.length = 0")
    action()
    page.wait_for_function("window.measured.length > 0", timeout=60_000)
    return float(page.evaluate("window.measured[0]"))


def in_the_browser(page: Page, volume: CTVolume, k: int, box: Box, runs: int) -> list[Row]:
    """Scrolling, and a box on a slice that is embedded already."""
    page.evaluate(TIMER)
    page.locator(".ich-stage canvas").first.hover()
    scrolls = []
    go_to(page, 2)
    for turn in range(2 * runs):
        down = turn // (volume.shape_zyx[0] - 6) % 2 == 0
        before = page.get_attribute(".ich", "data-slice")
        scrolls.append(measured(page, partial(page.mouse.wheel, 0, 100 if down else -100)))
        assert page.get_attribute(".ich", "data-slice") != before, "the wheel changed no slice"
    go_to(page, k)
    boxes = []
    for run in range(runs + 1):
        moved = box.grow(1 + run % 8, volume.shape_zyx[1:])  # masks of a box seen before are kept
        moved = replace(moved, x0=moved.x0 - run // 8)
        boxes.append(measured(page, partial(drag_box, page, moved, volume.shape_zyx[1:])))
        settled(page)
        page.click("[data-do=clear_slice]")
        settled(page)
        page.wait_for_timeout(300)
    return [
        Row.of("scroll by one slice, wheel to painted", scrolls, "ms", "< 50 ms"),
        Row.of("box released to both masks painted, slice embedded", boxes[1:], "ms"),
    ]


def find_chromium(given: str | None) -> str:
    """The path of an installed Chromium, or the end of the program with a sentence that helps."""
    chromium = given or shutil.which("chromium") or shutil.which("google-chrome")
    if not chromium:
        sys.exit(
            "A Chromium is needed and none was found; install one, or set CHROMIUM to its path."
        )
    return chromium


def page_rows(chromium: str, runs: int, sessions: int) -> list[Row]:
    """What a person with a browser meets, and what the server's memory grows by: app.py from its start to its end."""
    scan, reference = sample_paths()
    volume = read_volume(scan)
    blood_zyx = read_mask(reference, volume) != 0
    k = int(blood_zyx.sum(axis=(1, 2)).argmax())
    box = box_from_mask(blood_zyx[k], margin_px=3)
    assert box is not None

    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=chromium, args=CHROMIUM_ARGUMENTS)
        with serving() as (process, address, start):
            page = new_page(browser, address)
            ready = time.perf_counter() - start
            sample_ms = open_sample(page)
            shown = time.perf_counter()
            go_to(page, k)
            drag_box(page, box, volume.shape_zyx[1:])
            # A dash until the left pane has its mask and its millilitres.
            page.wait_for_function("document.querySelector('.ich-slice-ml').textContent !== '–'")
            first = time.perf_counter()
            settled(page)
            masked = time.perf_counter()
            page.click("[data-do=clear_slice]")
            first_mb = settled_mb(process)
            browsed = in_the_browser(page, volume, k, box, runs)
            fresh_mb, full_mb, file_ms = [], [], []
            for _ in range(sessions):
                before = resident_mb(process)
                other = new_page(browser, address)
                # As a file of their own: the sample's slices are embedded once for everybody.
                file_ms.append(open_file(other, scan))
                fresh_mb.append(resident_mb(process) - before)
                full_mb.append(settled_mb(process) - before)
        browser.close()
    return [
        Row.of("process start to page ready", [ready], "s", aim="< 6 s"),
        Row.of("scan shown to first mask painted", [first - shown], "s", "< 1 s"),
        Row.of("scan shown to both methods' first masks painted", [masked - shown], "s"),
        Row.of("process start to first mask painted", [first - start], "s"),
        Row.of("the sample, click to shown", [sample_ms], "ms"),
        Row.of("a person's own scan, given to shown", file_ms, "ms"),
        *browsed,
        Row.of("memory of the server, its first session embedded", [first_mb], "MB"),
        Row.of("memory of a further session, just opened", fresh_mb, "MB"),
        Row.of("memory of a further session, every slice embedded", full_mb, "MB"),
    ]
