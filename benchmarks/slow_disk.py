"""A program on a slow disk: python benchmarks/slow_disk.py HOLD PROGRAM [ARGUMENTS]

A file is written in two halves with a pause in between, and takes its place after another one. While there is a file
HOLD the second half is not written: who waits for the first half may take their time to kill the program.
"""

from __future__ import annotations

import os
import runpy
import sys
import time
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from ichseg.replace_file import is_part  # noqa: E402

PAUSE_SECONDS = 0.3


def main() -> None:
    """Run the program with such a disk for what ``replace_file`` writes."""
    hold, *sys.argv = sys.argv[1:]
    at_once, sync = Path.write_bytes, os.fsync

    def in_halves(path: Path, content: Any) -> int:
        if not is_part(path):
            return at_once(path, content)
        with path.open("wb") as file:
            file.write(content[: len(content) // 2])
            file.flush()
            time.sleep(PAUSE_SECONDS)
            while os.path.exists(hold):
                time.sleep(0.01)
            file.write(content[len(content) // 2 :])
        return len(content)

    def slowly(descriptor: int) -> None:
        time.sleep(PAUSE_SECONDS)
        sync(descriptor)

    Path.write_bytes, os.fsync = in_halves, slowly  # type: ignore[method-assign, assignment]
    runpy.run_path(sys.argv[0], run_name="__main__")


if __name__ == "__main__":
    main()
