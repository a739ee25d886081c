"""A laptop that sleeps: its scan is still there when it wakes, or what was drawn on it is."""

from __future__ import annotations

import time
from pathlib import Path

import pytest
from playwright.sync_api import Browser

from tests.e2e.conftest import serving
from tests.e2e.driver import Viewer

BOX = (287, 172, 351, 294)
#: A server that waits for 12 s where it would wait for half an hour: 4 s away are then ten minutes.
GONE_SECONDS, TEN_MINUTES = 12.0, 4.0


@pytest.mark.slow
def test_ten_minutes_asleep_lose_nothing_and_longer_loses_nothing_drawn(
    browser: Browser, root: Path, tmp_path: Path
) -> None:
    with serving(root, tmp_path, ICHSEG_GONE_SECONDS=str(GONE_SECONDS)) as server:
        context = browser.new_context(viewport={"width": 1440, "height": 900})
        viewer = Viewer(context.new_page(), server.url).open_sample()
        page, k = viewer.page, viewer.slice
        token = viewer.token
        before = viewer.draw(BOX).ml(0)
        context.set_offline(True)
        time.sleep(TEN_MINUTES)
        context.set_offline(False)
        viewer.go_to(k + 1).draw((290, 176, 350, 290))
        assert viewer.token == token and viewer.ml(0)[1] > before[1]
        assert viewer.go_to(k).ml(0)[0] == before[0]

        context.set_offline(True)
        time.sleep(GONE_SECONDS + 4)  # until the server has looked
        assert not [path for path in server.files() if path.match("ichseg-*/tmp*/*")]
        context.set_offline(False)
        page.get_by_text("open the scan again").first.wait_for(timeout=15_000)
        assert "2 boxes are kept here" in page.inner_text(".ich-kept p")
        page.click("[data-do=open_again]")
        viewer.opened(token)
        page.click("[data-do=put_back]")
        page.locator(".ich-kept").wait_for(state="hidden", timeout=30_000)
        viewer.settle().go_to(k)
        assert viewer.ml(0)[0] == pytest.approx(before[0], abs=0.011)
        context.close()
