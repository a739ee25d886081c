"""app.py with the networks themselves; it embeds no slice ahead, for a test asks for a few of them."""

from __future__ import annotations

import runpy
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT))

from ichseg.page.embeddings import Embeddings  # noqa: E402


def plan_nothing(*_: object, **__: object) -> None:
    """In the place of ``Embeddings.plan``."""


if __name__ == "__main__":
    Embeddings.plan = plan_nothing  # type: ignore[method-assign]
    runpy.run_path(str(ROOT / "app.py"), run_name="__main__")
