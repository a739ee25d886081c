"""Find a Chromium to drive the page with, or install one: python -m tools.browser.

An installed one is taken first (``CHROMIUM`` names it, or it is on the PATH), then Playwright's own download, then
Debian's package where this user may install it. Where none of these works, a sentence says how to have one, and the
browser tests are left out.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

#: The first has no windows of its own, and takes a third less of the processor.
NAMES = ("chromium-headless-shell", "chromium", "chromium-browser", "google-chrome")
HOW = (
    "python -m playwright install chromium, or Debian's package chromium-headless-shell, or set CHROMIUM to the path "
    "of one"
)
#: Of a download, in seconds: a machine without the internet must not wait for long.
PATIENCE_S = 300


def find() -> str | None:
    """The path of a Chromium on this machine; None where there is none."""
    named = [os.environ.get("CHROMIUM"), *map(shutil.which, NAMES)]
    found = next((path for path in named if path and Path(path).is_file()), None)
    return found or _playwrights()


def _playwrights() -> str | None:
    """What Playwright downloaded on this machine."""
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        path = playwright.chromium.executable_path
    return path if Path(path).is_file() else None


def install() -> None:
    """Try Playwright's download, then Debian's package. What fails says so itself, on stderr."""
    _try([sys.executable, "-m", "playwright", "install", "chromium"])
    if find() is None and shutil.which("apt-get") and getattr(os, "geteuid", lambda: 1)() == 0:
        _try(["apt-get", "update", "-q"])
        _try(
            [
                "apt-get",
                "install",
                "-y",
                "-q",
                "--no-install-recommends",
                "chromium-headless-shell",
                "fonts-liberation",
            ]
        )


def _try(command: list[str]) -> None:
    environment = os.environ | {"DEBIAN_FRONTEND": "noninteractive"}
    try:
        subprocess.run(command, env=environment, timeout=PATIENCE_S, check=False)
    except subprocess.TimeoutExpired:
        print(
            f"{' '.join(command)} took longer than {PATIENCE_S} s; it was stopped.", file=sys.stderr
        )


def main() -> None:
    """Say which Chromium is here, after installing one where none was."""
    if find() is None:
        install()
    found = find()
    print(
        f"Chromium: {found}"
        if found
        else f"No Chromium: the browser tests are left out. To have one: {HOW}."
    )


if __name__ == "__main__":
    main()
