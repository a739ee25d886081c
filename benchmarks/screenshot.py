"""The picture in the README, taken of the page itself: python benchmarks/screenshot.py

Opens the sample, draws a box around each component of blood of its reference mask on every slice, and writes
docs/screenshot.png of the slice with most of it.
"""

from __future__ import annotations

import argparse
import os
import sys
from pathlib import Path

from playwright.sync_api import sync_playwright

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from benchmarks.latency import (  # noqa: E402
    CHROMIUM_ARGUMENTS,
    drag_box,
    find_chromium,
    go_to,
    open_sample,
    serving,
    settled,
)
from ichseg.files.nifti_mask import read_mask  # noqa: E402
from ichseg.marks.box import boxes_from_mask  # noqa: E402
from ichseg.sample import sample_paths  # noqa: E402
from ichseg.scan.read import read_volume  # noqa: E402

LEAST_COMPONENT_PX = 60
MARGIN_PX = 3


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, default=ROOT / "docs" / "screenshot.png")
    parser.add_argument("--size", default="1440x900", help="of the window")
    parser.add_argument("--scheme", choices=("light", "dark"), default="dark")
    parser.add_argument("--chromium", default=os.environ.get("CHROMIUM"), help="its path")
    options = parser.parse_args()
    chromium = find_chromium(options.chromium)
    width, height = map(int, options.size.split("x"))

    scan, reference = sample_paths()
    volume = read_volume(scan)
    blood_zyx = read_mask(reference, volume) != 0
    largest = int(blood_zyx.sum(axis=(1, 2)).argmax())
    slices = [k for k in range(len(blood_zyx)) if blood_zyx[k].any() and k != largest]

    with sync_playwright() as playwright, serving() as (_, address, _):
        browser = playwright.chromium.launch(executable_path=chromium, args=CHROMIUM_ARGUMENTS)
        page = browser.new_page(
            viewport={"width": width, "height": height}, color_scheme=options.scheme
        )
        page.goto(address)
        page.wait_for_selector(".ich[data-live]")
        open_sample(page)
        for k in [*slices, largest]:
            go_to(page, k)
            for component in boxes_from_mask(blood_zyx[k]):
                if blood_zyx[k][component.slices()].sum() >= LEAST_COMPONENT_PX:
                    page.keyboard.press("Escape")  # the last box is no longer selected
                    drag_box(
                        page, component.grow(MARGIN_PX, blood_zyx.shape[1:]), blood_zyx.shape[1:]
                    )
                    settled(page)
        page.wait_for_selector(".ich[data-rough='0']", timeout=600_000)  # all looked at again
        page.mouse.move(2, 2)
        page.evaluate("document.activeElement.blur()")
        page.wait_for_timeout(300)
        options.out.parent.mkdir(parents=True, exist_ok=True)
        page.screenshot(path=options.out)
        browser.close()
    print(options.out)


if __name__ == "__main__":
    main()
