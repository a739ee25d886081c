"""What is freed goes back to the system, and Gradio keeps one viewer of a page, not one for each answer."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import gradio as gr
import pytest
from gradio.state_holder import SessionState

from ichseg.page import memory
from ichseg.page.viewer import Viewer
from tests.pages import awaited

#: Many threads hold small things at once, and free all but some that lie between: by how much memory grew, in MB.
SCATTERED = """
import sys, threading
from pathlib import Path
from ichseg.page.memory import give_back, keep_little

def resident_mb():
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) / 1024 for line in lines if line.startswith("VmRSS"))

keep_little()
before, kept, barrier = resident_mb(), [], threading.Barrier(8)

def work():
    held = [bytes(100_000) for _ in range(100)]
    barrier.wait()
    kept.append(held[::10])

threads = [threading.Thread(target=work) for _ in range(8)]
for one in threads: one.start()
for one in threads: one.join()
if sys.argv[1:]: give_back()
print(resident_mb() - before)
"""


@pytest.mark.skipif(memory._LIBRARY is None, reason="another C library")
@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="no /proc")
def test_what_is_freed_goes_back_to_the_system(root: Path) -> None:
    def grown(*arguments: str) -> float:
        line = [sys.executable, "-c", SCATTERED, *arguments]
        return float(subprocess.check_output(line, cwd=root))

    assert grown("back") < 20 < grown()  # 8 MB are held of 80


def test_without_that_library_nothing_is_done(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(memory, "_LIBRARY", None)
    memory.keep_little()
    memory.give_back()


def test_gradio_keeps_one_viewer_of_a_page_whatever_it_was_answered() -> None:
    with gr.Blocks() as demo:
        viewer = Viewer(value={})
        viewer.edit(lambda message: gr.update(reply=message), inputs=viewer, outputs=viewer)
    state = SessionState(demo)
    (function,) = demo.fns.values()

    def answered(message: dict[str, Any]) -> Any:
        told = awaited(demo.process_api(function, [message], state=state))
        return told["data"][0]["props"]["reply"]

    assert [answered({"n": n}) for n in range(3)] == [{"n": n} for n in range(3)]
    assert list(state.blocks_config.blocks) == list(state.config_values) == [viewer._id]
