"""How the page's process ends."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

FORK = """
import os
import app

def in_a_child(serve):
    child = os.fork()
    if not child:
        app.run(serve)
    _, status = os.waitpid(child, 0)
    print("status", os.waitstatus_to_exitcode(status), flush=True)
"""

BUSY = f"""
import signal, threading, time
import torch
{FORK}
def compute():
    image, weight = torch.randn(1, 8, 64, 64), torch.randn(8, 8, 3, 3)
    while True:
        torch.nn.functional.conv2d(image, weight)

def serve():
    for _ in range(4):
        threading.Thread(target=compute, daemon=True).start()
    signal.signal(signal.SIGTERM, app._stop)
    threading.Timer(0.2, os.kill, (os.getpid(), signal.SIGTERM)).start()
    try:
        while True:
            time.sleep(0.05)
    finally:
        print("closed")

for _ in range(6):
    in_a_child(serve)
"""


def ends(root: Path, code: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-c", code], cwd=root, capture_output=True, text=True, timeout=120
    )


@pytest.mark.skipif(not hasattr(os, "fork"), reason="the test forks")
def test_a_server_that_is_stopped_while_it_computes_ends_well(root: Path) -> None:
    done = ends(root, BUSY)
    assert done.stdout.split("\n")[:-1] == ["closed", "status 0"] * 6, done.stderr
    assert "terminate called" not in done.stderr


@pytest.mark.skipif(not hasattr(os, "fork"), reason="the test forks")
def test_the_status_is_what_it_would_have_been(root: Path) -> None:
    ways = ["None", "sys.exit(2)", "sys.exit('why')", "1 / 0"]
    calls = ", ".join(f"lambda: {way}" for way in ways)
    done = ends(root, f"import sys\n{FORK}\nfor serve in ({calls}):\n    in_a_child(serve)")
    assert done.stdout.split() == ["status", "0", "status", "2", "status", "1", "status", "1"]
    assert "why" in done.stderr and "ZeroDivisionError" in done.stderr
