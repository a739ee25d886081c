"""A thin series on the page: python benchmarks/thin.py SCAN [--write]

SCAN is the sample's head in 300 slices of 0.5 mm, which ``python -m tools.phantom thin --out runs/thin`` makes. On the
sample and on it, a box is drawn on the slice with most blood, and the lesion is followed by both methods. The first
time, which embeds what is needed, does not count. Millilitres are those of the left method. Processor time is told
beside the wall time: where other work runs, it is what holds.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from benchmarks.bench import Page, Sample  # noqa: E402
from benchmarks.table import machine, write  # noqa: E402
from ichseg.methods.catalogue import default_model  # noqa: E402
from ichseg.page.controller import Controller  # noqa: E402
from ichseg.scan.read import read_volume  # noqa: E402
from ichseg.scan.volume import CTVolume  # noqa: E402

PLACE = ("<!-- thin.py writes from here -->", "<!-- thin.py to here -->")


class Followed(NamedTuple):
    """One box, followed through a scan on the page."""

    slices: int
    slice_mm: float
    wall_seconds: float
    """Of the propagation by both methods, the reply included."""
    processor_seconds: float
    box_seconds: float
    """Of the box itself, on a slice that is embedded."""
    ml: float
    marked: int


def followed(volume: CTVolume, sample: Sample, runs: int) -> Followed:
    """The least of some runs, as no other program can make one quicker."""
    height_mm = sample.volume.geometry.slice_positions_mm[sample.k]
    k = int(abs(volume.geometry.slice_positions_mm - height_mm).argmin())
    with tempfile.TemporaryDirectory() as folder:
        controller = Controller(Path(folder), read=lambda *_, **__: volume)
        page = Page(controller, "a user")
        page.ask("sample")
        case = controller.store.get(page.name).case
        assert case is not None
        controller.embeddings.unplan(case.owner)
        found = []
        for _ in range(1 + runs):
            page.ask("clear")
            start = time.perf_counter()
            page.ask("boxes", slice=k, boxes=[sample.box.xyxy])
            box_seconds = time.perf_counter() - start
            begun = time.perf_counter(), time.process_time()
            reply = page.ask("propagate", lesion=1)
            found.append((time.perf_counter() - begun[0], time.process_time() - begun[1]))
        controller.close()
    wall, processor = (min(times) for times in zip(*found[1:], strict=True))
    ml = reply["totals"][default_model()]
    slices, (slice_mm, *_) = len(volume.hu_zyx), volume.spacing_mm
    return Followed(slices, slice_mm, wall, processor, box_seconds, ml, 1 + len(reply["slices"]))


def markdown(thick: Followed, thin: Followed) -> str:
    """The table in Markdown."""
    times = (
        thin.wall_seconds / thick.wall_seconds,
        thin.processor_seconds / thick.processor_seconds,
    )
    rows: list[tuple[str, str, str, str, str]] = [
        (
            "one box to the whole hematoma, both methods, wall time",
            f"{thick.wall_seconds:.2f} s",
            f"{thin.wall_seconds:.2f} s",
            f"{times[0]:.1f} x",
            "< 5 s, 3 x",
        ),
        (
            "the same, processor time",
            f"{thick.processor_seconds:.2f} s",
            f"{thin.processor_seconds:.2f} s",
            f"{times[1]:.1f} x",
            "3 x",
        ),
        (
            "a box on its own slice",
            f"{thick.box_seconds:.2f} s",
            f"{thin.box_seconds:.2f} s",
            "",
            "",
        ),
        (
            "volume",
            f"{thick.ml:.2f} mL",
            f"{thin.ml:.2f} mL",
            f"{100 * (thin.ml / thick.ml - 1):+.1f} %",
            "within 3 %",
        ),
        ("slices that are marked", str(thick.marked), str(thin.marked), "", ""),
    ]
    heads = [f"{one.slices} slices of {one.slice_mm:g} mm" for one in (thick, thin)]
    lines = [("what", *heads, "the second by the first", "aim"), ("---",) * 5, *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def main() -> None:
    """Measure, print, and write where asked."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("scan", type=Path, help="the sample's head as a thin series")
    parser.add_argument("--runs", type=int, default=3, help="of which the quickest counts")
    parser.add_argument("--write", action="store_true", help="put the table into RESULTS.md")
    asked = parser.parse_args()
    caption, sample = machine(), Sample()
    thick, thin = (
        followed(volume, sample, asked.runs) for volume in (sample.volume, read_volume(asked.scan))
    )
    text = f"On {caption}.\n\n{markdown(thick, thin)}"
    print(text)
    if asked.write:
        write(text, between=PLACE)


if __name__ == "__main__":
    main()
