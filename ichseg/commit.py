"""Which commit of the project this is: written into a wheel when it is built, asked of git in a checkout."""

from __future__ import annotations

import os
import subprocess
from functools import cache
from pathlib import Path

_PACKAGE = Path(__file__).resolve().parent


@cache
def commit() -> str:
    """The first 12 digits, with "-dirty" where files differ from the commit; empty where neither wheel nor git says it.

    Asked once a process, when it is first wanted.
    """
    written = _PACKAGE / "COMMIT"
    if written.is_file():
        return written.read_text(encoding="utf-8").strip()
    return of_checkout(_PACKAGE.parent)


def of_checkout(root: Path) -> str:
    """What git says of a folder that is the top of a checkout; empty where it is none, or git is not installed."""
    if not (root / ".git").exists() or not (root / "pyproject.toml").is_file():
        return ""
    # Inside a git hook these name another repository.
    environment = {name: value for name, value in os.environ.items() if not name.startswith("GIT_")}
    try:
        described = subprocess.run(
            ["git", "describe", "--always", "--dirty", "--abbrev=12", "--exclude=*"],
            cwd=root,
            env=environment,
            capture_output=True,
            text=True,
            check=True,
            timeout=10,
        )
    except (OSError, subprocess.SubprocessError):
        return ""
    return described.stdout.strip()
