"""How the page's process starts, says that it is ready, and ends."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
from pathlib import Path

import pytest
from starlette.applications import Starlette
from starlette.testclient import TestClient

from ichseg.cli.main import main as command_line
from ichseg.page.health import Health

FORK = """
import os
from ichseg.page import serve as page

def in_a_child(serve):
    child = os.fork()
    if not child:
        page.run(serve)
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
    signal.signal(signal.SIGTERM, page._stop)
    threading.Timer(0.2, os.kill, (os.getpid(), signal.SIGTERM)).start()
    try:
        while True:
            time.sleep(0.05)
    finally:
        print("closed")

for _ in range(3):
    in_a_child(serve)
"""


def ends(root: Path, code: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-c", code], cwd=root, capture_output=True, text=True, timeout=120
    )


@pytest.mark.skipif(not hasattr(os, "fork"), reason="the test forks")
def test_a_server_that_is_stopped_while_it_computes_ends_well(root: Path) -> None:
    done = ends(root, BUSY)
    assert done.stdout.split("\n")[:-1] == ["closed", "status 0"] * 3, done.stderr
    assert "terminate called" not in done.stderr


@pytest.mark.skipif(not hasattr(os, "fork"), reason="the test forks")
def test_the_status_is_what_it_would_have_been(root: Path) -> None:
    ways = ["None", "sys.exit(2)", "sys.exit('why')", "1 / 0"]
    calls = ", ".join(f"lambda: {way}" for way in ways)
    done = ends(root, f"import sys\n{FORK}\nfor serve in ({calls}):\n    in_a_child(serve)")
    assert done.stdout.split() == ["status", "0", "status", "2", "status", "1", "status", "1"]
    assert "why" in done.stderr and "ZeroDivisionError" in done.stderr


class Loading:
    """A load that waits to be let go on, and may fail."""

    def __init__(self, wrong: bool = False) -> None:
        self.go_on, self.loaded, self.wrong = threading.Event(), list[str](), wrong

    def __call__(self, name: str) -> None:
        assert self.go_on.wait(10)
        if self.wrong:
            raise OSError("no such file: secret.nii.gz")
        self.loaded.append(name)


def asked(health: Health) -> tuple[int, dict[str, str]]:
    answer = TestClient(Starlette(routes=[health.route()])).get("/gradio_api/health")
    return answer.status_code, answer.json()


@pytest.mark.parametrize("wrong", [False, True])
def test_health_is_200_once_the_methods_are_loaded_and_only_then(wrong: bool) -> None:
    load = Loading(wrong)
    health = Health(("one", "two"), load)
    thread = threading.Thread(target=health.warm_up)
    thread.start()
    assert asked(health) == (503, {"status": "loading"})
    load.go_on.set()
    thread.join()
    assert asked(health) == ((503, {"status": "failed"}) if wrong else (200, {"status": "ready"}))
    assert load.loaded == ([] if wrong else ["one", "two"])


def test_the_command_says_which_extra_the_page_needs(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    monkeypatch.setattr(sys, "argv", ["ichseg", "page"])
    with pytest.raises(SystemExit) as end:
        command_line()
    assert end.value.code == 2
    assert "install the extra: pip install 'ichseg[page]'" in capsys.readouterr().err


def test_the_command_starts_the_page_with_what_it_was_given(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    started: list[tuple[str, list[str]]] = []
    monkeypatch.setattr("runpy.run_module", lambda name, **_: started.append((name, sys.argv[1:])))
    monkeypatch.setattr(sys, "argv", ["ichseg", "page", "--backend", "torch", "--no-api"])
    with pytest.raises(SystemExit) as end:
        command_line()
    assert end.value.code == 0 and started == [("ichseg.page", ["--backend", "torch", "--no-api"])]
