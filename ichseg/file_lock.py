"""A lock on an open file, by which a process that runs is told from a killed one: of that the system lets go."""

from __future__ import annotations

import os
from pathlib import Path


def hold(descriptor: int) -> bool:
    """Lock an open file until it is closed; False where another process has, or the disk knows no locks."""
    try:
        import fcntl
    except ImportError:  # Windows, where nobody deletes a file that is open
        return True
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        return False
    return True


def is_held(path: Path) -> bool:
    """Whether a process that runs holds a file's lock. On Windows the file is gone where none does."""
    if os.name == "nt":
        try:
            path.unlink()
        except OSError:
            return True
        return False
    with path.open("rb+") as file:  # to be written: without that some network disks lock nothing
        return not hold(file.fileno())
