"""The page in a test's words: open, scroll, drag, read. It knows the layout, and none of the script."""

from __future__ import annotations

import base64
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from playwright.sync_api import Page, Request

PATIENCE_MS = 120_000
BoxLike = Sequence[float]


class Viewer:
    """One person at the page."""

    def __init__(self, page: Page, url: str) -> None:
        self.page = page
        self.sent: list[list[BoxLike]] = []
        """The boxes of each boxes operation that reached the server, in order."""
        self._seen = 0
        page.on("request", self._note)
        page.goto(url)
        page.wait_for_selector(".ich[data-live]")
        self.shape_zyx = (0, 0, 0)
        self.spacing_mm = (1.0, 1.0, 1.0)
        self._first_slice = 0

    def _note(self, request: Request) -> None:
        if request.method != "POST" or (
            "/queue/join" not in request.url and "/run/" not in request.url
        ):
            return
        data = next(iter(json.loads(request.post_data or "{}").get("data", [])), None)
        for op in (data or {}).get("ops", ()):
            if op["op"] == "boxes" and op["id"] > self._seen:
                self.sent.append(op["boxes"])
            self._seen = max(self._seen, op["id"])

    # Scans

    def open_sample(self) -> Viewer:
        self.page.locator("[data-do=sample]").locator("visible=true").click()
        return self.opened()

    def open_files(self, *paths: Path) -> Viewer:
        """Give files to the page's own chooser, and wait until it is at rest."""
        self.page.set_input_files(".ich-file", [str(path) for path in paths])
        return self

    def opened(self, former: str | None = None) -> Viewer:
        """Wait for a scan to be on screen (another than ``former``) and take note of its grid."""
        self.page.wait_for_function(
            "former => { const data = document.querySelector('.ich').dataset;"
            " return data.state === 'ready' && data.case !== former && data.pending === '0'; }",
            arg=former,
            timeout=PATIENCE_MS,
        )
        size, spacing = self.page.inner_text(".ich-grid").removesuffix(" mm").split(", ")
        columns, rows, depth = map(int, size.split(" × "))
        dx, dy, dz = map(float, spacing.split(" × "))
        self.shape_zyx, self.spacing_mm = (depth, rows, columns), (dz, dy, dx)
        self._first_slice = self.slice
        return self

    def start_over(self) -> Viewer:
        """As the scan was when it was opened: no box, its first slice on screen, at fit, in the first window."""
        self.press("Escape")
        if self.page.locator("[data-do=clear]").is_enabled():
            self.do("clear").settle()
        self.page.mouse.move(5, 5)
        self.press("0", "1").go_to(self._first_slice)
        self.sent.clear()
        return self

    @property
    def token(self) -> str:
        return str(self.page.get_attribute(".ich", "data-case"))

    def answered(self) -> Viewer:
        """Wait until everything that was asked is answered."""
        self.page.wait_for_selector(".ich[data-pending='0']", timeout=PATIENCE_MS)
        return self

    def settle(self) -> Viewer:
        """Wait until everything is answered, and every box looked at again where a method does that."""
        self.page.wait_for_selector(".ich[data-pending='0'][data-rough='0']", timeout=PATIENCE_MS)
        return self

    # Where things are

    def frame(self, pane: int) -> tuple[float, float, float, float]:
        """left, top, width, height of a pane's canvas on the screen."""
        box = self.page.locator(".ich-stage canvas").nth(pane).bounding_box()
        assert box is not None
        return box["x"], box["y"], box["width"], box["height"]

    def scale(self, pane: int = 0) -> tuple[float, float]:
        """Screen pixels across and down for one pixel of the slice, at fit."""
        _, rows, columns = self.shape_zyx
        _, dy, dx = self.spacing_mm
        _, _, width, height = self.frame(pane)
        scale = min(width / (columns * dx), height / (rows * dy))
        return scale * dx, scale * dy

    def point(self, pane: int, x: float, y: float) -> tuple[float, float]:
        """Where a point of the slice is on the screen: the slice fits the pane, centred."""
        _, rows, columns = self.shape_zyx
        left, top, width, height = self.frame(pane)
        sx, sy = self.scale(pane)
        return left + width / 2 + (x - columns / 2) * sx, top + height / 2 + (y - rows / 2) * sy

    # Acts

    def drag(self, box: BoxLike, pane: int = 0, *, wait: bool = True) -> Viewer:
        """Drag from (x0, y0) to (x1, y1) of the slice."""
        mouse = self.page.mouse
        mouse.move(*self.point(pane, box[0], box[1]))
        mouse.down()
        mouse.move(*self.point(pane, (box[0] + box[2]) / 2, (box[1] + box[3]) / 2))
        mouse.move(*self.point(pane, box[2], box[3]))
        mouse.up()
        return self.settle() if wait else self

    def draw(self, box: BoxLike, pane: int = 0, *, wait: bool = True) -> Viewer:
        """Drag a new box, whatever was selected."""
        self.page.keyboard.press("Escape")
        return self.drag(box, pane, wait=wait)

    def press(self, *keys: str) -> Viewer:
        for key in keys:
            self.page.keyboard.press(key)
        return self

    def do(self, name: str) -> Viewer:
        self.page.locator(f"[data-do={name}]").locator("visible=true").click()
        return self

    def tool(self, name: str) -> Viewer:
        """Choose a tool of the correction bar: box, brush, erase or component."""
        self.page.click(f"[data-tool={name}]")
        return self

    def go_to(self, k: int) -> Viewer:
        """Bring slice k (from 0) on screen with the keys."""
        self.page.locator(".ich-stage canvas").first.focus()
        step = k - self.slice
        self.press(*["ArrowDown" if step > 0 else "ArrowUp"] * abs(step))
        assert self.slice == k
        return self

    def download(self, kind: str, folder: Path) -> Path:
        with self.page.expect_download(timeout=PATIENCE_MS) as started:
            self.page.click(f"[data-save={kind}]")
        path = folder / started.value.suggested_filename
        started.value.save_as(path)
        return path

    # What is to be seen

    @property
    def slice(self) -> int:
        return int(self.page.get_attribute(".ich", "data-slice") or -1)

    def ml(self, pane: int) -> tuple[float, float]:
        """Millilitres on this slice and in total, as a pane shows them; 0 for a dash."""
        node = self.page.locator(".ich-pane").nth(pane)
        texts = (node.locator(f".ich-{what}-ml").inner_text() for what in ("slice", "total"))
        slice_ml, total_ml = (0.0 if text == "–" else float(text) for text in texts)
        return slice_ml, total_ml

    def alert(self) -> str:
        """The message above the viewer; waits for one."""
        self.page.wait_for_selector(".ich-alert:visible", timeout=PATIENCE_MS)
        return self.page.inner_text(".ich-alert p")

    def alert_text(self) -> str:
        """What went wrong, as the message above the viewer has it; empty where nothing did, or it is a note."""
        shown = self.page.locator(".ich-alert:not([data-kind=note]) p").locator("visible=true")
        return shown.inner_text() if shown.count() else ""

    def pixels(self, pane: int) -> npt.NDArray[np.uint8]:
        """RGB of what a pane shows at the middle of each pixel of the slice, [y, x, 3]."""
        # Two frames: what a key changed is drawn in the first, and a pane of another size after it.
        self.page.evaluate(
            "() => new Promise(done => requestAnimationFrame(() => requestAnimationFrame(done)))"
        )
        raw: dict[str, Any] = self.page.evaluate(
            """pane => {
              const canvas = document.querySelectorAll('.ich-stage canvas')[pane];
              const { width, height } = canvas;
              const data = canvas.getContext('2d').getImageData(0, 0, width, height).data;
              let text = '';
              for (let i = 0; i < data.length; i += 8192) text += String.fromCharCode(...data.subarray(i, i + 8192));
              return { width, height, data: btoa(text) };
            }""",
            pane,
        )
        rgba = np.frombuffer(base64.b64decode(raw["data"]), dtype=np.uint8)
        shown = rgba.reshape(raw["height"], raw["width"], 4)[..., :3]
        left, top, width, _ = self.frame(pane)
        ratio = raw["width"] / width
        x0, y0 = self.point(pane, 0.5, 0.5)
        sx, sy = self.scale(pane)
        _, rows, columns = self.shape_zyx
        x = ((x0 - left + np.arange(columns) * sx) * ratio).astype(int)
        y = ((y0 - top + np.arange(rows) * sy) * ratio).astype(int)
        return shown[np.ix_(y, x)]
