"""Files of a run and of prepared data, each written whole or not at all."""

from __future__ import annotations

import csv
import json
import shutil
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from ichseg.replace_file import replacing


def write_json(path: Path, content: Mapping[str, Any]) -> None:
    """Write JSON whole or not at all."""
    replace_file(path, lambda temporary: temporary.write_text(json.dumps(content, indent=1) + "\n"))


def write_table(
    path: Path, rows: Sequence[Mapping[str, object]], columns: Sequence[str] | None = None
) -> None:
    """Rows as CSV, whole or not at all; the first row names the columns where nobody does."""

    def write(temporary: Path) -> None:
        with temporary.open("w", newline="", encoding="utf-8") as file:
            writer = csv.DictWriter(file, fieldnames=list(columns or rows[0]))
            writer.writeheader()
            writer.writerows(rows)

    replace_file(path, write)


def cell(value: object) -> object:
    """A value as a table of scores has it: five digits of a float, anything else as it is."""
    return f"{value:.5g}" if isinstance(value, float) else value


def copy_file(source: Path, target: Path) -> None:
    """Copy a file's content, whole or not at all."""
    replace_file(target, lambda part: shutil.copyfile(source, part))


def replace_file(path: Path, write: Callable[[Path], object]) -> None:
    """Let ``write`` fill a temporary file beside ``path``, then put it in place in one step."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with replacing(path) as part:
        write(part)
