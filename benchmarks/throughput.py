"""Many scans by cores: scans per minute, processor time and memory: python benchmarks/throughput.py [--scans 12]

Copies of the sample's head, each with a box of its own, go through the same run as ``ichseg segment`` of a manifest:
one process on all cores, then as many processes as cores, each on its part of them, then (``--ray``) Ray with as many
workers, which is started and stopped for the run. The plain way is the first. ``--turns N`` does all of it N times, by
turns, and tells the quickest of each. Where other work runs beside it, processor time per scan is what holds; the scans
per minute are those of the moment. *Cores busy* is processor time by wall time: where that is as many as there are
cores, no number of processes can be quicker.

``--split`` prints the processor time of one scan on one thread, and how much of it is not the network's: one process
spreads the network alone over its cores, so that n processes on n cores can at best be (1 + (n - 1) x that share) times
as fast.
"""

from __future__ import annotations

import argparse
import csv
import os
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from benchmarks.table import Row, machine, markdown  # noqa: E402
from ichseg.cohort.pool import cores  # noqa: E402
from ichseg.files.nifti_mask import read_mask  # noqa: E402
from ichseg.marks.box import box_from_mask  # noqa: E402
from ichseg.sample import sample_paths  # noqa: E402
from ichseg.scan.read import read_volume  # noqa: E402


class Run(NamedTuple):
    """What a run over some scans took."""

    scans: int
    wall_seconds: float
    processor_seconds: float
    peak_mb: float
    """Of the largest process."""

    @property
    def scans_a_minute(self) -> float:
        return 60 * self.scans / self.wall_seconds

    @property
    def cores_busy(self) -> float:
        """How many cores were at work on average."""
        return self.processor_seconds / self.wall_seconds


def study(folder: Path, scans: int) -> Path:
    """A manifest of so many scans: the sample, with a box that is wider by a pixel from one to the next."""
    scan, reference = sample_paths()
    volume = read_volume(scan)
    reference_zyx = read_mask(reference, volume) != 0
    k = int(reference_zyx.sum(axis=(1, 2)).argmax())
    box = box_from_mask(reference_zyx[k], margin_px=3)
    assert box is not None
    path = folder / "manifest.csv"
    with path.open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["scan", "boxes", "propagate"])
        for number in range(scans):
            wider = box.grow(number % 6, volume.shape_zyx[1:])
            writer.writerow([scan, f"{k}:{wider.text}", "yes"])
    return path


def timed(scans: int, options: Sequence[str]) -> Run:
    """A run of the command line in a process of its own, from its start to its end."""
    with tempfile.TemporaryDirectory() as folder:
        manifest = study(Path(folder), scans)
        command = [
            sys.executable,
            "-m",
            "ichseg",
            "segment",
            str(manifest),
            "--out",
            f"{folder}/out",
        ]
        started = time.perf_counter()
        process = subprocess.Popen(
            [*command, *options, "--json"], cwd=ROOT, stdout=subprocess.DEVNULL
        )
        _, status, used = os.wait4(process.pid, 0)
        if status:
            raise SystemExit(f"the run ended with {os.waitstatus_to_exitcode(status)}")
        wall = time.perf_counter() - started
    return Run(scans, wall, used.ru_utime + used.ru_stime, used.ru_maxrss / 1024)


def throughput_rows(
    scans: int, options: Sequence[str] = (), *, with_ray: bool = False, turns: int = 1
) -> list[Row]:
    """One process, processes on all cores, and Ray where it is asked for, over the same scans."""
    ways: dict[str, list[str]] = {"1 process on all cores": []}
    if cores() > 1:
        ways[f"{cores()} processes"] = ["--processes", str(cores())]
    if with_ray:
        ways[f"Ray, {cores()} workers"] = ["--ray-address", "local"]
    best: dict[str, Run] = {}
    for turn in range(turns):
        for who, where in ways.items():
            found = timed(scans, [*options, *where])
            best[who] = min(best.get(who, found), found, key=lambda run: run.wall_seconds)
            print(f"turn {turn + 1}, {who}: {_told(found)}", file=sys.stderr, flush=True)
    plain, *_ = best.values()
    return [
        Row(
            f"{scans} scans, {who}: scans per minute ({_told(found)})",
            found.scans_a_minute,
            "",
            plain=None if found is plain else plain.scans_a_minute,
            more_is_better=True,
        )
        for who, found in best.items()
    ]


def _told(run: Run) -> str:
    return (
        f"{run.wall_seconds:.0f} s, {run.processor_seconds / run.scans:.1f} s of processor time per scan, "
        f"{run.cores_busy:.2f} cores busy, {run.peak_mb:,.0f} MB the largest process"
    )


def split() -> list[str]:
    """What one scan takes on one thread, with and without the range, and what of that is not the network's."""
    os.environ["OMP_NUM_THREADS"] = "1"  # read when a network is loaded
    from ichseg import cohort
    from ichseg.methods import openvino_backend
    from ichseg.methods.catalogue import load_predictor

    network = [0.0]
    ask = openvino_backend._Part.__call__

    def timed_ask(part: Any, *inputs: Any) -> Any:
        started = time.process_time()
        answer = ask(part, *inputs)
        network[0] += time.process_time() - started
        return answer

    openvino_backend._Part.__call__ = timed_ask  # type: ignore[method-assign, assignment]
    load_predictor()
    lines = [f"start-up: {time.process_time():.1f} s of processor time"]
    for with_range in (False, True):
        with tempfile.TemporaryDirectory() as folder:
            (entry,) = cohort.read_manifest(study(Path(folder), 1))
            network[0], started = 0.0, time.process_time()
            cohort.Segment(entry, Path(folder) / "out", with_range=with_range)()
            whole = time.process_time() - started
        lines.append(
            f"a scan {'with' if with_range else 'without'} the range: {whole:.1f} s, "
            f"{1 - network[0] / whole:.0%} of it not the network's"
        )
    return [
        *lines,
        f"peak memory {resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024:,.0f} MB",
    ]


def main() -> None:
    """Measure, and print the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--scans", type=int, default=12)
    parser.add_argument("--range", action="store_true", help="with the range of volumes")
    parser.add_argument("--model", help="another than the default")
    parser.add_argument("--ray", action="store_true", help="on a Ray of this machine, too")
    parser.add_argument("--turns", type=int, default=1, help="how often each is done, by turns")
    parser.add_argument("--split", action="store_true", help="what of a scan is the network's")
    options = parser.parse_args()
    if options.split:
        print("\n".join([f"On {machine()}.", *split()]))
        return
    more = ["--range" if options.range else "--no-range"]
    more += ["--model", options.model] if options.model else []
    rows = throughput_rows(options.scans, more, with_ray=options.ray, turns=options.turns)
    print(markdown(rows, f"On {machine()}."))


if __name__ == "__main__":
    main()
