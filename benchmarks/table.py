"""One table of what takes how long, beside the plain way: as text for people, and into RESULTS.md."""

from __future__ import annotations

import os
import platform
import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from importlib import metadata
from pathlib import Path
from typing import NamedTuple

from ichseg.replace_file import write_whole

RESULTS = Path(__file__).resolve().parent / "RESULTS.md"
BEGIN, END = "<!-- make bench writes from here -->", "<!-- to here -->"
HEADINGS = ("what", "the plain way", "here", "ratio", "Dice with the plain way", "aim")


class Row(NamedTuple):
    """One thing that was measured."""

    what: str
    here: float
    unit: str
    aim: str = ""
    worst: float | None = None
    plain: float | None = None
    """The same by the plain way, in the same run."""
    dice: Sequence[float] = ()
    """Of each mask with the plain way's."""
    more_is_better: bool = False

    @classmethod
    def of(
        cls,
        what: str,
        samples: Sequence[float],
        unit: str,
        aim: str = "",
        *,
        plain: Sequence[float] = (),
        dice: Sequence[float] = (),
    ) -> Row:
        """The median of some samples, with their worst where there are several."""
        return cls(
            what,
            statistics.median(samples),
            unit,
            aim,
            max(samples) if len(samples) > 1 else None,
            statistics.median(plain) if plain else None,
            dice,
        )

    @property
    def ratio(self) -> float | None:
        """How many times better than the plain way."""
        if self.plain is None:
            return None
        return self.here / self.plain if self.more_is_better else self.plain / self.here

    def cells(self) -> tuple[str, ...]:
        """As the table shows it."""
        worst = "" if self.worst is None else f" (worst {_number(self.worst)})"
        dice = ""
        if self.dice:
            dice = (
                f"{statistics.mean(self.dice):.4f} (least {min(self.dice):.3f}, n {len(self.dice)})"
            )
        return (
            self.what,
            "" if self.plain is None else f"{_number(self.plain)} {self.unit}".strip(),
            f"{_number(self.here)} {self.unit}".strip() + worst,
            "" if self.ratio is None else f"{self.ratio:.1f} x",
            dice,
            self.aim,
        )


def _number(value: float) -> str:
    return f"{value:,.0f}" if abs(value) >= 100 else f"{value:.3g}"


def in_turn(
    works: Mapping[str, Callable[[], object]], runs: int, unit_seconds: float = 1e-3
) -> dict[str, list[float]]:
    """Each work's times, by turns so that a busy moment meets all alike; the first round is not counted."""
    times: dict[str, list[float]] = {name: [] for name in works}
    for run in range(runs + 1):
        for name, work in works.items():
            start = time.perf_counter()
            work()
            if run:
                times[name].append((time.perf_counter() - start) / unit_seconds)
    return times


def machine() -> str:
    """What it ran on."""
    name = platform.processor() or platform.machine()
    cpuinfo = Path("/proc/cpuinfo")
    if cpuinfo.is_file():
        models = [line for line in cpuinfo.read_text().splitlines() if "model name" in line]
        name = models[0].split(": ")[1] if models else name
    versions = []
    for package in ("torch", "openvino"):
        try:
            versions.append(f"{package} {metadata.version(package)}")
        except metadata.PackageNotFoundError:
            versions.append(f"no {package}")
    load = f", load {os.getloadavg()[0]:.1f} at the start" if hasattr(os, "getloadavg") else ""
    return (
        f"{name}, {os.cpu_count()} cores, {platform.system()}, Python {platform.python_version()}, "
        f"{', '.join(versions)}{load}"
    )


def markdown(rows: Sequence[Row], caption: str) -> str:
    """The table in Markdown."""
    lines = [" | ".join(HEADINGS), " | ".join("---" for _ in HEADINGS)]
    lines += [" | ".join(row.cells()) for row in rows]
    return "\n".join([caption, "", *(f"| {line} |" for line in lines)])


def write(text: str, path: Path = RESULTS, between: tuple[str, str] = (BEGIN, END)) -> None:
    """Put a table in its place in RESULTS.md, between two lines."""
    begin, end = between
    before, found, rest = path.read_text(encoding="utf-8").partition(begin)
    _, ends, after = rest.partition(end)
    if not (found and ends):
        raise ValueError(
            f"{path.name} has a place for each table; it has no lines {begin} and {end}; add them."
        )
    write_whole(path, f"{before}{begin}\n{text}\n{end}{after}".encode())
